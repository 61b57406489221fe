//! HAProxy's agent-check: how long it waits for a question, what holds it within bounds, and what a real HAProxy makes
//! of its answers. (What it says to which target on which front: tests/fronts.rs.)

mod support;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use support::folder::Folder;
use support::siege::Siege;
use support::wire::{End, PATIENCE, Received, Wire, talk};
use support::{
    Agent, Cluster, Frozen, Haproxy, OneShot, ServerState, StopMode, agent, eventually, free_port, millis,
    secs,
};

const AGENT_LISTEN: [&str; 2] = ["--agent-listen", "127.0.0.1:0"];

/// After this long without a byte the agent takes what it has.
const PAUSE: std::time::Duration = millis(100);

/// What a busy machine may add.
const SLACK: std::time::Duration = millis(1500);

#[track_caller]
fn assert_says(received: &Received, line: &str) {
    assert_eq!((received.text(), received.end), (format!("{line}\n"), End::Fin));
}

fn beside(cluster: &Cluster, args: &[&str]) -> Agent {
    Agent::start(&[&["--dsn", &cluster.dsn()], &AGENT_LISTEN[..], args].concat())
}

fn ask(agent: &Agent, line: &str) -> String {
    talk(agent.agent_check_addr(), format!("{line}\n")).text()
}

// --- The question ---------------------------------------------------------------------------------------------

#[test]
fn silence_and_a_line_without_its_end_are_answered_after_a_tenth_of_a_second() {
    let standby_dsn = "host=/nowhere";
    let agent = Agent::start(&[&AGENT_LISTEN[..], &["--dsn", standby_dsn]].concat());
    for (sent, line) in [
        ("", "down #connection-refused"),
        ("/primary", "down #connection-refused"),
        ("/liveness", "up ready 100%"),
    ] {
        let begun = Instant::now();
        let received = talk(agent.agent_check_addr(), sent);
        assert_says(&received, line);
        let took = begun.elapsed();
        assert!((PAUSE..PAUSE + SLACK).contains(&took), "{sent:?}: {took:?}");
    }
    for line in ["/liveness\n", "\n", "/liveness\r\n"] {
        let received = talk(agent.agent_check_addr(), line);
        assert!(received.elapsed < PAUSE, "{line:?}: {:?}", received.elapsed);
    }
}

/// Half a target would be another question.
#[test]
fn a_line_in_pieces_is_put_together_as_long_as_they_keep_coming() {
    let agent = Agent::start(&AGENT_LISTEN);
    let mut wire = Wire::connect(agent.agent_check_addr());
    // Longer than the pause as a whole.
    for byte in b"/liveness\n".chunks(1) {
        assert!(!wire.wait_readable(PAUSE / 4), "answered too early");
        wire.send(byte);
    }
    assert_says(&wire.receive(PATIENCE), "up ready 100%");
}

#[test]
fn a_line_that_comes_byte_by_byte_and_has_no_end_is_refused_after_five_seconds() {
    let (mut one_shot, wire) = OneShot::with_client(&[], "protocol = agent\n");
    let agent = Agent::start(&AGENT_LISTEN);
    thread::scope(|scope| {
        for mut wire in [Wire::connect(agent.agent_check_addr()), wire] {
            scope.spawn(move || {
                let begun = Instant::now();
                while !wire.wait_readable(PAUSE / 4) && begun.elapsed() < PATIENCE {
                    wire.send("/");
                }
                let answered = begun.elapsed();
                assert_says(&wire.receive(PATIENCE), "down #bad-request");
                assert!((millis(4500)..secs(7)).contains(&answered), "{answered:?}");
            });
        }
    });
    assert_eq!(one_shot.wait().code(), Some(0));
}

#[test]
fn an_endless_line_is_refused_not_kept_and_no_reset_destroys_the_answer() {
    let siege = Siege::begin(&[]);
    let address = siege.agent.agent_check_addr();
    thread::scope(|scope| {
        for junk in [b'/', b'\0', 0xff, b'\r'].repeat(4) {
            let mut reading = Wire::connect(address);
            let mut writing = reading.second_handle();
            scope.spawn(move || writing.flood(&[junk; 65536], 32 << 20, secs(1)));
            scope.spawn(move || {
                let received = reading.receive(PATIENCE);
                assert_ne!(received.end, End::Open, "the connection ends");
                assert_eq!(received.text(), "down #bad-request\n");
            });
        }
    });
    siege.end();
}

// --- Who asks -------------------------------------------------------------------------------------------------

#[test]
fn a_crowd_of_agent_checks_that_say_nothing_does_not_disturb_http() {
    let siege = Siege::begin(&[]);
    let address = siege.agent.agent_check_addr();
    for _ in 0..3 {
        let crowd: Vec<Wire> = (0..200).map(|_| Wire::connect(address)).collect();
        siege.wait_for_checks(20);
        drop(crowd);
    }
    siege.end();
}

