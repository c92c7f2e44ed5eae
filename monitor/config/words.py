"""Parsers for the values of options: durations, addresses, names, days, sources of keys.

Each is a function from text to value. Invalid text raises ValueError with a message that says what is wrong
and how to fix it; pydantic adds the path.
"""

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from monitor.config.problem import quoted
from monitor.core.connection import (
    LOOPBACK_HOSTS,
    TOKEN_PATH,
    Band,
    OrgType,
    login_url_of,
    may_receive_assertions,
    org_type,
)

EMPTY = "is empty. Give it a value, or leave the line out."

SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}

LONGEST = timedelta(days=36_500)
"""A century: longer than any certificate, and safe for datetime arithmetic."""

DURATION = re.compile("".join(f"(?:([0-9]{{1,15}}){unit})?" for unit in SECONDS))

CONSUMER_KEY = re.compile(r"[A-Za-z0-9._-]+")
CONSUMER_KEY_LENGTH = 8
"""Least number of characters; Salesforce's have about 85 (observed)."""

USERNAME = re.compile(r"(?=.{3,255}$)[^@ ]+@[^@ ]+")
"""In the form of an e-mail address, but need not be one (setup guide, step 5). Salesforce's limit is 80
characters (observed)."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Connection names are used in labels, URLs and file names without escaping."""

LABEL = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]*")
"""A Prometheus label name; names with two leading underscores are reserved."""

RESERVED_LABELS = frozenset(
    {
        "connection", "host", "org_type", "state", "cause", "severity", "responsible", "slot", "app", "le",
        "quantile", "instance", "job", "alertname", "title", "username",
    }
)  # fmt: skip
"""Labels already used by our metrics or by Prometheus."""

APP_NAME_LENGTH = 80
"""Setup's limit for app names."""

LABEL_LENGTH = 200
"""Longest label value: it is sent with every scrape."""

CHOICES = ("my_domain", "login", "test")
"""Named audiences; others are URLs."""

HOST = re.compile(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9_-]*[a-z0-9])?)*")

SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9-]+)?")
"""Setup guide, step 7: `acme`, `acme--dev.sandbox`, `acme-dev-ed.develop`."""

MY_DOMAIN = re.compile(
    r"(?P<subdomain>[a-z0-9.-]+?)\.(my\.salesforce|my\.salesforce-setup|lightning\.force|vf\.force|file\.force)\.com"
)
"""Hosts that contain an org's subdomain: only the first accepts logins, the others serve its pages."""

INSTANCE = re.compile(r"[a-z]{2,4}\d+[a-z]?\.salesforce\.com")
"""An instance, such as `na139.salesforce.com`: orgs migrate between instances, and calls may be blocked."""


ALIKE = 0.65
"""How similar (of 1) two words must be for one to be taken for the other; with 0.6 `defaults` is `vault`."""


def closest(word: str, known: Iterable[str]) -> str | None:
    """The most similar known word, preferring anagrams; None if none is similar."""
    word, known = word[:100], list(known)
    turned = [each for each in known if sorted(each) == sorted(word)]  # `fiel` is `file`, rather than `field`
    matches = turned or difflib.get_close_matches(word, known, n=1, cutoff=ALIKE)
    return matches[0] if matches else None


def close(word: str, known: Iterable[str]) -> str:
    """`Did you mean …?` with the most similar known word; empty if none is similar."""
    match = closest(word, known)
    return f'Did you mean "{match}"?' if match else ""


def text(value: object) -> str:
    """Text that is not empty and has no control characters or surrounding spaces."""
    if value is None:
        raise ValueError(EMPTY)
    if not isinstance(value, str):
        raise ValueError(f"must be a string, but is {quoted(value)}.")  # noqa: TRY004 - pydantic takes ValueError
    if not value.strip():
        raise ValueError("is blank. Give it a value, or leave the line out.")
    if value != value.strip():
        raise ValueError(f"begins or ends with a space or line break: {quoted(value)}. Remove it.")
    if not value.isprintable():
        raise ValueError(f"contains a line break or control character: {quoted(value)}. Remove it.")
    return value


def flag(value: object) -> bool:
    """`true` or `false`."""
    written = text(value)
    if written.lower() not in {"true", "false"}:
        raise ValueError(f"{quoted(written)} is neither true nor false.")
    return written.lower() == "true"


