"""Entry point: `python -m monitor` runs the `bearerwatch` command and exits cleanly."""

import logging
import os
import signal
import sys
from typing import NoReturn


def main() -> None:
    """Run the command. Ctrl-C during start-up exits without a traceback, as it does later."""
    if os.name != "posix":
        sys.exit("bearerwatch runs on Linux and macOS. On Windows, run it in WSL or in a container.")
    try:
        from monitor.commands.cli import main as run
        from monitor.daemon import memory
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)  # the shell's convention
    memory.keep_private()
    try:
        run()
    except SystemExit as done:
        _leave(done.code if isinstance(done.code, int) else int(bool(done.code)))


def _leave(code: int) -> NoReturn:
    """Exit without finalizing the interpreter. A pyreqwest thread that ends during finalization aborts the
    process: on a busy machine, one of twenty `alerts test` runs exited with 134.
    """
    logging.shutdown()  # the last lines of the log
    for stream in filter(None, (sys.stdout, sys.stderr)):  # a shell can close either (`2>&-`)
        try:
            stream.flush()
        except BrokenPipeError:
            continue  # the reader has gone
        except OSError:
            code = code or 1  # the output is lost, on a full disk for example
    os._exit(code)


if __name__ == "__main__":
    main()
