//! The bytes on the wire: what is answered, what is refused, and with which code. Every reply is compared whole.

mod support;

use support::contract::{assert_replies, assert_reply, flaw, site};
use support::secs;
use support::table::{self, MAX_HEAD_BYTES, head_of};
use support::wire::{End, PATIENCE, Wire, talk, talk_in_pieces};

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
fn a_short_body_of_a_check_is_read_and_thrown_away() {
    assert_replies(table::SHORT_BODIES);
}

#[test]
fn any_other_body_is_refused_with_413_and_never_read() {
    assert_replies(table::BODIES);
}

#[test]
fn a_proxy_header_ahead_of_a_request_is_skipped() {
    assert_replies(table::PROXIED);
}

#[test]
fn header_head_and_body_may_come_in_any_pieces() {
    let site = site();
    let body = b"GET /replica HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello".as_slice();
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".as_slice();
    for request in [body.to_vec(), [table::PROXY_LINE, body].concat(), [local, body].concat()] {
        // Each byte on its own is what the fuzz driver of the wire sends.
        for size in [3, 7] {
            let received = talk_in_pieces(site.agent.addr(), &request, size);
            assert_reply(&format!("pieces of {size} bytes"), "503 not-in-recovery", b"GET", &received);
        }
    }
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
