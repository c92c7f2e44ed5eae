"""Pasted texts: an answer or fault has the same meaning, whatever surrounds it."""

import json
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.causes import Cause
from monitor.core.connection import Connection
from monitor.core.finding import Certainty
from monitor.core.outcome import Granted, NotSent, Refused, Unreachable
from monitor.core.verdict.meaning import of_fault, of_not_sent, of_refusal
from monitor.core.verdict.paste import Paste, read
from monitor.core.verdict.vocabulary import STATUSES, Meaning, is_salesforces, of_text, sentences
from tests.making import ACME, connection

SAID = {
    ("invalid_grant", "user hasn't approved this consumer"): Cause.CONSUMER_NOT_APPROVED,
    ("invalid_app_access", "user is not admin approved to access this app"): Cause.USER_NOT_ADMIN_APPROVED,
    ("invalid_grant", "audience is invalid"): Cause.AUDIENCE_INVALID,
    ("invalid_grant", "invalid assertion"): Cause.ASSERTION_INVALID,
    ("invalid_client", "invalid client credentials"): Cause.CLIENT_INVALID,
    ("invalid_client_id", "client identifier invalid"): Cause.CONSUMER_KEY_UNKNOWN,
    ("app_not_found", "External client app is not installed in this org"): Cause.APP_NOT_FOUND,
    ("invalid_grant", "expired authorization code"): Cause.CLOCK_SKEWED,
    ("invalid_grant", "inactive user"): Cause.USER_INACTIVE,
    ("invalid_grant", "inactive organization"): Cause.ORG_INACTIVE,
    ("invalid_grant", "ip restricted"): Cause.IP_RESTRICTED,
    ("invalid_grant", "login rate exceeded"): Cause.LOGIN_RATE_EXCEEDED,
    ("unknown_error", "retry your request"): Cause.SALESFORCE_UNAVAILABLE,
}

FAULTS = [
    "getaddrinfo ENOTFOUND globexx.my.salesforce.com",
    "java.net.UnknownHostException: globexx.my.salesforce.com",
    "dial tcp: lookup globexx.my.salesforce.com: no such host",
    "connect ECONNREFUSED 10.1.2.3:443",
    "dial tcp 10.1.2.3:443: i/o timeout",
    "net/http: TLS handshake timeout",
    "socket hang up",
    "read tcp 10.0.0.5:51234: wsarecv: An existing connection was forcibly closed by the remote host.",
    "certificate has expired",
    "unable to get local issuer certificate",
    "x509: certificate signed by unknown authority",
    "PKIX path building failed",
    "error:0A00010B:SSL routines::wrong version number",
    "io.netty.handler.ssl.NotSslRecordException: not an SSL/TLS record: 485454502f312e31",
    "java.net.SocketTimeoutException: Read timed out",
]

WAYS_ALONG: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "in a JSON string": lambda text: json.dumps({"level": "error", "msg": text}),
    "in JSON in JSON": lambda text: json.dumps({"log": json.dumps({"error": text})}),
    "escaped for HTML": lambda text: (
        text.replace("&", "&amp;").replace("'", "&#39;").replace('"', "&quot;").replace("<", "&lt;")
    ),
    "with CR LF": lambda text: text.replace("\n", "\r\n"),
    "with typographic quotes": lambda text: text.replace("'", "’").replace('"', "”"),
    "after a time stamp": lambda text: f"2026-11-20T03:12:55Z ERROR [sync-7] {text}",
    "under the CLI's heading": lambda text: f"Error (JwtGrantError): Here’s the error: {text}",
    "in a traceback": lambda text: (
        f'  File "sync.py", line 7, in login\n    raise Failed\napp.Failed: {text}'
    ),
    "above a stack": lambda text: f"Error: {text}\n    at settle (/srv/app/axios.cjs:19:12)",
    "quoted in a chat": lambda text: f"> seen tonight:\n> {text}\n> any idea?",
}
ways = st.lists(st.sampled_from(sorted(WAYS_ALONG)), max_size=3)

SHAPES: dict[str, Callable[[str, str], str]] = {
    "a code and its text": lambda code, text: f"{code}: {text}",
    "two quoted texts": lambda code, text: f'oauth2: "{code}" "{text}"',
    "a code in brackets": lambda code, text: f"({code}) {text}",
    "JSON": lambda code, text: json.dumps({"error": code, "error_description": text}),
    "JSON, text first": lambda code, text: json.dumps({"error_description": text, "error": code}, indent=2),
    "a REST error": lambda code, text: json.dumps([{"message": text, "errorCode": code}]),
    "a Python dict": lambda code, text: repr({"error": code, "error_description": text}),
    "a Ruby hash": lambda code, text: f'{{"error"=>"{code}", "error_description"=>"{text}"}}',
    "a Java map": lambda code, text: f"{{error={code}, error_description={text}}}",
    "print_r": lambda code, text: f"Array\n(\n    [error] => {code}\n    [error_description] => {text}\n)",
    "XML": lambda code, text: (
        f"<OAuth><error>{code}</error><error_description>{text}</error_description></OAuth>"
    ),
    "YAML": lambda code, text: f"status: 400\nerror: {code}\nerror_description: {text}",
    "a ticket": lambda code, text: f"Fehlercode: {code}\nBeschreibung: {text}\nUhrzeit: 03:12",
    "a ticket, text first": lambda code, text: f"Mensaje: {text}\nCódigo: {code}",
    "a dump of HTTP": lambda code, text: (
        "HTTP/1.1 400 Bad Request\nContent-Type: application/json\n"
        + json.dumps({"error": code, "error_description": text})
    ),
    "a gateway's SOAP fault": lambda code, text: (
        f'<faultstring>callout: {{"error":"{code}","error_description":"{text}"}}</faultstring>'
    ),
    "a gateway's fault": lambda code, text: json.dumps(
        {"error": {"status": 502, "inner": {"body": json.dumps({"error": code, "error_description": text})}}}
    ),
}


