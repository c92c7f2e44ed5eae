"""A connection (one app, user and org), and what follows from its host name."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Literal
from urllib.parse import urlsplit

from monitor.core.maintenance import Maintenance

GENERIC_LOGIN = "https://login.salesforce.com"
GENERIC_TEST = "https://test.salesforce.com"
TOKEN_PATH = "/services/oauth2/token"  # noqa: S105 - the path of the token endpoint, no secret

ALLOWED_SUFFIXES = (
    ".my.salesforce.com",
    ".my.salesforce.mil",
    ".my.sfcrmproducts.cn",
    ".my-salesforce.com",
    ".my.site.com",
)
"""Hosts to which a signed assertion may go: the My Domain and site hosts that Salesforce documents."""

ALLOWED_HOSTS = frozenset(
    {"login.salesforce.com", "test.salesforce.com", "login.sfcrmproducts.cn", "test.sfcrmproducts.cn"}
)

SETUP_SUFFIXES = (".my.salesforce.com", ".my.salesforce.mil")
"""Hosts at which Setup is opened as well: My Domain, not those of sites."""

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class OrgType(StrEnum):
    """What the host name says the org is. The certain test is the identity URL of a grant."""

    PRODUCTION = "production"
    SANDBOX = "sandbox"
    DEVELOPER = "developer"
    SCRATCH = "scratch"
    TRAILHEAD = "trailhead"
    DEMO = "demo"
    FREE = "free"
    PATCH = "patch"
    UNKNOWN = "unknown"
    """A generic or a foreign host says nothing."""


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
    """Where a key or certificate comes from; `place` is a path or a name, as `kind` says."""

    kind: Literal["file", "env", "credential", "vault"]
    place: str
    field: str = ""
    """Of a secret in Vault, which has several."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A private key and, optionally, its certificate."""

    private_key: Source
    certificate: Source | None = None


@dataclass(frozen=True, slots=True)
class ApprovalPolicy:
    """What the owner knows of the app's Refresh Token Policy (setup guide, step 4)."""

    policy: Literal["until_revoked", "lifetime", "inactivity", "immediately"]
    days: float | None = None
    granted: date | None = None
    """When the approval was given, where the owner knows it; else the first grant seen stands for it."""


@dataclass(frozen=True, slots=True)
class Band:
    """How long before a certificate's end a finding begins: a share of its lifetime, within bounds."""

    share: float = 0.0
    at_least: timedelta = timedelta(0)
    at_most: timedelta = timedelta.max

    def of(self, lifetime: timedelta) -> timedelta:
        """The time before the end of a certificate that is valid for this long."""
        return max(min(lifetime * self.share, self.at_most), self.at_least)


@dataclass(frozen=True, slots=True)
class ExpiryBands:
    """When a certificate's end becomes a finding."""

    warning: Band = Band(0.25, at_most=timedelta(days=60))
    """Without the cap, a certificate of ten years, which the guide makes, would warn for two and a half."""
    critical: Band = Band(0.05, at_least=timedelta(days=7), at_most=timedelta(days=14))
    """A rotation by ticket takes a week; two weeks of critical alerts are enough for any certificate."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One app (consumer key), user and org, with a name of the operator's."""

    name: str
    login_url: str
    """Scheme, host and, for the simulator, a path; no slash at the end."""
    audience: str
    consumer_key: str
    username: str
    current: Pair
    app: str = ""
    """The app's name in the org, for those who must find it there; empty where the operator gives none."""
    username_in_alerts: bool = False
    """Whether metrics and alerts carry the username."""
    next: Pair | None = None
    certificate_not_after: datetime | None = None
    """The certificate's end as the operator declares it, where no certificate is configured."""
    interval: timedelta = timedelta(minutes=5)
    settle: timedelta = timedelta(minutes=10)
    expiry: ExpiryBands = ExpiryBands()
    approval: ApprovalPolicy | None = None
    after_login: bool = True
    audit: bool = True
    """Whether the org is asked each day about the steps of the setup guide."""
    observer: "Connection | None" = None
    """The connection to the same org whose token reads what this one's may not; None: its own reads all."""
    paused: bool = False
    maintenance: tuple[Maintenance, ...] = ()
    """When nobody is told of this connection; it is checked all the same."""
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def host(self) -> str:
        """The host name that the assertion is posted to."""
        return urlsplit(self.login_url).hostname or ""

    @property
    def token_endpoint(self) -> str:
        """Where the assertion is posted to."""
        return self.login_url + TOKEN_PATH

    def has_labels(self, wanted: Iterable[str]) -> bool:
        """Whether it has all of these labels: each `key=value`, or a `key` that must be there."""
        held = {f"{key}={value}" for key, value in self.labels} | {key for key, _ in self.labels}
        return held.issuperset(wanted)

    @property
    def setup_url(self) -> str:
        """Where the org's Setup is opened; empty where the host is not its My Domain."""
        return f"https://{self.host}" if self.host.endswith(SETUP_SUFFIXES) else ""

    @property
    def org_type(self) -> OrgType:
        """What the host name says the org is."""
        return org_type(self.host)


