//! How a request may arrive and how a connection ends. Every reply is compared whole.

mod support;

use std::thread;

use support::contract::{Case, assert_reply, site};
use support::impostor::FullQueue;
use support::wire::{End, PATIENCE, Wire, reply, talk, talk_in_pieces};
use support::{Agent, Cluster, secs};

const SMALL: &[u8] = b"OPTIONS / HTTP/1.0\r\nHost: a\r\n\r\n";

#[test]
fn a_head_that_arrives_byte_by_byte_is_answered() {
    let request = b"GET / HTTP/1.0\n\n";
    let received = talk_in_pieces(site().agent.addr(), request, 1);
    assert_reply("byte by byte", "200 Primary", request, &received);
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

/// Be it in the same piece, while the answer is found, or after the reply. (Linux keeps what has arrived before a reset.)
#[test]
fn the_reply_is_readable_whenever_the_client_sends_more_than_its_request() {
    let (_hole, addr) = FullQueue::tcp();
    let dsn = format!("host=127.0.0.1 port={} user=postgres", addr.port());
    let agent = Agent::start(&["--dsn", &dsn, "--timeout", "500ms"]);
    for (at_once, later) in [("", ""), ("j", ""), ("", "j"), ("", "GET / HTTP/1.1\r\n\r\n")] {
        let mut wire = Wire::connect(agent.addr());
        wire.send([SMALL, at_once.as_bytes()].concat());
        wire.wait_consumed();
        wire.send(later);
        assert!(wire.wait_readable(PATIENCE), "{at_once:?} and {later:?}: silence");
        wire.send("more");
        let received = wire.receive(PATIENCE);
        let what = format!("{at_once:?} at once, {later:?} while it waited");
        assert_eq!(received.end, End::Fin, "{what}");
        assert!(received.text().starts_with("HTTP/1.1 503 "), "{what}: {}", received.text());
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
    let mut agent = Agent::start(&["--dsn", &primary.dsn()]);
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
    agent.terminate();
    let log = agent.log();
    let lines: Vec<&str> =
        log.lines().map(|line| line.split_once("] ").map_or(line, |(_, said)| said)).collect();
    let listening = format!("listening on {}", agent.addr());
    assert_eq!(lines, [&listening, "unknown -> primary", "stopping (SIGTERM)"], "{log}");
}