def meant(paste: Paste | None, of: Connection = ACME) -> Meaning:
    assert paste is not None
    match paste.outcome:
        case Refused() as refused:
            return of_refusal(refused, of)
        case Unreachable() as fault:
            return of_fault(fault, of)
        case other:
            raise AssertionError(other)


@given(st.sampled_from(sorted(SAID)), st.sampled_from(sorted(SHAPES)), ways)
def test_a_known_answer_is_recognised_in_any_format(
    said: tuple[str, str], shape: str, wrapping: list[str]
) -> None:
    text = SHAPES[shape](*said)
    for way in wrapping:
        text = WAYS_ALONG[way](text)

    assert meant(read(text)).cause is SAID[said]


@given(st.sampled_from(FAULTS), ways)
def test_no_wrapping_turns_a_network_fault_into_a_credential_fault(fault: str, wrapping: list[str]) -> None:
    alone = meant(read(fault))
    text = fault
    for way in wrapping:
        text = WAYS_ALONG[way](text)

    paste = read(text)

    assert paste is not None
    assert isinstance(paste.outcome, Unreachable)
    assert meant(paste).cause is alone.cause


# Several attempts


def test_in_a_list_of_the_salesforce_cli_the_given_pair_counts() -> None:
    paste = read(
        "Errors encountered:\n"
        "client identifier invalid\n"
        "audience is invalid  [audience=https://test.salesforce.com login=https://globex.my.salesforce.com]\n"
        "inactive organization"
    )

    assert meant(paste).cause is Cause.CONSUMER_KEY_UNKNOWN
    assert paste is not None
    assert paste.host == "globex.my.salesforce.com"


def test_a_list_with_only_audience_errors_is_about_the_audience() -> None:
    paste = read(
        "audience is invalid  [audience=https://globex.my.salesforce.com login=https://globex.my.salesforce.com]\n"
        "audience is invalid  [audience=https://login.salesforce.com login=https://login.salesforce.com]"
    )

    assert meant(paste).cause is Cause.AUDIENCE_INVALID
    assert paste is not None
    assert (paste.host, paste.audience) == ("globex.my.salesforce.com", "https://globex.my.salesforce.com")


def test_a_generic_hosts_audience_error_counts_less_than_the_orgs_answer() -> None:
    paste = read(
        "$ ./token.sh https://umbrella.my.salesforce.com\ninvalid_grant: inactive user\n"
        "$ ./token.sh https://login.salesforce.com\napp_not_found: External client app is not installed"
    )

    assert meant(paste).cause is Cause.USER_INACTIVE
    assert paste is not None
    assert paste.host == "umbrella.my.salesforce.com"


def test_the_host_is_the_one_that_gave_the_answer() -> None:
    paste = read(
        "asking https://login.salesforce.com: audience is invalid (invalid_grant)\n"
        "asking https://umbrella.my.salesforce.com: ip restricted (invalid_grant)"
    )

    assert meant(paste).cause is Cause.IP_RESTRICTED
    assert paste is not None
    assert paste.host == "umbrella.my.salesforce.com"


def test_the_marks_of_a_quoted_mail_are_not_part_of_a_sentence() -> None:
    text = "> > invalid_grant: user hasn't approved\n> > this consumer"

    assert meant(read(text)).cause is Cause.CONSUMER_NOT_APPROVED


def test_of_two_answers_in_a_log_the_last_one_counts() -> None:
    earlier, later = (
        json.dumps({"error": "invalid_grant", "error_description": text})
        for text in ("ip restricted", "inactive user")
    )

    assert meant(read(f"03:00 {earlier}\n03:05 {later}")).cause is Cause.USER_INACTIVE


def test_a_precise_text_outweighs_a_later_bare_code() -> None:
    assert meant(read("token call: inactive user\nAuthError: invalid_grant")).cause is Cause.USER_INACTIVE


def test_an_answer_outweighs_a_sentence_in_the_text_around_it() -> None:
    text = (
        "It is no inactive user, we checked.\n"
        "invalid_app_access: user is not admin approved to access this app\n"
        "Could it be ip restricted?"
    )

    assert meant(read(text)).cause is Cause.USER_NOT_ADMIN_APPROVED


def test_an_app_name_does_not_hide_the_answer() -> None:
    text = "invalid_app_access: user is not admin approved to access this app: Postgres Sync"

    assert meant(read(text)).cause is Cause.USER_NOT_ADMIN_APPROVED


@pytest.mark.parametrize(
    "text",
    [
        '{:error "invalid_grant", :error_description "inactive user"}',
        'Refusal { error: invalid_grant, error_description: Some("inactive user"), uri: None }',
        "Refusal(error=invalid_grant, errorDescription=inactive user, status=400)",
        "token: invalid_grant (inactive user); next try in 5 s",
    ],
)
def test_a_text_ends_where_the_next_field_begins(text: str) -> None:
    paste = read(text)

    assert paste is not None
    assert isinstance(paste.outcome, Refused)
    assert (paste.outcome.error, paste.outcome.description) == ("invalid_grant", "inactive user")


