"""What an HTTP answer says: bytes of the token endpoint or of a first REST call in, an Outcome's facts out.

1. A body may be JSON, form-encoded, XML or plain text, whatever its `Content-Type` claims.
2. Only a 2xx answer with an access token, and without an error, is a grant.
3. What is not an OAuth error is kept as an excerpt, so that a person can see what came instead.
4. Nothing that is kept can hold a token, an assertion, a key, or characters that move a terminal's cursor.
"""

import contextlib
import html
import json
import re
import unicodedata
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache
from html.parser import HTMLParser
from typing import cast
from urllib.parse import parse_qsl
from xml.parsers import expat

from monitor.core.connection import ALLOWED_SUFFIXES, origin_of
from monitor.core.outcome import AfterLogin, Granted, Refused

CODE_LIMIT = 80
"""Characters kept of an error code; the longest that Salesforce documents has 60."""

TEXT_LIMIT = 300
"""Characters kept of a description or excerpt: a few lines on a page, and no ledger of strangers' words."""

EXCERPT_LIMIT = TEXT_LIMIT + 2 * CODE_LIMIT
"""Characters of an excerpt with what stands around it: the name of the server, where a redirect leads."""

READ_LIMIT = 16_384
"""Characters that `harmless` looks at: what stands further back is never shown."""

SCOPES_LIMIT = 100
"""Scopes of a grant that are kept; Salesforce documents some thirty. They are written at every check."""

RETRY_AFTER_LIMIT_SECONDS = 86_400.0
"""The longest `Retry-After` that is believed: more than a day is an error or an attack, not a wish."""

HTML_PAGE = "HTML page: "
"""How the excerpt of a web page begins, so that its prose is never taken for an error text."""

REDIRECT = "Redirect to "
"""How the excerpt of a redirect begins; the target follows, without its query."""

NOT_SHOWN = "not shown"
"""The excerpt of an answer of which a client printed the status alone."""

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
"""Too long to be a word: a key, a signature or a part of one, unless it holds no digit (a long error code).
A consumer key is such a run too. A host name is not, though the first label of a sandbox's may have 46
characters."""

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
    r"\s*(?:(?><!--.*?-->)\s*)*+<(?:!doctype\s+html|html|head|body|title|script|style|meta|h1|center|p|div)\b",
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
"""The charsets of a `Content-Type` that are followed: some codecs take minutes on a hostile body."""

_SITE_FIELDS = frozenset({"sfdc_community_url", "sfdc_site_url"})
"""Only a grant to a user of an Experience Cloud site has one of these."""

_JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")

_CODED_TEXT = re.compile(r"\s*([A-Za-z]+(?:_[A-Za-z]+)+)\s*(?:[:=-]\s*(.*))?$", re.DOTALL)
"""Plain text with a code in front: `invalid_grant: …`, `Bad_OAuth_Token`."""

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
    """What the token endpoint's answer says. Header names may be in any case.

    Whatever is no grant is a Refused, also a web page or an empty body: the diagnosis tells them apart.
    """
    known = {name.lower(): value for name, value in headers.items()}
    text = _decode(body, known.get("content-type", ""))
    fields = _fields(text)
    code, description = _error(fields)
    token = fields.get("access_token")
    if 200 <= status < 300 and isinstance(token, str) and token.strip() and not code:
        return _granted(token.strip(), fields)
    if not fields and not _is_html(text) and (coded := _CODED_TEXT.match(text[:READ_LIMIT])):
        code, description = coded[1], coded[2] or ""
    excerpt = "" if code or description else harmless(_excerpt(text))
    if not (code or description) and "server" in known:
        excerpt = f"{excerpt} (Server: {harmless(known['server'], CODE_LIMIT)})"
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
    """What the first REST call's answer says; its `error` is empty where the call succeeded."""
    if 200 <= status < 300:
        return AfterLogin(status, "", "")
    text = _decode(body, "")
    fields = _fields(text)
    code, message = _error(fields)
    if not fields and not _is_html(text) and (coded := _CODED_TEXT.match(text[:READ_LIMIT])):
        code, message = coded[1], coded[2] or ""
    if not code and not message:
        message = _excerpt(text)
    return AfterLogin(status, harmless(code, CODE_LIMIT), harmless(message))


def token_in(body: bytes) -> str | None:
    """The access token of a grant's body: for the one call that follows, never to be kept."""
    token = _fields(_decode(body, "")).get("access_token")
    return token.strip() or None if isinstance(token, str) else None


def harmless(text: str, limit: int = TEXT_LIMIT) -> str:
    """The text as it may be shown: one line, bounded, no control or direction characters, secrets masked."""
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


def masked(text: str) -> str:
    """The text without what has the shape of a secret: PEM, JWT, session id, and what is named as one."""
    for secret in _SECRETS:
        text = secret.sub(_MASK, text)
    return _NAMED_SECRET.sub(rf"\1{_MASK}", text)


