"""The next pair: its files and their creation."""

import os
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from monitor.core.connection import Connection, Pair, Source
from monitor.core.keys.credential import Credential
from monitor.core.problem import OperatorError
from monitor.keys import keygen
from monitor.keys.new_files import Owner
from monitor.keys.sources import describe

FRESH = timedelta(days=1)
"""A younger current certificate has just been rotated to: running the command again must not begin another
rotation."""

NUMBERED = re.compile(r"(.+)-(\d{1,3})")
"""The file name of a rotated key, without extension."""


class RotateError(OperatorError):
    """The rotation can't start or continue. The message says why, and how to fix it."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the command."""

    out: Path | None = None
    days: int = 3650
    bits: int = 2048
    write: bool = False


def next_pair(connection: Connection, out: Path | None) -> Pair:
    """The configured next pair, or new file names next to the current ones, or in `out`.

    `acme.pem` is followed by `acme-2.pem`, then `acme-3.pem`. Raises RotateError.
    """
    if connection.next:
        return connection.next
    source = connection.current.private_key
    if source.kind != "file" and out is None:
        raise RotateError(
            f"The current key is {describe(source)}, so there is no directory for the next one: name one"
            " with --out."
        )
    current = Path(source.place if source.kind == "file" else connection.name)
    ours = NUMBERED.fullmatch(current.stem)
    stem, number = (ours[1], int(ours[2])) if ours else (current.stem, 1)
    place = (out.absolute() if out else current.parent) / f"{stem}-{number + 1}"
    return Pair(Source("file", f"{place}.pem"), Source("file", f"{place}-cert.pem"))


def make(connection: Connection, pair: Pair, options: Options, now: datetime) -> list[Path]:
    """Create the pair, unless its key exists. Gives the files created. Raises RotateError and KeygenError."""
    if any(source.kind != "file" for source in pair.sources):
        return []
    key = Path(pair.private_key.place)
    certificate = Path(pair.certificate.place) if pair.certificate else None
    if key.exists():
        return []
    if not key.parent.is_dir():
        raise RotateError(
            f"The directory {key.parent} does not exist: create it, or name another with --out."
        )
    if certificate is None or certificate.exists():
        missing = (
            "has no certificate" if certificate is None else f"already has the certificate {certificate}"
        )
        cure = "correct next in the configuration" if connection.next else "remove that file"
        raise RotateError(f"{key} does not exist, and the next pair {missing}: {cure}.")
    keygen.generate(
        key.parent,
        now=now,
        days=options.days,
        bits=options.bits,
        key_name=key.name,
        certificate_name=os.path.relpath(certificate, key.parent),
        owner=_owner(connection.current.private_key, key.parent, certificate.parent),
    )
    return [key, certificate]


def _owner(current: Source, *directories: Path) -> Owner | None:
    """The owner that root gives new files to: that of the current key, so that the daemon can read them.

    That user may have written the configuration and chosen the directories, so only their own directories, or
    the current key's, are allowed. Raises RotateError for others.
    """
    if os.geteuid() != 0 or current.kind != "file" or not Path(current.place).exists():
        return None
    owner = Path(current.place).stat()
    for directory in directories:
        theirs = directory.stat().st_uid == owner.st_uid or directory.samefile(Path(current.place).parent)
        if owner.st_uid != 0 and not theirs:
            raise RotateError(
                f"{directory} does not belong to user {owner.st_uid}, who owns {current.place}, so root"
                " creates no files there: run this as that user, or `chown` the directory to them."
            )
    return owner.st_uid, owner.st_gid


def is_done(connection: Connection, pair: Pair, current: Credential, now: datetime) -> bool:
    """Whether a rotation to the current pair has just finished, and no other has begun."""
    certificate = current.facts.certificate
    fresh = certificate is not None and now - certificate.not_before < FRESH
    ours = NUMBERED.fullmatch(Path(connection.current.private_key.place).stem)
    return bool(fresh and ours and not connection.next and not Path(pair.private_key.place).exists())


def refuse_unusable(pair: Pair, current: Credential, following: Credential) -> None:
    """Raises RotateError if the pair can't sign, is incomplete, or is the current one."""
    problems = [problem.detail for problem in following.facts.problems]
    if following.key is None or (pair.certificate and not following.facts.pairs):
        cure = "If it is not in use yet, remove its files and run the command again to create another pair."
        raise RotateError("\n".join(["The next pair cannot be used:", *problems, cure]))
    if current.facts.key and following.facts.key and current.facts.key == following.facts.key:
        raise RotateError(
            f"{shown(pair.private_key)} is the current key: configure another pair under next, or remove"
            " next."
        )


def shown(source: Source | None) -> str:
    """A source, briefly."""
    if source is None:
        return "that key's certificate"
    return source.place if source.kind == "file" else describe(source)
