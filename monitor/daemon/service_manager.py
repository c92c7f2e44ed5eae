"""What the daemon tells systemd: that it is ready, reloads, stops, and that its event loop still turns.

The protocol is a datagram of lines (sd_notify(3)). It is spoken here in a few lines of the standard library:
the packages that do so need libsystemd's headers to be built, or have had no release for years.
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
    """The service manager that started us; where there is none, nothing that is said here goes anywhere."""

    def __init__(self, environment: Mapping[str, str], *, process_id: int | None = None) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog_seconds = _watchdog_seconds(
            environment, os.getpid() if process_id is None else process_id
        )
        """How long it waits for a sign of life before it restarts us; None where it doesn't."""
        self._failed = False

    def ready(self) -> None:
        """Started, or done with a reload."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """A reload begins; it ends with `ready`. The time lets systemd tell it from an earlier one."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """The end begins."""
        self._tell("STOPPING=1")

    async def keep_alive(self) -> None:
        """Say twice in each watchdog interval that the event loop turns, until cancelled.

        The loop itself says so, no thread: a loop that is stuck falls silent, and is restarted. Returns at
        once where nobody waits for it.
        """
        if self._address is None or self.watchdog_seconds is None:
            return
        while True:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_seconds / 2)  # half, as sd_watchdog_enabled(3) advises

    def _tell(self, *lines: str) -> None:
        """Send the lines. Never blocks; a socket's failure raises nothing and is logged once."""
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._failed:  # once: the watchdog would repeat it for ever
                log.warning("service_manager_unreachable", problem=error.strerror)
            self._failed = True
        else:
            self._failed = False


def _address(written: str) -> str | None:
    """The socket of $NOTIFY_SOCKET: a path, or a name in the abstract namespace, which begins with @."""
    if written.startswith("@"):
        return "\0" + written[1:]
    return written if written.startswith("/") else None


def _watchdog_seconds(environment: Mapping[str, str], process_id: int) -> float | None:
    """The watchdog's interval, where it is meant for this process."""
    written = environment.get("WATCHDOG_USEC", "")
    if not written.isdecimal() or int(written) == 0:
        return None
    if environment.get("WATCHDOG_PID", str(process_id)) != str(process_id):
        return None
    return int(written) / MICROSECONDS
