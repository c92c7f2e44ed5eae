"""Keys and certificates as values: what is read, what pairs, and what no input may do."""

import hashlib
import time
from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from monitor.core.causes import Cause
from monitor.core.keys.credential import CredentialFacts, read_certificates
from tests.certificates import START, certificate_of, pem_of
from tests.credentials.pairs import KEYS
from tests.making import read_credential


def causes(facts: CredentialFacts) -> list[Cause]:
    return [problem.cause for problem in facts.problems]


def test_the_facts_of_a_pair_are_complete() -> None:
    key = KEYS[0]
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pem = certificate_of(key, serial=0xABC)

    facts = read_credential(pem_of(key), pem).facts

    assert facts.key is not None
    assert (facts.key.kind, facts.key.bits) == ("rsa", 2048)
    assert facts.key.fingerprint == hashlib.sha256(public).hexdigest()
    assert facts.certificate is not None
    assert facts.certificate.not_before == START
    assert facts.certificate.not_after == START + timedelta(days=365)
    assert facts.certificate.serial == "0ABC"
    assert facts.certificate.subject == "CN=acme"
    assert facts.certificate.key_fingerprint == facts.key.fingerprint
    assert facts.certificate.fingerprint == x509.load_pem_x509_certificate(pem).fingerprint(SHA256()).hex()
    assert facts.pairs is True
    assert facts.problems == ()


def test_without_a_certificate_pairing_is_unknown() -> None:
    facts = read_credential(pem_of(KEYS[0])).facts

    assert facts.pairs is None
    assert facts.problems == ()


def test_a_mismatched_pair_can_still_sign() -> None:
    credential = read_credential(pem_of(KEYS[0]), certificate_of(KEYS[1]))

    assert credential.key is not None
    assert credential.facts.pairs is False
    assert causes(credential.facts) == [Cause.KEY_CERTIFICATE_MISMATCH]


def test_the_matching_certificate_of_a_chain_is_used() -> None:
    chain = certificate_of(KEYS[1], name="issuer") + certificate_of(KEYS[0], name="own")

    facts = read_credential(pem_of(KEYS[0]), chain).facts

    assert facts.certificate is not None
    assert facts.certificate.subject == "CN=own"
    assert facts.problems == ()


def test_without_a_match_the_first_certificate_of_a_chain_is_used() -> None:
    chain = certificate_of(KEYS[1], name="first") + certificate_of(KEYS[1], name="second")

    facts = read_credential(pem_of(KEYS[0]), chain).facts

    assert facts.certificate is not None
    assert facts.certificate.subject == "CN=first"


def test_the_problem_of_a_missing_key_is_not_hidden_by_a_mismatch() -> None:
    credential = read_credential(b"", certificate_of(KEYS[1]))

    assert credential.facts.certificate is not None
    assert causes(credential.facts) == [Cause.KEY_UNREADABLE]


def test_problems_of_key_and_certificate_are_both_listed() -> None:
    facts = read_credential(b"", b"").facts

    assert [problem.detail for problem in facts.problems] == [
        "The private key is empty: it must be PEM, or base64 of PEM.",
        "The certificate is empty: it must be PEM, or base64 of PEM.",
    ]


def test_an_unchecked_key_signs_like_a_checked_one() -> None:
    credential = read_credential(pem_of(KEYS[0]))

    assert credential.key is not None
    assert credential.key.private_numbers() == KEYS[0].private_numbers()


def test_the_key_is_in_no_repr() -> None:
    credential = read_credential(pem_of(KEYS[0]))

    assert "RSAPrivateKey" not in repr(credential)


def test_a_curves_key_of_a_wrong_length_is_a_problem() -> None:
    """One flipped bit of an Ed25519 key makes it one of X448, which is longer: the library raised."""
    ed25519 = Ed25519PrivateKey.generate().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    x448 = ed25519.replace(bytes.fromhex("2b6570"), bytes.fromhex("2b656f"))

    pem = b"-----BEGIN PRIVATE KEY-----\n%b\n-----END PRIVATE KEY-----\n" % b64encode(x448)

    (problem,) = read_credential(pem).facts.problems

    assert problem.cause is Cause.KEY_UNREADABLE
    assert "does not contain a complete key" in problem.detail


@pytest.mark.filterwarnings("ignore::UserWarning")  # the library's, about what such certificates hold
@pytest.mark.parametrize("byte", [0x00, 0x01, 0x05, 0x30, 0x80, 0xFF])
def test_a_certificate_with_one_changed_byte_never_raises(byte: int) -> None:
    pem = certificate_of(KEYS[0])
    sound = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)

    for position in range(len(sound)):
        reading = read_certificates(b64encode(sound[:position] + bytes([byte]) + sound[position + 1 :]))
        assert len(reading.certificates) + len(reading.problems) == 1


def test_a_file_full_of_begin_lines_is_refused_quickly() -> None:
    began = time.process_time()

    facts = read_credential(b"-----BEGIN X-----" * 3855).facts

    assert causes(facts) == [Cause.KEY_UNREADABLE]
    assert time.process_time() - began < 0.2


def least_cpu(work: Callable[[], object]) -> float:
    def once() -> float:
        began = time.thread_time()
        work()
        return time.thread_time() - began

    return min(once() for _ in range(5))


@pytest.mark.parametrize("certificate", [None, certificate_of(KEYS[0])], ids=["key", "pair"])
def test_reading_a_key_is_much_faster_than_openssls_check(certificate: bytes | None) -> None:
    pem = pem_of(KEYS[0])

    reading = least_cpu(lambda: read_credential(pem, certificate))

    assert reading < least_cpu(lambda: load_pem_private_key(pem, None)) / 8