def one_of(*choices: str) -> Callable[[object], str]:
    """A parser for one of these words."""

    def parse(value: object) -> str:
        written = text(value)
        if written not in choices:
            raise ValueError(
                f"{quoted(written)} is not one of {', '.join(choices)}. {close(written, choices)}".rstrip()
            )
        return written

    return parse


def matching(
    pattern: re.Pattern[str], problem: str, read: Callable[[object], str] = text
) -> Callable[[object], str]:
    """A parser for texts that match; the message for others continues with the problem."""

    def parse(value: object) -> str:
        written = read(value)
        if not pattern.fullmatch(written):
            raise ValueError(f"{quoted(written)} {problem}")
        return written

    return parse


def days(value: object) -> float:
    """A number of days, as in a refresh token policy."""
    written = text(value)
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,6})?", written) or not 0 < float(written) <= LONGEST.days:
        raise ValueError(
            f"{quoted(written)} is not a number of days from above 0 to {LONGEST.days:,}. Write e.g. 90."
        )
    return float(written)


def duration(value: object) -> timedelta:
    """`5m`, `90d`, `1h30m`: integers with units, largest unit first."""
    written = text(value)
    if not (found := DURATION.fullmatch(written)):
        raise ValueError(
            f"{quoted(written)} is not a duration. Write whole numbers with units (w, d, h, m or s), the"
            " largest first, e.g. 5m or 1h30m."
        )
    numbers = zip(found.groups("0"), SECONDS.values(), strict=True)
    seconds = sum(int(number) * unit for number, unit in numbers)
    if seconds > LONGEST.total_seconds():
        raise ValueError(f"{quoted(written)} is longer than a century.")
    return timedelta(seconds=seconds)


def written_duration(meant: timedelta) -> str:
    """A duration in the configuration's syntax."""
    left, parts = round(meant.total_seconds()), ""
    for unit in ("d", "h", "m", "s"):
        number, left = divmod(left, SECONDS[unit])
        parts += f"{number}{unit}" if number else ""
    return parts or "0s"


def day(value: object) -> date:
    """A calendar day, `2026-09-01`."""
    written = text(value)
    try:
        return datetime.strptime(written, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError as error:
        raise ValueError(f"{quoted(written)} is not a date. Write e.g. 2026-09-01.") from error


def utc_time(value: object) -> datetime:
    """A time in UTC: `2027-03-01` (midnight, the cautious reading) or `2027-03-01T12:00:00Z`."""
    written = text(value)
    try:
        meant = datetime.fromisoformat(written)
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", written):
            meant = meant.replace(tzinfo=UTC)
        if meant.tzinfo is not None:
            return meant.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{quoted(written)} is not a date or time. Write e.g. 2027-03-01 or 2027-03-01T12:00:00Z."
        ) from error
    raise ValueError(f"{quoted(written)} has no time zone. Write it with one, e.g. {written}Z.")


WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def week_time(value: object) -> tuple[int, time]:
    """`sat 22:00`; 0 is Monday."""
    written = text(value)
    found = re.fullmatch(r"([a-z]{3})[a-z]* ([0-9]{2}):([0-9]{2})", written.lower())
    if not found or found[1] not in WEEKDAYS or int(found[2]) > 23 or int(found[3]) > 59:
        raise ValueError(f"{quoted(written)} is not a weekday and time. Write e.g. sat 22:00.")
    return WEEKDAYS.index(found[1]), time(int(found[2]), int(found[3]))


def zone(value: object) -> str:
    """An IANA time zone."""
    written = text(value)
    try:
        ZoneInfo(written)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"{quoted(written)} is not a known time zone. Write e.g. Europe/Berlin, or"
            " install the package tzdata."
        ) from error
    return written


def band(value: object) -> Band:
    """`25%`, `90d`, or a list: `[5%, 7d, 14d]` is 5 %, but at least 7 and at most 14 days."""
    share, bounds = [], []
    for part in value if isinstance(value, list) else [value]:
        written = text(part)
        if re.fullmatch(r"[0-9.]+", written):
            raise ValueError(f"{quoted(written)} has neither % nor a unit. Write e.g. 25% or 90d.")
        if not written.endswith("%"):
            bounds.append(duration(written))
            continue
        if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?%", written) or float(written[:-1]) > 100:
            raise ValueError(f"{quoted(written)} is not a percentage. Write e.g. 25%.")
        share.append(float(written[:-1]) / 100)
    if len(share) > 1 or len(bounds) > len(share) + 1 or not (share or bounds) or bounds != sorted(bounds):
        raise ValueError(
            "must be a percentage, a duration, or a percentage with bounds: 25%, 90d or [5%, 7d, 14d]."
        )
    meant = Band(share[0] if share else 0.0, *bounds)
    if not (meant.share or meant.at_least):
        raise ValueError("is zero, so it would never warn. Write e.g. 25% or 90d.")
    return meant


