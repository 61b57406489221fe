//! One table of requests over every front: the same bytes, whoever hands the socket over.

mod support;

use support::Front;
use support::contract::flaw;
use support::servers::servers;
use support::table::{self, PATHS};
use support::wire::{End, Received, reply, talk};

/// What is wrong with the replies of one front, next to those of the standalone agent.
fn assert_same_bytes_as_standalone(front: Front) {
    let servers = servers();
    let mut flaws = Vec::new();
    let dsns = [servers.primary.dsn(), servers.standby.dsn(), servers.down()];
    for (column, dsn) in dsns.iter().enumerate() {
        let running = front.start(dsn);
        for (path, answers) in PATHS {
            let (line, body) = answers[column];
            for request in [
                format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"),
                format!("OPTIONS {path} HTTP/1.0\r\n\r\n"),
            ] {
                let received = talk(running.addr(), &request);
                if (received.text(), received.end) != (reply(line, &format!("{body}\n")), End::Fin) {
                    flaws.push(format!("{request:?} of {dsn:?}: expected {line:?}, got {received:?}"));
                }
            }
        }
    }
    let (standalone, running) = (Front::Standalone.start(&dsns[0]), front.start(&dsns[0]));
    for (name, request, status) in table::all() {
        let received = talk(running.addr(), request);
        let expected = talk(standalone.addr(), request);
        flaws.extend(flaw(status, request, &received).map(|flaw| format!("{name}: {flaw}")));
        if without_time(&received) != without_time(&expected) {
            flaws.push(format!("{name}: not what standalone says: {received:?}, {expected:?}"));
        }
    }
    flaws.truncate(5);
    assert!(flaws.is_empty(), "{front:?}:\n{}", flaws.join("\n"));
}

fn without_time(received: &Received) -> (String, End) {
    (received.text(), received.end)
}

#[test]
fn standalone_answers_the_table() {
    assert_same_bytes_as_standalone(Front::Standalone);
}

#[test]
fn xinetd_with_a_process_for_each_check_answers_the_table() {
    assert_same_bytes_as_standalone(Front::XinetdNoWait);
}

#[test]
fn xinetd_with_one_process_for_all_answers_the_table() {
    assert_same_bytes_as_standalone(Front::XinetdWait);
}

#[test]
fn inetd_with_a_process_for_each_check_answers_the_table() {
    assert_same_bytes_as_standalone(Front::InetdNoWait);
}

#[test]
fn inetd_with_one_process_for_all_answers_the_table() {
    assert_same_bytes_as_standalone(Front::InetdWait);
}

#[test]
fn systemd_with_a_process_for_each_check_answers_the_table() {
    assert_same_bytes_as_standalone(Front::SystemdAccept);
}

#[test]
fn systemd_with_one_process_for_all_answers_the_table() {
    assert_same_bytes_as_standalone(Front::SystemdSocket);
}
