"""Tells systemd that the daemon is ready, reloading, stopping, and that its event loop is alive.

The protocol is one datagram of lines (sd_notify(3)), implemented here with the standard library: existing
packages need libsystemd's headers or have had no release for years.
"""

import asyncio
import os
import socket
import time
from collections.abc import Mapping

import structlog

MICROSECONDS = 1_000_000

log = structlog.get_logger()


class ServiceManager:
    """The service manager that started us. Without one, all methods do nothing."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog_seconds = _watchdog_seconds(environment)
        """The watchdog's timeout; None without a watchdog."""
        self._failed = False

    def ready(self) -> None:
        """Report the end of a start or reload."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """Report the start of a reload, which `ready` ends. The time distinguishes it from earlier ones."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """Report the start of a stop."""
        self._tell("STOPPING=1")

    async def keep_alive(self) -> None:
        """Ping the watchdog twice per interval, until cancelled.

        Runs in the event loop, so that a stuck loop goes silent and systemd restarts the daemon. Returns at
        once without a watchdog.
        """
        if self._address is None or self.watchdog_seconds is None:
            return
        while True:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_seconds / 2)  # half, as sd_watchdog_enabled(3) advises

    def _tell(self, *lines: str) -> None:
        """Send lines. Never blocks; a socket error is logged once and not raised."""
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._failed:  # otherwise each watchdog ping would repeat it
                log.warning("service_manager_unreachable", problem=error.strerror)
            self._failed = True
        else:
            self._failed = False


def _address(written: str) -> str | None:
    """The socket in $NOTIFY_SOCKET: a path, or a name in the abstract namespace, prefixed with @."""
    if written.startswith("@"):
        return "\0" + written[1:]
    return written if written.startswith("/") else None


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """The watchdog's interval, if it is for this process."""
    written = environment.get("WATCHDOG_USEC", "")
    if not written.isdecimal() or int(written) == 0:
        return None
    if environment.get("WATCHDOG_PID") not in {None, str(os.getpid())}:
        return None
    return int(written) / MICROSECONDS
