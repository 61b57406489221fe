//! A standby's lag to where its primary writes, as the primary's agent says: a stream that has died shows at once. psql on
//! the primary is the judge of what is missing.

mod support;

use serde_json::Value;
use support::agent_check::ask;
use support::peers::{Ring, assert_in_time, document, line, timed_line};
use support::{Agent, Cluster, Frozen, StopMode, eventually, secs, throughout};

struct Site {
    agents: [Agent; 2],
    standby: Cluster,
    primary: Cluster,
    ring: Ring,
}

impl Site {
    fn start() -> Site {
        let primary = Cluster::primary();
        primary.psql("CREATE ROLE pgsqlchk LOGIN");
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

    /// One more agent, with the others as its peers.
    fn one_more(&self, dsn: &str) -> Agent {
        Agent::start_with(|command| {
            command.args(["--dsn", dsn]).args(self.ring.peers());
        })
    }

    /// One more beside this server, with a role that sees nothing of the WAL receiver.
    fn with_login_alone(&self, server: &Cluster) -> Agent {
        self.one_more(&server.dsn_of("pgsqlchk"))
    }

    fn lag(&self) -> Value {
        document(&self.agents[1], "/status")["lag"].clone()
    }
}

/// So much WAL that a standby lacks, as the primary says.
#[track_caller]
fn write(primary: &Cluster, megabytes: u32) {
    let before = primary.psql("SELECT pg_current_wal_lsn()");
    primary.psql(&format!(
        "SELECT count(pg_logical_emit_message(true, 'x', repeat('x', 1000000))) \
         FROM generate_series(1, {megabytes})"
    ));
    let written = format!("SELECT pg_current_wal_lsn() - '{before}'::pg_lsn > {megabytes} * 900000");
    assert_eq!(primary.psql(&written), "t");
}

#[test]
fn a_stream_that_has_silently_died_shows_as_soon_as_the_primary_writes() {
    let site = Site::start();
    // Nothing tells the WAL receiver, which goes on waiting for wal_receiver_timeout.
    let frozen = Frozen::new(site.primary.process_of_type("walsender").expect("a walsender"));
    write(&site.primary, 60);
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
    let with_login = site.with_login_alone(&site.standby);
    assert_in_time("503 lag-exceeded", || timed_line(&with_login, "/replica?lag=1MB"));
    let lag = document(&with_login, "/status")["lag"].clone();
    assert_eq!(lag["bytes_basis"], "primary", "{lag}");
    // What it would say alone.
    let alone = Agent::start(&["--dsn", &site.standby.dsn()]);
    assert_eq!(line(&alone, "/replica?lag=1MB"), "200 Standby", "that is the false 200 this is about");
    frozen.thaw();
    for agent in [&site.agents[1], &with_login] {
        eventually(secs(30), "it catches up", || line(agent, "/replica?lag=1MB") == "200 Standby");
    }
}

#[test]
fn without_a_receiver_the_lag_is_known_while_the_primary_answers() {
    let site = Site::start();
    site.standby.psql("ALTER SYSTEM SET primary_conninfo = 'host=/nowhere'");
    site.standby.psql("SELECT pg_reload_conf()");
    eventually(secs(20), "there is no receiver", || {
        site.standby.psql("SELECT count(*) FROM pg_stat_wal_receiver") == "0"
    });
    let idle = site.primary.keep_idle();
    eventually(secs(10), "the standby has all there is", || site.lag()["bytes"] == 0);
    let lag = site.lag();
    assert_eq!((&lag["bytes_basis"], &lag["seconds"]), (&"primary".into(), &0.0.into()));
    assert_eq!(line(&site.agents[1], "/replica?lag=1MB"), "200 Standby");
    idle.thaw();
    write(&site.primary, 3);
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
    let beside = site.ring.start(2, &promoted, &[]);
    // It streams from the old primary, and keeps every limit by its own words.
    assert_eq!(site.standby.psql("SELECT status, received_tli FROM pg_stat_wal_receiver"), "streaming|1");
    eventually(secs(10), "the promoted node is heard", || {
        line(&site.agents[1], "/replica?lag=1GB") == "503 lag-unknown"
    });
    assert_eq!(site.lag()["unknown"], "other-timeline");
    assert_eq!(line(&site.agents[1], "/replica?lag_time=1d"), "503 lag-unknown");
    assert_eq!(line(&site.agents[1], "/replica"), "200 Standby");
    assert_in_time("503 superseded", || timed_line(&site.agents[0], "/primary"));
    // Nobody has followed because the promoted node is silent.
    promoted.stop(StopMode::Immediate);
    drop(beside);
    eventually(secs(10), "it is silent", || {
        document(&site.agents[1], "/cluster")["nodes"][2]["reached"] == false
    });
    assert_eq!(line(&site.agents[1], "/replica?lag=1GB"), "503 lag-unknown");
}

/// Makes a primary a standby of another one, whatever it has of its own.
fn follow(server: &Cluster, primary: &Cluster) {
    server.stop(StopMode::Fast);
    std::fs::write(server.data().join("standby.signal"), "").expect("a standby");
    server.write_auto_settings(&[("primary_conninfo", &primary.dsn())]);
    server.start();
}

/// It asks for its last segment from the beginning, so the sender lets it in although it has less.
#[test]
fn a_standby_that_has_more_than_its_sender_holds_no_limit() {
    let site = Site::start();
    let other = Cluster::standby_of(&site.primary);
    site.primary.psql("CREATE TABLE written(number int)");
    for standby in [&site.standby, &other] {
        eventually(secs(10), "it has the table", || standby.try_psql("TABLE written").is_ok());
    }
    site.primary.stop(StopMode::Fast);
    site.standby.promote();
    other.promote();
    other.psql("INSERT INTO written SELECT generate_series(1, 1000)");
    follow(&other, &site.standby);
    let alone = Agent::start(&["--dsn", &other.dsn()]);
    let with_peers = site.one_more(&other.dsn());
    eventually(secs(20), "it streams", || {
        other.psql("SELECT status FROM pg_stat_wal_receiver") == "streaming"
    });
    let counted = |server: &Cluster| server.psql("SELECT count(*) FROM written");
    assert_eq!([counted(&other), counted(&site.standby)], ["1000", "0"]);
    for (who, agent) in [("alone", &alone), ("with peers", &with_peers)] {
        for path in ["/replica?lag=1GB", "/read-only?lag=1GB", "/replica?lag_time=1d"] {
            eventually(secs(10), who, || line(agent, path) == "503 lag-unknown");
        }
        throughout(secs(2), || assert_eq!(line(agent, "/replica?lag=1GB"), "503 lag-unknown", "{who}"));
        assert_eq!(document(agent, "/status")["lag"]["unknown"], "ahead-of-sender", "{who}");
    }
}

/// As `pg_rewind` leaves it where it finds nothing to rewind: the standby waits for WAL of a history that nobody goes on with.
#[test]
fn a_standby_with_a_history_of_its_own_holds_no_limit() {
    let site = Site::start();
    site.primary.psql("CREATE TABLE written(number int)");
    site.primary.stop(StopMode::Fast);
    site.standby.promote();
    // It comes back as it was, is written to, and only then made a standby of the other.
    site.primary.start();
    site.primary.psql("INSERT INTO written VALUES (1)");
    follow(&site.primary, &site.standby);
    assert_eq!(site.primary.psql("SELECT pg_is_in_recovery(), count(*) FROM written"), "t|1");
    assert_eq!(site.standby.psql("SELECT pg_is_in_recovery(), count(*) FROM written"), "f|0");

    let alone = Agent::start(&["--dsn", &site.primary.dsn()]);
    for (who, agent) in [("with peers", &site.agents[0]), ("alone", &alone)] {
        eventually(secs(20), who, || line(agent, "/replica?lag=1GB") == "503 lag-unknown");
        throughout(secs(3), || {
            assert_eq!(line(agent, "/replica?lag=1GB"), "503 lag-unknown", "{who}");
            assert_eq!(line(agent, "/replica?lag_time=1d"), "503 lag-unknown", "{who}");
        });
        assert_eq!(line(agent, "/replica"), "200 Standby", "{who}: without a limit it is one");
    }
    assert_eq!(line(&site.agents[1], "/primary"), "200 Primary");
    // Without more than a login that shows when the primary has written more than the limit.
    let with_login = site.with_login_alone(&site.primary);
    write(&site.standby, 3);
    eventually(secs(5), "it lags", || line(&with_login, "/replica?lag=1MB") == "503 lag-exceeded");
}
