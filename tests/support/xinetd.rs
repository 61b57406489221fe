//! Real xinetd with this repository's own service files; only places and users are replaced.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use super::agent;
use super::daemon::Daemon;
use super::folder::Folder;
use super::postgresql::run;
use super::syslog::{self, Syslog};
use super::{eventually, free_port, secs};

/// Which of the service files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `xinetd/pgsqlchk`: a process for each check.
    NoWait,
    /// `xinetd/pgsqlchk-wait`: one process for all.
    Wait,
    /// `xinetd/pgsqlchk-agent`: HAProxy's agent-check, a process for each.
    Agent,
}

/// A running xinetd with one service.
pub struct Xinetd {
    // Declared first: it goes before its syslog does.
    daemon: Daemon,
    syslog: Syslog,
    service: Service,
    port: u16,
}

impl Xinetd {
    /// Starts it. `settings` is the agent's configuration file.
    #[track_caller]
    pub fn start(service: Service, settings: &str) -> Xinetd {
        let syslog = Syslog::start();
        let folder = Folder::new("xinetd");
        let port = free_port();
        folder.write("pgsqlchk.conf", settings);
        folder.write("xinetd.conf", &configuration(service, port, folder.path()));
        let mut command = syslog::command_behind(&syslog.wrapper(), "xinetd");
        command.arg("-dontfork").arg("-f").arg(folder.path().join("xinetd.conf"));
        command.arg("-pidfile").arg(folder.path().join("pid"));
        command.arg("-filelog").arg(folder.path().join("log"));
        // A variable of the admin's shell that must not reach the agent.
        command.env("PGHOST", "/nonexistent/leaked");
        // Debian keeps it in a folder that an ordinary user does not have in PATH.
        command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
        let mut xinetd = Xinetd { daemon: Daemon::start(folder, command), syslog, service, port };
        xinetd.daemon.wait_listening(port);
        xinetd
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The agents that run now.
    pub fn agents(&self) -> Vec<u32> {
        self.daemon.servers()
    }

    /// xinetd itself.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// The syslog that xinetd's servers see.
    pub fn syslog(&self) -> &Syslog {
        &self.syslog
    }

    /// Makes xinetd read its configuration again, with another port; returns when it listens there.
    #[track_caller]
    pub fn move_to_another_port(&mut self) {
        self.port = free_port();
        let text = configuration(self.service, self.port, self.daemon.folder.path());
        self.daemon.folder.write("xinetd.conf", &text);
        self.reload();
        self.daemon.wait_listening(self.port);
    }

    /// xinetd's reload; returns when it has been done.
    #[track_caller]
    pub fn reload(&self) {
        let reloads = || self.daemon.log().matches("Reconfigured").count();
        let before = reloads();
        self.daemon.signal(super::Signal::HUP);
        eventually(secs(10), "xinetd has read its configuration again", || reloads() > before);
    }

    /// Replaces the agent's configuration file.
    pub fn configure_agent(&self, settings: &str) {
        self.daemon.folder.write("pgsqlchk.conf", settings);
    }
}

/// The service file as an admin would have adapted it for this test.
fn configuration(service: Service, port: u16, folder: &Path) -> String {
    let name = match service {
        Service::NoWait => "pgsqlchk",
        Service::Wait => "pgsqlchk-wait",
        Service::Agent => "pgsqlchk-agent",
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("xinetd").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let arguments = text.lines().find_map(|line| line.split_once("server_args     = "));
    let (_, arguments) = arguments.expect("the service file has server_args");
    let arguments = format!("{arguments} --config {}", folder.join("pgsqlchk.conf").display());
    let port = port.to_string();
    let replacements = [
        ("disable", "no"),
        ("port", &port),
        // A socket of IPv6 that only loopback's IPv4 address reaches.
        ("#bind", "::ffff:127.0.0.1"),
        ("user", &own_user()),
        ("server", agent::program()),
        ("server_args", &arguments),
    ];
    replacements.iter().fold(text, |text, (name, value)| set(&text, name, value))
}

/// Gives an attribute of the file another value; one that is a comment is switched on.
fn set(text: &str, name: &str, value: &str) -> String {
    let mut count = 0;
    let line = |line: &str| {
        let is_it = line.split_once('=').is_some_and(|(own, _)| own.trim() == name);
        count += usize::from(is_it);
        if is_it { format!("\t{} = {value}\n", name.trim_start_matches('#')) } else { format!("{line}\n") }
    };
    let text = text.lines().map(line).collect();
    assert_eq!(count, 1, "the service file has one attribute {name}");
    text
}

/// The name of the user who runs the tests.
pub fn own_user() -> String {
    run(Command::new("id").arg("-un")).trim().to_owned()
}
