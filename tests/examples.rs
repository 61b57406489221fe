//! The files in packaging/examples/: each is valid as it stands, and does with real servers what it says. Here ports and
//! addresses are replaced, and nothing else.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pgsqlchk::verdict::Target;
use postgres::{Client, NoTls};
use support::cluster::psql_command;
use support::folder::Folder;
use support::postgresql::run;
use support::{Agent, Cluster, Haproxy, ServerState, StopMode, agent, free_port, haproxy, readme, secs};

/// HAProxy needs three failed checks at one second, each one at most a deadline long.
const SOON: std::time::Duration = secs(20);

const EXAMPLES: [&str; 5] =
    ["agent-check.cfg", "classic.cfg", "drain.cfg", "lag-limited-readers.cfg", "patroni-paths.cfg"];

/// As people have it for Patroni, but for the port: the write pool asks for no path, as older files do, the read pool
/// with HEAD, as newer ones do. Written for this test.
const MADE_FOR_PATRONI: &str = "\
global
    maxconn 100

defaults
    log global
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s

listen stats
    mode http
    bind *:7000
    stats enable
    stats uri /

listen master
    bind *:5000
    option httpchk
    http-check expect status 200
    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
    server node1 192.0.2.11:5432 maxconn 100 check port 23267
    server node2 192.0.2.12:5432 maxconn 100 check port 23267

listen replicas
    bind *:5001
    option httpchk HEAD /replica
    http-check expect status 200
    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
    server node1 192.0.2.11:5432 maxconn 100 check port 23267
    server node2 192.0.2.12:5432 maxconn 100 check port 23267
";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/examples")
}

