//! Clients that are slow, greedy, broken or malicious. Whatever they do, the agent lives, a well-behaved check
//! beside them is answered in time, memory stays bounded, and nothing of them remains when they are gone.

mod support;

use std::thread;
use std::time::{Duration, Instant};

use support::siege::{CHECK, Siege};
use support::wire::{End, PATIENCE, Received, reply};
use support::{Frozen, millis, secs};

/// How long a head may take.
const HEAD_DEADLINE: Duration = secs(5);

/// More than any limit of the agent, little enough for a test: what a flood sends at most.
const FLOOD: usize = 32 << 20;

/// How long a flooding client waits for the agent to take more.
const STALL: Duration = secs(1);

/// The first line of a reply.
fn status_line(received: &Received) -> String {
    received.text().lines().next().unwrap_or_default().to_owned()
}

#[test]
fn five_hundred_idle_clients_do_not_disturb_a_check() {
    let siege = Siege::begin(&[]);
    let crowd = siege.crowd(500);
    siege.wait_for_checks(100);
    drop(crowd);
    siege.end();
}

/// With room for all of them, each holds its place until the time for its head is over; having sent nothing,
/// it gets nothing.
#[test]
fn an_idle_client_is_closed_without_a_byte_after_the_time_for_a_head() {
    let siege = Siege::begin(&["--max-connections", "1000"]);
    let begin = Instant::now();
    let mut crowd = siege.crowd(500);
    // They are accepted in the order they came.
    crowd.last().expect("a crowd").wait_accepted();
    siege.wait_for_checks(10);
    for wire in &mut crowd {
        let received = wire.receive(PATIENCE);
        assert_eq!((received.text().as_str(), received.end), ("", End::Fin));
        let held = begin.elapsed();
        assert!(held > HEAD_DEADLINE - millis(500), "closed after {held:?}");
        assert!(held < HEAD_DEADLINE + secs(3), "closed after {held:?}");
    }
    drop(crowd);
    siege.end();
}

#[test]
fn a_client_that_sends_a_byte_a_second_gets_408_after_five_seconds() {
    let siege = Siege::begin(&[]);
    let mut wire = siege.connect();
    let begin = Instant::now();
    for byte in b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".chunks(1) {
        wire.send(byte);
        if wire.wait_readable(secs(1)) {
            break;
        }
    }
    let answered = begin.elapsed();
    let received = wire.receive(PATIENCE);
    assert_eq!(received.end, End::Fin);
    let text = received.text();
    let (_, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    assert!(body.starts_with("Request Timeout: "), "{text:?}");
    assert_eq!(text, reply("408 Request Timeout", body));
    assert!((HEAD_DEADLINE - millis(500)..HEAD_DEADLINE + secs(1)).contains(&answered), "after {answered:?}");
    siege.end();
}

/// Announced and never sent, or not all of it; and what stands ahead of a request has no time of its own.
#[test]
fn a_body_or_a_proxy_header_that_does_not_come_to_an_end_gets_408_after_five_seconds() {
    let siege = Siege::begin(&[]);
    let requests: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
        b"OPTIONS / HTTP/1.1\r\nContent-Length: 1024\r\n\r\nhello",
        b"PROXY TCP4 192.0.2.1",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\x02\x08",
        b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n",
    ];
    let begin = Instant::now();
    let wires = requests.map(|request| {
        let mut wire = siege.connect();
        wire.send(request);
        wire
    });
    for (mut wire, request) in wires.into_iter().zip(requests) {
        let received = wire.receive(PATIENCE);
        let (text, shown) = (received.text(), request.escape_ascii());
        let (_, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        assert_eq!((&text, received.end), (&reply("408 Request Timeout", body), End::Fin), "{shown}");
        let answered = begin.elapsed();
        assert!((HEAD_DEADLINE - millis(500)..HEAD_DEADLINE + secs(2)).contains(&answered), "{answered:?}");
    }
    siege.end();
}

#[test]
fn who_leaves_in_the_middle_of_a_body_is_refused() {
    let siege = Siege::begin(&[]);
    let requests =
        ["GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhell", "PROXY UNKNOWN", "PROXY UNKNOWN\r\nGET"];
    for request in requests {
        let mut wire = siege.connect();
        wire.send(request);
        wire.half_close();
        let received = wire.receive(PATIENCE);
        assert_eq!((status_line(&received).as_str(), received.end), ("HTTP/1.1 400 Bad Request", End::Fin));
    }
    // With nothing behind it, nothing was asked.
    let mut wire = siege.connect();
    wire.send("PROXY UNKNOWN\r\n");
    wire.half_close();
    assert_eq!(wire.receive(PATIENCE).text(), "");
    siege.end();
}

#[test]
fn a_body_of_a_terabyte_is_refused_and_not_read() {
    flood_and_expect(
        &[(b"GET / HTTP/1.1\r\nContent-Length: 1000000000000\r\n\r\n", &[b'b'; 65536])],
        &["HTTP/1.1 413 Content Too Large"],
    );
}

