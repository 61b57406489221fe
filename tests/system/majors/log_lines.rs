//! What logins and knocks leave in the server's log with `log_connections`: docs/guarantees.md has the figures.

use crate::support::agent::Agent;
use crate::support::{eventually, secs};

use super::Pair;
use super::server::Server;

/// A login and a knock, in lines: received, authenticated (since 17 without a password, too), authorized.
fn expected(major: u32) -> (usize, usize) {
    if major < 17 { (2, 1) } else { (3, 1) }
}

pub fn logins_and_knocks_leave_what_is_documented(pair: &Pair) {
    let primary = &pair.primary;
    log_connections(primary, "on");
    let (login, knock) = expected(pair.major);
    assert_first_check_leaves(login, "0", primary);
    assert_first_check_leaves(login + knock, "1h", primary);
    if pair.major >= 18 {
        // It can be told which lines: a knock has none then, and a login one.
        log_connections(primary, "authorization");
        assert_first_check_leaves(1, "1h", primary);
    }
    log_connections(primary, "off");
    assert_first_check_leaves(0, "1h", primary);
}

fn log_connections(server: &Server, value: &str) {
    server.psql(&format!("ALTER SYSTEM SET log_connections = '{value}'"));
    server.psql("SELECT pg_reload_conf()");
    // Counts for connections that come after the postmaster has read it.
    let settled = || server.psql("SHOW log_connections") == value;
    eventually(secs(5), "log_connections is set", settled);
}

/// A new agent's first check logs in, and knocks before unless it never does.
#[track_caller]
fn assert_first_check_leaves(expected: usize, knock_interval: &str, server: &Server) {
    let before = server.log().len();
    let lines = || server.log().split_off(before).lines().filter(|line| line.contains("connection ")).count();
    let agent = Agent::start(&["--dsn", &server.dsn("pgsqlchk"), "--knock-interval", knock_interval]);
    assert_eq!(agent.get("/").line(), "200 Primary");
    // The process that answers a knock writes when it pleases.
    eventually(secs(5), &format!("{expected} lines, not {}", lines()), || lines() >= expected);
    drop(agent);
    assert_eq!(lines(), expected, "{}", server.log().split_off(before));
}
