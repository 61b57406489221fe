//! One table of requests over every front: the same bytes, whoever hands the socket over.

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use support::contract::flaw;
use support::folder::Folder;
use support::syslog::{self, NoSyslog, Syslog};
use support::table::{self, MAX_HEAD_BYTES, PATHS, head_of};
use support::wire::{End, PATIENCE, Received, Wire, reply, talk};
use support::xinetd::{Service, Xinetd};
use support::{Agent, Cluster, Front, OneShot, Signal, StopMode, http, millis, secs};

/// The servers, shared by the tests that run at the same time; a test keeps its `Arc` to the end.
struct Servers {
    standby: Cluster,
    primary: Cluster,
    /// No server has its socket here.
    nowhere: Folder,
}

impl Servers {
    /// The configuration of an agent beside the primary.
    fn settings(&self) -> String {
        format!("dsn = {}\n", self.primary.dsn())
    }

    fn down(&self) -> String {
        format!("host={} port=5432 user=postgres", self.nowhere.path().display())
    }
}

fn servers() -> Arc<Servers> {
    static SHARED: Mutex<Weak<Servers>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(servers) = shared.upgrade() {
        return servers;
    }
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let servers = Arc::new(Servers { standby, primary, nowhere: Folder::new("nowhere") });
    *shared = Arc::downgrade(&servers);
    servers
}

/// What is wrong with the replies of one front, next to those of the standalone agent.
fn assert_same_bytes_as_standalone(front: Front) {
    let servers = servers();
    let mut flaws = Vec::new();
    let dsns = [servers.primary.dsn(), servers.standby.dsn(), servers.down()];
    for (column, dsn) in dsns.iter().enumerate() {
        let running = front.start(dsn);
        for (path, answers) in PATHS {
            let (line, body) = answers[column];
            for request in [
                format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"),
                format!("OPTIONS {path} HTTP/1.0\r\n\r\n"),
            ] {
                let received = talk(running.addr(), &request);
                if (received.text(), received.end) != (reply(line, &format!("{body}\n")), End::Fin) {
                    flaws.push(format!("{request:?} of {dsn:?}: expected {line:?}, got {received:?}"));
                }
            }
        }
    }
    let (standalone, running) = (Front::Standalone.start(&dsns[0]), front.start(&dsns[0]));
    for (name, request, status) in table::all() {
        let received = talk(running.addr(), request);
        let expected = talk(standalone.addr(), request);
        flaws.extend(flaw(status, request, &received).map(|flaw| format!("{name}: {flaw}")));
        if without_time(&received) != without_time(&expected) {
            flaws.push(format!("{name}: not what standalone says: {received:?}, {expected:?}"));
        }
    }
    flaws.truncate(5);
    assert!(flaws.is_empty(), "{front:?}:\n{}", flaws.join("\n"));
}

fn without_time(received: &Received) -> (String, End) {
    (received.text(), received.end)
}

#[test]
fn standalone_answers_the_table() {
    assert_same_bytes_as_standalone(Front::Standalone);
}

#[test]
fn xinetd_with_a_process_for_each_check_answers_the_table() {
    assert_same_bytes_as_standalone(Front::XinetdNoWait);
}

#[test]
fn xinetd_with_one_process_for_all_answers_the_table() {
    assert_same_bytes_as_standalone(Front::XinetdWait);
}

#[test]
fn inetd_with_a_process_for_each_check_answers_the_table() {
    assert_same_bytes_as_standalone(Front::InetdNoWait);
}

#[test]
fn inetd_with_one_process_for_all_answers_the_table() {
    assert_same_bytes_as_standalone(Front::InetdWait);
}

#[test]
fn systemd_with_a_process_for_each_check_answers_the_table() {
    assert_same_bytes_as_standalone(Front::SystemdAccept);
}

#[test]
fn systemd_with_one_process_for_all_answers_the_table() {
    assert_same_bytes_as_standalone(Front::SystemdSocket);
}

// --- A process for each check -----------------------------------------------------------------------------------

const ONE_SHOTS: [Front; 3] = [Front::XinetdNoWait, Front::InetdNoWait, Front::SystemdAccept];

fn primary_reply() -> String {
    reply("200 Primary", "Primary\n")
}

