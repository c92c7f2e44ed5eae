"""Reloads that are requested while another one is under way."""

import asyncio
import os
import socket
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from monitor.config import load
from monitor.daemon.daemon import Daemon
from monitor.store import Store
from monitor.watch.clock import Clock


async def test_requests_during_a_reload_share_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "bearerwatch.yaml"
    address = f"\0bearerwatch-{os.getpid()}-{time.monotonic_ns()}"
    config.write_text("connections: []\n")
    monkeypatch.setenv("NOTIFY_SOCKET", address.replace("\0", "@"))
    store = Store.open(tmp_path / "past.db")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, capture_logs() as logs:
        manager.bind(address)
        manager.setblocking(False)
        daemon = Daemon(config, load(config, {}), clock=Clock(), store=store)

        first = asyncio.create_task(daemon.reload())
        told = await asyncio.get_running_loop().sock_recv(manager, 4096)
        config.write_text("connections: nonsense\n")
        problems = await asyncio.gather(*(daemon.reload() for _ in range(5)))

        assert told.startswith(b"RELOADING=1")
        await first
        assert len(set(problems)) == 1
        assert "connections" in (problems[0] or "")
        assert sum(line["event"] in {"reloaded", "reload_failed"} for line in logs) == 2
        await daemon._files.stop()
        await daemon._notifier.aclose()
        await daemon.watch.aclose()
    store.close()
