//! The bytes on the wire: what is answered, what is refused and with which code, and how a connection ends.
//! A reply is compared whole, from the `H` of the status line to the end of the connection.

mod support;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use support::table::{self, Case, MAX_HEAD_BYTES, flaw, head_of};
use support::wire::{End, PATIENCE, Received, Wire, reply, talk};
use support::{Agent, Cluster, secs};

/// An agent beside a primary, shared by the tests that run at the same time; a test keeps its `Arc` to the end.
struct Site {
    // Declared first: the agent goes before its server does.
    agent: Agent,
    _primary: Cluster,
}

fn site() -> Arc<Site> {
    static SHARED: Mutex<Weak<Site>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(site) = shared.upgrade() {
        return site;
    }
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    let site = Arc::new(Site { agent, _primary: primary });
    *shared = Arc::downgrade(&site);
    site
}

/// Sends every request over a connection of its own and names those that got another reply.
fn assert_replies(cases: &[Case<'_>]) {
    let site = site();
    let flaws: Vec<String> = cases
        .iter()
        .filter_map(|(name, request, status)| {
            let received = talk(site.agent.addr(), request);
            flaw(status, request, &received).map(|flaw| format!("{name}: {flaw}"))
        })
        // Enough to see what is wrong, even where each one is a silence of ten seconds.
        .take(5)
        .collect();
    assert!(flaws.is_empty(), "wrong:\n{}", flaws.join("\n"));
}

fn assert_reply(name: &str, status: &str, request: &[u8], received: &Received) {
    if let Some(flaw) = flaw(status, request, received) {
        panic!("{name}: {flaw}");
    }
}

#[test]
fn the_reply_of_a_primary_is_fixed_to_the_byte() {
    let received = talk(site().agent.addr(), "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(
        received.text(),
        "HTTP/1.1 200 Primary\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: 8\r\n\
         Cache-Control: no-store\r\n\
         Connection: close\r\n\
         \r\n\
         Primary\n"
    );
    assert_eq!(received.end, End::Fin);
}

#[test]
fn get_head_and_options_behave_alike_in_both_versions_of_http() {
    assert_replies(table::METHODS);
}

#[test]
fn whatever_an_odd_but_valid_client_sends_is_answered() {
    assert_replies(table::ODD);
}

#[test]
fn what_is_not_a_request_is_refused_with_400() {
    assert_replies(table::MALFORMED);
}

#[test]
fn an_announced_body_is_refused_with_413_and_never_read() {
    assert_replies(table::BODIES);
}

/// Whether two lengths that contradict each other are malformed or a body is a matter of taste; that they
/// are refused is not: they are how requests are smuggled.
#[test]
fn contradictory_lengths_are_never_answered_as_if_there_were_no_body() {
    let site = site();
    for request in [
        "GET / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 0\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 0, 5\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: x\r\n\r\n",
    ] {
        let received = talk(site.agent.addr(), request);
        let flaws = ["400 Bad Request", "413 Content Too Large"]
            .map(|status| flaw(status, request.as_bytes(), &received));
        assert!(flaws.iter().any(Option::is_none), "{request:?}: {flaws:#?}");
    }
}

#[test]
fn paths_match_exactly_and_every_other_one_is_404() {
    assert_replies(table::UNKNOWN);
}

#[test]
fn other_methods_get_405_and_learn_which_are_allowed() {
    assert_replies(table::OTHER_METHODS);
}

#[test]
fn a_head_of_8192_bytes_is_answered_and_one_byte_more_is_431() {
    assert_eq!(head_of(MAX_HEAD_BYTES, "\r\n").len(), MAX_HEAD_BYTES);
    assert_replies(&table::sizes());
}

#[test]
fn the_limit_of_a_head_counts_its_bytes_however_they_arrive() {
    let site = site();
    for (length, status) in
        [(MAX_HEAD_BYTES, "200 Primary"), (MAX_HEAD_BYTES + 1, "431 Request Header Fields Too Large")]
    {
        let request = head_of(length, "\r\n");
        let mut wire = Wire::connect(site.agent.addr());
        for part in request.chunks(1000) {
            wire.send(part);
            wire.wait_consumed();
        }
        assert_reply(&format!("{length} bytes in pieces"), status, &request, &wire.receive(PATIENCE));
    }
}

/// A TLS client says so with bytes that no HTTP request has: it learns at once that this is not TLS, instead
/// of waiting for the rest of a head that never comes.
#[test]
fn a_tls_client_is_refused() {
    let mut hello = vec![0x16, 0x03, 0x01, 0x00, 0xc8, 0x01, 0x00, 0x00, 0xc4, 0x03, 0x03];
    hello.extend((0..194).map(|byte: u8| byte.wrapping_mul(37) | 0x80));
    let received = talk(site().agent.addr(), &hello);
    assert_reply("TLS hello", "400 Bad Request", &hello, &received);
    assert!(received.elapsed < secs(2), "answered after {:?}", received.elapsed);
}

const SMALL: &[u8] = b"OPTIONS / HTTP/1.0\r\nHost: a\r\n\r\n";

#[test]
fn a_head_that_arrives_byte_by_byte_is_answered() {
    let site = site();
    let mut wire = Wire::connect(site.agent.addr());
    for byte in SMALL.chunks(1) {
        wire.send(byte);
        wire.wait_consumed();
    }
    assert_reply("byte by byte", "200 Primary", SMALL, &wire.receive(PATIENCE));
}

#[test]
fn a_head_split_anywhere_is_answered() {
    let site = site();
    for position in 1..SMALL.len() {
        let mut wire = Wire::connect(site.agent.addr());
        let (front, back) = SMALL.split_at(position);
        wire.send(front);
        wire.wait_consumed();
        wire.send(back);
        assert_reply(&format!("split at {position}"), "200 Primary", SMALL, &wire.receive(PATIENCE));
    }
}

#[test]
fn only_the_first_of_several_pipelined_requests_is_answered() {
    let first = "GET /replica HTTP/1.1\r\nHost: a\r\n\r\n";
    for more in ["GET /liveness HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\n\r\n", "G", "\r\n", "\0"] {
        let request = format!("{first}{more}");
        let received = talk(site().agent.addr(), &request);
        assert_reply(&format!("followed by {more:?}"), "503 not-in-recovery", first.as_bytes(), &received);
    }
}

/// Closing a socket with unread bytes makes the kernel send a RST, which takes the reply from a client that
/// has not read it yet.
#[test]
fn the_reply_is_readable_although_the_client_sent_more_than_its_head() {
    let site = site();
    let junk = vec![b'j'; 64 * 1024];
    for (head, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "200 Primary"),
        ("GET / HTTP/1.1\r\nContent-Length: 1000000000000\r\n\r\n", "413 Content Too Large"),
        ("POST / HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        ("GET /nothing HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("GET / HTTP/5.0\r\n\r\n", "400 Bad Request"),
    ] {
        for extra in [1, 1000, junk.len()] {
            let mut wire = Wire::connect(site.agent.addr());
            wire.send([head.as_bytes(), &junk[..extra]].concat());
            assert!(wire.wait_readable(PATIENCE), "{head:?} and {extra} bytes: silence");
            // What is sent to a closed socket is answered with a RST as well.
            wire.send(&junk[..extra]);
            let received = wire.receive(PATIENCE);
            assert_reply(&format!("{head:?} and {extra} bytes"), status, head.as_bytes(), &received);
        }
    }
}

#[test]
fn a_client_that_closes_its_sending_side_after_the_request_gets_its_reply() {
    let site = site();
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "200 Primary"),
        ("OPTIONS / HTTP/1.0\r\n\r\n", "200 Primary"),
        ("GET /nothing HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", "413 Content Too Large"),
    ] {
        let mut wire = Wire::connect(site.agent.addr());
        wire.send(request);
        wire.half_close();
        assert_reply(request, status, request.as_bytes(), &wire.receive(PATIENCE));
    }
}

