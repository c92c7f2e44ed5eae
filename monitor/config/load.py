"""Loads configuration files into Settings, reporting all problems at once.

1. The main file, then those matched by its `connections_from`, in order of their names.
2. Each option by itself (`options`), then combinations: unique names, login budgets, bands.
3. Keys are not read: a missing key is a finding of its connection.
"""

import gc
import glob
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from monitor.config import document, text, words
from monitor.config.cautions import cautions, named
from monitor.config.complaints import meant, no_option
from monitor.config.document import Document, Model
from monitor.config.options import LOGIN_LIMIT, ConfigurationOptions, GeneralOptions
from monitor.config.options.connections import ConnectionOptions, ExpiryOptions
from monitor.config.options.values import Options
from monitor.config.problem import ConfigError, Problem, quoted
from monitor.config.settings import Settings
from monitor.config.text import Block, Listing, Value
from monitor.config.web_file import WebConfig, load_web_config
from monitor.core.connection import Connection, ExpiryBands

LIFETIMES = tuple(timedelta(days=days) for days in (1, 7, 30, 90, 365, 730, 3650))
"""Usual certificate lifetimes: for at least one, the warning must come before the critical band."""


@contextmanager
def _no_collections() -> Iterator[None]:
    """Pause garbage collection: all that is read is kept, and for 10,000 connections looking through it again
    and again takes a fifth of the time.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@_no_collections()
def load(path: Path, environ: Mapping[str, str]) -> Settings:
    """Load a configuration file. Raises ConfigError with all problems.

    The environment is used only to warn about missing variables.
    """
    loader = _Loader()
    found = loader.read(path)
    if found is None or loader.problems:
        read = {file.shown: number for number, file in enumerate(loader.files)}
        raise ConfigError(
            sorted(loader.problems, key=lambda each: (read.get(each.file, len(read)), each.line or 0))
        )
    general, connections = found
    files = tuple(file.path for file in loader.files)
    return Settings.model_construct(
        **dict(general),
        connections=connections,
        files=files,
        patterns=tuple(str(_absolute(files[0].parent / pattern)) for pattern in general.connections_from),
        protection=loader.protection,
        warnings=(
            *cautions(general, loader.protection, connections, environ, fruitless=loader.fruitless),
            *loader.former.values(),
        ),
    )


def schema() -> dict[str, Any]:
    """The JSON Schema of the configuration, for editors."""
    made = _without_nulls(ConfigurationOptions.model_json_schema())
    blocks: dict[type[Options], Any] = {
        ConfigurationOptions: made,
        ConnectionOptions: made["$defs"][ConnectionOptions.__name__],
    }
    for model, block in blocks.items():
        for name, why in model.former.items():
            block["properties"][name] = {"deprecated": True, "description": f"No effect: {why}."}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def _without_nulls(node: Any) -> Any:
    """The schema without `null` and its equivalents: unset options are left out."""
    if isinstance(node, list):
        return [_without_nulls(part) for part in node if part != {"type": "null"}]
    if not isinstance(node, dict):
        return node
    kept = {
        key: _without_nulls(part)
        for key, part in node.items()
        if part not in (None, "") and key != "uniqueItems"
    }
    if len(kept.get("anyOf", ())) == 1:
        kept |= kept.pop("anyOf")[0]
    return kept


@dataclass(frozen=True, slots=True)
class _Entry:
    """A connection as written."""

    file: Document
    path: text.Path
    written: Value
    options: ConnectionOptions | None
    """None if invalid."""

    def text(self, option: str) -> str | None:
        """An option as written, even if others are invalid; None if it isn't text."""
        value = self.written.get(option) if isinstance(self.written, Block) else None
        return value if isinstance(value, str) else None


