"""Recognises clients' error messages for faults before an answer: key, TLS, DNS, network.

One table serves recorded messages and pasted text. Lines are normalised by `texts.plain` first.
"""

import re

from monitor.core.causes import Cause
from monitor.core.outcome import FaultKind

_OUR_KEY = r"((private|signing|rsa|pem|jwt|\bsecret) ?key|\bpem)\b"
"""Excludes other keys: of a cache, table or gateway, and the app's consumer key."""

_KEYS = (
    (Cause.KEY_UNREADABLE, (r"deseriali[sz]e|\basn\.?1: ",)),
    (
        Cause.KEY_TOO_SHORT,
        (
            r"\b(key|modulus)\b.{0,80}\b1?\d{3}\W{0,2}bits?\b",
            r"\b(key|modulus)\b.{0,60}(at least|minimum|smaller).{0,40}\bbits?\b",
            r"\bkey\b.{0,80} bits or (larger|more)",
            r"\b\d{3,4}.?bit keys? (is|are) (insecure|not)",
            r"key\b.{0,60}(too (short|small|weak)|smaller than)",
            r"(weak|minimum|insufficient) key",
        ),
    ),
    (
        Cause.KEY_NOT_RSA,
        (
            r"\bnot an? (valid )?rsa",
            r"\belliptic|\becd?sa\b|\bed25519\b|\bec\b.{0,10}\bkey|\becprivatekey",
            r"unsupported key|key ?type must be|for this key ?type",
        ),
    ),
    (
        Cause.KEY_CERTIFICATE_MISMATCH,
        (
            r"\bkey\b.{0,40}(not|n't|mis).{0,10}(match|pair)|key.{0,20}mismatch|key values mismatch",
            r"crypto/rsa: verification error",
        ),
    ),
    (
        Cause.KEY_UNREADABLE,
        (
            rf"{_OUR_KEY}.{{0,80}}(unreadable|missing|encrypted|damaged|corrupt|not (be )?(found|set)|empty)",
            (
                r"\b(key|pem)\b.{0,60}(not|n't|cannot|unable|failed|fail) .{0,12}"
                r"(be )?(read|load|pars|deserial|decod|coerced)"
            ),
            (
                r"(not|n't|cannot|unable|fail\w{0,5}|error|problem) .{0,20}"
                r"(pars|read|load|decod|import|sign|open|fetch|retriev)\w{0,5} .{0,40}"
                r"(\b(p?key|pem|certificate file)|(?<!client )\bsecret)\b"
            ),
            r"getsecretvalue|secrets manager can't|cloudkms|\bkey ?vault\b.{0,40}(denied|forbidden|error)",
            r"must be an asymmetric key|must have a value|neither pub key nor priv key|no usable private key",
            r"invalid ?rsa ?key|key ?rejected|\bkey\"? (argument|property) must be",
            r"invalid ?key( ?(spec|format|exception)|\b.{0,20}(spec|format|exception|must be|:))",
            r"invalid ?key\b.{0,60}(private|rsa)",
            r"(private|signing) key format|key for the rs\d+ algorithm must be",
            r"\bpem\b.{0,20}(routines|block|file|framing|start|format|encod)|no start line|no pem",
            r"decoder routines|bignum routines|rsa routines|(nested|corrupted|structure) ?asn1|\basn\.?1\b",
            r"nested asn1|algid parse|not openssh|no supported key formats",
            r"openssl.{0,30}(unable to|pkey)|\bpkcs.?([18]|12)\b|bad decrypt",
            r"\b(pfx|p12)\b.{0,20}password|\bmac verif",
            r"passphrase|keystore|key ?set does not exist",
            r"(?<!client )\bsecret (with |[\"'(\[]).{1,100}\bnot found|find key \S{1,80} in secret",
            r"key is of invalid type|unrecoverable ?key|cannot recover key",
            r"(illegal|invalid|valid|malformed|incorrect).{0,20}base.?64|base.?64.{0,30}(invalid|illegal|pad|error)",
            (
                r"(no ?(such ?)?file|not (exist|find|found)|cannot open|permission denied|eacces|enoent)"
                r".{0,120}(\.(key|pem|p12|pfx|jks|der|crt|cer|p8)\b|private.?key|\bkey.?file)"
            ),
            (
                r"(\.(key|pem|p12|pfx|jks|der|crt|cer|p8)\b|private.?key|\bkey.?file).{0,60}"
                r"(no such file|not exist|not found|cannot be opened|permission denied)"
            ),
        ),
    ),
)
"""Problems of the signing key."""

