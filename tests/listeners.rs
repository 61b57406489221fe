//! Where the agent can be reached and by whom, and how it starts.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use support::patience::at_the_same_time;
use support::siege::{CHECK, check};
use support::wire::{PATIENCE, Wire, reply, talk};
use support::{Agent, Cluster, agent, free_port, impostor, secs};

const HOME: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const FRIEND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 9, 9, 9);

/// The bytes a client with this address gets for a check of `/liveness`.
fn answer_for(client: Ipv4Addr, server: SocketAddr) -> String {
    let mut wire = Wire::connect_from(client, server);
    // A refused client may be closed before it has said anything.
    let _ = wire.try_send("GET /liveness HTTP/1.1\r\n\r\n");
    let received = wire.receive(PATIENCE);
    assert!(received.elapsed < secs(1), "{client} got an end only after {:?}", received.elapsed);
    received.text()
}

fn alive() -> String {
    reply("200 Alive", "Alive\n")
}

#[test]
fn only_allowed_addresses_get_an_answer_and_all_others_not_a_byte() {
    for (allow, served, refused) in [
        (vec!["127.0.0.2"], vec![FRIEND], vec![HOME, STRANGER]),
        (vec!["127.0.0.2/32"], vec![FRIEND], vec![HOME, STRANGER]),
        (vec!["127.0.0.0/24"], vec![HOME, FRIEND], vec![STRANGER]),
        (vec!["127.0.0.1", "127.9.0.0/16"], vec![HOME, STRANGER], vec![FRIEND]),
        (vec!["0.0.0.0/0"], vec![HOME, FRIEND, STRANGER], vec![]),
        (vec!["::/0"], vec![], vec![HOME, FRIEND, STRANGER]),
        (vec![], vec![HOME, FRIEND, STRANGER], vec![]),
    ] {
        let args: Vec<&str> = allow.iter().flat_map(|block| ["--allow", block]).collect();
        // `/liveness` needs no PostgreSQL.
        let agent = Agent::start(&args);
        for client in served {
            assert_eq!(answer_for(client, agent.addr()), alive(), "{client} with --allow {allow:?}");
        }
        for client in refused {
            assert_eq!(answer_for(client, agent.addr()), "", "{client} with --allow {allow:?}");
        }
    }
}

/// Anybody can write a PROXY header: what it says of the client is not believed, neither for nor against him.
#[test]
fn the_address_in_a_proxy_header_makes_nobody_a_friend_or_a_stranger() {
    let agent = Agent::start(&["--allow", "127.0.0.2"]);
    for (client, said, expected) in [(FRIEND, STRANGER, alive()), (HOME, FRIEND, String::new())] {
        let mut wire = Wire::connect_from(client, agent.addr());
        let request = format!("PROXY TCP4 {said} {HOME} 1 2\r\nGET /liveness HTTP/1.1\r\n\r\n");
        let _ = wire.try_send(request);
        assert_eq!(wire.receive(PATIENCE).text(), expected, "{client} as {said}");
    }
}

/// On a dual-stack listener an IPv4 client has an IPv4-mapped address.
#[test]
fn a_block_of_ipv4_addresses_holds_for_ipv4_clients_of_an_ipv6_listener() {
    if !ipv6() {
        return refuses_ipv6();
    }
    let agent = Agent::start(&["--listen", "[::]:0", "--allow", "127.0.0.2/32"]);
    let port = agent.all_addrs(2)[1].port();
    let over_ipv4 = SocketAddr::from((HOME, port));
    assert_eq!(answer_for(FRIEND, over_ipv4), alive());
    assert_eq!(answer_for(HOME, over_ipv4), "");
    assert_eq!(
        talk(SocketAddr::from((Ipv6Addr::LOCALHOST, port)), "GET /liveness HTTP/1.1\r\n\r\n").text(),
        ""
    );
}

