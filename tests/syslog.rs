//! The log in the syslog, and what happens to it where standard error is a client's socket.

mod support;

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Stdio;

use support::folder::Folder;
use support::process::{Killed, wait_for_exit};
use support::servers::servers;
use support::syslog::{self, NoSyslog, Syslog};
use support::wire::{End, PATIENCE, Wire, reply};
use support::xinetd::{Service, Xinetd};
use support::{Agent, Cluster, OneShot, Signal, StopMode, http, secs, signal};

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
    let mut agent = Killed(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("start"));
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
    signal(agent.0.id(), Signal::TERM);
    assert_syslog_line(&syslog.wait_for("stopping (SIGTERM)"), 30, None, "stopping (SIGTERM)");
    let mut stderr = String::new();
    agent.0.stderr.take().expect("a pipe").read_to_string(&mut stderr).expect("read its stderr");
    assert_eq!(stderr, "");
}

#[test]
fn a_bad_configuration_under_xinetd_is_in_the_syslog_and_not_in_the_reply() {
    for service in [Service::NoWait, Service::Wait] {
        let xinetd = Xinetd::start(service, "timeout = 2\n");
        let mut wire = Wire::connect(xinetd.addr());
        assert_eq!(wire.receive(PATIENCE).text(), "", "{service:?}");
        let line = xinetd.syslog().wait_for("a duration needs a unit (2s, 500ms)");
        assert_syslog_line(&line, 27, None, "pgsqlchk.conf:1: timeout = \"2\": ");
    }
}

#[test]
fn bad_usage_on_a_socket_is_exit_code_3_and_no_byte_for_the_client() {
    let syslog = Syslog::start();
    for (settings, text) in [
        ("timeout = 2\n", "a duration needs a unit"),
        ("nonsense = 1\n", "nonsense"),
        ("protocol = smtp\n", "expected http or agent"),
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

/// It left nothing in the journal, and HAProxy's stats page knows the reason alone.
#[test]
fn a_process_per_check_that_finds_no_role_says_what_to_type() {
    let (syslog, servers) = (Syslog::start(), servers());
    // That of a user of the system that is no role.
    let settings = format!("dsn = {} user=nobody\n", servers.primary.dsn());
    for protocol in ["http", "agent"] {
        let settings = format!("{settings}protocol = {protocol}\n");
        let (mut agent, mut wire) = OneShot::with_client(&syslog.wrapper(), &settings);
        let (request, reply) = match protocol {
            "http" => ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 503 authentication-failed\r\n"),
            _ => ("/\n", "down #authentication-failed\n"),
        };
        wire.send(request);
        assert!(wire.receive(PATIENCE).text().starts_with(reply), "{protocol}");
        drop(wire);
        assert_eq!(agent.wait().code(), Some(0));
        let own = format!("pgsqlchk[{}]: ", agent.pid());
        let line = syslog.wait_for(&own);
        // <28>: daemon (3) * 8 + warning (4).
        assert_syslog_line(&line, 28, Some(agent.pid()), "unavailable (authentication-failed): ");
        assert!(line.contains("role \"nobody\" does not exist; create the role"), "{line}");
        assert_eq!(syslog.lines().iter().filter(|line| line.contains(&own)).count(), 1, "one line a check");
    }
}

/// Under xinetd a warning for each process would be one for each check.
#[test]
fn a_process_per_check_keeps_its_warnings_for_the_level_debug() {
    let (syslog, servers) = (Syslog::start(), servers());
    let folder = Folder::new("passfile");
    let passfile = folder.path().join("pgpass");
    fs::write(&passfile, "").expect("write the passfile");
    fs::set_permissions(&passfile, Permissions::from_mode(0o644)).expect("chmod");
    let settings = format!("dsn = {} passfile={}\n", servers.primary.dsn(), passfile.display());
    let ask = |level: &str| {
        let settings = format!("{settings}log-level = {level}\n");
        let (mut agent, mut wire) = OneShot::with_client(&syslog.wrapper(), &settings);
        wire.send("GET / HTTP/1.1\r\n\r\n");
        assert_eq!(wire.receive(PATIENCE).text(), reply("200 Primary", "Primary\n"));
        drop(wire);
        assert_eq!(agent.wait().code(), Some(0));
        agent.pid()
    };
    let quiet = format!("pgsqlchk[{}]", ask("info"));
    let loud = ask("debug");
    // The syslog takes lines in their order: what the first had said would be here by now.
    assert_syslog_line(&syslog.wait_for("pgpass"), 31, Some(loud), "permissions");
    assert_eq!(syslog.lines().iter().find(|line| line.contains(&quiet)), None);
}

#[test]
fn without_a_syslog_checks_are_answered_all_the_same() {
    let (servers, nowhere) = (servers(), NoSyslog::new());
    for target in ["syslog", "stderr", "none"] {
        let settings = format!("{}log-target = {target}\nlog-level = debug\n", servers.settings());
        let (mut agent, mut wire) = OneShot::with_client(&nowhere.wrapper(), &settings);
        wire.send("GET / HTTP/1.1\r\n\r\n");
        let received = wire.receive(PATIENCE);
        assert_eq!(
            (received.text(), received.end),
            (reply("200 Primary", "Primary\n"), End::Fin),
            "{target}"
        );
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

/// An admin who forgot `--mode xinetd` in server_args.
#[test]
fn standalone_mode_on_a_socket_is_refused_in_the_syslog_and_not_in_the_reply() {
    let syslog = Syslog::start();
    let (mut client, socket) = UnixStream::pair().expect("a pair of sockets");
    let copy = || Stdio::from(OwnedFd::from(socket.try_clone().expect("a second handle")));
    let mut command = syslog::command_behind(&syslog.wrapper(), env!("CARGO_BIN_EXE_pgsqlchk"));
    command.args(["--config", "/dev/null", "--listen", "127.0.0.1:0"]);
    let mut agent = Killed(command.stdin(copy()).stdout(copy()).stderr(copy()).spawn().expect("start"));
    // They hold the socket, too.
    drop((command, socket));
    let status = wait_for_exit(&mut agent.0, secs(10)).expect("the agent ends");
    assert_eq!(status.code(), Some(3));
    let mut text = String::new();
    client.read_to_string(&mut text).expect("read to the end");
    assert_eq!(text, "");
    let line = syslog.wait_for("one socket");
    assert_syslog_line(&line, 27, Some(agent.0.id()), "under xinetd or inetd it takes --mode xinetd");
}
