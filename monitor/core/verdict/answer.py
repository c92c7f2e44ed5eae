"""Parses HTTP answers of the token endpoint or of a first REST call into the facts of an Outcome.

1. A body may be JSON, form-encoded, XML or plain text, whatever its `Content-Type` says.
2. Only a 2xx answer with an access token and without an error is a grant.
3. If it is not an OAuth error, an excerpt is kept to show what came instead.
4. Nothing that is kept contains a token, assertion, key, or terminal control characters.
"""

import contextlib
import html
import json
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from html.parser import HTMLParser
from typing import cast
from urllib.parse import parse_qsl

from monitor.core.connection import ALLOWED_SUFFIXES, origin_of
from monitor.core.outcome import AfterLogin, Granted, Refused

CODE_LIMIT = 80
"""Characters kept of an error code; Salesforce's longest has 60."""

TEXT_LIMIT = 300
"""Characters kept of a description or excerpt: a few lines on a page."""

EXCERPT_LIMIT = TEXT_LIMIT + 2 * CODE_LIMIT
"""Characters of an excerpt including its prefix: the server's name, a redirect's target."""

READ_LIMIT = 16_384
"""Characters that `harmless` examines: anything after that is never shown."""

SCOPES_LIMIT = 100
"""Scopes kept of a grant; Salesforce documents about thirty. They are stored at every check."""

RETRY_AFTER_LIMIT_SECONDS = 86_400.0
"""The longest `Retry-After` that is believed: more than a day is an error or an attack."""

HTML_PAGE = "HTML page:"
"""Prefix of a web page's excerpt, so that its prose is not mistaken for an error text."""

REDIRECT = "Redirect to "
"""Prefix of a redirect's excerpt; the target follows, without its query."""

NOT_SHOWN = "not shown"
"""The excerpt if a client printed only the status."""

_MASK = "[masked]"

_SECRETS = (
    re.compile(r"-----BEGIN [^-]{1,40}-----.*?(?:-----END [^-]{1,40}-----|$)", re.DOTALL),
    re.compile(r"eyJ[\w-]{4,}(?:\.[\w-]*)*"),
    re.compile(r"00D\w{9,15}(?:!|%21)[^\s\"'<&,;]*"),
)
"""PEM, JWT, session id."""

_LONG_RUN = re.compile(
    rf"""(?P<host>https?://(?:[a-z0-9-]{{1,63}}\.)+[a-z]{{2,63}}(?:/|(?![\w.-]))
        |(?<![A-Za-z0-9.-])[a-z0-9-]{{1,63}}(?:\.[a-z0-9-]{{1,63}}){{0,3}}
            (?:{"|".join(map(re.escape, ALLOWED_SUFFIXES))})(?![\w.-]))
    |[A-Za-z0-9+/_=-]{{40,}}""",
    re.VERBOSE,
)
"""A run too long to be a word: a key or signature, unless it contains no digit (a long error code). Consumer
keys match too. Host names do not, though a sandbox's first label may have 46 characters."""

_NAMED_SECRET = re.compile(
    r"""((?:access_token|refresh_token|assertion|client_secret|password|sid|Bearer)
        (?:\s*=\s*|"\s*:\s*"|>))[^\s"'<&,;}]+""",
    re.IGNORECASE | re.VERBOSE,
)

_TERMINAL_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")

_IDENTITY = re.compile(
    r"/id/(00D[A-Za-z0-9]{12}(?:[A-Za-z0-9]{3})?)/(005[A-Za-z0-9]{12}(?:[A-Za-z0-9]{3})?)\b"
)

_HTML_START = re.compile(
    r"\s*(?:<\?xml[^<>]*\?>\s*)?(?:(?><!--.*?-->)\s*)*+<(?:!doctype\s+html|html|head|body|title|script|style|meta|h1|center|p|div)\b",
    re.IGNORECASE | re.DOTALL,
)

_CHARSETS = frozenset(
    {
        "utf-8",
        "utf-8-sig",
        "utf-16",
        "utf-16-be",
        "utf-16-le",
        "utf-32",
        "utf-32-be",
        "utf-32-le",
        "us-ascii",
        "iso-8859-1",
        "iso-8859-15",
        "windows-1252",
    }
)
"""The charsets accepted from `Content-Type`: some codecs take minutes on a hostile body."""

_SITE_FIELDS = frozenset({"sfdc_community_url", "sfdc_site_url"})
"""Present only in grants to users of Experience Cloud sites."""

_JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")

_CODED_TEXT = re.compile(r"\s*([A-Za-z]+(?:_[A-Za-z]+)+)\s*(?:[:=-]\s*(.*))?$", re.DOTALL)
"""Plain text that starts with a code: `invalid_grant: …`, `Bad_OAuth_Token`."""

