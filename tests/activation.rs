//! Sockets that somebody else has opened: systemd, or whoever speaks its protocol (sd_listen_fds(3)).

mod support;

use std::fs::{self, File};
use std::io::{Read, Write, pipe};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use rustix::net::{AddressFamily, Shutdown, SocketType, shutdown, socket};
use support::agent::PASS_STDIN;
use support::folder::Folder;
use support::process::{Killed, wait_for_exit};
use support::{Agent, Reply, eventually, free_port, http, secs, wire};

const BINARY: &str = env!("CARGO_BIN_EXE_pgsqlchk");

/// Starts the agent through systemd-socket-activate; gives the reply to the request that woke it up, too.
fn activate(options: &[&str], first: SocketAddr) -> (Agent, Reply) {
    let waker: JoinHandle<Reply> = thread::spawn(move || {
        let mut reply = None;
        eventually(secs(10), "the request that starts the agent is answered", || {
            reply = http::get(first, "/liveness").ok();
            reply.is_some()
        });
        reply.expect("a reply")
    });
    let wrapper: Vec<&str> = ["systemd-socket-activate"].iter().chain(options).copied().collect();
    let agent = Agent::start_under(&wrapper, |_| {});
    (agent, waker.join().expect("the waker"))
}

#[test]
fn sockets_of_every_family_are_served_and_listen_is_not_used() {
    let folder = Folder::new("activation");
    let path = folder.path().join("http.sock");
    let ipv4 = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let ipv6: SocketAddr = format!("[::1]:{}", free_port()).parse().expect("an address");
    let has_ipv6 = TcpListener::bind(ipv6).is_ok();
    let (ipv4_text, ipv6_text) = (ipv4.to_string(), ipv6.to_string());
    let mut options = vec!["-l", &ipv4_text, "-l", path.to_str().expect("UTF-8")];
    if has_ipv6 {
        options.extend(["-l", &ipv6_text, "--fdname=http:x:pgsqlchk.socket"]);
    }
    let (mut agent, woken) = activate(&options, ipv4);
    assert_eq!(woken.line(), "200 Alive");
    let mut addresses = vec![ipv4];
    addresses.extend(has_ipv6.then_some(ipv6));
    agent.wait_for_log(&format!("listening on {}", path.display()));
    assert_eq!(agent.all_addrs(addresses.len()), addresses);
    for address in addresses {
        assert_eq!(http::get(address, "/liveness").expect("a reply").raw, woken.raw, "{address}");
    }
    let mut client = UnixStream::connect(&path).expect("connect to the Unix socket");
    client.write_all(b"GET /liveness HTTP/1.1\r\n\r\n").expect("send");
    let mut received = Vec::new();
    client.read_to_end(&mut received).expect("receive");
    assert_eq!(received, woken.raw);
    assert_eq!(agent.terminate().code(), Some(0));
}

/// What the agent says about descriptor 3, and its exit code.
fn refusal(descriptor: impl Into<OwnedFd>, names: Option<&str>) -> (String, Option<i32>) {
    let mut command = Command::new(PASS_STDIN[0]);
    command.args(&PASS_STDIN[1..]).arg(BINARY).args(["--listen", "127.0.0.1:0"]);
    command.stdin(Stdio::from(descriptor.into())).env_remove("LISTEN_FDNAMES");
    if let Some(names) = names {
        command.env("LISTEN_FDNAMES", names);
    }
    let output = command.output().expect("run the agent");
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
}

/// systemd would start it again for the client that waits, many times a second, and close the port in the end.
#[test]
fn bad_configuration_is_told_to_who_waits_at_a_passed_socket_and_to_nobody_else() {
    let bad = |listener: &TcpListener, name: &str| {
        let mut command = Command::new(PASS_STDIN[0]);
        command.args(&PASS_STDIN[1..]).arg(BINARY).args(["--config=/dev/null", "--timeout=2"]);
        command.env("LISTEN_FDNAMES", name).stderr(Stdio::piped());
        let passed = OwnedFd::from(listener.try_clone().expect("a copy to pass on"));
        Killed(command.stdin(Stdio::from(passed)).spawn().expect("run the agent"))
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let address = listener.local_addr().expect("an address");
    // Nobody waits: whoever types the command wants to know at once.
    let mut idle = bad(&listener, "http");
    let exit = wait_for_exit(&mut idle.0, secs(10)).expect("it ends at once");
    assert_eq!(exit.code(), Some(3));

    let mut first = wire::Wire::connect(address);
    first.send("OPTIONS / HTTP/1.0\r\n\r\n");
    let mut holding = bad(&listener, "http");
    let reply = first.receive(wire::PATIENCE);
    let expected = wire::reply("503 bad-configuration", "Down: bad-configuration\n");
    assert_eq!((reply.text(), reply.end), (expected, wire::End::Fin));
    for path in ["/", "/primary", "/liveness", "/no-such-path"] {
        assert_eq!(http::get(address, path).expect("a reply").line(), "503 bad-configuration", "{path}");
    }
    // One that says nothing is in nobody's way, and many of them are not either.
    let silent: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(address).expect("connect")).collect();
    eventually(secs(30), "they are let go", || {
        http::get(address, "/").is_ok_and(|reply| reply.status == 503)
    });
    drop(silent);
    assert!(holding.0.try_wait().expect("wait").is_none(), "it holds the port");
    let mut said = String::new();
    holding.0.kill().expect("kill it");
    holding.0.stderr.take().expect("a pipe").read_to_string(&mut said).expect("read");
    let line = "pgsqlchk: --timeout \"2\": a duration needs a unit (2s, 500ms)\n";
    assert_eq!(said, line, "once");
    drop(holding);

    let mut agent_check = wire::Wire::connect(address);
    agent_check.send("/primary\n");
    let _holding = bad(&listener, "agent");
    assert_eq!(agent_check.receive(wire::PATIENCE).text(), "down #bad-configuration\n");
}

