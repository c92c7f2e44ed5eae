import json
import time
import tracemalloc
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.outcome import AfterLogin, Granted, Refused
from monitor.core.verdict.answer import (
    HTML_PAGE,
    REDIRECT,
    RETRY_AFTER_LIMIT_SECONDS,
    SCOPES_LIMIT,
    TEXT_LIMIT,
    harmless,
    read_after_login,
    read_answer,
    token_in,
)

GRANT = {
    "access_token": "00Dxx0000000001!AQ.secret",
    "scope": "refresh_token api",
    "instance_url": "https://acme.my.salesforce.com",
    "id": "https://login.salesforce.com/id/00Dxx0000000001AAA/005xx0000000001AAA",
    "token_type": "Bearer",
}
XML_ERROR = (
    b'<?xml version="1.0" encoding="UTF-8"?><OAuth><error>invalid_grant</error>'
    b"<error_description>ip restricted</error_description></OAuth>"
)
SOAPY_ERROR = (
    b'<?xml version="1.0" encoding="ISO-8859-1"?><s:Fault xmlns:s="urn:x"><s:error>invalid_grant</s:error>'
    b"<s:error_description>ip\nrestricted</s:error_description></s:Fault>"
)
JWT = "eyJ0bmsiOiJjb3JlIn0.eyJzdWIiOiJ1In0.c2ln"


def granted(body: bytes, status: int = 200) -> Granted:
    answer = read_answer(status, {}, body)
    assert isinstance(answer, Granted)
    return answer


def refused(body: bytes, status: int = 400, **headers: str) -> Refused:
    answer = read_answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)
    assert isinstance(answer, Refused)
    return answer


def test_a_grant_is_kept_as_facts_only() -> None:
    answer = granted(json.dumps(GRANT).encode())

    assert answer == Granted(
        token_format="opaque",
        scopes=frozenset({"api", "refresh_token"}),
        instance_url="https://acme.my.salesforce.com",
        org_id="00Dxx0000000001AAA",
        user_id="005xx0000000001AAA",
    )
    assert "secret" not in repr(answer)


@given(st.permutations(list(GRANT.items())))
def test_the_order_of_keys_does_not_matter(items: list[tuple[str, str]]) -> None:
    assert granted(json.dumps(dict(items)).encode()) == granted(json.dumps(GRANT).encode())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_a_body_is_read_in_any_unicode_encoding(encoding: str) -> None:
    assert granted(json.dumps(GRANT).encode(encoding)).org_id == "00Dxx0000000001AAA"


def test_a_wrong_charset_in_the_header_is_ignored() -> None:
    body = '{"error":"invalid_grant","error_description":"user hasn’t approved"}'.encode()

    assert (
        refused(body, content_type="application/json; charset=base64").description == "user hasn’t approved"
    )
    assert (
        refused(body, content_type="application/json; charset=no-such").description == "user hasn’t approved"
    )


def test_a_declared_charset_is_used_for_other_bytes() -> None:
    body = '{"error":"invalid_grant","error_description":"schlüssel"}'.encode("latin-1")

    assert refused(body, content_type="application/json; charset=ISO-8859-1").description == "schlüssel"


def test_a_jwt_token_is_recognised_by_shape_or_format() -> None:
    by_shape = granted(json.dumps({"access_token": JWT}).encode())
    by_name = granted(json.dumps({"access_token": "opaque-looking", "token_format": "jwt"}).encode())

    assert by_shape.token_format == by_name.token_format == "jwt"


@pytest.mark.parametrize(
    ("fields", "scopes"),
    [
        ({}, None),
        ({"scope": None}, None),
        ({"scope": ""}, frozenset()),
        ({"scope": "api  full"}, frozenset({"api", "full"})),
        ({"scope": ["api", 1]}, frozenset({"api"})),
    ],
)
def test_scopes_are_listed_or_unknown(fields: dict[str, object], scopes: frozenset[str] | None) -> None:
    assert granted(json.dumps({"access_token": "00D!x", **fields}).encode()).scopes == scopes


def test_at_most_a_hundred_scopes_are_kept() -> None:
    scopes = " ".join(f"scope_{number}" for number in range(9000))

    assert len(granted(json.dumps(GRANT | {"scope": scopes}).encode()).scopes or ()) == SCOPES_LIMIT


LONG_HOST = "acme-manufacturing-2-europe-west--fulluat01.sandbox.my.salesforce.com"


def test_a_sandboxs_long_host_name_is_not_masked() -> None:
    answer = granted(json.dumps(GRANT | {"instance_url": f"https://{LONG_HOST}/"}).encode())

    assert answer.instance_url == f"https://{LONG_HOST}"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://acme.my.salesforce.com",
        "https://user@acme.my.salesforce.com",
        "https://[::1].evil.example",
        "https://acme.my.salesforce.com\\@evil.example",
        "https://acme%2emy.salesforce.com",
        "https://acme.my.salesforce.com:99999",
        "https://" + "a." * 127 + "example",
        "https://\u212bcme.my.salesforce.com",
    ],
)
def test_an_ambiguous_url_is_rejected(url: str) -> None:
    assert granted(json.dumps(GRANT | {"instance_url": url}).encode()).instance_url is None


