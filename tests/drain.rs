//! Draining: while the drain file exists, every path about the role is 404, whatever PostgreSQL does, on every front; and
//! a real HAProxy does with it what the documents say. (The switch of the file: tests/drain_switch.rs.)

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::{Duration, Instant};

use support::drain::{Switch, chmod, run, run_under, switch_with, without_privileges};
use support::haproxy::assert_shut;
use support::servers::servers;
use support::siege::waiting_check;
use support::syslog::Syslog;
use support::table::PATHS;
use support::wire::{End, PATIENCE, reply, talk};
use support::{Agent, Cluster, Front, Frozen, Haproxy, OneShot, StopMode, Stream};
use support::{eventually, free_port, millis, secs};

/// The paths that are not about the role.
const NO_ROLES: [&str; 3] = ["/health", "/readiness", "/liveness"];

/// The paths about the role.
fn roles() -> impl Iterator<Item = &'static str> {
    PATHS.iter().map(|(path, _)| *path).filter(|path| !NO_ROLES.contains(path)).chain(["*"])
}

/// No deadline is waited for: the agents here have one of a second or two.
const AT_ONCE: Duration = millis(500);

#[track_caller]
fn assert_drains(agent: &Agent) {
    for path in roles() {
        let reply = agent.ask(format!("OPTIONS {path} HTTP/1.0\r\n\r\n").as_bytes());
        assert_eq!(
            (reply.line().as_str(), reply.body.as_str()),
            ("404 draining", "No: draining\n"),
            "{path}"
        );
        assert!(reply.elapsed < AT_ONCE, "{path}: {reply:?}");
    }
}

// --- On every front -----------------------------------------------------------------------------------------------

fn draining_reply() -> String {
    reply("404 draining", "No: draining\n")
}

/// Beside a primary, a standby, and no server.
fn assert_drained_to_the_byte(front: Front) {
    let servers = servers();
    let mut flaws = Vec::new();
    for (column, dsn) in [servers.primary.dsn(), servers.standby.dsn(), servers.down()].iter().enumerate() {
        let switch = Switch::new();
        let running = front.start_with(&[("dsn", dsn), ("drain-file", &switch.text())]);
        let mut expect = |path: &str, method: &str, expected: &str| {
            let received = talk(running.addr(), format!("{method} {path} HTTP/1.0\r\n\r\n"));
            if (received.text().as_str(), received.end) != (expected, End::Fin) {
                flaws.push(format!("{method} {path} of {dsn:?}: expected {expected:?}, got {received:?}"));
            }
        };
        let of_table = |(line, body): (&str, &str)| reply(line, &format!("{body}\n"));
        switch.on();
        for (path, answers) in PATHS {
            match NO_ROLES.contains(path) {
                false => expect(path, "OPTIONS", &draining_reply()),
                true => expect(path, "GET", &of_table(answers[column])),
            }
        }
        expect("*", "OPTIONS", &draining_reply());
        expect("/replica?lag=16MB&replication_state=streaming", "GET", &draining_reply());
        let (head, _) =
            draining_reply().split_once("No: ").map(|(head, _)| (head.to_owned(), ())).expect("a body");
        expect("/primary", "HEAD", &head);
        for path in ["/status", "/metrics"] {
            let received = talk(running.addr(), format!("GET {path} HTTP/1.0\r\n\r\n"));
            if !received.text().starts_with("HTTP/1.1 200 OK\r\n") {
                flaws.push(format!("{path} of {dsn:?}: {received:?}"));
            }
        }
        switch.off();
        let mut expect = |path: &str, expected: &str| {
            let received = talk(running.addr(), format!("GET {path} HTTP/1.0\r\n\r\n"));
            if received.text() != expected {
                flaws.push(format!("{path} of {dsn:?} after the drain: {received:?}"));
            }
        };
        PATHS.iter().for_each(|(path, answers)| expect(path, &of_table(answers[column])));
    }
    flaws.truncate(5);
    assert!(flaws.is_empty(), "{front:?}:\n{}", flaws.join("\n"));
}