@pytest.mark.parametrize(
    "text",
    [
        '{"error":"slow_down","error_description":"the device polls too fast"}',
        "callback?error=slow_down&error_description=the+device+polls+too+fast",
    ],
)
def test_an_unknown_oauth_error_is_still_an_answer(text: str) -> None:
    paste = read(text)

    assert paste is not None
    assert isinstance(paste.outcome, Refused)
    assert (paste.outcome.error, paste.outcome.description) == ("slow_down", "the device polls too fast")
    assert meant(paste).cause is Cause.UNRECOGNISED


def test_a_sentence_without_a_code_is_never_certain() -> None:
    assert meant(read("might be an inactive user, who knows")).certainty is Certainty.LIKELY


@pytest.mark.parametrize(
    "success",
    [
        '200 {"access_token":"00Dxx0000000001!AQ","scope":"api"}',
        "200 {'access_token': '00Dxx0000000001!AQ', 'scope': 'api'}",
        "INFO sf: token granted",
        "login successful for svc@globex.com",
        "successfully authenticated",
    ],
)
def test_a_success_after_a_refusal_wins(success: str) -> None:
    refused = "invalid_grant: ip restricted"

    later = read(f"03:00 {refused}\n03:05 {success}\n03:06 closing")
    earlier = read(f"03:00 {success}\n03:05 {refused}")

    assert later is not None
    assert isinstance(later.outcome, Granted)
    assert meant(earlier).cause is Cause.IP_RESTRICTED


def test_words_after_an_unknown_code_are_never_certain() -> None:
    assert meant(read("GLOBEX_LOGIN: the user account is locked")).certainty is Certainty.LIKELY


def test_a_text_about_a_failed_login_is_not_a_success() -> None:
    text = "03:00 invalid_grant: ip restricted\n03:05 login was not successful\n03:06 token issued? no, error"

    assert meant(read(text)).cause is Cause.IP_RESTRICTED


def test_an_answer_has_the_status_nearest_to_it() -> None:
    paste = read(
        "03:00 token: HTTP 503 Service Unavailable\n"
        '03:01 token: HTTP 400 {"error":"invalid_grant","error_description":"inactive user"}\n'
        "03:02 health: HTTP 502 Bad Gateway"
    )

    assert paste is not None
    assert isinstance(paste.outcome, Refused)
    assert paste.outcome.status == 400


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("Salesforce org globex: this app was blocked by an administrator", Cause.APP_BLOCKED),
        ("the user needs admin approval for this app", Cause.USER_NOT_ADMIN_APPROVED),
        ("your Salesforce trial has ended", Cause.ORG_INACTIVE),
        ("iat is in the future", Cause.CLOCK_SKEWED),
        ("Token has been expired or revoked.", Cause.CONSUMER_NOT_APPROVED),
        ("INFO login failed: invalid_grant ip restricted", Cause.IP_RESTRICTED),
        ("INFO error: invalid_grant\nINFO message: account of the user is deactivated", Cause.USER_INACTIVE),
        ("gateway timeout 504", Cause.SALESFORCE_UNAVAILABLE),
        ("connect failed: timeout 30 s exceeded", Cause.SALESFORCE_UNAVAILABLE),
    ],
)
def test_a_refusal_in_other_words_is_recognised(text: str, cause: Cause) -> None:
    assert meant(read(text)).cause is cause


