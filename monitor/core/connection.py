"""A connection (one app, user and org), and what its host name implies."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Literal
from urllib.parse import urlsplit

from monitor.core.maintenance import Maintenance

GENERIC_LOGIN = "https://login.salesforce.com"
GENERIC_TEST = "https://test.salesforce.com"
TOKEN_PATH = "/services/oauth2/token"  # noqa: S105 - the token endpoint's path, not a secret

ALLOWED_SUFFIXES = (
    ".my.salesforce.com",
    ".my.salesforce.mil",
    ".my.sfcrmproducts.cn",
    ".my-salesforce.com",
    ".my.site.com",
)
"""Hosts that may receive a signed assertion: My Domain and site hosts documented by Salesforce."""

ALLOWED_HOSTS = frozenset(
    {"login.salesforce.com", "test.salesforce.com", "login.sfcrmproducts.cn", "test.sfcrmproducts.cn"}
)

SETUP_SUFFIXES = (".my.salesforce.com", ".my.salesforce.mil")
"""Hosts that also serve Setup: My Domain, not sites."""

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class OrgType(StrEnum):
    """The org's type according to its host name. The identity URL of a grant is more reliable."""

    PRODUCTION = "production"
    SANDBOX = "sandbox"
    DEVELOPER = "developer"
    SCRATCH = "scratch"
    TRAILHEAD = "trailhead"
    DEMO = "demo"
    FREE = "free"
    PATCH = "patch"
    UNKNOWN = "unknown"


