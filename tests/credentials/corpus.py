"""Creates the corpus: each case is a file, the openssl command that creates it, and the expected result.

No keys are in the source tree: they are created for each test run, and shared by its workers.
"""

import fcntl
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from monitor.core.causes import Cause

UNREADABLE, NOT_RSA, SHORT = Cause.KEY_UNREADABLE, Cause.KEY_NOT_RSA, Cause.KEY_TOO_SHORT


@dataclass(frozen=True, slots=True)
class Case:
    """One file, how it is made, and the one cause that it must lead to; None where it is sound."""

    name: str
    made_by: str
    cause: Cause | None = None
    words: str = ""
    """Part of the sentence that the operator reads."""
    signs: bool | None = None
    """Whether it can sign all the same; by default where nothing is wrong."""


FOUNDATION = r"""
set -euo pipefail
guide() {  # step 1 of the setup guide
  openssl req -x509 -sha256 -nodes -days 3650 -newkey rsa:2048 -keyout "$1" -out "$2" \
    -subj "/CN=salesforce-jwt-integration"
}
guide sound.pem sound-cert.pem
guide other.pem other-cert.pem
openssl rsa -in sound.pem -traditional -out sound-pkcs1.pem
openssl rsa -in sound.pem -outform DER -traditional -out sound.der
openssl x509 -in sound-cert.pem -outform DER -out sound-cert.der
lines=$(wc -l < sound.pem)
from_numbers() { openssl asn1parse -genconf "$1" -noout -out "$1.der"; pem_of "$1.der"; }
pem_of() {
  echo "-----BEGIN RSA PRIVATE KEY-----"; openssl base64 -in "$1"; echo "-----END RSA PRIVATE KEY-----"
}
mkdir ca && touch ca/index && echo 01 > ca/serial
cat > ca/config <<'END'
[ca]
default_ca = own
[own]
database = ca/index
serial = ca/serial
new_certs_dir = ca
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
END
openssl req -new -key sound.pem -subj /CN=dated -out dated.csr
dated() {  # from, to, file
  openssl ca -batch -config ca/config -selfsign -keyfile sound.pem -in dated.csr -notext \
    -startdate "$1" -enddate "$2" -out "$3"
}
"""

