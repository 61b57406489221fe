//! What everybody's new clients meet is the agent's answer, although its old session would still say otherwise. The judge
//! is a fresh psql in the same moment.
//!
//! Each was seen: the agent said 200 for as long as it was watched, while a fresh agent said 503 for the same server.

mod support;

use std::thread;
use std::time::Instant;

use support::new_clients::{
    LOGIN_INTERVAL, SOON, agent_with, assert_becomes, assert_every_path, assert_refused, assert_stays,
    errand, primary, primary_with, status, timely,
};
use support::patience::{SLACK, TIMEOUT};
use support::prometheus::Page;
use support::{Agent, Cluster, Signal, StopMode, Stream, agent_check, eventually, millis, secs, signal};

/// The agent's sessions, as a session sees them that was open before new ones were refused.
fn sessions(witness: &mut postgres::Client) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgsqlchk'";
    witness.query_one(sql, &[]).expect("the witness's query").get(0)
}

/// HAProxy had sent 5 of 5 writes to it, all of which failed, and the agent's own session was what kept the postmaster
/// from ending.
#[test]
fn a_smart_shutdown_is_shutting_down_on_every_path_and_ends_although_checks_go_on() {
    let primary = primary();
    let standby = Cluster::standby_of(&primary);
    for (cluster, up) in [(&standby, "206 Standby"), (&primary, "200 Primary")] {
        let agent = agent_with(&cluster.dsn_of("pgsqlchk"), &agent_check::AGENT_LISTEN);
        assert_eq!(timely(&agent, "/"), up);
        let mut client = cluster.connect();
        signal(cluster.postmaster_pid(), Signal::TERM);
        eventually(secs(5), "new clients are refused", || errand(&cluster.dsn_of("app")).is_err());
        assert_refused(&cluster.dsn_of("app"), "the database system is shutting down");
        assert_becomes(&agent, "503 shutting-down");
        assert_every_path(&agent, "503 shutting-down");
        assert_eq!(agent_check::ask(&agent, "/health"), "down #shutting-down\n");
        assert_eq!(Page::of(&agent).value("pgsqlchk_up"), 0.0);
        assert_eq!(status(&agent)["reason"], "shutting-down");
        eventually(secs(2), "the agent lets go of its session", || sessions(&mut client) == 0);

        let stream = Stream::start(agent.addr(), &["/", "/health"]);
        stream.advance(5);
        drop(client);
        eventually(secs(10), "the server ends under checks when its last client has left", || {
            cluster.has_ended()
        });
        let checks = stream.finish();
        for line in checks.iter().map(|check| check.line.as_str()) {
            assert!(
                ["503 shutting-down", "503 connection-refused", "503 connection-lost"].contains(&line),
                "{line}"
            );
        }
        assert_eq!(timely(&agent, "/"), "503 connection-refused");
        cluster.start();
        assert_becomes(&agent, up);
    }
}

/// The same with what an agent is told when it is told nothing.
#[test]
fn with_every_default_a_smart_shutdown_is_seen_within_two_seconds_and_a_check() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    assert_eq!(agent.get("/").line(), "200 Primary");
    let _client = primary.connect();
    signal(primary.postmaster_pid(), Signal::TERM);
    eventually(secs(5), "new clients are refused", || errand(&primary.dsn()).is_err());
    eventually(secs(2) + secs(2) + SLACK, "the agent says so", || {
        agent.get("/").line() == "503 shutting-down"
    });
}

