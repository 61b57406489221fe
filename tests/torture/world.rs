//! What the campaign is about: three servers, an agent beside each, HAProxy, and everyone who watches them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

use crate::clock::Clock;
use crate::descriptors;
use crate::disk::Disk;
use crate::history::{Node, Role, Sample};
use crate::names::NameServer;
use crate::network::{self, BALANCER, NODES, address, agent_address};
use crate::record::Record;
use crate::support::pgbouncer::{Pgbouncer, Pool, PoolMode};
use crate::support::{Agent, Cluster, Haproxy, StopMode, millis, secs};
use crate::watchers::{self, Watchers};
use crate::workers::{self, COMMIT, Places};

/// The agents' `--timeout`, `--write-probe`, `--peer-interval`, `--knock-interval` and `--login-interval`.
pub const TIMEOUT: Duration = secs(1);
pub const WRITE_PROBE: Duration = secs(1);
pub const PEER_INTERVAL: Duration = millis(200);
pub const KNOCK_INTERVAL: Duration = millis(100);
pub const LOGIN_INTERVAL: Duration = millis(500);
/// The name of the agents' session that commits.
const WRITING: &str = "pgsqlchk write probe";
/// The password of the agents' role.
pub const PASSWORD: &str = "the-password";
/// The name under which the server beside an agent is looked up, where it is looked up.
pub const NAME: &str = "db.torture";
/// The file system of each server: its data and its log. Its WAL is on a disk of its own.
const DISK: &str = "256m";
/// So long a server may need to be itself again; nothing of the agent's.
pub const REVIVAL_LIMIT: Duration = secs(60);
/// So long the campaign waits for a right answer before it goes on; the checker judges more sternly.
const ANSWER_LIMIT: Duration = secs(8);
/// So long an agent is watched for what it holds at its first rest, and how often.
const FIRST_REST: Duration = millis(300);
const SAMPLE_PAUSE: Duration = millis(20);
/// So long what was abandoned may take to end.
const REST_LIMIT: Duration = secs(20);

/// Superusers and replication, then everybody but the agents' role; the agents' lines are added below.
const HBA_OF_SUPERUSERS: &str = "local all postgres trust\nhost replication postgres 10.77.0.0/24 trust\n\
    local replication postgres trust\n";
const HBA_OF_CLIENTS: &str = "local all filler,client trust\n";
const HBA_OF_AGENTS: &str = "local all pgsqlchk trust\nhost all pgsqlchk 10.77.0.0/24 scram-sha-256\n";

/// A node.
pub struct Server {
    /// PostgreSQL.
    pub cluster: Cluster,
    /// Where its WAL is.
    pub disk: Disk,
    /// What clients go through.
    pub pooler: Pgbouncer,
    /// The agent; none while it restarts.
    pub agent: Option<Agent>,
    /// The agent's connection string.
    dsn: String,
}

/// All of it.
pub struct World {
    /// The history.
    pub record: Arc<Record>,
    /// The nodes.
    pub servers: [Server; 3],
    /// Which one is the primary.
    pub primary: Node,
    /// Whose agent connects over TCP, with a name and a password; the others use the socket.
    pub tcp_node: Node,
    /// Where the agent over TCP looks up its server.
    pub names: NameServer,
    /// The clock of the node after that one.
    pub clock: Clock,
    watchers: Option<Watchers>,
    haproxy: Haproxy,
}

impl World {
    /// Everything runs, and node 0 is the primary.
    pub fn new(record: &Arc<Record>, tcp_node: Node) -> World {
        let servers = NODES.map(|node| {
            let (cluster, disk) = new_cluster();
            let pooler = new_pooler(node, &cluster);
            let port = cluster.port();
            let dsn = if node == tcp_node {
                format!("host={NAME} port={port} user=pgsqlchk dbname=postgres password={PASSWORD}")
            } else {
                format!("host={} port={port} user=pgsqlchk dbname=postgres", cluster.socket_dir().display())
            };
            Server { cluster, disk, pooler, agent: None, dsn }
        });
        let haproxy = Haproxy::start(&sections(NODES.map(|node| servers[node].pooler.address())));
        let names = NameServer::start(address(tcp_node));
        let (record_, clock) = (Arc::clone(record), Clock::new());
        let mut world =
            World { record: record_, servers, primary: 0, tcp_node, names, clock, watchers: None, haproxy };
        let clock = world.clock.environment();
        let clock_node = world.clock_node();
        *world.servers[clock_node].cluster.environment.lock().expect("an environment") = clock;
        world.start(0, Role::Primary);
        let roles = format!(
            "CREATE ROLE pgsqlchk LOGIN PASSWORD '{PASSWORD}'; CREATE ROLE filler LOGIN; CREATE ROLE client LOGIN; \
            CREATE TABLE load (text text); CREATE TABLE beats (at timestamptz); INSERT INTO beats VALUES (now())"
        );
        world.servers[0].cluster.psql(&roles);
        world.follow(0);
        NODES.into_iter().for_each(|node| world.start_agent(node));
        let places = NODES.map(|node| {
            let Server { cluster, pooler, .. } = &world.servers[node];
            let pool = pooler.socket_dsn("client");
            Places { server: cluster.dsn(), console: pooler.console_dsn(), pool }
        });
        world.watchers = Some(Watchers::start(record, places));
        world.settle_all(&NODES, Duration::ZERO);
        world
    }

