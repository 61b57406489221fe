//! What an ordinary new user does, on each of the systems: the README's steps on two nodes, HAProxy by its lines, then a
//! failover, an old primary that comes back, an upgrade and the end. Each node is a system of its own; they have the
//! README's addresses, and who judges is a fresh psql that comes through HAProxy. Every step prints how long it took.

use std::net::SocketAddr;
use std::thread;

use crate::container::{Container, Root};
use crate::packages::boot_node_of;
use crate::readme::{Steps, timed, type_in};
use crate::rpm::tell_dnf;
use crate::support::cluster::try_psql;
use crate::support::pages::{fenced, page};
use crate::support::{eventually, http, secs};

/// The README's nodes, and one for HAProxy.
const NODES: [&str; 2] = ["192.0.2.11", "192.0.2.12"];
const PROXY: &str = "192.0.2.10";

/// How a system installs, replaces and removes a package.
struct Way {
    /// How the README's block for it begins.
    install: &'static str,
    upgrade: &'static str,
    remove: &'static str,
}

/// Asked about the configuration that was changed, the administrator keeps it.
const APT: Way = Way {
    install: "sudo apt ",
    upgrade: "sudo apt-get -y -q install /new/pgsqlchk_*_amd64.deb 2>&1 < <(yes N)",
    remove: "sudo DEBIAN_FRONTEND=noninteractive apt-get -y -q purge pgsqlchk 2>&1",
};

const DNF: Way = Way {
    install: "sudo dnf ",
    upgrade: "sudo dnf -y --quiet install /new/pgsqlchk-[0-9]*.x86_64.rpm",
    remove: "sudo dnf -y --quiet remove pgsqlchk",
};

#[test]
fn a_new_users_path_on_debian_12() {
    walk(Root::Node, &APT, "15.");
}

#[test]
fn a_new_users_path_on_debian_13() {
    walk(Root::Debian13, &APT, "17.");
}

#[test]
fn a_new_users_path_on_ubuntu() {
    walk(Root::Ubuntu, &APT, "16.");
}

#[test]
fn a_new_users_path_with_dnf() {
    walk(Root::Node, &DNF, "15.");
}

/// All of it, beside this version of PostgreSQL.
fn walk(system: Root, way: &Way, version: &str) {
    let site = Site::boot(system);
    let [first, second] = &site.nodes;
    if way.install == DNF.install {
        site.nodes.iter().for_each(tell_dnf);
    }
    let steps = Steps::of(way.install);

    site.install(&steps, first, NODES[0], "primary timeline 1");
    site.make_standby(second, NODES[0]);
    site.install(&steps, second, NODES[1], "standby timeline 1");
    for node in &site.nodes {
        let (_, said) = timed(node, "doctor", || node.try_run(&["sudo", "pgsqlchk", "doctor"]));
        assert!(said.contains(&format!("ok       PostgreSQL: version {version}")), "{said}");
    }
    site.install_haproxy();

    site.fail_over();
    site.see_the_old_primary_come_back();
    site.make_standby(first, NODES[1]);
    site.wait_for(NODES[0], "206 Standby");
    eventually(secs(10), "it takes reads", || site.answers(5001).as_deref() == Ok(NODES[0]));

    // Nothing is lost: standby first, as one does.
    let before = site.went_down();
    for (node, address, line) in [(first, NODES[0], "206 Standby"), (second, NODES[1], "200 Primary")] {
        type_in(node, way.upgrade, "upgrade");
        site.wait_for(address, line);
        assert_eq!(site.write().as_deref(), Ok(NODES[1]), "writes go on");
        assert_eq!(site.answers(5001).as_deref(), Ok(NODES[0]), "so do reads");
    }
    assert_eq!(site.went_down(), before, "HAProxy missed nobody");

    for (node, address) in [(first, NODES[0]), (second, NODES[1])] {
        type_in(node, way.remove, "remove");
        assert!(http::get(agent(address), "/").is_err(), "nobody listens any more");
        assert_eq!(crate::xinetd::agents(node), []);
    }
    eventually(secs(10), "without an agent there is no server", || site.write().is_err());
}

fn agent(address: &str) -> SocketAddr {
    format!("{address}:23267").parse().expect("an address")
}

/// What a session on the node itself says; nothing where there is none.
fn psql_on(node: &Container, sql: &str) -> Option<String> {
    let (is_fine, said) = node.try_run(&["runuser", "-u", "postgres", "--", "psql", "-Atc", sql]);
    is_fine.then_some(said)
}

struct Site {
    nodes: [Container; 2],
    proxy: Container,
}

impl Site {
    /// Three systems on one network, the nodes with a PostgreSQL that lets itself be replicated and written to; the calling
    /// thread is beside HAProxy.
    fn boot(system: Root) -> Site {
        // Each thread ends up in the network of what it boots.
        let booted = thread::scope(|scope| {
            let booting = [(); 3].map(|()| scope.spawn(|| boot_node_of(system, &[])));
            booting.map(|thread| thread.join().expect("it boots"))
        });
        let [first, second, proxy] = booted;
        proxy.shell("systemctl --quiet disable --now postgresql");
        proxy.be_hub(PROXY);
        let site = Site { nodes: [first, second], proxy };
        for (node, address) in site.nodes.iter().zip(NODES) {
            node.join(&site.proxy, address);
            node.shell(
                "echo 'host all,replication postgres 192.0.2.0/24 trust' | tee -a /etc/postgresql/*/main/pg_hba.conf
                sudo -u postgres psql -qc \"ALTER SYSTEM SET listen_addresses = '*'\"
                systemctl restart postgresql@$(ls /var/lib/postgresql)-main",
            );
        }
        site.proxy.enter_network();
        site
    }

