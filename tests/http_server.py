"""HTTP servers of a test's own, each on a free port of loopback."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Quiet(BaseHTTPRequestHandler):
    """Answers a GET or POST as its subclass does; a test's output is the test's own."""

    def answer(self) -> None:
        """Read the request, and answer it."""
        raise NotImplementedError

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def body(self) -> bytes:
        """What came with the request."""
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def say(self, status: int, content: bytes = b"", **headers: str) -> None:
        """Answer, and end the connection."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _Untrusted(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Nothing: failed handshakes are expected."""


@contextmanager
def serving(handler: type[Quiet], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The address of a server that answers so, until the block ends; with `tls`, whom clients don't trust."""
    server = (_Untrusted if tls else ThreadingHTTPServer)(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
