//! Real xinetd, over a longer time: loads, idle exits, kills, reloads, a frozen PostgreSQL.

mod support;

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use support::process::state;
use support::wire::{End, PATIENCE, Received, Wire, reply, talk};
use support::xinetd::{Service, Xinetd};
use support::{Cluster, Frozen, Reply, Signal, eventually, http, millis, secs, signal};

const CHECK: &str = "OPTIONS / HTTP/1.0\r\n\r\n";

/// For a machine that is busy with the other tests.
const SLACK: Duration = secs(1);

/// A primary with a place for every one-shot process that the service file allows.
fn primary() -> Cluster {
    Cluster::primary_with(&[("max_connections", "100")])
}

fn settings(primary: &Cluster, more: &str) -> String {
    format!("dsn = {}\n{more}", primary.dsn())
}

/// Nothing but the whole reply, ended properly.
#[track_caller]
fn assert_primary(received: &Received, what: &str) {
    let expected = (reply("200 Primary", "Primary\n"), End::Fin);
    assert_eq!((received.text(), received.end), expected, "{what}");
}

#[track_caller]
fn get(addr: SocketAddr, path: &str) -> Reply {
    http::get(addr, path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
}

/// The only agent that runs.
#[track_caller]
fn agent_of(xinetd: &Xinetd) -> u32 {
    let agents = xinetd.agents();
    assert_eq!(agents.len(), 1, "one agent: {agents:?}");
    agents[0]
}

#[track_caller]
fn assert_all_answered(service: Service) {
    let primary = primary();
    let xinetd = Xinetd::start(service, &settings(&primary, "timeout = 8s\n"));
    for round in 0..1000 {
        assert_primary(&talk(xinetd.addr(), CHECK), &format!("check {round} of a sequence"));
    }
    thread::scope(|scope| {
        for client in 0..20 {
            let addr = xinetd.addr();
            scope.spawn(move || {
                for round in 0..50 {
                    assert_primary(&talk(addr, CHECK), &format!("check {round} of client {client}"));
                }
            });
        }
    });
    let left = usize::from(service == Service::Wait);
    eventually(secs(5), "no process is left over", || xinetd.agents().len() == left);
}

#[test]
fn a_process_for_each_check_answers_two_thousand_without_a_reset_or_a_short_reply() {
    assert_all_answered(Service::NoWait);
}

/// As many as the ends of processes that xinetd has not seen yet can make of a few clients who ask again at once.
#[test]
fn forty_five_checks_of_one_host_at_the_same_time_are_all_answered() {
    let primary = primary();
    let rows: [(Service, &str, &[&str]); 2] =
        [(Service::NoWait, CHECK, &["HTTP/1.1 "]), (Service::Agent, "/primary\n", &["up ", "down "])];
    for (service, request, beginnings) in rows {
        let xinetd = Xinetd::start(service, &settings(&primary, ""));
        let mut wires: Vec<Wire> = (0..45).map(|_| Wire::connect(xinetd.addr())).collect();
        for (number, wire) in wires.iter_mut().enumerate() {
            let _ = wire.try_send(request);
            let received = wire.receive(PATIENCE);
            let text = received.text();
            let is_answer = beginnings.iter().any(|beginning| text.starts_with(beginning));
            assert!(is_answer, "check {number} of {service:?}: {received:?}");
        }
    }
}

#[test]
fn one_process_for_all_answers_two_thousand_checks_without_a_reset_or_a_short_reply() {
    assert_all_answered(Service::Wait);
}

#[test]
fn the_wait_agent_serves_all_checks_with_one_process_and_one_session() {
    let primary = primary();
    let xinetd = Xinetd::start(Service::Wait, &settings(&primary, "login-interval = 0\n"));
    assert!(xinetd.agents().is_empty(), "nothing runs before the first check");
    assert_primary(&talk(xinetd.addr(), CHECK), "the first check");
    let agent = agent_of(&xinetd);
    let session = primary.backend_pids("pgsqlchk");
    for _ in 0..20 {
        assert_primary(&talk(xinetd.addr(), CHECK), "a later check");
    }
    assert_eq!((agent_of(&xinetd), primary.backend_pids("pgsqlchk")), (agent, session));
}

#[test]
fn nothing_of_xinetds_environment_reaches_the_agent() {
    let primary = primary();
    let xinetd = Xinetd::start(Service::Wait, &settings(&primary, ""));
    assert_primary(&talk(xinetd.addr(), CHECK), "a check");
    let theirs = fs::read(format!("/proc/{}/environ", xinetd.daemon().pid())).expect("xinetd's environment");
    assert!(String::from_utf8_lossy(&theirs).contains("PGHOST=/nonexistent/leaked"));
    let ours = fs::read(format!("/proc/{}/environ", agent_of(&xinetd))).expect("the agent's environment");
    let ours = String::from_utf8_lossy(&ours).replace('\0', "\n");
    assert!(!ours.contains("PG") && !ours.contains("PATH"), "{ours}");
}

#[test]
fn the_wait_agent_leaves_when_it_is_idle_and_comes_back_for_the_next_check() {
    let primary = primary();
    let xinetd = Xinetd::start(Service::Wait, &settings(&primary, "idle-exit = 1s\n"));
    for round in 0..5 {
        // The first check after an exit comes at once: xinetd may not even have noticed the exit.
        assert_primary(&talk(xinetd.addr(), CHECK), &format!("round {round}"));
        eventually(secs(5), "the idle agent leaves", || xinetd.agents().is_empty());
    }
    xinetd.syslog().wait_for("stopping (idle)");
    eventually(secs(5), "its session leaves with it", || primary.backend_pids("pgsqlchk").is_empty());
}

#[test]
fn a_check_that_comes_as_the_idle_agent_leaves_is_answered() {
    let primary = primary();
    let xinetd = Xinetd::start(Service::Wait, &settings(&primary, "idle-exit = 1s\n"));
    assert_primary(&talk(xinetd.addr(), CHECK), "the first check");
    // From before the exit to after it, in steps: some of these connections meet the last moments.
    for step in 0..8 {
        let mut wire = Wire::connect(xinetd.addr());
        assert_primary(&talk(xinetd.addr(), CHECK), "the check that starts the clock");
        let early = wire.receive(millis(960 + step * 40));
        assert_eq!(early.text(), "", "this one has not asked yet");
        wire.send(CHECK);
        assert_primary(&wire.receive(PATIENCE), &format!("asked in step {step}"));
        let pause = Wire::connect(xinetd.addr()).receive(millis(500)).text();
        assert_eq!(pause, "", "a connection that asks for nothing");
        assert_primary(&talk(xinetd.addr(), CHECK), &format!("connected in step {step}"));
    }
}

#[test]
fn the_wait_agent_killed_in_the_middle_of_a_request_is_started_again() {
    let primary = primary();
    let xinetd = Xinetd::start(Service::Wait, &settings(&primary, "timeout = 30s\n"));
    let frozen = Frozen::new(primary.postmaster_pid());
    let mut wire = Wire::connect(xinetd.addr());
    wire.send(CHECK);
    eventually(secs(5), "the agent is started", || xinetd.agents().len() == 1);
    wire.wait_consumed();
    let killed = agent_of(&xinetd);
    signal(killed, Signal::KILL);
    let received = wire.receive(PATIENCE);
    assert!(received.text().is_empty() && received.end != End::Open, "{received:?}");
    frozen.thaw();
    assert_primary(&talk(xinetd.addr(), CHECK), "after the kill");
    assert_ne!(agent_of(&xinetd), killed);
}

#[test]
fn a_reload_of_xinetd_loses_no_check() {
    let primary = primary();
    for service in [Service::NoWait, Service::Wait] {
        let xinetd = Xinetd::start(service, &settings(&primary, "timeout = 8s\n"));
        let stream = support::Stream::start(xinetd.addr(), &["/", "/primary"]);
        for _ in 0..5 {
            stream.advance(5);
            xinetd.reload();
        }
        stream.advance(5);
        let checks = stream.finish();
        let lost: Vec<_> = checks.iter().filter(|check| check.line != "200 Primary").collect();
        assert!(lost.is_empty() && checks.len() > 50, "{service:?}: {lost:?} of {}", checks.len());
    }
}

#[test]
fn a_reload_of_xinetd_moves_the_service_to_another_port() {
    let primary = primary();
    for service in [Service::NoWait, Service::Wait] {
        let mut xinetd = Xinetd::start(service, &settings(&primary, ""));
        assert_primary(&talk(xinetd.addr(), CHECK), "before");
        xinetd.move_to_another_port();
        assert_primary(&talk(xinetd.addr(), CHECK), "after");
    }
}

#[test]
fn one_shot_checks_read_the_agents_configuration_anew() {
    let primary = primary();
    let xinetd = Xinetd::start(Service::NoWait, &settings(&primary, ""));
    assert_eq!(get(xinetd.addr(), "/").line(), "200 Primary");
    xinetd.configure_agent("dsn = host=/nonexistent\n");
    assert_eq!(get(xinetd.addr(), "/").line(), "503 connection-refused");
}

/// cps in the service file keeps xinetd from starting agents in circles: it closes the port and opens it again.
#[test]
fn a_wait_agent_that_cannot_start_is_tried_again_after_a_pause() {
    let primary = primary();
    let xinetd = Xinetd::start(Service::Wait, "timeout = 2\n");
    let mut wire = Wire::connect(xinetd.addr());
    wire.send(CHECK);
    assert_eq!(wire.receive(PATIENCE).text(), "");
    eventually(secs(5), "xinetd pauses", || xinetd.daemon().log().contains("Deactivating service"));
    xinetd.configure_agent(&settings(&primary, ""));
    let lines = xinetd.syslog().lines();
    assert!((2..10).contains(&lines.len()), "one line for each start and nothing else: {lines:#?}");
    assert!(lines.iter().all(|line| line.contains("a duration needs a unit")), "{lines:#?}");
    eventually(secs(15), "the port is open again", || Wire::try_connect(xinetd.addr()).is_ok());
    assert_primary(&talk(xinetd.addr(), CHECK), "with a better configuration");
}

#[track_caller]
fn assert_frozen_is_answered(service: Service, answer: &str) {
    let primary = primary();
    let xinetd = Xinetd::start(service, &settings(&primary, "timeout = 1s\nknock-interval = 100ms\n"));
    let mut witness = primary.connect();
    assert_primary(&talk(xinetd.addr(), CHECK), "before");
    let before = xinetd.agents().len();
    let frozen = Frozen::new(primary.postmaster_pid());
    // The last good knock has to be forgotten.
    eventually(secs(5), "the freeze is seen", || get(xinetd.addr(), "/").line() != "200 Primary");
    for _ in 0..3 {
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    let reply = get(xinetd.addr(), "/");
                    assert_eq!(reply.line(), answer);
                    assert!(reply.elapsed < secs(1) + SLACK, "within the deadline: {reply:?}");
                });
            }
        });
    }
    eventually(secs(5), "no pile of processes during the freeze", || xinetd.agents().len() <= 1);
    frozen.thaw();
    eventually(secs(1) + SLACK, "right again after the thaw", || {
        get(xinetd.addr(), "/").line() == "200 Primary"
    });
    let left = usize::from(service == Service::Wait);
    eventually(secs(5), "no pile of processes after the thaw", || xinetd.agents().len() == left);
    assert!(before <= 1);
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgsqlchk'";
    eventually(secs(5), "no pile of sessions after the thaw", || {
        witness.query_one(count, &[]).expect("count").get::<_, i64>(0) == left as i64
    });
}

