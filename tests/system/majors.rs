//! Every major version of PostgreSQL that is supported: a primary, a standby that streams from it, and an agent beside
//! each of them that is a role with nothing but LOGIN.

mod log_lines;
mod programs;
mod replay;
mod server;
mod tls;
mod writes;

use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use crate::support::agent::{self, Agent};
use crate::support::folder::Folder;
use crate::support::table::PATHS;
use crate::support::{Stream, eventually, millis, secs, show_log};
pub use programs::Programs;
use server::{PASSWORD, Server};

macro_rules! test_each {
    ($($name:ident: $major:literal,)+) => {
        /// All of them.
        pub const MAJORS: &[u32] = &[$($major),+];
        $(
            #[test]
            fn $name() {
                hold_every_rule($major);
            }
        )+
    };
}

test_each! {
    postgresql_10: 10,
    postgresql_11: 11,
    postgresql_12: 12,
    postgresql_13: 13,
    postgresql_14: 14,
    postgresql_15: 15,
    postgresql_16: 16,
    postgresql_17: 17,
    postgresql_18: 18,
    postgresql_19: 19,
}

type Rule = (&'static str, fn(&Pair));

/// In this order: each leaves the pair as it was, except the last.
const RULES: &[Rule] = &[
    ("a standby that has just started is within its limits", limits_hold_at_the_start),
    ("every path answers as the table says", every_path_answers_as_the_table_says),
    ("a check says role and timeline", checks_say_role_and_timeline),
    ("the documents name what was seen", documents_name_what_was_seen),
    ("a commit that does not come back is told", writes::a_commit_that_does_not_come_back_is_told),
    ("passwords are good over TCP", passwords_are_good_over_tcp),
    ("/read-write asks what a plain session would see", read_write_asks_what_a_plain_session_would_see),
    ("a knock leaves no line in the server's log", knocks_leave_no_line),
    (
        "logins and knocks leave the lines that are documented",
        log_lines::logins_and_knocks_leave_what_is_documented,
    ),
    ("a standby that does not replay lags", a_standby_that_does_not_replay_lags),
    (
        "replay that is paused or delayed is told where running replay is asked",
        replay::replay_that_stands_still_is_told,
    ),
    (
        "a standby pauses by itself where it could not hold what its primary allows",
        replay::a_smaller_standby_pauses,
    ),
    ("a restore at its target is no standby, where that can be told", replay::a_restore_is_told),
    ("a restart costs nothing once it is over", restarts_cost_nothing_once_they_are_over),
    ("a stopped primary is seen, and missed by its standby", a_stopped_primary_is_missed),
    ("a promoted standby is a primary on the next timeline", promotion_is_seen),
];

fn hold_every_rule(major: u32) {
    let pair = Pair::start(major);
    for (rule, hold) in RULES {
        let _shown = Shown { major, rule };
        hold(&pair);
    }
}

/// Says under a failing test which rule it was.
struct Shown {
    major: u32,
    rule: &'static str,
}

impl Drop for Shown {
    fn drop(&mut self) {
        show_log("the rule that does not hold", &format!("PostgreSQL {}: {}\n", self.major, self.rule));
    }
}

/// A primary and its standby, with an agent beside each.
struct Pair {
    at_primary: Agent,
    at_standby: Agent,
    /// Beside the standby as well, with the privileges of pg_monitor.
    monitor: Agent,
    standby: Server,
    primary: Server,
    major: u32,
}

impl Pair {
    fn start(major: u32) -> Pair {
        let programs = Arc::new(Programs::of(major));
        let primary = Server::new(&programs);
        primary.start();
        primary.psql("CREATE ROLE pgsqlchk LOGIN");
        primary.psql("CREATE ROLE monitor LOGIN IN ROLE pg_monitor");
        for (role, method) in [("hashed", "md5"), ("scrammed", "scram-sha-256")] {
            let sql = format!(
                "SET password_encryption = '{method}'; CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'"
            );
            primary.psql(&sql);
        }
        primary.psql("CREATE TABLE filler (line text)");
        primary.stop();
        let standby = Server::standby_of(&primary);
        primary.start();
        standby.start();
        let at_primary = agent_of(&primary.dsn("pgsqlchk"));
        let at_standby = agent_of(&standby.dsn("pgsqlchk"));
        let monitor = agent_of(&standby.dsn("monitor"));
        Pair { at_primary, at_standby, monitor, standby, primary, major }
    }

    /// Waits until the standby streams and has replayed everything.
    #[track_caller]
    fn catch_up(&self) {
        let written = self.primary.psql("SELECT pg_current_wal_lsn()");
        let caught_up = format!(
            "SELECT pg_last_wal_replay_lsn() >= '{written}' AND EXISTS (SELECT FROM pg_stat_wal_receiver)"
        );
        eventually(secs(20), "the standby streams and catches up", || self.standby.psql(&caught_up) == "t");
    }

    /// Waits until the standby streams and has received everything.
    #[track_caller]
    fn catch_up_with_receiving(&self) {
        let written = self.primary.psql("SELECT pg_current_wal_flush_lsn()");
        let received = format!(
            "SELECT pg_last_wal_receive_lsn() >= '{written}' AND EXISTS (SELECT FROM pg_stat_wal_receiver)"
        );
        eventually(secs(20), "the standby has received it", || self.standby.psql(&received) == "t");
    }

    /// Both agents of the standby answer this.
    #[track_caller]
    fn assert_standby(&self, path: &str, expected: &str) {
        for (who, agent) in [("pgsqlchk", &self.at_standby), ("monitor", &self.monitor)] {
            assert_eq!(agent.get(path).line(), expected, "{path} to {who}");
        }
    }

    /// Both agents of the standby answer this soon.
    #[track_caller]
    fn wait_for_standby(&self, path: &str, expected: &str) {
        for (who, agent) in [("pgsqlchk", &self.at_standby), ("monitor", &self.monitor)] {
            eventually(secs(10), &format!("{who} answers {path} with {expected}"), || {
                agent.get(path).line() == expected
            });
        }
    }
}

#[track_caller]
fn agent_of(dsn: &str) -> Agent {
    Agent::start(&["--dsn", dsn, "--knock-interval", "10ms"])
}

/// Exit code and line of `--mode check`.
fn check(dsn: &str) -> (Option<i32>, String) {
    let folder = Folder::new("check");
    let config = folder.write("pgsqlchk.conf", "");
    let mut command = agent::command();
    command.args(["--mode", "check", "--dsn", dsn, "--config"]).arg(config);
    let output = command.env("HOME", folder.path()).stdin(Stdio::null()).output().expect("run the agent");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

// --- The rules ------------------------------------------------------------------------------------------------

/// Its receiver asks for the last segment from the beginning: until the primary writes again, it has received less than
/// it has replayed.
fn limits_hold_at_the_start(pair: &Pair) {
    let _idle = pair.primary.keep_idle();
    pair.catch_up();
    eventually(secs(20), "a standby has just started and the primary writes nothing", || {
        pair.standby.stop();
        pair.standby.start();
        pair.catch_up();
        pair.standby.psql("SELECT pg_last_wal_receive_lsn() < pg_last_wal_replay_lsn()") == "t"
    });
    for limit in ["lag=0", "lag_time=0s", "lag=16MB&lag_time=1min&replication_state=streaming"] {
        pair.assert_standby(&format!("/replica?{limit}"), "200 Standby");
        pair.assert_standby(&format!("/?{limit}"), "206 Standby");
    }
}

fn every_path_answers_as_the_table_says(pair: &Pair) {
    for (path, [on_primary, on_standby, _]) in PATHS {
        for (agent, expected) in [(&pair.at_primary, on_primary), (&pair.at_standby, on_standby)] {
            let reply = agent.get(path);
            assert_eq!(reply.line(), expected.0, "{path}");
            assert_eq!(reply.body, format!("{}\n", expected.1), "{path}");
        }
    }
}

fn checks_say_role_and_timeline(pair: &Pair) {
    assert_eq!(check(&pair.primary.dsn("pgsqlchk")), (Some(0), "primary timeline 1\n".into()));
    for role in ["pgsqlchk", "monitor"] {
        assert_eq!(check(&pair.standby.dsn(role)), (Some(0), "standby timeline 1\n".into()), "{role}");
    }
}

fn documents_name_what_was_seen(pair: &Pair) {
    let _idle = pair.primary.keep_idle();
    pair.catch_up();
    for (agent, role) in
        [(&pair.at_primary, "primary"), (&pair.at_standby, "standby"), (&pair.monitor, "standby")]
    {
        let status = agent.get("/status").body.replace(' ', "");
        assert!(status.contains(&format!("\"role\":\"{role}\"")), "{status}");
        let metrics = agent.get("/metrics").body;
        for sample in ["pgsqlchk_up 1".to_owned(), format!("pgsqlchk_{role} 1"), "pgsqlchk_timeline 1".into()]
        {
            assert!(metrics.lines().any(|line| line == sample), "{sample}: {metrics}");
        }
        for sample in ["wal_receiver 1", "replication_lag_bytes 0", "replication_lag_seconds 0"] {
            let is_there = metrics.lines().any(|line| line == format!("pgsqlchk_{sample}"));
            assert_eq!(is_there, role == "standby", "{sample}: {metrics}");
        }
    }
}

fn passwords_are_good_over_tcp(pair: &Pair) {
    for role in ["hashed", "scrammed"] {
        let right = agent_of(&pair.primary.tcp_dsn(role, PASSWORD));
        assert_eq!(right.get("/").line(), "200 Primary", "{role}");
        let wrong = agent_of(&pair.primary.tcp_dsn(role, "wrong"));
        assert_eq!(wrong.get("/").line(), "503 authentication-failed", "{role}");
    }
}

fn read_write_asks_what_a_plain_session_would_see(pair: &Pair) {
    let (primary, agent) = (&pair.primary, &pair.at_primary);
    let is = |expected: &str| agent.get("/read-write").line() == expected;
    assert!(is("200 Primary"));
    primary.psql("ALTER SYSTEM SET default_transaction_read_only = on");
    primary.psql("SELECT pg_reload_conf()");
    eventually(secs(5), "/read-write is read-only", || is("503 read-only"));
    assert_eq!(agent.get("/").line(), "200 Primary");
    primary.psql("ALTER SYSTEM RESET default_transaction_read_only");
    primary.psql("SELECT pg_reload_conf()");
    eventually(secs(5), "/read-write is writable again", || is("200 Primary"));

    // A role's own default is what its next session starts with.
    primary.psql("ALTER ROLE pgsqlchk SET default_transaction_read_only = on");
    assert_eq!(agent_of(&primary.dsn("pgsqlchk")).get("/read-write").line(), "503 read-only");
    assert_eq!(agent_of(&primary.dsn("monitor")).get("/read-write").line(), "200 Primary");
    primary.psql("ALTER ROLE pgsqlchk RESET default_transaction_read_only");
    assert_eq!(agent_of(&primary.dsn("pgsqlchk")).get("/read-write").line(), "200 Primary");
}

fn knocks_leave_no_line(pair: &Pair) {
    for (agent, server) in [(&pair.at_primary, &pair.primary), (&pair.at_standby, &pair.standby)] {
        assert_eq!(lines_of_knocks(agent, server), "");
    }
    // Over TCP the server is willing to speak TLS, and misses the handshake. It says so of the first knock; from
    // PostgreSQL 12 on, there is another way to knock.
    let primary = &pair.primary;
    let complaints = || primary.log().matches(NO_HANDSHAKE).count();
    let before = complaints();
    let agent = agent_of(&primary.tcp_dsn("scrammed", PASSWORD));
    assert_eq!(agent.get("/").line(), "200 Primary");
    eventually(secs(5), "the first knock leaves a line", || complaints() > before);
    let lines = lines_of_knocks(&agent, primary);
    if pair.major < 12 {
        let is_known = |line: &str| line.contains(NO_HANDSHAKE) || line.contains(OTHER_KNOCK);
        assert!(lines.lines().all(is_known), "{lines}");
        assert!(lines.matches(OTHER_KNOCK).count() <= 1, "tried once: {lines}");
    } else {
        assert_eq!(lines, "");
    }
}

const NO_HANDSHAKE: &str = "could not accept SSL connection";
const OTHER_KNOCK: &str = "unsupported frontend protocol 1234.5680";

/// What some knocks of a running agent add to the server's log.
fn lines_of_knocks(agent: &Agent, server: &Server) -> String {
    let before = server.log().len();
    let began = Instant::now();
    while began.elapsed() < millis(200) {
        assert_eq!(agent.get("/health").status, 200);
    }
    server.log().split_off(before)
}

fn a_standby_that_does_not_replay_lags(pair: &Pair) {
    pair.standby.psql("SELECT pg_wal_replay_pause()");
    pair.primary.psql("INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 100)");
    pair.wait_for_standby("/replica?lag=64kB", "503 lag-exceeded");
    pair.wait_for_standby("/replica?lag_time=100ms", "503 lag-exceeded");
    for path in ["/replica", "/replica?lag=16MB&lag_time=1h&replication_state=streaming"] {
        pair.assert_standby(path, "200 Standby");
    }
    pair.standby.psql("SELECT pg_wal_replay_resume()");
    pair.wait_for_standby("/replica?lag=0&lag_time=0s", "200 Standby");
}

fn restarts_cost_nothing_once_they_are_over(pair: &Pair) {
    for (server, agent, expected) in
        [(&pair.standby, &pair.at_standby, "206 Standby"), (&pair.primary, &pair.at_primary, "200 Primary")]
    {
        let stream = Stream::start(agent.addr(), &["/", "/"]);
        stream.advance(3);
        server.stop();
        server.start();
        let ready = Instant::now();
        stream.advance(3);
        for check in stream.finish() {
            // Never another role; and down, with whatever reason, only while it was down.
            let is_right = check.line == expected || check.line.starts_with("503 ") && check.began < ready;
            assert!(is_right, "ready {ready:?}: {check:?}");
        }
    }
    pair.catch_up();
}

fn a_stopped_primary_is_missed(pair: &Pair) {
    pair.primary.stop();
    for (path, [_, _, down]) in PATHS {
        assert_eq!(pair.at_primary.get(path).line(), down.0, "{path}");
    }
    pair.wait_for_standby("/replica?replication_state=streaming", "503 no-wal-receiver");
    for path in ["/replica?lag=1TB", "/replica?lag_time=1d"] {
        pair.assert_standby(path, "503 lag-unknown");
    }
    pair.assert_standby("/replica", "200 Standby");
    // Nor does it forget that when it is started again.
    pair.standby.stop();
    pair.standby.start();
    pair.assert_standby("/replica?replication_state=streaming", "503 no-wal-receiver");
    pair.assert_standby("/replica?lag=1TB", "503 lag-unknown");
    pair.assert_standby("/", "206 Standby");
}

fn promotion_is_seen(pair: &Pair) {
    pair.standby.promote();
    for (path, [on_primary, _, _]) in PATHS {
        pair.assert_standby(path, on_primary.0);
    }
    pair.assert_standby("/?lag=0&lag_time=0s&replication_state=streaming", "200 Primary");
    for role in ["pgsqlchk", "monitor"] {
        assert_eq!(check(&pair.standby.dsn(role)), (Some(0), "primary timeline 2\n".into()), "{role}");
    }
}
