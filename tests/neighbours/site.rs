//! What stands around three nodes, whoever manages them: an agent beside each, peers of each other; HAProxy with
//! packaging/examples/cluster.cfg, in which nothing but addresses and ports is changed; and a writer.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::cluster::psql_command;
use crate::support::haproxy::Haproxy;
use crate::support::site::example;
use crate::support::{Agent, free_port, patiently, secs};
use crate::watch::Watch;
use crate::writer::Writer;

/// How many there are; the first is `node1`, at 127.0.0.1.
pub const NODES: usize = 3;
/// What the role of an agent needs, and what lets its peers know sooner of a promotion.
pub const ROLE: &str = "CREATE ROLE pgsqlchk LOGIN; GRANT pg_monitor TO pgsqlchk";
/// Far more than anything takes that is not measured.
pub const LIMIT: Duration = secs(60);

const WRITES: &str = "ReadWrite";
const READS: &str = "ReadOnly";

/// The address of a node, which no other one has.
pub fn host(node: usize) -> String {
    format!("127.0.0.{}", node + 1)
}

/// The name of a node, for HAProxy as for its manager.
pub fn name(node: usize) -> String {
    format!("node{}", node + 1)
}

/// A session as superuser over TCP at one node; every node has the same port.
#[derive(Clone, Copy)]
pub struct Servers {
    /// PostgreSQL's port.
    pub port: u16,
}

impl Servers {
    /// Which database, as whom and where.
    pub fn dsn(self, node: usize) -> String {
        format!("host={} port={} user=postgres dbname=postgres connect_timeout=5", host(node), self.port)
    }

    /// A statement in a new session.
    pub fn try_psql(self, node: usize, sql: &str) -> Result<String, String> {
        let mut psql = psql_command();
        psql.env("PGOPTIONS", "-c statement_timeout=20s -c synchronous_commit=local");
        psql.args(["-d", &self.dsn(node), "-v", "ON_ERROR_STOP=1", "-c", sql]);
        let output = psql.output().unwrap_or_else(|error| panic!("{psql:?}: {error}"));
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// The same; panics when it fails.
    #[track_caller]
    pub fn psql(self, node: usize, sql: &str) -> String {
        self.try_psql(node, sql).unwrap_or_else(|error| panic!("{}: {sql}: {error}", name(node)))
    }

    /// Whether a new session there is on a primary.
    pub fn is_primary(self, node: usize) -> bool {
        self.try_psql(node, "SELECT pg_is_in_recovery()").as_deref() == Ok("f")
    }

    /// Waits until the node is a standby that streams.
    #[track_caller]
    pub fn wait_for_streaming(self, limit: Duration, node: usize) {
        let sql =
            "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming' AND pg_is_in_recovery()";
        patiently(limit, &format!("{} streams", name(node)), || {
            self.try_psql(node, sql).as_deref() == Ok("1")
        });
    }
}

/// Agents, HAProxy, a writer and a watch.
pub struct Site {
    // The order in which they go: who asks before who is asked.
    /// An application.
    pub writer: Writer,
    /// Every answer.
    pub watch: Watch,
    /// Its own view decides where writes may go.
    pub haproxy: Haproxy,
    agents: Vec<Option<Agent>>,
    agent_port: u16,
    sockets: Vec<PathBuf>,
    /// PostgreSQL.
    pub servers: Servers,
}

impl Site {
    /// Starts all of it beside servers that run; the folders are those of their sockets.
    #[track_caller]
    pub fn start(servers: Servers, sockets: &[&Path]) -> Site {
        let agent_port = free_port();
        let sockets: Vec<PathBuf> = sockets.iter().map(|folder| (*folder).to_owned()).collect();
        let agents = (0..NODES).map(|node| Some(start_agent(node, &sockets[node], servers.port, agent_port)));
        let agents: Vec<Option<Agent>> = agents.collect();
        let (config, writes_port) = adapt(&example("cluster.cfg"), servers.port, agent_port);
        let haproxy = Haproxy::start_whole(&config);
        let addresses: Vec<SocketAddr> = (0..NODES)
            .map(|node| format!("{}:{agent_port}", host(node)).parse().expect("an address"))
            .collect();
        let dsn =
            format!("host=127.0.0.1 port={writes_port} user=postgres dbname=postgres connect_timeout=2");
        let (writer, watch) = (Writer::start(dsn), Watch::start(&addresses));
        Site { writer, watch, haproxy, agents, agent_port, sockets, servers }
    }

    /// The agent of a node.
    #[track_caller]
    pub fn agent(&self, node: usize) -> &Agent {
        self.agents[node].as_ref().expect("it runs")
    }

    /// The agent of a node ends with its host.
    pub fn kill_agent(&mut self, node: usize) {
        self.agents[node] = None;
    }

    /// The agent of a node starts, and remembers nothing.
    #[track_caller]
    pub fn start_agent(&mut self, node: usize) {
        let agent = start_agent(node, &self.sockets[node], self.servers.port, self.agent_port);
        self.agents[node] = Some(agent);
    }

    /// Status line of a node's agent.
    #[track_caller]
    pub fn line(&self, node: usize, path: &str) -> String {
        self.agent(node).get(path).line()
    }

    /// The node is the only one that gets writes, as psql, the agents and HAProxy say; the others may be anything else.
    #[track_caller]
    pub fn expect_primary(&self, node: usize) {
        patiently(LIMIT, &format!("{} alone gets writes", name(node)), || {
            let is_up = |other: usize| self.haproxy.server(WRITES, &name(other)).status.starts_with("UP");
            (0..NODES).all(|other| is_up(other) == (other == node))
        });
        assert!(self.servers.is_primary(node), "psql says so");
        for path in ["/", "/primary", "/read-write"] {
            assert_eq!(self.line(node, path), "200 Primary", "{path}");
        }
        assert_eq!(self.line(node, "/replica"), "503 not-in-recovery");
    }

