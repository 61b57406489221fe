//! An agent and an application side by side through PgBouncer. Whatever a session is told by SET stays in it for whoever
//! gets it next, so the agent tells it nothing.
//!
//! Seen: after one check through a transaction pool with a forced user, 3 of 3 inserts of the application failed with
//! `cannot execute INSERT in a read-only transaction`, and its statement_timeout was the agent's.

mod support;

use std::collections::BTreeMap;
use std::thread;

use postgres::{Client, NoTls, SimpleQueryMessage};
use support::new_clients::{agent_with, status};
use support::one_check::OneCheck;
use support::pgbouncer::{Pgbouncer, Pool, PoolMode};
use support::prometheus::Page;
use support::{Agent, Cluster, StopMode, Stream, agent_check, eventually, secs};

/// Of these only the value has to stay. The first ones PgBouncer itself sets in a server session when it goes to another
/// client, and where a setting came from is then the session. The last ones begin anew with each transaction, from what
/// `default_transaction_...` says, and any BEGIN with a mode leaves its mark on where they came from.
const VALUES_ONLY: [&str; 8] = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "TimeZone",
    "standard_conforming_strings",
    "transaction_isolation",
    "transaction_read_only",
    "transaction_deferrable",
];

/// Who shares with whom.
#[derive(Clone, Copy, Debug)]
enum Sharing {
    /// Every server session is the application's.
    ForcedUser,
    /// The agent has the application's role.
    SameRole,
    /// The agent has a role of its own.
    OwnRole,
}

impl Sharing {
    const ALL: [Sharing; 3] = [Sharing::ForcedUser, Sharing::SameRole, Sharing::OwnRole];

    fn forced_user(self) -> Option<&'static str> {
        match self {
            Sharing::ForcedUser => Some("app"),
            Sharing::SameRole | Sharing::OwnRole => None,
        }
    }

    fn role_of_agent(self) -> &'static str {
        match self {
            Sharing::ForcedUser | Sharing::OwnRole => "pgsqlchk",
            Sharing::SameRole => "app",
        }
    }
}

/// A primary with an application's table and with settings of its role that have to stay.
fn primary() -> Cluster {
    let primary = Cluster::primary();
    primary.psql(
        "CREATE ROLE pgsqlchk LOGIN; CREATE ROLE app LOGIN;
         CREATE TABLE written (number int); GRANT INSERT, SELECT ON written TO app;
         ALTER ROLE app SET statement_timeout = '7s'; ALTER ROLE app SET lock_timeout = '5s';
         ALTER ROLE app SET default_transaction_isolation = 'repeatable read';
         ALTER ROLE app SET idle_in_transaction_session_timeout = '9s'",
    );
    primary
}

/// One server session would be held by whoever came first where sessions change hands last.
fn size(mode: PoolMode) -> usize {
    match mode {
        PoolMode::Session => 8,
        PoolMode::Transaction | PoolMode::Statement => 1,
    }
}

#[track_caller]
fn connect(dsn: &str) -> Client {
    Client::connect(&format!("{dsn} application_name=app"), NoTls).expect("a session of the application's")
}

/// Every setting with its value, its source and what RESET would make of it, as a client of the pool finds them.
fn settings(client: &mut Client) -> BTreeMap<String, String> {
    let sql = "SELECT name, coalesce(setting, '') || ' by ' || source || ', else '
               || coalesce(reset_val, ''), coalesce(setting, '') FROM pg_settings";
    let mut found = BTreeMap::new();
    for message in client.simple_query(sql).expect("the application's query") {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let field = |column| row.get(column).unwrap_or_default().to_owned();
        let name = field(0);
        let value = if VALUES_ONLY.contains(&name.as_str()) { field(2) } else { field(1) };
        found.insert(name, value);
    }
    found
}

#[track_caller]
fn assert_untouched(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>, who: &str) {
    let changed: Vec<String> = before
        .iter()
        .filter(|(name, value)| after.get(*name) != Some(value))
        .map(|(name, value)| format!("{name}: {value} -> {:?}", after.get(name)))
        .collect();
    assert!(changed.is_empty(), "{who}: {changed:#?}");
    assert_eq!(before.len(), after.len(), "{who}");
}

