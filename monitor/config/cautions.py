"""Warnings: settings that are valid but probably not intended.

One sentence for all connections with the same warning: nobody reads a thousand of them.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from monitor.config.options import GeneralOptions
from monitor.config.web_file import WebConfig, doubts
from monitor.core.connection import (
    GENERIC_LOGIN,
    GENERIC_TEST,
    Connection,
    OrgType,
    Source,
    is_generic,
    is_loopback,
)

NAMED = 3
"""Connections named in a warning; the others are counted."""

CONSUMER_KEY_PREFIX = "3MVG"
"""Prefix of Salesforce's consumer keys (observed)."""

EXPECTED_AUDIENCE = {
    OrgType.PRODUCTION: GENERIC_LOGIN,
    OrgType.DEVELOPER: GENERIC_LOGIN,
    OrgType.SANDBOX: GENERIC_TEST,
}
"""The generic audience for each type of org, if sources agree."""


def cautions(
    general: GeneralOptions,
    protection: WebConfig,
    connections: tuple[Connection, ...],
    environ: Mapping[str, str],
    *,
    fruitless: Iterable[str],
) -> tuple[str, ...]:
    """All warnings, a sentence each. `fruitless`: patterns that match no file."""
    about: defaultdict[str, list[str]] = defaultdict(list)
    for connection in connections:
        for doubt in _doubts(connection, environ):
            about[doubt].append(connection.name)
    return (
        *(f"connections_from: {pattern} matches no file." for pattern in fruitless),
        *_general(general, protection, connections),
        *(f"{named(names)}: {doubt}" for doubt, names in about.items()),
        *_twice(connections),
    )


def _general(
    general: GeneralOptions, protection: WebConfig, connections: tuple[Connection, ...]
) -> Iterator[str]:
    if not connections:
        yield "No connections are configured."
    if general.web.enable_reload and not general.listen.is_loopback:
        where = f"web.enable_reload is on and listen is {general.listen}"
        yield f"{where}: anyone who can reach it can trigger a reload."
    for sink in general.notify.sinks:
        address = urlsplit(sink.url or "")
        if (sink.token or sink.secret) and address.scheme == "http" and not is_loopback(sink.url or ""):
            yield (
                f"notify.sinks {sink.name}: {address.hostname} is reached over plain http. Anyone on the"
                " network path can read and change its messages and token. Use https://."
            )
    yield from doubts(general.listen, protection)


def _doubts(connection: Connection, environ: Mapping[str, str]) -> Iterator[str]:
    """Warnings about one connection, worded so that equal ones can be combined."""
    if is_generic(connection.login_url):
        yield (
            f"login_url is the generic {connection.host}, which does not know External Client Apps"
            " (app_not_found). Use the org's own subdomain: it works for every app."
        )
    elif is_generic(connection.audience):
        expected = EXPECTED_AUDIENCE.get(connection.org_type)
        if expected and connection.audience != expected:
            yield (
                f"the audience is {connection.audience}, but the host looks like a {connection.org_type} org,"
                f" whose generic audience is {expected}. A name with -- is usually a sandbox's, though old"
                " production names may contain it. audience: my_domain works for both."
            )
        elif not is_loopback(connection.login_url):
            yield (
                f"the audience is the generic {connection.audience}, which External Client Apps refuse"
                " (app_not_found). Prefer audience: my_domain if the org accepts it."
            )
    if connection.org_type is OrgType.SANDBOX and "--" not in connection.host:
        yield "a sandbox's subdomain contains the sandbox's name after --, as in acme--dev.sandbox."
    if not is_loopback(connection.login_url) and not connection.consumer_key.startswith(CONSUMER_KEY_PREFIX):
        yield f"the consumer key does not begin with {CONSUMER_KEY_PREFIX}, as Salesforce's do."
    if connection.approval and connection.approval.policy == "inactivity":
        yield (
            "the refresh token policy counts days without use, and a check may count as use: the monitor may"
            " keep alive an approval that would otherwise lapse."
        )
    if connection.current.certificate is None and connection.certificate_not_after is None:
        yield (
            "neither certificate nor certificate_not_after is set: the certificate's expiry is not monitored."
        )
    sources = (source for pair in connection.pairs for source in pair.sources)
    yield from dict.fromkeys(doubt for source in sources if (doubt := absence(source, environ)))


def absence(source: Source, environ: Mapping[str, str]) -> str | None:
    """Why a key cannot be read in this environment; None if it may be there."""
    if source.kind == "env" and not environ.get(source.place):
        return f"the environment variable {source.place} is not set here."
    if source.kind == "credential" and not environ.get("CREDENTIALS_DIRECTORY"):
        return "there are no systemd credentials here (CREDENTIALS_DIRECTORY is not set)."
    return None


def _twice(connections: Iterable[Connection]) -> Iterator[str]:
    """Connections that are identical to Salesforce, and so share one login rate."""
    same: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)
    for connection in connections:
        same[connection.login_url, connection.consumer_key, connection.username.lower()].append(
            connection.name
        )
    for names in same.values():
        if len(names) > 1:
            yield f"{named(names)}: these monitor the same org, app and user {len(names)} times."


def named(names: Sequence[str]) -> str:
    """The first of these names, and how many more there are."""
    if len(names) <= NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:NAMED])} and {len(names) - NAMED:,} more"