# Before an answer


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("error:0909006C:PEM routines:get_name:no start line", Cause.KEY_UNREADABLE),
        ("error:1E08010C:DECODER routines::unsupported", Cause.KEY_UNREADABLE),
        ("Error: secretOrPrivateKey must be an asymmetric key when using RS512", Cause.KEY_UNREADABLE),
        ("asn1: structure error: tags don't match", Cause.KEY_UNREADABLE),
        ("illegal base64 data at input byte 64", Cause.KEY_UNREADABLE),
        ("ENOENT: no such file or directory, open '/run/secrets/jwt.key'", Cause.KEY_UNREADABLE),
        ("PermissionError: [Errno 13] Permission denied: 'private-key.pem'", Cause.KEY_UNREADABLE),
        ("The signing key's size is 1024 bits which is not secure enough", Cause.KEY_TOO_SHORT),
        ('"alg" parameter for "ec" key type must be one of: ES256', Cause.KEY_NOT_RSA),
        ("self check: crypto/rsa: verification error", Cause.KEY_CERTIFICATE_MISMATCH),
        ("could not fetch secret/sf: Code: 403. Errors: * permission denied", Cause.KEY_UNREADABLE),
        ("Error(InvalidKeyFormat)", Cause.KEY_UNREADABLE),
        (
            'called `unwrap()` on an `Err`: Error(InvalidRsaKey("TooSmall"))',
            Cause.KEY_UNREADABLE,
        ),
        ('MountVolume.SetUp failed for volume "jwt" : secret "globex-jwt" not found', Cause.KEY_UNREADABLE),
        ("couldn't find key server.key in Secret sync/globex-jwt", Cause.KEY_UNREADABLE),
        ("A secret with (name/id) globex-jwt was not found in this key vault.", Cause.KEY_UNREADABLE),
        ("key is of invalid type: expects *rsa.PrivateKey", Cause.KEY_UNREADABLE),
        ("PEMException: problem parsing RSA PRIVATE KEY: DEF length 900 truncated", Cause.KEY_UNREADABLE),
        ("java.nio.file.NoSuchFileException: /srv/sync/globex.pfx", Cause.KEY_UNREADABLE),
        ("java.security.UnrecoverableKeyException", Cause.KEY_UNREADABLE),
        ("digital envelope routines::operation not supported for this keytype", Cause.KEY_NOT_RSA),
        ("parse key: asn1: structure error: tags don't match", Cause.KEY_UNREADABLE),
        ("InvalidKeySpecException: Only RSAPrivateCrtKeySpec is supported", Cause.KEY_UNREADABLE),
        ("ring: KeyRejected(InvalidEncoding)", Cause.KEY_UNREADABLE),
        ("Mac verify error: invalid password?", Cause.KEY_UNREADABLE),
        ("ECPrivateKeyImpl cannot be cast to RSAPrivateKey", Cause.KEY_NOT_RSA),
        ("its asymmetricKeyType must be rsa", Cause.KEY_NOT_RSA),
        ("IDX10653: 'RS256' requires a key size of at least '2048' bits.", Cause.KEY_TOO_SHORT),
        ("the RSA modulus of the signing key has 1024 bits", Cause.KEY_TOO_SHORT),
    ],
)
def test_a_key_error_means_that_nothing_was_sent(text: str, cause: Cause) -> None:
    paste = read(f"ERROR running job: {text}\n    at sign (jws.js:7:3)")

    assert paste is not None
    assert isinstance(paste.outcome, NotSent)
    assert of_not_sent(paste.outcome).cause is cause


def test_an_unreadable_list_of_trusted_authorities_is_not_a_key_fault() -> None:
    text = "OSError: Could not find a suitable TLS CA certificate bundle, invalid path: /etc/ssl/ca.pem"

    assert not isinstance(getattr(read(text), "outcome", None), NotSent)


@pytest.mark.parametrize(
    "text",
    [
        "cache key sf:globex not found, logging in again",
        "row with primary key 7 not found",
        "translation key 'login.title' not found",
        "cache miss: user:7 not found",
        'psycopg.OperationalError: FATAL: password authentication failed for user "sync"',
        "LDAP: error code 49 - invalid credentials",
        "ECONNRESET on redis://cache:6379, again in 2 s",
        "Permission denied (publickey).",
        "INFO worker: next run at 03:00, timeout: 30s, retries=3",
        "translation secret.word not found",
        "loaded the private key: RSA, 2048 bits",
        "openssl req -x509 -newkey rsa:2048 -out server.crt",
        "SSL certificate verify ok.",
        "tunnel to proxy.globex.example established",
        "request timeout 10 s, cache 1 h",
        "session timeout raised to 2 hours",
        "cat > body.json <<EOF\n{}\nEOF",
        "SyntaxError: Unexpected token '}'",
        'ERROR: relation "user" does not exist',
        "slack api: rate limit exceeded",
        "fatal: Authentication failed for 'https://git.globex.example/sync'",
        "ORA-01017: invalid username/password; logon denied",
        "Failed to pull image globex/sync: authentication required",
    ],
)
def test_other_things_not_found_are_neither_a_private_key_nor_a_user(text: str) -> None:
    assert read(text) is None


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("---> System.Net.Sockets.SocketException (10061): Verbindung verweigert", Cause.NETWORK_UNREACHABLE),
        ("SocketException (10054): L'hôte distant a fermé la connexion", Cause.SALESFORCE_UNAVAILABLE),
        ("The specified hostname could not be found. NSURLErrorDomain -1003", Cause.SUBDOMAIN_UNKNOWN),
    ],
)
def test_error_numbers_are_recognised_in_any_language(text: str, cause: Cause) -> None:
    host = connection(login_url="https://globexx.my.salesforce.com")

    assert meant(read(text), host).cause is cause


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (
            "RemoteProtocolError: Server disconnected without sending a response.",
            Cause.SALESFORCE_UNAVAILABLE,
        ),
        (
            "NoHttpResponseException: globex.my.salesforce.com:443 failed to respond",
            Cause.SALESFORCE_UNAVAILABLE,
        ),
        ("upstream connect error or disconnect/reset before headers", Cause.SALESFORCE_UNAVAILABLE),
        ("SSLException: SSL peer shut down incorrectly", Cause.NETWORK_UNREACHABLE),
        ("SSLHandshakeException: Remote host terminated the handshake", Cause.NETWORK_UNREACHABLE),
        ("lookup globex.my.salesforce.com: server misbehaving", Cause.NETWORK_UNREACHABLE),
        ("java.nio.channels.UnresolvedAddressException", Cause.NETWORK_UNREACHABLE),
        ("503 no healthy upstream", Cause.NETWORK_UNREACHABLE),
        ("Tunnel connection failed: 403 Forbidden", Cause.NETWORK_UNREACHABLE),
        ("net::ERR_PROXY_CONNECTION_FAILED", Cause.NETWORK_UNREACHABLE),
        ("the upstream server is timing out", Cause.SALESFORCE_UNAVAILABLE),
        ('Post "https://globex.my.salesforce.com/services/oauth2/token": EOF', Cause.SALESFORCE_UNAVAILABLE),
        ("503 UC upstream_reset_before_response_started", Cause.SALESFORCE_UNAVAILABLE),
        ("The Internet connection appears to be offline.", Cause.NETWORK_UNREACHABLE),
        (
            "AggregateError [ETIMEDOUT]:\n  Error: connect ENETUNREACH 2001:db8::1:443",
            Cause.NETWORK_UNREACHABLE,
        ),
    ],
)
def test_failed_and_broken_connections_are_network_faults(text: str, cause: Cause) -> None:
    assert meant(read(text)).cause is cause


