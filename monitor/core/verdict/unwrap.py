"""Removes the encodings around a pasted text: line ends, HTML, percent-encoding, JSON within JSON."""

import re
from urllib.parse import unquote

from monitor.core.verdict.answer import html_unescaped

ESCAPED_AT_MOST = 4
"""How often to unescape: JSON in a JSON log line in a message is three levels deep."""

_BACKSLASHED = re.compile(r"(?<!\w)[A-Za-z]:\\[^\s\"']{0,300}|\\(u[0-9a-fA-F]{4}|[\"'\\/nrt])")
_PERCENT = re.compile(r"(?:%[0-9a-fA-F]{2})+")
_QUOTED = re.compile(r"^(?:> ?)+", re.MULTILINE)
_DOUBLED = re.compile(r'(?<=[{\[,:])""(?=\w)|(?<=\w)""(?=[:,}\]])')
_STAMP = re.compile(
    r"^(?:[\w.-]{1,60}[-_]\d{1,3} *\| |\[pod/\S{1,200}\] "
    r"|[A-Z][a-z]{2} [ \d]?\d [\d:]{8} \S{1,60} \S{1,60}\[\d{1,9}\]: "
    r"|\d{4}-\d\d-\d\d[T ][\d:]{8}[\d.,]{0,10}(?:Z|[+-]\d\d:?\d\d)? )+",
    re.MULTILINE,
)
"""What containers, the journal and runners put before each line. A word without a number may be a code."""

_QUERIED = re.compile(r"error_description=(?:[^\s&\"']|'(?=\w)){1,400}")
_TYPOGRAPHIC = str.maketrans(dict.fromkeys("“”„«»", '"') | dict.fromkeys("‘’ʼ‚´`", "'"))


def unwrapped(text: str) -> str:
    """The bare text, with runs of blanks collapsed."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_TYPOGRAPHIC)
    for _ in range(ESCAPED_AT_MOST):
        before = text
        text = _BACKSLASHED.sub(_unescaped, text)
        text = html_unescaped(text).translate(_TYPOGRAPHIC)
        text = _PERCENT.sub(lambda found: unquote(found[0]), text)
        if text == before:
            break
    if "\n< " not in text:  # as in curl's output, where > marks the request
        text = _QUOTED.sub("", text)
    text = _STAMP.sub("", text)
    text = _DOUBLED.sub('"', text)
    text = _QUERIED.sub(lambda found: found[0].replace("+", " "), text)
    return "\n".join(" ".join(line.split()) for line in text.split("\n")).strip()


def _unescaped(found: re.Match[str]) -> str:
    what = found[1]
    if what is None:
        return found[0]  # a Windows path
    if what.startswith("u"):
        return chr(int(what[1:], 16)) if not 0xD800 <= int(what[1:], 16) <= 0xDFFF else "?"
    return {"n": "\n", "r": "\n", "t": " "}.get(what, what)