/// A monitoring system that only tests whether the port is open.
#[test]
fn a_client_that_sends_nothing_and_leaves_gets_nothing() {
    let site = site();
    let mut wire = Wire::connect(site.agent.addr());
    wire.half_close();
    let received = wire.receive(PATIENCE);
    assert_eq!((received.text().as_str(), received.end), ("", End::Fin));
    assert!(received.elapsed < secs(1), "closed after {:?}", received.elapsed);
}

#[test]
fn half_a_head_and_the_end_of_the_connection_is_400_or_nothing_but_at_once() {
    let site = site();
    for request in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost"] {
        let mut wire = Wire::connect(site.agent.addr());
        wire.send(request);
        wire.half_close();
        let received = wire.receive(PATIENCE);
        assert!(received.elapsed < secs(1), "{request:?}: closed after {:?}", received.elapsed);
        if !(received.bytes.is_empty() && received.end == End::Fin) {
            assert_reply(request, "400 Bad Request", request.as_bytes(), &received);
        }
    }
}

#[test]
fn clients_at_the_same_time_get_each_their_own_reply() {
    let site = site();
    let questions: [Case<'_>; 4] = [
        ("/", b"GET / HTTP/1.1\r\n\r\n", "200 Primary"),
        ("/replica", b"GET /replica HTTP/1.1\r\n\r\n", "503 not-in-recovery"),
        ("/liveness", b"GET /liveness HTTP/1.1\r\n\r\n", "200 Alive"),
        ("HEAD", b"HEAD / HTTP/1.1\r\n\r\n", "200 Primary"),
    ];
    thread::scope(|scope| {
        for (name, request, status) in questions {
            let agent = &site.agent;
            scope.spawn(move || {
                for _ in 0..100 {
                    assert_reply(name, status, request, &talk(agent.addr(), request));
                }
            });
        }
    });
}

#[test]
fn no_request_good_or_bad_leaves_a_line_in_the_log() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET /nothing HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        "GET / HTTP/1.1\r\nX: \x1b[31m\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\0\r\n\r\n",
    ] {
        talk(agent.addr(), request);
    }
    Wire::connect(agent.addr()).reset();
    // The reply to this check came after all of them were dealt with.
    assert_eq!(talk(agent.addr(), SMALL).text(), reply("200 Primary", "Primary\n"));
    let log = agent.log();
    let lines: Vec<&str> =
        log.lines().map(|line| line.split_once("] ").map_or(line, |(_, said)| said)).collect();
    assert_eq!(lines, [format!("listening on {}", agent.addr()).as_str(), "unknown -> primary"], "{log}");
}
