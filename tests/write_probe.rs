//! A primary that answers and does not commit is none to send clients to. The judge is another client's own commit.
//!
//! Seen: with its synchronous standby down every commit hung for ever, and `/read-write` was 200.

mod support;

use std::fs;
use std::os::unix::fs::chown;
use std::thread;
use std::time::{Duration, Instant};

use support::new_clients::{
    agent_with, assert_becomes, assert_stays, can_commit, primary, refused_login, status, timely,
};
use support::one_check::OneCheck;
use support::patience::{SLACK, TIMEOUT};
use support::pgbouncer::{Pgbouncer, Pool, PoolMode};
use support::postgresql::{self, ServerUser};
use support::prometheus::Page;
use support::{
    Agent, Check, Cluster, Frozen, OneShot, StopMode, Stream, agent_check, eventually, millis, secs,
};

const NAME: &str = "pgsqlchk write probe";

/// As often as can be.
const PROBING: [&str; 2] = ["--write-probe", "1s"];

/// A primary that waits for its standby with every commit.
fn synchronous() -> (Cluster, Cluster) {
    let primary = primary();
    primary.psql("CREATE TABLE written (number int); GRANT INSERT ON written TO app");
    let standby = Cluster::standby_of(&primary);
    primary.configure(&[("synchronous_standby_names", "*")]);
    eventually(secs(10), "the standby is synchronous", || {
        primary.psql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"
    });
    (primary, standby)
}

/// Sessions of the agent's that commit, and how many of them wait for a standby.
fn probes(cluster: &Cluster) -> (u32, u32) {
    let sql = format!(
        "SELECT count(*) || ' ' || count(*) FILTER (WHERE wait_event = 'SyncRep') FROM pg_stat_activity
         WHERE application_name = '{NAME}'"
    );
    let text = cluster.psql(&sql);
    let (all, waiting) = text.split_once(' ').expect("two numbers");
    (all.parse().expect("a number"), waiting.parse().expect("a number"))
}

#[track_caller]
fn assert_all_stalled(checks: &[Check]) {
    let others: Vec<&Check> = checks.iter().filter(|check| check.line != "503 write-stalled").collect();
    assert!(others.is_empty(), "{} of {}: {others:?}", others.len(), checks.len());
}

fn value(agent: &Agent, name: &str) -> Option<f64> {
    Page::of(agent).get(name)
}

#[test]
fn a_primary_commits_once_in_the_interval_and_a_standby_never() {
    let primary = primary();
    let standby = Cluster::standby_of(&primary);
    primary.configure(&[("log_statement", "all"), ("log_line_prefix", "%a ")]);
    let agent = agent_with(&primary.dsn_of("pgsqlchk"), &["--write-probe", "1h"]);
    let commits = || primary.log().matches("pg_logical_emit_message").count();
    for _ in 0..20 {
        for path in ["/", "/primary", "/read-write"] {
            assert_eq!(timely(&agent, path), "200 Primary");
        }
        timely(&agent, "/health");
    }
    assert_eq!(commits(), 1, "{}", primary.log());
    assert_eq!(probes(&primary), (1, 0));
    assert_eq!(value(&agent, "pgsqlchk_writable"), Some(1.0));
    assert!(value(&agent, "pgsqlchk_write_probe_seconds").expect("it took a while") < 1.0);
    let document = status(&agent);
    assert_eq!(document["writable"], true);
    assert!(document["write_probe_seconds"].as_f64().expect("seconds") > 0.0);
    let page = agent.ask(b"GET /status HTTP/1.1\r\nAccept: text/html\r\nConnection: close\r\n\r\n").body;
    assert!(page.contains("<dt>Commits</dt><dd>come back after "), "{page}");

    let elsewhere = agent_with(&standby.dsn_of("pgsqlchk"), &PROBING);
    for _ in 0..20 {
        assert_eq!(timely(&elsewhere, "/"), "206 Standby");
        assert_eq!(timely(&elsewhere, "/primary"), "503 in-recovery");
    }
    assert_eq!(value(&elsewhere, "pgsqlchk_writable"), None);
    assert_eq!(status(&elsewhere)["writable"], serde_json::Value::Null);
    assert_eq!(probes(&standby), (0, 0));
    primary.stop(StopMode::Fast);
    standby.promote();
    assert_becomes(&elsewhere, "200 Primary");
    // Each new login brings a new one.
    eventually(secs(5), "one session commits", || probes(&standby) == (1, 0));
    assert_eq!(value(&elsewhere, "pgsqlchk_writable"), Some(1.0));

    // The other way: nothing of it is left where a primary has come back as a standby.
    primary.rebuild_as_standby_of(&standby);
    primary.start();
    eventually(secs(10), "the old primary is a standby", || agent.get("/").line() == "206 Standby");
    eventually(secs(5), "no session is left there", || probes(&primary) == (0, 0));
}

