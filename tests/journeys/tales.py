"""Tales: for each cause and similar ones, days with the expected findings and the change after each."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from monitor.core.causes import Cause
from monitor.core.connection import GENERIC_LOGIN, GENERIC_TEST, ApprovalPolicy
from monitor.core.finding import State
from monitor.simulator.scenarios import Keys, make_keys
from tests.journeys.driver import Traveller
from tests.journeys.keys import PairFiles, pair_files
from tests.journeys.wires import Weather, no_such_name, nobody_listens, portal, untrusted
from tests.making import NOW

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
YEAR = 365 * DAY

Happens = Callable[[Traveller], Awaitable[object]]

HEALTHY = State.HEALTHY, ()


@dataclass(frozen=True, slots=True)
class Chapter:
    """A time, the findings expected then, and what happens next."""

    at: timedelta
    """After the start."""
    expected: tuple[State, tuple[Cause, ...]]
    """The state and all findings, the cause of the state first."""
    then: Happens | None = None
    may_be: tuple[Cause, ...] = ()
    """Causes that must be among the alternatives."""
    cannot_be: tuple[Cause, ...] = ()
    """Causes that must not be among the alternatives."""


@dataclass(frozen=True, slots=True)
class Tale:
    """What happens to one connection."""

    name: str
    chapters: tuple[Chapter, ...]
    org: Mapping[str, object] = field(default_factory=dict)
    subdomain: str = "acme"
    options: Mapping[str, Any] = field(default_factory=dict)
    files: Callable[[], PairFiles] = pair_files
    uploaded: Callable[[], PairFiles] | None = None


def failing(*causes: Cause) -> tuple[State, tuple[Cause, ...]]:
    return State.FAILING, causes


def degraded(*causes: Cause) -> tuple[State, tuple[Cause, ...]]:
    return State.DEGRADED, causes


def no_verdict(*causes: Cause) -> tuple[State, tuple[Cause, ...]]:
    return State.UNKNOWN, causes


SETTLING = State.SETTLING, (Cause.PROPAGATION_PENDING,)


def in_org(**settings: object) -> Happens:
    return lambda traveller: traveller.org(**settings)


def in_config(**options: object) -> Happens:
    return lambda traveller: traveller.reconfigure(**options)


def key_files(which: Callable[[], PairFiles]) -> Happens:
    return lambda traveller: traveller.replace_key(which())


def weather(of: Weather | None) -> Happens:
    async def change(traveller: Traveller) -> None:
        traveller.journey.weather(of)

    return change


def repaired(
    name: str,
    breaks: Happens,
    expected: tuple[State, tuple[Cause, ...]],
    repairs: Happens,
    *,
    may_be: tuple[Cause, ...] = (),
    **more: Any,
) -> Tale:
    """A healthy day, a day on which something is broken, and one after the repair."""
    chapters = (
        Chapter(DAY, HEALTHY, breaks),
        Chapter(2 * DAY, expected, repairs, may_be=may_be),
        Chapter(3 * DAY, HEALTHY),
    )
    return Tale(name, chapters, **more)


def second() -> PairFiles:
    return pair_files("second")


def first_with_the_certificate_of_the_second() -> PairFiles:
    return PairFiles(pair_files().private_key, second().certificate)


def second_with_the_certificate_of_the_first() -> PairFiles:
    return PairFiles(second().private_key, pair_files().certificate)


def cut_off() -> PairFiles:
    whole = pair_files()
    return PairFiles(whole.private_key[:800], whole.certificate)


def of_a_year() -> PairFiles:
    return pair_files(begins=NOW - DAY, lives=YEAR)


def of_next_month() -> PairFiles:
    return pair_files(begins=NOW + 30 * DAY, lives=YEAR)


def of_kind(kind: Keys) -> Callable[[], PairFiles]:
    def made() -> PairFiles:
        files = make_keys(kind, NOW)
        return PairFiles(files.private_key, files.certificate)

    return made


MONTH = {"refresh_token_policy": "lifetime", "refresh_token_validity_seconds": 30 * 86_400}
SANDBOX = "acme--dev.sandbox"

SETUP = (
    Tale(
        "the permission set was never selected for the app",
        org={"permission_set_assigned": False},
        options={"interval": 5 * MINUTE},
        chapters=(
            Chapter(MINUTE, SETTLING),
            Chapter(9 * MINUTE, SETTLING),
            Chapter(
                10 * MINUTE,
                failing(Cause.USER_NOT_ADMIN_APPROVED),
                cannot_be=(Cause.APPROVAL_DECAYED,),
            ),
            Chapter(2 * HOUR, failing(Cause.USER_NOT_ADMIN_APPROVED), in_org(permission_set_assigned=True)),
            Chapter(3 * HOUR, HEALTHY),
        ),
    ),
    Tale(
        "users authorise themselves and this one never did",
        org={"permitted_users": "self_authorized", "user_approved": False},
        chapters=(
            Chapter(MINUTE, SETTLING),
            Chapter(
                DAY,
                failing(Cause.CONSUMER_NOT_APPROVED),
                in_org(user_approved=True),
                may_be=(Cause.USER_NOT_ADMIN_APPROVED,),
                cannot_be=(Cause.APPROVAL_DECAYED,),
            ),
            Chapter(2 * DAY, HEALTHY),
        ),
    ),
    Tale(
        "a refresh token policy that expires at once looks like a missing approval",
        org={"refresh_token_policy": "zero"},
        chapters=(
            Chapter(
                DAY,
                failing(Cause.CONSUMER_NOT_APPROVED),
                in_org(refresh_token_policy="infinite"),
                cannot_be=(Cause.APPROVAL_DECAYED,),
            ),
            Chapter(2 * DAY, HEALTHY),
        ),
    ),
    Tale(
        "a production org is asked with the audience of sandboxes",
        options={"audience": GENERIC_TEST},
        chapters=(
            # Nothing settles a wrong audience: it is named at once.
            Chapter(2 * MINUTE, failing(Cause.AUDIENCE_INVALID), in_config(audience=GENERIC_LOGIN)),
            Chapter(3 * MINUTE, HEALTHY),
        ),
    ),
    Tale(
        "an external client app is asked with the generic audience",
        org={"accepted_audiences": "my_domain"},
        options={"audience": GENERIC_LOGIN},
        chapters=(
            Chapter(
                DAY,
                failing(Cause.APP_NOT_FOUND),
                in_config(audience="https://acme.my.salesforce.com"),
                may_be=(Cause.AUDIENCE_INVALID,),
            ),
            Chapter(DAY + MINUTE, HEALTHY),
        ),
    ),
    Tale(
        "the app has a different certificate from ours",
        uploaded=second,
        chapters=(
            Chapter(MINUTE, SETTLING),
            Chapter(
                DAY,
                failing(Cause.ASSERTION_INVALID),
                lambda traveller: traveller.upload(pair_files()),
                cannot_be=(Cause.KEY_CERTIFICATE_MISMATCH, Cause.CERTIFICATE_EXPIRED),
            ),
            Chapter(2 * DAY, HEALTHY),
        ),
    ),
    Tale(
        "our key is that of another pair",
        files=second_with_the_certificate_of_the_first,
        uploaded=pair_files,
        chapters=(
            # Known without the org: nothing is to be waited for.
            Chapter(MINUTE, failing(Cause.KEY_CERTIFICATE_MISMATCH), key_files(pair_files)),
            Chapter(2 * MINUTE, HEALTHY),
        ),
    ),
    Tale(
        "our certificate is a different one, but the key works",
        files=first_with_the_certificate_of_the_second,
        uploaded=pair_files,
        chapters=(Chapter(DAY, degraded(Cause.KEY_CERTIFICATE_MISMATCH)),),
    ),
    Tale(
        "the app takes four minutes to reach every server",
        org={"propagation_seconds": 240},
        options={"interval": 5 * MINUTE},
        chapters=(
            Chapter(timedelta(0), SETTLING),
            Chapter(2 * MINUTE, SETTLING),
            Chapter(5 * MINUTE, HEALTHY),
        ),
    ),
    Tale(
        "the consumer key was copied wrongly",
        org={"consumer_key": "3MVG9right"},
        chapters=(
            Chapter(MINUTE, SETTLING),
            Chapter(DAY, failing(Cause.CONSUMER_KEY_UNKNOWN), in_config(consumer_key="3MVG9right")),
            Chapter(DAY + MINUTE, HEALTHY),
        ),
    ),
    Tale(
        "the flow is turned off",
        org={"flow_enabled": False},
        chapters=(
            Chapter(DAY, failing(Cause.FLOW_DISABLED), in_org(flow_enabled=True)),
            Chapter(2 * DAY, HEALTHY),
        ),
    ),
    Tale(
        "the host name does not exist",
        chapters=(
            Chapter(timedelta(0), HEALTHY, weather(no_such_name)),
            Chapter(DAY, failing(Cause.SUBDOMAIN_UNKNOWN), weather(None)),
            Chapter(2 * DAY, HEALTHY),
        ),
    ),
    Tale(
        "no user has the username",
        org={"username": "someone.else@acme.example"},
        chapters=(
            Chapter(
                DAY,
                failing(Cause.USERNAME_CHANGED),
                in_config(username="someone.else@acme.example"),
                may_be=(Cause.USER_INACTIVE,),
            ),
            Chapter(DAY + MINUTE, HEALTHY),
        ),
    ),
)

KEYS = (
    Tale(
        "the key file is truncated, then repaired",
        files=cut_off,
        chapters=(
            Chapter(MINUTE, failing(Cause.KEY_UNREADABLE), key_files(pair_files)),
            Chapter(2 * MINUTE, HEALTHY),
        ),
    ),
    Tale(
        "a broken key file does not replace a good one",
        chapters=(
            Chapter(MINUTE, HEALTHY, key_files(cut_off)),
            Chapter(DAY, degraded(Cause.KEY_UNREADABLE), key_files(pair_files)),
            Chapter(2 * DAY, HEALTHY),
        ),
    ),
    Tale(
        "everyone on the machine can read the key, until it is replaced",
        chapters=(
            Chapter(DAY, HEALTHY, lambda traveller: traveller.open_key_file()),
            Chapter(2 * DAY, degraded(Cause.KEY_FILE_EXPOSED), key_files(pair_files)),
            Chapter(3 * DAY, HEALTHY),
        ),
    ),
    Tale(
        "the key is an elliptic-curve key",
        files=of_kind(Keys.ELLIPTIC),
        chapters=(Chapter(DAY, failing(Cause.KEY_NOT_RSA)),),
    ),
    Tale(
        "the key is short, and the org accepts it",
        files=of_kind(Keys.SHORT),
        chapters=(Chapter(DAY, degraded(Cause.KEY_TOO_SHORT)),),
    ),
    Tale(
        "the key is short, and the org refuses it",
        files=of_kind(Keys.SHORT),
        uploaded=pair_files,
        chapters=(Chapter(DAY, failing(Cause.KEY_TOO_SHORT), may_be=(Cause.ASSERTION_INVALID,)),),
    ),
    Tale(
        "a one-year certificate nears its end, and the org keeps granting",
        files=of_a_year,
        chapters=(
            Chapter(303 * DAY, HEALTHY),
            Chapter(307 * DAY, degraded(Cause.CERTIFICATE_EXPIRING)),
            Chapter(363 * DAY, degraded(Cause.CERTIFICATE_EXPIRING)),
            Chapter(367 * DAY, degraded(Cause.CERTIFICATE_EXPIRED)),
            Chapter(400 * DAY, degraded(Cause.CERTIFICATE_EXPIRED)),
        ),
        options={"interval": 2 * DAY},
    ),
    Tale(
        "an org refuses the certificate that expired",
        files=of_a_year,
        org={"expired_certificate_refused": True},
        chapters=(
            Chapter(363 * DAY, degraded(Cause.CERTIFICATE_EXPIRING)),
            Chapter(
                367 * DAY,
                failing(Cause.ASSERTION_INVALID, Cause.CERTIFICATE_EXPIRED),
                may_be=(Cause.CERTIFICATE_EXPIRED,),
                cannot_be=(Cause.KEY_CERTIFICATE_MISMATCH,),
            ),
        ),
        options={"interval": 2 * DAY},
    ),
    Tale(
        "a certificate that is not valid yet becomes so",
        files=of_next_month,
        chapters=(
            Chapter(DAY, degraded(Cause.CERTIFICATE_NOT_YET_VALID)),
            Chapter(31 * DAY, HEALTHY),
        ),
    ),
    Tale(
        "another certificate was uploaded, and our key follows it",
        chapters=(
            Chapter(20 * DAY, HEALTHY, lambda traveller: traveller.upload(second())),
            Chapter(
                21 * DAY,
                failing(Cause.ASSERTION_INVALID),
                key_files(second),
                cannot_be=(Cause.KEY_CERTIFICATE_MISMATCH,),
            ),
            Chapter(21 * DAY + MINUTE, HEALTHY),
        ),
    ),
    Tale(
        "a key replaced on disk may be refused while its certificate propagates",
        org={"propagation_seconds": 7 * 60},
        options={"interval": 5 * MINUTE},
        chapters=(
            Chapter(HOUR, HEALTHY, lambda traveller: traveller.upload(second())),
            Chapter(HOUR + MINUTE, HEALTHY, key_files(second)),
            Chapter(HOUR + 2 * MINUTE, SETTLING),
            Chapter(HOUR + 6 * MINUTE, SETTLING),
            Chapter(HOUR + 11 * MINUTE, HEALTHY),
        ),
    ),
    Tale(
        "a key replaced on disk whose certificate was not uploaded",
        chapters=(
            Chapter(DAY, HEALTHY, key_files(second)),
            Chapter(DAY + 9 * MINUTE, SETTLING),
            Chapter(
                DAY + 10 * MINUTE,
                failing(Cause.ASSERTION_INVALID),
                lambda traveller: traveller.upload(second()),
            ),
            Chapter(2 * DAY, HEALTHY),
        ),
    ),
    repaired(
        "the certificate is gone from the app",
        in_org(certificate=None),
        failing(Cause.CLIENT_INVALID),
        lambda traveller: traveller.upload(pair_files()),
    ),
)

APPROVALS = (
    Tale(
        "a self-authorised approval decays in the same way",
        org={**MONTH, "permitted_users": "self_authorized"},
        chapters=(
            Chapter(29 * DAY, HEALTHY),
            Chapter(31 * DAY, failing(Cause.APPROVAL_DECAYED), in_org(user_approved=True)),
            Chapter(32 * DAY, HEALTHY),
        ),
    ),
    Tale(
        "an org where an admin's approval does not age out",
        org={**MONTH, "decays_when_admin_approved": False},
        chapters=(Chapter(90 * DAY, HEALTHY),),
    ),
    Tale(
        "a declared policy warns of an end that does not come, and then no longer",
        org={**MONTH, "decays_when_admin_approved": False},
        options={"approval": ApprovalPolicy("lifetime", 30)},
        chapters=(
            Chapter(24 * DAY, HEALTHY),
            Chapter(26 * DAY, degraded(Cause.APPROVAL_EXPIRING)),
            Chapter(34 * DAY, degraded(Cause.APPROVAL_EXPIRING)),
            Chapter(36 * DAY, HEALTHY),
        ),
    ),
    Tale(
        "a declared policy predicts the end to the day",
        org={**MONTH, "refresh_token_validity_seconds": 90 * 86_400},
        options={"approval": ApprovalPolicy("lifetime", 90)},
        chapters=(
            Chapter(74 * DAY, HEALTHY),
            Chapter(76 * DAY, degraded(Cause.APPROVAL_EXPIRING)),
            Chapter(89 * DAY, degraded(Cause.APPROVAL_EXPIRING)),
            Chapter(91 * DAY, failing(Cause.APPROVAL_DECAYED), lambda traveller: traveller.approve()),
            Chapter(92 * DAY, HEALTHY),
            Chapter(165 * DAY, HEALTHY),
            Chapter(168 * DAY, degraded(Cause.APPROVAL_EXPIRING)),
        ),
    ),
    Tale(
        "the owner knows that the approval is older than the monitor",
        org={**MONTH, "refresh_token_validity_seconds": 40 * 86_400},
        options={"approval": ApprovalPolicy("lifetime", 90, (NOW - 50 * DAY).date())},
        chapters=(
            Chapter(24 * DAY, HEALTHY),
            Chapter(26 * DAY, degraded(Cause.APPROVAL_EXPIRING)),
            Chapter(39 * DAY, degraded(Cause.APPROVAL_EXPIRING)),
            Chapter(41 * DAY, failing(Cause.APPROVAL_DECAYED)),
        ),
    ),
    Tale(
        "an approval that ages when unused is kept alive by the checks, until they pause",
        org={"refresh_token_policy": "inactivity", "refresh_token_validity_seconds": 7 * 86_400},
        options={"approval": ApprovalPolicy("inactivity", 7)},
        chapters=(
            Chapter(40 * DAY, HEALTHY, in_config(paused=True)),
            Chapter(48 * DAY, (State.PAUSED, ()), in_config(paused=False)),
            Chapter(48 * DAY + MINUTE, failing(Cause.APPROVAL_DECAYED)),
        ),
    ),
    Tale(
        "a permission set assigned for a month is predicted to end, and ends",
        org={"permission_set_lifetime_seconds": 30 * 86_400, "permissions": ["ViewSetup"]},
        chapters=(
            Chapter(DAY, degraded(Cause.PERMISSION_SET_EXPIRING)),
            Chapter(29 * DAY, degraded(Cause.PERMISSION_SET_EXPIRING)),
            Chapter(
                31 * DAY,
                failing(Cause.USER_NOT_ADMIN_APPROVED),
                in_org(permission_set_assigned=True, permission_set_lifetime_seconds=None),
            ),
            Chapter(36 * DAY, HEALTHY),
        ),
    ),
    Tale(
        "a policy that will let the approval age out is found on the first day, and fixed",
        org={
            "refresh_token_policy": "lifetime",
            "refresh_token_validity_seconds": 90 * 86_400,
            "permissions": ["ViewSetup", "ExternalClientAppViewer"],
        },
        chapters=(
            Chapter(DAY, degraded(Cause.REFRESH_POLICY_WRONG), in_org(refresh_token_policy="infinite")),
            Chapter(3 * DAY, HEALTHY),
        ),
    ),
    Tale(
        "an app that requires High Assurance is found before it refuses",
        org={"session_level": "HIGH_ASSURANCE", "permissions": ["ViewSetup", "ExternalClientAppViewer"]},
        chapters=(
            Chapter(DAY, degraded(Cause.SESSION_LEVEL_REQUIRED), in_org(session_level="STANDARD")),
            Chapter(3 * DAY, HEALTHY),
        ),
    ),
    Tale(
        "access to a declared object is missing, then the declaration is fixed",
        options={"objects": (("Account", ("read",)), ("Lead", ("read",)))},
        chapters=(
            Chapter(
                DAY,
                degraded(Cause.OBJECT_ACCESS_MISSING),
                in_config(objects=(("Account", ("read",)),)),
            ),
            Chapter(3 * DAY, HEALTHY),
        ),
    ),
    Tale(
        "a user that cannot see its permission sets is healthy, and ends without warning",
        org={"permission_set_lifetime_seconds": 30 * 86_400},
        chapters=(
            Chapter(29 * DAY, HEALTHY),
            Chapter(31 * DAY, failing(Cause.USER_NOT_ADMIN_APPROVED), lambda traveller: traveller.approve()),
            Chapter(32 * DAY, HEALTHY),
        ),
    ),
    Tale(
        "the scope for refresh tokens is removed, which looks like a decay",
        chapters=(
            Chapter(30 * DAY, HEALTHY, in_org(scopes=["api"])),
            Chapter(
                31 * DAY,
                failing(Cause.APPROVAL_DECAYED),
                in_org(scopes=["api", "refresh_token"]),
                may_be=(Cause.SCOPE_MISSING,),
            ),
            Chapter(32 * DAY, HEALTHY),
        ),
    ),
)

RIGHTS = (
    repaired(
        "our address falls out of the ranges, in the setup guide's words",
        in_org(ip_allowed=False),
        failing(Cause.NOT_AUTHORIZED),
        in_org(ip_allowed=True),
        org={"ip_refusal": "not_authorized"},
        may_be=(Cause.IP_RESTRICTED, Cause.API_DISABLED),
    ),
    repaired(
        "our address falls out of the ranges",
        in_org(ip_allowed=False),
        failing(Cause.IP_RESTRICTED),
        in_org(ip_allowed=True),
    ),
    Tale(
        "the token is granted, and no call is",
        options={"interval": HOUR},
        chapters=(
            Chapter(DAY, HEALTHY, in_org(api_enabled=False)),
            Chapter(DAY + 6 * HOUR, failing(Cause.API_DISABLED)),
            # Every grant is doubted from then on.
            Chapter(DAY + 7 * HOUR, failing(Cause.API_DISABLED), in_org(api_enabled=True)),
            Chapter(DAY + 8 * HOUR, HEALTHY),
        ),
    ),
    repaired(
        "access tokens become JWTs",
        in_org(jwt_access_tokens=True),
        degraded(Cause.JWT_ACCESS_TOKEN),
        in_org(jwt_access_tokens=False),
    ),
    Tale(
        "the scope api is removed",
        options={"interval": HOUR},
        chapters=(
            Chapter(DAY, HEALTHY, in_org(scopes=["id", "refresh_token"])),
            Chapter(DAY + 6 * HOUR, failing(Cause.SCOPE_MISSING), in_org(scopes=["api", "refresh_token"])),
            Chapter(DAY + 7 * HOUR, HEALTHY),
        ),
    ),
    Tale(
        "the scope api is removed, and no call is made",
        options={"after_login": False},
        chapters=(
            Chapter(DAY, HEALTHY, in_org(scopes=["id", "refresh_token"])),
            Chapter(2 * DAY, degraded(Cause.SCOPE_MISSING)),
        ),
    ),
    Tale(
        "an admin blocks the app",
        chapters=(
            Chapter(DAY, HEALTHY, in_org(app_blocked=True)),
            Chapter(2 * DAY, failing(Cause.APP_BLOCKED), in_org(app_blocked=False)),
            Chapter(3 * DAY, HEALTHY, in_org(app_present=False)),
            Chapter(4 * DAY, failing(Cause.APP_NOT_FOUND)),
        ),
    ),
    Tale(
        "the user is deactivated, then the org",
        chapters=(
            Chapter(DAY, HEALTHY, in_org(user_active=False)),
            Chapter(2 * DAY, failing(Cause.USER_INACTIVE), in_org(org_active=False)),
            Chapter(3 * DAY, failing(Cause.ORG_INACTIVE), in_org(user_active=True, org_active=True)),
            Chapter(4 * DAY, HEALTHY),
        ),
    ),
)

SANDBOXES = (
    Tale(
        "a refreshed sandbox gives its users another suffix",
        subdomain=SANDBOX,
        org={"org_type": "sandbox"},
        chapters=(
            Chapter(20 * DAY, HEALTHY, lambda traveller: traveller.refresh(username_suffix="dev", loses=[])),
            Chapter(
                21 * DAY,
                failing(Cause.USERNAME_CHANGED),
                in_config(username="integration@acme.example.dev"),
            ),
            # The new username is a new beginning: its identity is pinned without a word.
            Chapter(21 * DAY + MINUTE, HEALTHY),
        ),
    ),
    Tale(
        "a refreshed sandbox is another org, which is accepted after a week",
        subdomain=SANDBOX,
        org={"org_type": "sandbox"},
        chapters=(
            Chapter(20 * DAY, HEALTHY, lambda traveller: traveller.refresh(username_suffix="", loses=[])),
            Chapter(21 * DAY, degraded(Cause.IDENTITY_CHANGED)),
            Chapter(27 * DAY, degraded(Cause.IDENTITY_CHANGED)),
            Chapter(29 * DAY, HEALTHY),
        ),
    ),
    Tale(
        "a refreshed sandbox has lost what its app was given",
        subdomain=SANDBOX,
        org={"org_type": "sandbox"},
        chapters=(
            Chapter(20 * DAY, HEALTHY, lambda traveller: traveller.refresh()),
            Chapter(21 * DAY, failing(Cause.CONSUMER_KEY_UNKNOWN), in_config(consumer_key="3MVG9acme_2")),
            Chapter(22 * DAY, failing(Cause.CLIENT_INVALID), lambda it: it.upload(pair_files())),
            Chapter(
                23 * DAY,
                failing(Cause.USERNAME_CHANGED),
                in_config(username="integration@acme.example.refreshed"),
            ),
            Chapter(23 * DAY + MINUTE, HEALTHY),
        ),
    ),
    Tale(
        "a refreshed sandbox has lost its app",
        subdomain=SANDBOX,
        org={"org_type": "sandbox"},
        chapters=(
            Chapter(20 * DAY, HEALTHY, lambda traveller: traveller.refresh(loses=["app"])),
            Chapter(21 * DAY, failing(Cause.APP_NOT_FOUND)),
        ),
    ),
)

ELSEWHERE = (
    *(
        repaired(
            f"a server that answers with {fault}",
            in_org(fault=fault),
            no_verdict(Cause.SALESFORCE_UNAVAILABLE),
            in_org(fault=None),
        )
        for fault in ("reset", "error_500")
    ),
    repaired(
        "no server listens, then the network recovers",
        weather(nobody_listens),
        no_verdict(Cause.NETWORK_UNREACHABLE),
        weather(None),
    ),
    repaired("something breaks TLS open", weather(untrusted), no_verdict(Cause.TLS_UNTRUSTED), weather(None)),
    repaired(
        "a portal answers one connection alone",
        weather(portal),
        no_verdict(Cause.SALESFORCE_UNAVAILABLE),
        weather(None),
    ),
    Tale(
        "a decay remains a finding when the network fails after it",
        org=MONTH,
        chapters=(
            Chapter(31 * DAY, failing(Cause.APPROVAL_DECAYED), weather(nobody_listens)),
            Chapter(
                32 * DAY,
                no_verdict(Cause.NETWORK_UNREACHABLE, Cause.APPROVAL_DECAYED),
                weather(None),
            ),
            Chapter(33 * DAY, failing(Cause.APPROVAL_DECAYED)),
        ),
    ),
    repaired(
        "the org's clock is an hour ahead",
        in_org(clock_offset_seconds=3600),
        failing(Cause.CLOCK_SKEWED),
        in_org(clock_offset_seconds=0),
    ),
    Tale(
        "clocks that differ by less than an assertion's life are a warning",
        chapters=(
            Chapter(DAY, HEALTHY, in_org(clock_offset_seconds=100)),
            Chapter(3 * DAY, degraded(Cause.CLOCK_SKEWED), in_org(clock_offset_seconds=30)),
            Chapter(4 * DAY, HEALTHY),
        ),
    ),
    Tale(
        "production uses up the login rate",
        options={"interval": 5 * MINUTE},
        chapters=(
            Chapter(HOUR, HEALTHY, in_org(login_rate_per_hour=0)),
            Chapter(HOUR + 5 * MINUTE, failing(Cause.LOGIN_RATE_EXCEEDED)),
            Chapter(3 * HOUR, failing(Cause.LOGIN_RATE_EXCEEDED), in_org(login_rate_per_hour=3600)),
            Chapter(3 * HOUR + 20 * MINUTE, HEALTHY),
        ),
    ),
)

TALES = (*SETUP, *KEYS, *APPROVALS, *RIGHTS, *SANDBOXES, *ELSEWHERE)
