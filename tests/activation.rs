//! Sockets that somebody else has opened, the service manager that is kept informed, and the units themselves.

mod support;

use std::fs::{self, File};
use std::io::{Read, Write, pipe};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, Shutdown, SocketType, shutdown, socket};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use support::folder::Folder;
use support::{Agent, Cluster, Reply, StopMode, eventually, free_port, http, millis, secs, wire};

const BINARY: &str = env!("CARGO_BIN_EXE_pgsqlchk");

/// The agent as systemd starts it: what was standard input is descriptor 3.
const PASS_STDIN: [&str; 4] =
    ["bash", "-c", "exec 3<&0 </dev/null; LISTEN_PID=${PID-$$} LISTEN_FDS=1 exec \"$@\"", "bash"];

// --- Inherited sockets ----------------------------------------------------------------------------------------

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
    eventually(secs(5), "all listeners are logged", || agent.addrs() == addresses);
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

// --- The service manager --------------------------------------------------------------------------------------

/// What systemd is to the agent: a datagram socket.
struct Manager {
    socket: UnixDatagram,
    name: String,
    _folder: Folder,
}

impl Manager {
    fn new(is_abstract: bool) -> Manager {
        let folder = Folder::new("manager");
        let path = folder.path().join("notify");
        let path = path.to_str().expect("UTF-8");
        let (socket, name) = if is_abstract {
            let address = unix::net::SocketAddr::from_abstract_name(path).expect("an abstract name");
            (UnixDatagram::bind_addr(&address), format!("@{path}"))
        } else {
            (UnixDatagram::bind(path), path.to_owned())
        };
        Manager { socket: socket.expect("bind the manager's socket"), name, _folder: folder }
    }

    /// The next message, or none within `limit`.
    fn receive(&self, limit: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(limit)).expect("set a timeout");
        let mut buffer = [0; 4096];
        let count = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..count]).into_owned())
    }

    #[track_caller]
    fn expect(&self, expected: &str) {
        assert_eq!(self.receive(secs(10)).as_deref(), Some(expected));
    }

    /// Reads until nothing comes any more for `silence`; bounded, for a watchdog may never be silent.
    #[track_caller]
    fn expect_silence(&self, silence: Duration) {
        let began = Instant::now();
        while self.receive(silence).is_some() {
            assert!(began.elapsed() < secs(10), "the agent goes on sending");
        }
    }

    fn start(&self, args: &[&str], adjust: impl FnOnce(&mut Command)) -> Agent {
        Agent::start_with(|command| {
            command.env("NOTIFY_SOCKET", &self.name).args(args);
            adjust(command);
        })
    }
}

#[test]
fn ready_is_said_after_listening_and_one_verdict_and_stopping_at_the_end() {
    for is_abstract in [false, true] {
        let manager = Manager::new(is_abstract);
        let mut agent = manager.start(&["--dsn", "host=/nowhere"], |_| {});
        manager.expect("STATUS=unavailable (connection-refused)");
        manager.expect("READY=1");
        assert_eq!(agent.get("/liveness").status, 200);
        assert_eq!(agent.terminate().code(), Some(0));
        manager.expect("STOPPING=1");
        assert_eq!(manager.receive(millis(1)), None, "nothing after the end");
    }
}

/// Connections queue there for ever.
fn silent_server() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("bind")
}

#[test]
fn a_server_that_does_not_answer_delays_ready_by_one_timeout() {
    let silent = silent_server();
    let manager = Manager::new(false);
    let began = Instant::now();
    let dsn = format!("host=127.0.0.1 port={}", silent.local_addr().expect("address").port());
    let agent = manager.start(&["--timeout", "1s", "--dsn", &dsn], |_| {});
    // It answers already, but has not judged.
    assert_eq!(agent.get("/liveness").status, 200);
    manager.expect("STATUS=unavailable (postmaster-not-answering)");
    manager.expect("READY=1");
    assert!(began.elapsed() >= millis(900), "ready after {:?}", began.elapsed());
}