#[test]
fn standalone_drains_every_path_about_the_role_and_no_other() {
    assert_drained_to_the_byte(Front::Standalone);
}

#[test]
fn a_socket_of_systemd_drains_every_path_about_the_role_and_no_other() {
    assert_drained_to_the_byte(Front::SystemdSocket);
}

#[test]
fn xinetd_with_a_process_for_each_check_drains_every_path_about_the_role_and_no_other() {
    assert_drained_to_the_byte(Front::XinetdNoWait);
}

#[test]
fn xinetd_with_one_process_for_all_drains_every_path_about_the_role_and_no_other() {
    assert_drained_to_the_byte(Front::XinetdWait);
}

#[test]
fn systemd_with_a_process_for_each_check_drains_every_path_about_the_role_and_no_other() {
    assert_drained_to_the_byte(Front::SystemdAccept);
}

#[test]
fn a_one_shot_check_of_a_draining_node_exits_1_and_names_the_file() {
    let servers = servers();
    let switch = Switch::new();
    switch.on();
    let drain_file = switch.text();
    for (dsn, health) in [(servers.primary.dsn(), 0), (servers.standby.dsn(), 0), (servers.down(), 2)] {
        let check = |target: &str| {
            run(&["--mode=check", "--dsn", &dsn, "--drain-file", &drain_file, "--target", target])
        };
        for target in roles() {
            assert_eq!(
                check(target),
                (1, format!("{drain_file} exists: draining\n"), String::new()),
                "{target}"
            );
        }
        assert_eq!(check("/health").0, health, "{dsn}");
        assert_eq!(check("/liveness").0, 0, "{dsn}");
    }
}

/// A primary, and an agent beside it that has answered and does not drain, with its switch.
fn beside_a_primary() -> (Cluster, Switch, Agent) {
    let primary = Cluster::primary();
    let switch = Switch::new();
    let agent = switch.agent(&primary.dsn());
    assert_eq!(agent.get("/").line(), "200 Primary");
    (primary, switch, agent)
}

/// The agent's session and the postmaster.
fn freeze(primary: &Cluster) -> Vec<Frozen> {
    Frozen::all(primary.backend_pids("pgsqlchk").into_iter().chain([primary.postmaster_pid()]))
}

// --- Whatever PostgreSQL does -------------------------------------------------------------------------------------

#[test]
fn a_draining_node_answers_at_once_whether_postgresql_runs_is_stopped_or_is_frozen() {
    let (primary, switch, agent) = beside_a_primary();
    switch.on();
    assert_drains(&agent);

    let frozen = freeze(&primary);
    assert_drains(&agent);
    assert_eq!(agent.get("/health").status, 503);
    assert_drains(&agent);
    drop(frozen);
    eventually(secs(5), "PostgreSQL is seen again", || agent.get("/health").line() == "200 Primary");
    assert_drains(&agent);

    primary.stop(StopMode::Fast);
    assert_drains(&agent);
    assert_eq!(agent.get("/health").line(), "503 connection-refused");
    switch.off();
    assert_eq!(agent.get("/").line(), "503 connection-refused");
    primary.start();
    assert_eq!(agent.get("/").line(), "200 Primary");
}

