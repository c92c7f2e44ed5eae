"""Loads configuration files into Settings, reporting all problems at once.

1. The main file, then those matched by its `connections_from`, in order of their names.
2. Each option by itself (`options`), then combinations: unique names, login budgets, bands.
3. Keys are not read: a missing key is a finding of its connection.
"""

import glob
import math
import os
import ssl
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from monitor.config import text, words
from monitor.config.cautions import cautions
from monitor.config.complaints import complaints, meant, no_option
from monitor.config.files import FileError, read, trust_authorities
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

LARGEST_FILE = 64 * 1024 * 1024
"""Largest file, in bytes: about 150,000 connections. More is a wrong path."""

SUMMANDS = 5
"""Most connections of a username that a message lists one by one."""

Model = TypeVar("Model", bound=Options)


def load(path: Path, environ: Mapping[str, str]) -> Settings:
    """Load a configuration file. Raises ConfigError with all problems.

    The environment is used only to warn about missing variables.
    """
    loader = _Loader()
    found = loader.read(path)
    if found is None or loader.problems:
        raise ConfigError(loader.sorted_problems())
    general, main, connections = found
    return Settings.model_construct(
        **dict(general),
        connections=connections,
        files=tuple(file.path for file in loader.files),
        patterns=tuple(str(_absolute(main.path.parent / pattern)) for pattern in general.connections_from),
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
class _File:
    shown: str
    path: Path
    directory: str
    value: Value


@dataclass(frozen=True, slots=True)
class _Entry:
    """A connection as written."""

    file: _File
    path: text.Path
    written: Value
    options: ConnectionOptions | None
    """None if invalid."""


@dataclass(slots=True)
class _Loader:
    problems: list[Problem] = field(default_factory=list)
    protection: WebConfig = field(default_factory=WebConfig)
    files: list[_File] = field(default_factory=list)
    fruitless: list[str] = field(default_factory=list)
    """Patterns that match no file."""
    former: dict[str, str] = field(default_factory=dict)
    """Options without effect: the warning of each one's first place."""

    def sorted_problems(self) -> list[Problem]:
        """By file in reading order, then by line."""
        order = {file.shown: number for number, file in enumerate(self.files)}
        return sorted(self.problems, key=lambda found: (order.get(found.file, len(order)), found.line or 0))

    def read(self, path: Path) -> tuple[GeneralOptions, _File, tuple[Connection, ...]] | None:
        """The general options, their file, and all connections; None if the main file can't be read."""
        main = self._file(str(path), _absolute(path))
        if main is None:
            return None
        if not isinstance(main.value, Block):
            self._note(main, (), f"must be a mapping of options, but is {_kind(main.value)}.")
            return None
        if not main.value.lines.keys() & {"connections", "connections_from"}:
            self._note(main, (), "names no connections. Add connections: or connections_from:.")
        written = {key: value for key, value in main.value.items() if key != "connections"}
        general = self._checked(main, (), GeneralOptions, written, {})
        entries = self._entries(
            main, _texts(written.get("allowed_hosts")), _texts(written.get("connections_from"))
        )
        self._unique(entries)
        if general is None:
            return None
        self._general(main, general)
        bands = self._bands(main, ("certificate_expiry",), general.certificate_expiry, ExpiryBands())
        connections = []
        for entry in entries:
            if options := entry.options:
                own, place = options.certificate_expiry, (*entry.path, "certificate_expiry")
                expiry = self._bands(entry.file, place, own, bands) if own else bands
                connections.append((entry, options.connection(general, expiry)))
        self._budgets(connections, general.login_budget_per_hour)
        if general.vault is None:
            self._without_vault(connections)
        return general, main, self._observed(connections)

    def _note(self, file: _File, path: text.Path, message: str) -> None:
        line = text.line_of(file.value, path)
        self.problems.append(Problem(file.shown, line, text.shown_path(file.value, path), message))

    # Files

    def _file(self, shown: str, path: Path) -> _File | None:
        """Read and parse a file; None, after noting a problem, if that fails."""
        try:
            # The main file may be a shell's <(…) or /dev/stdin.
            raw = read(path, LARGEST_FILE, or_pipe=not self.files and path.is_relative_to("/dev"))
        except FileError as error:
            self.problems.append(Problem(shown, None, "", str(error)))
            return None
        content = text.read(raw)
        file = _File(shown, path, str(path.parent), content.value)
        self.files.append(file)
        for mistake in content.mistakes:
            where = text.shown_path(content.value, mistake.path)
            self.problems.append(Problem(shown, mistake.line, where, mistake.message))
        if content.value is None:
            if not content.mistakes:
                self.problems.append(Problem(shown, None, "", "is empty. Write at least connections: []"))
            return None
        return file

    def _found(self, main: _File, patterns: Iterable[str]) -> Iterator[_File]:
        """The readable files that match the patterns, each once, without the main file."""
        base = Path(glob.escape(str(Path(main.shown).parent)))
        seen = {os.path.realpath(main.path)}  # Path.resolve() raises for circular links
        for pattern in patterns:
            found = sorted(glob.glob(str(base / pattern), recursive=True))  # noqa: PTH207 - for absolute patterns
            if not found:
                self.fruitless.append(pattern)
            for shown in found:
                path = _absolute(Path(shown))
                if (real := os.path.realpath(path)) not in seen:
                    seen.add(real)
                    if file := self._file(shown, path):
                        yield file

    # Connections

    def _entries(self, main: _File, allowed_hosts: list[str], patterns: list[str]) -> list[_Entry]:
        """All connections of all files, valid or not."""
        context: dict[str, object] = {"allowed_hosts": frozenset(host.lower() for host in allowed_hosts)}
        entries = []
        for file in (main, *self._found(main, patterns)):
            for path, written in self._listed(file, is_main=file is main):
                options = self._checked(file, path, ConnectionOptions, written, context)
                entries.append(_Entry(file, path, written, options))
                if isinstance(written, Block):
                    self._pairs_of_options(file, path, written)
        return entries

    def _listed(self, file: _File, *, is_main: bool) -> Iterator[tuple[text.Path, Value]]:
        """The connections in one file: under `connections`, or in a list at top level."""
        prefix: text.Path = ()
        listed = file.value
        if isinstance(listed, Block):
            if not is_main:
                for key in listed.keys() - {"connections"}:
                    self._note(file, (key,), _misplaced(key))
            prefix, listed = ("connections",), listed.get("connections")
        if isinstance(listed, Listing):
            yield from (((*prefix, index), written) for index, written in enumerate(listed))
        elif listed is not None:
            message = f"must be a list of connections, but is {_kind(listed)}. Begin each connection with -."
            self._note(file, prefix, message)

    def _checked(
        self,
        file: _File,
        path: text.Path,
        model: type[Model],
        written: object,
        context: dict[str, object],
    ) -> Model | None:
        """Validate a block of options; None, after noting its problems, if invalid."""
        if isinstance(written, dict) and (without_effect := model.former.keys() & written.keys()):
            for name in without_effect:
                where = f"{file.shown}:{text.line_of(file.value, (*path, name))}"
                message = (
                    f"{where}: {name} has no effect: {model.former[name]}. Delete it wherever it is set."
                )
                self.former.setdefault(name, message)
            written = {name: value for name, value in written.items() if name not in without_effect}
        try:
            return model.model_validate(written, context={"directory": file.directory, **context})
        except ValidationError as error:
            for within, message in complaints(error, model):
                self._note(file, (*path, *within), message)
            return None

    def _pairs_of_options(self, file: _File, path: text.Path, written: Block) -> None:
        """Check options that exclude each other."""
        either = {"subdomain", "login_url"}
        if not either & written.keys() and not either & {meant(ConnectionOptions, key) for key in written}:
            self._note(file, path, "has neither subdomain (setup guide, step 7) nor login_url.")
        if either <= written.keys():
            self._note(file, (*path, "login_url"), "is given together with subdomain. Keep one of them.")
        if {"certificate", "certificate_not_after"} <= written.keys():
            message = "is given together with certificate, which has its own expiry date. Keep one of them."
            self._note(file, (*path, "certificate_not_after"), message)

    def _unique(self, entries: Iterable[_Entry]) -> None:
        first: dict[str, _Entry] = {}
        for entry in entries:
            name = entry.written.get("name") if isinstance(entry.written, Block) else None
            if not isinstance(name, str):
                continue
            other = first.setdefault(name, entry)
            if other is not entry:
                line = text.line_of(other.file.value, (*other.path, "name"))
                message = f"is already taken in {other.file.shown}:{line}. Names are unique across all files."
                self._note(entry.file, (*entry.path, "name"), message)

    # Combinations of options

    def _observed(self, connections: list[tuple[_Entry, Connection]]) -> tuple[Connection, ...]:
        by_name = {connection.name: connection for _, connection in connections}
        found = []
        for entry, connection in connections:
            name = entry.options.observer if entry.options else ""
            observer = by_name.get(name)
            if name and (observer is None or name == connection.name):
                what = (
                    "is this connection itself"
                    if observer
                    else f"is {quoted(name)}, which is not the name of a connection"
                )
                message = f"{what}. Name another connection, to the same org."
                self._note(entry.file, (*entry.path, "observer"), message)
            found.append(replace(connection, observer=observer) if observer else connection)
        return tuple(found)

    def _without_vault(self, connections: Iterable[tuple[_Entry, Connection]]) -> None:
        for entry, connection in connections:
            for path, pair in (((), connection.current), (("next",), connection.next)):
                for key in ("private_key", "certificate"):
                    source = getattr(pair, key, None)
                    if source is not None and source.kind == "vault":
                        message = "is in Vault, but the main file has no vault section. Add vault:."
                        self._note(entry.file, (*entry.path, *path, key), message)

    def _general(self, main: _File, general: GeneralOptions) -> None:
        for place_in_list, sink in enumerate(general.notify.sinks):
            if sink.type == "apprise" and find_spec("apprise") is None:
                self._note(
                    main,
                    ("notify", "sinks", place_in_list, "type"),
                    'needs a package that is not installed. Install it: pip install "bearerwatch[notify]".',
                )
        if general.web.config_file:
            try:
                self.protection = load_web_config(general.web.config_file)
            except ConfigError as error:
                self.problems += error.problems
        self._authorities(main, ("ca_file",), general.ca_file)
        if general.vault:
            self._authorities(main, ("vault", "ca_file"), general.vault.ca_file)
            if find_spec("hvac") is None:
                message = (
                    'needs a package that is not installed. Install it: pip install "bearerwatch[vault]".'
                )
                self._note(main, ("vault",), message)

    def _authorities(self, main: _File, path: text.Path, ca_file: Path | None) -> None:
        if ca_file is None:
            return
        try:
            trust_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ca_file)
        except FileError as error:
            self._note(main, path, f'"{ca_file}" {error}')

    def _bands(
        self, file: _File, path: text.Path, options: ExpiryOptions, otherwise: ExpiryBands
    ) -> ExpiryBands:
        """The given bands, with defaults for the others. A warning that can never come first is an error."""
        bands = ExpiryBands(options.warning or otherwise.warning, options.critical or otherwise.critical)
        if not any(bands.warning.of(each) > bands.critical.of(each) for each in LIFETIMES):
            message = (
                "The critical band begins before or with the warning band, so no warning would ever be seen."
            )
            self._note(file, path, f"{message} Make the warning longer.")
        return bands

    def _budgets(self, connections: Iterable[tuple[_Entry, Connection]], budget: int) -> None:
        """Check that each username's checks fit into the login budget."""
        users: defaultdict[str, list[tuple[_Entry, Connection]]] = defaultdict(list)
        for entry, connection in connections:
            if not connection.paused:
                users[connection.username.lower()].append((entry, connection))
        for shared in users.values():
            logins = [timedelta(hours=1) / connection.interval for _, connection in shared]
            if sum(logins) > budget:
                entry, _ = shared[0]
                self._note(entry.file, entry.path, _over_budget([each for _, each in shared], logins, budget))