    /// What a node is now.
    pub fn role(&self, node: Node) -> Role {
        if node == self.primary { Role::Primary } else { Role::Standby }
    }

    /// The one whose server and agent have a clock of their own; its agent uses the socket.
    pub fn clock_node(&self) -> Node {
        (self.tcp_node + 1) % NODES.len()
    }

    /// Starts PostgreSQL, whose files make it a primary or a standby.
    pub fn start(&mut self, node: Node, role: Role) {
        self.record.born(node, role);
        let cluster = &self.servers[node].cluster;
        network::on(node, || cluster.start());
        self.look(node);
    }

    /// Asks PostgreSQL now what it is: the observers may come too late for a short life.
    pub fn look(&self, node: Node) {
        if let Ok(mut client) = Client::connect(&self.servers[node].cluster.dsn(), NoTls)
            && let Some(reading) = watchers::look(node, &mut client, &self.record)
        {
            self.record.saw(reading);
        }
    }

    /// Stops PostgreSQL and waits for its end.
    pub fn stop(&mut self, node: Node, mode: StopMode) {
        self.servers[node].cluster.stop(mode);
        self.record.died(node);
    }

    /// SIGKILL of the postmaster.
    pub fn kill(&mut self, node: Node) {
        self.servers[node].cluster.kill();
        self.record.died(node);
    }

    /// Lets the agents' role in, or not.
    pub fn admit_agent(&self, node: Node, is_admitted: bool) {
        let agents = if is_admitted { HBA_OF_AGENTS } else { "" };
        self.servers[node].cluster.write_hba(&format!("{HBA_OF_SUPERUSERS}{HBA_OF_CLIENTS}{agents}"));
    }

    /// Lets nobody in but superusers.
    pub fn reject_everybody(&self, node: Node) {
        let rejected = "local all all reject\nhost all all all reject\n";
        self.servers[node].cluster.write_hba(&format!("{HBA_OF_SUPERUSERS}{rejected}"));
    }

    /// Whether a new client of no privilege, who is not the agent, gets in.
    pub fn admits_client(&self, node: Node) -> bool {
        Client::connect(&self.servers[node].cluster.dsn_of("client"), NoTls).is_ok()
    }

    /// Starts the agent as a user of its own, so that limits of processes count.
    pub fn start_agent(&mut self, node: Node) {
        let user = agent_user(node);
        let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
        let listen = agent_address(node).to_string();
        let dsn = self.servers[node].dsn.clone();
        let [timeout, knock, login, interval] = [TIMEOUT, KNOCK_INTERVAL, LOGIN_INTERVAL, PEER_INTERVAL]
            .map(|duration| format!("{}ms", duration.as_millis()));
        // One configuration for all: the agent itself is among them.
        let peers = NODES.map(|node| format!("--peer={}", agent_address(node)));
        let pooler = &self.servers[node].pooler;
        // One by its socket, the others as clients of other hosts reach it.
        let pooler = if node == self.clock_node() {
            pooler.socket_path().display().to_string()
        } else {
            pooler.address().to_string()
        };
        let write_probe = format!("{}s", WRITE_PROBE.as_secs());
        let mut wrapper = vec!["setpriv".to_owned(), uid, gid, "--clear-groups".to_owned()];
        if node == self.clock_node() {
            wrapper.push("env".to_owned());
            wrapper.extend(self.clock.environment().iter().map(|(name, value)| format!("{name}={value}")));
        }
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        self.record.agent_begins(node);
        let agent = network::on(node, || {
            Agent::start_under(&wrapper, |command| {
                command.args(["--listen", &listen, "--dsn", &dsn]);
                command.args(["--timeout", &timeout, "--knock-interval", &knock]);
                command.args(["--login-interval", &login, "--peer-interval", &interval]).args(&peers);
                command.args(["--write-probe", &write_probe, "--pooler", &pooler]);
            })
        });
        self.servers[node].agent = Some(agent);
    }