_XML_COMMENT_OR_CDATA = re.compile(r"<!--.*?(?:-->|\Z)|<!\[CDATA\[(.*?)(?:\]\]>|\Z)", re.DOTALL)
_XML_ELEMENT = re.compile(r"<(?:[\w.-]{1,80}:)?([\w.-]{1,80})(?:\s[^<>]*)?(?<!/)>([^<]*)</")

_HUGE_REFERENCE = re.compile(r"&#\d{8,}")
"""A number that no character has. Python raises ValueError for one of thousands of digits."""

_CODE_FIELDS = ("error", "errorCode", "error_code", "exceptionCode", "faultcode", "code")
_TEXT_FIELDS = (
    "error_description",
    "errorDescription",
    "message",
    "exceptionMessage",
    "faultstring",
    "detail",
)


def read_answer(status: int, headers: Mapping[str, str], body: bytes) -> Granted | Refused:
    """Parse the token endpoint's answer: anything but a grant is a Refused, even a page or an empty body."""
    known = {name.lower(): value for name, value in headers.items()}
    text = _decode(body, known.get("content-type", ""))
    fields = _fields(text)
    code, description = _error(fields, text)
    token = _string(fields, "access_token").strip()
    if 200 <= status < 300 and token and not code:
        return _granted(token, fields)
    excerpt = ""
    if not code and not description:
        excerpt = harmless(_excerpt(text))
        if "server" in known:
            excerpt += f" (Server: {harmless(known['server'], CODE_LIMIT)})"
    if 300 <= status < 400 and "location" in known:
        excerpt = f"{REDIRECT}{_without_query(known['location'])} {excerpt}"
    return Refused(
        status=status,
        error=harmless(code, CODE_LIMIT),
        description=harmless(description),
        excerpt=harmless(excerpt, EXCERPT_LIMIT),
        retry_after_seconds=_retry_after(known),
    )


def read_after_login(status: int, body: bytes) -> AfterLogin:
    """Parse the first REST call's answer. A success is JSON, not a portal's page."""
    text = _decode(body, "")
    fields = _fields(text)
    if 200 <= status < 300 and text.lstrip()[:1] in {"{", "["}:
        return AfterLogin(status, "", "")
    code, message = _error(fields, text)
    if not code and not message:
        message = _excerpt(text).strip() or "The answer is empty."
    return AfterLogin(status, harmless(code, CODE_LIMIT), harmless(message))


def token_in(body: bytes) -> str:
    """The access token in a grant's body, for the call that follows; empty if none. Never store it."""
    return _string(_fields(_decode(body, "")), "access_token").strip()


def harmless(text: str, limit: int = TEXT_LIMIT) -> str:
    """One bounded line, safe to show: without control or direction characters, secrets masked."""
    text = _TERMINAL_SEQUENCE.sub("", text[:READ_LIMIT])
    text = "".join(
        " " if character.isspace() else character
        for character in text
        if character.isspace() or not unicodedata.category(character).startswith("C")
    )
    text = _LONG_RUN.sub(
        lambda run: run[0] if run["host"] or not any(map(str.isdigit, run[0])) else _MASK, masked(text)
    )
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def html_unescaped(text: str) -> str:
    """The text with HTML's escapes replaced, once."""
    return html.unescape(_HUGE_REFERENCE.sub("\ufffd", text))


def masked(text: str) -> str:
    """The text with everything masked that looks like a secret (PEM, JWT, session id) or is named as one."""
    for secret in _SECRETS:
        text = secret.sub(_MASK, text)
    return _NAMED_SECRET.sub(rf"\1{_MASK}", text)


def _granted(token: str, fields: Mapping[str, object]) -> Granted:
    identity = _IDENTITY.search(_string(fields, "id"))
    scopes = fields.get("scope")
    if isinstance(scopes, list):
        scopes = " ".join(scope for scope in scopes if isinstance(scope, str))
    is_jwt = bool(_JWT.fullmatch(token)) or _string(fields, "token_format").lower() == "jwt"
    return Granted(
        token_format="jwt" if is_jwt else "opaque",
        scopes=_scopes(scopes) if isinstance(scopes, str) else None,
        instance_url=origin_of(_string(fields, "instance_url")),
        org_id=identity[1] if identity else None,
        user_id=identity[2] if identity else None,
        of_site=not _SITE_FIELDS.isdisjoint(fields),
    )


