"""Entry point: `python -m monitor` runs the `bearerwatch` command and exits cleanly."""

import errno
import io
import logging
import os
import signal
import sys
from contextlib import suppress
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
    _make_streams_usable()
    try:
        run()
    except SystemExit as done:
        _leave(done.code if isinstance(done.code, int) else int(bool(done.code)))
    except OSError as problem:
        if problem.errno != errno.ENOSPC:
            raise
        _say_lost(problem)
        os._exit(1)


def _make_streams_usable() -> None:
    """What a locale cannot show becomes `?`, and a stdin that the shell has closed is empty."""
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115 - for as long as the process


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
        except OSError as problem:  # a full disk, for example
            code = code or 1
            _say_lost(problem)
    os._exit(code)


def _say_lost(problem: OSError) -> None:
    if sys.stderr:
        with suppress(OSError):
            sys.stderr.write(
                f"{problem.filename or 'The output'} could not be written: {problem.strerror}.\n"
            )


if __name__ == "__main__":
    main()
