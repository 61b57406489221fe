//! A commit that is asked for: in which words, and what becomes of it, differs from version to version.

use super::Pair;
use crate::support::new_clients::agent_with;
use crate::support::prometheus::Page;
use crate::support::{eventually, secs};

pub fn a_commit_that_does_not_come_back_is_told(pair: &Pair) {
    let agent = agent_with(&pair.primary.dsn("pgsqlchk"), &["--write-probe", "1s"]);
    let says = |line: &str| agent.get("/primary").line() == line;
    assert!(says("200 Primary"), "{}", agent.log());
    let page = Page::of(&agent);
    assert_eq!(page.value("pgsqlchk_writable"), 1.0);
    assert!(page.value("pgsqlchk_write_probe_seconds") > 0.0);

    let wait_for = |names: &str| {
        pair.primary.psql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'"));
        pair.primary.psql("SELECT pg_reload_conf()");
    };
    wait_for("nobody");
    eventually(secs(10), "no commit comes back", || says("503 write-stalled"));
    // PostgreSQL ends the wait with a warning, and without the standby.
    for _ in 0..3 {
        eventually(secs(10), "one waits", || {
            let cancelled = pair.primary.psql(
                "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
                 WHERE application_name = 'pgsqlchk write probe' AND wait_event = 'SyncRep'",
            );
            assert_eq!(agent.get("/primary").line(), "503 write-stalled");
            cancelled == "1"
        });
    }
    wait_for("");
    eventually(secs(10), "a commit comes back", || says("200 Primary"));
}
