//! What a real HAProxy makes of the agent-check's answers.

mod support;

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use support::agent_check::{ask, beside, lag, percent};
use support::folder::Folder;
use support::haproxy::assert_shut;
use support::{Agent, Cluster, Frozen, Haproxy, ServerState, StopMode, eventually, free_port, millis, secs};

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
    assert_shut(&mut session);
}

#[test]
fn a_demoted_primary_loses_its_sessions_where_that_is_maintenance_as_well() {
    let primary = Cluster::primary();
    let site = Site::start(&primary, r#"agent-send "/primary?else=maint\n""#);
    site.expect("UP", None);
    let mut session = site.connect().expect("a session through HAProxy");
    session.simple_query("SELECT 1").expect("it works");
    primary.replace_pg_is_in_recovery("role := true");
    eventually(secs(8), "it is in maintenance", || site.haproxy.server("Pool", "a").status == "MAINT");
    assert_shut(&mut session);
    assert!(site.connect().is_err(), "no new session");
}

#[test]
fn a_frozen_primary_loses_its_sessions_and_comes_back() {
    let primary = Cluster::primary();
    let site = Site::start(&primary, r#"agent-send "/primary\n""#);
    site.expect("UP", None);
    let mut session = site.connect().expect("a session through HAProxy");
    let frozen = Frozen::new(primary.postmaster_pid());
    site.expect("DOWN (agent)", Some("postmaster-not-answering"));
    assert_shut(&mut session);
    frozen.thaw();
    site.expect("UP", None);
}

/// Beside `else=maint` a server that is down is one to look after. HTTP checks of the role are made as well.
#[test]
fn in_a_pool_for_writes_the_standby_is_in_maintenance_until_it_is_promoted() {
    let first = Cluster::primary();
    let second = Cluster::standby_of(&first);
    let agents = [&first, &second].map(|cluster| beside(cluster, &["--timeout", "1s"]));
    let port = free_port();
    let server = |name: &str, cluster: &Cluster, agent: &Agent| {
        format!(
            "    server {name} 127.0.0.1:{} check port {} inter 100ms agent-check agent-port {} agent-inter 100ms \
             agent-send \"/read-write?else=maint\\n\"\n",
            cluster.port(),
            agent.addr().port(),
            agent.agent_check_addr().port(),
        )
    };
    let haproxy = Haproxy::start(&format!(
        "listen Writes\n    bind 127.0.0.1:{port}\n    option httpchk OPTIONS /read-write\n    \
         http-check expect status 200\n{}{}",
        server("first", &first, &agents[0]),
        server("second", &second, &agents[1]),
    ));
    let comes_to = |expected: [&str; 2]| {
        eventually(secs(20), &format!("{expected:?}"), || {
            let now = ["first", "second"].map(|name| haproxy.server("Writes", name).status);
            // `DOWN (agent)` where that has said so first.
            now.iter().zip(expected).all(|(now, expected)| now.split(' ').next() == Some(expected))
        });
    };
    let writer = || {
        let dsn = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres connect_timeout=5");
        let mut client = postgres::Client::connect(&dsn, postgres::NoTls).ok()?;
        client.batch_execute("CREATE TEMP TABLE something ()").ok()?;
        Some(client.query_one("SELECT inet_server_port()", &[]).ok()?.get::<_, i32>(0))
    };
    // Nothing is down while all is well.
    comes_to(["UP", "MAINT"]);
    assert_eq!(writer(), Some(first.port().into()));
    first.stop(StopMode::Fast);
    comes_to(["DOWN", "MAINT"]);
    assert_eq!(writer(), None);
    second.promote();
    comes_to(["DOWN", "UP"]);
    assert_eq!(writer(), Some(second.port().into()));
    first.rebuild_as_standby_of(&second);
    first.start();
    comes_to(["MAINT", "UP"]);
    assert_eq!(writer(), Some(second.port().into()));
    // docs/haproxy.md says so: HAProxy leaves in maintenance what is down since.
    first.stop(StopMode::Fast);
    eventually(secs(20), "the agent says that it is down", || {
        haproxy.server("Writes", "first").last_agt == "via agent : down (connection-refused)"
    });
    comes_to(["MAINT", "UP"]);
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
