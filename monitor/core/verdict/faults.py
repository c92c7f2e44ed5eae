"""Recognises faults before an answer in clients' messages, made `plain`, by `vocabulary.toml`."""

import re

from monitor.core.causes import Cause
from monitor.core.outcome import FaultKind
from monitor.core.verdict.vocabulary import WORDS

_TRUSTED_LISTS = re.compile(r"\bca\b|trust.?store|cacert|ca.?bundle|ca.?file|\bssl cert")
"""Files of trusted authorities: if one can't be read, our key is not at fault."""

_KEYS = [(Cause(row["cause"]), re.compile("|".join(row["patterns"]))) for row in WORDS["keys"]]
_FAULTS = [(FaultKind(row["kind"]), re.compile("|".join(row["patterns"]))) for row in WORDS["faults"]]

ORDER = tuple(reversed(dict.fromkeys(kind for kind, _ in reversed(_FAULTS))))
"""The kinds, most informative first."""

SETTING = re.compile(
    r"\b\w{1,40}[\"']? ?[:=] ?[\"']?(\d[\d.]{0,9}m?s?|true|false|null|none|undefined)\b"
    r"|\btime.?out (\w{2,10} (to|as|at) )?\d{1,9} ?([mh]|m?s|min|sec|seconds|minutes|hours)\b"
    r"(?! ?(elapsed|exceeded|expired|reached))",
    re.IGNORECASE,
)
"""Settings that clients print along with an error: `connectTimeout: 5000`, `timeout set to 30 s`."""

NO_SUCH_NAME = re.compile("|".join(WORDS["no_such_name"]))

_SLOW_WORK = re.compile("|".join(WORDS["slow_work"]))

NOT_TLS = re.compile("|".join(WORDS["not_tls"]))

BROKEN_OFF = re.compile(
    r"^(?!.*(trust|verif|issuer))"
    r".*(eof occurred|unexpected eof|end of file|connection (was )?(reset|closed|aborted)|reset by peer"
    r"|closed (the )?connection|timed out|time.?out|terminated (during|the) |shut down )"
)
"""The connection ended during the handshake, which says nothing about trust."""


def of_key(text: str) -> Cause | None:
    """The key problem in a normalised text, if any."""
    if _TRUSTED_LISTS.search(text):
        return None
    return next((cause for cause, pattern in _KEYS if pattern.search(text)), None)


def kind_of(text: str) -> FaultKind | None:
    """The fault in a normalised text, if any."""
    text = _SLOW_WORK.sub(" ", SETTING.sub(" ", text))
    return next((kind for kind, pattern in _FAULTS if pattern.search(text)), None)