#[test]
fn where_the_synchronous_standby_is_gone_no_commit_comes_back_until_it_is_there_again() {
    let (primary, standby) = synchronous();
    let dsn = primary.dsn_of("app");
    let agent =
        agent_with(&primary.dsn_of("pgsqlchk"), &[&PROBING[..], &agent_check::AGENT_LISTEN[..]].concat());
    eventually(secs(20), "the judge commits", || can_commit(&dsn));
    assert_eq!(timely(&agent, "/primary"), "200 Primary");
    standby.stop(StopMode::Fast);
    assert!(!can_commit(&dsn), "the judge hangs");
    assert_becomes(&agent, "503 write-stalled");

    let stream = Stream::start(agent.addr(), &["/", "/primary", "/read-write"]);
    let begun = Instant::now();
    while begun.elapsed() < secs(4) {
        let (all, waiting) = probes(&primary);
        assert!(all <= 2 && waiting <= 1, "never a second one: {all} {waiting}");
        for (path, line) in [
            ("/health", "200 Primary"),
            ("/read-only", "200 Primary"),
            ("/readiness", "200 Primary"),
            ("/replica", "503 not-in-recovery"),
        ] {
            let reply = agent.get(path);
            assert_eq!(reply.line(), line, "{path}");
            assert!(reply.elapsed < SLACK, "a commit that hangs holds up no look: {reply:?}");
        }
        thread::sleep(millis(20));
    }
    let checks = stream.finish();
    assert_all_stalled(&checks);
    assert!(checks.iter().all(|check| check.ended - check.began < SLACK), "it is known by now");
    assert_eq!(agent_check::ask(&agent, "/primary?else=maint"), "down #write-stalled\n");
    assert_eq!(value(&agent, "pgsqlchk_writable"), Some(0.0));
    assert!(value(&agent, "pgsqlchk_write_probe_seconds").expect("it lasts") > 4.0);
    let document = status(&agent);
    assert_eq!((&document["writable"], &document["reason"]), (&false.into(), &"write-stalled".into()));
    agent.wait_for_log("write-stalled: no commit came back within 1s");

    standby.start();
    eventually(secs(20), "the judge commits again", || can_commit(&dsn));
    eventually(secs(1), "so does the agent", || agent.get("/primary").line() == "200 Primary");
    agent.wait_for_log("a commit came back");
    assert_eq!(value(&agent, "pgsqlchk_writable"), Some(1.0));
}

/// PostgreSQL ends the wait with a warning and a COMMIT that no standby has.
#[test]
fn a_wait_that_somebody_ends_is_no_commit() {
    let (primary, standby) = synchronous();
    let agent = agent_with(&primary.dsn_of("pgsqlchk"), &PROBING);
    assert_eq!(timely(&agent, "/primary"), "200 Primary");
    standby.stop(StopMode::Fast);
    assert_becomes(&agent, "503 write-stalled");
    for (function, is_meant) in [
        ("pg_cancel_backend", ["503 write-stalled"].as_slice()),
        // The session that takes its place may be ended as well.
        ("pg_terminate_backend", &["503 write-stalled", "503 write-failed"]),
    ] {
        let stream = Stream::start(agent.addr(), &["/primary"]);
        for _ in 0..5 {
            eventually(secs(5), "one waits", || probes(&primary).1 == 1);
            let sql = format!(
                "SELECT count({function}(pid)) FROM pg_stat_activity
                 WHERE application_name = '{NAME}' AND wait_event = 'SyncRep'"
            );
            primary.psql(&sql);
            stream.advance(5);
        }
        let checks = stream.finish();
        let others: Vec<&Check> =
            checks.iter().filter(|check| !is_meant.contains(&check.line.as_str())).collect();
        assert!(others.is_empty(), "{} of {}: {others:?}", others.len(), checks.len());
    }
    assert!(!can_commit(&primary.dsn_of("app")), "the judge");
    standby.start();
    assert_becomes(&agent, "200 Primary");
}

