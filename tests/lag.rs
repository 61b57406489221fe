//! The honest standby: lag made real on real servers and undone, asked for by a role that has nothing but LOGIN and by
//! one in pg_monitor.

mod support;

use std::fs;
use std::process::Stdio;
use std::sync::Arc;

use serde_json::Value;
use support::network::Network;
use support::{Agent, Cluster, Frozen, Reply, StopMode, Stream, agent, eventually, secs};

/// No lag at all, by any measure.
const NONE: &str = "/replica?lag=0&lag_time=0&replication_state=streaming";

/// Any lag, if only it is known.
const ANY: &str = "/replica?lag=1TB&lag_time=1000d";

/// A primary, a standby, and beside the standby an agent for each of the two roles.
struct Site {
    // In the order they go: the servers last.
    plain: Agent,
    monitor: Agent,
    standby: Cluster,
    primary: Cluster,
}

impl Site {
    fn start() -> Site {
        Site::with(&[])
    }

    /// The same, with settings of the standby's own.
    fn with(settings: &[(&str, &str)]) -> Site {
        // PostgreSQL makes no base backup of a standby without full_page_writes.
        let primary = Cluster::primary_with(&[("full_page_writes", "on")]);
        create_roles(&primary);
        let standby = Cluster::stopped_standby_of(&primary, settings);
        standby.start();
        let site = Site::beside(primary, standby);
        site.commit_and_replay();
        site
    }

    fn beside(primary: Cluster, standby: Cluster) -> Site {
        let [plain, monitor] =
            ["plain", "watcher"].map(|role| Agent::start(&["--dsn", &standby.dsn_of(role)]));
        Site { plain, monitor, standby, primary }
    }