def test_the_target_of_a_redirect_is_shown_without_secrets_in_its_path() -> None:
    secret = "Zm9v" * 12 + "9"
    answer = refused(b"", 302, Location=f"https://{LONG_HOST}/{secret}?sid=1")

    assert answer.excerpt.startswith(f"{REDIRECT}https://{LONG_HOST}/")
    assert secret not in answer.excerpt


@pytest.mark.parametrize("text", [f"getaddrinfo ENOTFOUND {LONG_HOST}", f"see https://{LONG_HOST}/x for it"])
def test_a_host_in_a_text_is_not_taken_for_a_secret(text: str) -> None:
    assert harmless(text) == text


@pytest.mark.parametrize("page", ["<html><![foo[bar]]></html>", "<html>Sorry<![ x", "<html><!x[]></html>"])
def test_a_page_with_an_unknown_declaration_is_read(page: str) -> None:
    assert refused(page.encode(), 503).excerpt.startswith(HTML_PAGE)
    assert read_after_login(503, page.encode()).status == 503


@pytest.mark.parametrize(
    "moment",
    [
        "Mon, 01 Jan 2024 00:00:00 +999999999999999999999",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 99999999999999999999 Jan 2024 00:00:00 GMT",
    ],
)
def test_an_impossible_retry_after_date_is_ignored(moment: str) -> None:
    answer = refused(b"", 429, Retry_After=moment, Date="Mon, 01 Jan 2024 00:00:00 GMT")

    assert answer.retry_after_seconds is None


@pytest.mark.parametrize(
    "identity", [None, 5, "", "https://login.salesforce.com/id/00D/005", "https://evil/?q=00Dxx0000000001AAA"]
)
def test_a_malformed_identity_is_ignored(identity: object) -> None:
    answer = granted(json.dumps({"access_token": "00D!x", "id": identity, "instance_url": identity}).encode())

    assert (answer.org_id, answer.user_id) == (None, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b'"access_token"',
        b'{"access_token":""}',
        b'{"access_token":" "}',
        b'{"access_token":5}',
        b'{"access_token":{"a":1}}',
        b'{"access_token":"00D!x","error":"invalid_grant"}',
        b"<html><body>access_token=1</body></html>",
    ],
)
def test_a_200_without_a_token_is_not_a_grant(body: bytes) -> None:
    assert isinstance(read_answer(200, {}, body), Refused)


def test_a_token_with_an_error_status_is_not_a_grant() -> None:
    assert isinstance(read_answer(400, {}, json.dumps(GRANT).encode()), Refused)


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":"invalid_grant","error_description":"ip restricted"}',
        b'{"error_description":"ip restricted","error":"invalid_grant"}',
        b'\xef\xbb\xbf {"error": "invalid_grant", "error_description": "ip  restricted"}\n',
        b'[{"errorCode":"invalid_grant","message":"ip restricted"}]',
        b'{"error":{"code":"invalid_grant","message":"ip restricted"}}',
        b"error=invalid_grant&error_description=ip+restricted",
        b"error_description=ip%20restricted&error=invalid_grant",
        XML_ERROR,
        SOAPY_ERROR,
        b"<OAuth><error>invalid_grant</error><message><![CDATA[ip restricted]]></message></OAuth>",
        b"<OAuth><!--<error>x</error>--><error>invalid_grant</error><message>ip restricted</message></OAuth>",
        b"<OAuth><code x='1'/>none<error>invalid_grant</error><message>ip restricted</message></OAuth>",
        b"invalid_grant: ip restricted",
        b"  invalid_grant - ip restricted\r\n",
    ],
    ids=lambda body: body[:24].decode(errors="replace"),
)
def test_an_error_is_read_in_any_format(body: bytes) -> None:
    answer = refused(body)

    assert (answer.error, answer.description, answer.excerpt) == ("invalid_grant", "ip restricted", "")


def test_a_soap_fault_is_read_without_its_namespace() -> None:
    body = (
        b"<soapenv:Envelope xmlns:soapenv='urn:s'><soapenv:Body><soapenv:Fault><faultcode>sf:INVALID_LOGIN"
        b"</faultcode><faultstring>INVALID_LOGIN: no</faultstring></soapenv:Fault></soapenv:Body>"
        b"</soapenv:Envelope>"
    )

    assert refused(body, 500).error == "INVALID_LOGIN"