@pytest.mark.parametrize(
    "text",
    [
        "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
        "JsonParseException: Unexpected character ('<' (code 60)): expected a valid value",
        "invalid character '<' looking for beginning of value",
        "Unexpected character encountered while parsing value: <. Path '', line 0, position 0.",
        "'<' is an invalid start of a value. Path: $",
        "JsonSyntaxException: Expected BEGIN_OBJECT but was STRING at line 1 column 1",
        "A JSONObject text must begin with '{' at 1",
    ],
)
def test_something_else_in_place_of_json_did_not_come_from_the_token_endpoint(text: str) -> None:
    assert meant(read(text)).cause is Cause.SALESFORCE_UNAVAILABLE


@pytest.mark.parametrize(
    "frame",
    [
        "\tat java.base/sun.security.ssl.CertificateExpired.of(SSLException.java:127)",
        "    at certificateHasExpired (/srv/tls/self-signed.js:9:1)",
        "    at /srv/tls/self-signed.js:9:1",
        "   at Globex.Tls.SelfSigned.SslException()",
    ],
)
def test_the_frames_of_a_stack_say_nothing(frame: str) -> None:
    assert read(f"IllegalStateException: empty batch\n{frame}") is None
    assert meant(read(f"SocketException: Broken pipe\n{frame}")).cause is Cause.SALESFORCE_UNAVAILABLE


def test_among_lines_about_a_fault_the_one_with_the_reason_counts() -> None:
    text = "wget: lookup failed: Name or service not known.\nwget: unable to resolve host address"
    host = connection(login_url="https://globexx.my.salesforce.com")

    assert meant(read(text), host).cause is Cause.SUBDOMAIN_UNKNOWN


@pytest.mark.parametrize(
    ("text", "certainty"),
    [
        ("javax.net.ssl.SSLHandshakeException: Received fatal alert: handshake_failure", Certainty.LIKELY),
        ("remote error: tls alert: protocol version", Certainty.LIKELY),
        ("remote error: tls: bad certificate", Certainty.LIKELY),
        ("javax.net.ssl.SSLHandshakeException: Received fatal alert: certificate_unknown", Certainty.LIKELY),
        ("tlsv1 alert unknown ca", Certainty.LIKELY),
        ("x509: certificate signed by unknown authority", Certainty.CERTAIN),
        ("SELF_SIGNED_CERT_IN_CHAIN", Certainty.CERTAIN),
        ("could not log in: the host's certificate is not trusted", Certainty.CERTAIN),
    ],
)
def test_only_messages_about_trust_are_certain_tls_trust_faults(text: str, certainty: Certainty) -> None:
    found = meant(read(text))

    assert (found.cause, found.certainty) == (Cause.TLS_UNTRUSTED, certainty)


def test_a_proxy_name_that_does_not_resolve_is_not_the_orgs() -> None:
    assert meant(read("getaddrinfo ENOTFOUND proxy.globex.internal")).cause is Cause.NETWORK_UNREACHABLE
    misspelt = read("getaddrinfo ENOTFOUND globexx.my.salesforce.com")
    host = connection(login_url="https://globexx.my.salesforce.com")
    assert meant(misspelt, host).cause is Cause.SUBDOMAIN_UNKNOWN


# What a text does not say


@pytest.mark.parametrize(
    "text",
    [
        "AxiosError: Request failed with status code 400\n  config: { timeout: 0, method: 'post' }",
        "Response status code does not indicate success: 400 (Bad Request).",
        "unexpected status 401 Unauthorized",
        "The remote server returned an error: (400) Bad Request.",
        "HttpClientErrorException$BadRequest: 400 : [no body]",
        "Received a response: 403",
        "HTTP/1.1 400 Bad Request",
        "Error: Unauthorized",
        "NodeApiError: Bad request - please check your parameters",
        "token endpoint: 404 Not Found",
        "sync aborted: token request failed: 400\n    at job (/srv/sync.mjs:7:1)",
        "ResponseStatusException: 400 BAD_REQUEST",
        '{"httpCode": "400", "node": "Salesforce"}',
        "AxiosError: status code 400\n  config: { clarifyTimeoutError: false, connectTimeout: 500 }",
        '{"msg": "token refused", "status": 400, "readTimeout": "30s"}',
        "03:00 ECONNRESET, again in 5 s\n03:05 Request failed with status code 400",
        "  HTTP/1.1 400 Bad Request\n  Server: sfdcedge\n2026-11-20 03:12:55 ERROR 400: Bad Request.",
        "KeyError: 'access_token'",
        "TypeError: Cannot read properties of undefined (reading 'access_token')",
        'PHP Warning: Undefined array key "access_token"',
    ],
)
def test_a_status_without_a_body_is_not_reported_as_empty_body(text: str) -> None:
    assert meant(read(text)).cause is Cause.UNRECOGNISED