/// `telnet localhost 23267`, and nothing typed.
#[test]
fn a_client_that_says_nothing_for_a_second_gets_the_answer_to_a_plain_get() {
    let servers = servers();
    for front in ONE_SHOTS {
        let running = front.start(&servers.primary.dsn());
        let received = Wire::connect(running.addr()).receive(PATIENCE);
        assert_eq!((received.text(), received.end), (primary_reply(), End::Fin), "{front:?}");
        assert!((millis(950)..secs(3)).contains(&received.elapsed), "{front:?}: {:?}", received.elapsed);
    }
}

#[test]
fn a_bare_line_typed_by_a_person_counts_as_a_plain_get() {
    let servers = servers();
    for line in ["\r\n", "\n", "hello\r\n", "GET /\r\n", "\r\n\r\n"] {
        let (mut agent, mut wire) = OneShot::with_client(&[], &servers.settings());
        wire.send(line);
        let received = wire.receive(PATIENCE);
        assert_eq!((received.text(), received.end), (primary_reply(), End::Fin), "{line:?}");
        assert!(received.elapsed < secs(3), "{line:?}: {:?}", received.elapsed);
        assert_eq!(agent.wait().code(), Some(0), "{line:?}");
    }
}

#[test]
fn a_head_that_is_begun_has_five_seconds_and_then_gets_408() {
    let servers = servers();
    for begun in ["GET / HTTP/1.1\r\n", "OPTIONS / HTTP/1.0\r\nHost: a\r\n", "GET / HT"] {
        let (mut agent, mut wire) = OneShot::with_client(&[], &servers.settings());
        wire.send(begun);
        let received = wire.receive(PATIENCE);
        assert_eq!(flaw("408 Request Timeout", b"GET", &received), None, "{begun:?}");
        assert!((millis(4500)..secs(7)).contains(&received.elapsed), "{begun:?}: {:?}", received.elapsed);
        assert_eq!(agent.wait().code(), Some(0), "{begun:?}");
    }
}

#[test]
fn a_head_in_pieces_is_put_together_and_its_limit_counts_them_all() {
    let servers = servers();
    for (length, status) in
        [(MAX_HEAD_BYTES, "200 Primary"), (MAX_HEAD_BYTES + 1, "431 Request Header Fields Too Large")]
    {
        let request = head_of(length, "\r\n");
        let (mut agent, mut wire) = OneShot::with_client(&[], &servers.settings());
        for part in request.chunks(1000) {
            wire.send(part);
            wire.wait_consumed();
        }
        assert_eq!(flaw(status, &request, &wire.receive(PATIENCE)), None);
        assert_eq!(agent.wait().code(), Some(0));
    }
}

/// The shell script does not read the request before it closes: every such client is reset, and many of them lose
/// the reply.
#[test]
fn no_client_is_reset_however_much_it_sent() {
    let servers = servers();
    for front in ONE_SHOTS {
        let running = front.start(&servers.primary.dsn());
        for (count, junk) in [(60, 0), (60, 1), (10, 64 * 1024)] {
            let request = [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &vec![b'j'; junk]].concat();
            for round in 0..count {
                let mut wire = Wire::connect(running.addr());
                wire.send(&request);
                assert!(wire.wait_readable(PATIENCE), "{front:?}: silence");
                // What is sent to a closed socket is answered with a reset as well.
                wire.send(&request[..junk.min(1000)]);
                let received = wire.receive(PATIENCE);
                let what = format!("{front:?}, {junk} bytes too many, round {round}");
                assert_eq!((received.text(), received.end), (primary_reply(), End::Fin), "{what}");
            }
        }
    }
}

#[test]
fn the_exit_code_is_0_whatever_the_reply_was() {
    let servers = servers();
    let down = format!("dsn = {}\n", servers.down());
    for (settings, request, status) in [
        (servers.settings(), "GET / HTTP/1.1\r\n\r\n", "200 Primary"),
        (servers.settings(), "GET /replica HTTP/1.1\r\n\r\n", "503 not-in-recovery"),
        (servers.settings(), "GET /nothing HTTP/1.1\r\n\r\n", "404 Not Found"),
        (servers.settings(), "hello\r\n\r\n", "400 Bad Request"),
        (down.clone(), "GET /liveness HTTP/1.1\r\n\r\n", "200 Alive"),
        (down, "GET / HTTP/1.1\r\n\r\n", "503 connection-refused"),
    ] {
        let (mut agent, mut wire) = OneShot::with_client(&[], &settings);
        wire.send(request);
        let received = wire.receive(PATIENCE);
        assert!(received.text().starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:?}: {received:?}");
        drop(wire);
        assert_eq!(agent.wait().code(), Some(0), "{request:?}");
    }
}

