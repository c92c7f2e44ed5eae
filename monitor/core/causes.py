"""The catalogue of causes: code, title, severity, responsible, settle time, guide step, remedy.

The codes are a contract: metric label, alert, page, runbook and JSON all take the spelling from here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType


class Severity(StrEnum):
    """How soon somebody must look."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Responsible(StrEnum):
    """Who must act."""

    ORG_ADMIN = "org_admin"
    """A Salesforce administrator of the org."""
    OPERATOR = "operator"
    """Whoever runs this monitor and the integration: configuration, keys, network."""
    SALESFORCE = "salesforce"
    """Nobody here: Salesforce itself, or time."""


class Kind(StrEnum):
    """What a cause is a fault of."""

    CREDENTIAL = "credential"
    """The key, the user, the app or the org's settings for them: what this monitor watches."""
    SALESFORCE = "salesforce"
    """Salesforce's servers and limits, whatever the credential."""
    NETWORK = "network"
    """The way to the org: name, route, proxy, TLS."""
    OURS = "ours"
    """The monitor, or the machine it runs on."""


class Hold(StrEnum):
    """How long a cause must hold before anybody is notified; `Holds` has the times of a configuration."""

    CONFIRMED = "confirmed"
    """Until a second look has confirmed it."""
    TRANSIENT = "transient"
    """Until it is no passing fault of network or server (`alerts.transient_for`): one failed exchange does
    not prove that it lasts."""
    SETTLING = "settling"
    """Until every settle time is over."""
    THROTTLED = "throttled"
    """Until the late look after a spent login limit has confirmed it."""


class Cause(StrEnum):
    """A documented cause. The order is that of the setup guide, then of what the guide leaves out."""

    USER_NOT_ADMIN_APPROVED = "user_not_admin_approved"
    CONSUMER_NOT_APPROVED = "consumer_not_approved"
    APPROVAL_DECAYED = "approval_decayed"
    APPROVAL_EXPIRING = "approval_expiring"
    AUDIENCE_INVALID = "audience_invalid"
    ASSERTION_INVALID = "assertion_invalid"
    KEY_CERTIFICATE_MISMATCH = "key_certificate_mismatch"
    NOT_AUTHORIZED = "not_authorized"
    IP_RESTRICTED = "ip_restricted"
    API_DISABLED = "api_disabled"
    PROPAGATION_PENDING = "propagation_pending"
    USERNAME_CHANGED = "username_changed"
    KEY_UNREADABLE = "key_unreadable"
    KEY_NOT_RSA = "key_not_rsa"
    KEY_TOO_SHORT = "key_too_short"
    KEY_FILE_EXPOSED = "key_file_exposed"
    CERTIFICATE_EXPIRING = "certificate_expiring"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_NOT_YET_VALID = "certificate_not_yet_valid"
    JWT_ACCESS_TOKEN = "jwt_access_token"  # noqa: S105 - a code, no secret
    SCOPE_MISSING = "scope_missing"
    FLOW_DISABLED = "flow_disabled"
    CONSUMER_KEY_UNKNOWN = "consumer_key_unknown"
    SUBDOMAIN_UNKNOWN = "subdomain_unknown"
    PERMISSION_SET_EXPIRING = "permission_set_expiring"
    APP_NOT_FOUND = "app_not_found"
    CLIENT_INVALID = "client_invalid"
    APP_BLOCKED = "app_blocked"
    USER_INACTIVE = "user_inactive"
    ORG_INACTIVE = "org_inactive"
    IDENTITY_CHANGED = "identity_changed"
    LOGIN_RATE_EXCEEDED = "login_rate_exceeded"
    CLOCK_SKEWED = "clock_skewed"
    REQUEST_MALFORMED = "request_malformed"
    SALESFORCE_UNAVAILABLE = "salesforce_unavailable"
    NETWORK_UNREACHABLE = "network_unreachable"
    TLS_UNTRUSTED = "tls_untrusted"
    MONITOR_FAULT = "monitor_fault"
    UNRECOGNISED = "unrecognised"


@dataclass(frozen=True, slots=True)
class Settle:
    """How long a change may take to reach every server, so that a refusal in that time proves nothing."""

    shortest: timedelta
    longest: timedelta
    source: str


PROPAGATION = Settle(
    timedelta(minutes=2),
    timedelta(minutes=10),
    "setup guide, step 2 and troubleshooting: 2 to 10 minutes for a new or changed app",
)

REPLICATION = Settle(
    timedelta(minutes=2),
    timedelta(minutes=10),
    (
        "setup guide, step 2, for a changed app; observed too for the copy of an app to a new or refreshed"
        " sandbox"
    ),
)