/// What others ask must not cost a draining node its 404: with a 503 HAProxy would take it down, and end the sessions
/// that drain.
#[test]
fn a_draining_node_says_so_while_others_wait_for_a_frozen_postgresql() {
    let primary = Cluster::primary();
    let switch = Switch::new();
    let agent = switch.agent(&primary.dsn());
    switch.on();
    assert_eq!(agent.get("/health").line(), "200 Primary");
    let backends = primary.backend_pids("pgsqlchk");
    for (frozen, has_old_knock) in [(backends, false), (vec![primary.postmaster_pid()], true)] {
        let frozen = Frozen::all(frozen);
        if has_old_knock {
            eventually(secs(5), "the last knock is too old", || agent.get("/health").status == 503);
        }
        let others = Stream::start(agent.addr(), &["/health", "/status", "/metrics"]);
        let checks = Stream::start(agent.addr(), &["/", "/replica"]);
        checks.advance(100);
        others.advance(2);
        checks.advance(100);
        let slow = |elapsed: Duration| elapsed >= AT_ONCE;
        for check in checks.finish() {
            assert_eq!(check.line, "404 draining", "{check:?}");
            assert!(!slow(check.ended - check.began), "{check:?}");
        }
        let others = others.finish();
        let waited = others.iter().any(|check| slow(check.ended - check.began));
        assert!(waited, "PostgreSQL was frozen: {others:?}");
        drop(frozen);
        eventually(secs(5), "PostgreSQL is seen again", || agent.get("/health").line() == "200 Primary");
    }
}

/// Once nobody looked for those behind a look that hung and that nobody waited for any more: they got a 503 from an
/// instance that would have answered a new session.
#[test]
fn who_comes_behind_a_look_that_hangs_for_nobody_gets_one_of_its_own() {
    let (primary, switch, agent) = beside_a_primary();
    let _frozen = Frozen::all(primary.backend_pids("pgsqlchk"));
    let mut hanging = waiting_check(agent.addr());
    switch.on();
    assert_eq!(agent.get("/").line(), "404 draining");
    assert_eq!(hanging.receive(PATIENCE).text(), draining_reply());
    let reply = agent.get("/health");
    assert_eq!(reply.line(), "200 Primary", "{reply:?}");
}

/// Once they did not say it where the instance was not seen in time.
#[test]
fn documents_say_whether_the_node_drains_also_of_a_frozen_postgresql() {
    let (primary, switch, agent) = beside_a_primary();
    let _frozen = freeze(&primary);
    let settings = format!("dsn = {}\ndrain-file = {}\ntimeout = 1s\n", primary.dsn(), switch.text());
    let assert_said = |field: &str, sample: &str| {
        let status = agent.get("/status");
        assert!(status.body.contains("\"role\": null") && status.body.contains(field), "{status:?}");
        let metrics = agent.get("/metrics");
        assert!(metrics.body.contains("\npgsqlchk_up 0\n"), "{metrics:?}");
        assert!(metrics.body.contains(sample), "{metrics:?}");
        let (_shot, mut wire) = OneShot::with_client(&[], &settings);
        wire.send("GET /status HTTP/1.1\r\n\r\n");
        let text = wire.receive(PATIENCE).text();
        assert!(text.contains("\"role\": null") && text.contains(field), "{text}");
    };
    assert_said("\"draining\": false", "\npgsqlchk_draining 0\n");
    switch.on();
    assert_said("\"draining\": true", "\npgsqlchk_draining 1\n");
}

#[test]
fn a_draining_node_does_not_ask_postgresql() {
    let primary = Cluster::primary_with(&[("log_connections", "on"), ("log_statement", "all")]);
    let switch = Switch::new();
    let agent = switch.agent(&primary.dsn());
    let asked = || {
        let log = primary.log();
        log.matches("connection received").count() + log.matches("statement: ").count()
    };
    let before = asked();
    assert_eq!(agent.get("/").line(), "200 Primary");
    assert!(asked() > before, "the log shows who asks");
    switch.on();
    assert_drains(&agent);
    let before = asked();
    (0..20).for_each(|_| assert_drains(&agent));
    assert_eq!(asked(), before, "{}", primary.log());
}