#[test]
fn agent_checks_that_never_read_or_close_are_let_go() {
    let mut siege = Siege::begin(&[]);
    let address = siege.agent.agent_check_addr();
    let crowd: Vec<Wire> = (0..50)
        .map(|_| {
            let mut wire = Wire::connect(address);
            wire.send("/liveness\n");
            wire
        })
        .collect();
    siege.wait_for_checks(20);
    siege.wait_for_footprint();
    drop(crowd);
    siege.finish();
}

/// It has less time than a head, but that does not make it the first to go.
#[test]
fn an_agent_check_that_says_nothing_outlives_older_idle_clients() {
    let agent = Agent::start(&[&AGENT_LISTEN[..], &["--max-connections", "8"]].concat());
    let mut crowd: Vec<Wire> = (0..8).map(|_| Wire::connect(agent.addr())).collect();
    crowd.last().expect("a crowd").wait_accepted();
    let mut wire = Wire::connect(agent.agent_check_addr());
    wire.wait_accepted();
    crowd.extend((0..4).map(|_| Wire::connect(agent.addr())));
    crowd.last().expect("a crowd").wait_accepted();
    assert_says(&wire.receive(PATIENCE), "down #connection-refused");
}

#[test]
fn only_allowed_addresses_get_an_answer() {
    let agent = Agent::start(&[&AGENT_LISTEN[..], &["--allow", "127.0.0.2"]].concat());
    for (client, expected) in [(1, ""), (2, "up ready 100%\n"), (3, "")] {
        let mut wire = Wire::connect_from(Ipv4Addr::new(127, 0, 0, client), agent.agent_check_addr());
        let _ = wire.try_send("/liveness\n");
        assert_eq!(wire.receive(PATIENCE).text(), expected, "127.0.0.{client}");
    }
}

#[test]
fn one_address_cannot_speak_both() {
    let address = format!("127.0.0.1:{}", free_port());
    let output = agent::command()
        .args(["--config", "/dev/null", "--listen", &address, "--agent-listen", &address])
        .output()
        .expect("run the agent");
    let line =
        format!("pgsqlchk: agent-listen and listen are both {address}: each needs an address of its own\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), line);
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn an_address_that_is_taken_names_the_option() {
    let first = Agent::start(&AGENT_LISTEN);
    let taken = first.agent_check_addr().to_string();
    let output = agent::command()
        .args(["--config", "/dev/null", "--listen", "127.0.0.1:0", "--agent-listen", &taken])
        .output()
        .expect("run the agent");
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        line.starts_with(&format!("pgsqlchk: cannot listen on {taken}: address already in use")),
        "{line}"
    );
    assert!(line.contains("--agent-listen chooses another") && line.lines().count() == 1, "{line}");
    assert_eq!(output.status.code(), Some(1));
}

// --- The answer -----------------------------------------------------------------------------------------------

#[test]
fn the_line_comes_by_the_deadline_and_says_what_hangs() {
    let primary = Cluster::primary();
    let agent = beside(&primary, &["--timeout", "500ms", "--knock-interval", "10ms"]);
    assert_eq!(ask(&agent, "/primary"), "up ready 100%\n");
    let frozen = Frozen::new(primary.postmaster_pid());
    eventually(secs(5), "the knock is due", || ask(&agent, "") == "down #postmaster-not-answering\n");
    for line in ["/primary\n", "/health\n", ""] {
        let received = talk(agent.agent_check_addr(), line);
        assert_says(&received, "down #postmaster-not-answering");
        assert!(received.elapsed < millis(600) + SLACK, "{line:?}: {:?}", received.elapsed);
    }
    assert_eq!(ask(&agent, "/liveness"), "up ready 100%\n");
    frozen.thaw();
    assert_eq!(ask(&agent, "/primary"), "up ready 100%\n");
}

#[test]
fn no_line_that_begins_after_a_promotion_says_standby() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let agent = beside(&standby, &[]);
    assert_eq!(ask(&agent, "/primary"), "down #in-recovery\n");
    primary.stop(StopMode::Fast);
    standby.promote();
    assert_eq!(ask(&agent, "/primary"), "up ready 100%\n");
    assert_eq!(ask(&agent, "/replica"), "down #not-in-recovery\n");
    standby.stop(StopMode::Fast);
    assert_eq!(ask(&agent, "/primary"), "down #connection-refused\n");
}