def test_json_numbers_of_any_size_and_any_depth_are_handled() -> None:
    assert refused(b'{"error":"invalid_grant","n":' + b"9" * 100_000 + b"}").error == "invalid_grant"
    assert refused(b"[" * 200_000).error == ""
    assert refused(b'{"a":' * 100_000).error == ""


def test_of_duplicate_keys_the_last_counts() -> None:
    assert refused(b'{"error":"first","error":"last"}').error == "last"


def test_xml_entities_are_never_expanded() -> None:
    lol = '<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">'
    bomb = f"<?xml version='1.0'?><!DOCTYPE x [{lol}]><OAuth><error>&c;</error></OAuth>"

    answer = refused(bomb.encode())

    assert answer.error == ""
    assert "haha" not in answer.excerpt


def test_xml_with_long_namespaces_takes_no_more_memory_than_its_size_explains() -> None:
    tags = "".join(f"<t{number}/>" for number in range(4_000))
    body = f"<a xmlns='{'n' * 30_000}'>{tags}</a>".encode()

    tracemalloc.start()
    refused(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 100 * len(body)


@pytest.mark.parametrize("encoding", ["big5", "idna", "foo", "utf-7"])
def test_xml_with_a_second_declaration_says_nothing_and_raises_nothing(encoding: str) -> None:
    body = f'<?xml version="1.0"?><?xml version="1.0" encoding="{encoding}"?><error>x</error>'.encode()

    assert refused(body).error == ""
    assert read_after_login(400, body).error == ""


@pytest.mark.parametrize(
    "body",
    [
        "<OAuth><error>invalid_grant</error><message>no{}</message></OAuth>",
        '{{"error":"invalid_grant","error_description":"no{}"}}',
        "error=invalid_grant&error_description=no{}",
        "<html><body>no{}</body></html>",
    ],
)
def test_an_escaped_character_with_a_huge_number_raises_nothing(body: str) -> None:
    """`html.unescape` refuses numbers of more than 4,300 digits."""
    number = f"&#{'9' * 10_000};"
    answer = refused(body.format(quote(number) if body.startswith("error") else number).encode())

    assert (answer.description or answer.excerpt.removeprefix(HTML_PAGE).strip()).startswith("no\ufffd")


@pytest.mark.parametrize("part", ["<", "<a ", "<a>", "<!--", "<![CDATA[", "<![CDATA[]]>", "<a:", "<?xml "])
def test_broken_xml_takes_no_more_than_linear_time(part: str) -> None:
    body = b"<" + (part * (65_536 // len(part))).encode()

    began = time.process_time()
    refused(body)

    assert time.process_time() - began < 0.5


def test_a_page_is_a_page_even_if_it_claims_to_be_xml() -> None:
    page = b'<?xml version="1.0"?><!DOCTYPE html><html><body><code>invalid_grant</code></body></html>'

    assert refused(page) == Refused(400, "", "", f"{HTML_PAGE} invalid_grant")


def test_an_xml_fragment_with_an_undeclared_prefix_is_read() -> None:
    assert refused(b"<sf:error>invalid_grant</sf:error>").error == "invalid_grant"


def test_external_xml_entities_are_not_fetched() -> None:
    body = b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><OAuth><error>&f;</error></OAuth>'

    assert "root:" not in repr(refused(body))


def test_a_web_page_is_shown_as_its_visible_text() -> None:
    page = (
        "<!DOCTYPE html><html><head><title>Data Not Available</title><script>var a = 1</script></head></html>"
    )

    assert refused(page.encode(), 200).excerpt == f"{HTML_PAGE} Data Not Available"


def test_a_redirect_names_its_target_without_the_query() -> None:
    answer = refused(b"", 302, location="https://portal.example.net/login?session=abc#x")

    assert answer.excerpt == f"{REDIRECT}https://portal.example.net/login"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30.0),
        ("1.5", 1.5),
        ("-1", None),
        ("nan", None),
        ("soon", None),
        ("999999999", RETRY_AFTER_LIMIT_SECONDS),
        ("Mon, 23 Nov 2026 12:01:00 GMT", 60.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date_relative_to_the_answers_date(
    value: str, seconds: float | None
) -> None:
    answer = read_answer(503, {"Retry-AFTER": value, "DATE": "Mon, 23 Nov 2026 12:00:00 GMT"}, b"")

    assert isinstance(answer, Refused)
    assert answer.retry_after_seconds == seconds


def test_a_retry_after_date_without_a_date_header_is_ignored() -> None:
    assert refused(b"", 503, retry_after="Mon, 23 Nov 2026 12:01:00 GMT").retry_after_seconds is None


def test_the_token_can_be_read_for_the_call_after_login() -> None:
    assert token_in(json.dumps(GRANT).encode()) == GRANT["access_token"]
    assert token_in(b"access_token=00D%21x&scope=api") == "00D!x"
    assert token_in(b'{"access_token":7}') == ""
    assert token_in(b"") == ""


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b"[]", AfterLogin(200, "", "")),
        (
            403,
            b'[{"errorCode":"API_CURRENTLY_DISABLED","message":"off"}]',
            AfterLogin(403, "API_CURRENTLY_DISABLED", "off"),
        ),
        (403, b"Bad_OAuth_Token", AfterLogin(403, "Bad_OAuth_Token", "")),
        (503, b"<html><body>Down</body></html>", AfterLogin(503, "", f"{HTML_PAGE} Down")),
        (500, b"", AfterLogin(500, "", "The answer is empty.")),
        (200, b"<html>Sign in</html>", AfterLogin(200, "", f"{HTML_PAGE} Sign in")),
        (
            400,
            b"<Errors><Error><errorCode>INVALID_FIELD</errorCode><message>no</message></Error></Errors>",
            AfterLogin(400, "INVALID_FIELD", "no"),
        ),
    ],
)
def test_a_rest_answer_is_parsed(status: int, body: bytes, expected: AfterLogin) -> None:
    assert read_after_login(status, body) == expected


