"""The simulator over TLS, in a separate process on a separate core, with an org for each connection.

It verifies every assertion, like a real org. It also limits the rate: its side of an exchange needs more CPU
than the monitor's.
"""

import asyncio
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection as Pipe

from bench.material import AUDITED, HOST, Material, consumer_key_of, name_of, username_of
from monitor.simulator.server import Simulator, Tls, serve

MONITOR_CORE, SERVER_CORE = 0, 1

START_WITHIN_SECONDS = 240.0

LOGINS_OVER = timedelta(hours=9)
SHOWING = {
    "permissions": ("ViewSetup", "ViewSetupAuditTrail", "ExternalClientAppViewer"),
    "production": {"every_seconds": 60},
}
"""Orgs that can be audited: production has logged in more often than an audit reads."""


def pin(core: int) -> None:
    """Pin this process to one core, if the system allows it and has another."""
    unpin()
    if hasattr(os, "sched_setaffinity") and len(cores := sorted(os.sched_getaffinity(0))) > 1:
        os.sched_setaffinity(0, {cores[core]})


def unpin() -> None:
    """Allow this process on all cores: it inherits its parent's pinning."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))


@contextmanager
def serving(material: Material, connections: int) -> Iterator[str]:
    """Run the server, with an org for each connection. Yields its URL."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(material, connections, theirs), daemon=True)
    process.start()
    try:
        if not ours.poll(START_WITHIN_SECONDS):
            raise RuntimeError("the server did not start")
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _serve(material: Material, connections: int, pipe: Pipe) -> None:
    pin(SERVER_CORE)
    simulator = Simulator(lambda: datetime.now(UTC) - LOGINS_OVER)
    certificates = [material.certificate(number).read_text() for number in range(connections)]
    for number, certificate in enumerate(certificates):
        simulator.put(
            name_of(number),
            {
                "consumer_key": consumer_key_of(number),
                "username": username_of(number),
                "certificate": certificate,
                "login_rate_per_hour": 1_000_000,
                **(SHOWING if number < AUDITED else {}),
            },
        )
    simulator.advance(LOGINS_OVER.total_seconds())
    tls = Tls(material.server_certificate, material.server_key)
    asyncio.run(serve(simulator, host=HOST, port=0, tls=tls, ready=pipe.send))
