"""What pydantic found wrong in a block of options, in words for the operator."""

from collections.abc import Iterator

from pydantic import ValidationError

from monitor.config import words
from monitor.config.options import (
    MOST_LABELS,
    ApprovalOptions,
    ConnectionOptions,
    ExpiryOptions,
    GeneralOptions,
    Options,
    PairOptions,
    SourceOptions,
    WebOptions,
)
from monitor.config.text import Path

BLOCKS: dict[str | int, type[Options]] = {
    "private_key": SourceOptions,
    "certificate": SourceOptions,
    "next": PairOptions,
    "approval": ApprovalOptions,
    "certificate_expiry": ExpiryOptions,
    "web": WebOptions,
}
"""The options that are blocks themselves, and what may stand in them."""

OTHER_NAMES = {
    "aud": "audience",
    "cert": "certificate",
    "client_id": "consumer_key",
    "customer_key": "consumer_key",
    "domain": "subdomain",
    "expires": "certificate_not_after",
    "host": "login_url",
    "instance_url": "login_url",
    "iss": "consumer_key",
    "key": "private_key",
    "key_file": "private_key",
    "my_domain": "subdomain",
    "path": "file",
    "private_key_file": "private_key",
    "reload": "enable_reload",
    "sub": "username",
    "tags": "labels",
    "url": "login_url",
    "user": "username",
}
"""What other tools call our options."""


def complaints(error: ValidationError, model: type[Options]) -> Iterator[tuple[Path, str]]:
    """Each error of a block of options: its path within the block, what is wrong, what would be right."""
    for found in error.errors(include_url=False, include_input=False):
        path = found["loc"]
        if found["type"] == "missing":
            yield path[:-1], _missing(_holder(model, path), str(path[-1]))
        elif found["type"] == "extra_forbidden":
            yield path, no_option(_holder(model, path), str(path[-1]))
        elif found["type"] in _WORDS:
            yield path, _WORDS[found["type"]]
        else:
            yield path, str(found.get("ctx", {}).get("error", found["msg"]))


_WORDS: dict[str, str] = {
    "model_type": "must be a mapping of options, each on a line of its own: NAME: VALUE.",
    "list_type": "must be a list, e.g. [one, another].",
    "too_long": f"has more than {MOST_LABELS} labels. Leave some out: each is sent with each scrape.",
}


def _holder(model: type[Options], path: Path) -> type[Options]:
    """The model of the block in which the last key of a path stands."""
    return BLOCKS[path[-2]] if len(path) > 1 else model


def _missing(model: type[Options], name: str) -> str:
    described = (model.model_fields[name].description or "").replace("\n", " ")
    return f"lacks {name}. {described}".strip()


def no_option(model: type[Options], name: str) -> str:
    """What to say of a key that is no option of this block."""
    known = list(model.model_fields)
    if model is GeneralOptions:
        known += ["connections"]
    if OTHER_NAMES.get(name) in known:
        return f'is no option here. Did you mean "{OTHER_NAMES[name]}"?'
    if hint := words.close(name, known):
        return f"is no option here. {hint.strip()}"
    for other, where in _ELSEWHERE:
        if model is not other and name in other.model_fields:
            return f"is no option here. It belongs {where}."
    return f"is no option here. Options here are {', '.join(known)}."


_ELSEWHERE: tuple[tuple[type[Options], str], ...] = (
    (GeneralOptions, "at the top of the main file"),
    (ConnectionOptions, "to a connection"),
    (WebOptions, "under web:"),
    (ApprovalOptions, "under approval:"),
)