    /// The node is a standby for everybody, and gets reads.
    #[track_caller]
    pub fn expect_standby(&self, limit: Duration, node: usize) {
        self.servers.wait_for_streaming(limit, node);
        self.expect_lines(node, &[("/", "206 Standby"), ("/replica", "200 Standby")]);
        self.expect_lines(node, &[("/primary", "503 in-recovery"), ("/read-write", "503 in-recovery")]);
        patiently(LIMIT, &format!("{} gets reads", name(node)), || {
            self.haproxy.server(READS, &name(node)).status == "UP"
        });
        self.expect_refused(node, "503", "in-recovery");
    }

    /// Waits until the agent of a node answers so.
    #[track_caller]
    pub fn expect_lines(&self, node: usize, expected: &[(&str, &str)]) {
        for (path, line) in expected {
            patiently(LIMIT, &format!("{} says {line} on {path}", name(node)), || {
                self.line(node, path) == *line
            });
        }
    }

    /// HAProxy sends no writes to a node, and says why.
    #[track_caller]
    pub fn expect_refused(&self, node: usize, code: &str, reason: &str) {
        patiently(LIMIT, &format!("HAProxy sees {code} {reason} of {}", name(node)), || {
            let state = self.haproxy.server(WRITES, &name(node));
            (state.status.as_str(), state.check_code.as_str(), state.last_chk.as_str())
                == ("DOWN", code, reason)
        });
    }

    /// A server that is an old primary, as psql says, is none for its agent and HAProxy, and stays so while the other one
    /// gets a hundred writes; `since` is when it was the primary for the last time.
    #[track_caller]
    pub fn expect_superseded(&self, old: usize, new: usize, since: Instant) {
        patiently(LIMIT, "the old primary lets sessions in", || self.servers.is_primary(old));
        for path in ["/", "/primary", "/read-write", "/read-only"] {
            // Until its next login it may say that the server starts; never 200, as the watch has seen.
            self.expect_lines(old, &[(path, "503 superseded")]);
        }
        assert_eq!(self.line(old, "/replica"), "503 not-in-recovery");
        self.expect_refused(old, "503", "superseded");
        self.writer.wait_for(LIMIT, &host(new), 100);
        assert!(self.servers.is_primary(old), "psql still says so");
        self.expect_refused(old, "503", "superseded");
        self.watch.assert_never_primary(old, since);
        self.expect_no_writes(old, since);
    }

    /// The server confirmed no write that began after `since`, and holds none.
    #[track_caller]
    pub fn expect_no_writes(&self, old: usize, since: Instant) {
        let confirmed = self.writer.confirmed_since(since, &host(old));
        assert!(confirmed.is_empty(), "confirmed by the old primary: {confirmed:?}");
        let tried = self.writer.tried_since(since);
        let there: Vec<i64> = self.rows(old).into_iter().filter(|id| tried.contains(id)).collect();
        assert!(there.is_empty(), "in the old primary: {there:?}");
    }

    /// Every write that was confirmed to the application, by whomever, is there.
    #[track_caller]
    pub fn expect_nothing_lost(&self, node: usize) {
        // Asked first: what is confirmed from here on need not be among the rows.
        let confirmed = self.writer.confirmed();
        let rows: std::collections::BTreeSet<i64> = self.rows(node).into_iter().collect();
        let lost: Vec<&i64> = confirmed.difference(&rows).collect();
        assert!(confirmed.len() > 10, "{confirmed:?}");
        assert!(lost.is_empty(), "{} of {} confirmed writes are lost: {lost:?}", lost.len(), confirmed.len());
    }

    #[track_caller]
    fn rows(&self, node: usize) -> Vec<i64> {
        let rows = self.servers.psql(node, "SELECT id FROM writes");
        rows.lines().map(|id| id.parse().expect("a number")).collect()
    }
}

#[track_caller]
fn start_agent(node: usize, socket: &Path, port: u16, agent_port: u16) -> Agent {
    let dsn = format!("host={} port={port} user=pgsqlchk dbname=postgres", socket.display());
    let address = format!("{}:{agent_port}", host(node));
    Agent::start_with(|command| {
        command.args(["--dsn", &dsn, "--listen", &address]);
        command.args((0..NODES).map(|node| format!("--peer={}:{agent_port}", host(node))));
    })
}

/// The example with this host's addresses, and the port for writes.
#[track_caller]
fn adapt(text: &str, port: u16, agent_port: u16) -> (String, u16) {
    let is_root = rustix::process::geteuid().is_root();
    let is_for_root =
        |line: &&str| ["user ", "group ", "chroot "].iter().any(|word| line.trim().starts_with(word));
    let (mut config, mut writes_port) = (String::new(), None);
    for line in text.lines().filter(|line| is_root || !is_for_root(line)) {
        let mut line = line.to_owned();
        if let Some(address) = line.trim().strip_prefix("bind ") {
            let bound = free_port();
            if address == "*:5000" {
                writes_port = Some(bound);
            }
            line = format!("    bind 127.0.0.1:{bound}");
        } else if line.trim().starts_with("server ") {
            for node in 0..NODES {
                line =
                    line.replace(&format!("192.0.2.1{}:5432", node + 1), &format!("{}:{port}", host(node)));
            }
            line = line.replace("port 23267", &format!("port {agent_port}"));
        }
        config.push_str(&line);
        config.push('\n');
    }
    (config, writes_port.expect("a port for writes"))
}
