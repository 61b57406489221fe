//! Reasons that were wrong, and lines in logs that nobody needed.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::new_clients::{
    agent_with, assert_becomes, assert_every_path, log_lines, log_since, primary, timely,
};
use support::patience::SLACK;
use support::{Agent, Cluster, Signal, Stream, eventually, millis, secs, signal};

/// How often a server's log has said this.
fn count(cluster: &Cluster, word: &str) -> usize {
    cluster.log().lines().filter(|line| line.contains(word)).count()
}

/// Every path was 503 `query-failed`, with four lines in the server's log per check, while clients read well.
#[test]
fn a_standby_whose_transactions_are_serializable_by_default_is_a_standby() {
    let primary = primary();
    let standby = Cluster::standby_of(&primary);
    // So that there is an age of what it has replayed.
    primary.psql("CREATE TABLE something ()");
    let has_replayed = "SELECT pg_last_xact_replay_timestamp() IS NOT NULL";
    eventually(secs(20), "the standby has replayed a commit", || standby.psql(has_replayed) == "t");
    let dsn = standby.dsn_of("pgsqlchk");
    let agent = agent_with(&dsn, &[]);
    for level in ["serializable", "repeatable read", "read uncommitted"] {
        standby.configure(&[("default_transaction_isolation", level)]);
        let before = count(&standby, "ERROR");
        // For longer than a session lasts.
        assert_becomes(&agent, "206 Standby");
        for (path, line) in [
            ("/replica", "200 Standby"),
            ("/replica?lag=1GB&lag_time=1d&replication_state=streaming", "200 Standby"),
            ("/read-only", "200 Standby"),
            ("/primary", "503 in-recovery"),
            ("/read-write", "503 in-recovery"),
            ("/health", "200 Standby"),
            ("/status", "200 OK"),
        ] {
            assert_eq!(timely(&agent, path), line, "{path}, {level}");
        }
        let check = support::one_check::OneCheck::run(&dsn, &["--target", "/replica"]);
        assert_eq!((check.code, check.line.as_str()), (0, "standby timeline 1"), "{level}");
        assert_eq!(count(&standby, "ERROR"), before, "{level}: {}", standby.log());
    }
    standby.configure(&[("default_transaction_isolation", "read committed")]);

    // The role's own, which comes from the primary.
    primary.psql("ALTER ROLE pgsqlchk SET default_transaction_isolation = 'serializable'");
    let has_it = "SELECT count(*) FROM pg_db_role_setting WHERE setconfig::text ~ 'serializable'";
    eventually(secs(10), "the standby has it", || standby.psql(has_it) == "1");
    let before = count(&standby, "ERROR");
    assert_becomes(&agent, "206 Standby");
    assert_becomes(&agent_with(&dsn, &[]), "206 Standby");
    assert_eq!(count(&standby, "ERROR"), before, "{}", standby.log());
}

/// The answers of an agent while an administrator's session does this to its sessions every millisecond.
fn answers_under(
    cluster: &Cluster,
    agent: &Agent,
    function: &str,
    lasts: Duration,
) -> Vec<(String, Duration)> {
    let is_over = AtomicBool::new(false);
    let mut administrator = cluster.connect();
    let sql = format!("SELECT {function}(pid) FROM pg_stat_activity WHERE application_name = 'pgsqlchk'");
    let mut answers = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            let began = Instant::now();
            while !is_over.load(Ordering::SeqCst) && began.elapsed() < lasts * 4 {
                administrator.simple_query(&sql).expect("the administrator's query");
                thread::sleep(millis(1));
            }
        });
        let began = Instant::now();
        while began.elapsed() < lasts {
            let reply = agent.get("/");
            answers.push((reply.line(), reply.elapsed));
            thread::sleep(millis(10));
        }
        is_over.store(true, Ordering::SeqCst);
    });
    assert!(answers.len() >= 3, "only {} answers", answers.len());
    answers
}

/// How many say this; all others have to say `otherwise`.
#[track_caller]
fn share(answers: &[(String, Duration)], line: &str, otherwise: &[&str]) -> f64 {
    let others = answers.iter().filter(|(own, _)| own != line);
    for (own, elapsed) in others {
        assert!(otherwise.contains(&own.as_str()), "{own} after {elapsed:?}");
    }
    let count = answers.iter().filter(|(own, _)| own == line).count();
    f64::from(u32::try_from(count).expect("few")) / f64::from(u32::try_from(answers.len()).expect("few"))
}