/// Each check that begins after the change sees it, each that ended before it does not.
#[test]
fn under_load_every_check_that_begins_after_the_file_came_or_went_sees_it() {
    let primary = Cluster::primary();
    let switch = Switch::new();
    let agent = switch.agent(&primary.dsn());
    let stream = Stream::start(agent.addr(), &["/", "/primary", "/read-only", "/health"]);
    stream.advance(20);
    // When the file was certainly there, and certainly not; between them anything goes.
    let (mut draining, mut plain) = (Vec::new(), Vec::new());
    let mut since = Instant::now();
    for _ in 0..10 {
        plain.push((since, Instant::now()));
        switch.on();
        since = Instant::now();
        stream.advance(10);
        draining.push((since, Instant::now()));
        switch.off();
        since = Instant::now();
        stream.advance(10);
    }
    let within = |spans: &[(Instant, Instant)], began, ended| {
        spans.iter().any(|(from, to)| *from <= began && ended <= *to)
    };
    let (mut seen_draining, mut seen_plain) = (0, 0);
    for check in stream.finish() {
        if check.path == "/health" {
            assert_eq!(check.line, "200 Primary", "{check:?}");
        } else if within(&draining, check.began, check.ended) {
            assert_eq!(check.line, "404 draining", "{check:?}");
            seen_draining += 1;
        } else if within(&plain, check.began, check.ended) {
            assert_eq!(check.line, "200 Primary", "{check:?}");
            seen_plain += 1;
        } else {
            assert!(["404 draining", "200 Primary"].contains(&check.line.as_str()), "{check:?}");
        }
    }
    assert!(seen_draining > 100 && seen_plain > 100, "{seen_draining} and {seen_plain} checks");
}

#[test]
fn the_log_has_one_line_per_change_however_many_checks_see_it() {
    let primary = Cluster::primary();
    let switch = Switch::new();
    let mut agent = switch.agent(&primary.dsn());
    for _ in 0..2 {
        switch.on();
        assert_drains(&agent);
        switch.off();
        (0..5).for_each(|_| assert_eq!(agent.get("/").line(), "200 Primary"));
    }
    agent.terminate();
    let log = agent.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("drain")).collect();
    assert_eq!(lines.len(), 4, "{log}");
    assert!(lines[0].contains("INFO") && lines[0].ends_with("draining: the drain file exists"), "{log}");
    assert!(lines[1].ends_with("draining no more"), "{log}");
}

// --- What the file is, and whether it can be seen -----------------------------------------------------------------

#[test]
fn anything_of_that_name_drains() {
    let servers = servers();
    let switch = Switch::new();
    let agent = switch.agent(&servers.primary.dsn());
    let path = switch.path();
    let things: [(&str, &dyn Fn()); 5] = [
        ("a file nobody may read", &|| {
            switch.on();
            fs::set_permissions(&path, Permissions::from_mode(0o000)).expect("chmod");
        }),
        ("a FIFO", &|| drop(support::postgresql::run(Command::new("mkfifo").arg(&path)))),
        ("a folder", &|| fs::create_dir(&path).expect("mkdir")),
        ("a link to nothing", &|| symlink("/nonexistent/nothing", &path).expect("ln -s")),
        ("a link to itself", &|| symlink(&path, &path).expect("ln -s")),
    ];
    for (what, make) in things {
        assert_eq!(agent.get("/").line(), "200 Primary", "before {what}");
        make();
        let reply = agent.get("/");
        assert_eq!(reply.line(), "404 draining", "{what}");
        assert!(reply.elapsed < AT_ONCE, "{what}: {reply:?}");
        assert_eq!(switch_with("drain", &path).0, 0, "{what}: drains already");
        fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).expect("remove it");
    }
}