_FAULTS = (
    (FaultKind.POOL, (r"pool ?timeout",)),
    (FaultKind.TIMEOUT, (r"(tls|ssl).{0,40}(time.?out|timed out)|handshake (timeout|timed out)",)),
    (
        FaultKind.TLS,
        (
            r"err (cert|ssl|tls) |certificate (is |was )?not trusted|untrusted cert",
            r"certificate ?verif(?!ied|y ok)|self.?signed|\bcert has|unable to (verify|get) \w+|depth zero",
            r"ssl certificate problem|sslcertverif|sslerror|ssl ?exception|sslhandshake|ssl connection could",
            r"ssl routines|ssl3|sslv3 alert|\btls alert|handshake fail|secure channel|schannel",
            r"invalid peer certificate|remote certificate|(peer|server|host).{0,20}certificate|(?<!-)x509",
            r"certificate (has expired|is not yet valid|chain|authority|unknown|signed by)",
            r"unknown (ca|issuer|authority)|trust relationship|untrustedroot|trust anchor|pkix|certpath",
            r"hostname.{0,20}mismatch|not valid for|altname|alternative name",
            r"certificate(expired|not ?yet ?valid)|http response to https client",
            r"wrong version number|\beproto\b|not look like a tls|not an ssl|unrecogni[sz]ed ssl",
            r"curl(:| error)? ?[#(]? ?(35|51|60|77)\b",
        ),
    ),
    (
        FaultKind.DNS,
        (
            r"\benotfound|eai |getaddrinfo|gaierror|unknown ?host|no such host|nxdomain|dns (error|lookup)",
            r"name resolution|nameresolution|name or service not known|nodename nor servname",
            r"resolve (host|proxy|')|n't resolve|could not resolve|could not be resolved",
            r"failed to resolve:? ?(['\"]|host|name|address|domain|[\w-]+\.\w)",
            r"failed to lookup address|no address associated|curl(:| error)? ?[#(]? ?[56]\b",
            r"socketexception \(1100[1-4]\)|hostname could not be found|unresolved ?address",
            r"server misbehaving|\bservfail|name not resolved",
        ),
    ),
    (
        FaultKind.CONNECT,
        (
            r"econnrefused|connection refused|actively refused|ehostunreach|enetunreach|unreachable",
            r"no route to host|failed to connect|(unable to|cannot|couldn't) connect|newconnectionerror",
            r"connect(ion)? (etimedout|timed out|timeout)|connecttimeout|connecterror|connectexception",
            r"connection attempt failed|i/o timeout|dial tcp|proxyerror|proxy authentication required",
            r"socketexception \(100(51|60|61|65)\)|could not connect to the server|unauthorized endpoint",
            r"tunnel connection(?! (est|op))|tunnel.{0,40}(fail|error|refus|not\b)",
            r"(fail\w*|unable to|not) .{0,20}tunnel",
            r"err (proxy|internet) |appears to be offline|no healthy upstream|curl(:| error)? ?[#(]? ?7\b",
        ),
    ),
    (
        FaultKind.TIMEOUT,
        (
            r"readtimeout|timed out|timing out|etimedout|esockettimedout|econnaborted",
            r"time.?out (of|exceed|expired|was|error|while|waiting|reached|occurred|after)|time.?out:? ?$",
            r"(request|read|socket|gateway|operation|response) time.?out|deadline exceeded|timeout ?error",
            r"was canceled due to|taskcancel",
            r"curl(:| error)? ?[#(]? ?28\b",
        ),
    ),
    (
        FaultKind.PROTOCOL,
        (
            r"econnreset|connection (reset|aborted|closed|was closed)|closed connection|forcibly closed",
            r"socketexception \(1005[34]\)|network connection was lost|other side closed",
            r"reset by peer|socket hang up|epipe|broken pipe|remoteprotocolerror|remotedisconnected",
            r"server disconnected|failed to respond|upstream (connect error|reset)",
            r"readerror|incompleteread|unexpected end of|end of file",
            r"(?<!<)\beof\b(?!$)|([:=] ?\"?|unexpected )eof$",
            r"premature(ly)? (end|eof|clos|conn)|(end|clos)\w* prematurely",
            r"html response|unexpected token.{0,60}(json|<)|not valid json|expecting value: line 1\b",
            r"(looking for beginning|invalid start) of a? ?value|json ?object text must begin",
            r"expected begin (object|array)|unexpected character \('<'|while parsing value: <",
            r"curl(:| error)? ?[#(]? ?(52|55|56|92)\b",
        ),
    ),
)
"""Clients' messages by kind of fault, in order of precedence."""

