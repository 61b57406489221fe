//! Namespaces of the campaign's own: the program runs in a mount, process and network namespace that vanish with it;
//! in there each node has a network namespace, joined to the others by a bridge.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::{Command, ExitStatus};
use std::{env, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::disk::FOLDER;
use crate::history::Node;
use crate::support::postgresql::run;

/// Set for the program inside.
const INSIDE: &str = "PGSQLCHK_TORTURE_INSIDE";

/// The port of the agents.
const AGENT_PORT: u16 = 23267;

/// All nodes.
pub const NODES: [Node; 3] = [0, 1, 2];

/// A host beside the nodes, with clients that nobody knows.
pub const STRANGER: Node = 3;

/// Names of the namespaces: of the nodes, and of the stranger.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Runs this program again inside, and says how it ended; `None` where this is inside.
pub fn enclose() -> Option<ExitStatus> {
    if env::var_os(INSIDE).is_some() {
        return None;
    }
    let program = env::current_exe().expect("the path of this program");
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    // The shell stays, as the first process in there: it reaps the orphans of killed servers, and lets disks go on. One
    // that stands still would outlive its namespace.
    let script = format!(
        "\"$0\"; code=$?
         while read -r _ place _; do
             case $place in /tmp/pgsqlchk-{FOLDER}-*) fsfreeze -u \"$place\" 2>/dev/null;; esac
         done </proc/mounts
         exit $code"
    );
    unshare.args(["sh", "-c", &script]).arg(program).env(INSIDE, "1");
    // Where this was started may be below /tmp, which is another one in there.
    unshare.current_dir("/");
    Some(unshare.status().unwrap_or_else(|error| panic!("{unshare:?}: {error}; run make torture")))
}

/// The address of a node, or of the stranger.
pub fn address(node: Node) -> Ipv4Addr {
    let first = u32::from(BALANCER) + 1;
    Ipv4Addr::from(first + u32::try_from(node).expect("a small number"))
}

/// What a node is called.
pub fn name(node: Node) -> &'static str {
    NAMES[node]
}

/// Where clients and HAProxy are.
pub const BALANCER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// Where a node's agent listens.
pub fn agent_address(node: Node) -> SocketAddr {
    (address(node), AGENT_PORT).into()
}

/// Makes bridge, links and namespaces.
pub fn build() {
    fs::create_dir_all("/run/netns").expect("make /run/netns");
    shell("mount -t tmpfs tmpfs /run/netns");
    // What killed servers, libfaketime and a campaign that is interrupted leave there goes away with the namespace. The
    // programs and data of this build stay where they are, which may be under /tmp.
    let build = env!("CARGO_TARGET_TMPDIR").trim_end_matches("/tmp");
    shell("mount -t tmpfs -o mode=1777 tmpfs /dev/shm");
    shell(&format!(
        "mkdir /run/netns/.build && mount --rbind '{build}' /run/netns/.build
         mount -t tmpfs -o mode=1777 tmpfs /tmp && mkdir -p '{build}' && mount --move /run/netns/.build '{build}'"
    ));
    shell("ip link set lo up && ip link add hub type bridge && ip link set hub up");
    shell(&format!("ip address add {BALANCER}/24 dev hub"));
    for (node, name) in NAMES.iter().enumerate() {
        let address = address(node);
        shell(&format!(
            "ip netns add {name} && ip -n {name} link set lo up
             ip link add to-{name} type veth peer name eth0 netns {name}
             ip link set to-{name} master hub up
             ip -n {name} address add {address}/24 dev eth0 && ip -n {name} link set eth0 up"
        ));
        // For `divert` and `pose`. Replies from elsewhere bear the node's own address once they are translated back.
        shell(&format!(
            "ip netns exec {name} nft 'add table ip moved
             add chain ip moved out {{ type nat hook output priority -100; }}
             add table ip posing
             add chain ip posing out {{ type nat hook output priority -100; }}'
             ip netns exec {name} sh -euc 'cd /proc/sys/net/ipv4/conf
                 echo 1 >all/accept_local; echo 0 >all/rp_filter; echo 0 >eth0/rp_filter'"
        ));
    }
}

