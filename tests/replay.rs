//! A standby whose replay stands still: it streams, it lags by little WAL, and rows are missing. `replay=running` asks
//! for more than that. A fresh psql on both nodes is the judge.

mod support;

use std::process::Stdio;

use serde_json::Value;
use support::{Agent, Cluster, StopMode, agent, eventually, secs, wire};

/// What a pool of readers asked for, and what it got rows missing with.
const NEAR: &str = "/replica?lag=16MB&replication_state=streaming";

/// What it should have asked for.
const RUNNING: &str = "/replica?lag=16MB&replication_state=streaming&replay=running";

/// A primary, a standby that has replayed a commit, and beside the standby an agent with LOGIN alone and one with
/// pg_monitor.
struct Site {
    agents: [Agent; 2],
    standby: Cluster,
    primary: Cluster,
}

impl Site {
    fn start() -> Site {
        let primary = Cluster::primary();
        primary.psql("CREATE ROLE plain LOGIN; CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher");
        let standby = Cluster::standby_of(&primary);
        let agents = ["plain", "watcher"].map(|role| Agent::start(&["--dsn", &standby.dsn_of(role)]));
        let site = Site { agents, standby, primary };
        site.primary.psql("CREATE TABLE orders (number integer)");
        eventually(secs(20), "the standby has the table", || {
            site.standby.psql("SELECT to_regclass('orders') IS NOT NULL") == "t"
        });
        site
    }

    /// A thousand orders, which the standby has received when this returns.
    #[track_caller]
    fn order(&self) {
        self.primary.psql("INSERT INTO orders SELECT generate_series(1, 1000)");
        let written = self.primary.psql("SELECT pg_current_wal_flush_lsn()");
        let received = format!("SELECT pg_last_wal_receive_lsn() >= '{written}'");
        eventually(secs(20), "the standby has received them", || self.standby.psql(&received) == "t");
    }

    /// How many orders the standby lacks, as somebody else sees it.
    fn missing(&self) -> i64 {
        let count = |server: &Cluster| server.psql("SELECT count(*) FROM orders").parse::<i64>();
        count(&self.primary).expect("a number") - count(&self.standby).expect("a number")
    }

    #[track_caller]
    fn pause(&self) {
        self.standby.psql("SELECT pg_wal_replay_pause()");
        self.wait_until_paused();
    }

    #[track_caller]
    fn wait_until_paused(&self) {
        let state = "SELECT pg_get_wal_replay_pause_state()";
        eventually(secs(20), "replay is paused", || self.standby.psql(state) == "paused");
    }

    #[track_caller]
    fn both_say(&self, path: &str, line: &str) {
        for agent in &self.agents {
            assert_eq!(agent.get(path).line(), line, "{path}\n{}", agent.get("/status").body);
        }
    }

    #[track_caller]
    fn both_come_to_say(&self, path: &str, line: &str) {
        for agent in &self.agents {
            eventually(secs(20), &format!("{path}: {line}"), || agent.get(path).line() == line);
        }
    }
}

fn status(agent: &Agent) -> Value {
    serde_json::from_str(&agent.get("/status").body).expect("JSON")
}

fn metric(agent: &Agent, name: &str) -> Option<f64> {
    let page = agent.get("/metrics").body;
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map(|value| value.parse().expect("a number"))
}

fn page(agent: &Agent) -> String {
    agent.ask(b"GET /status HTTP/1.1\r\nAccept: text/html\r\n\r\n").body
}

/// The lines about replay, without time and level.
fn lines(agent: &Agent) -> Vec<String> {
    let log = agent.log();
    let lines = log.lines().filter_map(|line| line.split_once("[pgsqlchk] replay "));
    lines.map(|(_, line)| line.to_owned()).collect()
}