_TRUSTED_LISTS = re.compile(r"\bca\b|trust.?store|cacert|ca.?bundle|ca.?file|\bssl cert")
"""Files of trusted authorities: if one can't be read, our key is not at fault."""

_KEY_RULES = tuple((cause, re.compile("|".join(patterns))) for cause, patterns in _KEYS)
_FAULT_RULES = tuple((kind, re.compile("|".join(patterns))) for kind, patterns in _FAULTS)

ORDER = tuple(reversed(dict.fromkeys(kind for kind, _ in reversed(_FAULTS))))
"""The kinds, most informative first."""

SETTING = re.compile(
    r"\b\w{1,40}[\"']? ?[:=] ?[\"']?(\d[\d.]{0,9}m?s?|true|false|null|none|undefined)\b"
    r"|\btime.?out (\w{2,10} (to|as|at) )?\d{1,9} ?([mh]|m?s|min|sec|seconds|minutes|hours)\b"
    r"(?! ?(elapsed|exceeded|expired|reached))",
    re.IGNORECASE,
)
"""Settings that clients print along with an error: `connectTimeout: 5000`, `timeout set to 30 s`."""

NO_SUCH_NAME = re.compile(
    r"errno -(2|5)\b|eai noname|eai nodata|nxdomain|enotfound|name or service not known|name does not resolve"
    r"|no address associated|nodename nor servname|no such host|non-?existent domain|n't resolve host"
    r"|could not resolve|name not resolved|(host)?name could not be (resolved|found)|unknown ?host"
    r"|failed to resolve|(errno |exception \()11001|no usable address"
)
"""NXDOMAIN; other resolver errors do not mean that the name is wrong."""

NOT_TLS = re.compile(
    r"wrong.version.number|unknown protocol|not look like a tls|not an ssl|unrecogni[sz]ed ssl"
    r"|record overflow|packet length too long|plaintext connection|http (request|response) to (an? )?https"
)
"""The other side did not speak TLS: usually a misconfigured proxy."""

BROKEN_OFF = re.compile(
    r"^(?!.*(trust|verif|issuer))"
    r".*(eof occurred|unexpected eof|end of file|connection (was )?(reset|closed|aborted)|reset by peer"
    r"|closed (the )?connection|timed out|time.?out|terminated (during|the) |shut down )"
)
"""The connection ended during the handshake, which says nothing about trust."""


def of_key(text: str) -> Cause | None:
    """The key problem in a normalised text, if any."""
    if _TRUSTED_LISTS.search(text):
        return None
    return next((cause for cause, pattern in _KEY_RULES if pattern.search(text)), None)


def kind_of(text: str) -> FaultKind | None:
    """The fault in a normalised text, if any."""
    text = SETTING.sub(" ", text)
    return next((kind for kind, pattern in _FAULT_RULES if pattern.search(text)), None)