@dataclass(slots=True)
class _Loader:
    problems: list[Problem] = field(default_factory=list)
    protection: WebConfig = field(default_factory=WebConfig)
    files: list[Document] = field(default_factory=list)
    fruitless: list[str] = field(default_factory=list)
    """Patterns that match no file."""
    former: dict[str, str] = field(default_factory=dict)
    """Options without effect: the warning of each one's first place."""

    def read(self, path: Path) -> tuple[GeneralOptions, tuple[Connection, ...]] | None:
        """The general options and all connections; None if the general options are unusable."""
        main = self._file(str(path), _absolute(path))
        if main is None:
            return None
        if not isinstance(main.value, Block):
            main.note((), f"must be a mapping of options, but is {quoted(main.value)}.")
            return None
        if not main.value.lines.keys() & {"connections", "connections_from"}:
            main.note((), "names no connections. Add connections: or connections_from:.")
        written = {key: value for key, value in main.value.items() if key != "connections"}
        general = self._checked(main, (), GeneralOptions, written)
        allowed = frozenset(host.lower() for host in _texts(written.get("allowed_hosts")))
        entries = []
        for file in (main, *self._found(main, _texts(written.get("connections_from")))):
            for place, each in self._listed(file, is_main=file is main):
                options = self._checked(file, place, ConnectionOptions, each, allowed_hosts=allowed)
                entries.append(_Entry(file, place, each, options))
        _check_exclusive_options(entries)
        _check_names(entries)
        _check_observers(entries)
        if general is None:
            return None
        if general.web.config_file:
            try:
                self.protection = load_web_config(general.web.config_file)
            except ConfigError as error:
                self.problems += error.problems
        if general.vault:
            _check_installed(main, ("vault",), "hvac", "vault")
        if "://" in general.database:
            _check_installed(main, ("database",), "procrastinate", "postgresql")
        for index, sink in enumerate(general.notify.sinks):
            if sink.type == "apprise":
                _check_installed(main, ("notify", "sinks", index, "type"), "apprise", "notify")
        bands = _bands(main, ("certificate_expiry",), general.certificate_expiry, ExpiryBands())
        connections = []
        for entry in entries:
            if options := entry.options:
                own, place = options.certificate_expiry, (*entry.path, "certificate_expiry")
                expiry = _bands(entry.file, place, own, bands) if own else bands
                connections.append((entry, options.connection(general, expiry)))
        _check_budgets(connections, general.login_budget_per_hour)
        if general.vault is None:
            _check_no_vault(connections)
        return general, _with_observers(connections)

    def _file(self, shown: str, path: Path) -> Document | None:
        """Read and parse a file; None, after noting a problem, if that fails."""
        before = len(self.problems)
        # The main file may be a shell's <(…) or /dev/stdin.
        or_pipe = not self.files and path.is_relative_to("/dev")
        file = document.read(shown, path, self.problems, or_pipe=or_pipe)
        if file is None:
            return None
        self.files.append(file)
        if file.value is None and len(self.problems) == before:
            file.note((), "is empty. Write at least connections: []")
        return None if file.value is None else file

    def _found(self, main: Document, patterns: Iterable[str]) -> Iterator[Document]:
        """The readable files that match the patterns, each once, without the main file."""
        base = Path(glob.escape(str(Path(main.shown).parent)))
        seen = {os.path.realpath(main.path)}  # Path.resolve() raises for circular links
        for pattern in patterns:
            found = sorted(glob.glob(str(base / pattern), recursive=True))  # noqa: PTH207 - for absolute patterns
            if not found and not _may_list(base / pattern):
                refused = "is in a directory that this process may not read: give its user permission."
                main.note(("connections_from",), f"{quoted(pattern)} {refused}")
            elif not found:
                self.fruitless.append(pattern)
            for shown in found:
                path = _absolute(Path(shown))
                if (real := os.path.realpath(path)) not in seen:
                    seen.add(real)
                    if file := self._file(shown, path):
                        yield file

    def _listed(self, file: Document, *, is_main: bool) -> Iterator[tuple[text.Path, Value]]:
        """The connections in one file: under `connections`, or in a list at top level."""
        prefix: text.Path = ()
        listed = file.value
        if isinstance(listed, Block):
            for key in listed.keys() - {"connections"} if not is_main else ():
                known = key in GeneralOptions.model_fields
                misplaced = "belongs in the main file. This file may only contain connections."
                file.note((key,), misplaced if known else no_option(ConfigurationOptions, key))
            prefix, listed = ("connections",), listed.get("connections")
        if isinstance(listed, Listing):
            yield from (((*prefix, index), written) for index, written in enumerate(listed))
        elif listed is not None:
            message = f"must be a list of connections, but is {quoted(listed)}. Begin each connection with -."
            file.note(prefix, message)

    def _checked(
        self, file: Document, path: text.Path, model: type[Model], written: object, **context: object
    ) -> Model | None:
        """Validate a block of options without those that have no effect any more."""
        if isinstance(written, dict) and (without_effect := model.former.keys() & written.keys()):
            for name in without_effect:
                where = f"{file.shown}:{text.line_of(file.value, (*path, name))}"
                message = (
                    f"{where}: {name} has no effect: {model.former[name]}. Delete it wherever it is set."
                )
                self.former.setdefault(name, message)
            written = {name: value for name, value in written.items() if name not in without_effect}
        return file.checked(path, model, written, **context)


def _check_installed(main: Document, path: text.Path, package: str, extra: str) -> None:
    if find_spec(package) is None:
        cure = f'Install it: pip install "bearerwatch[{extra}]".'
        main.note(path, f"needs a package that is not installed. {cure}")


