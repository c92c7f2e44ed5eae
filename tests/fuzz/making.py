"""Bytes and texts that are nearly right: sound samples, changed in a few places."""

from collections.abc import Sequence

from hypothesis import strategies as st

EDITS_AT_MOST = 8
"""A sample that was changed in more places is noise, which the first check refuses."""


@st.composite
def near(draw: st.DrawFn, samples: Sequence[bytes]) -> bytes:
    """A sample with a few bytes flipped, cut, doubled, put in, or moved from another sample."""
    content = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(0, EDITS_AT_MOST))):
        at = draw(st.integers(0, len(content)))
        until = min(len(content), at + draw(st.sampled_from((1, 2, 16, 400))))
        match draw(st.sampled_from(("flip", "cut", "double", "put", "graft", "end"))):
            case "flip" if at < len(content):
                content[at] ^= draw(st.integers(1, 255))
            case "cut":
                del content[at:until]
            case "double":
                content[at:at] = content[at:until]
            case "put":
                content[at:at] = draw(st.binary(max_size=16) | st.sampled_from(PIECES))
            case "graft":
                other = draw(st.sampled_from(samples))
                start = draw(st.integers(0, len(other)))
                content[at:until] = other[start : start + until - at]
            case "end":
                del content[until:]
            case _:
                pass
    return bytes(content)


PIECES = (
    b"\x00",
    b"\r\n",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    "\u2028\u202e\u0000\ud7ff".encode(),
    b"-----BEGIN RSA PRIVATE KEY-----\n",
    b"-----END CERTIFICATE-----",
    b"{" * 200,
    b"[" * 200,
    b"&a [*a, *a]",
    b"? : - ",
    b"!!python/object:os.system ",
    b"9" * 5_000,
    b"1e999",
    b"\\ud800",
    b"\x1b[2J",
    b"<!ENTITY a 'aaaa'>",
)
"""Bytes that have undone parsers before."""


@st.composite
def rewritten(draw: st.DrawFn, samples: Sequence[bytes]) -> bytes:
    """A YAML sample with a line's value, or a whole line, put in the place of another's."""
    lines = draw(st.sampled_from(samples)).splitlines()
    others = draw(st.sampled_from(samples)).splitlines()
    for _ in range(draw(st.integers(1, EDITS_AT_MOST))):
        if not lines or not others:
            break
        at = draw(st.integers(0, len(lines) - 1))
        key, colon, _ = lines[at].partition(b":")
        match draw(st.sampled_from(("value", "line", "gone"))):
            case "value" if colon:
                lines[at] = (
                    key + colon + b" " + draw(st.sampled_from(VALUES) | st.text(max_size=30).map(str.encode))
                )
            case "line":
                lines.insert(at, draw(st.sampled_from(others)))
            case "gone":
                del lines[at]
            case _:
                pass
    return b"\n".join(lines)


VALUES = (
    b"",
    b"~",
    b"[]",
    b"{}",
    b"[[[[]]]]",
    b"{a: {b: {c: d}}}",
    b"{file: keys/acme.pem, env: KEY}",
    b"no",
    b"1:30",
    b"-1",
    b"0",
    b"1e400",
    b"99999999999999999999d",
    b"5m5m5m",
    b"\xd9\xa1\xd9\xa2m",
    b"2026-02-30",
    b"0001-01-01T00:00:00+14:00",
    b"http://[::1",
    b"https://user:pass@acme.my.salesforce.com:99999/x?y#z",
    b"127.0.0.1:99999",
    b"[::]:0",
    b"../../../../../../etc/passwd",
    b"/dev/zero",
    b"/proc/self/mem",
    b"'\\u0000'",
    b'"\\ud800"',
    b'"\\x1b[31m"',
    b"|\n  a\n  b",
    b"*anchor",
    b"!!binary aGFsbG8=",
    b"$2y$31$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG",
    b"25%",
    b"0d",
    b"9999-12-31",
    b"https://a@b",
    "https://\u2100.my.salesforce.com".encode(),
    b"//",
    b"sqlite:///",
    b"x://",
)
"""Values that people and tools write by mistake."""