/// Seen: where 40 million transactions are left before it takes no more, a server warns of it at each, and the node was out.
#[test]
fn a_commit_with_another_warning_is_a_commit() {
    /// Of transactions, in a file of `pg_xact` (clog.c, slru.h).
    const IN_SEGMENT: u32 = 32 * 8192 * 4;
    let primary = primary();
    primary.psql("CREATE TABLE written (number int); GRANT INSERT ON written TO app");
    // A vacuum that fails moves no limit away.
    primary.psql("CREATE TABLE broken ()");
    let broken = primary.data().join(primary.psql("SELECT pg_relation_filepath('broken')"));
    primary.stop(StopMode::Fast);
    fs::remove_file(&broken).expect("break a table");
    let near = (1 << 31) / IN_SEGMENT - 8;
    let user = ServerUser::current();
    let mut reset = user.command("pg_resetwal");
    postgresql::run(reset.arg("-x").arg((near * IN_SEGMENT).to_string()).arg(primary.data()));
    let segment = primary.data().join(format!("pg_xact/{near:04X}"));
    fs::write(&segment, vec![0; IN_SEGMENT as usize / 4]).expect("room for new transactions");
    if let Some((uid, gid)) = user.switch() {
        chown(&segment, Some(uid), Some(gid)).expect("give it to the server");
    }
    primary.start();
    let agent = agent_with(&primary.dsn_of("pgsqlchk"), &PROBING);
    assert_stays(&agent, "200 Primary");
    let warned = || primary.log().matches("must be vacuumed within").count();
    let before = warned();
    eventually(secs(20), "the judge commits", || can_commit(&primary.dsn_of("app")));
    assert!(warned() > before, "{}", primary.log());
}

/// Each process leaves its session behind, which waits for the standby as long as that is gone.
#[test]
fn one_check_after_the_other_leaves_one_session_behind() {
    let (primary, standby) = synchronous();
    let dsn = primary.dsn_of("pgsqlchk");
    let check = || OneCheck::run(&dsn, &[&["--timeout", "1s"], &PROBING[..]].concat());
    let healthy = check();
    assert_eq!((healthy.code, healthy.line.as_str()), (0, "primary timeline 1"));
    standby.stop(StopMode::Fast);
    for number in 0..5 {
        let begun = Instant::now();
        let stalled = check();
        assert_eq!(stalled.code, 2, "{stalled:?}");
        assert!(stalled.line.starts_with("primary timeline 1: write-stalled"), "{stalled:?}");
        assert!(number == 0 || begun.elapsed() < TIMEOUT, "the one that hangs is known");
        assert_eq!(probes(&primary).1, 1);
    }
    // A standing agent that is started now begins none beside it either.
    let agent = agent_with(&dsn, &PROBING);
    assert_stays(&agent, "503 write-stalled");
    assert_eq!(probes(&primary).1, 1);
    standby.start();
    eventually(secs(20), "a check says so", || check().code == 0);
    assert_becomes(&agent, "200 Primary");
    eventually(secs(5), "none waits any more", || probes(&primary).1 == 0);
}

/// Under xinetd with `wait = no`, `Accept=yes` and inetd: each process is a first one.
#[test]
fn a_process_per_check_commits_in_each_check_of_a_primary() {
    let primary = primary();
    primary.configure(&[("log_statement", "all")]);
    let commits = || primary.log().matches("pg_logical_emit_message").count();
    let settings = format!("dsn = {}\nwrite-probe = 1h\n", primary.dsn_of("pgsqlchk"));
    for (path, line, expected) in [
        ("/primary", "HTTP/1.1 200 Primary", 1),
        ("/", "HTTP/1.1 200 Primary", 2),
        ("/read-write", "HTTP/1.1 200 Primary", 3),
        ("/replica", "HTTP/1.1 503 not-in-recovery", 3),
        ("/read-only", "HTTP/1.1 200 Primary", 3),
        ("/node", "HTTP/1.1 200 OK", 3),
    ] {
        let (mut process, mut wire) = OneShot::with_client(&[], &settings);
        wire.send(format!("GET {path} HTTP/1.1\r\n\r\n"));
        let reply = wire.receive(secs(10));
        assert!(reply.text().starts_with(line), "{path}: {}", reply.text());
        drop(wire);
        process.wait();
        assert_eq!(commits(), expected, "{path}");
    }
}

