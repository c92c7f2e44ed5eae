"""The dialogue of a rotation, step by step."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import aclosing, closing
from dataclasses import replace
from datetime import datetime

from monitor.commands.rotate.looking import Look, Watcher
from monitor.commands.rotate.pair import Options, is_done, make, next_pair, refuse_unusable, shown
from monitor.commands.rotate.writing import lines, write_current, write_next
from monitor.config import Settings
from monitor.core.connection import Connection, Pair
from monitor.core.history import STAGES
from monitor.keys.sources import Keyring
from monitor.salesforce.exchange import Exchanger
from monitor.watch.clock import Clock

Say = Callable[[str], None]

AGAIN = "Run the same command again to continue."


def rotate(
    settings: Settings,
    connection: Connection,
    options: Options,
    *,
    clock: Clock,
    say: Say,
    ask: Callable[[str], bool],
) -> Look | None:
    """Guide the user through a connection's rotation, as far as possible now.

    Gives the last look; None if there is nothing to rotate. Raises RotateError and KeygenError.
    """
    pair = next_pair(connection, options.out)
    look = asyncio.run(_watched(settings, connection, pair, options, clock, say))
    if look is None:
        return None
    if not look.accepted:
        say(f"Stopped: the next key is not accepted yet. {AGAIN}")
        return look
    key = pair.private_key
    say(f"\n4. {STAGES[look.stage]}")
    if key.kind == "file":
        say(f"   The integration needs the new private key as one line (step 1): base64 -w 0 {key.place}")
    if look.current:
        say("   The current key is still accepted, but an app has only one certificate, so do not wait.")
    if not options.write:
        say("\n5. Once the integration uses it, make it the current key here, too. In the configuration:")
        for line in lines(pair, following=False):
            say(f"     {line}")
        say("   and remove next; or run this command again with --write.")
    elif ask("\n5. Does the integration use the next key now? If so, it becomes the current key here, too."):
        said = write_current(settings, connection.name, pair, clock.now())
        say("   Done: {} is updated; backup: {}".format(*said))
    else:
        say(f"   Nothing was changed. {AGAIN}")
    return look


async def _watched(
    settings: Settings, connection: Connection, pair: Pair, options: Options, clock: Clock, say: Say
) -> Look | None:
    """From the pair to the last look; None if there is nothing to rotate."""
    now = clock.now()
    with closing(Keyring(os.environ, settings.vault)) as keyring:
        current = await keyring.load(connection.current)
        if is_done(connection, pair, current, now):
            say("The current pair is less than a day old: there is nothing to rotate.")
            say("To rotate anyway, create a pair (bearerwatch keygen) and configure it under next.")
            return None
        made = make(connection, pair, options, now)
        following = await keyring.load(pair)
    refuse_unusable(pair, current, following)
    say(f"1. The next pair {'was created' if made else 'already exists'}:")
    say(f"     private key, to keep secret:  {shown(pair.private_key)}")
    say(f"     certificate, to upload:       {shown(pair.certificate)}")
    if connection.next:
        say("   It is configured under next.")
    elif options.write:
        said = write_next(settings, connection.name, pair, now)
        say("   It is now configured under next in {}; backup: {}".format(*said))
    else:
        say("   To have the daemon try it too, add it to the configuration (--write does that):")
        for line in lines(pair, following=True):
            say(f"     {line}")
    say(f"\n2. An admin of {connection.host} uploads the certificate (setup guide, step 2). For 2 to 10")
    say("   minutes after that either key may be refused: choose a quiet time.")
    say("     - In Setup, open External Client App Manager, select the app, and open the Settings tab.")
    say(f"     - Under Flow Enablement, upload {shown(pair.certificate)} to replace the existing one.")
    say("     - Make sure that Enable JWT Bearer Flow is still checked, and click Save.")
    say("     For a classic connected app: Setup > App Manager, Edit, Use digital signatures, Save.")
    say("\n3. Waiting until the org accepts it (Ctrl-C stops; you can continue at any time):")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    rotating = replace(connection, next=pair)
    exchanger = Exchanger(ca_file=settings.ca_file, allowed_hosts=settings.allowed_hosts, clock=clock.machine)

    def tell(look: Look, due: datetime) -> None:
        say(f"   {look.at:%H:%M:%S}  {look.line()} Next try at {due:%H:%M:%S} UTC.")

    async with aclosing(exchanger):
        watcher = Watcher(rotating, exchanger, clock, settings.login_budget_per_hour)
        look = await watcher.until_accepted(current, following, tell=tell, stop=stop)
    if look.accepted:
        say(f"   {look.at:%H:%M:%S}  {look.line()}")
    return look
