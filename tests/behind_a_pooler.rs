//! An agent that sees PostgreSQL through PgBouncer only: what is said there holds all the same, but for what
//! docs/clients.md lists.

mod support;

use std::collections::BTreeSet;
use std::thread;
use std::time::Instant;

use support::new_clients::{agent_with, assert_becomes, assert_refused, assert_stays, primary, timely};
use support::pgbouncer::{Pgbouncer, Pool, PoolMode};
use support::{Agent, Cluster, Frozen, Signal, StopMode, eventually, millis, secs, signal};

const POOL: Pool = Pool {
    mode: PoolMode::Transaction,
    forced_user: None,
    size: 4,
    more: "ignore_startup_parameters = options",
};

/// With a session in the server that PgBouncer keeps.
fn behind(cluster: &Cluster) -> (Pgbouncer, Agent) {
    let bouncer = Pgbouncer::before(cluster, POOL);
    let agent = agent_with(&bouncer.dsn("pgsqlchk"), &[]);
    eventually(secs(5), "it is the primary", || agent.get("/").line() == "200 Primary");
    (bouncer, agent)
}

/// PgBouncer goes on using the sessions that it has.
#[test]
fn what_only_a_new_session_in_the_server_shows_is_not_seen() {
    let primary = primary();
    let (_bouncer, agent) = behind(&primary);
    let direct = agent_with(&primary.dsn_of("pgsqlchk"), &[]);
    let frozen = Frozen::new(primary.postmaster_pid());
    assert_becomes(&direct, "503 postmaster-not-answering");
    assert_stays(&agent, "200 Primary");
    frozen.thaw();
    assert_becomes(&direct, "200 Primary");

    signal(primary.postmaster_pid(), Signal::TERM);
    assert_becomes(&direct, "503 shutting-down");
    assert_refused(&primary.dsn_of("app"), "the database system is shutting down");
    assert_stays(&agent, "200 Primary");
    primary.stop(StopMode::Immediate);
}

#[test]
fn a_pooler_that_lets_its_clients_wait_or_does_not_answer_is_the_answer() {
    let primary = primary();
    let (mut bouncer, agent) = behind(&primary);
    bouncer.tell("PAUSE");
    assert_becomes(&agent, "503 deadline-passed");
    bouncer.tell("RESUME");
    assert_becomes(&agent, "200 Primary");
    let frozen = Frozen::new(bouncer.pid());
    assert_becomes(&agent, "503 postmaster-not-answering");
    frozen.thaw();
    assert_becomes(&agent, "200 Primary");
    bouncer.kill();
    assert_becomes(&agent, "503 connection-refused");
    bouncer.start();
    assert_becomes(&agent, "200 Primary");
}

/// In PgBouncer's words, which differ from moment to moment.
#[test]
fn a_server_that_is_stopped_is_503_with_what_the_pooler_says_of_it() {
    let primary = primary();
    let (_bouncer, agent) = behind(&primary);
    primary.stop(StopMode::Fast);
    let begun = Instant::now();
    let mut said = BTreeSet::new();
    while begun.elapsed() < secs(6) {
        said.insert(timely(&agent, "/"));
        thread::sleep(millis(50));
    }
    let documented = [
        "503 connection-lost",
        "503 login-failed",
        "503 deadline-passed",
        "503 query-failed",
        "503 session-terminated",
    ];
    assert!(said.iter().all(|line| documented.contains(&line.as_str())), "{said:?}");
    primary.start();
    eventually(secs(10), "it is back", || agent.get("/").line() == "200 Primary");
}