fn example(name: &str) -> String {
    let path = folder().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines that HAProxy reads.
fn effective(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

// --- As they stand ------------------------------------------------------------------------------------------------

#[test]
fn every_example_is_valid_as_it_stands() {
    for name in EXAMPLES {
        let mut command = Command::new(haproxy::program());
        command.arg("-c").arg("-f").arg(folder().join(name)).stdin(Stdio::null());
        let output = command.output().expect("run haproxy -c");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{name}: {said}");
        assert!(!said.contains("[ALERT]") && !said.contains("[WARNING]"), "{name}: {said}");
    }
}

#[test]
fn every_example_says_what_it_is_for_and_the_readme_lists_it() {
    let entries = fs::read_dir(folder()).expect("packaging/examples");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    assert_eq!(names, EXAMPLES, "packaging/examples (left) and the tests (right)");
    let readme = readme();
    for name in EXAMPLES {
        assert!(readme.contains(&format!("(packaging/examples/{name})")), "README.md links {name}");
        let text = example(name);
        let head: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
        for word in ["# For: ", "# Assumes: ", "# Change: "] {
            assert!(head.iter().any(|line| line.starts_with(word)), "{name} begins with {word:?}");
        }
        assert!(
            text.lines().all(|line| line.chars().count() <= 120),
            "{name}: lines of at most 120 characters"
        );
    }
}

#[test]
fn every_example_asks_the_default_port_for_what_the_agent_knows() {
    for name in EXAMPLES {
        let text = example(name);
        for line in effective(&text) {
            let words: Vec<&str> = line.split([' ', '"']).collect();
            if line.starts_with("server ") {
                assert!(line.contains(" check port 23267"), "{name}: {line}");
            }
            if line.starts_with("option httpchk") || line.contains("agent-send") {
                for path in words.iter().filter(|word| word.starts_with('/')) {
                    let path = path.trim_end_matches("\\n");
                    assert!(Target::parse(path).is_ok(), "{name}: {line}: {:?}", Target::parse(path));
                }
            }
        }
    }
}

#[test]
fn the_classic_example_is_the_configuration_of_the_readme() {
    let readme = readme();
    let block = readme.split("```haproxy\n").nth(1).and_then(|rest| rest.split("```").next());
    let text = example("classic.cfg");
    let config = text.split_once("\n\n").map(|(_, config)| config);
    assert_eq!(config, block, "classic.cfg (left) and README.md (right)");
}

// --- With real servers --------------------------------------------------------------------------------------------

/// A server and the agent beside it.
struct Node {
    agent: Agent,
    cluster: Cluster,
    folder: Folder,
}

impl Node {
    fn start(cluster: Cluster) -> Node {
        let folder = Folder::new("node");
        let drain_file = folder.path().join("drain").display().to_string();
        let dsn = cluster.dsn();
        let options = ["--dsn", &dsn, "--drain-file", &drain_file, "--agent-listen", "127.0.0.1:0"];
        let agent = Agent::start(&options);
        Node { agent, cluster, folder }
    }

    /// `--mode drain` or `--mode undrain`.
    #[track_caller]
    fn switch(&self, mode: &str) {
        let drain_file = self.folder.path().join("drain");
        let mut command = agent::command();
        command.args(["--config", "/dev/null", "--mode", mode, "--drain-file"]).arg(drain_file);
        run(&mut command);
    }

    fn port(&self) -> String {
        self.cluster.port().to_string()
    }
}

/// A primary `a`, its standby `b`, and HAProxy with an example in front of both.
struct Site {
    haproxy: Haproxy,
    /// The example's ports, and where they are here.
    ports: BTreeMap<u16, u16>,
    a: Node,
    b: Node,
}

impl Site {
    #[track_caller]
    fn start(text: &str) -> Site {
        let primary = Cluster::primary();
        let standby = Cluster::standby_of(&primary);
        let (a, b) = (Node::start(primary), Node::start(standby));
        let (config, ports) = adapt(text, [&a, &b]);
        let haproxy = Haproxy::start_whole(&config);
        Site { haproxy, ports, a, b }
    }

    /// Waits until HAProxy sees a server like this: status, code and words of the last check.
    #[track_caller]
    fn expect(&self, pool: &str, server: &str, expected: [&str; 3]) {
        self.expect_that(pool, server, &format!("{expected:?}"), |state| {
            [&state.status, &state.check_code, &state.last_chk] == expected
        });
    }

    #[track_caller]
    fn expect_that(&self, pool: &str, server: &str, what: &str, is: impl Fn(&ServerState) -> bool) {
        let began = std::time::Instant::now();
        loop {
            let state = self.haproxy.server(pool, server);
            if is(&state) {
                return;
            }
            assert!(began.elapsed() < SOON, "{pool}/{server}: expected {what}, last seen {state:?}");
            std::thread::sleep(support::millis(20));
        }
    }

    fn dsn(&self, port: u16) -> String {
        format!("host=127.0.0.1 port={} user=postgres dbname=postgres connect_timeout=5", self.ports[&port])
    }

    /// What a client of a pool reaches: the port of the PostgreSQL behind it.
    #[track_caller]
    fn reaches(&self, port: u16) -> String {
        let sql = "SELECT inet_server_port()";
        run(psql_command().args(["-d", &self.dsn(port), "-c", sql])).trim().to_owned()
    }

    /// A session that stays open.
    #[track_caller]
    fn connect(&self, port: u16) -> Client {
        Client::connect(&self.dsn(port), NoTls).expect("a session through HAProxy")
    }

    /// The first session of a pool that reaches this node; the others close.
    #[track_caller]
    fn connect_to(&self, port: u16, node: &Node) -> Client {
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

#[track_caller]
fn server_of(client: &mut Client) -> String {
    let row = client.query_one("SELECT inet_server_port()", &[]).expect("the session works");
    row.get::<_, i32>(0).to_string()
}

/// The example with this test's ports and addresses in the place of its own.
#[track_caller]
fn adapt(text: &str, nodes: [&Node; 2]) -> (String, BTreeMap<u16, u16>) {
    let mut ports = BTreeMap::new();
    let mut adapted = String::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        if let Some(address) = line.trim().strip_prefix("bind ") {
            let port =
                address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("bind with a port");
            ports.insert(port, free_port());
            line = line.replace(address, &format!("127.0.0.1:{}", ports[&port]));
        } else if line.trim().starts_with("server ") {
            for (number, node) in (1..).zip(nodes) {
                if line.contains(&format!(" node{number} ")) {
                    let [port, agent_port] =
                        [node.agent.addr(), node.agent.agent_check_addr()].map(|address| address.port());
                    line = line
                        .replace(&format!("192.0.2.1{number}:5432"), &format!("127.0.0.1:{}", node.port()))
                        .replace(" port 23267", &format!(" port {port}"))
                        .replace(" agent-port 23268", &format!(" agent-port {agent_port}"));
                }
            }
            assert!(!line.contains("192.0.2.") && !line.contains("2326"), "not replaced: {line}");
        }
        adapted.push_str(&line);
        adapted.push('\n');
    }
    (adapted, ports)
}

#[test]
fn the_classic_pools_follow_a_failover() {
    let site = Site::start(&example("classic.cfg"));
    let (a, b) = (&site.a, &site.b);
    site.expect("ReadWrite", "node1", ["UP", "200", ""]);
    site.expect("ReadWrite", "node2", ["DOWN", "206", "Standby"]);
    site.expect("ReadOnly", "node1", ["DOWN", "200", "Primary"]);
    site.expect("ReadOnly", "node2", ["UP", "206", ""]);
    assert_eq!((site.reaches(5000), site.reaches(5001)), (a.port(), b.port()));

    let mut session = site.connect(5000);
    a.cluster.stop(StopMode::Fast);
    site.expect("ReadWrite", "node1", ["DOWN", "503", "connection-refused"]);
    assert!(session.simple_query("SELECT 1").is_err());
    b.cluster.promote();
    site.expect("ReadWrite", "node2", ["UP", "200", ""]);
    site.expect("ReadOnly", "node2", ["DOWN", "200", "Primary"]);
    assert_eq!(site.reaches(5000), b.port());
}

#[test]
fn the_pools_by_patronis_paths_follow_a_failover() {
    let site = Site::start(&example("patroni-paths.cfg"));
    let (a, b) = (&site.a, &site.b);
    site.expect("primary", "node1", ["UP", "200", ""]);
    site.expect("primary", "node2", ["DOWN", "503", "in-recovery"]);
    site.expect("replicas", "node1", ["DOWN", "503", "not-in-recovery"]);
    site.expect("replicas", "node2", ["UP", "200", ""]);
    site.expect("readers", "node1", ["UP", "200", ""]);
    site.expect("readers", "node2", ["UP", "200", ""]);
    assert_eq!((site.reaches(5000), site.reaches(5001)), (a.port(), b.port()));
    drop((site.connect_to(5002, a), site.connect_to(5002, b)));

    a.cluster.stop(StopMode::Fast);
    // Nothing is streamed any more, so nobody knows what it misses.
    site.expect("replicas", "node2", ["DOWN", "503", "no-wal-receiver"]);
    b.cluster.promote();
    site.expect("primary", "node2", ["UP", "200", ""]);
    site.expect("readers", "node1", ["DOWN", "503", "connection-refused"]);
    assert_eq!((site.reaches(5000), site.reaches(5002)), (b.port(), b.port()));
}

#[test]
fn a_configuration_made_for_patroni_works_after_changing_the_port() {
    let site = Site::start(MADE_FOR_PATRONI);
    site.expect("master", "node1", ["UP", "200", ""]);
    site.expect("master", "node2", ["DOWN", "206", "Standby"]);
    site.expect("replicas", "node1", ["DOWN", "503", "not-in-recovery"]);
    site.expect("replicas", "node2", ["UP", "200", ""]);
    assert_eq!((site.reaches(5000), site.reaches(5001)), (site.a.port(), site.b.port()));
}

/// More WAL than `lag=16MB` allows, or half of it.
#[track_caller]
fn write(cluster: &Cluster, megabytes: u32) {
    let rows = megabytes * 1024;
    cluster.psql(&format!(
        "CREATE TABLE IF NOT EXISTS load(filler text);
         INSERT INTO load SELECT repeat('x', 990) FROM generate_series(1, {rows})"
    ));
}

#[test]
fn lag_limited_readers_fall_back_to_the_primary_and_return() {
    let site = Site::start(&example("lag-limited-readers.cfg"));
    let (a, b) = (&site.a, &site.b);
    site.expect("Primary", "node1", ["UP", "200", ""]);
    site.expect("Primary", "node2", ["DOWN", "503", "in-recovery"]);
    site.expect("Standbys", "node1", ["DOWN", "503", "not-in-recovery"]);
    site.expect("Standbys", "node2", ["UP", "200", ""]);
    assert_eq!((site.reaches(5000), site.reaches(5001)), (a.port(), b.port()));

    let mut reader = site.connect(5001);
    b.cluster.psql("SELECT pg_wal_replay_pause()");
    write(&a.cluster, 20);
    site.expect("Standbys", "node2", ["DOWN", "503", "lag-exceeded"]);
    assert_eq!(site.reaches(5001), a.port(), "new readers go to the primary");
    assert_eq!(server_of(&mut reader), b.port(), "what runs on the standby may end there");
    b.cluster.psql("SELECT pg_wal_replay_resume()");
    site.expect("Standbys", "node2", ["UP", "200", ""]);
    assert_eq!(site.reaches(5001), b.port());

    b.cluster.stop(StopMode::Fast);
    site.expect("Standbys", "node2", ["DOWN", "503", "connection-refused"]);
    assert_eq!((site.reaches(5000), site.reaches(5001)), (a.port(), a.port()));
}

#[test]
fn a_node_that_drains_finishes_its_sessions_gets_no_new_ones_and_comes_back() {
    let site = Site::start(&example("drain.cfg"));
    let (a, b) = (&site.a, &site.b);
    for (pool, server, expected) in [
        ("ReadWrite", "node1", ["UP", "200", ""]),
        ("ReadWrite", "node2", ["DOWN", "503", "in-recovery"]),
        ("ReadOnly", "node1", ["UP", "200", ""]),
        ("ReadOnly", "node2", ["UP", "200", ""]),
    ] {
        site.expect(pool, server, expected);
    }
    let mut reader = site.connect_to(5001, b);
    b.switch("drain");
    site.expect("ReadOnly", "node2", ["NOLB", "404", ""]);
    assert_eq!(server_of(&mut reader), b.port(), "the session goes on");
    (0..5).for_each(|_| assert_eq!(site.reaches(5001), a.port(), "new ones go elsewhere"));
    assert_eq!(site.haproxy.server("ReadOnly", "node2").sessions, "1", "what the administrator waits for");
    drop(reader);
    site.expect_that("ReadOnly", "node2", "no session", |state| state.sessions == "0");
    // The work of the administrator raises no alarm.
    b.cluster.restart(StopMode::Fast);
    site.expect("ReadOnly", "node2", ["NOLB", "404", ""]);
    b.switch("undrain");
    site.expect("ReadOnly", "node2", ["UP", "200", ""]);
    drop(site.connect_to(5001, b));

    let mut writer = site.connect(5000);
    a.switch("drain");
    site.expect("ReadWrite", "node1", ["NOLB", "404", ""]);
    writer.batch_execute("CREATE TABLE written()").expect("a session of the primary that drains writes");
    assert!(Client::connect(&site.dsn(5000), NoTls).is_err(), "nobody is promoted by draining the primary");
    a.switch("undrain");
    site.expect("ReadWrite", "node1", ["UP", "200", ""]);
    assert_eq!(site.reaches(5000), a.port());
}

#[test]
fn agent_checks_set_the_weights_by_the_lag_and_drain() {
    let site = Site::start(&example("agent-check.cfg"));
    let (a, b) = (&site.a, &site.b);
    let weight = |state: &ServerState| state.weight.parse::<u32>().expect("a weight");
    site.expect("ReadWrite", "node1", ["UP", "200", ""]);
    site.expect_that("ReadOnly", "node1", "a primary that is down", |state| state.status.starts_with("DOWN"));
    site.expect_that("ReadOnly", "node2", "all of the weight", |state| {
        state.status == "UP" && weight(state) == 100
    });
    assert_eq!((site.reaches(5000), site.reaches(5001)), (a.port(), b.port()));

    b.cluster.psql("SELECT pg_wal_replay_pause()");
    write(&a.cluster, 7);
    site.expect_that("ReadOnly", "node2", "about half of the weight", |state| {
        state.status == "UP" && (30..70).contains(&weight(state))
    });
    write(&a.cluster, 13);
    site.expect_that("ReadOnly", "node2", "a standby that lags to be down", |state| {
        state.status.starts_with("DOWN")
    });
    b.cluster.psql("SELECT pg_wal_replay_resume()");
    site.expect_that("ReadOnly", "node2", "all of the weight", |state| {
        state.status == "UP" && weight(state) == 100
    });

    let mut session = site.connect(5001);
    b.switch("drain");
    site.expect_that("ReadOnly", "node2", "to drain", |state| {
        ["NOLB", "DRAIN"].contains(&state.status.as_str())
    });
    assert_eq!(server_of(&mut session), b.port(), "the session goes on");
    assert!(Client::connect(&site.dsn(5001), NoTls).is_err(), "there is no other standby");
    b.switch("undrain");
    site.expect_that("ReadOnly", "node2", "to be back", |state| state.status == "UP" && weight(state) == 100);
    assert_eq!(site.reaches(5001), b.port());
}