/// Little WAL is enough for a thousand rows: for 12 s, and for as long as one likes, they were missing.
#[test]
fn paused_replay_misses_rows_within_every_limit_and_is_told_where_running_replay_is_asked() {
    let site = Site::start();
    site.both_come_to_say(RUNNING, "200 Standby");
    site.pause();
    site.order();
    assert_eq!(site.missing(), 1000);
    for (path, line) in [
        // That is what they mean.
        (NEAR, "200 Standby"),
        ("/replica", "200 Standby"),
        ("/", "206 Standby"),
        (RUNNING, "503 replay-paused"),
        ("/replica?replay=running", "503 replay-paused"),
        ("/standby?replay=running", "503 replay-paused"),
        ("/read-only?replay=running", "503 replay-paused"),
        ("/?replay=running", "503 replay-paused"),
    ] {
        site.both_say(path, line);
    }
    let [plain, watcher] = &site.agents;
    assert_eq!(plain.get(RUNNING).body, "No: replay-paused\n");
    let haproxys = Agent::start(&["--dsn", &site.standby.dsn_of("plain"), "--agent-listen", "127.0.0.1:0"]);
    let question = "/replica?replay=running\n";
    assert_eq!(wire::talk(haproxys.agent_check_addr(), question).text(), "down #replay-paused\n");
    for agent in [plain, watcher] {
        let document = status(agent);
        assert_eq!((&document["replay_paused"], &document["reason"]), (&true.into(), &Value::Null));
        assert_eq!(document["lag"]["seconds_basis"], "last-commit", "{document:#}");
        let age_s = document["lag"]["seconds"].as_f64().expect("an age");
        eventually(secs(20), "the data gets older", || {
            status(agent)["lag"]["seconds"].as_f64().is_some_and(|later_s| later_s > age_s + 0.5)
        });
        assert_eq!(metric(agent, "pgsqlchk_replay_paused"), Some(1.0));
        assert!(page(agent).contains("<dt>Replay</dt><dd>paused</dd>"));
    }

    site.standby.psql("SELECT pg_wal_replay_resume()");
    site.both_come_to_say("/replica?lag=0&replay=running", "200 Standby");
    assert_eq!(site.missing(), 0);
    for agent in &site.agents {
        assert_eq!(status(agent)["replay_paused"], false);
        assert_eq!(metric(agent, "pgsqlchk_replay_paused"), Some(0.0));
        assert!(page(agent).contains("<dt>Replay</dt><dd>running</dd>"));
        agent.wait_for_log("replay is paused no more after ");
        let lines = lines(agent);
        assert_eq!(lines.len(), 2, "one for its beginning, one for its end: {lines:#?}");
        assert_eq!(lines[0], "is paused");
    }
}

/// While it is paused it starts no new receiver: with the first restart of the primary it was without one for good, and
/// its lag without a figure.
#[test]
fn the_data_of_paused_replay_has_an_age_also_without_a_receiver() {
    let site = Site::start();
    site.both_come_to_say(RUNNING, "200 Standby");
    site.pause();
    site.order();
    site.primary.restart(StopMode::Fast);
    site.both_come_to_say("/replica?replication_state=streaming", "503 no-wal-receiver");
    site.both_say("/replica?replay=running", "503 replay-paused");
    for agent in &site.agents {
        let lag = &status(agent)["lag"];
        assert_eq!((&lag["bytes"], &lag["unknown"]), (&Value::Null, &"no-wal-receiver".into()));
        assert_eq!(lag["seconds_basis"], "last-commit");
        assert!(metric(agent, "pgsqlchk_replication_lag_seconds") > Some(0.0));
        assert_eq!(metric(agent, "pgsqlchk_replication_lag_bytes"), None);
    }
    site.both_come_to_say("/replica?lag_time=1s", "503 lag-exceeded");
    site.both_say("/replica?lag_time=1h", "200 Standby");
    site.both_say("/replica?lag=1TB", "503 lag-unknown");
    let mut check = agent::command();
    check.args(["--mode", "check", "--config", "/dev/null", "--target", "/replica?lag_time=1s", "--dsn"]);
    let output = check.arg(site.standby.dsn_of("watcher")).stdin(Stdio::null()).output().expect("a check");
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(line.ends_with(" s, in bytes unknown (no-wal-receiver): lag-exceeded\n"), "{line}");
    assert_eq!(output.status.code(), Some(1));

    site.standby.psql("SELECT pg_wal_replay_resume()");
    site.both_come_to_say(RUNNING, "200 Standby");
}

