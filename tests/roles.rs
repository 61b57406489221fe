//! What the agent says about a real primary, a real standby and about nothing at all, what it costs PostgreSQL
//! and what it writes to its log.

mod support;

use std::fs;
use std::thread;
use std::time::Duration;

use support::table::PATHS;
use support::wire::reply;
use support::{Agent, Cluster, StopMode, eventually, millis, secs};

/// Compares every byte of every path's reply with one column of the table.
#[track_caller]
fn assert_column(agent: &Agent, column: usize) {
    assert_rows(agent, column, |_| true);
}

/// The same for some of the paths.
#[track_caller]
fn assert_rows(agent: &Agent, column: usize, wanted: fn(&str) -> bool) {
    for (path, answers) in PATHS.iter().filter(|(path, _)| wanted(path)) {
        let (line, body) = answers[column];
        let expected = reply(line, &format!("{body}\n"));
        assert_eq!(String::from_utf8_lossy(&agent.get(path).raw), expected, "{path}");
    }
    let asterisk = agent.ask(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(asterisk.line(), PATHS[0].1[column].0, "OPTIONS *");
    for path in ["/nothing", "/Primary", "/primary/x", "/metric"] {
        assert_eq!(agent.get(path).line(), "404 Not Found", "{path}");
    }
}

#[test]
fn every_path_answers_as_the_table_says_on_a_primary_and_when_it_was_stopped() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    assert_column(&agent, 0);
    primary.stop(StopMode::Fast);
    assert_column(&agent, 2);
}

#[test]
fn every_path_answers_as_the_table_says_on_a_standby() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let agent = Agent::start(&["--dsn", &standby.dsn()]);
    assert_column(&agent, 1);
    // Over TCP and without its primary it is what it was, but for the path that asks whether it streams.
    primary.stop(StopMode::Immediate);
    let agent = Agent::start(&["--dsn", &standby.tcp_dsn()]);
    eventually(secs(20), "it streams no more", || {
        agent.get("/standby-leader").line() == "503 no-wal-receiver"
    });
    assert_rows(&agent, 1, |path| !path.starts_with("/standby"));
}

#[test]
fn an_agent_started_before_postgresql_answers_as_the_table_says() {
    let primary = Cluster::stopped(&[]);
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    assert_column(&agent, 2);
    primary.start();
    assert_column(&agent, 0);
}

#[test]
fn read_write_follows_default_transaction_read_only_without_a_restart() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    assert_eq!(agent.get("/read-write").line(), "200 Primary");
    for _ in 0..2 {
        primary.configure(&[("default_transaction_read_only", "on")]);
        assert_eq!(primary.psql("SHOW transaction_read_only"), "on");
        let reply = agent.get("/read-write");
        assert_eq!((reply.line().as_str(), reply.body.as_str()), ("503 read-only", "No: read-only\n"));
        // It is a primary all the same, and readable.
        for path in ["/", "/primary", "/read-only", "/health"] {
            assert_eq!(agent.get(path).line(), "200 Primary", "{path}");
        }
        primary.configure(&[("default_transaction_read_only", "off")]);
        assert_eq!(primary.psql("SHOW transaction_read_only"), "off");
        assert_eq!(agent.get("/read-write").line(), "200 Primary");
    }
}

#[test]
fn many_checks_at_once_cost_one_postgresql_session() {
    let primary = Cluster::primary_with(&[("log_connections", "on")]);
    // However long it takes, nobody has to log in anew.
    let agent = Agent::start(&["--dsn", &primary.dsn(), "--login-interval", "0"]);
    let mut witness = primary.connect();
    let mut most = 0_i64;
    thread::scope(|scope| {
        let checkers: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| (0..50).all(|_| agent.get("/").line() == "200 Primary")))
            .collect();
        while !checkers.iter().all(|checker| checker.is_finished()) {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgsqlchk'";
            most = most.max(witness.query_one(sql, &[]).expect("the witness's query").get(0));
        }
        assert!(
            checkers.into_iter().all(|checker| checker.join().expect("a checker")),
            "all are 200 Primary"
        );
    });
    assert_eq!(most, 1, "sessions of the agent in pg_stat_activity");
    let log = primary.log();
    let logins = log.lines().filter(|line| line.contains("connection authorized"));
    assert_eq!(logins.filter(|line| line.contains("application_name=pgsqlchk")).count(), 1, "logins");
}

#[test]
fn the_session_is_read_only_named_pgsqlchk_and_has_a_statement_timeout() {
    let primary = Cluster::primary();
    let setting = |name: &str| format!("current_setting('{name}')");
    let settings = ["application_name", "transaction_read_only", "statement_timeout"].map(setting).join(", ");
    primary.replace_pg_is_in_recovery(&format!("RAISE LOG 'seen: % % %;', {settings}"));
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    assert_eq!(agent.get("/").line(), "200 Primary");
    let log = primary.log();
    let seen = log
        .split_once("seen: ")
        .and_then(|(_, rest)| rest.split_once(';'))
        .expect("a line of the function")
        .0;
    let seen: Vec<&str> = seen.split(' ').collect();
    assert_eq!(seen[..2], ["pgsqlchk", "on"], "application_name and transaction_read_only");
    assert_ne!(seen[2], "0", "statement_timeout");
}