/// The application: one client that stays and one that comes anew each time.
fn write(staying: &mut Client, dsn: &str, number: i32) {
    let insert = format!("INSERT INTO written VALUES ({number})");
    staying.simple_query(&insert).unwrap_or_else(|error| panic!("insert {number}: {error:?}"));
    connect(dsn).simple_query(&insert).unwrap_or_else(|error| panic!("insert {number}, anew: {error:?}"));
}

/// `use_agent` is done while the application writes; nothing of the application's may fail or change.
#[track_caller]
fn assert_no_harm(primary: &Cluster, bouncer: &Pgbouncer, who: &str, use_agent: impl FnOnce() + Send) {
    let dsn = bouncer.dsn("app");
    let written = || primary.psql("SELECT count(*) FROM written").parse::<i64>().expect("a number");
    let already = written();
    let mut staying = connect(&dsn);
    // Before the agent's first word, but after another client's: what PgBouncer does for any client is done.
    let before = settings(&mut staying);
    let mut count = 0;
    thread::scope(|scope| {
        let agent = scope.spawn(use_agent);
        while !agent.is_finished() || count < 3 {
            count += 1;
            write(&mut staying, &dsn, count);
        }
        agent.join().expect("the agent's part");
    });
    (0..3).for_each(|_| write(&mut staying, &dsn, 0));
    assert_eq!(written() - already, i64::from(count + 3) * 2, "{who}: every insert is there");
    let after = settings(&mut staying);
    assert_untouched(&before, &after, who);
    let anew = settings(&mut connect(&dsn));
    assert_untouched(&before, &anew, who);
}

#[track_caller]
fn run_for(mode: PoolMode, more: &str) {
    let primary = primary();
    for sharing in Sharing::ALL {
        let pool = Pool { mode, forced_user: sharing.forced_user(), size: size(mode), more };
        let bouncer = Pgbouncer::before(&primary, pool);
        let role = sharing.role_of_agent();
        // What the agent's role finds there, in case it is not the application's.
        let before = settings(&mut connect(&bouncer.dsn(role)));
        for dsn in [bouncer.dsn(role), bouncer.socket_dsn(role)] {
            let who = format!("{mode} pooling, {sharing:?}, {dsn}");
            assert_no_harm(&primary, &bouncer, &format!("{who}, checks"), || {
                for target in ["/", "/read-write", "/health", "/replica"] {
                    let check = OneCheck::run(&dsn, &["--target", target]);
                    let expected = if target == "/replica" {
                        (1, "primary timeline 1: not-in-recovery")
                    } else {
                        (0, "primary timeline 1")
                    };
                    assert_eq!((check.code, check.line.as_str()), expected, "{who}, {target}: {check:?}");
                }
            });
            let agent = agent_with(&dsn, &agent_check::AGENT_LISTEN);
            assert_no_harm(&primary, &bouncer, &format!("{who}, an agent"), || assert_right(&agent, &who));
        }
        let after = settings(&mut connect(&bouncer.dsn(role)));
        assert_untouched(&before, &after, &format!("{mode} pooling, {sharing:?}, the agent's role"));
    }
}

/// Every kind of answer, for longer than a session of the agent's lasts.
#[track_caller]
fn assert_right(agent: &Agent, who: &str) {
    let stream = Stream::start(agent.addr(), &["/", "/read-write"]);
    stream.advance(20);
    for _ in 0..3 {
        let document = status(agent);
        assert_eq!(
            (&document["role"], &document["read_only"]),
            (&"primary".into(), &false.into()),
            "{document}"
        );
        assert_eq!(Page::of(agent).value("pgsqlchk_up"), 1.0, "{who}");
        assert_eq!(agent.get("/replica?lag=16MB").line(), "503 not-in-recovery", "{who}");
        assert_eq!(agent_check::ask(agent, "/primary"), "up ready 100%\n", "{who}");
        stream.advance(20);
    }
    let lines: Vec<String> = stream.finish().into_iter().map(|check| check.line).collect();
    assert!(lines.iter().all(|line| line == "200 Primary"), "{who}: {lines:?}");
}

