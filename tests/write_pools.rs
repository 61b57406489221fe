//! Where HAProxy lets writes through, with every file in packaging/examples/ at once: a new client asks each of them.

mod support;

use support::site::{Balancer, EXAMPLES, Node, example, primary_and_standby, write_pool};
use support::{Cluster, StopMode};

/// The port for writes in every example.
const WRITES: u16 = 5000;

const WRITE: &str = "INSERT INTO writes DEFAULT VALUES";

/// HAProxy with each of the examples, in front of the same two nodes.
struct Balancers(Vec<(&'static str, String, Balancer)>);

impl Balancers {
    #[track_caller]
    fn start(nodes: [&Node; 2]) -> Balancers {
        let balancer = |name: &'static str| {
            let text = example(name);
            (name, write_pool(&text), Balancer::start(&text, nodes))
        };
        Balancers(EXAMPLES.map(balancer).into())
    }

    /// Waits until each sees a server of its pool for writes like this.
    #[track_caller]
    fn expect(&self, server: &str, status: &str) {
        for (name, pool, balancer) in &self.0 {
            // In agent-check.cfg what is verified to be no primary is in maintenance: out as well.
            let is = |state: &support::ServerState| match state.status.trim_end_matches(" (agent)") {
                "MAINT" => status == "DOWN",
                own => own == status,
            };
            balancer.expect_that(pool, server, &format!("{status} ({name})"), is);
        }
    }

    /// Writes through each reach this node.
    #[track_caller]
    fn assert_reach(&self, node: &Node) {
        for (name, _, balancer) in &self.0 {
            assert_eq!(balancer.reaches(WRITES), node.port(), "{name}");
            assert_eq!(balancer.psql(WRITES, WRITE), Ok(String::new()), "{name}");
        }
    }

    /// No write gets through any of them, however often it is tried.
    #[track_caller]
    fn assert_refuse(&self) {
        for (name, _, balancer) in self.0.iter().cycle().take(10 * self.0.len()) {
            let refused = balancer.psql(WRITES, WRITE).expect_err(name);
            // By HAProxy, at once, and not by a server: that would be an ERROR or FATAL.
            let is_haproxys =
                ["reset by peer", "closed the connection"].iter().any(|way| refused.contains(way));
            assert!(is_haproxys, "{name}: {refused}");
        }
    }
}

fn writes(cluster: &Cluster) -> String {
    cluster.psql("SELECT count(*) FROM writes")
}

/// Seen with repmgr: the former primary came back as one, and of the writes of the next second 33 went to one server and
/// 39 to the other.
#[test]
fn while_two_servers_are_primaries_no_write_gets_through_and_the_one_that_stays_gets_them_afterwards() {
    let [a, b] = primary_and_standby();
    a.cluster.psql("CREATE TABLE writes(number serial)");
    let balancers = Balancers::start([&a, &b]);
    balancers.expect("node1", "UP");
    balancers.expect("node2", "DOWN");
    balancers.assert_reach(&a);

    a.cluster.stop(StopMode::Fast);
    b.cluster.promote();
    balancers.expect("node2", "UP");
    balancers.expect("node1", "DOWN");
    balancers.assert_reach(&b);

    // Nobody has told it.
    a.cluster.start();
    balancers.expect("node1", "UP");
    balancers.expect("node2", "UP");
    let before = [writes(&a.cluster), writes(&b.cluster)];
    balancers.assert_refuse();
    assert_eq!([writes(&a.cluster), writes(&b.cluster)], before);

    a.cluster.stop(StopMode::Fast);
    balancers.expect("node1", "DOWN");
    balancers.assert_reach(&b);
}

/// Seen with pg_auto_failover: for half a minute after its promotion a node is a primary that may not be written to yet,
/// and pools of `/` and `/primary` sent it 88 writes, all of which failed.
#[test]
fn a_promoted_server_that_may_not_be_written_to_yet_gets_no_writes() {
    let [a, b] = primary_and_standby();
    a.cluster.psql("CREATE TABLE writes(number serial)");
    let balancers = Balancers::start([&a, &b]);
    balancers.expect("node1", "UP");
    balancers.expect("node2", "DOWN");

    b.cluster.psql("ALTER SYSTEM SET default_transaction_read_only = on");
    b.cluster.psql("SELECT pg_reload_conf()");
    a.cluster.stop(StopMode::Fast);
    b.cluster.promote();
    for (_, pool, balancer) in &balancers.0 {
        balancer.expect_that(pool, "node2", "read-only", |state| {
            // By the agent-check or over HTTP.
            (state.status.starts_with("DOWN") || state.status == "MAINT")
                && (state.last_chk == "read-only" || state.last_agt.contains("read-only"))
        });
    }
    assert_eq!(b.agent.get("/primary").line(), "200 Primary");
    balancers.expect("node1", "DOWN");
    balancers.assert_refuse();

    b.cluster.psql("ALTER SYSTEM RESET default_transaction_read_only");
    b.cluster.psql("SELECT pg_reload_conf()");
    balancers.expect("node2", "UP");
    balancers.assert_reach(&b);
}
