//! The one table of requests and replies: what every front has to answer, to the byte.

use super::contract::Case;

/// The longest head that is read, from the first byte to the empty line that ends it.
pub const MAX_HEAD_BYTES: usize = 8192;

/// Path, then status line and body on a primary, on a standby, and with PostgreSQL down.
pub type Row = (&'static str, [(&'static str, &'static str); 3]);

const PRIMARY: (&str, &str) = ("200 Primary", "Primary");
const STANDBY: (&str, &str) = ("200 Standby", "Standby");
const ALIVE: (&str, &str) = ("200 Alive", "Alive");
const IN_RECOVERY: (&str, &str) = ("503 in-recovery", "No: in-recovery");
const NOT_IN_RECOVERY: (&str, &str) = ("503 not-in-recovery", "No: not-in-recovery");
/// What an agent without peers can say.
const NO_STATE: (&str, &str) = ("503 sync-state-unknown", "Down: sync-state-unknown");
const NO_SENDER: (&str, &str) = ("503 sender-unknown", "Down: sender-unknown");
const REFUSED: (&str, &str) = ("503 connection-refused", "Down: connection-refused");

/// Every path with its answers.
pub const PATHS: &[Row] = &[
    ("/", [PRIMARY, ("206 Standby", "Standby"), REFUSED]),
    ("/primary", [PRIMARY, IN_RECOVERY, REFUSED]),
    ("/master", [PRIMARY, IN_RECOVERY, REFUSED]),
    ("/leader", [PRIMARY, IN_RECOVERY, REFUSED]),
    ("/read-write", [PRIMARY, IN_RECOVERY, REFUSED]),
    ("/replica", [NOT_IN_RECOVERY, STANDBY, REFUSED]),
    ("/standby", [NOT_IN_RECOVERY, STANDBY, REFUSED]),
    ("/read-only", [PRIMARY, STANDBY, REFUSED]),
    ("/synchronous", [NOT_IN_RECOVERY, NO_STATE, REFUSED]),
    ("/sync", [NOT_IN_RECOVERY, NO_STATE, REFUSED]),
    ("/asynchronous", [NOT_IN_RECOVERY, NO_STATE, REFUSED]),
    ("/async", [NOT_IN_RECOVERY, NO_STATE, REFUSED]),
    ("/quorum", [NOT_IN_RECOVERY, NO_STATE, REFUSED]),
    ("/read-only-sync", [PRIMARY, NO_STATE, REFUSED]),
    ("/read-only-synchronous", [PRIMARY, NO_STATE, REFUSED]),
    ("/read-only-quorum", [PRIMARY, NO_STATE, REFUSED]),
    ("/standby-leader", [NOT_IN_RECOVERY, NO_SENDER, REFUSED]),
    ("/standby_leader", [NOT_IN_RECOVERY, NO_SENDER, REFUSED]),
    ("/health", [PRIMARY, STANDBY, REFUSED]),
    ("/readiness", [PRIMARY, STANDBY, REFUSED]),
    ("/liveness", [ALIVE, ALIVE, ALIVE]),
];

/// What may stand ahead of an agent-check's line, and makes no difference.
pub const AGENT_CHECK_PREFIXES: &[&[u8]] = &[
    PROXY_LINE,
    b"PROXY UNKNOWN\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\xdc\x04\x01\xbb",
];

/// What HAProxy's agent-check says to a target on a primary, on a standby that has replayed everything, and with
/// PostgreSQL down.
pub const AGENT_CHECKS: &[(&str, [&str; 3])] = &[
    ("/", [READY, READY, AGENT_REFUSED]),
    ("*", [READY, READY, AGENT_REFUSED]),
    ("/primary", [READY, "down #in-recovery", AGENT_REFUSED]),
    ("/master", [READY, "down #in-recovery", AGENT_REFUSED]),
    ("/leader", [READY, "down #in-recovery", AGENT_REFUSED]),
    ("/read-write", [READY, "down #in-recovery", AGENT_REFUSED]),
    ("/replica", ["down #not-in-recovery", READY, AGENT_REFUSED]),
    ("/standby", ["down #not-in-recovery", READY, AGENT_REFUSED]),
    ("/replica?lag=16MB", ["down #not-in-recovery", READY, AGENT_REFUSED]),
    ("/replica?replication_state=streaming", ["down #not-in-recovery", READY, AGENT_REFUSED]),
    ("/read-only", [READY, READY, AGENT_REFUSED]),
    ("/read-only?lag=16MB", [READY, READY, AGENT_REFUSED]),
    ("http://node1:23267/primary", [READY, "down #in-recovery", AGENT_REFUSED]),
    ("/async", ["down #not-in-recovery", "down #sync-state-unknown", AGENT_REFUSED]),
    ("/read-only-sync", [READY, "down #sync-state-unknown", AGENT_REFUSED]),
    ("/standby-leader", ["down #not-in-recovery", "down #sender-unknown", AGENT_REFUSED]),
    ("//replica/", ["down #not-in-recovery", READY, AGENT_REFUSED]),
    ("/replica?lag=1.5%20GB", ["down #not-in-recovery", READY, AGENT_REFUSED]),
    ("/readiness?lag=16MB&mode=write", [READY, READY, AGENT_REFUSED]),
    ("/health", [READY, READY, AGENT_REFUSED]),
    ("/readiness", [READY, READY, AGENT_REFUSED]),
    // Nothing is nothing asked.
    ("", [READY, READY, AGENT_REFUSED]),
    ("/liveness", [READY, READY, READY]),
];

const READY: &str = "up ready 100%";
const AGENT_REFUSED: &str = "down #connection-refused";

/// Lines for HAProxy's agent-check that are no target, whatever the state of PostgreSQL.
pub const NO_AGENT_CHECKS: &[&[u8]] = &[
    b"/status\n",
    b"/metrics\n",
    b"/nothing\n",
    b"/Primary\n",
    b"/primary/x\n",
    b"replica\n",
    b" /replica\n",
    b"/replica \n",
    b"/replica?lag\n",
    b"/replica?lag=16mb\n",
    b"/replica?lag=1&lag=1\n",
    b"/replica?size=1\n",
    b"/primary?lag=16MB\n",
    b"/health?lag=16MB\n",
    b"/liveness?a=b\n",
    b"/re\rplica\n",
    b"/\xc3\xa9\n",
    b"/\xff\n",
    b"/\0\n",
    b"GET /replica HTTP/1.1\r\n\r\n",
    b"OPTIONS / HTTP/1.0\r\n\r\n",
    b"PROXY\n",
    b"PROXY TCP4 192.0.2.1 1 2\r\n/replica\n",
    b"PROXY UNKNOWN\n/replica\n",
    b"PROXY UNKNOWN\r\nPROXY UNKNOWN\r\n/replica\n",
    b"PROXY UNKNOWN",
    b"\r\n\r\n\0\r\nQUIT\n\x30\0\0\0/replica\n",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\xff\xff/replica\n",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0",
    b"\x16\x03\x01\x02\x00\x01\x00\n",
];

/// What GET, HEAD and OPTIONS ask in both versions of HTTP.
pub const METHODS: &[Case<'static>] = &[
    ("GET 1.1", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "200 Primary"),
    ("GET 1.0", b"GET / HTTP/1.0\r\n\r\n", "200 Primary"),
    ("HEAD 1.1", b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n", "200 Primary"),
    ("HEAD 1.0", b"HEAD / HTTP/1.0\r\n\r\n", "200 Primary"),
    ("OPTIONS 1.1", b"OPTIONS / HTTP/1.1\r\nHost: localhost\r\n\r\n", "200 Primary"),
    ("OPTIONS 1.0, HAProxy's default", b"OPTIONS / HTTP/1.0\r\n\r\n", "200 Primary"),
    ("OPTIONS * 1.1", b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", "200 Primary"),
    ("OPTIONS * 1.0", b"OPTIONS * HTTP/1.0\r\n\r\n", "200 Primary"),
    ("GET of a path that does not hold", b"GET /replica HTTP/1.1\r\n\r\n", "503 not-in-recovery"),
    ("HEAD of a path that does not hold", b"HEAD /replica HTTP/1.1\r\n\r\n", "503 not-in-recovery"),
    ("OPTIONS of a path that does not hold", b"OPTIONS /replica HTTP/1.0\r\n\r\n", "503 not-in-recovery"),
    ("HEAD of an unknown path", b"HEAD /nothing HTTP/1.1\r\n\r\n", "404 Not Found"),
    ("HEAD with a query", b"HEAD /?a=b HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("HEAD with a body", b"HEAD / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", "200 Primary"),
    ("HEAD with a long body", b"HEAD / HTTP/1.1\r\nContent-Length: 1025\r\n\r\n", "413 Content Too Large"),
];

/// What odd but valid clients send.
pub const ODD: &[Case<'static>] = &[
    ("HAProxy's GET without Host", b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n", "200 Primary"),
    ("no header at all", b"GET /liveness HTTP/1.1\r\n\r\n", "200 Alive"),
    ("lower-case header names", b"GET / HTTP/1.1\r\nhost: a\r\nuser-agent: b\r\n\r\n", "200 Primary"),
    ("upper-case header names", b"GET / HTTP/1.1\r\nHOST: a\r\nUSER-AGENT: b\r\n\r\n", "200 Primary"),
    ("empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", "200 Primary"),
    ("no space after the colon", b"GET / HTTP/1.1\r\nHost:a\r\nAccept:*/*\r\n\r\n", "200 Primary"),
    ("spaces and tabs around a value", b"GET / HTTP/1.1\r\nHost: \t a b\t \r\n\r\n", "200 Primary"),
    ("all characters of a token", b"GET / HTTP/1.1\r\n!#$%&'*+-.^_`|~09azAZ: x\r\n\r\n", "200 Primary"),
    ("8-bit header value (RFC 9110, 5.5)", b"GET / HTTP/1.1\r\nX: \x80\xe9\xff\r\n\r\n", "200 Primary"),
    ("a slash at the end", b"GET /primary/ HTTP/1.1\r\n\r\n", "200 Primary"),
    ("a slash in front", b"GET //primary HTTP/1.1\r\n\r\n", "200 Primary"),
    ("slashes alone", b"OPTIONS //// HTTP/1.0\r\n\r\n", "200 Primary"),
    ("slashes in absolute-form", b"GET http://db1//replica// HTTP/1.1\r\n\r\n", "503 not-in-recovery"),
    ("absolute-form", b"GET http://db1:23267/primary HTTP/1.1\r\n\r\n", "200 Primary"),
    ("absolute-form, upper-case scheme", b"GET HTTP://db1/replica HTTP/1.1\r\n\r\n", "503 not-in-recovery"),
    ("absolute-form, IPv6", b"GET http://[::1]:80/liveness HTTP/1.0\r\n\r\n", "200 Alive"),
    ("absolute-form without a path", b"OPTIONS http://db1 HTTP/1.1\r\n\r\n", "200 Primary"),
    ("empty query", b"GET /? HTTP/1.1\r\n\r\n", "200 Primary"),
    ("empty query of a path", b"GET /primary? HTTP/1.1\r\n\r\n", "200 Primary"),
    ("bare LF", b"GET / HTTP/1.1\nHost: a\n\n", "200 Primary"),
    ("bare LF, HTTP/1.0", b"OPTIONS / HTTP/1.0\n\n", "200 Primary"),
    ("LF and CRLF mixed", b"GET / HTTP/1.1\nHost: a\r\n\n", "200 Primary"),
    ("CRLF and LF mixed", b"GET / HTTP/1.1\r\nHost: a\n\r\n", "200 Primary"),
    ("leading CRLF (RFC 9112, 2.2)", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "200 Primary"),
    ("leading LF", b"\nGET / HTTP/1.1\nHost: a\n\n", "200 Primary"),
    ("keep-alive asked for", b"GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n", "200 Primary"),
    ("keep-alive asked for in HTTP/1.0", b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "200 Primary"),
    ("Expect without a body", b"GET / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", "200 Primary"),
    ("Expect nobody knows", b"GET / HTTP/1.1\r\nExpect: a-miracle\r\n\r\n", "200 Primary"),
    (
        "Upgrade to HTTP/2",
        b"GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        "200 Primary",
    ),
    (
        "Upgrade to WebSocket",
        b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "200 Primary",
    ),
    ("TE is not Transfer-Encoding", b"GET / HTTP/1.1\r\nTE: trailers\r\n\r\n", "200 Primary"),
    ("Content-Length: 0", b"GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "200 Primary"),
];

/// What is not a request.
pub const MALFORMED: &[Case<'static>] = &[
    ("query", b"GET /?size=16MB HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("query without a value", b"GET /primary?x HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("query of a lone &", b"GET /replica?& HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("query of /liveness", b"GET /liveness?a=b HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("query in absolute-form", b"GET http://a/?b HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("folded header", b"GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n", "400 Bad Request"),
    ("header folded with a tab", b"GET / HTTP/1.1\r\nX: a\r\n\tb\r\n\r\n", "400 Bad Request"),
    ("space before the first header", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", "400 Bad Request"),
    ("header without a colon", b"GET / HTTP/1.1\r\nHost\r\n\r\n", "400 Bad Request"),
    ("space before the colon", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400 Bad Request"),
    ("header without a name", b"GET / HTTP/1.1\r\n: a\r\n\r\n", "400 Bad Request"),
    ("space in a header's name", b"GET / HTTP/1.1\r\nX Y: a\r\n\r\n", "400 Bad Request"),
    ("8-bit header name", b"GET / HTTP/1.1\r\nX\xe9: a\r\n\r\n", "400 Bad Request"),
    ("NUL in a header", b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n", "400 Bad Request"),
    ("NUL in the target", b"GET /\0 HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("NUL in the method", b"GE\0T / HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("nothing but NULs", b"\0\0\0\0\r\n\r\n", "400 Bad Request"),
    ("control byte in a header", b"GET / HTTP/1.1\r\nX: \x1b[31m\r\n\r\n", "400 Bad Request"),
    ("DEL in a header", b"GET / HTTP/1.1\r\nX: \x7f\r\n\r\n", "400 Bad Request"),
    ("bare CR in a header", b"GET / HTTP/1.1\r\nX: a\rb\r\n\r\n", "400 Bad Request"),
    ("bare CR in the request line", b"GET /\r HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("8-bit target", b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("8-bit method", b"G\xc9T / HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("method that is no token", b"G@T / HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("no method", b" / HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("no target", b"GET HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("empty target", b"GET  HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("two targets", b"GET / /primary HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("two spaces", b"GET  / HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("tab instead of a space", b"GET\t/\tHTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("space after the version", b"GET / HTTP/1.1 \r\n\r\n", "400 Bad Request"),
    ("HTTP/0.9", b"GET /\r\n\r\n", "400 Bad Request"),
    ("HTTP/0.9, named", b"GET / HTTP/0.9\r\n\r\n", "400 Bad Request"),
    ("HTTP/1.2", b"GET / HTTP/1.2\r\n\r\n", "400 Bad Request"),
    ("HTTP/1.10", b"GET / HTTP/1.10\r\n\r\n", "400 Bad Request"),
    ("HTTP/1", b"GET / HTTP/1\r\n\r\n", "400 Bad Request"),
    ("HTTP/2.0", b"GET / HTTP/2.0\r\n\r\n", "400 Bad Request"),
    ("HTTP/3", b"GET / HTTP/3\r\n\r\n", "400 Bad Request"),
    ("lower-case version", b"GET / http/1.1\r\n\r\n", "400 Bad Request"),
    ("another protocol", b"OPTIONS / RTSP/1.0\r\n\r\n", "400 Bad Request"),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "400 Bad Request"),
    ("one word", b"hello\r\n\r\n", "400 Bad Request"),
    ("Content-Length: -1", b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400 Bad Request"),
    ("Content-Length: +5", b"GET / HTTP/1.1\r\nContent-Length: +5\r\n\r\n", "400 Bad Request"),
    ("Content-Length: 0x5", b"GET / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\n", "400 Bad Request"),
    ("Content-Length: 5 5", b"GET / HTTP/1.1\r\nContent-Length: 5 5\r\n\r\n", "400 Bad Request"),
    ("Content-Length: abc", b"GET / HTTP/1.1\r\nContent-Length: abc\r\n\r\n", "400 Bad Request"),
    ("Content-Length without a number", b"GET / HTTP/1.1\r\nContent-Length:\r\n\r\n", "400 Bad Request"),
    ("no path", b"GET ?lag=16MB HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("a URL without a host", b"GET http:///primary HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("a URL that is all host and query", b"GET http://node1?lag=no HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("HEAD with a control character", b"HEAD / HTTP/1.1\r\nA: \x01\r\n\r\n", "400 Bad Request"),
];

/// Short bodies as HAProxy's `http-check send` adds them: read, and thrown away.
pub const SHORT_BODIES: &[Case<'static>] = &[
    ("5 bytes", b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "200 Primary"),
    ("5 bytes, HTTP/1.0", b"GET / HTTP/1.0\r\ncontent-length: 5\r\n\r\nhello", "200 Primary"),
    ("of OPTIONS", b"OPTIONS / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "200 Primary"),
    (
        "of a path that does not hold",
        b"OPTIONS /replica HTTP/1.0\r\nContent-Length: 1\r\n\r\n\0",
        "503 not-in-recovery",
    ),
    ("of an unknown path", b"GET /nothing HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", "404 Not Found"),
    ("leading zeros", b"GET / HTTP/1.1\r\nContent-Length: 0005\r\n\r\nhello", "200 Primary"),
    ("bare LF", b"GET / HTTP/1.1\nContent-Length: 2\n\n\n\n", "200 Primary"),
    ("a request is a body", b"GET / HTTP/1.1\r\nContent-Length: 16\r\n\r\nGET / HTTP/1.1\r\n", "200 Primary"),
    (
        "a request after the body",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\nxGET /replica HTTP/1.1\r\n\r\n",
        "200 Primary",
    ),
];

/// What announces a body that is not read.
pub const BODIES: &[Case<'static>] = &[
    ("1025 bytes", b"GET / HTTP/1.1\r\nContent-Length: 1025\r\n\r\n", "413 Content Too Large"),
    ("1025 bytes of OPTIONS", b"OPTIONS / HTTP/1.0\r\nContent-Length: 1025\r\n\r\n", "413 Content Too Large"),
    ("1 TB", b"GET / HTTP/1.1\r\nContent-Length: 1000000000000\r\n\r\n", "413 Content Too Large"),
    ("2^64", b"GET / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n", "413 Content Too Large"),
    (
        "more than 64 bits",
        b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "413 Content Too Large",
    ),
    (
        "chunked, sent",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "413 Content Too Large",
    ),
    ("chunked, not sent", b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "413 Content Too Large"),
    ("gzip, chunked", b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "413 Content Too Large"),
    ("another coding", b"GET / HTTP/1.1\r\nTransfer-Encoding: cow\r\n\r\n", "413 Content Too Large"),
    (
        "both kinds of length",
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "413 Content Too Large",
    ),
    (
        "both kinds, the other way round",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
        "413 Content Too Large",
    ),
    (
        "the same length twice",
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "413 Content Too Large",
    ),
    (
        "Expect: 100-continue gets no interim reply",
        b"GET / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        "413 Content Too Large",
    ),
    ("POST with a body", b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "413 Content Too Large"),
    (
        "PUT, chunked",
        b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "413 Content Too Large",
    ),
];

/// The PROXY protocol ahead of a request, in both versions. The address in it is believed by nobody.
pub const PROXIED: &[Case<'static>] = &[
    ("IPv4", b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET / HTTP/1.1\r\n\r\n", "200 Primary"),
    ("IPv6", b"PROXY TCP6 2001:db8::1 ::1 56324 443\r\nOPTIONS / HTTP/1.0\r\n\r\n", "200 Primary"),
    ("unknown", b"PROXY UNKNOWN\r\nGET /replica HTTP/1.1\r\n\r\n", "503 not-in-recovery"),
    ("a body behind it", b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab", "200 Primary"),
    ("empty lines behind it", b"PROXY UNKNOWN\r\n\r\nGET / HTTP/1.1\r\n\r\n", "200 Primary"),
    ("version 2, local", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET / HTTP/1.1\r\n\r\n", "200 Primary"),
    (
        "version 2, IPv4",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\xdc\x04\x01\xbbGET / HTTP/1.1\r\n\r\n",
        "200 Primary",
    ),
    (
        "version 2 with more than addresses",
        b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\x05\x04\0\x02\r\nGET /replica HTTP/1.1\r\n\r\n",
        "503 not-in-recovery",
    ),
    ("malformed", b"PROXY TCP4 192.0.2.1 1 2\r\nGET / HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("without a carriage return", b"PROXY UNKNOWN\nGET / HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("in lower case", b"proxy UNKNOWN\r\nGET / HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("two of them", b"PROXY UNKNOWN\r\nPROXY UNKNOWN\r\nGET / HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("an empty line ahead of it", b"\r\nPROXY UNKNOWN\r\nGET / HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("a method", b"PROXY / HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("nothing like a request behind it", b"PROXY UNKNOWN\r\nhello\r\n\r\n", "400 Bad Request"),
    ("another method behind it", b"PROXY UNKNOWN\r\nPOST / HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
    ("version 3", b"\r\n\r\n\0\r\nQUIT\n\x30\0\0\0GET / HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("version 2 of 64 KiB", b"\r\n\r\n\0\r\nQUIT\n\x20\0\xff\xff", "400 Bad Request"),
    ("version 2 without room", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x02abGET / HTTP/1.1\r\n\r\n", "400 Bad Request"),
    ("nearly version 2", b"\r\n\r\n\0\r\nQUIET\n\x20\0\0\0GET / HTTP/1.1\r\n\r\n", "400 Bad Request"),
];

/// Paths that are nearly one of ours.
pub const UNKNOWN: &[Case<'static>] = &[
    ("unknown", b"GET /nothing HTTP/1.1\r\n\r\n", "404 Not Found"),
    ("unknown, OPTIONS 1.0", b"OPTIONS /nothing HTTP/1.0\r\n\r\n", "404 Not Found"),
    ("upper case", b"GET /Primary HTTP/1.1\r\n\r\n", "404 Not Found"),
    ("a path behind a path", b"GET /primary/x HTTP/1.1\r\n\r\n", "404 Not Found"),
    ("no slash", b"GET primary HTTP/1.1\r\n\r\n", "404 Not Found"),
    ("percent-encoded", b"GET /%70rimary HTTP/1.1\r\n\r\n", "404 Not Found"),
    ("dot segments", b"GET /replica/../primary HTTP/1.1\r\n\r\n", "404 Not Found"),
    ("prefix of a path", b"GET /prim HTTP/1.1\r\n\r\n", "404 Not Found"),
    ("parameters of another style", b"GET /primary;a=b HTTP/1.1\r\n\r\n", "404 Not Found"),
    ("unknown in absolute-form", b"GET http://a/nothing HTTP/1.1\r\n\r\n", "404 Not Found"),
    ("a letter too few", b"GET /metric HTTP/1.1\r\n\r\n", "404 Not Found"),
];

/// Methods that are not answered.
pub const OTHER_METHODS: &[Case<'static>] = &[
    ("POST", b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", "405 Method Not Allowed"),
    ("POST, empty body", b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "405 Method Not Allowed"),
    ("POST, HTTP/1.0", b"POST /primary HTTP/1.0\r\n\r\n", "405 Method Not Allowed"),
    ("PUT", b"PUT /primary HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
    ("DELETE", b"DELETE /primary HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
    ("PATCH", b"PATCH /replica HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
    ("TRACE", b"TRACE / HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
    ("unknown", b"BREW / HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
    ("methods are case-sensitive", b"get / HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
];

/// Heads about as long as they may be.
pub fn sizes() -> Vec<Case<'static>> {
    let many_headers = [b"GET / HTTP/1.1\r\n".as_slice(), &b"a:\r\n".repeat(2000), b"\r\n"].concat();
    let long_header = [b"GET / HTTP/1.1\r\nCookie: ".as_slice(), &[b'c'; 8000], b"\r\n\r\n"].concat();
    let long_target = [b"GET /".as_slice(), &[b'a'; 2 * MAX_HEAD_BYTES], b" HTTP/1.1\r\n\r\n"].concat();
    let too_long = "431 Request Header Fields Too Large";
    [
        ("two thousand headers", many_headers, "200 Primary"),
        ("one long header", long_header, "200 Primary"),
        ("8191 bytes", head_of(MAX_HEAD_BYTES - 1, "\r\n"), "200 Primary"),
        ("8192 bytes", head_of(MAX_HEAD_BYTES, "\r\n"), "200 Primary"),
        ("8192 bytes with bare LF", head_of(MAX_HEAD_BYTES, "\n"), "200 Primary"),
        ("8193 bytes", head_of(MAX_HEAD_BYTES + 1, "\r\n"), too_long),
        ("8193 bytes with bare LF", head_of(MAX_HEAD_BYTES + 1, "\n"), too_long),
        ("8192 bytes and a header", [PROXY_LINE, &head_of(MAX_HEAD_BYTES, "\r\n")].concat(), "200 Primary"),
        ("8193 bytes and a header", [PROXY_LINE, &head_of(MAX_HEAD_BYTES + 1, "\r\n")].concat(), too_long),
        ("the longest body", body_of(1024), "200 Primary"),
        ("a longer body", body_of(1025), "413 Content Too Large"),
        ("64 KiB", head_of(8 * MAX_HEAD_BYTES, "\r\n"), too_long),
        ("no line end in sight", vec![b'x'; MAX_HEAD_BYTES + 1], too_long),
        ("16 KiB of target", long_target, too_long),
    ]
    // A few hundred KiB at most, for the life of the test: so that all cases have one type.
    .map(|(name, request, status)| (name, &*request.leak(), status))
    .to_vec()
}

/// Ahead of a request.
pub const PROXY_LINE: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";

/// A request with a body of so many bytes.
fn body_of(length: usize) -> Vec<u8> {
    let head = format!("OPTIONS / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
    [head.into_bytes(), vec![b'x'; length]].concat()
}

/// All of it.
pub fn all() -> Vec<Case<'static>> {
    [METHODS, ODD, MALFORMED, SHORT_BODIES, BODIES, PROXIED, UNKNOWN, OTHER_METHODS, &sizes()].concat()
}

/// A head of exactly `length` bytes.
pub fn head_of(length: usize, line_end: &str) -> Vec<u8> {
    let front = format!("GET / HTTP/1.1{line_end}X: ");
    let back = format!("{line_end}{line_end}");
    [front.as_bytes(), &vec![b'x'; length - front.len() - back.len()], back.as_bytes()].concat()
}