@pytest.mark.parametrize(
    "text",
    [
        "HTTP 405 Method Not Allowed",
        "HTTPError: 405 Client Error: Method Not Allowed for url: https://globex.lightning.force.com",
        "HttpClientErrorException$MethodNotAllowed: 405 Method Not Allowed: [no body]",
    ],
)
def test_method_not_allowed_is_about_the_request_and_not_the_user(text: str) -> None:
    assert meant(read(text)).cause is Cause.REQUEST_MALFORMED


@pytest.mark.parametrize(
    "text",
    [
        "invalid_client: AADSTS7000222: The provided client secret keys are expired.",
        "AADSTS50034: The user account does not exist in the directory.",
        "google.auth.exceptions.RefreshError: ('invalid_grant: Token has been expired or revoked.')",
    ],
)
def test_an_error_of_another_provider_is_not_salesforces(text: str) -> None:
    assert meant(read(text)).cause is Cause.UNRECOGNISED
    assert not is_salesforces("invalid_client", text)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ('{"statusCode": 429, "message": "Rate limit is exceeded."}', Cause.LOGIN_RATE_EXCEEDED),
        ('{"statusCode": 401, "message": "Access denied."}', Cause.NETWORK_UNREACHABLE),
    ],
)
def test_a_gateways_text_is_not_salesforces(text: str, cause: Cause) -> None:
    found = meant(read(text))

    assert (found.cause, found.certainty) == (cause, Certainty.POSSIBLE)


def test_the_status_of_a_gateway_is_not_that_of_the_answer_within() -> None:
    paste = read('{"status":502,"detail":"upstream said: API is currently disabled for this user"}')

    assert meant(paste).cause is Cause.API_DISABLED


def test_scopes_in_a_pasted_text_are_recognised() -> None:
    refused = '401 [{"message":"Session expired or invalid","errorCode":"INVALID_SESSION_ID"}]'

    for named in ('"scope":"api web"', "scopes: ['api', 'web']", "scope=api+web"):
        paste = read(f"token granted, {named}\n{refused}")
        assert paste is not None
        assert paste.scopes == frozenset({"api", "web"})
    other = read(f"calendar: scope=events tasks\n{refused}")
    assert other is not None
    assert other.scopes is None


def test_a_pasted_grant_is_recognised() -> None:
    paste = read('curl says {"access_token":"00Dxx0000000001!AQ","scope":"api"} and goes on')

    assert paste is not None
    assert isinstance(paste.outcome, Granted)


def test_meaningless_text_is_not_diagnosed() -> None:
    assert read("the nightly job is red again") is None


@pytest.mark.parametrize(
    "text",
    [
        "INFO lists: audience sync could not start earlier, 120 members",
        '{"level":"info","msg":"the user account is locked while it is edited"}',
        '{"level":30,"msg":"removed the invalid token"}',
        "03:00 job started\nINFO message: the user account is locked while it is edited",
        "the audience of the newsletter has grown",
        "our clocks follow one server: the clock of the login host",
        "yaml: mapping values are not allowed in this context",
        "the mailbox is unavailable",
        '{"level":"error","message":"the user account is locked by another process"}',
        "ERROR insufficient disk space on the server",
        "ERROR upload: type not allowed for this user",
        "ERROR orders: client 7 not found",
        "ERROR webhook of the billing service: signature mismatch",
        "WARN user of globex: trial plan expired",
    ],
)
def test_words_count_only_in_a_message_of_a_failure_about_a_login(text: str) -> None:
    assert read(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "MALFORMED_QUERY: unexpected token: FORM",
        "FIELD_CUSTOM_VALIDATION_EXCEPTION: the account is locked and cannot be edited",
        "INACTIVE_OWNER_OR_USER: operation performed with inactive user [005xx] as owner of case",
        "OP_WITH_INVALID_USER_TYPE_EXCEPTION: Operation not valid for this user type",
        "QUERY_TIMEOUT: Your query request was running for too long.",
        '{\n  "message": "The account is locked",\n  "errorCode": "FIELD_FILTER_VALIDATION_EXCEPTION"\n}',
        "Error: ENTITY_IS_LOCKED\nCategory: Access\nMessage: the account is locked",
        "status: 400, body: [{'errorCode': 'INVALIDENTITY', 'message': 'not supported by the Bulk API'}]",
    ],
)
def test_an_error_of_a_record_or_query_means_that_the_login_was_granted(text: str) -> None:
    paste = read(text)

    assert paste is not None
    assert isinstance(paste.outcome, Granted)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("inactive user while logging in to Salesforce", Cause.USER_INACTIVE),
        ("Message: Net::ReadTimeout", Cause.SALESFORCE_UNAVAILABLE),
        ('{"errorCode":"API_CURRENTLY_DISABLED"}', Cause.API_DISABLED),
    ],
)
def test_an_error_of_a_record_hides_no_error_on_another_line(text: str, cause: Cause) -> None:
    assert meant(read(f"UNABLE_TO_LOCK_ROW: unable to obtain exclusive access\n{text}")).cause is cause