#[test]
fn with_a_frozen_postmaster_every_one_shot_check_is_503_in_time_and_no_process_stays() {
    // It logs in without a knock, so it cannot tell who of the server's processes is silent.
    assert_frozen_is_answered(Service::NoWait, "503 deadline-passed");
}

#[test]
fn with_a_frozen_postmaster_every_check_of_the_wait_agent_is_503_in_time() {
    assert_frozen_is_answered(Service::Wait, "503 postmaster-not-answering");
}

/// The login of a one-shot check is stopped half-way: the process must not wait for the session's end.
#[test]
fn a_one_shot_check_whose_backend_is_frozen_ends_all_the_same() {
    let primary = primary();
    primary.replace_pg_is_in_recovery("PERFORM pg_sleep(30)");
    let xinetd = Xinetd::start(Service::NoWait, &settings(&primary, "timeout = 1s\n"));
    let reply = get(xinetd.addr(), "/");
    assert_eq!(reply.line(), "503 deadline-passed");
    assert!(reply.elapsed < secs(1) + SLACK, "within the deadline: {reply:?}");
    eventually(secs(3), "the process ends", || xinetd.agents().is_empty());
}

/// What an admin has to know, and the service file says: it ends by itself, or with pkill.
#[test]
fn the_wait_agent_outlives_xinetd_for_a_moment_and_then_leaves() {
    let primary = primary();
    let xinetd = Xinetd::start(Service::Wait, &settings(&primary, "idle-exit = 1s\n"));
    assert_primary(&talk(xinetd.addr(), CHECK), "before");
    let agent = agent_of(&xinetd);
    xinetd.daemon().signal(Signal::TERM);
    eventually(secs(5), "xinetd ends", || matches!(state(xinetd.daemon().pid()), None | Some('Z')));
    eventually(secs(5), "the agent ends", || matches!(state(agent), None | Some('Z')));
}
