//! What systemd is told (`NOTIFY_SOCKET`): readiness, every change, the end, and a watchdog that has to be fed.

mod support;

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use support::agent::PASS_STDIN;
use support::folder::Folder;
use support::process::Killed;
use support::{Agent, Cluster, StopMode, eventually, millis, secs};

/// The program, for wrappers that start it.
const BINARY: &str = env!("CARGO_BIN_EXE_pgsqlchk");

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
        let count = loop {
            match self.socket.recv(&mut buffer) {
                // After a pause of the whole program (signal(7), SO_RCVTIMEO).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received.ok()?,
            }
        };
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
fn a_node_that_drains_says_so_beside_its_role() {
    let primary = Cluster::primary();
    let folder = Folder::new("drain");
    let path = folder.path().join("drain");
    let manager = Manager::new(false);
    let drain_file = path.to_str().expect("UTF-8");
    let agent = manager.start(&["--dsn", &primary.dsn(), "--drain-file", drain_file], |_| {});
    manager.expect("STATUS=primary");
    manager.expect("READY=1");
    folder.write("drain", "");
    assert_eq!(agent.get("/").line(), "404 draining");
    manager.expect("STATUS=primary, draining");
    std::fs::remove_file(path).expect("remove the drain file");
    assert_eq!(agent.get("/").line(), "200 Primary");
    manager.expect("STATUS=primary");
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

/// `Type=notify-reload` takes the time to be on its own clock, and `READY=1` for the end.
#[test]
fn a_reload_begins_with_the_time_and_ends_with_ready_whatever_comes_of_it() {
    let primary = Cluster::primary();
    let manager = Manager::new(false);
    let agent = manager.start(&["--dsn", &primary.dsn()], |_| {});
    manager.expect("STATUS=primary");
    manager.expect("READY=1");
    for (settings, said) in [
        ("timeout = 1s\n", "reloaded: timeout"),
        ("timeout = 1y\n", "reload: nothing has changed"),
        ("", "reloaded: timeout"),
    ] {
        agent.configure(settings);
        let now_us = || u64::try_from(monotonic().as_micros()).expect("microseconds");
        let before = now_us();
        agent.signal(Signal::HUP);
        let message = manager.receive(secs(10)).expect("a message");
        let time = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("a reload");
        let time: u64 = time.parse().expect("a number");
        assert!(before <= time && time <= now_us(), "{before} {time}");
        manager.expect("READY=1");
        agent.wait_for_log(said);
    }
}

/// On the clock that systemd compares with.
fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
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