@pytest.mark.parametrize(
    "text",
    [
        "salesforce.jwt.keystore.path = null\nERROR Could not authenticate to Salesforce",
        '{"salesforce.grant.type":"JWT_BEARER","salesforce.jwt.keystore.path":"/srv/globex.jks"}',
        "INFO read the private key (PKCS#8) of globex",
        "the token of the internal API is signed with an EC key",
        "* Server certificate:\n*  subject: CN=*.my.salesforce.com",
        "TLSv1.3 (OUT), TLS alert, close notify (256):",
        "x509 certificate of the app: valid until 2031",
        "<p>Message: the record of globex was not saved</p>",
        "please come back, or try again later",
    ],
)
def test_what_a_text_only_mentions_is_not_a_fault(text: str) -> None:
    assert read(text) is None


def test_a_mention_of_a_certificate_does_not_hide_the_reason() -> None:
    text = "* Server certificate:\n*  subject: CN=*.my.salesforce.com\ncurl: (28) Operation timed out"

    assert meant(read(text)).cause is Cause.SALESFORCE_UNAVAILABLE


def test_a_path_may_stand_on_a_line_of_its_own() -> None:
    paste = read("Here's the error: ENOENT: no such file or directory, open\n'/srv/globex/server.key'")

    assert paste is not None
    assert isinstance(paste.outcome, NotSent)


def test_an_expired_access_token_says_nothing_about_the_clock() -> None:
    assert read("ERROR sync: the current token is expired, logging in again") is None


def test_a_host_with_app_in_its_name_is_not_an_app_that_is_blocked() -> None:
    assert read("fetch from origin https://app.globex.example was blocked by CORS policy") is None


def test_a_refusal_in_the_access_log_of_a_callback_keeps_its_cause() -> None:
    paste = read('"GET /callback?error=invalid_client_id&error_description=client+identifier+invalid" 302 0')

    assert meant(paste).cause is Cause.CONSUMER_KEY_UNKNOWN


@pytest.mark.parametrize(
    "text",
    [
        "INFO response: user hasn't approved this consumer",
        "user hasn't approved this consumer, see https://github.com/globex/sync/issues/7",
        "npm ERR! user is not admin approved to access this app",
    ],
)
def test_a_long_sentence_of_salesforces_counts_wherever_it_stands(text: str) -> None:
    assert meant(read(text)).cause in {Cause.CONSUMER_NOT_APPROVED, Cause.USER_NOT_ADMIN_APPROVED}


@pytest.mark.parametrize(
    "text",
    [
        "INFO oauth: removed an expired authorization code",
        "✓ rejects an expired authorization code",
        "mqtt: connection refused - client identifier invalid",
        'Error: unauthorized\n  on main.tf line 7, in data "globex_client" "sync":',
        'Get "https://id.globex.example/users": 500\nResponse: {"error":"server_error"}',
        "400 Bad Request for url: https://globex.my.salesforce.com/services/data/v60.0/query",
        "npm error code EACCES, permission denied",
        "the nightly job timed out",
        "applied the content filter to 120 accounts in 3 s",
        "Ensure that the token is valid until revoked",
    ],
)
def test_what_others_report_has_no_cause(text: str) -> None:
    paste = read(text)

    assert paste is None or isinstance(paste.outcome, Granted)


def test_the_inner_exception_tells_more_than_the_outer() -> None:
    text = "The SSL connection could not be established, see inner exception. ---> SocketException (10060)"

    assert meant(read(text)).cause is Cause.NETWORK_UNREACHABLE


def test_a_message_that_names_a_host_of_salesforces_is_not_about_another_service() -> None:
    text = "org.apache.kafka.connect.ConnectException: connection refused by globex.my.salesforce.com"

    assert meant(read(text)).cause is Cause.NETWORK_UNREACHABLE


def test_nor_is_one_that_names_salesforces_login() -> None:
    text = "org.apache.kafka.connect.ConnectException: salesforce login failed: expired access/refresh token"

    assert meant(read(text)).cause is Cause.CONSUMER_NOT_APPROVED


@pytest.mark.parametrize(
    "text",
    [
        "Error: connect ETIMEDOUT 10.1.2.3:3128, proxy url: http://10.1.2.3:3128",
        "request to http://webproxy.acme.example:3128 failed, reason: connect ECONNREFUSED 10.1.2.3:3128",
        "GET https://acme.my.site.com/customers: connection refused",
    ],
)
def test_a_proxy_or_a_site_is_not_another_server(text: str) -> None:
    assert meant(read(text)).cause is Cause.NETWORK_UNREACHABLE


# Login History and event logs


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        ("Restricted domain", Cause.AUDIENCE_INVALID),
        ("Restricted IP", Cause.IP_RESTRICTED),
        ("Restricted country", Cause.IP_RESTRICTED),
        ("Restricted time", Cause.IP_RESTRICTED),
        ("User is frozen", Cause.USER_INACTIVE),
        ("Password lockout", Cause.USER_INACTIVE),
        ("Trial Expired", Cause.ORG_INACTIVE),
        ("Organization is in maintenance", Cause.SALESFORCE_UNAVAILABLE),
        ("Maximum logins exceeded", Cause.LOGIN_RATE_EXCEEDED),
        ("Failed: Consumer Deleted", Cause.CONSUMER_KEY_UNKNOWN),
        ("Failed: Issuer Mismatched", Cause.CONSUMER_KEY_UNKNOWN),
        ("Failed: Signature Invalid/Configured Certificate Mismatch", Cause.ASSERTION_INVALID),
        ("Failed: Audience Invalid", Cause.AUDIENCE_INVALID),
        ("Failed: Assertion Expired", Cause.CLOCK_SKEWED),
        ("Failed: Username Or SSO Id Invalid", Cause.USERNAME_CHANGED),
        ("Failed: Nonce Replay Detected", Cause.REQUEST_MALFORMED),
        ("Failed: OAuth API access disabled", Cause.API_DISABLED),
        ("Package for this consumer is not installed in your organization", Cause.APP_BLOCKED),
        ("Multi-factor (formerly called two-factor) is required", Cause.NOT_AUTHORIZED),
    ],
)
def test_a_status_of_login_history_means_the_same_as_its_code_in_an_event_log(
    status: str, cause: Cause
) -> None:
    codes = [code for code, text in STATUSES.items() if text == status]

    assert codes
    for text in (f"11/20/2026 3:12 AM,203.0.113.9,{status},Unknown", *(f'"{code}"' for code in codes)):
        assert meant(read(text)).cause is cause