SECRETS = {
    "session": "00Dxx0000000001!AQEAQGxfXyz.secretsecret",
    "encoded session": "00Dxx0000000001%21AQEAQGxfXyz.secretsecret",
    "jwt": "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJzZWNyZXQifQ.c2VjcmV0c2VjcmV0",
    "pem": "-----BEGIN PRIVATE KEY-----\nMIIsecret\n-----END PRIVATE KEY-----",
    "half a pem": "-----BEGIN RSA PRIVATE KEY-----\nMIIsecret",
    "base64 of a pem": "LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQpzZWNyZXQ",
    "form": "sid=secret",
    "json": '"password": "secret"',
    "xml": "<access_token>secret</access_token>",
    "assertion": "assertion=secret",
    "split by an invisible character": "eyJhbGciOiJSUzI1NiJ9\u200b.eyJpc3MiOiJzZWNyZXQifQ.c2VjcmV0c2VjcmV0",
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_secrets_are_masked_everywhere(secret: str) -> None:
    shown = harmless(f"before {secret} after")

    assert "secret" not in shown
    assert "c2VjcmV0" not in shown
    assert "c2VjcmV0" not in shown.replace(" ", "")
    assert "[masked]" in shown


@pytest.mark.parametrize(
    "text",
    [
        "refresh_token scope is required and the connected app should be installed and preauthorized",
        "expired access/refresh token",
        "invalid assertion: signature",
        "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY",
        "https://acme--dev.sandbox.my.salesforce.com/services/oauth2/token",
    ],
)
def test_words_that_only_mention_secrets_are_kept(text: str) -> None:
    assert harmless(text) == text


def test_control_and_direction_characters_are_removed() -> None:
    shown = harmless("a\x1b[2Jb\x1b]0;title\x07c\u202ed\u2066e\x00f\r\ng\u0085h\ufeffi")

    assert shown == "abcdef g hi"


@given(st.text())
def test_shown_text_is_one_bounded_printable_line(text: str) -> None:
    shown = harmless(text)

    assert len(shown) <= TEXT_LIMIT
    assert shown.isprintable()
    assert harmless(shown) == shown


@given(st.integers(100, 999), st.dictionaries(st.text(), st.text()), st.binary())
def test_no_answer_crashes_the_reader(status: int, headers: dict[str, str], body: bytes) -> None:
    answer = read_answer(status, headers, body)

    assert isinstance(answer, Granted | Refused)
    read_after_login(status, body)
    token_in(body)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["error", "error_description", "message", "access_token", "id", "scope"])
                | st.text(),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_no_json_crashes_the_reader(value: object) -> None:
    read_answer(200, {}, json.dumps(value).encode())
    read_answer(400, {}, json.dumps(value).encode())


def rows(*records: object) -> bytes:
    return json.dumps({"totalSize": len(records), "done": True, "records": records}).encode()


def row(label: object, ends: object) -> dict[str, object]:
    return {"PermissionSet": {"Label": label}, "ExpirationDate": ends}


MAX_BODY = 16_384


@pytest.mark.parametrize("piece", ["a" * 39 + " ", "a-" * 20 + " ", "a." * 20 + " ", "a" * 64, "https://a."])
def test_text_that_looks_like_hosts_takes_linear_time(piece: str) -> None:
    """A run of letters once cost the cube of its length: 16 KiB of them held the daemon for ten seconds."""

    def cost(piece: str) -> float:
        body = (piece * MAX_BODY)[:MAX_BODY].encode()
        best = float("inf")
        for _ in range(3):
            begin = time.process_time()
            read_answer(400, {}, body)
            best = min(best, time.process_time() - begin)
        return best

    assert cost(piece) < 50 * cost("words of a page ")