ROTATION = Settle(
    timedelta(minutes=2),
    timedelta(minutes=10),
    (
        "setup guide, step 2; an app holds one certificate only, so after an upload either key may be"
        " refused for that time (observed)"
    ),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What the catalogue says of one cause. Remedies use the names of the guide and of Salesforce's Setup."""

    title: str
    """A few words that can head a page."""
    meaning: str
    """What is so, and why that stops or endangers the integration."""
    severity: Severity
    """The severity unless a diagnosis has reason for another: a finding beside a grant may be milder."""
    responsible: Responsible
    kind: Kind
    remedy: tuple[str, ...]
    """What to do, in this order."""
    tell_apart: str
    """What would show that it is this cause and not one that looks the same."""
    guide: str | None = None
    """Where the setup guide speaks of it: `step 4`. None where it doesn't."""
    settle: Settle | None = None
    """Within which time of a change a refusal of this kind may end by itself. None where it won't."""
    hidden_by: tuple[Cause, ...] = ()
    """Causes that answer first while both hold, so that mending them may bring this one to light."""
    contested: str | None = None
    """Where sources contradict the guide or each other: what each says, and which it is."""
    hold: Hold = Hold.CONFIRMED
    no_verdict: bool = False
    """It says nothing about the credential: the state is unknown."""
    shared: bool = False
    """Where many connections have it at once, it is not an org's own: the network, our clock or address."""
    stops_calls: bool = False
    """If the first call is refused for it, the connection is failing although a token was granted."""
    refuses_signature: bool = False
    """The app's certificate does not prove the signature."""
    ends_approval: bool = False
    """It ends an approval. Only `approval_decayed` tells something about the lifetime of the next."""
    wrong_pair: bool = False
    """A wrong address or audience is answered with it; an exchange with any other answer got further."""
    network_mimics: bool = False
    """A fault of our own network looks the same, so that many at once are one."""
    certificate_dates: bool = False
    """It is about the certificate's dates."""
    needs_exchange: bool = True
    """Whether a login from another client would show it."""

    @property
    def transient(self) -> bool:
        """Whether one failed exchange does not prove that it lasts."""
        return self.hold is Hold.TRANSIENT

    @property
    def passing(self) -> bool:
        """Whether it is over once another exchange finds something else, whatever the verdict before it."""
        return self.hold in {Hold.TRANSIENT, Hold.SETTLING}

    @property
    def unanswered(self) -> bool:
        """Whether nobody answered for the org: no other audience at the same address would help."""
        return self.transient and self.kind is not Kind.OURS

    @property
    def hopeless(self) -> bool:
        """Whether no other address or audience would help, although there may have been an answer."""
        return self.kind is not Kind.CREDENTIAL and not self.unanswered


_POLICIES = "In Setup, open External Client App Manager, select the app, and on the Policies tab click Edit."
_SETTINGS = "In Setup, open External Client App Manager, select the app, and open the Settings tab."
_SAVE = "Click Save, then wait 2 to 10 minutes before judging the result."
_NEXT_FIRST = (
    "If the evidence says that the next key is accepted, upload nothing: switch the integration to that key,"
    " then make it the current one (`bearerwatch rotate NAME --config FILE --write`)."
)
_UNREACHED = (
    Cause.NETWORK_UNREACHABLE,
    Cause.TLS_UNTRUSTED,
    Cause.SUBDOMAIN_UNKNOWN,
    Cause.SALESFORCE_UNAVAILABLE,
)
_NO_SUCH_APP = (Cause.CONSUMER_KEY_UNKNOWN, Cause.APP_NOT_FOUND, Cause.APP_BLOCKED)
_NOT_ACCEPTED = (
    *_NO_SUCH_APP,
    Cause.CLIENT_INVALID,
    Cause.ASSERTION_INVALID,
    Cause.AUDIENCE_INVALID,
    Cause.CLOCK_SKEWED,
)

_LICENSED_SET = (
    "The guide (step 5) has the permission set created with the licence Salesforce API Integration and"
    " (step 6) that same set selected for the app. Salesforce's knowledge article 001453686 and an"
    " integration vendor's report say that a set bound to that licence can't carry an app. If the set can't"
    " be selected, or selecting it changes nothing, select a second permission set that has no licence, and"
    " assign that one to the user as well."
)

_DECAY = (
    "The guide (step 4) says that any policy but Refresh token is valid until revoked lets the approval age"
    " out. For apps whose users are pre-authorised by an admin that is contested: Salesforce's own CLI"
    " guide tells users of this flow to let refresh tokens expire after 90 days or less, and the Metadata"
    " API's reference says that the policy is evaluated only when a refresh token is used. For"
    " self-authorised users the ageing is documented."
)

_IP = (
    "The guide (step 4 and troubleshooting) sets IP Relaxation to Relax IP restrictions. Salesforce's help"
    " on IP restrictions of connected apps says that the JWT bearer flow always enforces them, whatever the"
    " app's policy is. So set the option, but expect the cure from the profile's Login IP Ranges."
)

_EXPIRED = (
    "The guide (step 1) only sets a lifetime. Salesforce's product management was quoted in 2020 that"
    " nothing happens when an app's certificate expires, and a user said the same in 2024; a vendor's help"
    " page and a runbook say that logins then fail. Salesforce documents neither, so it is a risk here and"
    " never the proven cause."
)

CATALOGUE: Mapping[Cause, Entry] = MappingProxyType(
    {
        Cause.USER_NOT_ADMIN_APPROVED: Entry(
            title="The user is not approved for the app by an admin",
            meaning=(
                "The app serves only users whom an admin approved, and this user has none of the permission"
                " sets (or profiles) that are selected in the app's policies."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.ORG_ADMIN,
            kind=Kind.CREDENTIAL,
            ends_approval=True,
            guide="step 6",
            settle=PROPAGATION,
            hidden_by=_NOT_ACCEPTED,
            remedy=(
                _POLICIES,
                (
                    "Expand App Policies. Under Select Permission Sets, see that the integration user's"
                    " permission set is among Selected Permission Sets, not only among Available Permission"
                    " Sets."
                ),
                _SAVE,
                (
                    "In Setup, open Permission Sets, select that set, click Manage Assignments, and see"
                    " that the integration user is there and that Expires On says Never Expires. If not:"
                    " Add Assignment."
                ),
                (
                    "If both are right, add a second permission set without a licence to both places: see"
                    " the note."
                ),
                (
                    "If it had worked, see Setup > View Setup Audit Trail for what was taken away. An app"
                    " that is deployed from source loses its permission sets where the source names none"
                    " (observed)."
                ),
            ),
            tell_apart=(
                "The app's Selected Permission Sets lack the user's set, or the set's Manage Assignments"
                " lack the user; the Login History shows Failed: Not approved for access."
            ),
            contested=_LICENSED_SET,
        ),
        Cause.CONSUMER_NOT_APPROVED: Entry(
            title="No approval of the app by this user",
            meaning=(
                "The org holds no approval for this user and this app: the permission set is not connected"
                " with the app, or the app's policies make each approval void."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.ORG_ADMIN,
            kind=Kind.CREDENTIAL,
            ends_approval=True,
            guide="steps 4 and 6",
            settle=PROPAGATION,
            hidden_by=_NOT_ACCEPTED,
            remedy=(
                _POLICIES,
                (
                    "Expand OAuth Policies. Under Plugin Policies, set Permitted Users to Admin approved"
                    " users are pre-authorized."
                ),
                "Under App Authorization, set Refresh Token Policy to Refresh token is valid until revoked.",
                (
                    "Expand App Policies and move the integration user's permission set to Selected"
                    " Permission Sets."
                ),
                _SAVE,
                (
                    "On the Settings tab, under Selected OAuth Scopes, see that Perform requests at any"
                    " time (refresh_token, offline_access) is there: without it no approval counts for this"
                    " flow."
                ),
                (
                    "In Setup, open Permission Sets, select the set, click Manage Assignments, and see that"
                    " the user is there."
                ),
            ),
            tell_apart=(
                "It never worked with this app, user and address; or it stopped when something was changed"
                " on our side (another consumer key, user or audience)."
            ),
            contested=f"{_DECAY} {_LICENSED_SET}",
        ),
        Cause.APPROVAL_DECAYED: Entry(
            title="The approval has aged out",
            meaning=(
                "The org served this user for a time and now no longer finds a live approval, while nothing"
                " changed on our side: the refresh token policy let the approval end, or somebody revoked"
                " it."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.ORG_ADMIN,
            kind=Kind.CREDENTIAL,
            ends_approval=True,
            guide="step 4",
            hidden_by=_NOT_ACCEPTED,
            remedy=(
                _POLICIES,
                (
                    "Expand OAuth Policies. Under App Authorization, set Refresh Token Policy to Refresh"
                    " token is valid until revoked."
                ),
                "Under Plugin Policies, see that Permitted Users is Admin approved users are pre-authorized.",
                (
                    "Expand App Policies, and associate the permission set again: it must be among Selected"
                    " Permission Sets."
                ),
                _SAVE,
                (
                    "If the users of the app authorise themselves, let the integration user approve the app"
                    " once more."
                ),
                (
                    "If it is refused still, see Setup > View Setup Audit Trail for what was changed at the"
                    " time of the first refusal."
                ),
            ),
            tell_apart=(
                "It worked for weeks, the app's Refresh Token Policy is not Refresh token is valid until"
                " revoked, and the Setup Audit Trail shows no change at that time."
            ),
            contested=_DECAY,
        ),
        Cause.APPROVAL_EXPIRING: Entry(
            title="The approval is about to age out",
            meaning=(
                "By the declared refresh token policy, or by how long earlier approvals lived, the org will"
                " soon no longer find a live approval, and refuse."
            ),
            severity=Severity.WARNING,
            responsible=Responsible.ORG_ADMIN,
            kind=Kind.CREDENTIAL,
            needs_exchange=False,
            guide="step 4",
            remedy=(
                _POLICIES,
                (
                    "Expand OAuth Policies. Under App Authorization, set Refresh Token Policy to Refresh"
                    " token is valid until revoked, and click Save."
                ),
                (
                    "If the policy must stay, let the user approve the app again before the date named in"
                    " the evidence."
                ),
                "Where a policy is declared in this monitor's configuration (approval), bring it up to date.",
            ),
            tell_apart="It is a forecast: the org still grants.",
            contested=_DECAY,
        ),
        Cause.AUDIENCE_INVALID: Entry(
            title="The audience is wrong for the org",
            meaning=(
                "The assertion is made out to a login server that doesn't answer for this org: production"
                " and sandbox were mixed up, or the org wants its own My Domain address as the audience."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.OPERATOR,
            kind=Kind.CREDENTIAL,
            wrong_pair=True,
            guide="step 7",
            hidden_by=(*_UNREACHED, Cause.APP_NOT_FOUND),
            remedy=(
                (
                    "Compare the subdomain with Setup > My Domain in the org: a sandbox's holds `--` or"
                    " `.sandbox`."
                ),
                (
                    "Set `audience: my_domain` for this connection: the org's own address is accepted by"
                    " connected apps and External Client Apps alike (observed)."
                ),
                (
                    "If that is refused, use `audience: test` for a sandbox and `audience: login`"
                    " otherwise; Government Cloud orgs want one of these two with their My Domain address"
                    " (observed)."
                ),
                (
                    "`bearerwatch discover NAME --config FILE` tries the sensible pairs once each and prints"
                    " the one that is granted."
                ),
            ),
            tell_apart=(
                "Another audience is granted at once with the same key; the answer speaks of the audience."
            ),
        ),
        Cause.ASSERTION_INVALID: Entry(
            title="The app's certificate does not prove our signature",
            meaning=(
                "The org could not verify the assertion. Our own key and certificate pair as far as we can"
                " see, so the certificate that the app holds is another one, or is gone, or the flow was"
                " switched off."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.ORG_ADMIN,
            kind=Kind.CREDENTIAL,
            refuses_signature=True,
            guide="steps 1 and 2",
            settle=ROTATION,
            hidden_by=_NO_SUCH_APP,
            remedy=(
                _NEXT_FIRST,
                _SETTINGS,
                (
                    "Under Flow Enablement, see that Enable JWT Bearer Flow is checked, and upload the"
                    " certificate that belongs to the key in use (cert.pem of step 1). Compare its serial"
                    " number with the evidence."
                ),
                _SAVE,
                (
                    "If the app is deployed from source, see that the deployment holds the certificate: one"
                    " that leaves it out removes it from the app (observed)."
                ),
                (
                    "If nobody knows which pair is right, make a new one (step 1, or `bearerwatch keygen`),"
                    " upload its certificate, and give the new key to the integration and to this monitor."
                ),
            ),
            tell_apart=(
                "Our key and certificate pair, and uploading that certificate again cures it; the Login"
                " History shows Failed: Invalid Signature."
            ),
            contested=_EXPIRED,
        ),
        Cause.KEY_CERTIFICATE_MISMATCH: Entry(
            title="Our key and our certificate do not belong together",
            meaning=(
                "The configured private key did not make the configured certificate. If that certificate is"
                " what the app holds, no assertion of ours can be verified."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.OPERATOR,
            kind=Kind.CREDENTIAL,
            needs_exchange=False,
            guide="steps 1 and 2",
            remedy=(
                (
                    "Find the pair: `openssl pkey -in KEY -pubout` and `openssl x509 -in CERT -pubkey"
                    " -noout` must print the same."
                ),
                "Configure the two files that belong together (`private_key`, `certificate`).",
                (
                    "If none do, make a new pair (step 1, or `bearerwatch keygen`) and let an admin upload"
                    " its certificate under Flow Enablement of the app (step 2)."
                ),
            ),
            tell_apart="It is known without asking Salesforce: the two public keys differ.",
        ),
        Cause.NOT_AUTHORIZED: Entry(
            title="The user may not log in this way",
            meaning=(
                "The org knows app and user but refuses this login: an address rule, a missing system"
                " permission, or a session or transaction policy."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.ORG_ADMIN,
            kind=Kind.CREDENTIAL,
            guide="steps 4 and 5",
            settle=PROPAGATION,
            hidden_by=_NOT_ACCEPTED,
            remedy=(
                _POLICIES,
                (
                    "Expand OAuth Policies. Under App Authorization, set IP Relaxation to Relax IP"
                    " restrictions, and click Save."
                ),
                (
                    "In Setup, open Profiles, select the integration user's profile, and see that its Login"
                    " IP Ranges hold the addresses that the integration and this monitor come from, and"
                    " that its Login Hours are open."
                ),
                (
                    "In Setup, open Permission Sets, select the user's set, open System Permissions, and"
                    " check API Enabled."
                ),
                "See Setup > Login History for the status of the refused login: it names the rule.",
                (
                    "A session policy that demands High Assurance, on app or profile, refuses this flow:"
                    " remove it."
                ),
            ),
            tell_apart=(
                "Setup > Login History shows neither Restricted IP nor a missing API permission at the time."
            ),
            contested=(
                f"{_IP} The text `not authorized` itself stands in the guide only: Salesforce's own lists of"
                " errors do not have it."
            ),
        ),
        Cause.IP_RESTRICTED: Entry(
            title="The address or the hour is not allowed",
            meaning=(
                "The user's profile allows logins only from certain addresses or at certain hours, and the"
                " exchange came from elsewhere or at another time."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.ORG_ADMIN,
            kind=Kind.CREDENTIAL,
            shared=True,
            stops_calls=True,
            guide="step 4",
            hidden_by=_NOT_ACCEPTED,
            remedy=(
                (
                    "See Setup > Login History for the source address and the status (Restricted IP or"
                    " Restricted time)."
                ),
                (
                    "In Setup, open Profiles, select the integration user's profile, and add that address"
                    " to Login IP Ranges (IPv6 too, where it is used), or widen Login Hours."
                ),
                (
                    f"{_POLICIES} Under App Authorization, set IP Relaxation to Relax IP restrictions, and"
                    " click Save."
                ),
                (
                    "If the address is only this monitor's, decide whether the monitor should share the"
                    " integration's way out: its verdict holds for its own address."
                ),
                (
                    "If many orgs refuse at the same moment, no org changed, but our own address did: see the"
                    " evidence, and what of our network was moved."
                ),
            ),
            tell_apart=(
                "The same exchange is granted from an address within the profile's Login IP Ranges; the"
                " Login History shows Restricted IP or Restricted time."
            ),
            contested=_IP,
        ),
        Cause.API_DISABLED: Entry(
            title="The user or the org may not use the API",
            meaning=(
                "A token is granted, but the first call with it is refused, as the user lacks API Enabled"
                " or the org's edition has no API."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.ORG_ADMIN,
            kind=Kind.CREDENTIAL,
            stops_calls=True,
            guide="step 5",
            hidden_by=(*_NOT_ACCEPTED, Cause.NOT_AUTHORIZED),
            remedy=(
                (
                    "In Setup, open Permission Sets, select the integration user's set, open System"
                    " Permissions, check API Enabled, and click Save."
                ),
                "See under Manage Assignments that the set is assigned to the user, with Never Expires.",
                (
                    "If the answer speaks of the org, ask the account owner whether the edition includes"
                    " the API."
                ),
            ),
            tell_apart=(
                "The token is granted and only the call after it is refused; or no permission set of the"
                " user has API Enabled."
            ),
        ),
        Cause.PROPAGATION_PENDING: Entry(
            title="A change is still spreading",
            meaning=(
                "It is refused, but it was first seen, or something was changed, minutes ago, and Salesforce"
                " needs 2 to 10 minutes to spread a change of an app to all its servers."
            ),
            severity=Severity.INFO,
            responsible=Responsible.SALESFORCE,
            kind=Kind.CREDENTIAL,
            hold=Hold.SETTLING,
            guide="step 2",
            settle=PROPAGATION,
            remedy=(
                "Wait until the settle time named in the evidence is over: the check is repeated by itself.",
                "If it is refused still, follow the first of the alternatives.",
            ),
            tell_apart="It ends by itself within 10 minutes of the change.",
        ),
        Cause.USERNAME_CHANGED: Entry(
            title="The org does not know the username",
            meaning=(
                "The org has no user of this name. After a sandbox refresh the users have another suffix"
                " (integration@acme.com becomes integration@acme.com.dev), and the app's settings may be"
                " lost as well."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.OPERATOR,
            kind=Kind.CREDENTIAL,
            guide="sandbox refresh",
            hidden_by=_NOT_ACCEPTED,
            remedy=(
                (
                    "In the org, open Setup > Users and read the Username of the integration user: it is"
                    " the username, not the e-mail address, and in a sandbox it usually ends in the"
                    " sandbox's name."
                ),
                "Put it into `username` of this connection and into the integration.",
                (
                    "After a refresh also compare the consumer key (step 3), the certificate (step 2), and"
                    " the app's policies and permission sets (steps 4 and 6): a refresh may reset each of"
                    " them."
                ),
            ),
            tell_apart=(
                "Setup > Users shows another username for the integration user, usually with the sandbox's"
                " name at its end; the sandbox was refreshed at the time of the first refusal."
            ),
            contested=(
                "The guide says that a refresh changes usernames, but no source has the text with which this"
                " flow answers an unknown one: most reports show `user hasn't approved this consumer`. So"
                " compare the username there, too."
            ),
        ),
        Cause.KEY_UNREADABLE: Entry(
            title="The private key or certificate can't be read",
            meaning=(
                "No assertion can be signed: the source is missing, not permitted, encrypted, or not PEM"
                " (or base64 of PEM)."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.OPERATOR,
            kind=Kind.CREDENTIAL,
            needs_exchange=False,
            guide="step 1",
            remedy=(
                "See in the evidence which source is meant and what is wrong with it.",
                (
                    "Give the key as PEM, or as one line of base64 of the PEM file as the guide hands it"
                    " over, without a passphrase, readable for the user that the monitor runs as."
                ),
                "See that private key and certificate are not exchanged for each other.",
            ),
            tell_apart="It is known without asking Salesforce: nothing could be signed.",
        ),
        Cause.KEY_NOT_RSA: Entry(
            title="The private key is not an RSA key",
            meaning="Salesforce accepts RSA signatures only; keys of elliptic curves are refused.",
            severity=Severity.CRITICAL,
            responsible=Responsible.OPERATOR,
            kind=Kind.CREDENTIAL,
            needs_exchange=False,
            guide="step 1",
            remedy=(
                (
                    "Make an RSA pair of at least 2048 bits: the openssl command of step 1, or `bearerwatch"
                    " keygen`."
                ),
                "Let an admin upload its certificate under Flow Enablement of the app (step 2).",
                "Give the new key to the integration and to this monitor.",
            ),
            tell_apart=(
                "It is known without asking Salesforce: `openssl pkey -in KEY -noout -text` shows another"
                " kind."
            ),
        ),
        Cause.KEY_TOO_SHORT: Entry(
            title="The private key is too short",
            meaning=(
                "The key has fewer than the 2048 bits that the guide demands; Salesforce may refuse it, and"
                " it is not safe."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.OPERATOR,
            kind=Kind.CREDENTIAL,
            needs_exchange=False,
            guide="step 1",
            remedy=(
                (
                    "Make an RSA pair of at least 2048 bits: the openssl command of step 1, or `bearerwatch"
                    " keygen`."
                ),
                "Let an admin upload its certificate under Flow Enablement of the app (step 2).",
                "Give the new key to the integration and to this monitor.",
            ),
            tell_apart=(
                "It is known without asking Salesforce: `openssl pkey -in KEY -noout -text` shows the bits."
            ),
        ),
        Cause.KEY_FILE_EXPOSED: Entry(
            title="Others may read the private key",
            meaning=(
                "The key's file is open to other users of the monitor's machine. Whoever reads it can log in"
                " as the integration user, from anywhere, until the certificate is taken out of the app."
            ),
            severity=Severity.WARNING,
            responsible=Responsible.OPERATOR,
            kind=Kind.CREDENTIAL,
            needs_exchange=False,
            remedy=(
                (
                    "Close it: `chmod 600 FILE`, owned by the user as which the monitor runs; or owned by"
                    " root with `chmod 640 FILE`, where that user is in its group."
                ),
                "See who has an account, a backup or a container with that file, and since when.",
                (
                    "If anybody could have read it who may not: make a new pair"
                    " (`bearerwatch rotate NAME --config FILE`)."
                ),
            ),
            tell_apart="It is known without asking Salesforce: `ls -lL FILE` shows r or w for others.",
        ),
        Cause.CERTIFICATE_EXPIRING: Entry(
            title="The certificate is about to expire",
            meaning=(
                "The certificate nears its end. An app holds one certificate, so that its replacement is a"
                " hard change of minutes that wants planning."
            ),
            severity=Severity.WARNING,
            responsible=Responsible.OPERATOR,
            kind=Kind.CREDENTIAL,
            certificate_dates=True,
            needs_exchange=False,
            guide="step 1",
            remedy=(
                (
                    "Make the next pair in time: `bearerwatch rotate NAME --config FILE`, or step 1 of the"
                    " guide."
                ),
                (
                    "Agree on a quiet hour with the org's admin: between the upload (step 2) and the switch"
                    " of the key logins may be refused for 2 to 10 minutes."
                ),
                (
                    "Let the admin upload the new certificate under Flow Enablement, then switch the key of"
                    " the integration and of this monitor."
                ),
            ),
            tell_apart="It is a forecast from the certificate's own dates.",
            contested=_EXPIRED,
        ),
        Cause.CERTIFICATE_EXPIRED: Entry(
            title="The certificate has expired",
            meaning=(
                "The certificate's end has passed. Salesforce is not known to refuse it for certain, but"
                " nobody promises that it won't: logins may stop at any time."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.OPERATOR,
            kind=Kind.CREDENTIAL,
            certificate_dates=True,
            needs_exchange=False,
            guide="step 1",
            remedy=(
                "Make a new pair now: `bearerwatch rotate NAME --config FILE`, or step 1 of the guide.",
                (
                    "Let an admin upload the new certificate under Flow Enablement of the app (step 2),"
                    " then switch the key of the integration and of this monitor."
                ),
            ),
            tell_apart=(
                "The first refusal came within hours of the certificate's end, and a new certificate cures"
                " it where uploading the old one again does not."
            ),
            contested=_EXPIRED,
        ),
        Cause.CERTIFICATE_NOT_YET_VALID: Entry(
            title="The certificate is not valid yet",
            meaning=(
                "The certificate's first day lies ahead: it was made in advance, or on a machine whose"
                " clock is wrong."
            ),
            severity=Severity.WARNING,
            responsible=Responsible.OPERATOR,
            kind=Kind.CREDENTIAL,
            certificate_dates=True,
            needs_exchange=False,
            guide="step 1",
            remedy=(
                "Compare the clocks of this machine and of the one that made the certificate.",
                "If the date is meant, wait for it before the certificate is uploaded; else make a new pair.",
            ),
            tell_apart="It is known without asking Salesforce, from the certificate's own dates.",
        ),
        Cause.JWT_ACCESS_TOKEN: Entry(
            title="The app issues JWT-format access tokens",
            meaning=(
                "The granted token is a JWT. Such tokens serve the REST API only: calls of the Bulk and"
                " Metadata APIs will fail."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.ORG_ADMIN,
            kind=Kind.CREDENTIAL,
            guide="step 2",
            remedy=(
                _SETTINGS,
                (
                    "Under Security, uncheck Issue JSON Web Token (JWT)-based access tokens for named"
                    " users. It is another thing than Enable JWT Bearer Flow, which stays checked."
                ),
                _SAVE,
            ),
            tell_apart="The access token begins with eyJ in place of 00D.",
        ),
        Cause.SCOPE_MISSING: Entry(
            title="A scope is missing",
            meaning=(
                "The app lacks one of the two scopes that this flow needs: api, for the calls, or"
                " refresh_token, without which Salesforce accepts no exchange."
            ),
            severity=Severity.WARNING,
            responsible=Responsible.ORG_ADMIN,
            kind=Kind.CREDENTIAL,
            stops_calls=True,
            guide="step 2",
            settle=PROPAGATION,
            hidden_by=_NOT_ACCEPTED,
            remedy=(
                _SETTINGS,
                (
                    "Under OAuth Settings, Selected OAuth Scopes, add Manage user data via APIs (api) and"
                    " Perform requests at any time (refresh_token, offline_access)."
                ),
                _SAVE,
                (
                    "If users of the app authorise themselves, the user must approve it once more for the"
                    " new scopes."
                ),
            ),
            tell_apart="The app's Selected OAuth Scopes lack api or refresh_token.",
        ),
        Cause.FLOW_DISABLED: Entry(
            title="The JWT bearer flow is not enabled",
            meaning=(
                "The org does not accept this kind of request for the app: Enable JWT Bearer Flow is"
                " unchecked, or OAuth as a whole is."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.ORG_ADMIN,
            kind=Kind.CREDENTIAL,
            guide="step 2",
            settle=PROPAGATION,
            hidden_by=_NO_SUCH_APP,
            remedy=(
                _SETTINGS,
                (
                    "See that Enable OAuth is checked. Under Flow Enablement, check Enable JWT Bearer Flow,"
                    " and upload cert.pem."
                ),
                _SAVE,
            ),
            tell_apart=(
                "Enable JWT Bearer Flow is unchecked, and other clients of this kind are refused as well."
            ),
            contested=(
                "Salesforce does not document what a switched-off flow answers. RFC 6749 (section 5.2) has"
                " `unsupported_grant_type` for it; `invalid assertion` was reported as well (observed)."
            ),
        ),
        Cause.CONSUMER_KEY_UNKNOWN: Entry(
            title="The org does not know the consumer key",
            meaning=(
                "No app of this org has the consumer key: it was copied wrongly, the app was deleted or"
                " made anew, or it is the key of another org."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.OPERATOR,
            kind=Kind.CREDENTIAL,
            wrong_pair=True,
            guide="step 3",
            settle=REPLICATION,
            hidden_by=_UNREACHED,
            remedy=(
                f"{_SETTINGS} Expand OAuth Settings and, under App Settings, click Consumer Key and Secret.",
                (
                    "Copy the Consumer Key with the button, not by eye (l and I, 0 and O look alike), into"
                    " `consumer_key` of this connection and into the integration."
                ),
                "If the app is gone, or the sandbox was refreshed, set the app up again from step 2 on.",
                "See that `subdomain` names the org that the app lives in.",
            ),
            tell_apart=(
                "The Consumer Key shown under Consumer Key and Secret differs from the configured one, or the"
                " app is no longer in the list."
            ),
        ),
        Cause.SUBDOMAIN_UNKNOWN: Entry(
            title="The host name does not exist",
            meaning=(
                "No org answers to this My Domain name: it is misspelt, or the org was renamed or deleted."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.OPERATOR,
            kind=Kind.NETWORK,
            hold=Hold.TRANSIENT,
            network_mimics=True,
            guide="step 7",
            hidden_by=(Cause.NETWORK_UNREACHABLE,),
            remedy=(
                "In the org, open Setup > My Domain and read the current My Domain URL.",
                (
                    "Put its unique part into `subdomain`, in the form of step 7: `acme`,"
                    " `acme--dev.sandbox`, `acme-dev-ed.develop`; or the whole address into `login_url`."
                ),
                "If the org is gone, remove the connection.",
            ),
            tell_apart=(
                "Other My Domain names resolve from the same machine, and this one resolves from nowhere."
            ),
        ),
        Cause.PERMISSION_SET_EXPIRING: Entry(
            title="A permission set assignment ends",
            meaning=(
                "An assignment of a permission set to the user has an end date. If it is the set that the app"
                " selects, the user is no longer approved on that day. Seen only where a connection is"
                " configured with `read_permission_sets: true` and its user has View Setup and Configuration."
            ),
            severity=Severity.WARNING,
            responsible=Responsible.ORG_ADMIN,
            kind=Kind.CREDENTIAL,
            needs_exchange=False,
            guide="step 5",
            remedy=(
                (
                    "In Setup, open Permission Sets, select the set that the evidence names, and click Manage"
                    " Assignments."
                ),
                (
                    "Remove the integration user's assignment and add it again at once (Add Assignment), with"
                    " Expires On set to Never Expires: between the two the app may refuse the user."
                ),
                "If the end is meant, give the user another way to what the set allows before that day.",
            ),
            tell_apart="Manage Assignments shows a date under Expires On.",
        ),
        Cause.APP_NOT_FOUND: Entry(
            title="The app is not in the org that was asked",
            meaning=(
                "The server that was asked knows no such app: External Client Apps are found only at their"
                " own org's address, and the copy of a sandbox may lack them."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.OPERATOR,
            kind=Kind.CREDENTIAL,
            wrong_pair=True,
            settle=REPLICATION,
            hidden_by=_UNREACHED,
            remedy=(
                (
                    "Use the org's own address: `subdomain` (step 7) rather than login or"
                    " test.salesforce.com, and `audience: my_domain`."
                    " `bearerwatch discover NAME --config FILE` tries the sensible pairs once each."
                ),
                "In that org, open Setup > External Client App Manager and see that the app is there.",
                "After a sandbox refresh, set the app up again from step 2 on, and use its new consumer key.",
                (
                    "A connected app of another org must be installed here: Setup > Connected Apps OAuth"
                    " Usage, Install."
                ),
            ),
            tell_apart=(
                "Host or audience is generic, or External Client App Manager of that org does not list the"
                " app."
            ),
        ),
        Cause.CLIENT_INVALID: Entry(
            title="The app can't verify the client",
            meaning=(
                "The org found the app but not a proof that it is us: the app has no certificate, or"
                " another one."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.ORG_ADMIN,
            kind=Kind.CREDENTIAL,
            refuses_signature=True,
            settle=ROTATION,
            hidden_by=_NO_SUCH_APP,
            remedy=(
                _NEXT_FIRST,
                _SETTINGS,
                (
                    "Under Flow Enablement, see that Enable JWT Bearer Flow is checked, and upload the"
                    " certificate that belongs to the key in use."
                ),
                _SAVE,
                "If the app is deployed from source, see that the deployment holds the certificate.",
            ),
            tell_apart=(
                "The app shows no certificate under Flow Enablement, or one with another serial number."
            ),
            contested=(
                "For a certificate that is absent, or not the key's, both `invalid_client` and"
                " `invalid assertion` are reported, by one project even for the same case. Salesforce"
                " documents neither: look at the certificate with either."
            ),
        ),
        Cause.APP_BLOCKED: Entry(
            title="The app is blocked or not installed",
            meaning=(
                "An admin blocked the app, or disabled it, or it is a connected app that was never"
                " installed: since September 2025 most users may not use such an app."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.ORG_ADMIN,
            kind=Kind.CREDENTIAL,
            hidden_by=_UNREACHED,
            remedy=(
                "In Setup, open Connected Apps OAuth Usage, find the app, and click Unblock or Install.",
                (
                    "For an External Client App: in External Client App Manager see that the app, and OAuth"
                    " in it, are enabled."
                ),
                (
                    "If it must stay uninstalled, the user needs the permission Approve Uninstalled"
                    " Connected Apps; Use Any API Client no longer stands in for it (knowledge articles"
                    " 005132365, 005228838)."
                ),
            ),
            tell_apart="Connected Apps OAuth Usage shows the app as blocked, or offers to install it.",
        ),
        Cause.USER_INACTIVE: Entry(
            title="The user is deactivated, frozen or locked",
            meaning=(
                "The integration user may not log in at all. Salesforce itself freezes users whose API"
                " traffic comes from anonymising or high-risk addresses."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.ORG_ADMIN,
            kind=Kind.CREDENTIAL,
            stops_calls=True,
            hidden_by=_NOT_ACCEPTED,
            remedy=(
                "In Setup, open Users and select the integration user.",
                "See that Active is checked; click Unfreeze or Unlock where such a button is shown.",
                (
                    "See Setup > View Setup Audit Trail for who did it and why, before it is undone. After"
                    " a freeze by Salesforce (knowledge article 005318944) change the address first: it"
                    " would happen again."
                ),
            ),
            tell_apart=(
                "Setup > Users shows the user as not Active or offers Unfreeze; the Login History shows"
                " User is inactive or User is frozen."
            ),
        ),
        Cause.ORG_INACTIVE: Entry(
            title="The org is locked, suspended or expired",
            meaning="The whole org is closed to logins: a trial or contract ended, or Salesforce locked it.",
            severity=Severity.CRITICAL,
            responsible=Responsible.ORG_ADMIN,
            kind=Kind.CREDENTIAL,
            stops_calls=True,
            hidden_by=_UNREACHED,
            remedy=(
                (
                    "Let the owner of the Salesforce account ask their account executive or Salesforce"
                    " Support about the state of the org."
                ),
                "If the org is gone for good, remove the connection.",
            ),
            tell_apart="Nobody can log in to the org, people neither.",
        ),
        Cause.IDENTITY_CHANGED: Entry(
            title="Granted for another org or user than before",
            meaning=(
                "The token is for an org or user with another id than the first one seen: the sandbox was"
                " refreshed, or consumer key, username or address now lead elsewhere."
            ),
            severity=Severity.WARNING,
            responsible=Responsible.OPERATOR,
            kind=Kind.CREDENTIAL,
            guide="sandbox refresh",
            remedy=(
                (
                    "If a sandbox was refreshed: see that everything that holds its old org id, record ids"
                    " or tokens is brought up to date, the integration first."
                ),
                (
                    "After a refresh also compare the username's suffix, the consumer key (step 3), the"
                    " certificate (step 2), and the app's policies and permission sets (steps 4 and 6)."
                ),
                (
                    "If nothing was refreshed: find out who changed the address, the app or the user. Until"
                    " then treat what the integration writes as misdirected."
                ),
                "The monitor takes the new identity as its own after a week.",
            ),
            tell_apart="The ids in the grant's identity URL differ from those pinned before.",
        ),
        Cause.LOGIN_RATE_EXCEEDED: Entry(
            title="The user logs in too often",
            meaning=(
                "More than 3,600 logins of this user within an hour: some client logs in for every call."
                " Every login of the user is refused until the hour has passed, production's too."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.OPERATOR,
            kind=Kind.SALESFORCE,
            hold=Hold.THROTTLED,
            hidden_by=_UNREACHED,
            remedy=(
                "See Setup > Login History of the user for the address and application with most logins.",
                (
                    "Let that client keep its access token until a call is refused, in place of a login for"
                    " each call."
                ),
                "Give each integration a user of its own: the limit is counted by user.",
                (
                    "Do not try again at once: each attempt counts towards the limit (knowledge article"
                    " 000381578)."
                ),
            ),
            tell_apart="The Login History of the user shows thousands of logins in the last hour.",
        ),
        Cause.CLOCK_SKEWED: Entry(
            title="Our clock is wrong",
            meaning=(
                "The assertion is valid for three minutes by our clock. If that clock is slow, it has"
                " expired before it arrives, and Salesforce speaks of an expired authorization code."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.OPERATOR,
            kind=Kind.OURS,
            shared=True,
            hidden_by=_UNREACHED,
            remedy=(
                (
                    "Compare `date -u` on the machine of the monitor with a good clock, and see that its"
                    " time service runs (`timedatectl`, `chronyc tracking`)."
                ),
                (
                    "In a virtual machine or container, see the clock of the host: a paused machine wakes"
                    " up slow."
                ),
                (
                    "If the clock is right, look for what holds requests back for minutes (a proxy), or for"
                    " an integration that computes `exp` in local time."
                ),
            ),
            tell_apart="The Date of Salesforce's answer and our clock differ by more than a minute.",
        ),
        Cause.REQUEST_MALFORMED: Entry(
            title="Salesforce could not read the request",
            meaning="The request itself was not understood: a proxy changed it, or this program is at fault.",
            severity=Severity.CRITICAL,
            responsible=Responsible.OPERATOR,
            kind=Kind.CREDENTIAL,
            hidden_by=_UNREACHED,
            remedy=(
                (
                    "See whether a proxy stands between the monitor and Salesforce that rewrites or"
                    " re-encodes bodies."
                ),
                "See that the configured consumer key and username hold no blanks, quotes or line ends.",
                "Reproduce it with the Salesforce CLI (sf org login jwt). If that is granted, report a bug.",
            ),
            tell_apart="The same credential is granted when another client, or another way out, sends it.",
        ),
        Cause.SALESFORCE_UNAVAILABLE: Entry(
            title="Salesforce did not give a proper answer",
            meaning=(
                "A server error, a maintenance page, a broken or empty answer, or none in time. It says"
                " nothing of the credential."
            ),
            severity=Severity.WARNING,
            responsible=Responsible.SALESFORCE,
            kind=Kind.SALESFORCE,
            hold=Hold.TRANSIENT,
            no_verdict=True,
            shared=True,
            network_mimics=True,
            remedy=(
                "Wait: the check is repeated by itself. Most such answers last for minutes.",
                (
                    "If it lasts, see status.salesforce.com for the org's instance (Setup > Company"
                    " Information shows it)."
                ),
                (
                    "If only one org is concerned and no maintenance is announced, open a case with"
                    " Salesforce Support."
                ),
            ),
            tell_apart=(
                "status.salesforce.com shows an incident or maintenance of the instance; the page itself"
                " comes from Salesforce."
            ),
        ),
        Cause.NETWORK_UNREACHABLE: Entry(
            title="The network does not reach Salesforce",
            meaning=(
                "The request never got to Salesforce: name resolution, route, firewall, proxy, or a captive"
                " portal that answers in its place. It says nothing of the credential."
            ),
            severity=Severity.WARNING,
            responsible=Responsible.OPERATOR,
            kind=Kind.NETWORK,
            hold=Hold.TRANSIENT,
            no_verdict=True,
            shared=True,
            remedy=(
                (
                    "From the monitor's machine: `curl -sv https://HOST/services/data/` shows how far a"
                    " request gets."
                ),
                (
                    "See resolver, route, firewall and proxy settings (HTTPS_PROXY, NO_PROXY), and what of"
                    " these changed."
                ),
                (
                    "If other connections fail at the same moment, look at this machine's network before"
                    " any org."
                ),
            ),
            tell_apart=(
                "Other hosts can't be reached from the same machine either, or the answer names a proxy,"
                " firewall or portal."
            ),
        ),
        Cause.TLS_UNTRUSTED: Entry(
            title="The host's TLS certificate is not trusted",
            meaning=(
                "Whoever answered could not prove to be Salesforce: an inspecting proxy, a wrong host name,"
                " or an old list of trusted authorities. Nothing was sent."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.OPERATOR,
            kind=Kind.NETWORK,
            hold=Hold.TRANSIENT,
            no_verdict=True,
            shared=True,
            remedy=(
                "See who issued it: `openssl s_client -connect HOST:443 -servername HOST` prints the issuer.",
                (
                    "If it is your own proxy, exempt Salesforce's hosts from inspection, or let the monitor"
                    " trust the proxy's authority (SSL_CERT_FILE)."
                ),
                (
                    "If the names do not match, see the subdomain (step 7); if the list of authorities is"
                    " old, bring it up to date; if the certificate is said to be expired or not yet valid,"
                    " see the clock."
                ),
            ),
            tell_apart=(
                "The issuer of the certificate is not a public authority, or its names are not the host's."
            ),
        ),
        Cause.MONITOR_FAULT: Entry(
            title="The monitor itself failed",
            meaning=(
                "Our own failure: connections exhausted, the store full, or a bug. It says nothing of the"
                " credential."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.OPERATOR,
            kind=Kind.OURS,
            hold=Hold.TRANSIENT,
            no_verdict=True,
            shared=True,
            needs_exchange=False,
            remedy=(
                (
                    "See the monitor's log of that moment, its /-/ready page, free memory, file handles and"
                    " disk space."
                ),
                "If it happens with many connections, raise the interval, or spread them over two monitors.",
                "If the log shows a traceback, report it as a bug.",
            ),
            tell_apart="The monitor's own log tells of it.",
        ),
        Cause.UNRECOGNISED: Entry(
            title="An answer that no rule knows",
            meaning=(
                "Salesforce refused in words that are in no source known to this program. They stand in the"
                " evidence."
            ),
            severity=Severity.CRITICAL,
            responsible=Responsible.OPERATOR,
            kind=Kind.CREDENTIAL,
            remedy=(
                "See Setup > Login History of the user: its status is often plainer than the answer.",
                "Reproduce it with the Salesforce CLI (sf org login jwt).",
                "Report the answer, so that a rule can be made of it.",
            ),
            tell_apart="The answer fits none of the documented texts.",
        ),
    }
)
"""Every cause has its entry: what the alerts, pages, runbooks and diagnoses say of it."""


def causes_where(holds: Callable[[Entry], object]) -> frozenset[Cause]:
    """The causes for whose entry this holds."""
    return frozenset(cause for cause, entry in CATALOGUE.items() if holds(entry))
