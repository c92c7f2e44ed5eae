"""Rewords pydantic's errors for the operator."""

from collections.abc import Iterator
from typing import get_args

from pydantic import ValidationError

from monitor.config import words
from monitor.config.options import ConfigurationOptions, GeneralOptions
from monitor.config.options.connections import ConnectionOptions
from monitor.config.options.values import Options, Written
from monitor.config.text import Path

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
"""Other tools' names for our options."""


def complaints(error: ValidationError, model: type[Options]) -> Iterator[tuple[Path, str]]:
    """Each error in a block of options: its path within the block, and a message that says how to fix it."""
    errors = error.errors(include_url=False, include_input=False)
    misspelt = {
        (*path[:-1], meant(_holder(model, path), str(path[-1])))
        for path in (found["loc"] for found in errors if found["type"] == "extra_forbidden")
    }
    for found in errors:
        path = found["loc"]
        if path in misspelt:
            continue  # present under a wrong name
        if found["type"] == "missing":
            field = _holder(model, path).model_fields[str(path[-1])]
            described = (field.description or "").replace("\n", " ")
            yield path[:-1], f"has no {path[-1]}. {described}".strip()
        elif found["type"] == "extra_forbidden":
            yield path, no_option(_holder(model, path), str(path[-1]))
        elif found["type"] == "too_long":
            yield path, f"has more than {found['ctx']['max_length']} entries. Remove some."
        elif found["type"] in _WORDS:
            yield path, _WORDS[found["type"]]
        else:
            yield path, str(found.get("ctx", {}).get("error", found["msg"]))


_WORDS: dict[str, str] = {
    "model_type": "must be a mapping of options, each on its own line: NAME: VALUE.",
    "tuple_type": "must be a list, e.g. [one, another].",
    "frozen_set_type": "must be a list, e.g. [one, another].",
    "list_type": "must be a list, e.g. [one, another].",
}


def _holder(model: type[Options], path: Path) -> type[Options]:
    """The model of the block that contains the last key of a path."""
    for step in path[:-1]:
        if isinstance(step, str):
            model = next(_blocks(model, step))
    return model


def _blocks(model: type[Options], option: str) -> Iterator[type[Options]]:
    """The models of an option that is a block or a list of blocks; empty for other options."""
    field = model.model_fields[option]
    types = [field.annotation, *field.metadata]
    for each in types:
        if isinstance(each, Written):
            yield each.options
        elif isinstance(each, type) and issubclass(each, Options):
            yield each
        types += get_args(each)


def _known(model: type[Options]) -> list[str]:
    return list((ConfigurationOptions if model is GeneralOptions else model).model_fields)


def meant(model: type[Options], name: str) -> str | None:
    """The option that a key names or probably means."""
    known = _known(model)
    if name in known:
        return name
    other = OTHER_NAMES.get(name)
    return other if other in known else words.closest(name, known)


def no_option(model: type[Options], name: str) -> str:
    """The message for an unknown key."""
    if name in model.removed:
        return model.removed[name]
    if option := meant(model, name):
        return f'is not an option here. Did you mean "{option}"?'
    for other, where in _places():
        if model is not other and name in _known(other):
            return f"is not an option here. It belongs {where}."
    return f"is not an option here. Options here: {', '.join(_known(model))}."


def _places() -> Iterator[tuple[type[Options], str]]:
    """Each block of options and its location."""
    yield GeneralOptions, "at the top of the main file"
    yield ConnectionOptions, "to a connection"
    for model in (GeneralOptions, ConnectionOptions):
        for name in model.model_fields:
            for block in _blocks(model, name):
                yield block, f"under {name}:"
