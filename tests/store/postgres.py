"""A real PostgreSQL server for tests: started, stopped, broken; one each test module that asks for it."""

import math
import os
import pwd
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg

COMMAND = "pg_ctlcluster"
"""Debian's command that is on the PATH where a server is installed; the server's own are not."""

_NUMBERS = count(1)


def program(name: str) -> Path:
    """One of the server's programs, of the newest version that is installed."""
    return max(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server with its own directory and port."""

    folder: Path
    port: int
    durable: bool = False
    """Whether it waits for the disk, as one does that must outlive a power cut."""

    def url(self, database: str) -> str:
        """The address of a database."""
        return f"postgresql://monitor@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """The address of a new, empty database."""
        name = f"test{next(_NUMBERS)}"
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def sql(self, text: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """What a statement gives."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            found = connection.execute(text)
            return found.fetchall() if found.description else []

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        fsync = "on" if self.durable else "off"
        settings = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync={fsync}"
        self._control("start", "-o", settings, "-l", str(self.folder / "log"))

    def stop(self) -> None:
        """Stop it, and break off every connection."""
        self._control("stop", "-m", "fast")

    def crash(self) -> None:
        """End it as a power cut would."""
        self._control("stop", "-m", "immediate")

    def copy(self, name: str) -> None:
        """Copy all that it has into another directory, as of now."""
        _as_nobody_special(
            program("pg_basebackup"), "-d", self.url("postgres"), "-D", self.folder / name, "-c", "fast"
        )

    def fail_over(self, name: str) -> None:
        """Let the copy take its place."""
        (self.folder / "data").rename(self.folder / f"before-{name}")
        (self.folder / name).rename(self.folder / "data")
        self.start()

    def pid(self) -> int:
        """The number of its first process, the parent of the others."""
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])

    def _control(self, *arguments: str) -> None:
        _as_nobody_special(program("pg_ctl"), "-D", self.folder / "data", "-w", *arguments)


def _as_nobody_special(*command: str | Path) -> None:
    """Run one of the server's programs: it refuses to run as root."""
    user = {"user": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    subprocess.run(
        [str(part) for part in command], check=True, capture_output=True, timeout=60, cwd="/", **user
    )  # type: ignore[call-overload] # a dictionary of options


@contextmanager
def postgres(*, durable: bool = False) -> Iterator[Postgres]:
    """A server, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="bearerwatch-postgres-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port: int = listener.getsockname()[1]
        _as_nobody_special(
            program("initdb"), "-D", folder / "data", "-A", "trust", "-U", "monitor", "--no-sync"
        )
        server = Postgres(folder, port, durable)
        server.start()
        try:
            yield server
        finally:
            server.stop()


class Proxy:
    """A proxy for the database that can be stalled: it then accepts connections but forwards nothing.

    `answers_at_most`: stall after this many bytes of a connection's answers.
    """

    def __init__(self, port: int, answers_at_most: float = math.inf) -> None:
        self._at_most = answers_at_most
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.open = threading.Event()
        self.open.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._to))
                except OSError:
                    near.close()
                    continue
                for ends in ((near, far, math.inf), (far, near, self._at_most)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, to: socket.socket, at_most: float) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(65536):
                passed += len(data)
                if passed > at_most:
                    self.open.clear()
                self.open.wait()
                to.sendall(data)
        # Each end is closed once, by its last reader.
        with suppress(OSError):
            to.shutdown(socket.SHUT_RDWR)
        source.close()

    def close(self) -> None:
        self.open.set()
        self._listener.close()
