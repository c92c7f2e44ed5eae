"""The way in: `python -m monitor` is the `bearerwatch` command."""

import signal
import sys


def main() -> None:
    """Run the command. Ctrl-C while it comes up ends it as it does later: without a traceback."""
    try:
        from monitor.cli import main as run
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)  # as a shell would say it
    run()


if __name__ == "__main__":
    main()