#[test]
fn standing_limits_hold_for_agent_checks_too() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let agent = beside(&standby, &["--max-lag", "16MB"]);
    assert_eq!(ask(&agent, "/replica"), "up ready 100%\n");
    lag(&primary, &standby, 8 << 20);
    for target in ["/replica", "/", "/replica?lag=32MB"] {
        assert!((1..=60).contains(&percent(&ask(&agent, target))), "{target}: {}", ask(&agent, target));
    }
    assert_eq!(ask(&agent, "/replica?lag=1MB"), "down #lag-exceeded\n");
    assert_eq!(ask(&agent, "/health"), "up ready 100%\n");
    primary.stop(StopMode::Immediate);
    eventually(secs(10), "the WAL receiver notices", || ask(&agent, "/replica") == "down #lag-unknown\n");
}

#[test]
fn who_waits_while_the_agent_stops_is_told_so() {
    let primary = Cluster::primary();
    let mut agent = beside(&primary, &["--timeout", "10s", "--knock-interval", "10ms"]);
    let _frozen = Frozen::new(primary.postmaster_pid());
    let mut waiting = None;
    eventually(secs(10), "a check waits for the frozen PostgreSQL", || {
        let mut wire = Wire::connect(agent.agent_check_addr());
        wire.send("/primary\n");
        wire.wait_consumed();
        let waits = !wire.wait_readable(millis(100));
        waiting = waits.then_some(wire);
        waits
    });
    assert_eq!(agent.terminate().code(), Some(0));
    assert_says(&waiting.expect("the one that waits").receive(PATIENCE), "down #agent-stopping");
}

/// Pauses the standby's replay and lets it receive so much more.
#[track_caller]
fn lag(primary: &Cluster, standby: &Cluster, bytes: u32) {
    standby.psql("SELECT pg_wal_replay_pause()");
    primary.psql(&format!("SELECT pg_logical_emit_message(false, 'lag', repeat('x', {bytes}))"));
    let written = primary.psql("SELECT pg_current_wal_flush_lsn()");
    let has_received = format!("SELECT pg_last_wal_receive_lsn() >= '{written}'");
    eventually(secs(20), "the standby receives", || standby.psql(&has_received) == "t");
}

