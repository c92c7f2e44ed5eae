"""Reads keys from file, environment, systemd credential or Vault, and keeps them in a key ring."""

import asyncio
import hashlib
import math
import os
import stat
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from threading import Lock
from weakref import WeakValueDictionary

from monitor.config import VaultOptions, files
from monitor.config.files import FileError, Stamp, stamp
from monitor.core.causes import Cause
from monitor.core.connection import Pair, Source
from monitor.core.keys.credential import (
    CertificateReading,
    Credential,
    CredentialFacts,
    KeyReading,
    Problem,
    credential_of,
    read_certificates,
    read_private_key,
)
from monitor.core.keys.secret import Secret
from monitor.keys import SourceError
from monitor.keys.vault import READERS, VaultReader

BYTES_AT_MOST = 64 * 1024
"""The largest key or certificate that is read: ten times the size of a certificate chain."""

THREADS = 2
"""Threads that read files. Two, so that a slow disk does not hold up the others; with four, the event loop
waited three times as long while a whole fleet's keys were loaded."""

CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"
"""The variable that systemd sets for units with LoadCredential= (systemd.exec, "Credentials")."""

READS_AT_MOST = 3
"""How often to reread a pair that changes while it is read. The next load tries again anyway."""

MOUNTS = Path("/proc/self/mountinfo")
"""This process's mounts (proc_pid_mountinfo(5)); Linux only."""

EARLIER_STAYS = "The previous one stays in use until this is fixed."


def read(source: Source, environment: Mapping[str, str]) -> bytes:
    """A source's content, at most BYTES_AT_MOST. Raises SourceError."""
    where = _capital(describe(source))
    if source.kind == "env":
        value = environment.get(source.place)
        if value is None:
            raise SourceError(f"{where} is not set: set it for this process and restart it.")
        if not value.strip():
            raise SourceError(f"{where} is empty: set it to the PEM text, or base64 of it.")
        return _bounded(os.fsencode(value), where)
    try:
        return files.read(_path(source, environment), BYTES_AT_MOST)
    except FileError as error:
        raise SourceError(f"{where} {error}") from error


def describe(source: Source) -> str:
    """The source as a phrase, to begin or end a sentence."""
    if source.kind == "vault":
        return f"the field {source.field} of the Vault secret {source.place}"
    words = {"file": "the file", "env": "the environment variable", "credential": "the systemd credential"}
    return f"{words[source.kind]} {source.place}"


def _path(source: Source, environment: Mapping[str, str]) -> str:
    if source.kind == "file":
        return source.place
    directory = environment.get(CREDENTIALS_DIRECTORY)
    if not directory:
        raise SourceError(
            f"{_capital(describe(source))} is not available because ${CREDENTIALS_DIRECTORY} is not set: "
            f"start the daemon as a systemd service with LoadCredential={source.place}:PATH."
        )
    return f"{directory}/{source.place}"


def exposure(source: Source, environment: Mapping[str, str]) -> str | None:
    """A warning sentence if other users can read a private key; None otherwise."""
    if source.kind in {"env", "vault"}:
        return None
    try:
        path = _path(source, environment)
        found = os.stat(path)  # noqa: PTH116 - as the ring does
    except (SourceError, OSError, ValueError):
        return None  # reading it reports the error
    said = open_to_others(found.st_mode, found.st_uid) if stat.S_ISREG(found.st_mode) else None
    if said is None:
        return None
    mounts = ""
    with suppress(OSError):  # not on Linux, or confined
        mounts = MOUNTS.read_text(errors="replace")
    if is_on_read_only_memory(found.st_dev, mounts):
        return None
    return f"{_capital(describe(source))} {said}: chmod 600 {path}"


def open_to_others(mode: int, owner: int) -> str | None:
    """How others can access a private key file with this mode and owner; None if they can't.

    The same rule as PostgreSQL's: no access for group and others, except that the group may read root's files
    ("Secure TCP/IP Connections with SSL").
    """
    open_to = mode & (0o026 if owner == 0 else 0o066)
    if not open_to:
        return None
    what = "read" if open_to & 0o044 else "written"
    who = "other users of this machine" if open_to & 0o006 else "its group"
    return f"can be {what} by {who} (mode {stat.S_IMODE(mode):04o})"