# Combinations of options


def _check_exclusive_options(entries: Iterable[_Entry]) -> None:
    for entry in entries:
        file, path, written = entry.file, entry.path, entry.written
        if not isinstance(written, Block):
            continue
        either = {"subdomain", "login_url"}
        if not either & written.keys() and not either & {meant(ConnectionOptions, key) for key in written}:
            file.note(path, "has neither subdomain (setup guide, step 7) nor login_url.")
        if either <= written.keys():
            file.note((*path, "login_url"), "is given together with subdomain. Keep one of them.")
        if {"certificate", "certificate_not_after"} <= written.keys():
            message = "is given together with certificate, which has its own expiry date. Keep one of them."
            file.note((*path, "certificate_not_after"), message)


def _check_names(entries: Iterable[_Entry]) -> None:
    first: dict[str, _Entry] = {}
    for entry in entries:
        name = entry.text("name")
        if name is not None and (other := first.setdefault(name, entry)) is not entry:
            line = text.line_of(other.file.value, (*other.path, "name"))
            message = f"is already taken in {other.file.shown}:{line}. Names are unique across all files."
            entry.file.note((*entry.path, "name"), message)


def _check_budgets(connections: Iterable[tuple[_Entry, Connection]], budget: int) -> None:
    """Check that each username's checks fit into the login budget."""
    users: defaultdict[str, list[tuple[_Entry, Connection]]] = defaultdict(list)
    for entry, connection in connections:
        if not connection.paused:
            users[connection.username.lower()].append((entry, connection))
    for shared in users.values():
        logins = sum(timedelta(hours=1) / connection.interval for _, connection in shared)
        if logins <= budget:
            continue
        enough = math.ceil(3_600 * len(shared) / budget)
        enough += -enough % 60 if enough > 60 else 0
        entry, connection = shared[0]
        each = " for each" if len(shared) > 1 else ""
        entry.file.note(
            entry.path,
            f"the checks of {named([each.name for _, each in shared])} log in {logins:.4g} times an hour as"
            f" {connection.username}, more than login_budget_per_hour: {budget}. An interval of"
            f" {words.written_duration(timedelta(seconds=enough))}{each} is enough; Salesforce allows a user"
            f" {LOGIN_LIMIT:,}, including production's.",
        )


def _check_no_vault(connections: Iterable[tuple[_Entry, Connection]]) -> None:
    for entry, connection in connections:
        for path, pair in (((), connection.current), (("next",), connection.next)):
            for key in ("private_key", "certificate"):
                source = getattr(pair, key, None)
                if source is not None and source.kind == "vault":
                    message = "is in Vault, but the main file has no vault section. Add vault:."
                    entry.file.note((*entry.path, *path, key), message)


def _check_observers(entries: Iterable[_Entry]) -> None:
    names = {entry.text("name") for entry in entries}
    for entry in entries:
        name = entry.text("observer")
        if name and (name not in names or name == entry.text("name")):
            message = f"is {quoted(name)}, which is not another connection. Name one to the same org."
            entry.file.note((*entry.path, "observer"), message)


def _with_observers(connections: list[tuple[_Entry, Connection]]) -> tuple[Connection, ...]:
    by_name = {connection.name: connection for _, connection in connections}
    return tuple(
        replace(connection, observer=by_name.get(entry.options.observer)) if entry.options else connection
        for entry, connection in connections
    )


def _bands(file: Document, path: text.Path, options: ExpiryOptions, otherwise: ExpiryBands) -> ExpiryBands:
    """The given bands, with defaults for the others. A warning that can never come first is an error."""
    bands = ExpiryBands(options.warning or otherwise.warning, options.critical or otherwise.critical)
    if not any(bands.warning.of(each) > bands.critical.of(each) for each in LIFETIMES):
        message = (
            "The critical band does not begin after the warning band, so the warning would never be seen."
        )
        file.note(path, f"{message} Make the warning longer.")
    return bands


def _may_list(pattern: Path) -> bool:
    """Whether permissions allow to look for this pattern's files."""
    try:
        os.scandir(pattern.parent).close()
    except PermissionError:
        return False
    except (OSError, ValueError):  # missing, or not a path
        return True
    return True


def _texts(value: Value) -> list[str]:
    """The texts in a list; other entries have already been reported."""
    parts = value if isinstance(value, Listing) else ()
    return [part for part in parts if isinstance(part, str) and part.strip() and part.isprintable()]


def _absolute(path: Path) -> Path:
    """Absolute, without resolving links: a swapped link must be noticed."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.resolve() follows links