#[test]
fn a_library_that_no_session_can_load_is_login_failed_until_it_can() {
    let primary = primary();
    let standby = Cluster::standby_of(&primary);
    let tcp = primary.tcp_dsn().replace("user=postgres", "user=pgsqlchk");
    let sites = [(&standby, standby.dsn_of("pgsqlchk"), "206 Standby"), (&primary, tcp, "200 Primary")];
    for (cluster, dsn, up) in sites {
        let agent = agent_with(&dsn, &agent_check::AGENT_LISTEN);
        assert_eq!(timely(&agent, "/"), up);
        cluster.configure(&[("session_preload_libraries", "no_such_library")]);
        assert_refused(&cluster.dsn_of("app"), "could not access file \"no_such_library\"");
        assert_becomes(&agent, "503 login-failed");
        assert_every_path(&agent, "503 login-failed");
        assert_eq!(agent_check::ask(&agent, "/health"), "down #login-failed\n");
        assert_eq!(Page::of(&agent).value("pgsqlchk_up"), 0.0);
        agent.wait_for_log("no_such_library");
        cluster.configure(&[("session_preload_libraries", "")]);
        errand(&cluster.dsn_of("app")).expect("new clients get in again");
        assert_becomes(&agent, up);
    }
}

#[test]
fn a_database_that_lets_nobody_in_is_login_failed_until_it_does() {
    let primary = primary();
    primary.psql("CREATE DATABASE checks");
    let dsn = primary.dsn_of("pgsqlchk").replace("dbname=postgres", "dbname=checks");
    let agent = agent_with(&dsn, &[]);
    assert_eq!(timely(&agent, "/"), "200 Primary");
    primary.psql("ALTER DATABASE checks ALLOW_CONNECTIONS false");
    assert_refused(&dsn, "not currently accepting connections");
    assert_becomes(&agent, "503 login-failed");
    primary.psql("ALTER DATABASE checks ALLOW_CONNECTIONS true");
    assert_becomes(&agent, "200 Primary");
}

#[test]
fn a_database_that_is_gone_is_database_missing() {
    let primary = primary();
    primary.psql("CREATE DATABASE checks");
    let dsn = primary.dsn_of("pgsqlchk").replace("dbname=postgres", "dbname=checks");
    let agent = agent_with(&dsn, &[]);
    assert_eq!(timely(&agent, "/"), "200 Primary");
    // It goes on under another name, and the session in it stays.
    primary.psql("UPDATE pg_database SET datname = 'other' WHERE datname = 'checks'");
    assert_refused(&dsn, "does not exist");
    assert_becomes(&agent, "503 database-missing");
    primary.psql("UPDATE pg_database SET datname = 'checks' WHERE datname = 'other'");
    assert_becomes(&agent, "200 Primary");
}

/// Whoever logs in waits, and a client with an old session works on.
#[test]
fn logins_that_hang_are_503_in_time_and_200_again_when_they_do_not() {
    let primary = primary();
    let agent = agent_with(&primary.dsn_of("pgsqlchk"), &[]);
    assert_eq!(timely(&agent, "/"), "200 Primary");
    let mut owner = primary.connect();
    owner.batch_execute("BEGIN; LOCK TABLE pg_authid IN ACCESS EXCLUSIVE MODE").expect("lock");
    assert_refused(&primary.dsn_of("app"), "timeout expired");
    assert_becomes(&agent, "503 deadline-passed");
    owner.batch_execute("COMMIT").expect("unlock");
    errand(&primary.dsn_of("app")).expect("new clients get in again");
    eventually(TIMEOUT + SLACK, "the agent is right again", || timely(&agent, "/") == "200 Primary");
    assert_stays(&agent, "200 Primary");
    eventually(secs(5), "the logins that hung leave no session", || sessions(&mut owner) == 1);
}

/// Slow for everybody, but not too slow: `pre_auth_delay` is there to make a login last.
#[test]
fn a_check_waits_for_a_slow_login_but_never_beyond_its_deadline() {
    let primary = primary();
    let dsn = primary.dsn_of("pgsqlchk");
    let pace = ["--timeout", "3s", "--knock-interval", "0", "--login-interval", "500ms"];
    let agent = Agent::start(&[&["--dsn", dsn.as_str()], &pace[..]].concat());
    assert_eq!(agent.get("/").line(), "200 Primary");
    primary.configure(&[("pre_auth_delay", "1")]);
    let stream = Stream::start(agent.addr(), &["/", "/health", "/read-write"]);
    stream.advance(8);
    for check in stream.finish() {
        assert_eq!(check.line, "200 Primary", "{check:?}");
        assert!(check.ended - check.began < secs(3) + SLACK, "{check:?}");
    }
    primary.configure(&[("pre_auth_delay", "10")]);
    eventually(SOON + secs(3), "a login that takes too long is the answer", || {
        let reply = agent.get("/");
        assert!(reply.elapsed < secs(3) + SLACK, "{reply:?}");
        reply.line() == "503 deadline-passed"
    });
    primary.configure(&[("pre_auth_delay", "0")]);
    eventually(secs(3) + SLACK, "the agent is right again", || agent.get("/").line() == "200 Primary");
}

