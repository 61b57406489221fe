//! One table of requests over every front: the same bytes, whoever hands the socket over.

mod support;

use support::Front;
use support::contract::flaw;
use support::folder::Folder;
use support::servers::servers;
use support::table::{self, AGENT_CHECK_PREFIXES, AGENT_CHECKS, NO_AGENT_CHECKS, PATHS};
use support::wire::{End, PATIENCE, Received, Wire, reply, talk};

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

/// The longest line of an agent-check, its end included.
const MAX_LINE_BYTES: usize = 1024;

/// What is wrong with the answers of one front to HAProxy's agent-check.
fn assert_answers_agent_checks(front: Front) {
    let servers = servers();
    let folder = Folder::new("drain");
    let drain_file = folder.path().join("drain");
    let mut flaws = Vec::new();
    let mut expect = |what: &str, received: Received, line: &str| {
        if (received.text(), received.end) != (format!("{line}\n"), End::Fin) {
            flaws.push(format!("{what}: expected {line:?}, got {received:?}"));
        }
    };
    let dsns = [servers.primary.dsn(), servers.standby.dsn(), servers.down()];
    for (column, dsn) in dsns.iter().enumerate() {
        let settings = format!("dsn = {dsn}\ndrain-file = {}\n", drain_file.display());
        let running = front.start_agent_check(&settings);
        for (target, answers) in AGENT_CHECKS {
            for end in ["\n", "\r\n"] {
                let line = format!("{target}{end}");
                expect(&format!("{line:?} of {dsn:?}"), talk(running.addr(), &line), answers[column]);
            }
        }
        for line in NO_AGENT_CHECKS {
            expect(&line.escape_ascii().to_string(), talk(running.addr(), line), "down #bad-request");
        }
        folder.write("drain", "");
        for (target, _) in AGENT_CHECKS {
            let answer = if *target == "/liveness" { "up ready 100%" } else { "up drain" };
            let received = talk(running.addr(), format!("{target}\n"));
            expect(&format!("{target:?} of {dsn:?}, draining"), received, answer);
        }
        std::fs::remove_file(&drain_file).expect("undrain");
    }
    let running = front.start_agent_check(&servers.settings());
    let replica = "down #not-in-recovery";
    // HAProxy sends agent-send as it stands, and people forget its end; without agent-send it sends nothing.
    for (sent, answer) in [("", "up ready 100%"), ("/replica", replica), ("/replica\r", replica)] {
        expect(&format!("{sent:?}, then silence"), talk(running.addr(), sent), answer);
        let mut wire = Wire::connect(running.addr());
        wire.send(sent);
        wire.half_close();
        expect(&format!("{sent:?}, then the end"), wire.receive(PATIENCE), answer);
        for prefix in AGENT_CHECK_PREFIXES {
            let what = format!("{}, then {sent:?}", prefix.escape_ascii());
            expect(&what, talk(running.addr(), [prefix, sent.as_bytes()].concat()), answer);
            let whole_line = [prefix, sent.trim_end().as_bytes(), b"\n"].concat();
            expect(&what, talk(running.addr(), whole_line), answer);
        }
    }
    expect(
        "a standby wanted, else maintenance",
        talk(running.addr(), "/replica?else=maint\n"),
        "up maint #not-in-recovery",
    );
    let long = |length: usize| {
        let padding = "0".repeat(length - "/replica?lag=1\n".len());
        format!("/replica?lag={padding}1\n")
    };
    expect("a long line", talk(running.addr(), long(200)), replica);
    expect(
        "the longest line",
        talk(running.addr(), format!("/{}\n", "x".repeat(MAX_LINE_BYTES - 2))),
        "down #bad-request",
    );
    expect("a longer line", talk(running.addr(), long(MAX_LINE_BYTES + 1)), "down #bad-request");
    expect("an empty line", talk(running.addr(), "\r\n"), "up ready 100%");
    expect("two lines", talk(running.addr(), "/replica\n/primary\n"), replica);
    flaws.truncate(5);
    assert!(flaws.is_empty(), "{front:?}:\n{}", flaws.join("\n"));
}

#[test]
fn standalone_answers_agent_checks() {
    assert_answers_agent_checks(Front::Standalone);
}

#[test]
fn xinetd_with_a_process_for_each_check_answers_agent_checks() {
    assert_answers_agent_checks(Front::XinetdNoWait);
}

#[test]
fn xinetd_with_one_process_for_all_answers_agent_checks() {
    assert_answers_agent_checks(Front::XinetdWait);
}

#[test]
fn inetd_with_a_process_for_each_check_answers_agent_checks() {
    assert_answers_agent_checks(Front::InetdNoWait);
}

#[test]
fn inetd_with_one_process_for_all_answers_agent_checks() {
    assert_answers_agent_checks(Front::InetdWait);
}

#[test]
fn systemd_with_a_process_for_each_check_answers_agent_checks() {
    assert_answers_agent_checks(Front::SystemdAccept);
}

#[test]
fn systemd_with_one_process_for_all_answers_agent_checks() {
    assert_answers_agent_checks(Front::SystemdSocket);
}