/// A port scanner, or a checker that only connects.
#[test]
fn a_client_that_leaves_without_a_question_leaves_no_process() {
    let servers = servers();
    for leave in [drop as fn(Wire), Wire::reset] {
        let (mut agent, wire) = OneShot::with_client(&[], &servers.settings());
        leave(wire);
        assert_eq!(agent.wait().code(), Some(0));
    }
    let (mut agent, mut wire) = OneShot::with_client(&[], &servers.settings());
    wire.send("GET / HTTP/1.1\r\n\r\n");
    wire.reset();
    assert_eq!(agent.wait().code(), Some(0));
}

#[test]
fn a_client_that_never_closes_is_let_go() {
    let servers = servers();
    let (mut agent, mut wire) = OneShot::with_client(&[], &servers.settings());
    wire.send("GET / HTTP/1.1\r\n\r\n");
    assert!(wire.wait_readable(PATIENCE));
    // It reads nothing and closes nothing.
    assert_eq!(agent.wait().code(), Some(0));
    assert_eq!(wire.receive(PATIENCE).text(), primary_reply());
}

#[test]
fn a_client_that_is_not_allowed_gets_no_byte() {
    let servers = servers();
    for front in [Service::NoWait, Service::Wait] {
        let settings = |allowed: &str| format!("{}allow = {allowed}\n", servers.settings());
        let refusing = Xinetd::start(front, &settings("192.0.2.0/24"));
        for request in ["GET / HTTP/1.1\r\n\r\n", ""] {
            let mut wire = Wire::connect(refusing.addr());
            let _ = wire.try_send(request);
            assert_eq!(wire.receive(PATIENCE).text(), "", "{front:?}");
        }
        // Through a socket of IPv6 the client's address is ::ffff:127.0.0.1.
        let admitting = Xinetd::start(front, &settings("127.0.0.1"));
        assert_eq!(talk(admitting.addr(), "GET / HTTP/1.1\r\n\r\n").text(), primary_reply(), "{front:?}");
    }
}

// --- What is on descriptor 0 ------------------------------------------------------------------------------------

#[test]
fn a_descriptor_0_that_is_no_socket_is_one_line_on_stderr_and_exit_code_3() {
    let file = Folder::new("stdin");
    let path = file.write("file", "GET / HTTP/1.1\r\n\r\n");
    let (_client, datagram) = UnixDatagram::pair().expect("a pair of sockets");
    for (name, input) in [
        ("a file", Stdio::from(File::open(path).expect("open"))),
        ("a pipe", Stdio::piped()),
        ("/dev/null", Stdio::null()),
        ("a datagram socket", Stdio::from(std::os::fd::OwnedFd::from(datagram))),
    ] {
        let mut agent = OneShot::start(&[], "", [input, Stdio::piped(), Stdio::piped()]);
        assert_how_to_run(name, agent.finish());
    }
    let closed = ["sh", "-c", "exec \"$@\" <&-", "sh"].map(str::to_owned);
    let mut agent = OneShot::start(&closed, "", [Stdio::null(), Stdio::piped(), Stdio::piped()]);
    assert_how_to_run("nothing", agent.finish());
}

#[track_caller]
fn assert_how_to_run(name: &str, (code, stdout, stderr): (Option<i32>, String, String)) {
    assert_eq!((code, stdout.as_str()), (Some(3), ""), "{name}: {stderr}");
    assert!(stderr.starts_with("pgsqlchk: --mode xinetd: standard input is not a stream socket"), "{stderr}");
    assert!(stderr.ends_with('\n') && stderr.lines().count() == 1, "{name}: {stderr:?}");
}

