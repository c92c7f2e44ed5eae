"""A secret is only visible through the methods made for it."""

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass

import pytest
import structlog

from monitor.core.keys.secret import SHOWN, Secret

CONTENT = "hunter2-hunter2"


@dataclass(frozen=True)
class Sink:
    name: str
    token: Secret


SINK = Sink("pager", Secret(CONTENT))


def test_a_secrets_content_can_be_revealed() -> None:
    assert Secret(b"\xfe\xed").reveal() == b"\xfe\xed"
    assert Secret(CONTENT).reveal() == CONTENT.encode()
    assert Secret(f"{CONTENT}\r\n").text() == CONTENT


@pytest.mark.parametrize(
    "shown",
    [
        repr(SINK),
        str(SINK),
        f"{SINK.token}",
        f"{SINK.token!s:>40}{SINK.token:>40}",
        "%s %r" % (SINK.token, SINK.token),  # noqa: UP031 - logging formats in this way
        str(asdict(SINK)),
        str(vars(SINK)),
        json.dumps({"sink": SINK}, default=str),
        structlog.processors.JSONRenderer()(None, "info", {"sink": SINK}),
        structlog.processors.KeyValueRenderer()(None, "info", {"token": SINK.token}),
        logging.LogRecord("any", logging.INFO, "", 0, "%s", (SINK,), None).getMessage(),
    ],
)
def test_nothing_that_prints_a_secret_shows_it(shown: object) -> None:
    assert SHOWN in str(shown)
    assert CONTENT not in str(shown)


@pytest.mark.parametrize("dump", [pickle.dumps, json.dumps, bytes, list, len, dict, int])
def test_a_secret_refuses_to_be_pickled_or_formatted(dump: Callable[[object], object]) -> None:
    with pytest.raises(TypeError) as refused:
        dump(SINK.token)

    assert CONTENT not in str(refused.value)


def test_a_traceback_with_all_local_values_does_not_show_it() -> None:
    def fails(token: Secret) -> None:
        raise ValueError(f"no such sink: {token}")

    with pytest.raises(ValueError, match=SHOWN) as failure:
        fails(SINK.token)
    seen = traceback.TracebackException.from_exception(failure.value, capture_locals=True)

    assert f"token = {SHOWN}" in "".join(seen.format())
    assert CONTENT not in "".join(seen.format())


def test_invalid_text_is_not_repeated_in_the_error() -> None:
    with pytest.raises(ValueError, match="is not UTF-8 text") as refused:
        Secret(b"hunter2 \xff").text()

    assert refused.value.__context__ is None


def test_secrets_equal_each_other_but_not_their_bare_content() -> None:
    assert Secret(CONTENT) == Secret(CONTENT.encode())
    assert Secret(CONTENT) != Secret("hunter3")
    assert Secret(CONTENT) != CONTENT
    assert len({Secret(CONTENT), Secret(CONTENT), Secret("hunter3")}) == 2


def test_copying_a_secret_gives_the_same_object() -> None:
    assert copy.copy(SINK.token) is SINK.token
    assert copy.deepcopy(SINK).token is SINK.token


def test_an_empty_secret_is_false() -> None:
    assert not Secret("")
    assert Secret(CONTENT)
