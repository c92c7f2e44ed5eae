"""A peer: blackbox_exporter sends the same POST to the same server. It signs nothing and keeps no history."""

import json
import shutil
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection

from bench.daemon import Watching
from bench.elsewhere import Elsewhere
from bench.exchange import AT_ONCE
from bench.figures import Figure, median_ratio
from bench.material import HOST, Material, name_of
from bench.server import MONITOR_CORE, SERVER_CORE, pin

PROGRAM = shutil.which("prometheus-blackbox-exporter") or shutil.which("blackbox_exporter")
PORT = 9715

GOAL_RATIO = 1 / 1.2
"""A complete check, relative to a bare probe."""


@dataclass(frozen=True, slots=True)
class _Exporter:
    target: str

    def cpu_seconds(self) -> float:
        """Since its start, from its own metrics."""
        lines = self._get("/metrics").decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("process_cpu_seconds_total"))

    def probe(self, _: int = 0) -> None:
        query = urllib.parse.urlencode({"module": "token", "target": self.target})
        if b"probe_success 1" not in self._get(f"/probe?{query}"):
            raise RuntimeError("blackbox_exporter's probe failed")

    def _get(self, path: str) -> bytes:
        with closing(HTTPConnection(HOST, PORT, timeout=60)) as line:
            line.request("GET", path)
            return line.getresponse().read()

    def each(self, times: int) -> float:
        """CPU seconds of one probe; more probes than `times` where so few cost nothing that can be seen."""
        before, made, used = self.cpu_seconds(), 0, 0.0
        with ThreadPoolExecutor(AT_ONCE) as threads:
            while not used:
                made += len(list(threads.map(self.probe, range(times))))
                used = self.cpu_seconds() - before
        return used / made


@contextmanager
def _running(material: Material, url: str, form: str) -> Iterator[_Exporter]:
    module = {
        "prober": "http",
        "http": {
            "method": "POST",
            "headers": {"Content-Type": "application/x-www-form-urlencoded"},
            "body": form,
            "preferred_ip_protocol": "ip4",
            "tls_config": {"ca_file": str(material.ca_file)},
        },
    }
    file = material.place / "blackbox.yml"
    file.write_text(json.dumps({"modules": {"token": module}}))
    assert PROGRAM
    pin(MONITOR_CORE)  # inherited by the exporter
    process = subprocess.Popen(  # noqa: S603 - our own arguments
        [PROGRAM, f"--config.file={file}", f"--web.listen-address={HOST}:{PORT}", "--log.level=error"],
        env={"GOMAXPROCS": "1"},
        stderr=subprocess.DEVNULL,
    )
    pin(SERVER_CORE)
    try:
        yield _Exporter(f"{url}/{name_of(0)}/services/oauth2/token")
    finally:
        process.terminate()
        process.wait()


def figures(
    material: Material, url: str, watching: Elsewhere[Watching], rounds: int, times: int
) -> Iterator[Figure]:
    """CPU of a complete check relative to the peer's probe, in turns."""
    checks, probes = [], []
    with _running(material, url, watching.call(Watching.form)) as exporter:
        _until_it_listens(exporter)
        for _ in range(rounds):
            probes.append(exporter.each(times))
            checks.append(watching.call(Watching.checks, times, AT_ONCE))
    yield Figure("CPU of blackbox_exporter's bare POST", 1000 * sum(probes) / rounds, "ms")
    yield Figure(
        "CPU of a check, in a row / blackbox_exporter's bare POST",
        median_ratio(checks, probes),
        goal=GOAL_RATIO,
    )


def _until_it_listens(exporter: _Exporter) -> None:
    for _ in range(100):
        with suppress(ConnectionRefusedError):
            exporter.probe()
            return
        time.sleep(0.1)
    raise RuntimeError("blackbox_exporter did not start")