@pytest.mark.parametrize("status", sorted(set(STATUSES.values())))
def test_every_listed_login_status_is_recognised(status: str) -> None:
    paste = read(status)

    assert paste is not None
    assert isinstance(paste.outcome, Refused)
    assert paste.outcome.description == status


def test_two_common_words_are_a_status_only_in_salesforces_spelling() -> None:
    assert [*sentences("the invalid password mails and the wireless disabled notice")] == []
    assert meant(read("11/20/26 03:12 Remote Access 2.0 Restricted IP Hamburg")).cause is Cause.IP_RESTRICTED
    assert meant(read('{"status": "restricted ip"}')).cause is Cause.IP_RESTRICTED


# Texts of other grants


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("invalid_grant: authentication failure", Cause.NOT_AUTHORIZED),
        ("invalid_grant: token validity expired", Cause.CONSUMER_NOT_APPROVED),
        ("invalid_request: too many scopes requested", Cause.JWT_ACCESS_TOKEN),
        ("OAUTH_APPROVAL_ERROR_GENERIC", Cause.APP_BLOCKED),
        ("invalid_request: cross-org OAuth flows need a packaged app", Cause.APP_NOT_FOUND),
        ("LOGIN_DURING_RESTRICTED_DOMAIN: not from here", Cause.IP_RESTRICTED),
        ("INSUFFICIENT_ACCESS: API is not allowed here by API Access Control", Cause.APP_BLOCKED),
    ],
)
def test_a_text_of_another_grant_type_has_its_own_cause(text: str, cause: Cause) -> None:
    found = of_text(text)

    assert found is not None
    assert found.cause is cause


# Hostile texts

HOSTILE = ["key ", '{"error":', "invalid_grant:", "message:", "\\\\", "&amp;amp;", "%2525", "a.", "A_B: x ",
           "inactive user\n", "HTTP/1.1 400\n", "[audience=a login=b]", "the key can't ", "certificate ",
           "user not ", "status 400 ", "scopes: a,", "timeout: 3 ", "secret (", "> ", "error_description=",
           "https://login.salesforce.com invalid_grant ", "C:\\", "<!-- -->", "\x1b[", "İ",
           "get https://a ", "400 /services/data/", "---> ", "key not found ",
           "INFO inactive user "]  # fmt: skip


HARMLESS = "2026-11-20T03:12:55Z INFO [sync-7] 12 accounts of globex were read in 0.4 s\n"


def cost(piece: str, length: int) -> float:
    """Seconds of the processor that a text of this length takes, at best."""
    text = (piece * (length // len(piece) + 1))[:length]
    best = float("inf")
    for _ in range(2):
        begin = time.process_time()
        read(text)
        best = min(best, time.process_time() - begin)
    return best


def test_an_escaped_character_with_a_huge_number_raises_nothing() -> None:
    assert meant(read(f"invalid_grant: ip restricted &#{'9' * 10_000};")).cause is Cause.IP_RESTRICTED


@pytest.mark.parametrize("piece", HOSTILE)
def test_reading_a_text_takes_linear_time(piece: str) -> None:
    """Four times the text may cost four times as much; sixteen times would be the square. The bound lies
    between, and lies far from what a busy machine adds.
    """
    assert cost(piece, 32_768) < max(10 * cost(piece, 8_192), cost(HARMLESS, 32_768))


PAGE = (
    "HTTP/1.1 {status}\nServer: filter\nContent-Type: text/html\n\n<html><body><p>{words}</p></body></html>"
)


@pytest.mark.parametrize(
    "status", ["403 Forbidden", "407 Proxy Authentication Required", "503 Service Unavailable"]
)
@pytest.mark.parametrize(
    "words", ["Blocked: Restricted country", "Login invalid", "Restricted domain", "User is locked"]
)
def test_words_on_a_page_are_not_an_answer_of_salesforce(status: str, words: str) -> None:
    pasted = read(PAGE.format(status=status, words=words))

    assert pasted is not None
    assert isinstance(pasted.outcome, Refused)
    assert (pasted.outcome.status, pasted.outcome.error, pasted.outcome.description) == (
        int(status[:3]),
        "",
        "",
    )


def test_a_bare_page_has_the_status_in_its_title() -> None:
    pasted = read("<html><head><title>403 Forbidden</title></head><body>nginx</body></html>")

    assert pasted is not None
    assert isinstance(pasted.outcome, Refused)
    assert pasted.outcome.status == 403
