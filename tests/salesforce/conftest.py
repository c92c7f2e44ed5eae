"""What the tests of the exchange share: certificates, and exchangers on either transport."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime

import pytest

from monitor.salesforce.exchange import Exchanger
from monitor.salesforce.transport import Limits, TransportFactory, rust_transport
from tests.making import NOW
from tests.salesforce.httpcore import httpcore_transport
from tests.salesforce.wire import Certificates, MakeExchanger, make_certificates

PATIENT = Limits()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=[rust_transport, httpcore_transport], ids=["pyreqwest", "httpcore"])
def transport(request: pytest.FixtureRequest) -> TransportFactory:
    made: TransportFactory = request.param
    return made


@pytest.fixture
async def make_exchanger(
    certificates: Certificates, transport: TransportFactory
) -> AsyncIterator[MakeExchanger]:
    """Makes exchangers that trust the tests' CA; closes them."""
    made: list[Exchanger] = []

    def make(
        limits: Limits = PATIENT,
        *,
        allowed_hosts: frozenset[str] = frozenset(),
        transport: TransportFactory = transport,
        clock: Callable[[], datetime] = lambda: NOW,
    ) -> Exchanger:
        exchanger = Exchanger(
            limits=limits,
            ca_file=certificates.ca_file,
            allowed_hosts=allowed_hosts,
            transport=transport,
            clock=clock,
        )
        made.append(exchanger)
        return exchanger

    yield make
    for exchanger in made:
        await exchanger.aclose()