#[test]
fn a_drain_file_that_cannot_be_looked_for_is_503_with_one_line_in_the_log() {
    let servers = servers();
    let switch = Switch::new();
    let mut agent = Agent::start_under(without_privileges(), |command| {
        command.args(["--dsn", &servers.primary.dsn(), "--drain-file", &switch.text()]);
    });
    for round in 1..=2 {
        assert_eq!(agent.get("/").line(), "200 Primary");
        chmod(&switch.folder, 0o600);
        for path in roles() {
            let received = talk(agent.addr(), format!("OPTIONS {path} HTTP/1.0\r\n\r\n"));
            assert_eq!(received.text(), reply("503 drain-unknown", "Down: drain-unknown\n"), "{path}");
        }
        assert_eq!(agent.get("/health").line(), "200 Primary");
        assert_eq!(agent.get("/liveness").line(), "200 Alive");
        chmod(&switch.folder, 0o755);
        assert_eq!(agent.get("/").line(), "200 Primary", "round {round}");
    }
    agent.terminate();
    let log = agent.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(&switch.text())).collect();
    assert_eq!(lines.len(), 4, "one where it begins, one where it ends, twice: {log}");
    assert!(lines[0].contains("WARN") && lines[0].contains("cannot look for the drain file"), "{log}");
    assert!(lines[1].contains("INFO"), "{log}");
}

#[test]
fn a_process_per_check_that_cannot_look_for_the_drain_file_says_503_and_logs_nothing() {
    let servers = servers();
    let switch = Switch::new();
    chmod(&switch.folder, 0o600);
    let syslog = Syslog::start();
    let mut wrapper = syslog.wrapper();
    wrapper.extend(without_privileges().iter().map(|word| (*word).to_owned()));
    let settings = format!("{}drain-file = {}\n", servers.settings(), switch.text());
    let (mut agent, mut wire) = OneShot::with_client(&wrapper, &settings);
    wire.send("OPTIONS / HTTP/1.0\r\n\r\n");
    let received = wire.receive(PATIENCE);
    assert_eq!(received.text(), reply("503 drain-unknown", "Down: drain-unknown\n"));
    assert_eq!(agent.wait().code(), Some(0));
    assert_eq!(syslog.lines(), [""; 0]);
}

#[test]
fn a_one_shot_check_that_cannot_look_for_the_drain_file_exits_2_and_says_what_to_type() {
    let servers = servers();
    let switch = Switch::new();
    chmod(&switch.folder, 0o600);
    let dsn = servers.primary.dsn();
    let arguments = ["--mode=check", "--dsn", &dsn, "--drain-file", &switch.text()];
    let (code, line, error) = run_under(without_privileges(), &arguments);
    assert_eq!((code, error.as_str()), (2, ""), "{line}");
    assert!(line.starts_with("primary timeline 1: drain-unknown: cannot look for "), "{line}");
    assert!(
        line.contains(&switch.text()) && line.contains("chmod o+x") && line.lines().count() == 1,
        "{line}"
    );
}

// --- HAProxy ------------------------------------------------------------------------------------------------------

/// With disable-on-404 it is packaging/examples/drain.cfg that is tested, in tests/examples.rs.
#[test]
fn without_disable_on_404_the_server_of_a_draining_node_goes_down_and_loses_its_sessions() {
    let primary = Cluster::primary();
    let switch = Switch::new();
    let agent = switch.agent(&primary.dsn());
    let port = free_port();
    let haproxy = Haproxy::start(&format!(
        "listen ReadWrite\n    bind 127.0.0.1:{port}\n    option httpchk\n    http-check expect status 200\n    \
         server a 127.0.0.1:{} check port {} inter 200ms fall 2 rise 1 on-marked-down shutdown-sessions\n",
        primary.port(),
        agent.addr().port()
    ));
    let is = |status: &str, code: &str, words: &str| {
        eventually(secs(8), &format!("HAProxy sees {status} {code} {words}"), || {
            let state = haproxy.server("ReadWrite", "a");
            [state.status, state.check_code, state.last_chk] == [status, code, words]
        });
    };
    is("UP", "200", "");
    let dsn = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
    let mut session = postgres::Client::connect(&dsn, postgres::NoTls).expect("a session through HAProxy");
    assert_eq!(switch_with("drain", &switch.path()).0, 0);
    is("DOWN", "404", "draining");
    assert_shut(&mut session);
    assert_eq!(switch_with("undrain", &switch.path()).0, 0);
    is("UP", "200", "");
}