@dataclass(frozen=True, slots=True)
class Address:
    """The listening address."""

    host: str
    port: int
    """0: chosen by the system."""

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOOPBACK_HOSTS

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address(value: object) -> Address:
    """`127.0.0.1:9877`, `[::1]:9877`, `0.0.0.0:9877`."""
    written = text(value)
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]*):([0-9]{1,5})", written)
    if match is None or int(match[2]) > 65_535:
        raise ValueError(
            f"{quoted(written)} is not an address with a port from 0 to 65535. Write e.g. 127.0.0.1:9877."
        )
    host, port = match[1].strip("[]"), int(match[2])
    if not host:
        raise ValueError(
            f"{quoted(written)} has no host. Write 127.0.0.1:{port} for this machine only, or 0.0.0.0:{port}"
            " for the whole network."
        )
    return Address(host, port)


connection_name = matching(
    NAME,
    "is not a valid name. Use at most 100 of A-Z a-z 0-9 . _ -, beginning with a letter or digit.",
)
username = matching(
    USERNAME,
    "is not a Salesforce username: it has the form of an e-mail address, e.g. integration@acme.com.",
)


def consumer_key(value: object) -> str:
    """A consumer key (setup guide, step 3). Rejects only impossible ones."""
    written = text(value)
    if "…" in written or "..." in written or len(written) < CONSUMER_KEY_LENGTH:
        raise ValueError(f"{quoted(written)} is cut short. Copy the whole Consumer Key.")
    if not CONSUMER_KEY.fullmatch(written):
        raise ValueError(
            "is not a Consumer Key, which is one long word of letters, digits, . and _. Copy it again."
        )
    return written


def app_name(value: object) -> str:
    """An app's name, as in External Client App Manager."""
    written = text(value)
    if len(written) > APP_NAME_LENGTH:
        raise ValueError(f"is longer than {APP_NAME_LENGTH} characters, more than an app name can have.")
    return written


host_name = matching(
    HOST,
    "is not a host name. Write just the name, without https://, port, path or *.",
    lambda value: text(value).lower(),
)


def _is_host(written: str) -> bool:
    """Whether a text is a host name instead of a URL."""
    return "." in written and HOST.fullmatch(written.lower()) is not None


def _split(written: str, example: str = "https://acme.my.salesforce.com") -> SplitResult:
    """The parts of a URL with valid host and port."""
    if re.match(r"[^/]*//[^/]*@", written):
        raise ValueError("contains a user name or password. Remove everything before the @.")
    try:
        parts = urlsplit(written)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        what = "a URL with a host" if "[" in written else "a URL"  # only some Pythons refuse [::1].example
        raise ValueError(f"{quoted(written)} is not {what}. Write e.g. {example}.") from error
    no_host = ":" in host and not re.fullmatch(r"\[::1\](:\d*)?", parts.netloc)  # http://[::1].evil.example
    if not host or no_host or not (HOST.fullmatch(host) or host in LOOPBACK_HOSTS):
        if _is_host(written):
            example = f"https://{written.lower()}"
        raise ValueError(f"{quoted(written)} is not a URL with a host. Write e.g. {example}.")
    return parts


def _is_secure(parts: SplitResult) -> bool:
    """Whether no one on the network can read it: https, or http on loopback."""
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS)


def web_url(value: object) -> str:
    """An http or https URL, without a final slash."""
    written = text(value)
    example = "https://monitor.example.com/bearerwatch"
    parts = _split(written, example)
    if parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
        raise ValueError(f"{quoted(written)} is not a plain URL. Write e.g. {example}.")
    return written.rstrip("/")


def vault_address(value: object) -> str:
    """A Vault's address: https, or http on loopback for a Vault agent."""
    written = web_url(value)
    if not _is_secure(parts := _split(written)):
        raise ValueError(
            f"{quoted(parts.hostname or '')} must be reached over https, e.g. https://vault.example.com:8200."
        )
    return written


