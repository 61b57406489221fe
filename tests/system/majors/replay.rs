//! What tells replay that stands still, and a restore, differs from version to version.

use super::server::Server;
use super::{Pair, agent_of};
use crate::support::agent::Agent;
use crate::support::{eventually, secs};

const RUNNING: &str = "/replica?lag=16MB&replication_state=streaming&replay=running";

pub fn replay_that_stands_still_is_told(pair: &Pair) {
    pair.catch_up();
    pair.wait_for_standby(RUNNING, "200 Standby");
    pair.standby.psql("SELECT pg_wal_replay_pause()");
    pair.assert_standby(RUNNING, "503 replay-paused");
    pair.standby.psql("SELECT pg_wal_replay_resume()");
    pair.wait_for_standby(RUNNING, "200 Standby");

    pair.standby.delay_replay("1h");
    pair.catch_up_with_receiving();
    pair.primary.psql("INSERT INTO filler VALUES ('late')");
    let says = |agent: &Agent, line: &str| agent.get("/replica?replay=running").line() == line;
    eventually(secs(20), "the delay is seen", || says(&pair.monitor, "503 replay-delayed"));
    // recovery.conf is hidden from whoever is not in pg_monitor; and nobody is told the delay.
    let plain = if pair.major < 12 { "200 Standby" } else { "503 replay-delayed" };
    assert!(says(&pair.at_standby, plain), "{plain}");
    let metrics = pair.monitor.get("/metrics").body;
    assert_eq!(metrics.contains("\npgsqlchk_replay_delay_seconds 3600\n"), pair.major >= 12, "{metrics}");
    assert!(metrics.contains("\npgsqlchk_replay_paused 0\n"), "{metrics}");
    assert_eq!(pair.standby.psql("SELECT count(*) FROM filler WHERE line = 'late'"), "0");
    pair.standby.delay_replay("0");
    pair.wait_for_standby("/replica?lag=0&replay=running", "200 Standby");
    assert_eq!(pair.standby.psql("SELECT count(*) FROM filler WHERE line = 'late'"), "1");
}

pub fn a_smaller_standby_pauses(pair: &Pair) {
    // Before, it ends.
    if pair.major < 14 {
        return;
    }
    let raise = |server: &Server| {
        server.psql("ALTER SYSTEM SET max_connections = 40");
        server.stop();
        server.start();
    };
    raise(&pair.primary);
    pair.wait_for_standby("/replica?replay=running", "503 replay-paused");
    assert_eq!(pair.standby.psql("SELECT pg_get_wal_replay_pause_state()"), "paused");
    pair.assert_standby("/replica", "200 Standby");
    raise(&pair.standby);
    pair.catch_up();
    pair.wait_for_standby(RUNNING, "200 Standby");
}

pub fn a_restore_is_told(pair: &Pair) {
    pair.primary.stop();
    let restore = Server::restore_of(&pair.primary, "here");
    pair.primary.start();
    pair.primary.psql("SELECT pg_create_restore_point('here')");
    pair.primary.psql("CREATE TABLE after_here ()");
    pair.primary.psql("SELECT pg_switch_wal()");
    restore.start();
    eventually(secs(20), "it is at its target", || restore.psql("SELECT pg_is_wal_replay_paused()") == "t");
    assert_eq!(restore.psql("SELECT to_regclass('after_here') IS NULL"), "t");
    let replica = if pair.major < 12 { "200 Standby" } else { "503 restoring" };
    let agents = ["pgsqlchk", "monitor"].map(|role| agent_of(&restore.dsn(role)));
    for agent in &agents {
        assert_eq!(agent.get("/").line(), "206 Standby");
        assert_eq!(agent.get("/replica").line(), replica);
        assert_eq!(
            agent.get("/replica?replay=running").line(),
            replica.replace("200 Standby", "503 replay-paused")
        );
    }
    restore.psql("SELECT pg_wal_replay_resume()");
    eventually(secs(20), "recovery has ended", || restore.psql("SELECT pg_is_in_recovery()") == "f");
    for agent in &agents {
        assert_eq!(agent.get("/replica").line(), "503 not-in-recovery");
    }
    // Whatever was asked of either, nobody was told of a privilege that is missing.
    for server in [&restore, &pair.standby] {
        assert!(!server.log().contains("ermission denied"), "{}", server.log());
        assert!(!server.log().contains("must be superuser"), "{}", server.log());
    }
    pair.catch_up();
}
