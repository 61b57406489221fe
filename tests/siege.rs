//! What the outside world throws at a port: tools made to bring web servers down, floods, scanners, other protocols,
//! smugglers, greedy readers. As in `hostile.rs`, whatever they do, HAProxy's checks beside them go on, its server is
//! never down, and what the agent holds stays within its bounds.

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::secs;
use support::siege::{BALANCER, BYSTANDER, Siege};
use support::wire::{End, PATIENCE, Wire};

/// The attacker's number of connections.
const CROWD: usize = 2000;

/// What a flood sends at most.
const FLOOD: usize = 8 << 20;

/// How long a flooding client waits for the agent to take more.
const STALL: Duration = secs(1);

/// slowhttptest in one of its modes, long enough for every deadline of the agent to pass.
fn slowhttptest(siege: &Siege, mode: &[&str], path: &str) {
    let url = format!("http://{}{path}", siege.agent.addr());
    let crowd = CROWD.to_string();
    let mut command = Command::new("prlimit");
    command.args(["--nofile=8192:8192", "slowhttptest", "-c", &crowd, "-r", &crowd, "-l", "8", "-p", "3"]);
    command.args(mode).args(["-u", &url]).stdin(Stdio::null());
    let output = command.output().expect("slowhttptest: run make test once");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // Where it could not even begin, nothing was tested.
    assert!(text.contains("slow HTTP test status on"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    siege.wait_for_checks(10);
}

#[test]
fn slow_heads_of_two_thousand_clients() {
    let siege = Siege::begin(&[]);
    slowhttptest(&siege, &["-H", "-i", "1"], "/");
    assert!(siege.metric("pgsqlchk_refused_connections_total{reason=\"gave-way\"}") >= 1000);
    siege.end();
}

#[test]
fn slow_bodies_of_two_thousand_clients() {
    let siege = Siege::begin(&[]);
    slowhttptest(&siege, &["-B", "-i", "1", "-s", "8192"], "/");
    assert!(siege.metric("pgsqlchk_requests_total{path=\"other\",code=\"413\"}") >= 1000);
    siege.end();
}

#[test]
fn slow_readers_of_two_thousand_clients() {
    let siege = Siege::begin(&[]);
    // A window of a few bytes, and one of them a second.
    let mode = ["-X", "-w", "1", "-y", "2", "-n", "1", "-z", "1", "-k", "3"];
    slowhttptest(&siege, &mode, "/metrics");
    assert!(siege.metric("pgsqlchk_requests_total{path=\"/metrics\",code=\"200\"}") >= 500);
    siege.end();
}

#[test]
fn a_flood_of_connections_that_say_nothing() {
    let siege = Siege::begin(&[]);
    let agent = siege.agent.addr();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    // Held together, left together.
                    let held: Vec<Wire> =
                        (0..CROWD / 4).filter_map(|_| Wire::try_connect(agent).ok()).collect();
                    drop(held);
                }
            });
        }
    });
    assert!(siege.metric("pgsqlchk_refused_connections_total{reason=\"gave-way\"}") >= 100);
    siege.end();
}

/// Each is refused without a byte, and counted.
#[test]
fn a_flood_of_connections_from_addresses_that_are_not_allowed() {
    let [balancer, bystander] = [BALANCER, BYSTANDER].map(|address| address.to_string());
    let siege = Siege::begin(&["--allow", "127.0.0.1", "--allow", &balancer, "--allow", &bystander]);
    let agent = siege.agent.addr();
    let before = siege.metric("pgsqlchk_refused_connections_total{reason=\"not-allowed\"}");
    thread::scope(|scope| {
        for last in 2..6 {
            scope.spawn(move || {
                for _ in 0..CROWD / 4 {
                    let mut wire = Wire::connect_from(Ipv4Addr::new(127, 0, 0, last), agent);
                    let _ = wire.try_send("GET / HTTP/1.1\r\n\r\n");
                    let received = wire.receive(PATIENCE);
                    assert!(received.bytes.is_empty() && received.end != End::Open, "{received:?}");
                }
            });
        }
    });
    let refused = siege.metric("pgsqlchk_refused_connections_total{reason=\"not-allowed\"}") - before;
    assert_eq!(refused, CROWD as u64);
    siege.end();
}

#[test]
fn a_million_headers() {
    let siege = Siege::begin(&[]);
    let headers = b"A:\r\n".repeat(1_000_000);
    thread::scope(|scope| {
        for _ in 0..8 {
            let mut reading = siege.connect();
            let mut writing = reading.second_handle();
            let headers = &headers;
            scope.spawn(move || {
                let _ = writing.try_send("GET / HTTP/1.1\r\n");
                writing.flood(headers, headers.len(), STALL);
            });
            scope.spawn(move || {
                let text = reading.receive(PATIENCE).text();
                assert!(text.starts_with("HTTP/1.1 431 "), "{text:?}");
            });
        }
    });
    siege.end();
}

