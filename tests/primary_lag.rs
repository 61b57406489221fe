//! A standby's lag to where its primary writes, as the primary's agent says: a stream that has died shows at once. psql on
//! the primary is the judge of what is missing.

mod support;

use serde_json::Value;
use support::agent_check::ask;
use support::peers::{Ring, document, line};
use support::{Agent, Cluster, Frozen, eventually, secs};

struct Site {
    agents: [Agent; 2],
    standby: Cluster,
    primary: Cluster,
    ring: Ring,
}

impl Site {
    fn start() -> Site {
        let primary = Cluster::primary();
        let standby = Cluster::standby_of(&primary);
        let ring = Ring::of(3);
        let agents =
            [ring.start(0, &primary, &[]), ring.start(1, &standby, &["--agent-listen", "127.0.0.1:0"])];
        let site = Site { agents, standby, primary, ring };
        eventually(secs(20), "the standby keeps its limit", || {
            line(&site.agents[1], "/replica?lag=1MB") == "200 Standby"
        });
        site
    }

    fn lag(&self) -> Value {
        document(&self.agents[1], "/status")["lag"].clone()
    }

    /// So much WAL that the standby lacks, as the primary says.
    #[track_caller]
    fn write(&self, megabytes: u32) {
        let before = self.primary.psql("SELECT pg_current_wal_lsn()");
        self.primary.psql(&format!(
            "SELECT count(pg_logical_emit_message(true, 'x', repeat('x', 1000000))) \
             FROM generate_series(1, {megabytes})"
        ));
        let written = format!("SELECT pg_current_wal_lsn() - '{before}'::pg_lsn > {megabytes} * 900000");
        assert_eq!(self.primary.psql(&written), "t");
    }
}

#[test]
fn a_stream_that_has_silently_died_shows_as_soon_as_the_primary_writes() {
    let site = Site::start();
    // Nothing tells the WAL receiver, which goes on waiting for wal_receiver_timeout.
    let frozen = Frozen::new(site.primary.process_of_type("walsender").expect("a walsender"));
    site.write(60);
    eventually(secs(10), "the limit is no longer kept", || {
        line(&site.agents[1], "/replica?lag=1MB") == "503 lag-exceeded"
    });
    assert_eq!(ask(&site.agents[1], "/replica?lag=1MB"), "down #lag-exceeded\n");
    assert_eq!(line(&site.agents[1], "/?lag=1MB"), "503 lag-exceeded");
    assert_eq!(line(&site.agents[1], "/replica"), "200 Standby", "without a limit it is a standby as before");
    let lag = site.lag();
    assert_eq!(lag["bytes_basis"], "primary");
    assert!(lag["bytes"].as_u64().is_some_and(|bytes| bytes > 50_000_000), "{lag}");
    assert_eq!(site.standby.psql("SELECT status FROM pg_stat_wal_receiver"), "streaming", "says PostgreSQL");
    // What it would say alone.
    let alone = Agent::start(&["--dsn", &site.standby.dsn()]);
    assert_eq!(line(&alone, "/replica?lag=1MB"), "200 Standby", "that is the false 200 this is about");
    frozen.thaw();
    eventually(secs(30), "it catches up", || line(&site.agents[1], "/replica?lag=1MB") == "200 Standby");
}

#[test]
fn without_a_receiver_the_lag_is_known_while_the_primary_answers() {
    let site = Site::start();
    site.standby.psql("ALTER SYSTEM SET primary_conninfo = 'host=/nowhere'");
    site.standby.psql("SELECT pg_reload_conf()");
    eventually(secs(20), "there is no receiver", || {
        site.standby.psql("SELECT count(*) FROM pg_stat_wal_receiver") == "0"
    });
    eventually(secs(10), "the standby has all there is", || site.lag()["bytes"] == 0);
    let lag = site.lag();
    assert_eq!((&lag["bytes_basis"], &lag["seconds"]), (&"primary".into(), &0.0.into()));
    assert_eq!(line(&site.agents[1], "/replica?lag=1MB"), "200 Standby");
    site.write(3);
    eventually(secs(10), "it lags", || line(&site.agents[1], "/replica?lag=1MB") == "503 lag-exceeded");
    assert_eq!(line(&site.agents[1], "/replica?lag=1GB"), "200 Standby");
    // The primary's agent is silent: all is as without it.
    let frozen = Frozen::new(site.agents[0].pid());
    eventually(secs(10), "nobody knows", || line(&site.agents[1], "/replica?lag=1GB") == "503 lag-unknown");
    assert_eq!(site.lag()["unknown"], "no-wal-receiver");
    frozen.thaw();
    eventually(secs(10), "it is known again", || line(&site.agents[1], "/replica?lag=1GB") == "200 Standby");
}

#[test]
fn on_the_old_timeline_a_standby_has_no_lag_that_is_known() {
    let site = Site::start();
    let promoted = Cluster::standby_of(&site.primary);
    promoted.promote();
    let _beside = site.ring.start(2, &promoted, &[]);
    // It streams from the old primary, and keeps every limit by its own words.
    assert_eq!(site.standby.psql("SELECT status, received_tli FROM pg_stat_wal_receiver"), "streaming|1");
    eventually(secs(10), "the promoted node is heard", || {
        line(&site.agents[1], "/replica?lag=1GB") == "503 lag-unknown"
    });
    assert_eq!(site.lag()["unknown"], "other-timeline");
    assert_eq!(line(&site.agents[1], "/replica?lag_time=1d"), "503 lag-unknown");
    assert_eq!(line(&site.agents[1], "/replica"), "200 Standby");
    assert_eq!(line(&site.agents[0], "/primary"), "503 superseded");
}
