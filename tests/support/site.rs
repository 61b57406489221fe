//! The files in packaging/examples/ with real servers behind them: ports and addresses are replaced, and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

use super::cluster::{psql_command, try_psql};
use super::folder::Folder;
use super::postgresql::run;
use super::{Agent, Cluster, Haproxy, ServerState, agent, free_port, haproxy, millis, secs};

/// HAProxy needs three failed checks at one second, each one at most a deadline long.
const SOON: Duration = secs(20);

/// All of them.
pub const EXAMPLES: [&str; 7] = [
    "agent-check.cfg",
    "classic.cfg",
    "cluster.cfg",
    "drain.cfg",
    "lag-limited-readers.cfg",
    "patroni-paths.cfg",
    "two-clusters.cfg",
];

/// Where they are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/examples")
}

/// The text of one.
pub fn example(name: &str) -> String {
    let path = folder().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines of a configuration that HAProxy reads.
pub fn effective(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The sections of a configuration: the first line, and those after it.
pub fn sections(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut sections: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in effective(text) {
        let word = line.split(' ').next().unwrap_or_default();
        if ["global", "defaults", "listen", "frontend", "backend"].contains(&word) {
            sections.push((line, Vec::new()));
        } else if let Some((_, lines)) = sections.last_mut() {
            lines.push(line);
        }
    }
    sections
}

/// The pool that gets what comes in on port 5000, the one for writes.
#[track_caller]
pub fn write_pool(text: &str) -> String {
    let sections = sections(text);
    let is_entrance =
        |lines: &[&str]| lines.iter().any(|line| line.starts_with("bind ") && line.ends_with(":5000"));
    let (name, lines) = sections.iter().find(|(_, lines)| is_entrance(lines)).expect("a port for writes");
    let backend = lines.iter().find_map(|line| line.strip_prefix("default_backend "));
    backend.or_else(|| name.strip_prefix("listen ")).expect("a name").to_owned()
}

/// A server and the agent beside it.
pub struct Node {
    /// The agent.
    pub agent: Agent,
    /// The server.
    pub cluster: Cluster,
    folder: Folder,
}

impl Node {
    /// Starts an agent beside the server.
    #[track_caller]
    pub fn start(cluster: Cluster) -> Node {
        Node::start_with(cluster, &[])
    }

    /// The same with further options of the agent.
    #[track_caller]
    pub fn start_with(cluster: Cluster, more: &[&str]) -> Node {
        let folder = Folder::new("node");
        let drain_file = folder.path().join("drain").display().to_string();
        let dsn = cluster.dsn();
        let options = ["--dsn", &dsn, "--drain-file", &drain_file, "--agent-listen", "127.0.0.1:0"];
        let agent = Agent::start(&[&options, more].concat());
        Node { agent, cluster, folder }
    }

    /// `--mode drain` or `--mode undrain`.
    #[track_caller]
    pub fn switch(&self, mode: &str) {
        let drain_file = self.folder.path().join("drain");
        let mut command = agent::command();
        command.args(["--config", "/dev/null", "--mode", mode, "--drain-file"]).arg(drain_file);
        run(&mut command);
    }

    /// Its drain file, which need not be there.
    pub fn drain_file(&self) -> PathBuf {
        self.folder.path().join("drain")
    }

    /// The server's port, as psql prints it.
    pub fn port(&self) -> String {
        self.cluster.port().to_string()
    }
}

/// A primary `a`, its standby `b`, and HAProxy with an example in front of both.
pub struct Site {
    balancer: Balancer,
    /// `node1`.
    pub a: Node,
    /// `node2`.
    pub b: Node,
}

impl Site {
    /// Starts all of it.
    #[track_caller]
    pub fn start(text: &str) -> Site {
        let [a, b] = primary_and_standby();
        Site { balancer: Balancer::start(text, [&a, &b]), a, b }
    }
}

impl Deref for Site {
    type Target = Balancer;

    fn deref(&self) -> &Balancer {
        &self.balancer
    }
}

/// A primary and its standby.
#[track_caller]
pub fn primary_and_standby() -> [Node; 2] {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    [Node::start(primary), Node::start(standby)]
}

/// HAProxy with an example, in front of so many nodes as there are.
pub struct Balancer {
    /// HAProxy.
    pub haproxy: Haproxy,
    /// The example's ports, and where they are here.
    ports: BTreeMap<u16, u16>,
}

impl Balancer {
    /// Starts this machine's HAProxy.
    #[track_caller]
    pub fn start<const N: usize>(text: &str, nodes: [&Node; N]) -> Balancer {
        Balancer::start_command(Command::new(haproxy::program()), text, nodes)
    }

    /// The same with another HAProxy, by a command that lacks nothing but its options.
    #[track_caller]
    pub fn start_command<const N: usize>(command: Command, text: &str, nodes: [&Node; N]) -> Balancer {
        let (config, ports) = adapt(text, &nodes);
        Balancer { haproxy: Haproxy::start_command(command, &config), ports }
    }

    /// Waits until HAProxy sees a server like this: status, code and words of the last check.
    #[track_caller]
    pub fn expect(&self, pool: &str, server: &str, expected: [&str; 3]) {
        self.expect_that(pool, server, &format!("{expected:?}"), |state| {
            [&state.status, &state.check_code, &state.last_chk] == expected
        });
    }

    /// The same for any state.
    #[track_caller]
    pub fn expect_that(&self, pool: &str, server: &str, what: &str, is: impl Fn(&ServerState) -> bool) {
        let began = Instant::now();
        loop {
            let state = self.haproxy.server(pool, server);
            if is(&state) {
                return;
            }
            assert!(began.elapsed() < SOON, "{pool}/{server}: expected {what}, last seen {state:?}");
            std::thread::sleep(millis(20));
        }
    }

    /// How a client of a pool connects.
    pub fn dsn(&self, port: u16) -> String {
        format!("host=127.0.0.1 port={} user=postgres dbname=postgres connect_timeout=5", self.ports[&port])
    }

    /// What a client of a pool reaches: the port of the PostgreSQL behind it.
    #[track_caller]
    pub fn reaches(&self, port: u16) -> String {
        let sql = "SELECT inet_server_port()";
        run(psql_command().args(["-d", &self.dsn(port), "-c", sql])).trim().to_owned()
    }

    /// What a new client of a pool gets for a statement, or why it gets nothing.
    pub fn psql(&self, port: u16, sql: &str) -> Result<String, String> {
        try_psql(&self.dsn(port), sql)
    }

    /// A session that stays open.
    #[track_caller]
    pub fn connect(&self, port: u16) -> Client {
        Client::connect(&self.dsn(port), NoTls).expect("a session through HAProxy")
    }

    /// The first session of a pool that reaches this node; the others close.
    #[track_caller]
    pub fn connect_to(&self, port: u16, node: &Node) -> Client {
        // Kept open meanwhile, so that the next one goes to another server.
        let mut clients = Vec::new();
        for _ in 0..10 {
            let mut client = self.connect(port);
            if server_of(&mut client) == node.port() {
                return client;
            }
            clients.push(client);
        }
        panic!("none of ten sessions reaches port {}", node.port());
    }
}

/// The port of the server that a session is on.
#[track_caller]
pub fn server_of(client: &mut Client) -> String {
    let row = client.query_one("SELECT inet_server_port()", &[]).expect("the session works");
    row.get::<_, i32>(0).to_string()
}

/// The example with this test's ports and addresses in the place of its own, and without the servers of nodes that this
/// test has not. The second instances of the hosts, on port 5433, are the nodes after the first two, or, where there are no
/// more, the same. Who is not root can't become another user.
#[track_caller]
fn adapt(text: &str, nodes: &[&Node]) -> (String, BTreeMap<u16, u16>) {
    let mut ports = BTreeMap::new();
    let mut adapted = String::new();
    let is_root = rustix::process::geteuid().is_root();
    let is_for_root =
        |line: &&str| ["user ", "group ", "chroot "].iter().any(|word| line.trim().starts_with(word));
    let is_absent = |line: &&str| {
        let name = line.trim().strip_prefix("server node").and_then(|rest| rest.split(' ').next());
        name.and_then(|number| number.parse::<usize>().ok()).is_some_and(|number| number > nodes.len())
    };
    for line in text.lines().filter(|line| (is_root || !is_for_root(line)) && !is_absent(line)) {
        let mut line = line.to_owned();
        if let Some(address) = line.trim().strip_prefix("bind ") {
            let port =
                address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("bind with a port");
            ports.insert(port, free_port());
            line = line.replace(address, &format!("127.0.0.1:{}", ports[&port]));
        } else if line.trim().starts_with("server ") {
            line = adapt_server(&line, nodes);
        }
        adapted.push_str(&line);
        adapted.push('\n');
    }
    (adapted, ports)
}

/// The line of a server, word by word: a port that was given out by chance may look like one of the example's.
#[track_caller]
fn adapt_server(line: &str, nodes: &[&Node]) -> String {
    let mut ours = BTreeMap::new();
    for (number, node) in (1..).zip(nodes) {
        if !line.contains(&format!(" node{number} ")) {
            continue;
        }
        let second = nodes.get(number + 1).unwrap_or(node);
        ours.extend([
            (format!("192.0.2.1{number}:5432"), format!("127.0.0.1:{}", node.port())),
            (format!("192.0.2.1{number}:5433"), format!("127.0.0.1:{}", second.port())),
            ("23267".to_owned(), node.agent.addr().port().to_string()),
            ("23277".to_owned(), second.agent.addr().port().to_string()),
            ("23268".to_owned(), node.agent.agent_check_addr().port().to_string()),
        ]);
    }
    let adapt = |word: &str| {
        let adapted = ours.get(word).cloned();
        let is_theirs = ["192.0.2.", "2326", "2327"].iter().any(|part| word.contains(part));
        assert!(adapted.is_some() || !is_theirs, "not replaced: {word} in {line}");
        adapted.unwrap_or_else(|| word.to_owned())
    };
    line.split(' ').map(adapt).collect::<Vec<_>>().join(" ")
}