/// Bytes of all kinds of programs that are not HTTP clients, and those of scanners that want to know what this is.
const STRANGERS: &[&[u8]] = &[
    b"",
    b"\0",
    b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    b"\r\n\r\n",
    b"GET /\0 HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: \0\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
    b"\x80\x81\x82\x83 \xff HTTP/1.1\r\n\r\n",
    // TLS 1.0 and 1.3 hellos, SSLv2.
    b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
    b"\x16\x03\x03\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10",
    // HTTP/2, HTTP/0.9, WebSocket without a head's end, a proxy's protocol in both versions.
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    b"GET /\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x00\x01\x00\x02",
    // PostgreSQL: SSLRequest, GSSENCRequest, a start-up packet.
    b"\0\0\0\x08\x04\xd2\x16\x2f",
    b"\0\0\0\x08\x04\xd2\x16\x30",
    b"\0\0\0\x16\0\x03\0\0user\0postgres\0\0",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0",
    b"\0\0\0\xa4\xffSMBr\0\0\0\0\x08\x01\x40",
    b"*1\r\n$4\r\nPING\r\n",
    b"HELP\r\n",
    b"OPTIONS sip:nm SIP/2.0\r\nVia: SIP/2.0/TCP nm\r\n\r\n",
    b"OPTIONS / RTSP/1.0\r\n\r\n",
    b"CONNECT example.com:443 HTTP/1.1\r\n\r\n",
    b"GET http://example.com/ HTTP/1.1\r\n\r\n",
    b"${jndi:ldap://example.com/a}\r\n\r\n",
];

#[test]
fn scanners_and_strangers() {
    let siege = Siege::begin(&[]);
    let ports = [siege.agent.addr(), siege.agent.agent_check_addr()];
    thread::scope(|scope| {
        for round in 0..8 {
            scope.spawn(move || {
                for port in ports {
                    STRANGERS.iter().for_each(|bytes| visit(port, bytes, round));
                }
            });
        }
    });
    siege.end();
}

/// Some wait for what comes, some leave, politely or not.
fn visit(port: SocketAddr, bytes: &[u8], round: usize) {
    let mut wire = Wire::connect(port);
    let _ = wire.try_send(bytes);
    match round % 4 {
        0 => wire.reset(),
        1 => drop(wire),
        _ => {
            if round % 4 == 2 {
                wire.half_close();
            }
            let received = wire.receive(PATIENCE);
            let text = received.text();
            assert_ne!(received.end, End::Open, "{} got {text:?}", bytes.escape_ascii());
            // `http://example.com/` is a proxy's way to ask for `/`, and so is what stands behind a PROXY line.
            let is_proxy = bytes.starts_with(b"GET http://") || bytes.starts_with(b"PROXY ");
            let is_fine = text.is_empty()
                || text.starts_with("HTTP/1.1 4")
                || text.starts_with("down #bad-request\n")
                // Nothing, and an empty line, mean /health to the agent-check.
                || text.starts_with("up ")
                || is_proxy && text.starts_with("HTTP/1.1 200 ");
            assert!(is_fine, "{} got {text:?}", bytes.escape_ascii());
        }
    }
}

/// These two are plain, and GET and HEAD may have such a body: the request is answered, the rest of it is not.
const A_BODY_THAT_IS_ALL_BUT_A_FEW_BYTES: &str = "Content-Length: 30\r\n";
const A_BODY_BEFORE_A_REQUEST: &str = "Content-Length: 5\r\n";

/// Heads about whose end two readers could disagree, each with a second request where a body might be.
const SMUGGLERS: &[&str] = &[
    "Content-Length: 30\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding:\x0bchunked\r\n",
    "Transfer-Encoding:\tchunked\r\n",
    "X: y\r\n Transfer-Encoding: chunked\r\n",
    "X: y\rTransfer-Encoding: chunked\r\n",
    "Content-Length: 0\r\nContent-Length: 30\r\n",
    "Content-Length: 30\r\nContent-Length: 30\r\n",
    "Content-Length: 0, 30\r\n",
    "Content-Length: +30\r\n",
    "Content-Length: 0x1e\r\n",
    "Content-Length: 3 0\r\n",
    "Content-Length: -1\r\n",
    "Content-Length: 18446744073709551616\r\n",
    A_BODY_THAT_IS_ALL_BUT_A_FEW_BYTES,
    A_BODY_BEFORE_A_REQUEST,
    "Content-Length : 30\r\n",
    " Content-Length: 30\r\n",
    "\tContent-Length: 30\r\n",
];

/// What the second requests ask for, and nobody else: HAProxy's agent-check is about `/primary`.
const SMUGGLED: &str = "pgsqlchk_requests_total{path=\"/read-write\"";