#[test]
fn an_endless_chunked_body_is_refused_and_not_read() {
    let chunk = [b"8000\r\n".as_slice(), &[b'c'; 0x8000], b"\r\n"].concat();
    flood_and_expect(
        &[(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", &chunk)],
        &["HTTP/1.1 413 Content Too Large"],
    );
}

#[test]
fn an_endless_head_is_refused_and_not_kept() {
    let headers = b"X-Padding: padding padding padding padding padding padding\r\n".repeat(1000);
    flood_and_expect(
        &[
            (b"GET / HTTP/1.1\r\n", &headers),
            (b"GET / HTTP/1.1\r\nX: ", &[b'x'; 65536]),
            (b"GET /", &[b'a'; 65536]),
        ],
        &["HTTP/1.1 431 Request Header Fields Too Large"],
    );
}

#[test]
fn endless_empty_lines_are_refused_and_not_kept() {
    flood_and_expect(
        &[(b"\r\n", &b"\r\n".repeat(32768)), (b"\n", &[b'\n'; 65536])],
        &["HTTP/1.1 431 Request Header Fields Too Large", "HTTP/1.1 400 Bad Request"],
    );
}

/// Eight clients at once for each kind of flood: the front of it, then the rest again and again. Each has to be
/// able to read the refusal, and the connection has to end.
fn flood_and_expect(floods: &[(&[u8], &[u8])], refusals: &[&str]) {
    let siege = Siege::begin(&[]);
    thread::scope(|scope| {
        for (front, rest) in floods.iter().flat_map(|flood| [flood; 8]) {
            let mut reading = siege.connect();
            let mut writing = reading.second_handle();
            scope.spawn(move || {
                writing.send(front);
                writing.flood(rest, FLOOD, STALL);
            });
            scope.spawn(move || {
                let received = reading.receive(PATIENCE);
                assert_ne!(received.end, End::Open, "the connection ends");
                let line = status_line(&received);
                assert!(refusals.contains(&line.as_str()), "{:?}", received.text());
            });
        }
    });
    siege.end();
}

#[test]
fn a_client_that_pipelines_without_reading_costs_no_memory() {
    Siege::begin(&[]).withstand_pipelines(8, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", FLOOD, STALL);
}

#[test]
fn a_client_that_never_reads_and_never_closes_is_let_go() {
    let mut siege = Siege::begin(&[]);
    let mut crowd = siege.crowd(200);
    for (number, wire) in crowd.iter_mut().enumerate() {
        wire.shrink_receive_buffer();
        // The agent may have chosen it to give way to another: then it takes nothing.
        let _ = wire.try_send(if number % 2 == 0 {
            CHECK
        } else {
            "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"
        });
    }
    siege.wait_for_checks(50);
    siege.wait_for_footprint();
    drop(crowd);
    siege.finish();
}

#[test]
fn thousands_of_connections_reset_before_accept_do_no_harm() {
    let siege = Siege::begin(&[]);
    for round in 0..4000 {
        let mut wire = siege.connect();
        match round % 4 {
            0 | 1 => {}
            2 => wire.send("GET / HT"),
            _ => wire.send(CHECK),
        }
        wire.reset();
    }
    siege.end();
}

/// The connections are reset while they wait in the kernel's queue: the agent is stopped meanwhile.
#[test]
fn connections_reset_while_the_agent_was_not_looking_do_no_harm() {
    let siege = Siege::begin(&[]);
    for _ in 0..20 {
        let agent = Frozen::new(siege.agent.pid());
        for mut wire in siege.crowd(50) {
            wire.send(CHECK);
            wire.reset();
        }
        agent.thaw();
        siege.wait_for_checks(2);
    }
    siege.end();
}

#[test]
fn clients_that_leave_while_their_check_runs_do_no_harm() {
    let siege = Siege::begin(&[]);
    for round in 0..500 {
        let mut wire = siege.connect();
        wire.send(CHECK);
        wire.wait_consumed();
        match round % 2 {
            0 => wire.reset(),
            _ => drop(wire),
        }
    }
    siege.end();
}

/// Asking in the same moment, here after the agent stood still, a crowd with heads of nearly the full length is answered
/// like any other: the authority of an absolute target stays at the gate.
#[test]
fn a_crowd_with_long_authorities_is_answered() {
    let mut siege = Siege::begin(&["--max-connections", "200"]);
    let frozen = Frozen::new(siege.agent.pid());
    let request = format!("GET http://{}/primary HTTP/1.1\r\n\r\n", "a".repeat(8000));
    let mut crowd = siege.crowd(64);
    crowd.iter_mut().for_each(|wire| wire.send(&request));
    frozen.thaw();
    for wire in &mut crowd {
        assert_eq!(wire.receive(PATIENCE).text(), reply("200 Primary", "Primary\n"));
    }
    drop(crowd);
    siege.wait_for_footprint();
    siege.finish();
}

#[test]
fn random_bytes_are_refused_or_ignored() {
    let siege = Siege::begin(&[]);
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        // xorshift64: the same bytes in every run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let alphabet = b"GET /primary HTTP/1.1\r\n\r\n: Content-Length: Transfer-Encoding: chunked\0\xff\n\n\t?%";
    for round in 0..600 {
        let length = usize::try_from(next() % 300).expect("below 300");
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                let number = next();
                let place = usize::try_from(number >> 32).expect("32 bits") % alphabet.len();
                if round % 2 == 0 { alphabet[place] } else { number.to_le_bytes()[0] }
            })
            .collect();
        let mut wire = siege.connect();
        let _ = wire.try_send(&bytes);
        wire.half_close();
        let received = wire.receive(PATIENCE);
        assert_ne!(received.end, End::Open, "{bytes:?}: the connection ends");
        let refused = status_line(&received).starts_with("HTTP/1.1 4");
        assert!(refused || received.bytes.is_empty(), "{bytes:?} got {:?}", received.text());
    }
    siege.end();
}