#[test]
fn every_change_is_a_status() {
    let primary = Cluster::primary();
    let manager = Manager::new(false);
    let agent = manager.start(&["--dsn", &primary.dsn()], |_| {});
    manager.expect("STATUS=primary");
    manager.expect("READY=1");
    primary.stop(StopMode::Fast);
    assert_eq!(agent.get("/").status, 503);
    manager.expect("STATUS=unavailable (connection-refused)");
    // The same again is no change.
    assert_eq!(agent.get("/").status, 503);
    primary.start();
    assert_eq!(agent.get("/").status, 200);
    manager.expect("STATUS=primary");
}

#[test]
fn the_watchdog_is_fed_only_while_the_public_listener_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let manager = Manager::new(false);
    // Nobody is allowed to ask but one who does not exist: the agent's own check is let in all the same.
    let mut agent = Agent::start_under(&PASS_STDIN, |command| {
        command.stdin(Stdio::from(OwnedFd::from(listener)));
        command.env("NOTIFY_SOCKET", &manager.name).env("WATCHDOG_USEC", "400000");
        command.args(["--dsn", "host=/nowhere", "--allow", "192.0.2.1", "--max-connections", "1"]);
    });
    manager.expect("STATUS=unavailable (connection-refused)");
    manager.expect("READY=1");
    let began = Instant::now();
    for _ in 0..6 {
        manager.expect("WATCHDOG=1");
    }
    let elapsed = began.elapsed();
    assert!(elapsed >= millis(700), "five halves of the period in {elapsed:?}");
    // The process and all its threads live, but without descriptors nobody gets through to it.
    let pid = Pid::from_raw(agent.pid().cast_signed()).expect("a process id");
    // It has more than these; poll(2) wants the limit to be no lower than the number of those it watches.
    let none = Rlimit { current: Some(8), maximum: getrlimit(Resource::Nofile).maximum };
    let before = prlimit(Some(pid), Resource::Nofile, none).expect("take its descriptors away");
    manager.expect_silence(millis(1000));
    assert!(agent.is_alive());
    agent.wait_for_log("the agent does not answer itself: no WATCHDOG=1 is sent");
    prlimit(Some(pid), Resource::Nofile, before).expect("give them back");
    manager.expect("WATCHDOG=1");
}

#[test]
fn the_watchdog_gets_through_every_kind_of_listener() {
    let folder = Folder::new("door");
    let path = folder.path().join("http.sock");
    for address in ["0.0.0.0:0", "[::]:0"] {
        if address.starts_with('[') && TcpListener::bind("[::1]:0").is_err() {
            continue;
        }
        let listener = TcpListener::bind(address).expect("bind");
        assert_watched(listener.into(), "http", address);
    }
    assert_watched(UnixListener::bind(path).expect("bind").into(), "http", "a Unix socket");
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    assert_watched(listener.into(), "agent", "nothing but agent-checks");
}

#[track_caller]
fn assert_watched(listener: OwnedFd, name: &str, what: &str) {
    let manager = Manager::new(true);
    let mut command = Command::new(PASS_STDIN[0]);
    command.args(&PASS_STDIN[1..]).arg(BINARY).args(["--dsn", "host=/nowhere", "--allow", "192.0.2.1"]);
    command.stdin(Stdio::from(listener)).stderr(Stdio::null()).env("LISTEN_FDNAMES", name);
    command.env("NOTIFY_SOCKET", &manager.name).env("WATCHDOG_USEC", "200000");
    let mut agent = Killed(command.spawn().expect("start the agent"));
    manager.expect("STATUS=unavailable (connection-refused)");
    manager.expect("READY=1");
    for _ in 0..3 {
        assert_eq!(manager.receive(secs(10)).as_deref(), Some("WATCHDOG=1"), "{what}");
    }
    assert!(agent.0.try_wait().expect("wait").is_none());
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_crowd_that_takes_every_place_does_not_starve_the_watchdog() {
    let silent = silent_server();
    let manager = Manager::new(false);
    let dsn = format!("host=127.0.0.1 port={}", silent.local_addr().expect("address").port());
    let args = ["--timeout", "2s", "--max-connections", "4", "--dsn", &dsn];
    let agent = manager.start(&args, |command| {
        command.env("WATCHDOG_USEC", "400000");
    });
    manager.expect("STATUS=unavailable (postmaster-not-answering)");
    manager.expect("READY=1");
    let crowd: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut client = TcpStream::connect(agent.addr()).expect("connect");
            client.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("send");
            client
        })
        .collect();
    // As long as they wait for their answers, at least four halves of the period.
    for _ in 0..6 {
        manager.expect("WATCHDOG=1");
    }
    drop(crowd);
}

