"""The daemon's settings: the options of the main file, plus derived values."""

from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from monitor.config.options import GeneralOptions
from monitor.config.web_file import WebConfig
from monitor.core.alerts import Terms
from monitor.core.connection import LOOPBACK_HOSTS, Connection
from monitor.core.holds import Holds
from monitor.core.wording import Links


class Settings(GeneralOptions):
    """The complete configuration, with defaults filled in and paths made absolute."""

    connections: tuple[Connection, ...]
    """In the order of the files, with unique names."""
    files: tuple[Path, ...]
    """All files read, the main one first; watched for changes."""
    patterns: tuple[str, ...]
    """`connections_from` as absolute patterns; watched for new files."""
    protection: WebConfig
    """The web configuration file."""
    warnings: tuple[str, ...]
    """Warnings about settings that are probably not intended, a sentence each."""

    @property
    def takes_checks(self) -> bool:
        """Whether the pages accept requests to check a connection now."""
        # A listener on loopback with another name is behind a proxy, which may let anyone in.
        elsewhere = {urlsplit(self.web.external_url).hostname, *self.web.hosts} - {None, *LOOPBACK_HOSTS}
        return (
            (self.listen.is_loopback and not elsewhere)
            or self.protection.requires_login
            or self.web.enable_checks
        )

    @cached_property
    def terms(self) -> Terms:
        """The settings for alerts: hold times and links."""
        return Terms(
            Holds.of(
                self.connections,
                interval=self.interval,
                settle=self.settle,
                transient_for=self.alerts.transient_for,
            ),
            Links(
                runbooks=self.alerts.runbook_url,
                dashboard=self.alerts.dashboard_url,
                pages=self.web.external_url,
                labels=(
                    *(["app"] if any(connection.app for connection in self.connections) else ()),
                    *(["username"] if self.alerts.usernames else ()),
                    *dict.fromkeys(self.alerts.labels),
                ),
            ),
        )