#[test]
fn a_role_that_may_not_count_the_standby_says_so_with_a_setting() {
    let (primary, standby) = synchronous();
    let agent = agent_with(&primary.dsn_of("pgsqlchk"), &PROBING);
    primary.psql("ALTER ROLE pgsqlchk SET synchronous_commit = local");
    standby.stop(StopMode::Fast);
    assert_becomes(&agent, "200 Primary");
    assert_stays(&agent, "200 Primary");
}

#[test]
fn a_commit_is_asked_for_in_a_session_whose_transactions_are_read_only() {
    let primary = primary();
    let agent = agent_with(&primary.dsn_of("pgsqlchk"), &PROBING);
    primary.configure(&[("default_transaction_read_only", "on")]);
    eventually(secs(5), "read-only", || agent.get("/read-write").line() == "503 read-only");
    assert_eq!(value(&agent, "pgsqlchk_writable"), Some(1.0));
    assert_stays(&agent, "200 Primary");
}

/// All clients may be served as ever.
#[test]
fn a_role_that_is_not_let_in_any_more_goes_on_in_its_session() {
    let primary = primary();
    let agent = agent_with(&primary.dsn_of("pgsqlchk"), &PROBING);
    assert_eq!(timely(&agent, "/primary"), "200 Primary");
    primary.psql("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC");
    eventually(secs(5), "the login is refused", || refused_login(&agent).1 == 1.0);
    assert_stays(&agent, "200 Primary");
    let newcomer = agent_with(&primary.dsn_of("pgsqlchk"), &PROBING);
    assert_stays(&newcomer, "503 permission-denied");
    primary.psql("GRANT CONNECT ON DATABASE postgres TO PUBLIC");
    assert_becomes(&newcomer, "200 Primary");
}

/// Its sessions go on as those of any role.
#[test]
fn a_role_that_is_dropped_goes_on_in_its_session() {
    let primary = primary();
    let agent = agent_with(&primary.dsn_of("pgsqlchk"), &PROBING);
    assert_eq!(timely(&agent, "/primary"), "200 Primary");
    primary.psql("DROP ROLE pgsqlchk");
    // Until another commit is asked for.
    thread::sleep(millis(1100));
    assert_stays(&agent, "200 Primary");
}

#[test]
fn an_error_is_write_failed_with_its_text_in_the_log() {
    let primary = primary();
    let function = "FUNCTION pg_logical_emit_message(boolean, text, text";
    let version: u32 = primary.psql("SHOW server_version_num").parse().expect("a number");
    let function = if version >= 17_00_00 { format!("{function}, boolean)") } else { format!("{function})") };
    primary.psql(&format!("REVOKE EXECUTE ON {function} FROM PUBLIC"));
    let agent = agent_with(&primary.dsn_of("pgsqlchk"), &PROBING);
    for path in ["/", "/primary", "/read-write"] {
        assert_eq!(timely(&agent, path), "503 write-failed");
    }
    assert_eq!(timely(&agent, "/read-only"), "200 Primary");
    agent.wait_for_log("permission denied for function pg_logical_emit_message");
    assert_eq!(value(&agent, "pgsqlchk_writable"), Some(0.0));
    assert_eq!(value(&agent, "pgsqlchk_write_probe_seconds"), None);
    assert_eq!(status(&agent)["reason"], "write-failed");
    let check = OneCheck::run(&primary.dsn_of("pgsqlchk"), &PROBING);
    assert_eq!(check.code, 2);
    assert!(check.line.contains("write-failed: ") && check.line.contains("permission denied"), "{check:?}");
    primary.psql(&format!("GRANT EXECUTE ON {function} TO PUBLIC"));
    assert_becomes(&agent, "200 Primary");

    // Its session needs a place of its own.
    primary.psql("ALTER ROLE pgsqlchk CONNECTION LIMIT 1");
    let crowded = agent_with(&primary.dsn_of("pgsqlchk"), &PROBING);
    drop(agent);
    eventually(secs(10), "only the session that looks has a place", || {
        crowded.get("/primary").line() == "503 write-failed"
    });
    crowded.wait_for_log("too many connections for role");
    primary.psql("ALTER ROLE pgsqlchk CONNECTION LIMIT 4");
    assert_becomes(&crowded, "200 Primary");
}

