"""Commands that call the running daemon, when something else answers instead."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from monitor.commands.running import NoAnswerError, Running
from monitor.config import load


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "body", [b"no JSON", b"[]", b'{"status": "ok"}', b'{"connections": 3}', b'{"connections": [{}]}']
)
def test_another_service_on_the_port_is_not_mistaken_for_the_daemon(body: bytes, tmp_path: Path) -> None:
    file = tmp_path / "bearerwatch.yaml"
    file.write_text("connections: []")

    with (
        answering(body) as url,
        Running(load(file, {}), url) as daemon,
        pytest.raises(NoAnswerError, match="is not bearerwatch"),
    ):
        daemon.shown()
