"""Writes a rotation into the configuration, or prints the lines for it."""

import os
import secrets
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from monitor.commands.rotate.pair import RotateError
from monitor.config import ConfigError, Settings, editing, load
from monitor.config.editing import EditError, Entry
from monitor.core.connection import Pair
from monitor.keys.new_files import directory


def write_next(settings: Settings, name: str, pair: Pair, now: datetime) -> tuple[Path, Path]:
    """Write the next pair into the configuration. Gives file and backup. Raises RotateError."""
    assert pair.certificate is not None
    key, certificate = pair.private_key.place, pair.certificate.place
    by_hand = [f"The lines for {name}:", *lines(pair, following=True)]
    return _edit(settings, name, lambda entry: entry.with_next(key, certificate), by_hand, now)


def write_current(settings: Settings, name: str, pair: Pair, now: datetime) -> tuple[Path, Path]:
    """Make the next pair the current one in the configuration. Gives file and backup. Raises RotateError."""
    by_hand = [f"The lines for {name}, which no longer needs next:", *lines(pair, following=False)]
    return _edit(settings, name, Entry.with_next_current, by_hand, now)


def lines(pair: Pair, *, following: bool) -> list[str]:
    """Configuration lines for the pair, as the next or as the current one."""
    options = {"private_key": pair.private_key.written()}
    if pair.certificate:
        options["certificate"] = pair.certificate.written()
    return ["next:", *editing.lines(options, "  ")] if following else editing.lines(options)


def _edit(
    settings: Settings, name: str, edit: Callable[[Entry], bytes], by_hand: list[str], now: datetime
) -> tuple[Path, Path]:
    """Edit the connection's file; if that fails, say what to write `by_hand`.

    The backup's name begins with a dot, so that no pattern matches it.
    """
    instead = "\n  ".join(["edit it by hand.\n" + by_hand[0], *by_hand[1:]])
    for path in settings.files:
        real = path.resolve()
        try:
            with directory(real.parent) as place:
                if (entry := editing.find(place.read(real.name), name, path.parent)) is None:
                    continue
                made = edit(entry)
                kept = f".{real.name}.before-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
                place.copy(real.name, kept)
                place.replace(real.name, made)
                try:
                    load(settings.files[0], os.environ)
                except ConfigError as problem:
                    place.move(kept, real.name)
                    raise RotateError(
                        f"{path} was not changed, because the result would be wrong:\n{problem}"
                    ) from None
                return path, place.path / kept
        except EditError as problem:
            raise RotateError(f"{path} was not changed ({problem}): {instead}") from None
        except OSError as problem:
            raise RotateError(f"{path} cannot be written ({problem.strerror}): {instead}") from None
    raise RotateError("The connection is no longer in any of the files: run the command again.")