/// Who has passed a socket can also shut it down. There is nothing to wait for then: the agent must neither spin nor
/// look alive.
#[test]
fn an_agent_whose_last_socket_is_shut_down_says_so_and_ends() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let passed = OwnedFd::from(listener.try_clone().expect("a copy to pass on"));
    let mut agent = Agent::start_under(&PASS_STDIN, |command| {
        command.stdin(passed);
    });
    assert_eq!(http::get(agent.addr(), "/liveness").expect("a reply").line(), "200 Alive");
    shutdown(&listener, Shutdown::Both).expect("shut the listener down");
    assert_eq!(agent.wait().code(), Some(1), "{}", agent.log());
    assert!(agent.log().contains("listens no more: it was shut down"), "{}", agent.log());
}

#[test]
fn a_wrong_descriptor_is_refused_with_the_setting_to_change() {
    let folder = Folder::new("kinds");
    let file = File::open(folder.write("file", "")).expect("open");
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let connected = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    let packets = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).expect("socket");
    let idle = socket(AddressFamily::INET, SocketType::STREAM, None).expect("socket");
    let table: Vec<(OwnedFd, Option<&str>, &str)> = vec![
        (connected.into(), None, "is a connected socket: set Accept=no in pgsqlchk.socket"),
        (
            UnixStream::pair().expect("pair").0.into(),
            Some("my.socket"),
            "is a connected socket: set Accept=no in my.socket",
        ),
        (
            UdpSocket::bind("127.0.0.1:0").expect("bind").into(),
            None,
            "is a datagram socket: use ListenStream= instead of ListenDatagram= in pgsqlchk.socket",
        ),
        (
            packets,
            None,
            "is a packet socket: use ListenStream= instead of ListenSequentialPacket= in pgsqlchk.socket",
        ),
        (
            pipe().expect("pipe").0.into(),
            None,
            "is a FIFO: use ListenStream= instead of ListenFIFO= in pgsqlchk.socket",
        ),
        (
            File::open("/dev/null").expect("open").into(),
            None,
            "is a device: use ListenStream= instead of ListenSpecial= in pgsqlchk.socket",
        ),
        (file.into(), None, "is no socket: only ListenStream= is of use in pgsqlchk.socket"),
        (idle, None, "is a socket that does not listen: let ListenStream= in pgsqlchk.socket open it"),
    ];
    for (descriptor, names, expected) in table {
        let (line, code) = refusal(descriptor, names);
        assert_eq!(line, format!("pgsqlchk: inherited descriptor 3 {expected}\n"));
        assert_eq!(code, Some(3), "{expected}");
    }
}

#[test]
fn a_socket_named_agent_is_for_agent_checks_and_all_others_are_for_http() {
    let address = |_| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let [http, agent_check, other] = [(); 3].map(address);
    let texts = [http, agent_check, other].map(|address| address.to_string());
    let [http_text, agent_text, other_text] = &texts;
    let options = ["-l", http_text, "-l", agent_text, "-l", other_text, "--fdname=http:agent:x"];
    let (agent, woken) = activate(&options, http);
    assert_eq!(woken.line(), "200 Alive");
    assert_eq!(agent.agent_check_addr(), agent_check);
    assert_eq!(wire::talk(agent_check, "/liveness\n").text(), "up ready 100%\n");
    assert_eq!(http::get(other, "/liveness").expect("a reply").raw, woken.raw);
}

#[test]
fn as_many_names_as_descriptors_are_wanted() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let (line, code) = refusal(listener, Some("http:agent"));
    assert_eq!(line, "pgsqlchk: LISTEN_FDNAMES has 2 names for 1 descriptors (sd_listen_fds(3))\n");
    assert_eq!(code, Some(3));
}

#[test]
fn each_check_in_a_process_of_its_own_is_refused_in_standalone_mode() {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let folder = Folder::new("accept");
    let log = folder.path().join("log");
    let mut command = Command::new("systemd-socket-activate");
    command.args(["--accept", "-l", &address, BINARY]).stderr(File::create(&log).expect("a log"));
    let _server = Killed(command.spawn().expect("systemd-socket-activate"));
    let mut client = None;
    eventually(secs(10), "systemd-socket-activate listens", || {
        client = TcpStream::connect(&address).ok();
        client.is_some()
    });
    let mut received = String::new();
    client.expect("a client").read_to_string(&mut received).expect("receive");
    assert_eq!(received, "");
    eventually(secs(10), "the agent says what is wrong and exits with 3", || {
        let log = fs::read_to_string(&log).expect("read the log");
        log.contains("a connected socket: set Accept=no in pgsqlchk.socket\n") && log.contains("code 3")
    });
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let foreign = listener.local_addr().expect("address");
    let agent = Agent::start_under(&PASS_STDIN, |command| {
        command.stdin(Stdio::from(OwnedFd::from(listener))).env("PID", "1");
    });
    assert_ne!(agent.addr(), foreign);
    assert_eq!(agent.get("/liveness").status, 200);
}
