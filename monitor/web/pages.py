"""The HTML pages, rendered from a Snapshot and the store, without any judgement.

Text from servers and operators is untrusted: all templates autoescape, without exceptions.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from hashlib import blake2b
from itertools import chain
from operator import attrgetter
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from monitor.core import wording
from monitor.core.catalogue import CATALOGUE
from monitor.core.connection import Connection
from monitor.core.finding import Finding, State
from monitor.core.history import STAGES
from monitor.core.keys.credential import CertificateFacts
from monitor.core.status import NO_FACTS, WORST_FIRST, ConnectionStatus, Snapshot
from monitor.core.verdict.approval import note
from monitor.core.verdict.audit import steps_of
from monitor.core.wording import short, steps
from monitor.store import Store, StoreError
from monitor.web import drawing, words
from monitor.web.drawing import STRIP_DAYS, Strip
from monitor.web.record import read_record
from monitor.web.reproduce import command
from monitor.web.runbooks import coded, guide_link
from monitor.web.selection import Selection, since

STATIC = Path(__file__).parent / "static"

VERSIONED = {
    file.name: f"/static/{file.name}?v={blake2b(file.read_bytes(), digest_size=6).hexdigest()}"
    for file in STATIC.iterdir()
}
"""URLs of static files with a content hash, so that browsers can cache them but notice updates."""

PAGE_ROWS = 100
"""Connections per page: few enough for a browser to render at once."""

LABELS_OFFERED = 200
"""Most labels offered by the search, most frequent first. With one customer per connection there are as many
values as connections."""

REFRESH_SECONDS = 10
"""How often an open page refreshes; each takes the daemon up to 30 ms."""


class Pages:
    """Renders the templates. Reads the store, so call it from a thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._labels: tuple[list[Connection], list[str], list[str]] = [], [], []
        self._templates = Environment(
            loader=PackageLoader("monitor.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            coded=coded,
            guided=guide_link,
            foldable=foldable,
            sentence=lambda text: text[0].upper() + text[1:],
            steps_for=steps,
            relative=words.relative,
            span=words.span,
            exact=words.exact,
            seconds=words.seconds,
            percent=words.percent,
            short=short,
            spent=_spent,
            source=lambda source: f"{source.kind} {source.place} {source.field}".rstrip(),
            count="{:,}".format,
            iso="{:%Y-%m-%dT%H:%M:%SZ}".format,
        )
        self._templates.globals.update(
            catalogue=CATALOGUE,
            certificate_causes={cause for cause, entry in CATALOGUE.items() if entry.certificate_dates},
            who=words.WHO,
            acts=words.ACTS,
            who_exactly=wording.WHO,
            without_finding=words.WITHOUT_FINDING,
            stages=STAGES,
            no_facts=NO_FACTS,
            refresh_seconds=REFRESH_SECONDS,
            when=words.when,
            since=since,
            asset=VERSIONED,
        )

    def fleet(self, snapshot: Snapshot, selection: Selection, page: int) -> bytes:
        """The status page. `page` is limited to the last one."""
        chosen = selection.of(snapshot.connections)
        last = max(1, -(-len(chosen) // PAGE_ROWS))
        page = min(max(page, 1), last)
        first = (page - 1) * PAGE_ROWS
        shown = chosen[first : first + PAGE_ROWS]
        strips, unreadable = self._strips([status.name for status in shown], snapshot.at)
        counts = snapshot.states()
        findings = [*filter(None, map(attrgetter("findings"), snapshot.connections))]
        labels, label_keys = self._labels_of(snapshot)
        return self.render(
            "fleet.html",
            snapshot,
            unreadable=unreadable,
            selection=selection,
            query=cache(selection.query),  # rows have many labels in common
            counts=counts,
            headline=headline(counts),
            worst_first=WORST_FIRST,
            shares=drawing.shares(counts),
            causes=_connections_by(attrgetter("cause"), findings),
            responsible=_connections_by(attrgetter("responsible"), findings),
            labels=labels,
            label_keys=label_keys,
            by_label=_by_label(chosen, selection.by) if selection.by else [],
            rows=shown,
            strips=strips,
            until=snapshot.maintenance,
            total=len(snapshot.connections),
            matched=len(chosen),
            first=first + 1,
            page=page,
            last=last,
        )

    def _labels_of(self, snapshot: Snapshot) -> tuple[list[str], list[str]]:
        """The labels to offer and all keys, counted once per configuration."""
        connections = [status.connection for status in snapshot.connections]
        if connections != self._labels[0]:
            counted = Counter(chain.from_iterable(connection.labels for connection in connections))
            offered = [f"{key}={value}" for (key, value), _ in counted.most_common(LABELS_OFFERED)]
            self._labels = connections, offered, sorted({key for key, _ in counted})
        return self._labels[1:]

    def connection(self, snapshot: Snapshot, status: ConnectionStatus, *, may_ask: bool) -> bytes:
        """A connection's page, with a button to check it now if allowed."""
        record, unreadable = read_record(self._store, status, snapshot.at, snapshot.daemon.maintenance)
        connection, history = status.connection, status.history
        return self.render(
            "connection.html",
            snapshot,
            unreadable=unreadable,
            status=status,
            may_ask=may_ask and not connection.paused,
            maintenance=snapshot.maintenance(connection),
            command=command(connection),
            strip=drawing.strip(record.days, snapshot.at.date()) if record else None,
            timeline=drawing.timeline(history, status.forecast, snapshot.at),
            approval_note=note(connection, history.audit),
            audited=steps_of(status, snapshot.at),
            changes=history.audit.changes if history.audit else (),
            record=record,
            durations=drawing.durations(record.exchanges) if record else None,
        )

    def render(
        self, template: str, snapshot: Snapshot, *, unreadable: str | None = None, **values: object
    ) -> bytes:
        """A page; `unreadable` says why the store can't be read, if so."""
        page = self._templates.get_template(template)
        filled = page.render(now=snapshot.at, daemon=snapshot.daemon, unreadable=unreadable, **values)
        return filled.encode("utf-8", "replace")

    def _strips(self, names: Sequence[str], now: datetime) -> tuple[Mapping[str, Strip] | None, str | None]:
        try:
            days = self._store.days(names, drawing.first_day(now.date()), STRIP_DAYS)
        except StoreError as error:
            return None, str(error)
        return {name: drawing.strip(days.get(name, ()), now.date()) for name in names}, None


def foldable(code: str) -> Markup:
    """A cause's code with break opportunities for narrow pages, which don't affect copying."""
    return Markup("_<wbr>").join(code.split("_"))


def headline(counts: Mapping[State, int]) -> str:
    """The fleet in one sentence, most urgent first."""
    if not any(counts.values()):
        return "No connections are configured"
    told = [
        f"{counts[state]:,} {state}"
        for state in WORST_FIRST
        if counts[state] and state not in {State.HEALTHY, State.PAUSED}
    ]
    if told:
        return " and ".join(filter(None, (", ".join(told[:-1]), told[-1])))
    if counts[State.HEALTHY]:
        return "All healthy" if counts[State.HEALTHY] > 1 else "Healthy"
    return "All connections are paused"


def _connections_by(part: Callable[[Finding], str], findings: Iterable[Sequence[Finding]]) -> Counter[str]:
    """The number of connections by a part of their findings."""
    return Counter(one for found in findings for one in {part(each) for each in found})


def _by_label(statuses: Iterable[ConnectionStatus], key: str) -> list[tuple[str, int, int]]:
    """A label's values, with their numbers of failing and of all connections; most failing ones first."""
    every, failing = Counter[str](), Counter[str]()
    for status in statuses:
        for value in (value for name, value in status.connection.labels if name == key):
            every[value] += 1
            failing[value] += status.state is State.FAILING
    return sorted(
        ((value, failing[value], count) for value, count in every.items()),
        key=lambda found: (-found[1], -found[2], found[0]),
    )


def _spent(certificate: CertificateFacts, now: datetime) -> float:
    """The elapsed share of a certificate's lifetime, in percent."""
    lifetime = max(certificate.not_after - certificate.not_before, timedelta(seconds=1))
    return round(min(100.0, max(0.0, 100 * ((now - certificate.not_before) / lifetime))), 2)