def is_on_read_only_memory(device: int, mounts: str) -> bool:
    """Whether a file is on a read-only memory file system.

    Kubernetes, Docker and systemd pass secrets this way. Kubernetes uses mode 0644, but only one container or
    service sees the mount. (A /tmp in memory is writable.)
    """
    number = f"{os.major(device)}:{os.minor(device)}"
    own = [line.split() for line in mounts.splitlines() if line.split()[2:3] == [number]]
    return bool(own) and all(
        {"tmpfs", "ramfs"} & set(fields[fields.index("-") :]) and "ro" in fields[5].split(",")
        for fields in own
    )


def _bounded(content: bytes, where: str) -> bytes:
    if len(content) > BYTES_AT_MOST:
        raise SourceError(
            f"{where} is larger than {BYTES_AT_MOST // 1024} KiB: a key or certificate is a few KiB of PEM."
        )
    return content


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


_Stamps = tuple[tuple[str, Stamp | None], ...]


@dataclass(frozen=True, slots=True)
class _Held:
    """A pair as last read."""

    credential: Credential
    files: _Stamps
    """Its files and their stamps, taken before reading."""
    key: KeyReading
    """The last reading that could sign, otherwise the last one."""
    certificates: CertificateReading
    """The last reading without a problem, otherwise the last one."""
    until: float
    """When to reread even if no file changed, by the monotonic clock; at once after an incomplete read."""


