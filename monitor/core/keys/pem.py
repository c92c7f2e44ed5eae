"""Extracts PEM blocks from what an operator provides as key or certificate, or says what it is instead.

Also accepts base64 of PEM with or without line breaks (as in the setup guide's step 1), Windows line ends, a
byte order mark, UTF-16 (written by `>` in Windows PowerShell), surrounding quotes and spaces, escaped line
breaks (backslash and n), and DER for certificates.
"""

import json
import re
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Block:
    """The content between a BEGIN and an END line."""

    label: str
    der: bytes = field(repr=False)
    """Empty if the block is encrypted."""
    encrypted: bool = False


class MalformedError(ValueError):
    """The material can't be used. The text is one sentence: what it is, and how to fix it."""


_WRAPPING = " \t\r\n\"'`“”‘’\ufeff\u00a0\u200b"
"""Characters that copying may leave around a value: spaces, quotes, invisible marks."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
"""Characters that text does not contain: control characters other than tabs and line breaks."""

_BEGIN = "-----BEGIN "
_BEGIN_IN_BASE64 = "LS0tLS1CRUdJTi"
_CERTIFICATE = "certificate"

_JAVA_KEYSTORE = b"\xfe\xed\xfe\xed"
_PKCS12 = b"\x02\x01\x03\x30"
"""The start of a PKCS#12 file after its length: version 3, then a sequence (RFC 7292, section 4)."""


def blocks(material: bytes, thing: str) -> list[Block]:
    """At least one PEM block from the content, or from base64 of it. Raises MalformedError."""
    text = _text(material)
    if text is None:
        return [_der(material, thing, _binary_kind(material))]
    if not text:
        raise MalformedError(f"The {thing} is empty: it must be PEM, or base64 of PEM.")
    if _BEGIN not in text:
        material = _unpacked(text, thing)
        text = _text(material)
        if text is None:
            wrong = "base64 without its BEGIN and END lines" if _is_der(material) else "base64 of binary data"
            return [
                _der(material, thing, f"{wrong}: encode the whole PEM file, as the setup guide's step 1 does")
            ]
        if _BEGIN not in text:
            twice = text.startswith(_BEGIN_IN_BASE64)
            wrong = "base64-encoded twice" if twice else "base64 of text that is not PEM"
            raise MalformedError(f"The {thing} is {wrong}: encode the PEM file once.")
    return list(_split(text, thing))


def _text(material: bytes) -> str | None:
    """The text, without wrapping and with real line breaks; None if it isn't text."""
    try:
        text = material.decode(json.detect_encoding(material))
    except UnicodeDecodeError:
        return None
    if _CONTROL.search(text):
        return None
    return text.replace("\\r", "").replace("\\n", "\n").strip(_WRAPPING)


def _der(material: bytes, thing: str, otherwise: str) -> Block:
    """A certificate in DER, as Windows and browsers write it. Keys must be PEM."""
    if thing == _CERTIFICATE and _is_der(material) and _PKCS12 not in material[:10]:
        return Block("CERTIFICATE", material)
    raise MalformedError(f"The {thing} is {otherwise}.")


def _is_der(material: bytes) -> bool:
    """Whether it starts like a DER sequence of 128 bytes or more, as keys and certificates do."""
    return len(material) > 4 and material[0] == 0x30 and material[1] in {0x81, 0x82, 0x83}


def _binary_kind(material: bytes) -> str:
    if material.startswith(_JAVA_KEYSTORE):
        return "a Java keystore: convert it to PKCS#12 with keytool, then to PEM with `openssl pkcs12 -nodes`"
    if not _is_der(material):
        return "binary data, neither PEM nor base64: use the file that openssl wrote"
    if _PKCS12 in material[:10]:
        return "a PKCS#12 file: extract the PEM with `openssl pkcs12 -nodes`"
    return "binary DER: convert it to PEM (`openssl pkey -inform DER -in FILE -out private-key.pem`)"


def _unpacked(text: str, thing: str) -> bytes:
    """Decodes a text without a BEGIN line from base64."""
    if "-" in text and "BEGIN" in text:
        raise MalformedError(f"The {thing} has a damaged BEGIN line: it needs five dashes on each side.")
    if "-----END " in text:
        raise MalformedError(f"The start of the {thing} is missing: it has no BEGIN line. Copy all of it.")
    packed = "".join(text.split()).rstrip("=")
    if len(packed) % 4 == 1:
        packed = packed[:-1]  # truncated: the decoded rest says more than an error about its length
    try:
        return b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except ValueError:
        raise MalformedError(
            f"The {thing} is neither PEM nor base64: use the file that openssl wrote, or base64 of it."
        ) from None


def _split(text: str, thing: str) -> Iterator[Block]:
    """Each block in turn. Stops at the first unterminated one, to stay linear."""
    _, begin, text = text.partition(_BEGIN)
    while begin:
        label, _, text = text.partition("-----")
        body, end, text = text.partition(f"-----END {label}-----")
        if not end:
            raise MalformedError(
                f"The {thing} is incomplete: its END line is missing or damaged. Copy all of it."
            )
        encrypted = label.startswith("ENCRYPTED") or "Proc-Type: 4,ENCRYPTED" in body  # PKCS#8, or older
        try:
            der = b"" if encrypted else b64decode("".join(body.split()), validate=True)
        except ValueError:
            raise MalformedError(
                f"The {thing} is damaged: it contains more than base64 between its BEGIN and END lines. Copy"
                " it again."
            ) from None
        yield Block(label, der, encrypted)
        _, begin, text = text.partition(_BEGIN)
