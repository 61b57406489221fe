//! Frozen processes of PostgreSQL, under SIGSTOP: every answer comes within the deadline, has the right reason, and
//! is right again by itself after the thaw.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use support::patience::{SLACK, TIMEOUT, agent, ask, assert_heals, at_the_same_time, first_failure};
use support::siege::waiting_check;
use support::wire::{PATIENCE, reply};
use support::{Agent, Cluster, Frozen, eventually, impostor, millis, secs};

/// The agent's backends, as a session sees them that was open before the freeze.
fn backends(witness: &mut postgres::Client) -> Vec<u32> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgsqlchk' ORDER BY backend_start";
    let rows = witness.query(sql, &[]).expect("the witness's query");
    rows.iter().map(|row| row.get::<_, i32>(0).unsigned_abs()).collect()
}

/// Freezes the agent's only backend.
#[track_caller]
fn freeze_backend(witness: &mut postgres::Client) -> Frozen {
    let pids = backends(witness);
    assert_eq!(pids.len(), 1, "one session of the agent");
    Frozen::new(pids[0])
}

#[track_caller]
fn assert_one_session_left(witness: &mut postgres::Client) {
    eventually(secs(5), "abandoned sessions end, one remains", || backends(witness).len() == 1);
}

#[test]
fn a_frozen_postmaster_is_postmaster_not_answering_although_the_session_answers() {
    let primary = Cluster::primary();
    for dsn in [primary.dsn(), primary.tcp_dsn()] {
        let agent = agent(&dsn);
        assert_eq!(ask(&agent).line(), "200 Primary");
        let frozen = Frozen::new(primary.postmaster_pid());
        assert_eq!(first_failure(&agent).line(), "503 postmaster-not-answering");
        // All at the same time: each waits for its deadline.
        let paths = ["/", "/primary", "/read-write", "/read-only", "/health"];
        at_the_same_time(paths, |path| {
            assert_eq!(agent.get(path).line(), "503 postmaster-not-answering", "{path}");
        });
        frozen.thaw();
        assert_heals(&agent);
        agent.wait_for_log("primary -> unavailable (postmaster-not-answering) after ");
    }
}

#[test]
fn a_postmaster_frozen_before_the_first_login_is_postmaster_not_answering() {
    let primary = Cluster::primary();
    let frozen = Frozen::new(primary.postmaster_pid());
    let agents = [agent(&primary.dsn()), agent(&primary.tcp_dsn())];
    for agent in &agents {
        for _ in 0..2 {
            assert_eq!(ask(agent).line(), "503 postmaster-not-answering");
        }
    }
    frozen.thaw();
    agents.iter().for_each(assert_heals);
}

#[test]
fn a_frozen_backend_costs_one_check_and_the_next_has_a_new_session() {
    let primary = Cluster::primary();
    let mut witness = primary.connect();
    for dsn in [primary.dsn(), primary.tcp_dsn()] {
        let mut agent = agent(&dsn);
        assert_eq!(ask(&agent).line(), "200 Primary");
        let threads = agent.threads();
        let frozen = freeze_backend(&mut witness);
        let reply = ask(&agent);
        assert_eq!(reply.line(), "503 deadline-passed");
        assert!(reply.elapsed >= TIMEOUT, "PostgreSQL had its whole deadline: {reply:?}");
        assert_eq!(ask(&agent).line(), "200 Primary");
        let pids = backends(&mut witness);
        assert!(pids.len() == 2 && pids[0] == frozen.pid(), "the frozen one and a new one: {pids:?}");
        frozen.thaw();
        assert_one_session_left(&mut witness);
        assert_eq!(backends(&mut witness), pids[1..], "the new session is kept");
        assert_eq!(ask(&agent).line(), "200 Primary");
        eventually(secs(5), "the abandoned session's thread ends", || agent.threads() <= threads);
        agent.terminate();
        eventually(secs(5), "its sessions end with the agent", || backends(&mut witness).is_empty());
    }
}

#[test]
fn postmaster_and_backend_frozen_are_503_in_time_and_heal_in_either_order() {
    let primary = Cluster::primary();
    let mut witness = primary.connect();
    let agent = agent(&primary.dsn());
    for postmaster_first in [true, false] {
        assert_eq!(ask(&agent).line(), "200 Primary");
        let backend = freeze_backend(&mut witness);
        let postmaster = Frozen::new(primary.postmaster_pid());
        // The last good knock may still be good; what fails first then is the session.
        let first = ask(&agent).line();
        assert!(["503 deadline-passed", "503 postmaster-not-answering"].contains(&first.as_str()), "{first}");
        for _ in 0..2 {
            assert_eq!(ask(&agent).line(), "503 postmaster-not-answering");
        }
        if postmaster_first {
            postmaster.thaw();
            assert_heals(&agent);
            backend.thaw();
        } else {
            backend.thaw();
            assert_eq!(ask(&agent).line(), "503 postmaster-not-answering");
            postmaster.thaw();
            assert_heals(&agent);
        }
        assert_one_session_left(&mut witness);
    }
}

