"""Keys: `keygen` and `rotate`."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from monitor.commands.cli.arguments import ConfigOption, NameArgument, chosen_of, settings_of
from monitor.commands.cli.exits import Exit, log_errors_alone, say
from monitor.keys import keygen
from monitor.watch.clock import Clock


def make_keys(
    out: Annotated[Path, typer.Option(help="Directory for the two files; created if missing.")],
    days: Annotated[int, typer.Option(min=1, max=36_500, help="How long the certificate is valid.")] = 3650,
    bits: Annotated[int, typer.Option(help="2048, 3072 or 4096.")] = 2048,
    name: Annotated[str, typer.Option(help="The certificate's common name.")] = keygen.COMMON_NAME,
) -> None:
    """Create a private key and a certificate, as step 1 of the setup guide does with openssl.

    It never overwrites files. Example: `bearerwatch keygen --out keys`
    """
    pair = keygen.generate(out, days=days, bits=bits, common_name=name, now=datetime.now(UTC))
    say(f"Private key (keep it secret):       {pair.key_path}")
    say(f"Certificate (upload to Salesforce): {pair.certificate_path}")
    say(f"The key as one line, for the integration: base64 -w 0 {pair.key_path}")


def rotate_key(
    name: NameArgument,
    config: ConfigOption,
    write: Annotated[
        bool,
        typer.Option(
            "--write", help="Write the next pair into the configuration, and keep a backup of the file."
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Directory for the new pair. Default: that of the current key.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=36_500, help="How long its certificate is valid.")] = 3650,
    bits: Annotated[int, typer.Option(help="2048, 3072 or 4096.")] = 2048,
) -> None:
    """Rotate a key step by step: creates the next pair, waits for its upload, and says when to switch.

    You can stop it at any time and continue later. Exit code: 0 the next key is accepted, 1 neither key is,
    2 an error, 3 not accepted yet.

    Example: `bearerwatch rotate acme-production --config bearerwatch.yaml`
    """
    from monitor.commands.rotate.guide import AGAIN, rotate
    from monitor.commands.rotate.pair import Options

    log_errors_alone()
    try:
        settings = settings_of(config)
        (connection,) = chosen_of(settings, [name])
        options = Options(out, days, bits, write)
        look = rotate(settings, connection, options, clock=Clock(), say=say, ask=_ask)
    except KeyboardInterrupt:
        say(f"\nStopped. {AGAIN}")
        raise typer.Exit(Exit.NO_VERDICT) from None
    if look is None or look.accepted:
        raise typer.Exit(Exit.FINE)
    raise typer.Exit(Exit.FAILING if look.current is False else Exit.NO_VERDICT)


def _ask(question: str) -> bool:
    """Ask a yes/no question on stderr; anything but yes on stdin means no."""
    say(f"{question} [y/N]")
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