KEYS = (
    Case("pkcs8.pem", "cp sound.pem pkcs8.pem"),
    Case("pkcs1.pem", "cp sound-pkcs1.pem pkcs1.pem"),
    Case("3072-bits.pem", "openssl genrsa -out 3072-bits.pem 3072"),
    Case("4096-bits.pem", "from_numbers 4096.conf > 4096-bits.pem"),
    Case("8192-bits.pem", "from_numbers 8192.conf > 8192-bits.pem"),
    Case("16384-bits.pem", "from_numbers 16384.conf > 16384-bits.pem"),
    Case("exponent-3.pem", "openssl genrsa -3 -out exponent-3.pem 2048"),
    Case("windows-line-ends.pem", "sed 's/$/\\r/' sound.pem > windows-line-ends.pem"),
    Case("utf-8-mark.pem", "(printf '\\xef\\xbb\\xbf'; cat sound.pem) > utf-8-mark.pem"),
    Case("utf-16-mark.pem", "iconv -t UTF-16 sound.pem > utf-16-mark.pem"),
    Case("utf-16-big-endian.pem", "iconv -t UTF-16BE sound.pem > utf-16-big-endian.pem"),
    Case("utf-16-without-mark.pem", "iconv -t UTF-16LE sound.pem > utf-16-without-mark.pem"),
    Case("base64-one-line.txt", "base64 -w 0 sound.pem > base64-one-line.txt"),
    Case("base64-with-breaks.txt", "base64 sound.pem > base64-with-breaks.txt"),
    Case("base64-windows-breaks.txt", "base64 sound.pem | sed 's/$/\\r/' > base64-windows-breaks.txt"),
    Case("base64-quoted.txt", 'echo "\\"$(base64 -w 0 sound.pem)\\"" > base64-quoted.txt'),
    Case("base64-without-padding.txt", "base64 -w 0 sound.pem | tr -d = > base64-without-padding.txt"),
    Case("base64-of-pkcs1.txt", "base64 -w 0 sound-pkcs1.pem > base64-of-pkcs1.txt"),
    Case(
        "base64-of-windows-line-ends.txt",
        "sed 's/$/\\r/' sound.pem | base64 > base64-of-windows-line-ends.txt",
    ),
    Case("base64-of-utf-16.txt", "iconv -t UTF-16 sound.pem | base64 > base64-of-utf-16.txt"),
    Case("base64-in-utf-16.txt", "base64 -w 0 sound.pem | iconv -t UTF-16 > base64-in-utf-16.txt"),
    Case("escaped-breaks.txt", "sed -z 's/\\n/\\\\n/g' sound.pem > escaped-breaks.txt"),
    Case(
        "escaped-breaks-quoted.txt",
        "(echo -n \"'\"; sed -z 's/\\n/\\\\r\\\\n/g' sound.pem; echo \"'\") > escaped-breaks-quoted.txt",
    ),
    Case("breaks-lost.txt", "tr '\\n' ' ' < sound.pem > breaks-lost.txt"),
    Case(
        "blank-lines-around.pem",
        "(printf '\\n\\n'; cat sound.pem; printf '\\n \\n') > blank-lines-around.pem",
    ),
    Case("text-before.pem", "(echo 'Bag Attributes: none'; cat sound.pem) > text-before.pem"),
    Case("key-then-certificate.pem", "cat sound.pem sound-cert.pem > key-then-certificate.pem"),
    Case("certificate-then-key.pem", "cat sound-cert.pem sound.pem > certificate-then-key.pem"),
    Case("symbolic-link.pem", "ln -s sound.pem symbolic-link.pem"),
    # Wrong in one way each.
    Case("512-bits.pem", "openssl genrsa -out 512-bits.pem 512", SHORT, "has 512 bits", signs=True),
    Case(
        "512-bits-pkcs1.pem",
        "openssl genrsa -traditional -out 512-bits-pkcs1.pem 512",
        SHORT,
        "has 512 bits",
        signs=True,
    ),
    Case("1024-bits.pem", "openssl genrsa -out 1024-bits.pem 1024", SHORT, "at least 2048 bits", signs=True),
    Case("2047-bits.pem", "openssl genrsa -out 2047-bits.pem 2047", SHORT, "has 2047 bits", signs=True),
    Case("64-bits.pem", "from_numbers 64.conf > 64-bits.pem", SHORT, "has 64 bits", signs=False),
    Case(
        "encrypted-pkcs8.pem",
        "openssl pkcs8 -topk8 -in sound.pem -passout pass:x -out encrypted-pkcs8.pem",
        UNREADABLE,
        "encrypted",
    ),
    Case(
        "encrypted-pkcs1.pem",
        "openssl rsa -in sound.pem -traditional -aes256 -passout pass:x -out encrypted-pkcs1.pem",
        UNREADABLE,
        "encrypted",
    ),
    Case(
        "encrypted-base64.txt", "base64 encrypted-pkcs8.pem > encrypted-base64.txt", UNREADABLE, "encrypted"
    ),
    Case(
        "encrypted-but-relabelled.pem",
        "sed 's/ENCRYPTED //' encrypted-pkcs8.pem > encrypted-but-relabelled.pem",
        UNREADABLE,
        "encrypted",
    ),
    Case("ec.pem", "openssl ecparam -genkey -name prime256v1 -out ec.pem", NOT_RSA, "type EC"),
    Case(
        "ec-pkcs8.pem",
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out ec-pkcs8.pem",
        NOT_RSA,
        "type EC",
    ),
    Case(
        "ec-rare-curve.pem",
        "openssl ecparam -genkey -name secp160r1 -out ec-rare-curve.pem",
        NOT_RSA,
        "not an RSA key",
    ),
    Case("ed25519.pem", "openssl genpkey -algorithm ed25519 -out ed25519.pem", NOT_RSA, "type Ed25519"),
    Case("ed448.pem", "openssl genpkey -algorithm ed448 -out ed448.pem", NOT_RSA, "type Ed448"),
    Case("x25519.pem", "openssl genpkey -algorithm x25519 -out x25519.pem", NOT_RSA, "type X25519"),
    Case("dsa.pem", "openssl dsaparam -genkey -out dsa.pem 1024", NOT_RSA, "type DSA"),
    Case("rsa-pss.pem", "openssl genpkey -algorithm RSA-PSS -out rsa-pss.pem", NOT_RSA, "RSA-PSS"),
    Case(
        "public.pem", "openssl rsa -in sound.pem -pubout -out public.pem", UNREADABLE, "only the public key"
    ),
    Case(
        "public-pkcs1.pem",
        "openssl rsa -in sound.pem -RSAPublicKey_out -out public-pkcs1.pem",
        UNREADABLE,
        "only the public key",
    ),
    Case(
        "certificate-for-key.pem",
        "cp sound-cert.pem certificate-for-key.pem",
        UNREADABLE,
        "is a certificate:",
    ),
    Case(
        "certificate-for-key.txt",
        "base64 -w 0 sound-cert.pem > certificate-for-key.txt",
        UNREADABLE,
        "is a certificate:",
    ),
    Case("request-for-key.pem", "cp dated.csr request-for-key.pem", UNREADABLE, "certificate request"),
    Case(
        "parameters-only.pem",
        "openssl ecparam -name prime256v1 -out parameters-only.pem",
        UNREADABLE,
        "a different kind of PEM (EC PARAMETERS)",
    ),
    Case(
        "openssh.pem",
        r"sed 's/ PRIVATE/ OPENSSH PRIVATE/' sound.pem > openssh.pem",
        UNREADABLE,
        "OpenSSH's own format",
    ),
    Case("empty.pem", ": > empty.pem", UNREADABLE, "empty"),
    Case("blank.pem", "printf ' \\n\\t\\r\\n' > blank.pem", UNREADABLE, "empty"),
    Case("mark-only.pem", "printf '\\xef\\xbb\\xbf' > mark-only.pem", UNREADABLE, "empty"),
    Case("quotes-only.txt", "echo '\"\"' > quotes-only.txt", UNREADABLE, "empty"),
    Case(
        "binary.pem", "head -c 1700 /dev/urandom | tr -d '\\n\\r\\t' > binary.pem", UNREADABLE, "binary data"
    ),
    Case("zeros.pem", "head -c 1704 /dev/zero > zeros.pem", UNREADABLE, "binary data"),
    Case("der.pem", "cp sound.der der.pem", UNREADABLE, "binary DER"),
    Case(
        "pkcs12.pfx",
        "openssl pkcs12 -export -inkey sound.pem -in sound-cert.pem -passout pass: -out pkcs12.pfx",
        UNREADABLE,
        "PKCS#12",
    ),
    Case(
        "java-keystore.jks",
        "(printf '\\xfe\\xed\\xfe\\xed\\0\\0\\0\\2'; head -c 900 /dev/urandom) > java-keystore.jks",
        UNREADABLE,
        "Java keystore",
    ),
    Case(
        "truncated.pem", "head -n $((lines / 2)) sound.pem > truncated.pem", UNREADABLE, "incomplete: its END"
    ),
    Case("end-line-half.pem", "head -c -6 sound.pem > end-line-half.pem", UNREADABLE, "incomplete: its END"),
    Case("start-lost.pem", "tail -n +2 sound.pem > start-lost.pem", UNREADABLE, "it has no BEGIN line"),
    Case(
        "dashes-lost.pem",
        "sed '1s/^-----/----/' sound.pem > dashes-lost.pem",
        UNREADABLE,
        "damaged BEGIN line",
    ),
    Case("line-lost.pem", "sed 9d sound.pem > line-lost.pem", UNREADABLE, "not contain a complete key"),
    Case("line-half.pem", "sed '9s/^.\\{30\\}//' sound.pem > line-half.pem", UNREADABLE, "damaged"),
    Case(
        "character-foreign.pem",
        "sed '9s/^./\\*/' sound.pem > character-foreign.pem",
        UNREADABLE,
        "more than base64",
    ),
    Case(
        "base64-truncated.txt",
        "base64 -w 0 sound.pem | head -c 1001 > base64-truncated.txt",
        UNREADABLE,
        "incomplete: its END",
    ),
    Case(
        "base64-twice.txt", "base64 sound.pem | base64 > base64-twice.txt", UNREADABLE, "base64-encoded twice"
    ),
    Case(
        "base64-of-der.txt", "base64 sound.der > base64-of-der.txt", UNREADABLE, "without its BEGIN and END"
    ),
    Case(
        "base64-of-binary.txt",
        "head -c 1700 /dev/zero | base64 > base64-of-binary.txt",
        UNREADABLE,
        "base64 of binary data",
    ),
    Case(
        "base64-of-words.txt",
        "echo 'my secret key' | base64 > base64-of-words.txt",
        UNREADABLE,
        "text that is not PEM",
    ),
    Case("words.txt", "echo 'changeme, please!' > words.txt", UNREADABLE, "neither PEM nor base64"),
    Case("two-keys.pem", "cat sound.pem other.pem > two-keys.pem", UNREADABLE, "contains 2 private keys"),
    Case(
        "first-of-two-truncated.pem",
        "(head -n 10 sound.pem; cat other.pem) > first-of-two-truncated.pem",
        UNREADABLE,
        "damaged",
    ),
    Case(
        "three-primes.pem",
        "openssl genrsa -primes 3 -out three-primes.pem 2048",
        UNREADABLE,
        "not contain a complete key",
    ),
    Case(
        "modulus-wrong.pem",
        "from_numbers n.conf > modulus-wrong.pem",
        UNREADABLE,
        "not the product of its primes",
    ),
    Case(
        "exponent-wrong.pem",
        "from_numbers d.conf > exponent-wrong.pem",
        UNREADABLE,
        "does not match its primes",
    ),
    Case("exponent-even.pem", "from_numbers e.conf > exponent-even.pem", UNREADABLE, "damaged"),
    Case(
        "derived-wrong.pem",
        "from_numbers dmp1.conf > derived-wrong.pem",
        UNREADABLE,
        "derived from its primes",
    ),
    Case(
        "factor-composite.pem",
        "from_numbers composite.conf > factor-composite.pem",
        UNREADABLE,
        "does not verify",
    ),
    Case("too-large.pem", "from_numbers 24576.conf > too-large.pem", UNREADABLE, "has 24576 bits"),
)