_PARTITIONS = {
    "sandbox": OrgType.SANDBOX,
    "develop": OrgType.DEVELOPER,
    "scratch": OrgType.SCRATCH,
    "trailblaze": OrgType.TRAILHEAD,
    "demo": OrgType.DEMO,
    "free": OrgType.FREE,
    "patch": OrgType.PATCH,
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a key or certificate comes from; `place` is a path or a name, depending on `kind`."""

    kind: Literal["file", "env", "credential", "vault"]
    place: str
    field: str = ""

    def written(self) -> dict[str, str]:
        """As in the configuration."""
        return {self.kind: self.place, **({"field": self.field} if self.field else {})}


@dataclass(frozen=True, slots=True)
class Pair:
    """A private key and, optionally, its certificate."""

    private_key: Source
    certificate: Source | None = None

    @property
    def sources(self) -> tuple[Source, ...]:
        """Those of the key and, if any, the certificate."""
        return (self.private_key, self.certificate) if self.certificate else (self.private_key,)


@dataclass(frozen=True, slots=True)
class ApprovalPolicy:
    """The app's Refresh Token Policy, as declared in the configuration (setup guide, step 4)."""

    policy: Literal["until_revoked", "lifetime", "inactivity", "immediately"]
    days: float | None = None
    granted: date | None = None
    """When the user was approved, if known; otherwise the first observed grant counts."""


@dataclass(frozen=True, slots=True)
class Band:
    """How long before a certificate expires a finding begins: a share of its lifetime, within bounds."""

    share: float = 0.0
    at_least: timedelta = timedelta(0)
    at_most: timedelta = timedelta.max

    def of(self, lifetime: timedelta) -> timedelta:
        """The lead time for a certificate with this lifetime."""
        return max(min(lifetime * self.share, self.at_most), self.at_least)


@dataclass(frozen=True, slots=True)
class ExpiryBands:
    """When an expiring certificate becomes a finding."""

    warning: Band = Band(0.25, at_most=timedelta(days=60))
    """Without the cap, the guide's ten-year certificate would warn for two and a half years."""
    critical: Band = Band(0.05, at_least=timedelta(days=7), at_most=timedelta(days=14))
    """A rotation by ticket takes a week; two weeks of critical alerts are enough."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One app (consumer key), user and org, with a name given by the operator."""

    name: str
    login_url: str
    """Scheme, host and, for the simulator, a path, without a final slash."""
    audience: str
    consumer_key: str
    username: str
    current: Pair
    app: str = ""
    username_in_alerts: bool = False
    next: Pair | None = None
    certificate_not_after: datetime | None = None
    interval: timedelta = timedelta(minutes=5)
    settle: timedelta = timedelta(minutes=10)
    expiry: ExpiryBands = ExpiryBands()
    approval: ApprovalPolicy | None = None
    after_login: bool = True
    audit: bool = True
    """Whether a daily audit compares the org with the setup guide."""
    observer: "Connection | None" = None
    """A connection to the same org with more read permissions, for audits."""
    objects: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Objects that the integration needs, and whether it reads or writes them (`read`, `write`)."""
    paused: bool = False
    maintenance: tuple[Maintenance, ...] = ()
    """When notifications about this connection are held back; checks continue."""
    labels: tuple[tuple[str, str], ...] = ()
    host: str = field(init=False, repr=False)
    """The host name that receives the assertion."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "host", host_of(self.login_url))

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The current pair and, if any, the next."""
        return (self.current, self.next) if self.next else (self.current,)

    @property
    def token_endpoint(self) -> str:
        """The URL that receives the assertion."""
        return self.login_url + TOKEN_PATH

    def has_labels(self, wanted: Iterable[str]) -> bool:
        """Whether it has all of these labels: `key=value`, or `key` with any value."""
        held = {f"{key}={value}" for key, value in self.labels} | {key for key, _ in self.labels}
        return held.issuperset(wanted)

    @property
    def setup_url(self) -> str:
        """The base URL of the org's Setup; empty if the host is not its My Domain."""
        return f"https://{self.host}" if self.host.endswith(SETUP_SUFFIXES) else ""

    @property
    def org_type(self) -> OrgType:
        """The org's type according to the host name."""
        return org_type(self.host)

    @property
    def sandbox(self) -> tuple[str, str]:
        """The production org's subdomain and the sandbox's name; the latter is empty for other orgs."""
        first = self.host.removesuffix(SETUP_SUFFIXES[0]).removesuffix(".sandbox")
        domain, _, sandbox = first.partition("--") if self.org_type is OrgType.SANDBOX else (first, "", "")
        return domain, sandbox


def host_of(url: str) -> str:
    """The host of a URL, in lower case."""
    return urlsplit(url).hostname or ""


def org_type(host: str) -> OrgType:
    """The org's type according to a host name (setup guide, step 7, and Salesforce's partitioned domains).

    1. A generic or foreign host: unknown.
    2. A partition label (`acme--dev.sandbox.my.salesforce.com`) decides.
    3. Names of Developer Edition orgs end in `-dev-ed`.
    4. `--` in the name means a legacy sandbox; *observed*: old production names may contain it too.
    """
    if not host.endswith(ALLOWED_SUFFIXES):
        return OrgType.UNKNOWN
    labels = host.rpartition(".my")[0].split(".")  # each suffix begins so
    if len(labels) > 1:
        return _PARTITIONS.get(labels[-1], OrgType.UNKNOWN)
    if labels[0].endswith("-dev-ed"):
        return OrgType.DEVELOPER
    return OrgType.SANDBOX if "--" in labels[0] else OrgType.PRODUCTION


def login_url_of(subdomain: str) -> str:
    """The My Domain address of a subdomain as in step 7 of the setup guide (`acme`, `acme--dev.sandbox`)."""
    return f"https://{subdomain}.my.salesforce.com"


def audience_of(choice: str, login_url: str) -> str:
    """The `aud` for a configured choice: `my_domain`, `login`, `test`, or a URL."""
    return {"my_domain": login_url, "login": GENERIC_LOGIN, "test": GENERIC_TEST}.get(choice, choice)


def is_generic(url: str) -> bool:
    """Whether a URL is one of Salesforce's generic hosts, which External Client Apps refuse."""
    return host_of(url) in ALLOWED_HOSTS


_HOST = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?")
"""A DNS name of at most 253 characters; also allows `_`, as container networks do."""


def origin_of(url: str) -> str | None:
    """Scheme, host and port of an HTTP URL; None for anything else, and if parsers could disagree on it."""
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not (_HOST.fullmatch(host) or host in LOOPBACK_HOSTS):
        return None
    address = (f"[{host}]" if ":" in host else host) + (f":{port}" if port is not None else "")
    return f"{parts.scheme}://{address}" if parts.netloc.lower() == address else None


def is_loopback(url: str) -> bool:
    """Whether a URL points to this machine."""
    return host_of(url) in LOOPBACK_HOSTS


def may_receive_assertions(login_url: str, allowed_hosts: frozenset[str] = frozenset()) -> bool:
    """Whether this address may receive a signed assertion: HTTPS to a Salesforce host, or loopback.

    Plain HTTP is allowed only on loopback. `allowed_hosts`: additional hosts that the operator trusts.
    """
    origin = origin_of(login_url) or ""
    host = host_of(origin)
    known = host in ALLOWED_HOSTS or host in allowed_hosts or host.endswith(ALLOWED_SUFFIXES)
    return host in LOOPBACK_HOSTS or (known and origin.startswith("https://"))
