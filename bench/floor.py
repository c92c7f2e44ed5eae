"""The baseline of an exchange: a bare signature and a blocking exchange using `ssl`, with verification.

Contains no code of the monitor: the minimum for any program with this Python and OpenSSL.
"""

import json
import socket
import ssl
import time
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from bench.material import Material, name_of

ANSWER_BYTES = 64 * 1024


class Floor:
    """Bare exchanges with one server. All post the same `assertion`, which the org verifies each time."""

    def __init__(self, url: str, material: Material, key: RSAPrivateKey, assertion: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._address = parts.hostname, parts.port
        self._host = parts.hostname
        self._context = ssl.create_default_context(cafile=str(material.ca_file))
        self._key = key
        self.form = body = (
            f"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}"
        )
        self._request = (
            f"POST /{name_of(0)}/services/oauth2/token HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            "Accept: application/json\r\nConnection: close\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()
        self._signed = assertion.rpartition(".")[0].encode()

    def cpu_seconds(self, times: int, every_seconds: float = 0.0) -> float:
        """Average CPU of one signature and exchange, back to back or every `every_seconds`."""
        turn, before = time.monotonic(), time.process_time()
        for _ in range(times):
            self._key.sign(self._signed, PKCS1v15(), SHA256())
            self._exchange()
            turn += every_seconds
            time.sleep(max(0.0, turn - time.monotonic()))
        return (time.process_time() - before) / times

    def _exchange(self) -> None:
        with (
            socket.create_connection(self._address) as bare,
            self._context.wrap_socket(bare, server_hostname=self._host) as line,
        ):
            line.sendall(self._request)
            answer = b""
            while piece := line.recv(ANSWER_BYTES):
                answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " not in head[:20] or "access_token" not in json.loads(body):
            raise RuntimeError(f"the server did not grant: {head[:100]!r} {body[:200]!r}")