MISMATCH = Cause.KEY_CERTIFICATE_MISMATCH

CERTIFICATES = (
    Case("pair.crt", "cp sound-cert.pem pair.crt"),
    Case("pair-der.cer", "cp sound-cert.der pair-der.cer"),
    Case("pair-base64.txt", "base64 -w 0 sound-cert.pem > pair-base64.txt"),
    Case("pair-base64-of-der.txt", "base64 sound-cert.der > pair-base64-of-der.txt"),
    Case("pair-windows.crt", "sed 's/$/\\r/' sound-cert.pem | iconv -t UTF-16 > pair-windows.crt"),
    Case("pair-with-text.crt", "openssl x509 -in sound-cert.pem -text -out pair-with-text.crt"),
    Case("chain-pair-first.crt", "cat sound-cert.pem other-cert.pem > chain-pair-first.crt"),
    Case("chain-pair-last.crt", "cat other-cert.pem sound-cert.pem > chain-pair-last.crt"),
    Case("expired.crt", "dated 20200101000000Z 20210101000000Z expired.crt", Cause.CERTIFICATE_EXPIRED),
    Case("future.crt", "dated 20900101000000Z 20910101000000Z future.crt", Cause.CERTIFICATE_NOT_YET_VALID),
    Case("swapped.crt", "cp other-cert.pem swapped.crt", MISMATCH, "do not match"),
    Case(
        "chain-of-others.crt",
        "cat other-cert.pem other-cert.pem > chain-of-others.crt",
        MISMATCH,
        "do not match",
    ),
    Case(
        "ec.crt",
        "openssl req -x509 -key ec.pem -subj /CN=ec -out ec.crt",
        MISMATCH,
        "do not match",
    ),
    Case(
        "key-for-certificate.crt",
        "cp sound.pem key-for-certificate.crt",
        UNREADABLE,
        "certificate is a private key",
    ),
    Case("public.crt", "cp public.pem public.crt", UNREADABLE, "certificate is a bare public key"),
    Case("pkcs12.crt", "cp pkcs12.pfx pkcs12.crt", UNREADABLE, "certificate is a PKCS#12 file"),
    Case("request.crt", "cp dated.csr request.crt", UNREADABLE, "certificate is a certificate request"),
    Case(
        "bundle.crt",
        "openssl crl2pkcs7 -nocrl -certfile sound-cert.pem -out bundle.crt",
        UNREADABLE,
        "certificate is a PKCS#7 bundle",
    ),
    Case(
        "trusted.crt",
        "openssl x509 -in sound-cert.pem -trustout -out trusted.crt",
        UNREADABLE,
        "format with trust settings",
    ),
    Case("empty.crt", ": > empty.crt", UNREADABLE, "certificate is empty"),
    Case("binary.crt", "cp binary.pem binary.crt", UNREADABLE, "certificate is binary data"),
    Case(
        "truncated.crt", "head -n 9 sound-cert.pem > truncated.crt", UNREADABLE, "certificate is incomplete"
    ),
    Case("damaged.crt", "sed 9d sound-cert.pem > damaged.crt", UNREADABLE, "certificate is damaged"),
    Case("words.crt", "cp words.txt words.crt", UNREADABLE, "certificate is neither PEM nor base64"),
)