    /// The agent of a node, which has to run.
    pub fn agent(&mut self, node: Node) -> &mut Agent {
        self.servers[node].agent.as_mut().expect("an agent")
    }

    /// Ends the agent's sessions, but for the one that commits.
    pub fn terminate_sessions(&self, node: Node) {
        self.terminate(node, "pgsqlchk");
    }

    /// Ends the agent's session that commits.
    pub fn terminate_writing_sessions(&self, node: Node) {
        self.terminate(node, WRITING);
    }

    fn terminate(&self, node: Node, application_name: &str) {
        let sql = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{application_name}'"
        );
        self.servers[node].cluster.psql(&sql);
    }

    /// The fault is over for these nodes. The primary comes last: what its peers say of themselves may have to change first.
    pub fn settle_all(&mut self, nodes: &[Node], grace: Duration) {
        let (primary, standbys): (Vec<Node>, Vec<Node>) =
            nodes.iter().partition(|node| **node == self.primary);
        standbys.into_iter().chain(primary).for_each(|node| self.settle(node, grace));
    }

    /// The fault is over: waits until PostgreSQL is itself again for the agent's role, from then on holds the agent to
    /// the right answer, and waits for it. `grace` as in [`crate::history::Calm`].
    fn settle(&mut self, node: Node, grace: Duration) {
        let role = self.role(node);
        let began = Instant::now();
        while !(self.proves(node, role) && self.lets_clients_work(node, role)) {
            assert!(began.elapsed() < REVIVAL_LIMIT, "node {node} does not become a {role:?} again");
            // A full disk can have ended it.
            if self.servers[node].cluster.has_ended() {
                self.record.died(node);
                self.start(node, role);
            }
            thread::sleep(millis(10));
        }
        let from = self.record.now();
        self.record.calm(node, from, role, grace);
        let limit = from + ANSWER_LIMIT;
        while !self.record.has_answered(node, role, from) && self.record.now() < limit {
            thread::sleep(millis(10));
        }
    }

    /// A new session of the agent's role, on the agent's way.
    pub fn proves(&self, node: Node, role: Role) -> bool {
        let dsn = format!("{} application_name=proof connect_timeout=5", self.servers[node].dsn);
        network::on(node, || {
            let Ok(mut client) = Client::connect(&dsn, NoTls) else { return false };
            let row = client.query_one("SELECT pg_is_in_recovery()", &[]);
            row.is_ok_and(|row| row.get::<_, bool>(0) == (role == Role::Standby))
        })
    }

    /// Whether a pooler answers, and a primary commits.
    fn lets_clients_work(&self, node: Node, role: Role) -> bool {
        let Server { cluster, pooler, .. } = &self.servers[node];
        let commits = || role == Role::Standby || cluster.try_psql(COMMIT).is_ok();
        workers::answers(&pooler.console_dsn()) && commits()
    }

    /// Nobody asks, no fault is left: what do the agents still hold, and what does HAProxy think?
    pub fn rest(&self) {
        self.watchers.as_ref().expect("watchers").pause(|| {
            for node in NODES {
                let sample = self.settled_sample(node);
                self.record.lock().samples.push(sample);
            }
        });
        let began = Instant::now();
        while !self.is_haproxy_right() {
            if began.elapsed() > secs(5) {
                let view: Vec<String> =
                    self.haproxy.servers().iter().map(|state| format!("{state:?}")).collect();
                let now = self.record.now();
                self.record.lock().defects.push((now, format!("HAProxy does not know: {}", view.join(", "))));
                return;
            }
            thread::sleep(millis(20));
        }
    }

    /// The first sample that shows no more than the first of this process, or the last one.
    fn settled_sample(&self, node: Node) -> Sample {
        let began = Instant::now();
        let mut sample = self.sample(node);
        let writing = u64::from(self.role(node) == Role::Primary);
        let wanted = Sample { writing, ..sample };
        let first_of =
            |is_it: &dyn Fn(&&Sample) -> bool| self.record.lock().samples.iter().find(is_it).copied();
        let first = first_of(&|first| first.pid == sample.pid);
        let alike = first_of(&|first| first.is_like(&wanted));
        let (Some(first), Some(alike)) = (first, alike) else { return self.least_sample(sample, writing) };
        while sample.sessions > 1
            || sample.writing > writing
            || sample.descriptors > alike.descriptors
            || sample.threads > first.threads
        {
            if began.elapsed() > REST_LIMIT {
                let held = descriptors::describe(sample.pid);
                self.record.tell(format!("the agent of node {node} comes to no rest, and holds {held}"));
                return self.sample(node);
            }
            thread::sleep(SAMPLE_PAUSE);
            sample = self.sample(node);
        }
        sample
    }

    /// The first of a process has to be the least there is: HAProxy's checks come and go, and the agents' questions to
    /// each other.
    fn least_sample(&self, mut least: Sample, writing: u64) -> Sample {
        let began = Instant::now();
        // One that is without a session for a moment would be less than it has a right to.
        let is_whole = |sample: &Sample| (sample.sessions, sample.writing) == (1, writing);
        while began.elapsed() < FIRST_REST || (!is_whole(&least) && began.elapsed() < REST_LIMIT) {
            thread::sleep(SAMPLE_PAUSE);
            let sample = self.sample(least.node);
            if is_whole(&sample) && (!is_whole(&least) || sample.descriptors < least.descriptors) {
                least = sample;
            }
        }
        least
    }

    fn sample(&self, node: Node) -> Sample {
        let server = &self.servers[node];
        let agent = server.agent.as_ref().expect("an agent");
        let [sessions, writing] =
            ["pgsqlchk", WRITING].map(|name| server.cluster.backend_pids(name).len() as u64);
        Sample {
            node,
            pid: agent.pid(),
            at: self.record.now(),
            descriptors: agent.descriptors() as u64,
            threads: agent.threads(),
            resident_kib: agent.rss_kib(),
            sessions,
            writing,
        }
    }

    fn is_haproxy_right(&self) -> bool {
        self.haproxy.servers().iter().all(|state| {
            let is_primary = state.server == network::name(self.primary);
            let is_wanted = (state.backend == "write") == is_primary;
            state.status == if is_wanted { "UP" } else { "DOWN" }
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Before what they watch goes.
        self.watchers = None;
        for server in &mut self.servers {
            server.agent = None;
            if server.cluster.is_started() {
                server.cluster.stop(StopMode::Immediate);
            }
            network::shell(&format!("umount -l {}", server.cluster.socket_dir().display()));
        }
    }
}

/// The user id of an agent; nobody else has it.
pub fn agent_user(node: Node) -> usize {
    23_267 + node
}

/// A server that was never started, on a file system of its own, and the disk of its WAL.
fn new_cluster() -> (Cluster, Disk) {
    let cluster = Cluster::stopped(&[
        ("listen_addresses", "*"),
        ("wal_keep_size", "32MB"),
        ("max_wal_size", "32MB"),
        ("wal_receiver_timeout", "5s"),
        // A shutdown waits for a standby that does not read.
        ("wal_sender_timeout", "5s"),
        ("wal_retrieve_retry_interval", "200ms"),
        // Observers, workers, and what the campaign itself asks.
        ("superuser_reserved_connections", "6"),
    ]);
    let folder = cluster.socket_dir().display();
    network::shell(&format!(
        "cp -a {folder} {folder}.copy && mount -t tmpfs -o size={DISK} tmpfs {folder}
         cp -a {folder}.copy/. {folder} && rm -rf {folder}.copy"
    ));
    cluster.write_hba(&format!("{HBA_OF_SUPERUSERS}{HBA_OF_CLIENTS}{HBA_OF_AGENTS}"));
    let disk = Disk::new();
    disk.take_wal(&cluster.data());
    (cluster, disk)
}

/// The pooler before this server.
fn new_pooler(node: Node, cluster: &Cluster) -> Pgbouncer {
    // Clients that wait for a server in vain are bounded.
    let pool =
        Pool { mode: PoolMode::Transaction, forced_user: None, size: 2, more: "query_wait_timeout = 5" };
    let mut pooler = Pgbouncer::stopped(cluster, address(node), pool);
    network::on(node, || pooler.start());
    pooler
}

fn sections(poolers: [SocketAddr; NODES.len()]) -> String {
    let mut text = String::new();
    for (name, port, code) in [("write", 5000, 200), ("read", 5001, 206)] {
        text += &format!(
            "listen {name}\n    bind {BALANCER}:{port}\n    option httpchk OPTIONS /\n    \
             http-check expect status {code}\n    default-server inter 300ms fall 2 rise 1\n"
        );
        for node in NODES {
            let (server, agent, pooler) = (network::name(node), agent_address(node), poolers[node]);
            text += &format!("    server {server} {pooler} check port {}\n", agent.port());
        }
    }
    text
}