def _granted(token: str, fields: Mapping[str, object]) -> Granted:
    identity = _IDENTITY.search(_string(fields, "id"))
    instance = origin_of(_string(fields, "instance_url"))
    scopes = fields.get("scope")
    if isinstance(scopes, list):
        scopes = " ".join(scope for scope in scopes if isinstance(scope, str))
    is_jwt = bool(_JWT.fullmatch(token)) or _string(fields, "token_format").lower() == "jwt"
    return Granted(
        token_format="jwt" if is_jwt else "opaque",
        scopes=_scopes(scopes) if isinstance(scopes, str) else None,
        instance_url=instance,
        org_id=identity[1] if identity else None,
        user_id=identity[2] if identity else None,
        of_site=not _SITE_FIELDS.isdisjoint(fields),
    )


@lru_cache(maxsize=32)
def _scopes(text: str) -> frozenset[str]:
    """The scopes of a grant. Remembered, as one app's grants all have the same."""
    scopes = [scope for scope in re.split(r"[\s,]+", text.strip()) if scope]
    return frozenset(harmless(scope, CODE_LIMIT) for scope in scopes[:SCOPES_LIMIT])


def _string(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _error(fields: Mapping[str, object]) -> tuple[str, str]:
    """Code and text of an error, under whichever of their usual names they stand."""
    nested = fields.get("error")
    if isinstance(nested, dict):
        fields = {**fields, **cast("dict[str, object]", nested)}
    code = next((text for name in _CODE_FIELDS if (text := _string(fields, name).strip())), "")
    text = next((text for name in _TEXT_FIELDS if (text := _string(fields, name).strip())), "")
    if "faultcode" in fields:
        code = code.rpartition(":")[2]
    return code, html.unescape(text)  # proxies and portals escape what they pass on


def _decode(body: bytes, content_type: str) -> str:
    """The body's text: by its own marks first, as servers often name a wrong charset."""
    named = re.search(r"charset\s*=\s*[\"']?([\w-]+)", content_type.lower())
    for charset in (json.detect_encoding(body), named[1] if named else "utf-8"):
        if charset in _CHARSETS:
            with contextlib.suppress(UnicodeError, LookupError):
                return body.decode(charset).lstrip("\ufeff")
    return body.decode("utf-8", errors="replace").lstrip("\ufeff")


def _fields(text: str) -> dict[str, object]:
    """The named values of a JSON, XML or form-encoded text; empty where it is none of them."""
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
        # None of the numbers matters here, and to make one of a million digits would cost seconds.
        value = json.loads(text, parse_int=_nothing, parse_float=_nothing, parse_constant=_nothing)
    except (ValueError, RecursionError):
        return {}
    if isinstance(value, list):
        value = value[0] if value else None
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _nothing(_: str) -> None:
    """In place of a number."""


class _ForbiddenDoctype(Exception):  # noqa: N818 - it never leaves this module
    """An XML text that declares a document type: only then can it hold entities that expand."""


def _xml_fields(text: str) -> dict[str, object]:
    """The texts of an XML document's elements by their local names, the first of each name."""
    fields: dict[str, object] = {}
    open_texts: list[list[str]] = []

    def start(_name: str, _attributes: object) -> None:
        open_texts.append([])

    def characters(data: str) -> None:
        open_texts[-1].append(data)

    def end(name: str) -> None:
        fields.setdefault(name.rpartition(":")[2], "".join(open_texts.pop()).strip())

    def refuse(*_: object) -> None:
        raise _ForbiddenDoctype

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.CharacterDataHandler = characters
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = refuse
    try:
        # The text is decoded already, so what the declaration says of its encoding no longer holds.
        parser.Parse(re.sub(r"^\s*<\?xml[^>]*\?>", "", text).encode(errors="replace"), True)
    except (expat.ExpatError, _ForbiddenDoctype, ValueError):
        return {}
    return fields


def _is_html(text: str) -> bool:
    return _HTML_START.match(text, 0, READ_LIMIT) is not None


def _excerpt(text: str) -> str:
    """The start of a body that is no OAuth error; of a web page, the words that a reader would see."""
    if not _is_html(text):
        return text
    reader = _VisibleText()
    with contextlib.suppress(AssertionError):  # html.parser's, for a declaration that it doesn't know
        reader.feed(text[:READ_LIMIT])
    return HTML_PAGE + " ".join(reader.words)


class _VisibleText(HTMLParser):
    """Collects the words of a page, without its scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._hidden = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = tag in {"script", "style"}
        # A page whose refresh or form sends the reader on tells by its target whose page it is.
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
    """`Retry-After` in seconds; a date in it is counted from the answer's own `Date`."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(?:\.\d{1,6})?", value):
        return min(float(value), RETRY_AFTER_LIMIT_SECONDS)
    try:
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(wait.total_seconds(), 0.0), RETRY_AFTER_LIMIT_SECONDS)