#[test]
fn a_smuggled_request_is_never_answered() {
    let siege = Siege::begin(&[]);
    let agent = siege.agent.addr();
    let before = siege.metric(SMUGGLED);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || {
                for (method, smuggler) in ["GET", "POST", "HEAD"]
                    .iter()
                    .flat_map(|method| SMUGGLERS.iter().map(move |s| (method, s)))
                {
                    let mut wire = Wire::connect(agent);
                    let inner = "GET /read-write HTTP/1.1\r\n\r\n";
                    let _ = wire.try_send(format!("{method} / HTTP/1.1\r\n{smuggler}\r\n0\r\n\r\n{inner}"));
                    let received = wire.receive(PATIENCE);
                    let text = received.text();
                    let replies = text.matches("HTTP/1.1 ").count();
                    assert_eq!((replies, received.end), (1, End::Fin), "{smuggler:?} got {text:?}");
                    let has_body =
                        [A_BODY_THAT_IS_ALL_BUT_A_FEW_BYTES, A_BODY_BEFORE_A_REQUEST].contains(smuggler);
                    let codes: &[&str] = match has_body && *method != "POST" {
                        true => &["200"],
                        false => &["400", "413"],
                    };
                    let is_expected = codes.iter().any(|code| text.starts_with(&format!("HTTP/1.1 {code} ")));
                    assert!(is_expected, "{method} {smuggler:?} got {text:?}");
                }
            });
        }
    });
    assert_eq!(siege.metric(SMUGGLED), before, "none was taken up");
    siege.end();
}

#[test]
fn floods_of_lines_at_the_agent_check() {
    let siege = Siege::begin(&[]);
    let port = siege.agent.agent_check_addr();
    let endless = [b'x'; 65536];
    let lines = b"/primary\n".repeat(8192);
    let chunks: [&[u8]; 4] = [&endless, &lines, &[0; 65536], b"\n"];
    thread::scope(|scope| {
        for chunk in chunks.into_iter().flat_map(|chunk| [chunk; 8]) {
            let mut reading = Wire::connect(port);
            let mut writing = reading.second_handle();
            scope.spawn(move || writing.flood(chunk, FLOOD.min(chunk.len() * 1000), STALL));
            scope.spawn(move || {
                let received = reading.receive(PATIENCE);
                let text = received.text();
                assert_ne!(received.end, End::Open, "{text:?}");
                // One answer at most; who is still asking gives way to others.
                assert!(["", "down #bad-request\n", "up ready 100%\n"].contains(&text.as_str()), "{text:?}");
            });
        }
    });
    // A byte now and then, and never a whole line.
    let mut crowd: Vec<Wire> = (0..100).map(|_| Wire::connect(port)).collect();
    for _ in 0..20 {
        crowd.iter_mut().for_each(|wire| drop(wire.try_send("/")));
        siege.wait_for_checks(2);
    }
    drop(crowd);
    siege.end();
}

/// More at once than there are places, with nothing wrong about any of them.
#[test]
fn a_flood_of_good_requests() {
    let siege = Siege::begin(&[]);
    let agent = siege.agent.addr();
    let end = Instant::now() + secs(5);
    thread::scope(|scope| {
        for number in 0..4 {
            let request = ["OPTIONS / HTTP/1.0\r\n\r\n", "GET /metrics HTTP/1.1\r\n\r\n"][number % 2];
            scope.spawn(move || {
                while Instant::now() < end {
                    let mut crowd: Vec<Wire> =
                        (0..100).filter_map(|_| Wire::try_connect(agent).ok()).collect();
                    crowd.iter_mut().for_each(|wire| drop(wire.try_send(request)));
                    crowd.iter_mut().for_each(|wire| drop(wire.receive(PATIENCE)));
                }
            });
        }
    });
    siege.end();
}

/// The longest replies there are, to clients that take nothing of them.
#[test]
fn documents_that_are_asked_for_and_never_read() {
    let mut siege = Siege::begin(&[]);
    let asks = [
        "GET /status HTTP/1.1\r\nAccept: text/html\r\n\r\n",
        "GET /metrics HTTP/1.1\r\n\r\n",
        "GET /status HTTP/1.1\r\n\r\n",
    ];
    let mut crowd = Vec::new();
    for round in 0..600 {
        // One that is between two replies may be refused a place.
        let mut wire = siege.connect();
        wire.shrink_receive_buffer();
        let _ = wire.try_send(asks[round % asks.len()]);
        crowd.push(wire);
    }
    siege.wait_for_checks(50);
    siege.wait_for_footprint();
    drop(crowd);
    siege.finish();
}

#[test]
fn documents_asked_for_again_and_again_without_reading() {
    Siege::begin(&[]).withstand_pipelines(32, b"GET /metrics HTTP/1.1\r\n\r\n", FLOOD, STALL);
}

/// Documents asked for by as many as there is room for, in the same moment, again and again.
#[test]
fn crowds_that_ask_for_documents_at_once() {
    let siege = Siege::begin(&["--max-connections", "1000"]);
    for _ in 0..5 {
        let mut crowd = siege.crowd(400);
        for wire in &mut crowd {
            let _ = wire.try_send("GET /status HTTP/1.1\r\nAccept: text/html\r\n\r\n");
        }
        for wire in &mut crowd {
            let text = wire.receive(PATIENCE).text();
            assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("</html>\n"), "{text:?}");
        }
    }
    siege.wait_for_checks(10);
    siege.end();
}
