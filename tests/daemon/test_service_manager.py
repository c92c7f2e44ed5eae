"""Messages to systemd over real sockets: ready, reloading, stopping, and the watchdog's ping."""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from monitor.daemon.service_manager import ServiceManager


@contextlib.contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(5)
        yield manager


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """Short enough for a socket, wherever the tests keep their files."""
    short = Path(f"/tmp/bearerwatch-{os.getpid()}-{time.monotonic_ns()}")
    yield short
    short.unlink(missing_ok=True)


def told(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().splitlines()


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_each_message_follows_the_protocol(path: Path, abstract: bool) -> None:
    name = f"{'@' if abstract else ''}{path}"

    with listening(f"\0{path}" if abstract else str(path)) as manager:
        us = ServiceManager({"NOTIFY_SOCKET": name})
        us.ready()
        ready = told(manager)
        us.reloading()
        reloading = told(manager)
        us.stopping()
        stopping = told(manager)

    assert ready == ["READY=1"]
    assert stopping == ["STOPPING=1"]
    assert reloading[0] == "RELOADING=1"
    since = int(reloading[1].removeprefix("MONOTONIC_USEC=")) / 1e6
    assert 0 <= time.clock_gettime(time.CLOCK_MONOTONIC) - since < 60


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "relative"}])
async def test_without_a_service_manager_nothing_happens(
    environment: dict[str, str],
) -> None:
    us = ServiceManager({**environment, "WATCHDOG_USEC": "1000"})

    with structlog.testing.capture_logs() as logs:
        us.ready()
        await us.keep_alive()

    assert logs == []


def test_a_missing_socket_is_logged_once_and_does_not_raise(path: Path) -> None:
    us = ServiceManager({"NOTIFY_SOCKET": str(path)})

    with structlog.testing.capture_logs() as logs:
        us.ready()
        us.ready()

    assert [log["event"] for log in logs] == ["service_manager_unreachable"]


def test_a_full_socket_does_not_block_the_daemon(path: Path) -> None:
    with listening(str(path)) as manager:
        us = ServiceManager({"NOTIFY_SOCKET": str(path)})
        with structlog.testing.capture_logs() as logs:
            for _ in range(100_000):
                if logs:
                    break
                us.ready()

        assert [log["event"] for log in logs] == ["service_manager_unreachable"]
        assert told(manager) == ["READY=1"]


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_pinged_only_if_it_is_for_this_process(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert ServiceManager(environment).watchdog_seconds == seconds


async def beats(manager: socket.socket, number: int) -> list[float]:
    """When the next beats came."""
    loop = asyncio.get_running_loop()
    times = []
    for _ in range(number):
        assert (await loop.sock_recv(manager, 4096)) == b"WATCHDOG=1"
        times.append(loop.time())
    return times


async def test_the_watchdog_is_pinged_twice_per_interval(path: Path) -> None:
    with listening(str(path)) as manager:
        manager.setblocking(False)
        us = ServiceManager({"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "100000"})
        beating = asyncio.create_task(us.keep_alive())
        times = await asyncio.wait_for(beats(manager, 5), 10)
        beating.cancel()

    # Four half intervals; a busy machine may take from the first of them, and add to the others.
    assert times[-1] - times[0] > 0.1


async def test_a_stuck_loop_stops_pinging(path: Path) -> None:
    with listening(str(path)) as manager:
        manager.setblocking(False)
        us = ServiceManager({"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "100000"})
        beating = asyncio.create_task(us.keep_alive())
        await asyncio.wait_for(beats(manager, 2), 10)

        stuck_until = time.monotonic() + 0.5
        while time.monotonic() < stuck_until:  # as a regular expression that never ends would
            pass
        with pytest.raises(BlockingIOError):
            manager.recv(4096)
        after = await asyncio.wait_for(beats(manager, 1), 10)
        beating.cancel()

    assert after