#[test]
fn with_login_interval_0_it_is_the_old_session_that_answers() {
    let primary = primary_with(&[("log_connections", "on")]);
    let pace = ["--timeout", "1s", "--knock-interval", "100ms", "--login-interval", "0"];
    let dsn = primary.dsn_of("pgsqlchk");
    let agent = Agent::start(&[&["--dsn", dsn.as_str()], &pace[..]].concat());
    assert_eq!(timely(&agent, "/"), "200 Primary");
    primary.configure(&[("session_preload_libraries", "no_such_library")]);
    assert_refused(&primary.dsn_of("app"), "no_such_library");
    assert_stays(&agent, "200 Primary");
    assert_eq!(logins(&primary), 1);
}

/// How many logins of the agent's the server has let in (`log_connections`).
fn logins(cluster: &Cluster) -> usize {
    let log = cluster.log();
    let authorized = log.lines().filter(|line| line.contains("connection authorized"));
    authorized.filter(|line| line.contains("application_name=pgsqlchk")).count()
}

#[test]
fn a_session_is_replaced_at_most_once_per_interval_and_never_without_a_check() {
    let primary = primary_with(&[("log_connections", "on")]);
    let agent = agent_with(&primary.dsn_of("pgsqlchk"), &[]);
    let began = Instant::now();
    let mut witness = primary.connect();
    let stream = Stream::start(agent.addr(), &["/", "/read-write", "/status", "/replica"]);
    let (mut looks, mut looks_at_two) = (0, 0);
    while began.elapsed() < LOGIN_INTERVAL * 8 {
        let now = sessions(&mut witness);
        assert!(now <= 2, "{now} sessions of the agent at once");
        looks += 1;
        looks_at_two += i32::from(now == 2);
        thread::sleep(millis(2));
    }
    let checks = stream.finish();
    let most = began.elapsed().as_millis() / LOGIN_INTERVAL.as_millis() + 2;
    assert!(checks.iter().all(|check| check.ended - check.began < TIMEOUT + SLACK), "none was late");
    assert!(checks.iter().all(|check| check.line.starts_with("200 ") || check.path == "/replica"));
    let made = logins(&primary);
    assert!(made >= 4 && made as u128 <= most, "{made} logins, {most} at most");
    assert!(looks_at_two < looks / 4, "two sessions in {looks_at_two} of {looks} looks");
    eventually(secs(2), "one session remains", || sessions(&mut witness) == 1);

    let before = logins(&primary);
    let idle = Instant::now();
    while idle.elapsed() < LOGIN_INTERVAL * 3 {
        assert_eq!(agent.get("/liveness").line(), "200 Alive");
        thread::sleep(millis(20));
    }
    assert_eq!(logins(&primary), before, "nobody asked about PostgreSQL");
    assert_eq!(timely(&agent, "/"), "200 Primary");
    assert_eq!(logins(&primary), before + 1, "the first to ask has a fresh login");
}

/// An ordinary stop, for comparison: nothing of the above makes it slower.
#[test]
fn a_fast_shutdown_is_seen_by_the_next_check() {
    let primary = primary();
    let agent = agent_with(&primary.dsn_of("pgsqlchk"), &[]);
    for _ in 0..2 {
        assert_becomes(&agent, "200 Primary");
        primary.stop(StopMode::Fast);
        assert_eq!(timely(&agent, "/"), "503 connection-refused");
        primary.start();
    }
}
