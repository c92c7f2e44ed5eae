"""The way in: `python -m monitor` is the `bearerwatch` command. And the way out."""

import logging
import os
import signal
import sys
from typing import NoReturn


def main() -> None:
    """Run the command. Ctrl-C while it comes up ends it as it does later: without a traceback."""
    if os.name != "posix":
        sys.exit("bearerwatch runs on Linux and macOS. On Windows, run it in WSL or in a container.")
    try:
        from monitor.commands.cli import main as run
        from monitor.daemon import memory
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)  # as a shell would say it
    memory.keep_private()
    try:
        run()
    except SystemExit as done:
        _leave(done.code if isinstance(done.code, int) else int(bool(done.code)))


def _leave(code: int) -> NoReturn:
    """Leave at once. A thread of pyreqwest's that ends while the interpreter takes itself apart aborts the
    process, when all is done: of twenty `alerts test` on a busy machine, one gave 134 for its exit code.
    """
    logging.shutdown()  # the last lines of the log
    for stream in filter(None, (sys.stdout, sys.stderr)):  # a shell can close either (`2>&-`)
        try:
            stream.flush()
        except BrokenPipeError:
            continue  # whoever read it has gone
        except OSError:
            code = code or 1  # nobody will read it: a full disk
    os._exit(code)


if __name__ == "__main__":
    main()
