"""File descriptors: how many the daemon needs, and whether the limit allows them."""

import resource

from monitor.web.connections import CONNECTIONS_AT_MOST

OTHERS = 64
"""Database, keys, notifications and libraries; 18 were observed in use."""


def needed(in_flight: int) -> int:
    """The most descriptors open with this many concurrent exchanges: two each, as old connections linger."""
    return 2 * in_flight + CONNECTIONS_AT_MOST + OTHERS


def enough(in_flight: int) -> str | None:
    """Raise the soft limit as needed. Gives a warning if the hard limit is too low."""
    wanted, (soft, hard) = needed(in_flight), resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most == wanted:
        return None
    return (
        f"This process may open {most} files, but may need {wanted} with max_in_flight: {in_flight}. Raise"
        " the limit (LimitNOFILE= of systemd, --ulimit nofile= of Docker), or lower max_in_flight."
    )