/// Seen: a pooler that went on a millisecond before the deadline left the commit no more than that, and a primary whose
/// commits took two was `write-stalled`.
#[test]
fn a_commit_is_made_while_the_pooler_is_waited_for() {
    let primary = primary();
    primary.configure(&[("log_statement", "all")]);
    let pool = Pool { mode: PoolMode::Transaction, forced_user: Some("app"), size: 4, more: "" };
    let bouncer = Pgbouncer::before(&primary, pool);
    let pooler = bouncer.address().to_string();
    let agent =
        agent_with(&primary.dsn_of("pgsqlchk"), &[&PROBING[..], &["--pooler", pooler.as_str()]].concat());
    let commits = || primary.log().matches("pg_logical_emit_message").count();
    let frozen = Frozen::new(bouncer.pid());
    let stream = Stream::start(agent.addr(), &["/primary"]);
    eventually(secs(10), "somebody commits", || commits() > 0);
    let checks = stream.finish();
    let others: Vec<&Check> =
        checks.iter().filter(|check| check.line != "503 pooler-not-answering").collect();
    assert!(others.is_empty(), "{others:?}");
    frozen.thaw();
    assert_becomes(&agent, "200 Primary");
}

/// A smart shutdown waits for every session, the agent's too.
#[test]
fn a_smart_shutdown_does_not_wait_for_the_session_that_commits() {
    let primary = primary();
    let agent = agent_with(&primary.dsn_of("pgsqlchk"), &PROBING);
    assert_eq!(timely(&agent, "/primary"), "200 Primary");
    assert_eq!(probes(&primary), (1, 0));
    let stream = Stream::start(agent.addr(), &["/primary"]);
    stream.advance(5);
    primary.stop(StopMode::Smart);
    let checks = stream.finish();
    assert!(checks.iter().any(|check| check.line == "503 shutting-down"), "{:?}", checks.last());
    primary.start();
    assert_becomes(&agent, "200 Primary");
    assert_eq!(value(&agent, "pgsqlchk_writable"), Some(1.0));
}

/// A server that is restarted takes the session along.
#[test]
fn a_restart_costs_no_more_than_without_it() {
    let primary = primary();
    let agent = agent_with(&primary.dsn_of("pgsqlchk"), &PROBING);
    assert_eq!(timely(&agent, "/primary"), "200 Primary");
    for _ in 0..3 {
        primary.restart(StopMode::Fast);
        assert_eq!(timely(&agent, "/primary"), "200 Primary");
        primary.psql(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{NAME}'"
        ));
        thread::sleep(Duration::from_millis(1100));
        assert_eq!(timely(&agent, "/primary"), "200 Primary");
    }
}

#[test]
fn commits_go_through_a_pool_as_well() {
    let (primary, standby) = synchronous();
    for mode in PoolMode::ALL {
        let pool = Pool { mode, forced_user: Some("app"), size: 4, more: "" };
        let bouncer = Pgbouncer::before(&primary, pool);
        let agent = agent_with(&bouncer.dsn("pgsqlchk"), &PROBING);
        assert_eq!(timely(&agent, "/read-write"), "200 Primary", "{mode}");
        assert_eq!(value(&agent, "pgsqlchk_writable"), Some(1.0));
        standby.stop(StopMode::Fast);
        assert_becomes(&agent, "503 write-stalled");
        assert_eq!(timely(&agent, "/health"), "200 Primary", "{mode}");
        assert_eq!(probes(&primary).1, 1, "{mode}");
        standby.start();
        assert_becomes(&agent, "200 Primary");
    }
}

/// Each client that goes away takes the session in the server along, and that waits on.
#[test]
fn one_check_after_the_other_leaves_one_session_behind_a_pool_that_names_its_clients() {
    let (primary, standby) = synchronous();
    let more = "ignore_startup_parameters = options\napplication_name_add_host = 1";
    let pool = Pool { mode: PoolMode::Transaction, forced_user: None, size: 9, more };
    let bouncer = Pgbouncer::before(&primary, pool);
    let check = || OneCheck::run(&bouncer.dsn("pgsqlchk"), &[&["--timeout", "1s"], &PROBING[..]].concat());
    assert_eq!(check().code, 0);
    standby.stop(StopMode::Fast);
    for _ in 0..3 {
        let stalled = check();
        assert!(stalled.line.starts_with("primary timeline 1: write-stalled"), "{stalled:?}");
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        assert_eq!(primary.psql(waiting), "1");
    }
}