    fn agents(&self) -> [(&'static str, &Agent); 2] {
        [("plain", &self.plain), ("pg_monitor", &self.monitor)]
    }

    #[track_caller]
    fn both_say(&self, path: &str, line: &str) {
        for (role, agent) in self.agents() {
            assert_eq!(agent.get(path).line(), line, "{path} as {role}");
        }
    }

    #[track_caller]
    fn both_come_to_say(&self, path: &str, line: &str) {
        for (role, agent) in self.agents() {
            comes_to_say(agent, path, line, role);
        }
    }

    /// Writes about so many kilobytes in one transaction; the standby has received them when this returns.
    #[track_caller]
    fn write_and_receive(&self, kilobytes: usize) {
        write(&self.primary, kilobytes);
        let written = self.primary.psql("SELECT pg_current_wal_flush_lsn()");
        let received = format!("SELECT pg_last_wal_receive_lsn() >= '{written}'");
        eventually(secs(10), "the standby has received it", || self.standby.psql(&received) == "t");
    }

    #[track_caller]
    fn wait_until_replayed(&self) {
        let written = self.primary.psql("SELECT pg_current_wal_flush_lsn()");
        let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
        eventually(secs(10), "the standby has replayed it", || self.standby.psql(&replayed) == "t");
    }

    /// From now on the standby knows how old its data is.
    #[track_caller]
    fn commit_and_replay(&self) {
        write(&self.primary, 1);
        let replayed = "SELECT pg_last_xact_replay_timestamp() IS NOT NULL";
        eventually(secs(10), "the standby has replayed a commit", || self.standby.psql(replayed) == "t");
    }

    #[track_caller]
    fn pause_replay(&self) {
        self.standby.psql("SELECT pg_wal_replay_pause()");
        let paused = "SELECT pg_get_wal_replay_pause_state()";
        eventually(secs(5), "replay is paused", || self.standby.psql(paused) == "paused");
    }

    #[track_caller]
    fn freeze_receiver(&self) -> Frozen {
        Frozen::new(self.standby.process_of_type("walreceiver").expect("a WAL receiver"))
    }
}

fn create_roles(primary: &Cluster) {
    primary.psql("CREATE ROLE plain LOGIN; CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher");
}

fn write(primary: &Cluster, kilobytes: usize) {
    let rows = kilobytes * 10;
    primary.psql(&format!(
        "CREATE TABLE IF NOT EXISTS filler (content text);
         INSERT INTO filler SELECT md5(i::text) FROM generate_series(1, {rows}) AS i"
    ));
}

#[track_caller]
fn comes_to_say(agent: &Agent, path: &str, line: &str, who: &str) {
    let mut said = String::new();
    eventually(secs(20), &format!("{path} as {who}: {line}"), || {
        said = agent.get(path).line();
        said == line
    });
}

#[track_caller]
fn says_in_full(reply: &Reply, line: &str, body: &str) {
    assert_eq!((reply.line().as_str(), reply.body.as_str()), (line, body));
}

#[test]
fn paused_replay_is_lag_in_bytes_and_time_and_resumed_it_is_none() {
    let site = Site::start();
    let _idle = site.primary.keep_idle();
    site.both_come_to_say(NONE, "200 Standby");
    site.pause_replay();
    // Caught up: there is nothing that it could replay.
    site.both_say(NONE, "200 Standby");

    site.write_and_receive(200);
    for (_, agent) in site.agents() {
        says_in_full(&agent.get("/replica?lag=64kB"), "503 lag-exceeded", "No: lag-exceeded\n");
    }
    for path in ["/?lag=64kB", "/standby?lag=64kB", "/read-only?lag=64kB"] {
        site.both_say(path, "503 lag-exceeded");
    }
    site.both_say("/replica?lag=1MB&replication_state=streaming", "200 Standby");
    // The data gets older while nothing is written.
    site.both_come_to_say("/replica?lag_time=1s", "503 lag-exceeded");
    for path in ["/replica?lag_time=100ms", "/replica?lag=1MB&lag_time=1s", "/read-only?lag=64kB&lag_time=1h"]
    {
        site.both_say(path, "503 lag-exceeded");
    }
    site.both_say("/replica?lag=1MB&lag_time=1h", "200 Standby");
    site.both_say("/", "206 Standby");
    site.both_say("/replica", "200 Standby");
    site.both_say("/health", "200 Standby");

    site.standby.psql("SELECT pg_wal_replay_resume()");
    site.both_come_to_say(NONE, "200 Standby");
}

#[test]
fn a_standby_that_replayed_no_commit_since_its_start_does_not_know_how_old_its_data_is() {
    let site = Site::start();
    let _idle = site.primary.keep_idle();
    // From here on it recovers, without the commits before.
    site.primary.psql("CHECKPOINT");
    site.wait_until_replayed();
    site.standby.restart(StopMode::Fast);
    // There is no younger data than that it has.
    site.both_come_to_say(NONE, "200 Standby");
    site.pause_replay();
    site.write_and_receive(200);
    site.both_say("/replica?lag_time=1000d", "503 lag-unknown");
    site.both_say("/replica?lag=1MB", "200 Standby");
    site.both_say("/replica?lag=64kB&lag_time=1000d", "503 lag-exceeded");
    let (line, code) = check(&site.standby.dsn_of("watcher"), "/replica?lag_time=1000d");
    assert!(line.ends_with(" bytes, in time unknown (nothing-replayed): lag-unknown"), "{line}");
    assert_eq!(code, 2);
    site.standby.psql("SELECT pg_wal_replay_resume()");
    site.both_come_to_say(NONE, "200 Standby");
}

#[test]
fn standing_limits_hold_beside_those_that_are_asked_and_not_on_health() {
    let site = Site::start();
    let _idle = site.primary.keep_idle();
    let under = |limit: &str| Agent::start(&["--dsn", &site.standby.dsn_of("plain"), limit]);
    let agents = [under("--max-lag=64kB"), under("--max-lag-time=500ms"), under("--max-lag=1MB")];
    for agent in &agents {
        comes_to_say(agent, "/", "206 Standby", "plain");
    }
    site.pause_replay();
    site.write_and_receive(200);
    for agent in &agents[..2] {
        for path in ["/", "/replica", "/read-only", "/replica?lag=1TB&lag_time=1000d"] {
            comes_to_say(agent, path, "503 lag-exceeded", "plain");
        }
        assert_eq!(agent.get("/health").line(), "200 Standby");
        assert_eq!(agent.get("/primary").line(), "503 in-recovery");
    }
    assert_eq!(agents[2].get("/").line(), "206 Standby");
    assert_eq!(agents[2].get("/?lag=64kB").line(), "503 lag-exceeded");
    site.standby.psql("SELECT pg_wal_replay_resume()");
    for agent in &agents {
        comes_to_say(agent, "/", "206 Standby", "plain");
    }
}

#[test]
fn a_receiver_that_hangs_is_found_with_pg_monitor_and_only_with_it() {
    let site = Site::with(&[("wal_receiver_timeout", "2s"), ("wal_retrieve_retry_interval", "100ms")]);
    site.both_come_to_say(ANY, "200 Standby");
    let frozen = site.freeze_receiver();
    write(&site.primary, 200);
    comes_to_say(&site.monitor, ANY, "503 lag-unknown", "pg_monitor");
    says_in_full(&site.monitor.get("/?lag=1TB"), "503 lag-unknown", "Down: lag-unknown\n");
    // docs/answers.md says so: without pg_monitor this can't be seen.
    assert_eq!(site.plain.get(NONE).line(), "200 Standby");
    site.both_say("/", "206 Standby");
    frozen.thaw();
    site.both_come_to_say(NONE, "200 Standby");
}

#[test]
fn a_blocked_network_makes_the_lag_unknown_after_wal_receiver_timeout() {
    let network = Arc::new(Network::new());
    let primary = Cluster::primary_in(&network);
    create_roles(&primary);
    let settings = [("wal_receiver_timeout", "2s"), ("wal_retrieve_retry_interval", "100ms")];
    let standby = Cluster::stopped_standby_in(&network, &primary, &settings);
    standby.start();
    let site = Site::beside(primary, standby);
    for _ in 0..2 {
        site.both_come_to_say(NONE, "200 Standby");
        network.block();
        write(&site.primary, 200);
        site.both_come_to_say(ANY, "503 lag-unknown");
        site.both_come_to_say("/replica?replication_state=streaming", "503 no-wal-receiver");
        site.both_say("/", "206 Standby");
        network.unblock();
    }
    site.both_come_to_say(NONE, "200 Standby");
}

#[test]
fn the_standby_of_a_stopped_primary_has_no_known_lag_although_it_has_replayed_everything() {
    let site = Site::with(&[("wal_retrieve_retry_interval", "100ms")]);
    for mode in [StopMode::Fast, StopMode::Immediate] {
        site.both_come_to_say(NONE, "200 Standby");
        site.primary.stop(mode);
        site.both_come_to_say(ANY, "503 lag-unknown");
        // The usual formula.
        assert_eq!(site.standby.psql("SELECT pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn()"), "t");
        for path in ["/?lag=1TB", "/read-only?lag_time=1000d", "/replica?lag_time=1000d"] {
            site.both_say(path, "503 lag-unknown");
        }
        let streaming = site.plain.get("/replica?lag=1TB&replication_state=streaming");
        says_in_full(&streaming, "503 no-wal-receiver", "No: no-wal-receiver\n");
        site.both_say("/", "206 Standby");
        site.both_say("/replica", "200 Standby");
        site.primary.start();
    }
    site.both_come_to_say(NONE, "200 Standby");
}

/// The WAL that it needs is gone, so each of its receivers ends a moment after it has connected. Once that moment had no
/// lag: what was received before is replayed.
#[test]
fn a_standby_that_can_never_catch_up_has_no_known_lag() {
    let primary = Cluster::primary_with(&[("wal_keep_size", "0"), ("max_wal_size", "32MB")]);
    create_roles(&primary);
    let standby = Cluster::stopped_standby_of(&primary, &[("wal_retrieve_retry_interval", "10ms")]);
    standby.start();
    let site = Site::beside(primary, standby);
    site.commit_and_replay();
    site.standby.stop(StopMode::Fast);
    for _ in 0..4 {
        write(&site.primary, 100);
        site.primary.psql("SELECT pg_switch_wal()");
    }
    site.primary.psql("CHECKPOINT");
    site.standby.start();
    eventually(secs(10), "the WAL is gone", || site.standby.log().contains("has already been removed"));
    let mut young = 0;
    eventually(secs(30), "receivers are met that may be refused", || {
        let status = site.monitor.get("/status").body;
        let document: Value = serde_json::from_str(&status).expect("a document");
        let age_s = document["receiver"]["last_message_seconds"].as_f64();
        // On a busy machine the sender may take longer to refuse.
        assert!(document["lag"]["bytes"].is_null() || age_s >= Some(0.02), "{status}");
        young += usize::from(document["lag"]["unknown"] == "wal-receiver-silent");
        young >= 5
    });
}

#[test]
fn a_standby_that_is_fed_from_an_archive_alone_has_no_known_lag() {
    let primary = Cluster::primary();
    create_roles(&primary);
    let archive = primary.socket_dir().join("archive").display().to_string();
    let command = format!("mkdir -p {archive} && cp %p {archive}/%f");
    primary.configure(&[("archive_mode", "on"), ("archive_command", &command)]);
    primary.restart(StopMode::Fast);
    let standby = Cluster::stopped_standby_of(&primary, &[("wal_retrieve_retry_interval", "100ms")]);
    standby.write_auto_settings(&[("restore_command", &format!("cp {archive}/%f %p 2>/dev/null"))]);
    primary.psql("SELECT pg_switch_wal()");
    standby.start();
    let site = Site::beside(primary, standby);
    write(&site.primary, 200);
    site.primary.psql("SELECT pg_switch_wal()");
    let filled = "SELECT count(*) FROM pg_class WHERE relname = 'filler'";
    eventually(secs(20), "the standby replays from the archive", || site.standby.psql(filled) == "1");
    site.both_say("/", "206 Standby");
    site.both_say("/replica", "200 Standby");
    site.both_say(ANY, "503 lag-unknown");
    site.both_say("/replica?replication_state=streaming", "503 no-wal-receiver");
}

#[test]
fn a_cascading_standby_is_measured_against_its_sender() {
    let site = Site::start();
    let cascade = Cluster::stopped_standby_of(&site.standby, &[]);
    cascade.start();
    let agents = ["plain", "watcher"].map(|role| Agent::start(&["--dsn", &cascade.dsn_of(role)]));
    agents.iter().for_each(|agent| comes_to_say(agent, NONE, "200 Standby", "the cascade"));
    let frozen = site.freeze_receiver();
    write(&site.primary, 200);
    // It has everything that its sender has.
    agents.iter().for_each(|agent| assert_eq!(agent.get(NONE).line(), "200 Standby"));
    cascade.psql("SELECT pg_wal_replay_pause()");
    frozen.thaw();
    agents
        .iter()
        .for_each(|agent| comes_to_say(agent, "/replica?lag=64kB", "503 lag-exceeded", "the cascade"));
    cascade.psql("SELECT pg_wal_replay_resume()");
    agents.iter().for_each(|agent| comes_to_say(agent, NONE, "200 Standby", "the cascade"));
    site.standby.stop(StopMode::Fast);
    agents.iter().for_each(|agent| comes_to_say(agent, ANY, "503 lag-unknown", "the cascade"));
}

#[test]
fn a_standby_that_starts_up_is_none_until_it_answers_and_has_no_lag_until_it_receives() {
    let primary = Cluster::primary();
    create_roles(&primary);
    let standby = Cluster::stopped_standby_of(&primary, &[]);
    let gate = standby.socket_dir().join("go");
    let wait = format!("while [ ! -e {} ]; do sleep 0.05; done; false", gate.display());
    standby.write_auto_settings(&[("primary_conninfo", &primary.dsn()), ("restore_command", &wait)]);
    standby.try_start_nowait();
    let site = Site::beside(primary, standby);
    site.both_come_to_say("/", "503 starting-up");
    site.both_say(ANY, "503 starting-up");
    site.primary.stop(StopMode::Fast);
    fs::write(&gate, "").expect("open the gate");
    site.standby.wait_ready();
    site.both_come_to_say("/", "206 Standby");
    site.both_say(ANY, "503 lag-unknown");
    site.primary.start();
    site.both_come_to_say(NONE, "200 Standby");
}

#[test]
fn an_idle_primary_does_not_make_its_standby_lag() {
    let site = Site::with(&[("wal_receiver_timeout", "1s")]);
    let _idle = site.primary.keep_idle();
    site.both_come_to_say(NONE, "200 Standby");
    // Messages that say nothing but that the sender lives; the receiver asks for one after half of its timeout.
    let mut messages = Vec::new();
    eventually(secs(20), "five more messages have come", || {
        site.both_say(NONE, "200 Standby");
        let last = site.standby.psql("SELECT last_msg_receipt_time FROM pg_stat_wal_receiver");
        if messages.last() != Some(&last) {
            messages.push(last);
        }
        messages.len() > 5
    });
}

#[test]
fn a_promotion_between_two_columns_is_no_failure() {
    let primary = Cluster::primary();
    for _ in 0..3 {
        let standby = Cluster::standby_of(&primary);
        let agent = Agent::start(&["--dsn", &standby.dsn()]);
        let paths = [ANY, "/read-only?lag=1TB", "/?replication_state=streaming", "/status"];
        let stream = Stream::start(agent.addr(), &paths);
        stream.advance(20);
        standby.promote();
        stream.advance(20);
        for check in stream.finish() {
            let known = match check.line.as_str() {
                "200 Standby" | "206 Standby" | "200 Primary" | "200 OK" | "503 not-in-recovery" => true,
                // The first thing that a promotion ends is the WAL receiver.
                "503 lag-unknown" | "503 not-streaming" | "503 no-wal-receiver" => true,
                _ => false,
            };
            assert!(known, "{check:?}");
        }
    }
}

/// How often the log says what to grant.
fn grants(agent: &Agent) -> usize {
    agent.log().lines().filter(|line| line.contains("WARN") && line.contains("GRANT pg_monitor TO")).count()
}

#[test]
fn a_privilege_that_is_missing_is_said_once_and_only_when_somebody_needs_the_lag() {
    let mut site = Site::start();
    site.primary.psql("CREATE ROLE \"Odd Name\" LOGIN");
    site.both_come_to_say(NONE, "200 Standby");
    site.plain.wait_for_log("On the primary: GRANT pg_monitor TO plain;");
    let odd = format!("{} user='Odd Name'", site.standby.dsn_of("x").replace("user=x", ""));
    let mut odd = Agent::start(&["--dsn", &odd]);
    for path in ["/", "/replica", "/health", "/primary"] {
        (0..5).for_each(|_| assert!(odd.get(path).status > 0));
    }
    assert_eq!(grants(&odd), 0, "nobody needed it");
    for _ in 0..20 {
        site.both_say(ANY, "200 Standby");
        assert_eq!(odd.get(ANY).line(), "200 Standby");
    }
    odd.wait_for_log("GRANT pg_monitor TO \"Odd Name\";");
    for agent in [&mut odd, &mut site.plain, &mut site.monitor] {
        assert!(agent.terminate().success());
    }
    assert_eq!([grants(&odd), grants(&site.plain), grants(&site.monitor)], [1, 1, 0]);
}

/// Runs one check: its line and its exit code.
#[track_caller]
fn check(dsn: &str, target: &str) -> (String, i32) {
    let mut command = agent::command();
    command.args(["--mode", "check", "--dsn", dsn, "--config", "/dev/null", "--target", target]);
    let output = command.stdin(Stdio::null()).output().expect("run the agent");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let line = String::from_utf8(output.stdout).expect("UTF-8");
    (line.trim_end().to_owned(), output.status.code().expect("an exit code"))
}

#[test]
fn a_check_says_the_lag_that_it_saw_and_what_to_grant() {
    let site = Site::start();
    let _idle = site.primary.keep_idle();
    let [plain, watcher] = ["plain", "watcher"].map(|role| site.standby.dsn_of(role));
    site.both_come_to_say(NONE, "200 Standby");
    let caught_up = ("standby timeline 1 lag 0 bytes 0.0 s".to_owned(), 0);
    assert_eq!(check(&plain, NONE), caught_up);
    assert_eq!(check(&watcher, NONE), caught_up);
    assert_eq!(check(&plain, "/replica"), ("standby timeline 1".to_owned(), 0));

    site.pause_replay();
    site.write_and_receive(200);
    let bytes = "SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())";
    let bytes = site.standby.psql(bytes);
    let (line, code) = check(&watcher, "/replica?lag=64kB");
    assert!(line.starts_with(&format!("standby timeline 1 lag {bytes} bytes ")), "{line}");
    assert!(line.ends_with(" s: lag-exceeded"), "{line}");
    assert_eq!(code, 1);
    let (line, code) = check(&plain, "/replica?lag=64kB");
    let place = format!("-h {} -p {}", site.standby.socket_dir().display(), site.standby.port());
    let advice = format!("sudo -u postgres psql {place} -c 'GRANT pg_monitor TO plain'");
    assert!(line.contains(" s: lag-exceeded; this role sees only what was received, "), "{line}");
    assert!(line.ends_with(&advice), "{line}");
    assert_eq!(code, 1);

    site.standby.psql("SELECT pg_wal_replay_resume()");
    site.primary.stop(StopMode::Immediate);
    site.both_come_to_say(ANY, "503 lag-unknown");
    let unknown = ("standby timeline 1 lag unknown (no-wal-receiver): lag-unknown".to_owned(), 2);
    assert_eq!(check(&plain, ANY), unknown);
}