    /// The README's steps on one node; the role only where there is none yet.
    fn install(&self, steps: &Steps, node: &Container, address: &str, role: &str) {
        let is_primary = role.starts_with("primary");
        steps.install(node, "cd /older");
        if is_primary {
            type_in(node, &steps.role, &steps.role);
        }
        assert_eq!(type_in(node, &steps.look, &steps.look), role);
        type_in(node, &steps.peers, &steps.peers);
        assert!(http::get(agent(address), "/").is_err(), "nothing listens yet");
        type_in(node, &steps.start, &steps.start);
        self.wait_for(address, if is_primary { "200 Primary" } else { "206 Standby" });
    }

    /// Copies the primary at this address over whatever the node has, as PostgreSQL's manual tells, and lets it stream.
    fn make_standby(&self, node: &Container, primary: &str) {
        node.shell(&format!(
            "version=$(ls /var/lib/postgresql)
            systemctl stop postgresql@$version-main
            data=/var/lib/postgresql/$version/main
            rm -r $data
            sudo -u postgres pg_basebackup --checkpoint=fast --write-recovery-conf --pgdata=$data \
                --dbname='host={primary} user=postgres'
            systemctl start postgresql@$version-main"
        ));
        let streams = format!(
            "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming' AND sender_host = '{primary}'"
        );
        eventually(secs(30), "it streams", || psql_on(node, &streams).as_deref() == Some("1"));
    }

    /// The README's lines, behind those that the package brings.
    fn install_haproxy(&self) {
        let lines = fenced(&page("README.md"), "haproxy").into_iter().next().expect("HAProxy's lines");
        let file = "/etc/haproxy/haproxy.cfg";
        let before = std::fs::read_to_string(self.proxy.path(file)).expect("Debian's own");
        self.proxy.write(file, &format!("{before}\n{lines}"));
        assert_eq!(
            self.proxy.shell(&format!("haproxy -c -f {file} 2>&1 | grep -E 'WARN|ALERT' || true")),
            ""
        );
        timed(&self.proxy, "HAProxy, until writes and reads go through", || {
            self.proxy.shell("systemctl restart haproxy");
            for (port, node) in [(5000, NODES[0]), (5001, NODES[1])] {
                eventually(secs(20), "HAProxy has a server", || self.answers(port).as_deref() == Ok(node));
            }
        });
        self.psql(5000, "CREATE TABLE written (at timestamptz DEFAULT clock_timestamp())").expect("a table");
        assert_eq!(self.write().as_deref(), Ok(NODES[0]));
    }

    /// The primary is killed, and an administrator promotes the standby.
    fn fail_over(&self) {
        let [first, second] = &self.nodes;
        let written = "SELECT count(*) FROM written";
        eventually(secs(10), "what was written is at the standby", || {
            psql_on(second, written).as_deref() == Some("1")
        });
        timed(second, "failover, from the kill to the first write at the new primary", || {
            // Not by systemctl: the containers of tests have their control groups in common.
            first.shell("pkill --signal KILL --exact postgres");
            second.shell("sudo -u postgres psql -qc 'SELECT pg_promote()'");
            eventually(secs(20), "a write arrives at the new one", || {
                self.write().as_deref() == Ok(NODES[1])
            });
        });
        assert_eq!(self.psql(5000, written).as_deref(), Ok("2"), "nothing confirmed is lost");
    }

    /// Nobody has told it; not one write goes there.
    fn see_the_old_primary_come_back(&self) {
        self.nodes[0].shell("systemctl start postgresql@$(ls /var/lib/postgresql)-main");
        let mut looks = 0;
        eventually(secs(90), "it is a primary for itself, and its agent says who superseded it", || {
            if let Ok(node) = self.write() {
                assert_eq!(node, NODES[1], "a write reached the old primary");
            }
            let line = http::get(agent(NODES[0]), "/").map(|reply| reply.line()).unwrap_or_default();
            assert!(!line.starts_with('2'), "{line}");
            looks += usize::from(line == "503 superseded");
            // Longer than HAProxy needs to take a server in.
            looks > 20 && psql_on(&self.nodes[0], "SELECT pg_is_in_recovery()").as_deref() == Some("f")
        });
        assert_eq!(self.write().as_deref(), Ok(NODES[1]));
    }

    #[track_caller]
    fn wait_for(&self, address: &str, line: &str) {
        eventually(secs(20), &format!("{address} is {line}"), || {
            http::get(agent(address), "/").is_ok_and(|reply| reply.line() == line)
        });
    }

    /// A write by a new client: the address of the server that took it.
    fn write(&self) -> Result<String, String> {
        self.psql(5000, "INSERT INTO written DEFAULT VALUES RETURNING host(inet_server_addr())")
    }

    /// The address of the server that a new client of this port meets.
    fn answers(&self, port: u16) -> Result<String, String> {
        self.psql(port, "SELECT host(inet_server_addr())")
    }

    fn psql(&self, port: u16, sql: &str) -> Result<String, String> {
        try_psql(&format!("host={PROXY} port={port} user=postgres dbname=postgres connect_timeout=5"), sql)
    }

    /// How often HAProxy said that a server is down.
    fn went_down(&self) -> usize {
        self.proxy.journal("haproxy.service").matches(" is DOWN").count()
    }
}