#[test]
fn an_ipv6_wildcard_serves_both_families_and_an_ipv6_address_its_own() {
    if !ipv6() {
        return refuses_ipv6();
    }
    // The same number may be listened at on 127.0.0.1, but not this one.
    let localhost = format!("[::1]:{}", free_port());
    let agent = Agent::start(&[
        "--listen",
        "[::]:0",
        "--listen",
        &localhost,
        "--allow",
        "127.0.0.1",
        "--allow",
        "::1",
    ]);
    let ports: Vec<u16> = agent.all_addrs(3).iter().map(SocketAddr::port).collect();
    let request = "GET /liveness HTTP/1.1\r\n\r\n";
    assert_eq!(talk(SocketAddr::from((HOME, ports[1])), request).text(), alive());
    assert_eq!(talk(SocketAddr::from((Ipv6Addr::LOCALHOST, ports[1])), request).text(), alive());
    assert_eq!(talk(SocketAddr::from((Ipv6Addr::LOCALHOST, ports[2])), request).text(), alive());
    assert!(Wire::try_connect(SocketAddr::from((HOME, ports[2]))).is_err(), "[::1] is not an IPv4 address");
}

/// Whether this machine has IPv6; where it has not, asking for it has to fail properly.
fn ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn refuses_ipv6() {
    assert_does_not_start(&["--listen", "[::1]:5000"], "[::1]:5000");
}

#[test]
fn every_listener_is_logged_in_order_and_answers() {
    let primary = Cluster::primary();
    let ports = [free_port(), free_port()];
    let listen = ports.map(|port| format!("127.0.0.1:{port}"));
    let agent = Agent::start(&[
        "--dsn",
        &primary.dsn(),
        "--listen",
        &listen[0],
        "--listen",
        &listen[1],
        "--listen",
        "127.0.0.3:0",
    ]);
    let addresses = agent.all_addrs(4);
    assert_eq!(addresses[1..3].iter().map(SocketAddr::to_string).collect::<Vec<_>>(), listen);
    assert_eq!(addresses[3].ip(), Ipv4Addr::new(127, 0, 0, 3));
    for address in addresses {
        check(address).unwrap_or_else(|failure| panic!("{address}: {failure}"));
    }
}

/// The deadline of the agents below.
const TIMEOUT: Duration = secs(2);

/// Each worker gets a check that keeps it busy until the deadline, because the server is silent: a worker that is
/// not reached, or a lane that tiny_http does not serve, would leave its client without an answer.
#[test]
fn every_worker_of_every_start_answers() {
    let server = impostor::answering(b"");
    let dsn = format!("host=127.0.0.1 port={} user=nobody sslmode=disable", server.port());
    let begin = |workers: usize| {
        let count = workers.to_string();
        let agent = Agent::start(&["--dsn", &dsn, "--timeout", "2s", "--workers", &count]);
        let liveness = || {
            let received = talk(agent.addr(), "GET /liveness HTTP/1.1\r\n\r\n");
            assert_eq!(received.text(), alive(), "{workers} workers");
            assert!(received.elapsed < TIMEOUT / 2, "{workers} workers: {:?}", received.elapsed);
        };
        liveness();
        let mut waiting: Vec<Wire> = (0..workers).map(|_| Wire::connect(agent.addr())).collect();
        waiting.iter_mut().for_each(|wire| wire.send(CHECK));
        waiting.iter().for_each(Wire::wait_consumed);
        liveness();
        let silent = reply("503 postmaster-not-answering", "Down: postmaster-not-answering\n");
        for wire in &mut waiting {
            assert_eq!(wire.receive(PATIENCE).text(), silent, "{workers} workers");
        }
    };
    for _ in 0..3 {
        at_the_same_time([1, 2, 3, 4, 5, 6, 7, 8], begin);
    }
}

/// One line on stderr that names the address, nothing on stdout, exit code 1.
fn assert_does_not_start(args: &[&str], address: &str) {
    let output = agent::command().args(args).output().expect("run the agent");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with(&format!("pgsqlchk: cannot listen on {address}: ")), "{stderr}");
    assert!(stderr.ends_with('\n') && stderr.lines().count() == 1, "{stderr}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_taken_port_is_one_line_naming_the_address_and_exit_1() {
    let taken = TcpListener::bind((HOME, 0)).expect("a listener of the test's own");
    let address = taken.local_addr().expect("its address").to_string();
    assert_does_not_start(&["--listen", &address], &address);
    // Also when another address could be had: a part of what was asked for is not what was asked for.
    assert_does_not_start(&["--listen", "127.0.0.1:0", "--listen", &address], &address);
    let output = agent::command().args(["--listen", &address]).output().expect("run the agent");
    let stderr = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(stderr.contains("address already in use"), "{stderr}");
}