#[test]
fn a_query_that_never_ends_is_given_up_in_time_here_and_in_postgresql() {
    let primary = Cluster::primary();
    primary.replace_pg_is_in_recovery("PERFORM pg_sleep(3600)");
    let agent = Agent::start(&["--dsn", &primary.dsn(), "--timeout", "1s"]);
    let reply = agent.get("/");
    assert!(["503 deadline-passed", "503 query-failed"].contains(&reply.line().as_str()), "{reply:?}");
    assert!(reply.elapsed < secs(2), "{reply:?}");
    // Left alone it is over soon: PostgreSQL cancels it, no hour of sleep goes on.
    let active = "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'pg_is_in_recovery' AND state = 'active' \
                  AND pid <> pg_backend_pid()";
    eventually(secs(5), "no query of the agent is left behind", || primary.psql(active) == "0");
    primary.psql("CREATE OR REPLACE FUNCTION pg_catalog.pg_is_in_recovery() RETURNS boolean LANGUAGE sql AS 'SELECT false'");
    eventually(secs(5), "the agent is right again", || agent.get("/").line() == "200 Primary");
}

/// The agent's log without time and level.
fn messages(agent: &Agent) -> Vec<String> {
    let log = agent.log();
    let message = |line: &str| line.split_once("[pgsqlchk] ").expect("a log line").1.to_owned();
    log.lines().map(message).collect()
}

#[test]
fn only_changes_are_logged_a_thousand_failing_checks_are_one_line() {
    let primary = Cluster::primary();
    let mut agent = Agent::start(&["--dsn", &primary.dsn()]);
    let ask_often = |status: u16| {
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..125).for_each(|_| assert_eq!(agent.get("/").status, status)));
            }
        });
    };
    ask_often(200);
    primary.stop(StopMode::Fast);
    ask_often(503);
    primary.start();
    ask_often(200);
    for request in ["GET /nothing HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\n\r\n", "junk\r\n\r\n"] {
        assert!(agent.ask(request.as_bytes()).status >= 400);
    }
    assert!(agent.terminate().success(), "exit 0 after SIGTERM");
    let messages = messages(&agent);
    assert_eq!(messages.len(), 5, "{messages:#?}");
    assert!(messages[0].starts_with("listening on 127.0.0.1:"), "{}", messages[0]);
    assert_eq!(messages[1], "unknown -> primary");
    assert!(messages[2].starts_with("primary -> unavailable (connection-refused) after "), "{}", messages[2]);
    assert!(messages[2].contains(" s: "), "the cause is named: {}", messages[2]);
    assert!(messages[3].starts_with("unavailable (connection-refused) -> primary after "), "{}", messages[3]);
    assert!(messages[3].ends_with(" s"), "{}", messages[3]);
    assert_eq!(messages[4], "stopping (SIGTERM)");
}

/// A path that was cut at the agent's side only left a session in the server that nobody used, for the two hours of the
/// system's keepalive; and each cut one more, until no connection was left. Where it was the server's end that went, once
/// it had acknowledged a question, the agent waited for the answer as long; and once that had been five times, it said of a
/// healthy server that its deadline had passed. Seen from either end, the next sign of life of an idle session is due
/// within seconds.
#[test]
fn a_session_over_tcp_is_one_that_both_ends_give_up_soon_after_its_path_was_cut() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.tcp_dsn()]);
    assert_eq!(agent.get("/").line(), "200 Primary");
    // None while an acknowledgement is under way.
    for (end, column) in [("server", 1), ("agent", 2)] {
        eventually(secs(5), &format!("the {end}'s next probe is due within 5 s"), || {
            let timers = keepalive_timers(column, primary.port());
            matches!(timers[..], [Some(due)] if due <= secs(5))
        });
    }
}

/// When the keepalive timers of the connections with this port in that column (1 is the local one, 2 the other end's) will
/// fire; `None` for a connection without one (proc(5), `/proc/net/tcp`: timer 2, in hundredths of a second).
fn keepalive_timers(column: usize, port: u16) -> Vec<Option<Duration>> {
    let table = fs::read_to_string("/proc/net/tcp").expect("read /proc/net/tcp");
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let address = format!("0100007F:{port:04X}");
    rows.filter(|row| row[column] == address && row[3] == "01")
        .map(|row| {
            let due = row[5].strip_prefix("02:")?;
            Some(millis(10 * u64::from_str_radix(due, 16).expect("a number")))
        })
        .collect()
}
