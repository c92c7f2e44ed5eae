"""Open files: how many the daemon may need, and whether it may have them."""

import resource

PAGES = 256
"""Connections to the pages at most (`web.connections`)."""

OTHERS = 64
"""The database and its readers, keys, notifications, the libraries' own; 18 were seen in use."""


def needed(in_flight: int) -> int:
    """How many are open at most with so many exchanges at once: each has a connection, and another closes."""
    return 2 * in_flight + PAGES + OTHERS


def enough(in_flight: int) -> str | None:
    """Raise the limit to what is needed, as far as that is allowed. What is wrong where it is not enough."""
    wanted, (soft, hard) = needed(in_flight), resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most == wanted:
        return None
    return (
        f"This process may open {most} files, and may need {wanted} with max_in_flight: {in_flight}. Raise"
        " the limit (LimitNOFILE= of systemd, --ulimit nofile= of Docker), or lower max_in_flight."
    )
