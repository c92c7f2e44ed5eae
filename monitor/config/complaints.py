"""What pydantic found wrong in a block of options, in words for the operator."""

from collections.abc import Iterator

from pydantic import ValidationError

from monitor.config import words
from monitor.config.options import (
    MOST_LABELS,
    AlertOptions,
    ApprovalOptions,
    ConfigurationOptions,
    ConnectionOptions,
    ExpiryOptions,
    GeneralOptions,
    KeyOptions,
    MaintenanceOptions,
    NotifyOptions,
    Options,
    PairOptions,
    SinkOptions,
    SourceOptions,
    VaultLoginOptions,
    VaultOptions,
    WebOptions,
)
from monitor.config.text import Path
from monitor.config.web_options import HttpOptions, RateOptions, TlsOptions

BLOCKS: dict[str, type[Options]] = {
    "private_key": KeyOptions,
    "certificate": KeyOptions,
    "next": PairOptions,
    "alerts": AlertOptions,
    "approval": ApprovalOptions,
    "certificate_expiry": ExpiryOptions,
    "notify": NotifyOptions,
    "sinks": SinkOptions,
    "maintenance": MaintenanceOptions,
    "url_from": SourceOptions,
    "token": SourceOptions,
    "secret": SourceOptions,
    "vault": VaultOptions,
    "login": VaultLoginOptions,
    "web": WebOptions,
    "tls_server_config": TlsOptions,
    "http_server_config": HttpOptions,
    "rate_limit": RateOptions,
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
    errors = error.errors(include_url=False, include_input=False)
    misspelt = {
        (*path[:-1], meant(_holder(model, path), str(path[-1])))
        for path in (found["loc"] for found in errors if found["type"] == "extra_forbidden")
    }
    for found in errors:
        path = found["loc"]
        if path in misspelt:
            continue  # it is there, under a wrong name
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
    blocks = [step for step in path[:-1] if isinstance(step, str)]
    return BLOCKS[blocks[-1]] if blocks else model


def _missing(model: type[Options], name: str) -> str:
    described = (model.model_fields[name].description or "").replace("\n", " ")
    return f"lacks {name}. {described}".strip()


def _known(model: type[Options]) -> list[str]:
    return list(ConfigurationOptions.model_fields if model is GeneralOptions else model.model_fields)


def meant(model: type[Options], name: str) -> str | None:
    """The option of a block that a key is, or probably should have been."""
    known = _known(model)
    if name in known:
        return name
    other = OTHER_NAMES.get(name)
    return other if other in known else words.closest(name, known)


def no_option(model: type[Options], name: str) -> str:
    """What to say of a key that is no option of this block."""
    if option := meant(model, name):
        return f'is no option here. Did you mean "{option}"?'
    for other, where in _ELSEWHERE:
        if model is not other and name in other.model_fields:
            return f"is no option here. It belongs {where}."
    return f"is no option here. Options here are {', '.join(_known(model))}."


_ELSEWHERE: tuple[tuple[type[Options], str], ...] = (
    (GeneralOptions, "at the top of the main file"),
    (ConnectionOptions, "to a connection"),
    (WebOptions, "under web:"),
    (AlertOptions, "under alerts:"),
    (NotifyOptions, "under notify:"),
    (ApprovalOptions, "under approval:"),
)
