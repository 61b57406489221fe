//! Patroni's own `haproxy.cfg`, as it lies in Debian's package, in front of a cluster of Patroni's: nothing but addresses
//! and ports is changed. One HAProxy asks Patroni, another one the agents; psql through both is the judge.

mod support;

use std::collections::BTreeMap;
use std::fs;

use support::cluster::psql_command;
use support::patroni::{Node, Patroni, patiently};
use support::peers::Ring;
use support::unpacked::unpacked;
use support::{Haproxy, ServerState, free_port};

/// Older files have one pool, and ask for no path.
fn older() -> String {
    let path = unpacked("patroni-of-debian/usr/share/doc/patroni/examples/haproxy.cfg");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Newer ones, as Patroni's template for confd makes them, have two, and ask for a path by HEAD.
fn newer() -> String {
    let older = older();
    let (head, pool) = older.split_once("listen batman").expect("a pool");
    let asks = |path: &str| format!("option httpchk HEAD {path}\n");
    let writes = pool.replace("option httpchk\n", &asks("/primary"));
    let reads = pool.replace("option httpchk\n", &asks("/replica")).replace(":5000", ":5001");
    assert!(writes != pool && reads != pool, "{pool}");
    format!("{head}listen primary{writes}\nlisten replicas{reads}")
}

/// Their servers.
const SERVERS: [&str; 2] = ["postgresql_127.0.0.1_5432", "postgresql_127.0.0.1_5433"];

/// HAProxy with one of them.
struct Balancer {
    haproxy: Haproxy,
    /// The file's ports, and where they are here.
    ports: BTreeMap<u16, u16>,
}

impl Balancer {
    /// The nodes in the order of the file, and the port on which each is asked.
    #[track_caller]
    fn start(file: &str, nodes: &[Node; 2], asked: [u16; 2]) -> Balancer {
        let mut text = file.to_owned();
        let mut replace = |from: &str, to: String| {
            assert!(text.contains(from), "no {from} in the file");
            text = text.replace(from, &to);
        };
        let [first, second] = nodes.each_ref().map(|node| format!("127.0.0.1:{}", node.port));
        replace("127.0.0.1:5432", first);
        replace("127.0.0.1:5433", second);
        replace("port 8008", format!("port {}", asked[0]));
        replace("port 8009", format!("port {}", asked[1]));
        let is_there = |port: &u16| file.contains(&format!("bind *:{port}"));
        let ports: BTreeMap<u16, u16> =
            [7000, 5000, 5001].into_iter().filter(is_there).map(|port| (port, free_port())).collect();
        ports.iter().for_each(|(port, here)| replace(&format!("*:{port}"), format!("127.0.0.1:{here}")));
        Balancer { haproxy: Haproxy::start_whole(&text), ports }
    }

    /// Each pool has the one server that it should, and no other. `UP 2/3`, after a check that failed, gets sessions, too.
    fn has_one_server_in_each_pool(&self, leader: usize) -> bool {
        let wanted = |pool: &str| SERVERS[if pool == "replicas" { 1 - leader } else { leader }];
        let is_right =
            |state: &ServerState| state.status.starts_with("UP") == (state.server == wanted(&state.backend));
        self.haproxy.servers().iter().all(is_right)
    }

    /// Which node a new client of a pool reaches, by its PostgreSQL's port.
    fn reaches(&self, port: u16, sql: &str) -> Option<u16> {
        let port = self.ports.get(&port)?;
        let dsn = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
        let output = psql_command().args(["-d", &dsn, "-c", sql]).output().expect("run psql");
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
    }
}

/// A standby has no number to give.
const WRITE: &str = "SELECT inet_server_port() FROM txid_current()";
/// A primary is none.
const READ: &str = "SELECT inet_server_port() WHERE pg_is_in_recovery()";

/// All HAProxys send writes to one node and readers to the other.
#[track_caller]
fn assert_led_by(leader: usize, nodes: &[Node; 2], balancers: &[Balancer]) {
    for balancer in balancers {
        patiently("HAProxy knows who leads", || balancer.has_one_server_in_each_pool(leader));
        assert_eq!(balancer.reaches(5000, WRITE), Some(nodes[leader].port));
        let readers = balancer.ports.contains_key(&5001).then_some(nodes[1 - leader].port);
        assert_eq!(balancer.reaches(5001, READ), readers);
    }
}

#[test]
fn patronis_own_haproxy_cfg_needs_nothing_but_the_agents_port() {
    let patroni = Patroni::start();
    let ring = Ring::of(2);
    let agents = [0, 1].map(|index| patroni.nodes[index].agent(&ring, index, &["--root-path", "/primary"]));
    let of_patroni = patroni.nodes.each_ref().map(|node| node.api_port);
    let of_agents = agents.each_ref().map(|agent| agent.addr().port());
    let start = |file: &str, asked| Balancer::start(file, &patroni.nodes, asked);
    let balancers = [older(), newer()].map(|file| [start(&file, of_patroni), start(&file, of_agents)]);
    let balancers = balancers.as_flattened();

    assert_led_by(0, &patroni.nodes, balancers);
    patroni.switch_over();
    assert_led_by(1, &patroni.nodes, balancers);
}
