//! `/read-write`: could a plain session write, although the agent's own cannot?

mod support;

use support::{Agent, Cluster, eventually, secs};

/// A reload takes effect a moment after it was asked for.
#[track_caller]
fn comes_to_say(agent: &Agent, line: &str) {
    eventually(secs(20), line, || agent.get("/read-write").line() == line);
}

#[test]
fn read_write_asks_what_a_new_plain_session_would_see() {
    let primary = Cluster::primary();
    primary.psql("CREATE ROLE plain LOGIN");
    let agent = Agent::start(&["--dsn", &primary.dsn_of("plain"), "--login-interval", "1h"]);
    assert_eq!(agent.get("/read-write").line(), "200 Primary");
    let reload = || {
        primary.psql("SELECT pg_reload_conf()");
    };
    let nothing = || {};
    let table: [(&str, &dyn Fn()); 5] = [
        ("ALTER SYSTEM", &reload),
        ("ALTER DATABASE postgres", &nothing),
        ("ALTER ROLE plain", &nothing),
        ("ALTER ROLE ALL", &nothing),
        ("ALTER ROLE plain IN DATABASE postgres", &nothing),
    ];
    for (alter, then) in table {
        primary.psql(&format!("{alter} SET default_transaction_read_only = on"));
        then();
        // Whoever only waits for a reload has to; the others are seen at once.
        if alter == "ALTER SYSTEM" {
            comes_to_say(&agent, "503 read-only");
        }
        let reply = agent.get("/read-write");
        assert_eq!((reply.line().as_str(), reply.body.as_str()), ("503 read-only", "No: read-only\n"));
        for path in ["/", "/primary", "/read-only", "/health"] {
            assert_eq!(agent.get(path).line(), "200 Primary", "{path} after {alter}");
        }
        // ALTER SYSTEM takes no transaction around it, and needs none that may write.
        let may_write = if alter == "ALTER SYSTEM" { "" } else { "SET transaction_read_only = off; " };
        primary.psql(&format!("{may_write}{alter} RESET default_transaction_read_only"));
        then();
        if alter == "ALTER SYSTEM" {
            comes_to_say(&agent, "200 Primary");
        }
        assert_eq!(agent.get("/read-write").line(), "200 Primary", "after {alter} RESET");
    }
    // The narrower one wins, and what concerns others does not count.
    primary.psql("ALTER DATABASE postgres SET default_transaction_read_only = on");
    let may_write = "SET transaction_read_only = off;";
    primary.psql(&format!("{may_write} ALTER ROLE plain SET default_transaction_read_only = off"));
    assert_eq!(agent.get("/read-write").line(), "200 Primary");
    primary.psql(&format!("{may_write} ALTER ROLE postgres SET default_transaction_read_only = off"));
    primary.psql(&format!("{may_write} ALTER DATABASE postgres SET work_mem = '8MB'"));
    let sessions = primary.backend_pids("pgsqlchk");
    assert_eq!(agent.get("/read-write").line(), "200 Primary");
    assert_eq!(
        primary.backend_pids("pgsqlchk"),
        sessions,
        "no new login for other settings, or those of others"
    );
}