def vault_path(value: object) -> str:
    """A mount or path within Vault, as its command line accepts it."""
    written = place(value).strip("/")
    if not re.fullmatch(r"[\w.@ -]+(/[\w.@ -]+)*", written) or ".." in written.split("/"):
        raise ValueError(f"{quoted(written)} is not a path in Vault. Write e.g. salesforce/acme.")
    return written


def sink_url(value: object) -> str:
    """A sink's address. Messages never repeat it: it may contain a secret by mistake."""
    try:
        return web_url(value)
    except ValueError:
        raise ValueError(
            "is not a plain URL, e.g. http://127.0.0.1:9093. A URL with a password or parameters contains a"
            " secret: store it in a file, and write url_from: {file: PATH} instead."
        ) from None


DATABASE_PARAMETERS = frozenset(
    {
        "application_name", "channel_binding", "connect_timeout", "gssencmode", "host", "hostaddr",
        "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "krbsrvname",
        "load_balance_hosts", "options", "passfile", "port", "require_auth", "requirepeer", "service",
        "ssl_min_protocol_version", "sslcert", "sslcrl", "sslkey", "sslmode", "sslnegotiation",
        "sslrootcert", "target_session_attrs", "tcp_user_timeout", "user",
    }
)  # fmt: skip
"""libpq parameters ("Parameter Key Words") without secrets, as the URL is shown."""


def database_server(url: str) -> str:
    """A PostgreSQL URL without secrets: anyone who can read the file sees it."""
    try:
        parts = urlsplit(url)
        names = parse_qs(parts.query, keep_blank_values=True).keys()
    except ValueError:
        raise ValueError("is not a URL. Write e.g. postgresql://USER@HOST/DATABASE.") from None
    if parts.password is not None or "password" in names:
        raise ValueError("contains a password. Remove it, and set PGPASSWORD or PGPASSFILE.")
    if unknown := names - DATABASE_PARAMETERS:
        raise ValueError(
            f"has the parameter {', '.join(map(quoted, sorted(unknown)))}, which may contain a secret or is"
            f" unknown to libpq. Supported: {', '.join(sorted(DATABASE_PARAMETERS))}."
        )
    return url


def login_url(value: object, allowed_hosts: frozenset[str]) -> str:
    """A login URL: https on a Salesforce host or one of `allowed_hosts`, or loopback; no final slash."""
    written = text(value)
    parts = _split(written)
    host = parts.hostname or ""
    path = parts.path.rstrip("/")
    if path.endswith(TOKEN_PATH):
        raise ValueError(f"ends in {TOKEN_PATH}. Remove that: it is added automatically.")
    if parts.query or parts.fragment or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", path):
        raise ValueError(f"{quoted(written)} has more than a host and a plain path. Write only the host.")
    if not _is_secure(parts):
        raise ValueError(f"{quoted(written)} is not HTTPS. Plain http:// is only allowed for loopback.")
    url = f"{parts.scheme}://{parts.netloc.lower()}{path}"
    if may_receive_assertions(url, allowed_hosts):
        return url
    if mine := MY_DOMAIN.fullmatch(host):
        raise ValueError(
            f"{host} shows the org's pages, but does not accept logins. Write"
            f" {login_url_of(mine['subdomain'])}."
        )
    if INSTANCE.fullmatch(host):
        raise ValueError(
            f"{host} is an instance, not the org's own host. Setup > My Domain shows the right one, e.g."
            " https://acme.my.salesforce.com."
        )
    raise ValueError(
        f"{host} is not a documented Salesforce host, and anyone who receives a signed assertion can log in."
        f" If you trust it, add allowed_hosts: [{host}]."
    )


def subdomain(value: object) -> str:
    """The part of the org's host before .my.salesforce.com (setup guide, step 7), in lower case."""
    written = text(value).lower()
    host = written.rpartition("://")[2].partition("/")[0]
    if mine := MY_DOMAIN.fullmatch(host):
        raise ValueError(f"{quoted(written)} has more than the subdomain. Write {mine['subdomain']}.")
    if INSTANCE.fullmatch(host):
        raise ValueError(
            f"{host} is an instance, not the org's own host. Setup > My Domain shows the subdomain."
        )
    if "/" in written or written.endswith((".com", ".mil", ".cn")):
        raise ValueError(
            f"{quoted(written)} has more than the subdomain, e.g. acme of https://acme.my.salesforce.com."
            " For other kinds of host, use login_url instead."
        )
    if written in {"login", "test", "www"}:
        raise ValueError(
            f'"{written}" is a generic host, not the org\'s own. Setup > My Domain shows the subdomain.'
        )
    if not SUBDOMAIN.fullmatch(written):
        raise ValueError(f"{quoted(written)} is not a subdomain. Write e.g. acme or acme--dev.sandbox.")
    if org_type(f"{written}.my.salesforce.com") is OrgType.UNKNOWN:
        raise ValueError(
            f'{quoted(written)} ends in ".{written.partition(".")[2]}", which is not a documented '
            "type of org. Write e.g. acme--dev.sandbox or acme-dev-ed.develop."
        )
    return written


