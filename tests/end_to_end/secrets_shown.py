"""Finds secrets in what a process left behind: whole or in part, as PEM, base64, hexadecimal or decimal."""

import base64
import re
from collections.abc import Iterable, Iterator

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
)

LETTERS = 24
"""Characters in a row that no chance brings about: 24 of base64 are 144 bits, 24 decimal digits are 79."""

BYTES = 12
"""Bytes in a row, in a database or a core: 96 bits."""

SHAPES = (
    re.compile(rb"eyJ[\w-]{4,}\.[\w-]+\.[\w-]*"),  # an assertion, or an access token in JWT format
    re.compile(rb"00D\w{9,15}(?:!|%21)[\w.]"),  # an access token
    re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
)
"""Secrets that come and go are known by their shape."""

_RUNS = re.compile(rb"[A-Za-z0-9+/_=-]{%d,}" % LETTERS)


class Searched:
    """Secrets of one run, to be searched for."""

    def __init__(self, keys: Iterable[bytes], words: Iterable[str] = ()) -> None:
        self._windows: set[bytes] = set()
        self._bytes: set[bytes] = set()
        self._words = [word.encode() for word in words]
        for pem in keys:
            for text in _texts_of(pem):
                self._windows.update(_windows(text, LETTERS))
            self._bytes.update(_windows(_body(pem), BYTES))

    def found_in(self, content: bytes) -> list[bytes]:
        """The secrets found in a text, shortened."""
        found = [match[0] for shape in SHAPES for match in shape.finditer(content)]
        found += [word for word in self._words if word in content]
        # Escaped line breaks, as in JSON or in a repr, would glue a letter to what follows.
        for run in _RUNS.finditer(content.replace(b"\\n", b"\n")):
            found += [window for window in _windows(run[0], LETTERS) if window in self._windows][:1]
        found += [window for window in _windows(content, BYTES) if window in self._bytes][:1]
        return [each[:60] for each in found]


def _windows(content: bytes, length: int) -> Iterator[bytes]:
    return (content[at : at + length] for at in range(len(content) - length + 1))


def _body(pem: bytes) -> bytes:
    """The bytes in a PEM, also in one that was cut off."""
    letters = b"".join(line for line in pem.splitlines() if not line.startswith(b"-"))
    content = base64.b64decode(letters[: len(letters) // 4 * 4])
    # The bytes before are the kind of key and its public half, which the certificate shows too.
    return content[300:] if len(content) > 600 else content[36:]


def _texts_of(pem: bytes) -> Iterator[bytes]:
    body = _body(pem)
    for shift in range(3):  # base64 of a part begins anywhere
        yield base64.b64encode(body[shift:])
        yield base64.urlsafe_b64encode(body[shift:])
        of_the_file = base64.b64encode(pem[shift:])  # as the guide hands it over
        yield of_the_file[len(of_the_file) * 3 // 10 :]
    yield body.hex().encode()
    yield body.hex().upper().encode()
    try:
        key = load_pem_private_key(pem, None)
    except ValueError:
        return
    if isinstance(key, RSAPrivateKey):
        numbers = key.private_numbers()
        for number in (numbers.p, numbers.q, numbers.d, numbers.dmp1, numbers.dmq1, numbers.iqmp):
            yield str(number).encode()
            yield f"{number:x}".encode()