#[test]
fn at_most_four_sessions_are_abandoned_and_the_agent_heals_from_them() {
    let primary = Cluster::primary();
    let mut witness = primary.connect();
    let agent = Agent::start(&["--dsn", &primary.dsn(), "--timeout", "300ms"]);
    eventually(secs(10), "it has one session", || {
        agent.get("/").line() == "200 Primary" && backends(&mut witness).len() == 1
    });
    let threads = agent.threads();
    let mut frozen: Vec<Frozen> = Vec::new();
    let mut most = 0;
    for _ in 0..14 {
        let known: Vec<u32> = frozen.iter().map(Frozen::pid).collect();
        let pids = backends(&mut witness);
        assert!(pids.len() <= 5, "four abandoned and one in use at most: {pids:?}");
        most = most.max(pids.len());
        frozen.extend(Frozen::all(pids.into_iter().filter(|pid| !known.contains(pid))));
        let reply = agent.get("/");
        assert!(reply.elapsed < millis(300) + SLACK, "within the deadline: {reply:?}");
        assert!(reply.line() == "200 Primary" || reply.status == 503, "{reply:?}");
    }
    assert!(most >= 4, "new sessions were tried beside the frozen ones, {most} seen");
    assert_eq!(agent.get("/").status, 503, "every session is frozen");
    assert!(agent.threads() <= threads + 5, "no thread is added without a bound");
    drop(frozen);
    assert_heals(&agent);
    assert_one_session_left(&mut witness);
    eventually(secs(5), "the threads of abandoned sessions end", || agent.threads() <= threads);
}

#[test]
fn liveness_answers_at_once_while_sixteen_checks_wait_for_a_frozen_postgresql() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn(), "--timeout", "3s", "--knock-interval", "10ms"]);
    assert_eq!(agent.get("/").line(), "200 Primary");
    let mut witness = primary.connect();
    let _backend = freeze_backend(&mut witness);
    let _postmaster = Frozen::new(primary.postmaster_pid());
    let began = Instant::now();
    let waiting: Vec<TcpStream> = (0..16)
        .map(|_| {
            let mut stream = TcpStream::connect(agent.addr()).expect("connect");
            stream.set_read_timeout(Some(secs(10))).expect("set a timeout");
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("ask");
            stream
        })
        .collect();
    let mut asked = 0;
    while began.elapsed() < secs(2) {
        let reply = agent.get("/liveness");
        assert_eq!(reply.line(), "200 Alive");
        assert!(reply.elapsed < millis(500), "at once: {reply:?}");
        asked += 1;
    }
    assert!(asked >= 4, "/liveness was asked {asked} times");
    for mut stream in waiting {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(began.elapsed() < secs(3) + SLACK, "within the deadline, all of them");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
}

#[test]
fn sixteen_checks_of_a_frozen_postmaster_are_answered_in_time_and_with_its_reason() {
    let primary = Cluster::primary();
    let agent = agent(&primary.dsn());
    assert_eq!(ask(&agent).line(), "200 Primary");
    let frozen = Frozen::new(primary.postmaster_pid());
    assert_eq!(first_failure(&agent).line(), "503 postmaster-not-answering");
    for _ in 0..2 {
        let lines: Vec<String> = thread::scope(|scope| {
            let checks: Vec<_> = (0..16).map(|_| scope.spawn(|| ask(&agent).line())).collect();
            checks.into_iter().map(|check| check.join().expect("a check")).collect()
        });
        assert!(lines.iter().all(|line| line == "503 postmaster-not-answering"), "{lines:#?}");
    }
    frozen.thaw();
    assert_heals(&agent);
}

/// Once that was a lost connection: the signals interrupt a call on a socket with a timeout although no handler is set
/// (signal(7)).
#[test]
fn an_agent_that_is_paused_while_it_knocks_goes_on_knocking() {
    let primary = Cluster::primary();
    for dsn in [primary.dsn(), primary.tcp_dsn()] {
        let agent = Agent::start(&["--dsn", &dsn, "--timeout", "8s", "--knock-interval", "10ms"]);
        assert_eq!(agent.get("/").line(), "200 Primary");
        let postmaster = Frozen::new(primary.postmaster_pid());
        let mut waiting = waiting_check(agent.addr());
        (0..3).for_each(|_| Frozen::new(agent.pid()).thaw());
        assert!(!waiting.wait_readable(millis(100)), "it goes on");
        postmaster.thaw();
        assert_eq!(waiting.receive(PATIENCE).text(), reply("200 Primary", "Primary\n"));
    }
}

#[test]
fn with_knock_interval_0_a_frozen_postmaster_goes_unseen() {
    let primary = Cluster::primary();
    let agent = Agent::start(&[
        "--dsn",
        &primary.dsn(),
        "--timeout",
        "1s",
        "--knock-interval",
        "0",
        "--login-interval",
        "0",
    ]);
    assert_eq!(ask(&agent).line(), "200 Primary");
    let _frozen = Frozen::new(primary.postmaster_pid());
    for _ in 0..20 {
        assert_eq!(ask(&agent).line(), "200 Primary");
    }
}

#[test]
fn a_knock_is_shared_for_its_interval_and_none_is_made_without_a_check() {
    let primary = Cluster::primary_with(&[("log_connections", "on")]);
    let knocks = || primary.log().matches("connection received").count();
    let agent = Agent::start(&["--dsn", &primary.dsn(), "--knock-interval", "1h", "--login-interval", "0"]);
    let before = knocks();
    for _ in 0..200 {
        assert_eq!(ask(&agent).line(), "200 Primary");
    }
    let made = knocks() - before;
    assert!((1..=2).contains(&made), "a login and a knock at most, for 200 checks: {made}");
}

#[test]
fn a_frozen_postmaster_whose_queue_is_full_is_still_503_in_time() {
    let primary = Cluster::primary_with(&[("max_connections", "10")]);
    let agent = agent(&primary.dsn());
    assert_eq!(ask(&agent).line(), "200 Primary");
    let frozen = Frozen::new(primary.postmaster_pid());
    let queued = impostor::fill(&primary.socket_path());
    assert_eq!(first_failure(&agent).line(), "503 postmaster-not-answering");
    assert_eq!(ask(&agent).line(), "503 postmaster-not-answering");
    drop(queued);
    frozen.thaw();
    assert_heals(&agent);
}