#[test]
fn an_address_of_another_host_is_one_line_naming_it_and_exit_1() {
    // RFC 5737: an address for documentation, never one of this host's.
    assert_does_not_start(&["--listen", "192.0.2.1:5000"], "192.0.2.1:5000");
}

/// Whoever reaches tiny_http passes by all that protects it. Everything the agent listens on is looked up in the
/// kernel's tables, and a user who is nobody tries to get in.
#[test]
fn no_other_user_reaches_anything_but_the_public_listeners() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    for _ in 0..10 {
        check(agent.addr()).expect("a check, so that everything has been started");
    }
    let own = socket_inodes(agent.pid());
    let ports: BTreeSet<u16> = agent.addrs().iter().map(SocketAddr::port).collect();

    let tcp = listening_tcp_ports(&own);
    assert_eq!(tcp, ports, "every user of this host can connect to a TCP port");
    for name in listening_unix_sockets(&own) {
        assert!(!others_can_connect(&name), "another user can connect to {name}");
    }
}

/// The inodes of a process's sockets.
fn socket_inodes(pid: u32) -> BTreeSet<String> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("read /proc/PID/fd").flatten();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    let inode =
        |target: &Path| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
    targets.filter_map(|target| inode(&target)).collect()
}

fn listening_tcp_ports(own: &BTreeSet<String>) -> BTreeSet<u16> {
    // TCP_LISTEN in the column `st`.
    const LISTEN: &str = "0A";
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let mut ports = BTreeSet::new();
    for line in tables.iter().flat_map(|table| table.lines().skip(1)) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields[3] == LISTEN && own.contains(fields[9]) {
            let (_, port) = fields[1].rsplit_once(':').expect("an address and a port");
            ports.insert(u16::from_str_radix(port, 16).expect("a port in hexadecimal"));
        }
    }
    ports
}

/// Their names; empty for one that never had any, so that nobody can address it.
fn listening_unix_sockets(own: &BTreeSet<String>) -> Vec<String> {
    // __SO_ACCEPTCON in the column `Flags`.
    const ACCEPTING: &str = "00010000";
    let table = fs::read_to_string("/proc/net/unix").expect("read /proc/net/unix");
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listening = rows.filter(|fields| fields[3] == ACCEPTING && own.contains(fields[6]));
    listening.filter_map(|fields| fields.get(7).map(|name| (*name).to_owned())).collect()
}

/// Whether a user who is nobody gets a connection. Tests that do not run as root cannot become nobody: they try
/// as they are, and look at the modes of a socket that is a file.
fn others_can_connect(name: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        let name = name.to_owned();
        let attempt = move || {
            become_nobody();
            connects(&name)
        };
        return thread::spawn(attempt).join().expect("the thread of nobody");
    }
    let path = Path::new(name);
    let allows = |path: &Path, bit| fs::metadata(path).is_ok_and(|found| found.mode() & bit == bit);
    let open_to_all = allows(path, 0o002) && path.ancestors().skip(1).all(|folder| allows(folder, 0o001));
    connects(name) && (name.starts_with('@') || open_to_all)
}

/// Makes this thread user 65534, and only this one: these are the bare system calls.
fn become_nobody() {
    let (user, group) = (Uid::from_raw(65534), Gid::from_raw(65534));
    set_thread_groups(&[]).expect("setgroups");
    set_thread_res_gid(group, group, group).expect("setresgid");
    set_thread_res_uid(user, user, user).expect("setresuid");
}

fn connects(name: &str) -> bool {
    match name.strip_prefix('@') {
        Some(name) => {
            UnixAddr::from_abstract_name(name).and_then(|address| UnixStream::connect_addr(&address)).is_ok()
        }
        None => UnixStream::connect(name).is_ok(),
    }
}
