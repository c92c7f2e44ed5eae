"""An audit that fails by a fault of ours."""

from datetime import timedelta

from structlog.testing import capture_logs

from monitor.core import history
from monitor.core.outcome import Exchange, Granted
from monitor.keys.sources import Keyring
from monitor.salesforce.exchange import Exchanger
from monitor.watch.audit import Auditor
from monitor.watch.budget import OwnLedger
from monitor.watch.clock import Clock
from monitor.watch.own_metrics import OwnMetrics
from tests.making import NOW, connection


async def test_an_audit_that_fails_by_our_own_fault_leaves_the_login_as_it_was() -> None:
    clock, acme, granted = Clock(), connection(), Granted("opaque", None, None, None, None)
    exchanger = Exchanger(clock=clock.now)
    auditor = Auditor(
        keyring=Keyring({}), exchanger=exchanger, clock=clock, own=OwnMetrics(), audits="always"
    )
    audit = auditor.audit(acme, history.begin(acme, NOW - timedelta(days=1)))

    async def broken(path: str) -> None:
        raise LookupError(path)

    with capture_logs() as logged:
        await audit.inside(granted, NOW, broken)
        found = await audit.finished(Exchange(NOW, granted), OwnLedger(60, lambda *_: None))
    await exchanger.aclose()

    assert found is None
    assert [line["event"] for line in logged] == ["audit_failed"]