/// Runs something on a thread in a node's network namespace; what it starts is there, too.
pub fn on<T: Send>(node: Node, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let namespace = File::open(format!("/run/netns/{}", NAMES[node])).expect("open a namespace");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("enter it");
            work()
        });
        worker.join().expect("work in a namespace")
    })
}

/// What nft is to do with packets to this TCP port of a node; nothing without a verdict.
pub fn filter(node: Node, port: u16, verdict: Option<&str>) {
    let name = NAMES[node];
    shell(&match verdict {
        Some(verdict) => format!(
            "ip netns exec {name} nft 'add table ip torture
             add chain ip torture in {{ type filter hook input priority 0; }}
             add rule ip torture in iif lo tcp dport {port} {verdict}'"
        ),
        None => format!("ip netns exec {name} nft delete table ip torture"),
    });
}

/// From now on, or no longer, new connections from a node to this TCP port of its own address go to another node's port.
/// Those that are open stay where they are: only the first packet of a connection is looked up.
pub fn divert(node: Node, port: u16, there: Option<(Node, u16)>) {
    let name = NAMES[node];
    shell(&match there {
        Some((other, other_port)) => {
            let (own, other) = (address(node), address(other));
            format!(
                "ip netns exec {name} \
                 nft add rule ip moved out ip daddr {own} tcp dport {port} dnat to {other}:{other_port}"
            )
        }
        // The chain stays: without one the kernel would translate no packet of an open connection any more.
        None => format!("ip netns exec {name} nft flush chain ip moved out"),
    });
}

/// From now on, or no longer, somebody else answers this node's agent in place of another node's.
pub fn pose(listener: Node, posing: Option<(Node, SocketAddr)>) {
    let name = NAMES[listener];
    shell(&match posing {
        Some((speaker, poser)) => {
            let speaker = agent_address(speaker);
            let (ip, port) = (speaker.ip(), speaker.port());
            format!(
                "ip netns exec {name} nft add rule ip posing out ip daddr {ip} tcp dport {port} dnat to {poser}"
            )
        }
        None => format!("ip netns exec {name} nft flush chain ip posing out"),
    });
}

/// Packets from a node to another one that are lost: all of them, or those by which its agent asks the other one's.
pub fn sever(from: Node, to: Node, are_all_lost: bool) {
    let (name, there, address) = (NAMES[from], NAMES[to], address(to));
    let which = if are_all_lost { String::new() } else { format!(" tcp dport {AGENT_PORT}") };
    shell(&format!(
        "ip netns exec {name} nft 'add table ip to_{there}
         add chain ip to_{there} out {{ type filter hook output priority 0; }}
         add rule ip to_{there} out ip daddr {address}{which} drop'"
    ));
}

/// All of them get through again. Two faults may have severed the same way: the first that ends mends it.
pub fn mend(from: Node, to: Node) {
    let (name, there) = (NAMES[from], NAMES[to]);
    shell(&format!("ip netns exec {name} nft 'add table ip to_{there}; delete table ip to_{there}'"));
}

/// Whether a host neither hears nor is heard. At once, both ways: a link that comes up again takes a second.
pub fn silence(node: Node, is_silent: bool) {
    let name = NAMES[node];
    shell(&if is_silent {
        format!(
            "ip netns exec {name} nft 'add table ip torture
             add chain ip torture in {{ type filter hook input priority 0; policy drop; }}
             add chain ip torture out {{ type filter hook output priority 0; policy drop; }}'"
        )
    } else {
        format!("ip netns exec {name} nft delete table ip torture")
    });
}

/// Plugs a node's cable in or out.
pub fn link(node: Node, is_up: bool) {
    let name = NAMES[node];
    shell(&format!("ip link set to-{name} {}", if is_up { "up" } else { "down" }));
}

/// Runs a script that has to succeed.
pub fn shell(script: &str) -> String {
    run(Command::new("sh").args(["-euc", script]))
}