#[test]
fn an_application_in_session_pooling_is_left_alone() {
    run_for(PoolMode::Session, "");
}

#[test]
fn an_application_in_transaction_pooling_is_left_alone() {
    run_for(PoolMode::Transaction, "");
}

#[test]
fn an_application_in_statement_pooling_is_left_alone() {
    run_for(PoolMode::Statement, "");
}

/// What many applications need there: PgBouncer swallows startup parameters then, and does not refuse them.
#[test]
fn an_application_behind_a_pool_that_ignores_startup_parameters_is_left_alone() {
    let more = "ignore_startup_parameters = extra_float_digits,options,statement_timeout,\
                default_transaction_read_only,default_transaction_isolation,idle_session_timeout";
    run_for(PoolMode::Transaction, more);
}

/// Through the pool as without it: stopped, started, promoted, read-only.
#[test]
fn answers_through_a_pool_follow_the_server_behind_it() {
    let primary = primary();
    let standby = Cluster::standby_of(&primary);
    for mode in PoolMode::ALL {
        let pool = Pool { mode, forced_user: Some("app"), size: 2, more: "" };
        let bouncer = Pgbouncer::before(&primary, pool);
        let agent = agent_with(&bouncer.dsn("pgsqlchk"), &[]);
        assert_eq!(agent.get("/").line(), "200 Primary", "{mode}");
        primary.configure(&[("default_transaction_read_only", "on")]);
        eventually(secs(4), "read-only through the pool", || {
            agent.get("/read-write").line() == "503 read-only"
        });
        primary.configure(&[("default_transaction_read_only", "off")]);
        eventually(secs(4), "not any more", || agent.get("/read-write").line() == "200 Primary");

        primary.stop(StopMode::Fast);
        for _ in 0..3 {
            let reply = agent.get("/");
            assert!(reply.status == 503 && reply.elapsed < secs(2), "{mode}: {reply:?}");
        }
        primary.start();
        eventually(secs(8), "the pool and the agent are back", || agent.get("/").line() == "200 Primary");
    }
    let pool = Pool { mode: PoolMode::Transaction, forced_user: Some("app"), size: 2, more: "" };
    let bouncer = Pgbouncer::before(&standby, pool);
    let agent = agent_with(&bouncer.dsn("pgsqlchk"), &[]);
    assert_eq!(agent.get("/").line(), "206 Standby");
    assert_eq!(status(&agent)["role"], "standby");
    standby.promote();
    assert_eq!(agent.get("/").line(), "200 Primary", "the next check knows");
    assert_eq!(agent.get("/read-write").line(), "200 Primary");
}

/// Without a pool as well, for nobody tells the agent of one.
#[test]
fn no_statement_of_the_agents_sets_anything_beyond_its_transaction() {
    let primary = primary();
    let standby = Cluster::standby_of(&primary);
    for cluster in [&primary, &standby] {
        cluster.configure(&[("log_statement", "all")]);
        for dsn in [cluster.dsn_of("pgsqlchk"), cluster.tcp_dsn()] {
            let agent = agent_with(&dsn, &[]);
            let stream = Stream::start(agent.addr(), &["/", "/read-write", "/replica?lag=1MB&lag_time=10s"]);
            for path in ["/status", "/metrics", "/read-only", "/primary", "/health"] {
                agent.get(path);
                OneCheck::run(&dsn, &["--target", "/read-write"]);
                stream.advance(10);
            }
        }
        let log = cluster.log();
        let statements =
            log.lines().filter_map(|line| line.split_once("pgsqlchk LOG:  ")?.1.split_once(": "));
        let commands: Vec<String> = statements
            .flat_map(|(_, text)| text.split(';'))
            .map(|command| command.trim().to_ascii_uppercase())
            .collect();
        assert!(commands.len() > 20, "the log shows what the agent says: {log}");
        for command in commands {
            let is_local = ["SET LOCAL ", "SET TRANSACTION "].iter().any(|start| command.starts_with(start));
            assert!(is_local || !command.starts_with("SET "), "{command}");
            assert!(!command.contains("SET_CONFIG(") || command.contains("TRUE"), "{command}");
        }
    }
}
