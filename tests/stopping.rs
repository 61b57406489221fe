//! SIGTERM and SIGINT: nobody who was let in is left without an answer, and the agent is gone within a second.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::contract::flaw;
use support::siege::{CHECK, check, waiting_check};
use support::wire::{PATIENCE, Wire, reply, talk};
use support::{Agent, Cluster, Frozen, Signal, eventually, free_port, millis, secs};

/// SIGTERM to exit: the second the agent has, and what a busy machine may add.
const STOP_LIMIT: Duration = millis(1500);

const HEAD: &[u8] = b"HEAD / HTTP/1.1\r\n\r\n";

fn stopping_reply() -> String {
    reply("503 agent-stopping", "Down: agent-stopping\n")
}

/// A check beside a primary is answered with its role, or told that the agent stops.
#[track_caller]
fn assert_answer(text: &str) {
    assert!(
        [reply("200 Primary", "Primary\n"), stopping_reply()].iter().any(|answer| answer == text),
        "{text:?}"
    );
}

/// The server's side of an answered check stays in TIME_WAIT: without SO_REUSEADDR the port would be taken.
#[test]
fn a_restarted_agent_gets_its_port_back_at_once() {
    let address = format!("127.0.0.1:{}", free_port());
    for _ in 0..3 {
        let mut agent = Agent::start(&["--listen", &address]);
        let listening = agent.all_addrs(2)[1];
        assert_eq!(talk(listening, "GET /liveness HTTP/1.1\r\n\r\n").text(), reply("200 Alive", "Alive\n"));
        assert_eq!(agent.terminate().code(), Some(0));
    }
}

#[test]
fn a_signal_to_stop_ends_an_idle_agent_with_exit_0_within_a_second() {
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let primary = Cluster::primary();
        let mut agent = Agent::start(&["--dsn", &primary.dsn()]);
        check(agent.addr()).expect("a check before the signal");
        let address = agent.addr();
        let begin = Instant::now();
        agent.signal(signal);
        assert_eq!(agent.wait().code(), Some(0), "{name}");
        assert!(begin.elapsed() < STOP_LIMIT, "{name}: {:?}", begin.elapsed());
        eventually(secs(1), "the log's last line says why", || {
            agent.log().ends_with(&format!("stopping ({name})\n"))
        });
        assert!(Wire::try_connect(address).is_err(), "{name}: nothing listens any more");
        eventually(secs(5), "the session is gone", || primary.backend_pids("pgsqlchk").is_empty());
    }
}

#[test]
fn clients_that_still_send_their_head_do_not_delay_the_stop() {
    let mut agent = Agent::start(&[]);
    let mut clients: Vec<Wire> = (0..50).map(|_| Wire::connect(agent.addr())).collect();
    for (number, wire) in clients.iter_mut().enumerate() {
        wire.wait_accepted();
        if number % 2 == 0 {
            wire.send("GET / HT");
            wire.wait_consumed();
        }
    }
    let begin = Instant::now();
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait().code(), Some(0));
    assert!(begin.elapsed() < STOP_LIMIT, "{:?}", begin.elapsed());
}

/// The checks in flight wait for a frozen postmaster, with a deadline far beyond the second the agent has.
#[test]
fn checks_in_flight_are_answered_before_the_agent_stops() {
    let primary = Cluster::primary();
    let mut agent = Agent::start(&[
        "--dsn",
        &primary.dsn(),
        "--timeout",
        "8s",
        "--knock-interval",
        "10ms",
        "--workers",
        "2",
    ]);
    check(agent.addr()).expect("a check before the freeze");
    let _postmaster = Frozen::new(primary.postmaster_pid());
    // More than there are workers: the ones that wait for a worker are in flight as well.
    let mut waiting: Vec<Wire> = (0..6).map(|_| waiting_check(agent.addr())).collect();
    let mut head = Wire::connect(agent.addr());
    head.send(HEAD);
    head.wait_consumed();

    let begin = Instant::now();
    agent.signal(Signal::TERM);
    for wire in &mut waiting {
        assert_eq!(wire.receive(PATIENCE).text(), stopping_reply());
    }
    assert_eq!(flaw("503 agent-stopping", HEAD, &head.receive(PATIENCE)), None);
    assert_eq!(agent.wait().code(), Some(0));
    assert!(begin.elapsed() < STOP_LIMIT, "{:?}", begin.elapsed());
}

/// They have a connection, so they are in flight as well; they only have not been accepted yet.
#[test]
fn checks_that_wait_to_be_accepted_when_the_signal_comes_are_answered() {
    let primary = Cluster::primary();
    let mut agent = Agent::start(&["--dsn", &primary.dsn()]);
    let address = agent.addr();
    check(address).expect("a check before the signal");
    let frozen = Frozen::new(agent.pid());
    let mut waiting: Vec<Wire> = (0..20).map(|_| Wire::connect(address)).collect();
    waiting.iter_mut().for_each(|wire| wire.send(CHECK));
    agent.signal(Signal::TERM);
    frozen.thaw();
    for wire in &mut waiting {
        assert_answer(&wire.receive(PATIENCE).text());
    }
    assert_eq!(agent.wait().code(), Some(0));
}

/// Once the end of a client, reported in the same turn as the signal, was taken for that of the one who got its place.
#[test]
fn who_gets_a_place_as_the_agent_stops_is_answered() {
    let primary = Cluster::primary();
    for _ in 0..20 {
        let mut agent = Agent::start(&["--dsn", &primary.dsn(), "--max-connections", "1"]);
        let address = agent.addr();
        let mut gone = Wire::connect(address);
        gone.send(CHECK);
        assert_eq!(gone.receive(PATIENCE).text(), reply("200 Primary", "Primary\n"));
        let frozen = Frozen::new(agent.pid());
        drop(gone);
        let mut waiting = Wire::connect(address);
        waiting.send(CHECK);
        agent.signal(Signal::TERM);
        frozen.thaw();
        assert_answer(&waiting.receive(PATIENCE).text());
        assert_eq!(agent.wait().code(), Some(0));
    }
}

/// Under a stream of checks nobody who was let in is left without an answer. Who waits in the kernel's queue
/// when the listener closes was not let in: each client can meet that once, as its last connection.
#[test]
fn no_check_that_was_let_in_is_lost_when_the_agent_stops() {
    let primary = Cluster::primary();
    let mut agent = Agent::start(&["--dsn", &primary.dsn()]);
    let address = agent.addr();
    let answered = AtomicUsize::new(0);
    let client = || {
        while let Ok(mut wire) = Wire::try_connect(address) {
            let _ = wire.try_send(CHECK);
            let text = wire.receive(PATIENCE).text();
            if text.is_empty() {
                break;
            }
            assert_answer(&text);
            answered.fetch_add(1, Ordering::SeqCst);
        }
        eventually(secs(1), "nothing listens any more", || Wire::try_connect(address).is_err());
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(client);
        }
        eventually(PATIENCE, "a hundred checks are answered", || answered.load(Ordering::SeqCst) > 100);
        agent.signal(Signal::TERM);
        assert_eq!(agent.wait().code(), Some(0));
    });
}
