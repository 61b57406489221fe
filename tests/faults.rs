//! PostgreSQL ends the agent's session, or isn't there: the right code and reason, and 200 by itself as soon as the
//! cause is gone, without a restart of the agent.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use support::folder::Folder;
use support::patience::{assert_down, assert_heals_soon};
use support::postgresql::copy_program;
use support::{
    Agent, Cluster, Signal, StopMode, Stream, eventually, free_port, millis, secs, signal, throughout,
};

/// Ends the agent's session and waits until PostgreSQL has forgotten it.
fn terminate(cluster: &Cluster) {
    let pids = cluster.backend_pids("pgsqlchk");
    assert_eq!(pids.len(), 1, "one session of the agent");
    assert_eq!(cluster.psql(&format!("SELECT pg_terminate_backend({}, 5000)", pids[0])), "t");
}

#[test]
fn a_session_terminated_between_checks_costs_no_check() {
    let primary = Cluster::primary();
    for dsn in [primary.dsn(), primary.tcp_dsn()] {
        let mut agent = Agent::start(&["--dsn", &dsn]);
        for _ in 0..10 {
            assert_eq!(agent.get("/").line(), "200 Primary");
            terminate(&primary);
        }
        assert_eq!(agent.get("/").line(), "200 Primary");
        agent.terminate();
        let log = agent.log();
        assert_eq!(log.lines().count(), 3, "nothing changed, nothing is logged but the stop: {log}");
        eventually(secs(5), "the agent's session ends with it", || {
            primary.backend_pids("pgsqlchk").is_empty()
        });
    }
}

#[test]
fn a_session_terminated_during_a_stream_of_checks_costs_no_check() {
    let primary = Cluster::primary();
    // A fresh login would make two sessions of one for a moment.
    let agent = Agent::start(&["--dsn", &primary.dsn(), "--login-interval", "1h"]);
    let stream = Stream::start(agent.addr(), &["/", "/primary", "/read-write"]);
    let mut witness = primary.connect();
    let terminate = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity \
                     WHERE application_name = 'pgsqlchk'";
    for _ in 0..30 {
        // Every check meets one termination at most: those under way end before the next one.
        stream.advance(3);
        let count: i64 = witness.query_one(terminate, &[]).expect("terminate").get(0);
        assert!(count <= 1, "one session at a time");
    }
    stream.advance(3);
    let checks = stream.finish();
    let bad: Vec<_> = checks.iter().filter(|check| check.line != "200 Primary").collect();
    assert!(bad.is_empty(), "of {} checks: {bad:#?}", checks.len());
}

#[test]
fn no_server_is_connection_refused_over_tcp_and_over_a_socket() {
    let folder = Folder::new("empty");
    let places = [
        format!("host=127.0.0.1 port={} user=postgres", free_port()),
        format!("host={} port=5432 user=postgres", folder.path().display()),
        format!("host={}/no/such/folder port=5432 user=postgres", folder.path().display()),
    ];
    for dsn in places {
        assert_down(&Agent::start(&["--dsn", &dsn]), "connection-refused");
    }
}

#[test]
fn a_host_name_that_cannot_be_resolved_has_its_reason() {
    // A label has 63 characters at most (RFC 1035, 2.3.4): refused here, without a word to any name server.
    let dsn = format!("host={} port=5432 user=postgres", "x".repeat(64));
    assert_down(&Agent::start(&["--dsn", &dsn]), "name-not-resolved");
}

#[test]
fn a_host_name_is_resolved_and_its_address_asked() {
    let primary = Cluster::primary();
    let dsn = format!("host=localhost port={} user=postgres dbname=postgres", primary.port());
    let agent = Agent::start(&["--dsn", &dsn]);
    assert_eq!(agent.get("/").line(), "200 Primary");
    primary.restart(StopMode::Fast);
    assert_eq!(agent.get("/").line(), "200 Primary");
}

#[test]
fn a_server_that_speaks_tls_is_knocked_at_without_filling_its_log() {
    let primary = Cluster::stopped(&[("ssl", "on")]);
    primary.make_certificate();
    primary.start();
    let agent = Agent::start(&["--dsn", &primary.tcp_dsn(), "--knock-interval", "10ms"]);
    throughout(millis(500), || assert_eq!(agent.get("/").line(), "200 Primary"));
    let log = primary.log();
    let complaints = log.matches("could not accept SSL connection").count();
    assert!(complaints <= 1, "only the first knock may leave a line: {complaints}");
    assert!(!log.contains("unsupported frontend protocol"), "knocks are understood");
}

#[test]
fn a_removed_socket_file_is_connection_refused_although_the_session_lives() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn(), "--knock-interval", "10ms"]);
    assert_eq!(agent.get("/").line(), "200 Primary");
    let (socket, aside) = (primary.socket_path(), primary.socket_path().with_extension("aside"));
    fs::rename(&socket, &aside).expect("take the socket away");
    eventually(secs(1), "the last good knock is too old", || agent.get("/").status == 503);
    assert_down(&agent, "connection-refused");
    fs::rename(&aside, &socket).expect("put the socket back");
    assert_heals_soon(&agent);
}

#[test]
fn a_socket_that_may_not_be_opened_is_permission_denied() {
    let primary = Cluster::primary_with(&[("unix_socket_permissions", "0000")]);
    // Root may open everything, so as root the agent runs as nobody here: a copy of it that nobody can read.
    let folder = Folder::new("binary");
    let copy = folder.path().join("pgsqlchk");
    copy_program(env!("CARGO_BIN_EXE_pgsqlchk"), &copy);
    let exec = format!("exec {} \"$@\"", copy.display());
    let mut wrapper = vec!["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", &exec];
    if !rustix::process::geteuid().is_root() {
        wrapper.drain(..4);
    }
    let agent = Agent::start_under(&wrapper, |command| {
        command.args(["--dsn", &primary.dsn()]);
    });
    assert_down(&agent, "permission-denied");
    fs::set_permissions(primary.socket_path(), fs::Permissions::from_mode(0o777)).expect("chmod the socket");
    assert_heals_soon(&agent);
}

#[test]
fn a_crash_of_another_backend_costs_only_the_checks_during_recovery() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    let mut victim = primary.connect();
    let pid: i32 = victim.query_one("SELECT pg_backend_pid()", &[]).expect("its process id").get(0);
    let stream = Stream::start(agent.addr(), &["/", "/read-write"]);
    stream.advance(10);
    let ready = |log: &str| log.matches("database system is ready to accept connections").count();
    let before = ready(&primary.log());
    signal(pid.unsigned_abs(), Signal::KILL);
    eventually(secs(20), "PostgreSQL recovered", || ready(&primary.log()) > before);
    let recovered = Instant::now();
    stream.advance(10);
    let down =
        ["503 connection-lost", "503 not-accepting-connections", "503 starting-up", "503 shutting-down"];
    for check in stream.finish() {
        let during = check.began < recovered && down.contains(&check.line.as_str());
        assert!(during || check.line == "200 Primary", "{check:?}");
    }
}
