"""Recognises Salesforce's codes and sentences in any text. `vocabulary.toml` has the words."""

import re
import tomllib
from collections.abc import Iterator
from importlib.resources import files

WORDS = tomllib.loads(files(__package__).joinpath("vocabulary.toml").read_text(encoding="utf-8"))
"""The tables of the file, which is part of the package and is read once, at import."""

CODE = re.compile(
    r"(?<![\w.-])(invalid_grant|invalid_app_access|invalid_client_id|invalid_client|app_not_found"
    r"|unsupported_grant_type|invalid_request|unknown_error|server_error|temporarily_unavailable"
    r"|inactive_user|inactive_org|rate_limit_exceeded|login_rate_exceeded|unauthorized_client|invalid_scope"
    r"|access_denied|invalid_assertion|oauth_[a-z_]{3,50}|login_(?:error|oauth|saml|org)_[a-z_]{3,50}"
    r"|login_twofactor_req|login_lightning_login|login_during_[a-z_]{3,50}|invalid_login|invalid_?session_?id"
    r"|request_limit_exceeded|api_currently_disabled|api_disabled_for_org|invalid_jwt_format"
    r"|invalid_auth_header|bad_oauth_token|missing_oauth_token|org_locked|org_in_maintenance|trial_expired"
    r"|password_lockout|txn_security_[a-z_]{3,50}|server_unavailable|insufficient_access[a-z_]{0,50}"
    r"|functionality_temporarily_unavailable|unsupported_api_version)(?!\w)",
    re.IGNORECASE,
)
"""Codes of the token endpoint, of the REST API, of SOAP and of event logs."""

FOREIGN = re.compile(r"\baadsts\d", re.IGNORECASE)
"""Microsoft Entra's error numbers. It uses the same OAuth codes, and clients fetch their keys through it."""

OTHER_SERVICES = re.compile(
    r"psycopg|\bpsql\b|\bpq: |sqlstate|mysql|using password|postgres|mongo|\bredis\b|\bldap|\bsmtp"
    r"|publickey|response from daemon|security token included in the request"
    r"|password authentication failed|\b(relation|role|column|table) \"|github api|failed to pull image"
    r"|\bora-\d{5}|\bimap|botocore"
    r"|\b(slack|okta|stripe|sendgrid|kafka|rabbitmq|snowflake)\b",
    re.IGNORECASE,
)
"""Other services in an integration's log."""

SAY_LITTLE = frozenset(WORDS["say_little"])
"""Codes shared by many causes: a text next to them, or anywhere in the paste, says more."""

STATUSES: dict[str, str] = WORDS["statuses"]
"""The status in Login History by the code in an event log."""

_DISTINCTIVE_WORDS = 3
"""A status with this many words is distinctive. Shorter ones, such as `invalid password`, count only in
Salesforce's spelling or by themselves."""


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each sentence of Salesforce's and each Login History status."""
    lowered = text.translate(_LOWER)
    for sentence in dict.fromkeys((*WORDS["sentences"], *STATUSES.values())):
        sought = sentence.lower()
        weak = sentence not in WORDS["sentences"] and len(sentence.split()) < _DISTINCTIVE_WORDS
        start = lowered.find(sought)
        while start >= 0:
            end = start + len(sought)
            before, after = text[start - 1 : start], text[end : end + 1]
            alone = before in _EDGES and after in _EDGES
            if not (before.isalpha() or after.isalpha() or (weak and not alone and text[start].islower())):
                yield start, end
            start = lowered.find(sought, end)


def is_of_another_service(text: str) -> bool:
    """Whether the words next to it are not about Salesforce. A host of Salesforce's says that they are."""
    return OTHER_SERVICES.search(text) is not None and "salesforce.com" not in text.lower()


def is_salesforces(code: str, text: str) -> bool:
    """Whether an error's code or text is Salesforce's own. Many services share OAuth's codes."""
    return not FOREIGN.search(text) and (
        CODE.fullmatch(code) is not None or next(sentences(text), None) is not None
    )


_EDGES = frozenset("\n,;|\"'<>[](){}=") | {""}
_LOWER = str.maketrans({**{chr(code): chr(code + 32) for code in range(65, 91)}, "\n": " "})
"""Lower-cases without changing positions: `str.lower` makes some texts longer."""
