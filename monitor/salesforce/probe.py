"""One look at an org with one key: sign, post, read the answer. It remembers nothing and judges nothing.

The check, the search for the right endpoint and the guided rotation all look at an org through here.
"""

from collections.abc import Callable
from datetime import datetime

from monitor.core.connection import Connection
from monitor.core.keys.assertion import sign
from monitor.core.keys.credential import Credential
from monitor.core.outcome import Exchange, NotSent
from monitor.salesforce.exchange import Exchanger
from monitor.salesforce.org import Inside

TakeLogin = Callable[[datetime], datetime | None]
"""Takes one login from a budget. Gives None where there was one, else when there is one again."""


class PutOff(Exception):  # noqa: N818 # not an error: the look is made later
    """There is no login for this look before `until`."""

    def __init__(self, until: datetime) -> None:
        super().__init__(until)
        self.until = until


async def probe(
    exchanger: Exchanger,
    connection: Connection,
    credential: Credential,
    *,
    take: TakeLogin = lambda at: None,
    first_call: bool = False,
    inside: Inside | None = None,
) -> Exchange:
    """One exchange with this key, followed by a REST call with the token where `first_call`, and by `inside`.

    `take` is asked as the assertion is signed: a look may have waited for its turn, or its machine slept,
    and the login may be another replica's by then. Raises PutOff where it gives a moment.
    """
    key = credential.key
    if key is None:
        return Exchange(exchanger.now(), NotSent("No usable private key."))

    def signed(at: datetime) -> str:
        if until := take(at):
            raise PutOff(until)
        return sign(connection, key, at)

    return await exchanger.exchange(connection, signed, after_login=first_call, inside=inside)
