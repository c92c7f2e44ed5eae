"""One login to an org with one key: sign, post, read the answer. Stateless, without judgement."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime

from monitor.core.connection import Connection
from monitor.core.keys.assertion import sign
from monitor.core.keys.credential import Credential
from monitor.core.outcome import Exchange, NotSent
from monitor.salesforce.exchange import Exchanger, Login

TakeLogin = Callable[[datetime], datetime | None]
"""Takes one login from a budget. Gives None on success, otherwise when one is available."""


class PutOff(Exception):  # noqa: N818 # not an error: the probe is postponed
    """No login is available before `until`."""

    def __init__(self, until: datetime) -> None:
        super().__init__(until)
        self.until = until


def probe(
    exchanger: Exchanger,
    connection: Connection,
    credential: Credential,
    *,
    take: TakeLogin = lambda at: None,
) -> AbstractAsyncContextManager[Login]:
    """One login with this key.

    `take` is called when signing: the probe may have queued, or the machine slept, and the login may belong
    to another replica by then. Raises PutOff if it gives a time.
    """
    key = credential.key
    if key is None:
        return nullcontext(Login(exchanger, Exchange(exchanger.now(), NotSent("No usable private key."))))

    def signed(at: datetime) -> str:
        if until := take(at):
            raise PutOff(until)
        return sign(connection, key, at)

    return exchanger.login(connection, signed)
