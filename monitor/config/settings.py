"""What the daemon runs with: the options of the main file, and what was found around it."""

from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from monitor.config.options import GeneralOptions, Sink
from monitor.config.web_file import WebConfig
from monitor.core.alert import Terms
from monitor.core.connection import LOOPBACK_HOSTS, Connection
from monitor.core.holds import Holds
from monitor.core.wording import Links


class Settings(GeneralOptions):
    """Everything that an operator may decide, with defaults filled in and paths made absolute."""

    connections: tuple[Connection, ...]
    """In the order of the files; names are unique."""
    sinks: tuple[Sink, ...]
    """Who is notified; names are unique."""
    files: tuple[Path, ...]
    """Every file that was read, the main one first: what to watch for a change."""
    patterns: tuple[str, ...]
    """The absolute patterns of `connections_from`: what to watch for new files."""
    protection: WebConfig
    """What the web configuration file says."""
    warnings: tuple[str, ...]
    """What is allowed, but may be meant otherwise: a sentence each, for a person."""

    @property
    def takes_checks(self) -> bool:
        """Whether the pages take the wish to check a connection now."""
        web = self.protection
        protected = bool(web.users) or bool(web.tls and web.tls.verifies_clients)
        # A listener on loopback that has another name is behind a proxy, which may let anyone in.
        elsewhere = {urlsplit(self.web.external_url).hostname, *self.web.hosts} - {None, *LOOPBACK_HOSTS}
        return (self.listen.is_loopback and not elsewhere) or protected or self.web.enable_checks

    @cached_property
    def terms(self) -> Terms:
        """What follows for alerts: how long things must hold, and what they link to."""
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
                    *self.alerts.labels,
                ),
            ),
        )