def corpus_in(shared: Path) -> Path:
    """The directory with the corpus, made by whichever worker comes first."""
    with (shared / "corpus.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        directory = shared / "corpus"
        if not directory.exists():
            unfinished = shared / "corpus-unfinished"
            unfinished.mkdir()
            _make(unfinished)
            unfinished.rename(directory)
    return directory


def _make(directory: Path) -> None:
    _run("bash", "-c", FOUNDATION, directory=directory)
    for name, numbers in _numbers(directory).items():
        (directory / f"{name}.conf").write_text(_configuration(numbers), encoding="ascii")
    functions = FOUNDATION[FOUNDATION.index("lines=") : FOUNDATION.index("mkdir ca")]
    dated = FOUNDATION[FOUNDATION.index("dated() {") :]
    lines = [case.made_by for case in KEYS + CERTIFICATES]
    _run("bash", "-c", "\n".join(["set -euo pipefail", functions, dated, *lines]), directory=directory)


def _run(*command: str, directory: Path) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


_FIELDS = ("n", "e", "d", "p", "q", "dmp1", "dmq1", "iqmp")


def _numbers(directory: Path) -> dict[str, Mapping[str, int]]:
    """The numbers of keys that openssl would take minutes to make, or refuse to make.

    The primes of the large ones are those of the well-known Diffie-Hellman groups, which anybody may know.
    """
    sound = load_pem_private_key((directory / "sound.pem").read_bytes(), None)
    assert isinstance(sound, RSAPrivateKey)
    own = sound.private_numbers()
    good = _key_of(own.p, own.q)
    large = {
        str(2 * bits): _key_of(_prime(f"modp_{bits}", directory), _prime(f"ffdhe{bits}", directory))
        for bits in (2048, 4096, 8192)
    }
    return {
        **large,
        "24576": {**large["16384"], "n": large["16384"]["n"] << 8192},
        "64": _key_of(4294967291, 4294967279),
        "n": {**good, "n": good["n"] + 2},
        "d": {**good, "d": good["d"] + 2},
        "e": {**good, "e": good["e"] + 1},
        "dmp1": {**good, "dmp1": good["dmp1"] + 2},
        "composite": _key_of(own.p, _composite(own.q)),
    }


def _key_of(p: int, q: int) -> Mapping[str, int]:
    e = 65_537
    d = pow(e, -1, (p - 1) * (q - 1))
    return dict(zip(_FIELDS, (p * q, e, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p)), strict=True))


def _composite(prime: int) -> int:
    """A number of the same size that has factors and still allows a private exponent."""
    number = prime + 2
    while number % 3 or (number - 1) % 65_537 == 0:
        number += 2
    return number


def _prime(group: str, directory: Path) -> int:
    command = f"openssl genpkey -genparam -algorithm DH -pkeyopt group:{group} | openssl asn1parse"
    return int(
        _run("bash", "-c", command, directory=directory).split("INTEGER")[1].split(":")[1].split()[0], 16
    )


def _configuration(numbers: Mapping[str, int]) -> str:
    """What `openssl asn1parse -genconf` makes an RSAPrivateKey of (RFC 8017, appendix A.1.2)."""
    fields = "\n".join(f"{name} = INTEGER:0x{numbers[name]:X}" for name in _FIELDS)
    return f"asn1 = SEQUENCE:key\n[key]\nversion = INTEGER:0\n{fields}\n"