#[test]
fn the_watchdog_of_another_process_is_not_fed() {
    let manager = Manager::new(false);
    let _agent = manager.start(&["--dsn", "host=/nowhere"], |command| {
        command.env("WATCHDOG_USEC", "100000").env("WATCHDOG_PID", "1");
    });
    manager.expect("STATUS=unavailable (connection-refused)");
    manager.expect("READY=1");
    assert_eq!(manager.receive(millis(500)), None);
}

#[test]
fn a_service_manager_that_takes_nothing_holds_nothing_up() {
    let primary = Cluster::primary();
    let manager = Manager::new(false);
    let agent = manager.start(&["--dsn", &primary.dsn()], |command| {
        command.env("WATCHDOG_USEC", "40000");
    });
    // Its queue (net.unix.max_dgram_qlen) is soon full; the last change is lost at first.
    eventually(secs(20), "the manager's queue is full", || {
        let probe = UnixDatagram::unbound().expect("a socket");
        probe.set_nonblocking(true).expect("non-blocking");
        probe.send_to(b"X=1", &manager.name).is_err()
    });
    primary.stop(StopMode::Fast);
    for _ in 0..20 {
        let reply = agent.get("/");
        assert_eq!(reply.line(), "503 connection-refused");
        assert!(reply.elapsed < secs(1), "{:?}", reply.elapsed);
    }
    let mut last_status = String::new();
    eventually(secs(10), "the change is told in the end", || {
        let message = manager.receive(secs(1)).unwrap_or_default();
        if let Some(line) = message.lines().find(|line| line.starts_with("STATUS=")) {
            line.clone_into(&mut last_status);
        }
        last_status == "STATUS=unavailable (connection-refused)"
    });
}

// --- The units ------------------------------------------------------------------------------------------------

const SERVICES: [&str; 2] = ["pgsqlchk.service", "pgsqlchk@.service"];
const SOCKETS: [&str; 3] = ["pgsqlchk.socket", "pgsqlchk-agent.socket", "pgsqlchk-inetd.socket"];

fn analyze(args: &[&str], files: &[String]) -> (bool, String) {
    let output = Command::new("systemd-analyze").args(args).args(files).output().expect("systemd-analyze");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn the_services_are_exposed_as_little_as_they_can_be() {
    for service in SERVICES {
        let file = format!("{}/systemd/{service}", env!("CARGO_MANIFEST_DIR"));
        let (is_fine, text) = analyze(&["security", "--offline=true", "--threshold=15"], &[file]);
        assert!(is_fine, "{text}");
    }
}

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    let folder = Folder::new("units");
    // The program is not installed here, so its path is another one.
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")).expect("the units") {
        let entry = entry.expect("a unit");
        let text = fs::read_to_string(entry.path()).expect("read a unit");
        let name = entry.file_name();
        folder.write(name.to_str().expect("UTF-8"), &text.replace("/usr/local/bin/pgsqlchk", BINARY));
    }
    // As `systemctl enable pgsqlchk-inetd.socket` makes it.
    let alias = folder.path().join("pgsqlchk-inetd@.service");
    unix::fs::symlink("pgsqlchk@.service", alias).expect("make the alias");
    let files: Vec<String> =
        SERVICES.iter().chain(&SOCKETS).map(|name| folder.path().join(name).display().to_string()).collect();
    let (is_fine, text) = analyze(&["verify", "--recursive-errors=yes"], &files);
    assert!(is_fine && text.is_empty(), "{text}");
}