/// It was `deadline-passed` after 16 ms, 283 times of 303.
#[test]
fn a_canceled_query_is_asked_again_and_is_never_a_deadline() {
    let primary = primary();
    for dsn in [primary.dsn_of("pgsqlchk"), primary.tcp_dsn()] {
        let agent = agent_with(&dsn, &[]);
        assert_eq!(timely(&agent, "/"), "200 Primary");
        let answers = answers_under(&primary, &agent, "pg_cancel_backend", secs(4));
        let good = share(&answers, "200 Primary", &["503 query-canceled"]);
        assert!(good > 0.8, "{good} of {} checks are answered", answers.len());
        assert_becomes(&agent, "200 Primary");
    }
}

/// It was `shutting-down` 98 times of 146, and 70 lines in the agent's log.
#[test]
fn a_session_that_is_terminated_again_and_again_is_no_shutdown_and_fills_no_log() {
    let primary = primary();
    for dsn in [primary.dsn_of("pgsqlchk"), primary.tcp_dsn()] {
        let agent = agent_with(&dsn, &[]);
        assert_eq!(timely(&agent, "/"), "200 Primary");
        let lines = log_lines(&agent);
        let answers = answers_under(&primary, &agent, "pg_terminate_backend", secs(4));
        // Whoever is about to ask may find the connection closed before the server's word has come.
        share(&answers, "200 Primary", &["503 session-terminated", "503 connection-lost"]);
        let said = log_since(&agent, lines);
        assert!(said.len() <= 12, "{} lines: {said:#?}", said.len());
        assert!(!said.concat().contains("shutting-down"), "{said:#?}");
        assert_becomes(&agent, "200 Primary");
    }
}

/// Once is nothing: the check that meets it has a new session.
#[test]
fn a_session_that_is_terminated_once_costs_no_check_and_no_line() {
    let primary = primary();
    let agent = agent_with(&primary.dsn_of("pgsqlchk"), &[]);
    assert_eq!(timely(&agent, "/"), "200 Primary");
    let lines = log_lines(&agent);
    for _ in 0..5 {
        primary.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgsqlchk'",
        );
        assert_eq!(timely(&agent, "/"), "200 Primary");
    }
    assert_becomes(&agent, "200 Primary");
    assert_eq!(log_since(&agent, lines), Vec::<String>::new());
}

/// The other way round: what ends a session there is a shutdown.
#[test]
fn a_fast_shutdown_that_waits_is_shutting_down_and_not_a_terminated_session() {
    let primary = primary();
    let agent = agent_with(&primary.dsn_of("pgsqlchk"), &[]);
    assert_eq!(timely(&agent, "/"), "200 Primary");
    // A process that does not hear the signal keeps the server in its shutdown.
    let client = primary.connect();
    let deaf = support::Frozen::new(primary.backend_pids("witness")[0]);
    signal(primary.postmaster_pid(), Signal::INT);
    eventually(secs(5), "the fast shutdown began", || count(&primary, "received fast shutdown request") == 1);
    assert_becomes(&agent, "503 shutting-down");
    assert_every_path(&agent, "503 shutting-down");
    deaf.thaw();
    drop(client);
    eventually(secs(10), "the server ends", || primary.has_ended());
}

/// One FATAL per check, and a login for each, where checks are farther apart than the server lets a session idle.
#[test]
fn a_server_that_ends_idle_sessions_does_not_end_the_agents() {
    let primary = primary();
    primary.configure(&[("idle_session_timeout", "100ms")]);
    primary.psql("ALTER ROLE app SET idle_session_timeout = '150ms'");
    let tcp = |role| primary.tcp_dsn().replace("user=postgres", &format!("user={role}"));
    for dsn in [primary.dsn_of("pgsqlchk"), tcp("pgsqlchk"), primary.dsn_of("app")] {
        let agent = Agent::start(&["--dsn", &dsn, "--timeout", "1s", "--knock-interval", "100ms"]);
        // What it finds out about the server at first may cost a session. The pauses are those between two checks.
        assert_eq!(timely(&agent, "/"), "200 Primary");
        thread::sleep(millis(300));
        assert_eq!(timely(&agent, "/"), "200 Primary");
        let before = count(&primary, "FATAL");
        for _ in 0..12 {
            thread::sleep(millis(300));
            assert_eq!(timely(&agent, "/"), "200 Primary");
        }
        assert_eq!(count(&primary, "FATAL"), before, "{dsn}: {}", primary.log());
    }
}

/// Many at once during cancels: each keeps its deadline.
#[test]
fn under_cancels_no_check_is_late() {
    let primary = primary();
    let agent = agent_with(&primary.dsn_of("pgsqlchk"), &[]);
    let stream = Stream::start(agent.addr(), &["/", "/read-write", "/health", "/primary"]);
    answers_under(&primary, &agent, "pg_cancel_backend", secs(2));
    for check in stream.finish() {
        assert!(["200 Primary", "503 query-canceled"].contains(&check.line.as_str()), "{check:?}");
        assert!(check.ended - check.began < secs(1) + SLACK, "{check:?}");
    }
}