def audience(value: object) -> str:
    """`my_domain`, `login`, `test`, or a URL, which is sent unchanged."""
    written = text(value)
    if written in CHOICES:
        return written
    if "://" not in written:
        raise ValueError(
            f"{quoted(written)} is not my_domain, login, test or a URL. "
            f"{f'Write https://{written}.' if _is_host(written) else close(written, CHOICES)}".rstrip()
        )
    parts = _split(written)
    if not _is_secure(parts):
        raise ValueError(f"{quoted(written)} is not HTTPS. Write e.g. https://login.salesforce.com.")
    if " " in written:
        raise ValueError(f"{quoted(written)} contains a space.")
    return written


_KEY = re.compile(r"-----|\n|LS0tLS1|(^|/)MII[A-Za-z0-9+/]{60}")
"""A PEM, its base64, or the base64 of a DER. Relative to a folder, such a text is a path's last part."""


def place(value: object) -> str:
    """A path or name of a key's source. Rejects the key itself."""
    if isinstance(value, str) and (_KEY.search(value) or len(value) > 1_000):
        raise ValueError("looks like the key itself. Store it in a file, and write the file's path.")
    return text(value)


def path(value: object) -> str:
    """The path of a file."""
    written = place(value)
    if written.startswith("~"):
        raise ValueError(f"{quoted(written)} begins with ~, which is not expanded. Write the full path.")
    return written


variable = matching(
    re.compile(r"[A-Za-z_][A-Za-z0-9_]*"),
    "is not the name of an environment variable. Write e.g. ACME_KEY.",
    lambda value: place(value).removeprefix("$"),
)
credential = matching(
    re.compile(r"(?!\.\.?$)[^/]+"),
    "is not the name of a credential. Write just the name, e.g. acme-key.",
    place,
)


def entries(value: object, example: str) -> dict[str, Any]:
    """The entries of a mapping; none of the default, ()."""
    if value == ():
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"must be a mapping, e.g. {example}.")  # noqa: TRY004 - pydantic takes ValueError
    return value


def labels(value: object) -> tuple[tuple[str, str], ...]:
    """Label names and values, sorted by name."""
    written_labels = entries(value, "{customer: acme}")
    wrong = []
    for name, written in written_labels.items():
        if not LABEL.fullmatch(name):
            wrong.append(
                f"{quoted(name)} is not a label name: use A-Z a-z 0-9 _, not beginning with a digit or __."
            )
        elif name in RESERVED_LABELS:
            wrong.append(f'"{name}" is already used in the metrics. Choose another name.')
        try:
            if len(text(written)) > LABEL_LENGTH:
                wrong.append(f'"{name}" is longer than {LABEL_LENGTH} characters.')
        except ValueError as error:
            wrong.append(f'"{name}" {error}')
    if wrong:
        raise ValueError(" ".join(wrong))
    return tuple(sorted((name, str(written)) for name, written in written_labels.items()))


OBJECT = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}")
"""An object's API name."""

ACCESS = ("read", "write")


def objects(value: object) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Objects by API name, and the access that is needed."""
    access = entries(value, "{Account: [read, write]}")
    wrong = []
    for name, needs in access.items():
        if not OBJECT.fullmatch(str(name)):
            wrong.append(f"{quoted(name)} is not the API name of an object, e.g. Account or Invoice__c.")
        if not isinstance(needs, list) or not needs or not all(need in ACCESS for need in needs):
            wrong.append(f"{quoted(name)} must be a list of {' and '.join(ACCESS)}, e.g. [read].")
    if wrong:
        raise ValueError(" ".join(wrong))
    return tuple((name, tuple(needs)) for name, needs in access.items())


def label_name(value: object) -> str:
    """The name of a label of connections."""
    written = text(value)
    if not LABEL.fullmatch(written) or written in RESERVED_LABELS:
        raise ValueError(f"{quoted(written)} is not a valid label name.")
    return written