/// The weight in `up ready N%`; 0 for any other line.
fn percent(line: &str) -> u32 {
    let number = line.strip_prefix("up ready ").and_then(|rest| rest.strip_suffix("%\n"));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

// --- HAProxy --------------------------------------------------------------------------------------------------

/// HAProxy with one pool of one server. Its other check always passes, so that only the agent-check decides.
struct Site {
    haproxy: Haproxy,
    port: u16,
    agent: Agent,
    drain_file: PathBuf,
    _folder: Folder,
}

impl Site {
    fn start(cluster: &Cluster, agent_send: &str) -> Site {
        let folder = Folder::new("site");
        let drain_file = folder.path().join("drain");
        let knocks = ["--knock-interval", "50ms", "--timeout", "1s"];
        let drain = ["--drain-file", drain_file.to_str().expect("UTF-8")];
        let agent = beside(cluster, &[&knocks[..], &drain].concat());
        let port = free_port();
        let haproxy = Haproxy::start(&format!(
            "listen Pool\n    bind 127.0.0.1:{port}\n    option httpchk OPTIONS /liveness\n    \
             server a 127.0.0.1:{} weight 100 check port {} inter 100ms agent-check agent-port {} \
             agent-inter 100ms {agent_send} on-marked-down shutdown-sessions\n",
            cluster.port(),
            agent.addr().port(),
            agent.agent_check_addr().port(),
        ));
        Site { haproxy, port, agent, drain_file, _folder: folder }
    }

    /// Waits until HAProxy sees its server like this, with all its weight, and understands what the agent says.
    #[track_caller]
    fn expect(&self, status: &str, reason: Option<&str>) {
        let (outcome, words) = match reason {
            None => ("L7OK", "via agent : up".to_owned()),
            Some(reason) => ("L7STS", format!("via agent : down ({reason})")),
        };
        let mut last = None;
        let began = Instant::now();
        while began.elapsed() < secs(8) {
            let state = self.haproxy.server("Pool", "a");
            // While the next check is under way there are no words.
            let ServerState { status: own, agent_status, last_agt, .. } = &state;
            if (own.as_str(), agent_status.as_str(), last_agt) == (status, outcome, &words) {
                return;
            }
            last = Some(state);
            thread::sleep(millis(20));
        }
        panic!("expected {status:?}, {outcome}, {words:?}, last seen {last:?}");
    }

    /// A session of a client of the pool.
    fn connect(&self) -> Result<postgres::Client, postgres::Error> {
        let dsn =
            format!("host=127.0.0.1 port={} user=postgres dbname=postgres connect_timeout=5", self.port);
        postgres::Client::connect(&dsn, postgres::NoTls)
    }
}

#[test]
fn the_weight_follows_the_lag_and_comes_back() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let site = Site::start(&standby, r#"agent-send "/replica?lag=16MB\n""#);
    site.expect("UP", None);
    let mut last = 100;
    for _ in 0..3 {
        lag(&primary, &standby, 4 << 20);
        let now = percent(&ask(&site.agent, "/replica?lag=16MB"));
        assert!((last - 30..last - 20).contains(&now), "from {last} to {now}");
        last = now;
        // PostgreSQL writes a little WAL of its own now and then.
        eventually(secs(8), "HAProxy has the weight that the agent says", || {
            let weight = site.haproxy.server("Pool", "a").weight;
            weight == percent(&ask(&site.agent, "/replica?lag=16MB")).to_string()
        });
    }
    lag(&primary, &standby, 8 << 20);
    site.expect("DOWN (agent)", Some("lag-exceeded"));
    standby.psql("SELECT pg_wal_replay_resume()");
    site.expect("UP", None);
    eventually(secs(8), "all the weight is back", || site.haproxy.server("Pool", "a").weight == "100");
}

#[test]
fn a_drained_server_keeps_its_sessions_gets_no_new_ones_and_comes_back() {
    let primary = Cluster::primary();
    // The question that HAProxy asks without agent-send, and one about the role.
    for agent_send in ["", r#"agent-send "/primary\n""#, "agent-send /primary"] {
        let site = Site::start(&primary, agent_send);
        site.expect("UP", None);
        let mut session = site.connect().expect("a session through HAProxy");
        fs::write(&site.drain_file, "").expect("drain");
        site.expect("DRAIN (agent)", None);
        session.simple_query("SELECT 1").expect("the session goes on");
        assert!(site.connect().is_err(), "no new session");
        fs::remove_file(&site.drain_file).expect("undrain");
        site.expect("UP", None);
        session.simple_query("SELECT 1").expect("the session goes on");
        site.connect().expect("new sessions again");
    }
}

#[test]
fn a_stopped_server_goes_down_with_the_reason_and_comes_back() {
    let primary = Cluster::primary();
    let site = Site::start(&primary, r#"agent-send "/primary\n""#);
    site.expect("UP", None);
    primary.stop(StopMode::Fast);
    site.expect("DOWN (agent)", Some("connection-refused"));
    primary.start();
    site.expect("UP", None);
    site.connect().expect("sessions again");
    // Out of the drained state it goes down, and from there up again.
    fs::write(&site.drain_file, "").expect("drain");
    site.expect("DRAIN (agent)", None);
    primary.stop(StopMode::Fast);
    fs::remove_file(&site.drain_file).expect("undrain");
    site.expect("DOWN (agent)", Some("connection-refused"));
    primary.start();
    site.expect("UP", None);
}

#[test]
fn a_demoted_primary_loses_its_sessions() {
    let primary = Cluster::primary();
    let site = Site::start(&primary, r#"agent-send "/primary\n""#);
    site.expect("UP", None);
    let mut session = site.connect().expect("a session through HAProxy");
    session.simple_query("SELECT 1").expect("it works");
    // Demoting for real is a restart, which would end the session by itself.
    primary.replace_pg_is_in_recovery("role := true");
    site.expect("DOWN (agent)", Some("in-recovery"));
    assert!(session.simple_query("SELECT 1").is_err(), "on-marked-down shutdown-sessions");
}

#[test]
fn a_frozen_primary_loses_its_sessions_and_comes_back() {
    let primary = Cluster::primary();
    let site = Site::start(&primary, r#"agent-send "/primary\n""#);
    site.expect("UP", None);
    let mut session = site.connect().expect("a session through HAProxy");
    let frozen = Frozen::new(primary.postmaster_pid());
    site.expect("DOWN (agent)", Some("postmaster-not-answering"));
    assert!(session.simple_query("SELECT 1").is_err(), "on-marked-down shutdown-sessions");
    frozen.thaw();
    site.expect("UP", None);
}

#[test]
fn haproxy_understands_every_line() {
    let primary = Cluster::primary();
    for (agent_send, status, reason) in [
        ("", "UP", None),
        (r#"agent-send "/status\n""#, "DOWN (agent)", Some("bad-request")),
        (r#"agent-send "/replica\r\n""#, "DOWN (agent)", Some("not-in-recovery")),
    ] {
        Site::start(&primary, agent_send).expect(status, reason);
    }
}

#[test]
fn a_listener_for_agent_checks_is_named_in_the_log() {
    let agent = Agent::start(&AGENT_LISTEN);
    let address: SocketAddr = agent.agent_check_addr();
    assert!(agent.log().contains(&format!("listening on {address} (agent-check)\n")), "{}", agent.log());
    assert!(agent.log().contains(&format!("listening on {}\n", agent.addr())), "{}", agent.log());
    // Questions leave no line.
    let before = agent.log();
    for line in ["/liveness\n", "/nothing\n", "\0\n", ""] {
        let _ = talk(address, line);
    }
    let new = agent.log().replace(&before, "");
    assert!(new.lines().all(|line| line.contains("unavailable")), "{new}");
}