class Keyring:
    """All connections' credentials: each key is parsed once, shared, and reread when its file changes.

    Each load calls `stat` in the event loop (3 µs per file; a thread would take 70 to 190 µs), so a hanging
    network disk would block it. Changed files are read and parsed in a thread, Vault's pairs after
    `vault.reread` in another.

    A key that can't sign never replaces one that can, and an unreadable certificate never replaces a good
    one: a half-written file is reported, and the earlier one stays in use.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        vault: VaultOptions | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._environment = environment
        self._monotonic = monotonic
        self._vault: VaultReader | None = None
        self.use_vault(vault)
        self._held: dict[Pair, _Held] = {}
        self._keys: WeakValueDictionary[bytes, KeyReading] = WeakValueDictionary()
        self._parsing = Lock()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="keys")
        self._vault_threads = ThreadPoolExecutor(READERS, thread_name_prefix="vault")

    def use_vault(self, vault: VaultOptions | None) -> None:
        """Use this Vault from now on."""
        if vault != (self._vault and self._vault.vault):
            if self._vault:
                self._vault.close()
            self._vault = VaultReader(vault, self._proof, self._monotonic) if vault else None

    async def load(self, pair: Pair) -> Credential:
        """A pair's current credential. Never raises for missing or bad content."""
        held = self._held.get(pair)
        if held and self._monotonic() < held.until and not self.stale(pair):
            return held.credential
        loop = asyncio.get_running_loop()
        threads = self._vault_threads if _in_vault(pair) else self._threads
        held = await loop.run_in_executor(threads, self._load, pair, held)
        last = self._held.get(pair)
        if last and (last.files, last.credential.facts) == (held.files, held.credential.facts):
            held = replace(held, credential=last.credential)  # so that `changed` sees no change
        self._held[pair] = held
        return held.credential

    def stale(self, pair: Pair) -> bool:
        """Whether a file of the pair has changed since the last load."""
        held = self._held.get(pair)
        return bool(held and any(stamp(path) != before for path, before in held.files))

    def changed(self, pair: Pair, facts: CredentialFacts) -> bool:
        """Whether the pair's files or content have changed since these facts were loaded.

        The first connection checked after a change loads a shared pair for all of them.
        """
        held = self._held.get(pair)
        return self.stale(pair) or (held is not None and held.credential.facts is not facts)

    def keep_only(self, pairs: Collection[Pair]) -> None:
        """Forget all other pairs, which a reload has removed from the configuration."""
        wanted = set(pairs)
        self._held = {pair: held for pair, held in self._held.items() if pair in wanted}

    def close(self) -> None:
        """End the threads, after they finish what they are reading."""
        self._threads.shutdown()
        self._vault_threads.shutdown()
        self.use_vault(None)

    def _load(self, pair: Pair, before: _Held | None) -> _Held:
        key, certificates, files, complete = self._read_steadily(pair)
        shown_key, shown_certificates = key, certificates
        exposed = exposure(pair.private_key, self._environment)
        if before and before.key.key is not None and key.key is None:
            shown_key = replace(before.key, problems=_with_note(key.problems) + before.key.problems)
            key = before.key
        good = before.certificates if before else certificates
        if certificates.problems and not good.problems:
            shown_certificates = replace(good, problems=_with_note(certificates.problems))
            certificates = good
        if exposed:
            problem = Problem(Cause.KEY_FILE_EXPOSED, f"Private key: {exposed}")
            shown_key = replace(shown_key, problems=(*shown_key.problems, problem))
        age = self._vault.vault.reread.total_seconds() if self._vault and _in_vault(pair) else math.inf
        until = self._monotonic() + age if complete else -math.inf
        return _Held(credential_of(shown_key, shown_certificates), files, key, certificates, until)

    def _read_steadily(self, pair: Pair) -> tuple[KeyReading, CertificateReading, _Stamps, bool]:
        """Read key and certificate, again if one changed meanwhile, so that they belong together."""
        for _ in range(READS_AT_MOST):
            before = self._stamps(pair)
            key, certificates, complete = self._read(pair)
            if self._stamps(pair) == before:
                break
        return key, certificates, before, complete

    def _stamps(self, pair: Pair) -> _Stamps:
        stamps = []
        for source in pair.sources:
            if source.kind in {"file", "credential"}:
                try:
                    path = _path(source, self._environment)
                except SourceError:
                    continue
                stamps.append((path, stamp(path)))
        return tuple(stamps)

    def _read(self, pair: Pair) -> tuple[KeyReading, CertificateReading, bool]:
        """Key, certificate, and whether both sources could be read, whatever their content."""
        complete, certificates = True, CertificateReading()
        vault_secret = cache(self._vault_secret)  # takes both fields from the same version of a secret
        try:
            key = self._key(self._material(pair.private_key, vault_secret))
        except SourceError as error:
            problem = Problem(Cause.KEY_UNREADABLE, f"Private key: {error}")
            key, complete = KeyReading(problems=(problem,)), False
        if pair.certificate is not None:
            try:
                certificates = read_certificates(self._material(pair.certificate, vault_secret))
            except SourceError as error:
                problem = Problem(Cause.KEY_UNREADABLE, f"Certificate: {error}")
                certificates, complete = CertificateReading(problems=(problem,)), False
        return key, certificates, complete

    def _material(self, source: Source, vault_secret: Callable[[str], Mapping[str, Secret]]) -> bytes:
        if source.kind != "vault":
            return read(source, self._environment)
        fields, where = vault_secret(source.place), _capital(describe(source))
        if source.field not in fields:
            there = ", ".join(sorted(fields)) or "none"
            raise SourceError(f"{where} does not exist. The secret's fields are: {there}.")
        return _bounded(fields[source.field].reveal(), where)

    def _proof(self, source: Source) -> bytes:
        try:
            return read(source, self._environment)
        except SourceError as error:
            raise SourceError(f"Login to Vault: {error}") from None

    def _vault_secret(self, path: str) -> Mapping[str, Secret]:
        if self._vault is None:
            raise SourceError("Vault is not configured: add vault: to the configuration.")
        return self._vault.secrets(path)

    def _key(self, material: bytes) -> KeyReading:
        content = hashlib.sha256(material).digest()
        with self._parsing:
            reading = self._keys.get(content)
            if reading is None:
                reading = self._keys[content] = read_private_key(material)
        return reading


def _in_vault(pair: Pair) -> bool:
    return any(source.kind == "vault" for source in pair.sources)


def _with_note(problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
    return tuple(replace(problem, detail=f"{problem.detail} {EARLIER_STAYS}") for problem in problems)