def _over_budget(connections: list[Connection], logins: list[float], budget: int) -> str:
    """A message with the calculation of an exceeded login budget, and intervals that would fit."""
    enough = math.ceil(3_600 * len(connections) / budget)
    enough += -enough % 60 if enough > 60 else 0
    cure = (
        f"an interval of {words.written_duration(timedelta(seconds=enough))}"
        f"{' for each' if len(connections) > 1 else ''} is enough; Salesforce allows a user {LOGIN_LIMIT:,},"
        " including production's."
    )
    limit = f"more than login_budget_per_hour: {budget}. {cure[0].upper()}{cure[1:]}"
    if len(connections) == 1:
        interval = words.written_duration(connections[0].interval)
        return f"logs in every {interval}, which is {logins[0]:.4g} times an hour, {limit}"
    summed = " + ".join(f"{number:.4g}" for number in logins[:SUMMANDS])
    more = f" + … ({len(logins):,} connections)" if len(logins) > SUMMANDS else ""
    names = ", ".join(f'"{connection.name}"' for connection in connections[1:SUMMANDS])
    others = f"{names}, …" if len(connections) > SUMMANDS else names
    return f"shares its username with {others}: {summed}{more} = {sum(logins):.4g} logins an hour, {limit}"


def _texts(value: Value) -> list[str]:
    """The texts in a list; other entries have already been reported."""
    parts = value if isinstance(value, Listing) else ()
    return [part for part in parts if isinstance(part, str) and part.strip() and part.isprintable()]


def _absolute(path: Path) -> Path:
    """Absolute, without resolving links: a swapped link must be noticed."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.resolve() follows links


def _kind(value: Value) -> str:
    return "nothing" if value is None else quoted(value)


def _misplaced(key: str) -> str:
    if key in GeneralOptions.model_fields:
        return "belongs in the main file. This file may only contain connections."
    return no_option(ConfigurationOptions, key)