#[test]
fn another_mode_under_a_super_server_is_refused_in_the_syslog() {
    let syslog = Syslog::start();
    let (mut agent, mut wire) = OneShot::with_client(&syslog.wrapper(), "mode = standalone\n");
    // The command line says --mode xinetd and wins.
    wire.send("GET /liveness HTTP/1.0\r\n\r\n");
    assert_eq!(wire.receive(PATIENCE).text(), reply("200 Alive", "Alive\n"));
    assert_eq!(agent.wait().code(), Some(0));

    let (client, socket) = UnixStream::pair().expect("a pair of sockets");
    let copy = || Stdio::from(std::os::fd::OwnedFd::from(socket.try_clone().expect("a second handle")));
    let mut command = syslog::command_behind(&syslog.wrapper(), env!("CARGO_BIN_EXE_pgsqlchk"));
    command.args(["--config", "/dev/null", "--listen", "127.0.0.1:0"]);
    let mut child = command.stdin(copy()).stdout(copy()).stderr(copy()).spawn().expect("start the agent");
    drop(command);
    drop(socket);
    let status = support::process::wait_for_exit(&mut child, secs(10)).expect("the agent ends");
    assert_eq!(status.code(), Some(3));
    assert_eq!(read_to_end(client), "pgsqlchk: standard input and error are one socket\n".repeat(0));
    syslog.wait_for("standard input and error are one socket: under xinetd or inetd it takes --mode xinetd");
}

fn read_to_end(mut stream: UnixStream) -> String {
    let mut text = String::new();
    stream.set_read_timeout(Some(PATIENCE)).expect("set_read_timeout");
    stream.read_to_string(&mut text).expect("read to the end");
    text
}

#[test]
fn a_listening_socket_of_any_family_is_served_until_nobody_asks() {
    let servers = servers();
    let settings = format!("{}idle-exit = 1s\n", servers.settings());
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let listener = TcpListener::bind(SocketAddr::new(ip, 0)).expect("bind");
        let addr = listener.local_addr().expect("an address");
        let mut agent = OneShot::on_socket(&[], &settings, listener.try_clone().expect("a second handle"));
        for path in ["/", "/primary", "/read-only"] {
            assert_eq!(http::get(addr, path).expect("a reply").line(), "200 Primary", "{addr}{path}");
        }
        assert_eq!(agent.wait().code(), Some(0), "{addr}");
    }
    let folder = Folder::new("unix");
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).expect("bind");
    let mut agent = OneShot::on_socket(&[], &settings, listener);
    for _ in 0..3 {
        let mut stream = UnixStream::connect(&path).expect("connect");
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("ask");
        assert_eq!(read_to_end(stream), primary_reply());
    }
    assert_eq!(agent.wait().code(), Some(0));
}

#[test]
fn a_listening_socket_is_given_up_on_sigterm_as_standalone_does() {
    let servers = servers();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let addr = listener.local_addr().expect("an address");
    let mut agent = OneShot::on_socket(&[], &servers.settings(), listener);
    assert_eq!(http::get(addr, "/").expect("a reply").line(), "200 Primary");
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait().code(), Some(0));
}

// --- The syslog -------------------------------------------------------------------------------------------------

/// Exactly what RFC 3164 wants of a local program: priority, tag and pid; one line to a datagram.
#[track_caller]
fn assert_syslog_line(line: &str, priority: u8, pid: Option<u32>, text: &str) {
    let rest = line.strip_prefix(&format!("<{priority}>pgsqlchk[")).expect(line);
    let (number, said) = rest.split_once("]: ").expect(line);
    assert!(number.parse::<u32>().is_ok_and(|number| pid.is_none_or(|pid| pid == number)), "{line}");
    assert!(said.contains(text) && !said.contains(['\n', '\r', '\0']), "{line:?}");
}

#[test]
fn the_log_goes_to_the_syslog_with_facility_severity_tag_and_pid() {
    let syslog = Syslog::start();
    let primary = Cluster::primary();
    let wrapper = syslog.wrapper();
    let mut command = syslog::command_behind(&wrapper, env!("CARGO_BIN_EXE_pgsqlchk"));
    command.args(["--config", "/dev/null", "--listen", "127.0.0.1:0", "--log-target", "syslog"]);
    command.args(["--log-level", "debug", "--dsn", &primary.dsn()]);
    let mut agent = Spawned(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("start"));
    let listening = syslog.wait_for("listening on ");
    // <30>: daemon (3) * 8 + informational (6).
    assert_syslog_line(&listening, 30, Some(agent.0.id()), "listening on 127.0.0.1:");
    let addr = listening.split_once("listening on ").expect("an address").1.parse().expect("an address");
    assert_eq!(http::get(addr, "/").expect("a reply").line(), "200 Primary");
    primary.stop(StopMode::Fast);
    assert_eq!(http::get(addr, "/").expect("a reply").status, 503);
    assert_syslog_line(&syslog.wait_for("unknown -> primary"), 30, Some(agent.0.id()), "unknown -> primary");
    let lost = syslog.wait_for("primary -> unavailable (");
    assert_syslog_line(&lost, 30, Some(agent.0.id()), "primary -> unavailable (");
    support::signal(agent.0.id(), Signal::TERM);
    assert_syslog_line(&syslog.wait_for("stopping (SIGTERM)"), 30, None, "stopping (SIGTERM)");
    let mut stderr = String::new();
    agent.0.stderr.take().expect("a pipe").read_to_string(&mut stderr).expect("read its stderr");
    assert_eq!(stderr, "");
}