def org_type(host: str) -> OrgType:
    """What a host name says the org is (setup guide, step 7, and Salesforce's partitioned domains).

    1. A generic or foreign host says nothing.
    2. A partition label (`acme--dev.sandbox.my.salesforce.com`) decides.
    3. `-dev-ed` ends the names that Salesforce made for Developer Edition orgs.
    4. `--` in the name is a legacy sandbox; *observed*: old production names may hold it too.
    """
    for suffix in ALLOWED_SUFFIXES:
        if host.endswith(suffix):
            labels = host.removesuffix(suffix).split(".")
            break
    else:
        return OrgType.UNKNOWN
    if len(labels) > 1:
        return _PARTITIONS.get(labels[-1], OrgType.UNKNOWN)
    if labels[0].endswith("-dev-ed"):
        return OrgType.DEVELOPER
    return OrgType.SANDBOX if "--" in labels[0] else OrgType.PRODUCTION


def login_url_of(subdomain: str) -> str:
    """The My Domain address of a subdomain as in step 7 of the setup guide (`acme`, `acme--dev.sandbox`)."""
    return f"https://{subdomain}.my.salesforce.com"


def audience_of(choice: str, login_url: str) -> str:
    """The `aud` of a choice in the configuration: `my_domain`, `login`, `test`, or an URL as it stands."""
    return {"my_domain": login_url, "login": GENERIC_LOGIN, "test": GENERIC_TEST}.get(choice, choice)


def is_generic(url: str) -> bool:
    """Whether a login URL or audience is Salesforce's generic host, which External Client Apps refuse."""
    return (urlsplit(url).hostname or "") in ALLOWED_HOSTS


_HOST = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?")
"""A host name as DNS has it, of at most 253 characters; with `_`, as container networks have it."""


def origin_of(url: str) -> str | None:
    """Scheme, host and port of an HTTP URL; None for any other, and where two parsers could differ on it."""
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
    """Whether an URL leads to this machine."""
    return (urlsplit(url).hostname or "") in LOOPBACK_HOSTS


def may_receive_assertions(login_url: str, allowed_hosts: frozenset[str] = frozenset()) -> bool:
    """Whether a signed assertion may go to this address: HTTPS to a host of Salesforce's, or loopback.

    Plain HTTP is for loopback alone. `allowed_hosts` are further host names that the operator vouches for.
    """
    origin = origin_of(login_url)
    if origin is None:
        return False
    parts = urlsplit(origin)
    host = parts.hostname or ""
    if host in LOOPBACK_HOSTS:
        return True
    known = host in ALLOWED_HOSTS or host in allowed_hosts or host.endswith(ALLOWED_SUFFIXES)
    return parts.scheme == "https" and known