/// Since PostgreSQL 14 a standby pauses by itself where it could not hold what its primary allows.
#[test]
fn a_standby_with_fewer_connections_than_its_primary_pauses_by_itself() {
    let site = Site::start();
    site.primary.configure(&[("max_connections", "60")]);
    site.primary.restart(StopMode::Fast);
    site.wait_until_paused();
    assert!(site.standby.log().contains("insufficient parameter settings"));
    site.primary.psql("INSERT INTO orders SELECT generate_series(1, 1000)");
    assert_eq!(site.missing(), 1000);
    site.both_say("/replica", "200 Standby");
    site.both_say("/replica?replay=running", "503 replay-paused");
    for agent in &site.agents {
        assert_eq!(status(agent)["replay_paused"], true);
        agent.wait_for_log("replay is paused");
    }
    site.standby.configure(&[("max_connections", "60")]);
    site.standby.restart(StopMode::Fast);
    site.both_come_to_say(RUNNING, "200 Standby");
    assert_eq!(site.missing(), 0);
}

#[test]
fn replay_that_is_delayed_on_purpose_is_told_with_its_delay() {
    let site = Site::start();
    site.both_come_to_say(RUNNING, "200 Standby");
    site.standby.configure(&[("recovery_min_apply_delay", "90min")]);
    eventually(secs(5), "the delay holds", || site.standby.psql("SHOW recovery_min_apply_delay") == "90min");
    site.order();
    assert_eq!(site.missing(), 1000);
    site.both_say(NEAR, "200 Standby");
    site.both_say("/", "206 Standby");
    for path in [RUNNING, "/replica?replay=running", "/read-only?replay=running", "/?replay=running"] {
        site.both_say(path, "503 replay-delayed");
    }
    for agent in &site.agents {
        assert_eq!(agent.get(RUNNING).body, "No: replay-delayed\n");
        let document = status(agent);
        assert_eq!(
            (&document["replay_delay_seconds"], &document["replay_paused"]),
            (&5400.0.into(), &false.into())
        );
        assert_eq!(document["lag"]["seconds_basis"], "last-commit");
        assert_eq!(metric(agent, "pgsqlchk_replay_delay_seconds"), Some(5400.0));
        assert!(page(agent).contains("<dt>Replay</dt><dd>delayed by 1 h 30 min</dd>"));
    }
    // A pause holds up even more.
    site.standby.psql("SELECT pg_wal_replay_pause()");
    site.both_say(RUNNING, "503 replay-paused");
    site.standby.psql("SELECT pg_wal_replay_resume()");
    site.both_say(RUNNING, "503 replay-delayed");

    site.standby.configure(&[("recovery_min_apply_delay", "0")]);
    site.both_come_to_say("/replica?lag=0&replay=running", "200 Standby");
    assert_eq!(site.missing(), 0);
    for agent in &site.agents {
        assert_eq!(metric(agent, "pgsqlchk_replay_delay_seconds"), Some(0.0));
        agent.wait_for_log("replay is delayed no more after ");
        assert!(lines(agent).contains(&"is delayed by 5400 s".to_owned()), "{:?}", lines(agent));
    }
}

/// `/` asks for nothing but the role, so it notices nothing; the first check that asks does.
#[test]
fn plain_checks_do_not_look_at_replay_and_a_promotion_ends_it() {
    let site = Site::start();
    let agent = Agent::start(&["--dsn", &site.standby.dsn_of("plain")]);
    site.pause();
    for path in ["/", "/health", "/primary"] {
        (0..5).for_each(|_| assert!(agent.get(path).status > 0));
    }
    assert_eq!(agent.get("/replica").line(), "200 Standby");
    agent.wait_for_log("replay is paused");
    site.standby.psql("SELECT pg_wal_replay_resume()");
    site.standby.promote();
    assert_eq!(agent.get("/").line(), "200 Primary");
    agent.wait_for_log("replay is paused no more after ");
    assert_eq!(lines(&agent).len(), 2, "{:?}", lines(&agent));
    assert_eq!(agent.get("/?replay=running").line(), "200 Primary");
    assert_eq!(metric(&agent, "pgsqlchk_replay_paused"), None, "a primary replays nothing");
}