/// A child that is killed when dropped.
struct Spawned(std::process::Child);

impl Drop for Spawned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_bad_configuration_under_xinetd_is_in_the_syslog_and_not_in_the_reply() {
    for (service, wanted) in [(Service::NoWait, 1), (Service::Wait, 1)] {
        let xinetd = Xinetd::start(service, "timeout = 2\n");
        let mut wire = Wire::connect(xinetd.addr());
        // Under wait = yes nobody takes the connection; it waits for a better configuration.
        let received = match service {
            Service::NoWait => wire.receive(PATIENCE),
            Service::Wait => wire.receive(secs(1)),
        };
        assert_eq!(received.text(), "", "{service:?}");
        let line = xinetd.syslog().wait_for("a duration needs a unit (2s, 500ms)");
        assert_syslog_line(&line, 27, None, "pgsqlchk.conf:1: timeout = \"2\": ");
        assert!(xinetd.syslog().lines().len() >= wanted);
    }
}

#[test]
fn bad_usage_on_a_socket_is_exit_code_3_and_no_byte_for_the_client() {
    let syslog = Syslog::start();
    for (settings, text) in [
        ("timeout = 2\n", "a duration needs a unit"),
        ("nonsense = 1\n", "nonsense"),
        ("protocol = agent\n", "HAProxy's agent-check comes with a later release"),
    ] {
        let (mut agent, mut wire) = OneShot::with_client(&syslog.wrapper(), settings);
        wire.send("GET / HTTP/1.1\r\n\r\n");
        let pid = agent.pid();
        assert_eq!(agent.wait().code(), Some(3), "{settings:?}");
        assert_eq!(wire.receive(PATIENCE).text(), "", "{settings:?}");
        assert_syslog_line(&syslog.wait_for(text), 27, Some(pid), text);
    }
}

#[test]
fn a_failure_to_serve_is_in_the_syslog() {
    let syslog = Syslog::start();
    let (_client, datagram) = UnixDatagram::pair().expect("a pair of sockets");
    let mut agent = OneShot::on_socket(&syslog.wrapper(), "", datagram);
    assert_ne!(agent.wait().code(), Some(0));
    assert_syslog_line(&syslog.wait_for("not a stream socket"), 27, Some(agent.pid()), "--mode xinetd");
}

#[test]
fn without_a_syslog_checks_are_answered_all_the_same() {
    let (servers, nowhere) = (servers(), NoSyslog::new());
    for target in ["syslog", "stderr", "none"] {
        let settings = format!("{}log-target = {target}\nlog-level = debug\n", servers.settings());
        let (mut agent, mut wire) = OneShot::with_client(&nowhere.wrapper(), &settings);
        wire.send("GET / HTTP/1.1\r\n\r\n");
        let received = wire.receive(PATIENCE);
        assert_eq!((received.text(), received.end), (primary_reply(), End::Fin), "{target}");
        drop(wire);
        assert_eq!(agent.wait().code(), Some(0), "{target}");
    }
}

#[test]
fn without_a_syslog_the_standalone_agent_says_so_and_logs_to_stderr() {
    let nowhere = NoSyslog::new();
    let wrapper = nowhere.wrapper();
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let agent = Agent::start_under(&wrapper, |command| {
        command.args(["--log-target", "syslog"]);
    });
    let first = agent.log().lines().next().expect("a line").to_owned();
    assert!(first.contains("WARN") && first.contains("no syslog at /dev/log"), "{first}");
}