@lru_cache(maxsize=32)
def _scopes(text: str) -> frozenset[str]:
    """A grant's scopes. Cached, as all grants of an app have the same ones."""
    scopes = text.replace(",", " ").split()
    return frozenset(harmless(scope, CODE_LIMIT) for scope in scopes[:SCOPES_LIMIT])


def _string(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _error(fields: Mapping[str, object], whole: str) -> tuple[str, str]:
    """Code and text of an error, from any of their usual field names, or from plain text."""
    if not fields and not _is_html(whole) and (coded := _CODED_TEXT.match(whole[:READ_LIMIT])):
        return coded[1], coded[2] or ""
    nested = fields.get("error")
    if isinstance(nested, dict):
        fields = {**fields, **cast("dict[str, object]", nested)}
    code = next((text for name in _CODE_FIELDS if (text := _string(fields, name).strip())), "")
    text = next((text for name in _TEXT_FIELDS if (text := _string(fields, name).strip())), "")
    if "faultcode" in fields:
        code = code.rpartition(":")[2]
    return code, html_unescaped(text)  # proxies and portals escape it


def _decode(body: bytes, content_type: str) -> str:
    """The body as text. Its own marks take precedence, as servers often name a wrong charset."""
    named = re.search(r"charset\s*=\s*[\"']?([\w-]+)", content_type.lower())
    for charset in (json.detect_encoding(body), named[1] if named else "utf-8"):
        if charset in _CHARSETS:
            with contextlib.suppress(UnicodeError, LookupError):
                return body.decode(charset).lstrip("\ufeff")
    return body.decode("utf-8", errors="replace").lstrip("\ufeff")


def _fields(text: str) -> dict[str, object]:
    """The named values of a JSON, XML or form-encoded text; empty for other formats."""
    start = text.lstrip()[:1]
    if start in {"{", "["}:
        return _json_fields(text)
    if start == "<":
        return {} if _is_html(text) else _xml_fields(text)
    if re.match(r"\s*[\w.]+=", text) and ("error=" in text or "access_token=" in text):
        try:
            return dict(parse_qsl(text.strip(), max_num_fields=100))
        except ValueError:
            return {}
    return {}


def _json_fields(text: str) -> dict[str, object]:
    try:
        # Numbers don't matter here, and converting a million digits would take seconds.
        value = json.loads(text, parse_int=_nothing, parse_float=_nothing, parse_constant=_nothing)
    except (ValueError, RecursionError):
        return {}
    if isinstance(value, list):
        value = value[0] if value else None
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _nothing(_: str) -> None:
    """Ignore a number."""


def _xml_fields(text: str) -> dict[str, object]:
    """The text of the first XML element of each local name. Needs no parser, so nothing is ever expanded."""
    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", text)
    text = _XML_COMMENT_OR_CDATA.sub(lambda found: html.escape(found[1] or ""), text)
    if "<!DOCTYPE" in text or "<?" in text:
        return {}  # never in an answer
    found = [(element[1], html_unescaped(element[2]).strip()) for element in _XML_ELEMENT.finditer(text)]
    return dict(reversed(found))


def _is_html(text: str) -> bool:
    return _HTML_START.match(text, 0, READ_LIMIT) is not None


def _excerpt(text: str) -> str:
    """The start of a body that is not an OAuth error; for a web page, its visible words."""
    if not _is_html(text):
        return text
    reader = _VisibleText()
    with contextlib.suppress(AssertionError):  # raised by html.parser for unknown declarations
        reader.feed(_HUGE_REFERENCE.sub("\ufffd", text[:READ_LIMIT]))
    return " ".join([HTML_PAGE, *reader.words])


class _VisibleText(HTMLParser):
    """Collects a page's visible words, without scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._hidden = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = tag in {"script", "style"}
        # The target of a refresh or form shows whose page it is.
        if tag in {"meta", "form"}:
            targets = (value for name, value in attrs if value and name in {"content", "action"})
            self.words += [f"({_without_query(target)})" for target in targets if "http" in target]

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden and data.strip():
            self.words.append(data.strip())


def _without_query(location: str) -> str:
    return re.split(r"[?#]", location, maxsplit=1)[0]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in seconds; a date is relative to the answer's `Date`."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(?:\.\d{1,6})?", value):
        return min(float(value), RETRY_AFTER_LIMIT_SECONDS)
    until, now = http_date(value), http_date(headers.get("date", ""))
    if until is None or now is None:
        return None
    return min(max((until - now).total_seconds(), 0.0), RETRY_AFTER_LIMIT_SECONDS)


def http_date(text: str) -> datetime | None:
    """An HTTP date; one without a time zone (`-0000`) is UTC. None if it is not valid."""
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return date.replace(tzinfo=date.tzinfo or UTC)
