//! The other parents that hand a socket over: openbsd-inetd, and systemd-socket-activate.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::agent;
use super::daemon::Daemon;
use super::folder::Folder;
use super::free_port;
use super::syslog::{self, Syslog};
use super::xinetd::own_user;

/// A running super-server with one service.
pub struct Inetd {
    // Declared first: it goes before its syslog does.
    daemon: Daemon,
    _syslog: Syslog,
    port: u16,
}

impl Inetd {
    /// openbsd-inetd with `stream tcp <wait>`, `wait` or `nowait`.
    #[track_caller]
    pub fn openbsd(wait: &str, settings: &str) -> Inetd {
        Inetd::start(settings, |syslog, folder, port, config| {
            let line = format!(
                // Its default is 256 servers in a minute, and then silence for ten.
                "127.0.0.1:{port} stream tcp4 {wait}.100000 {} {agent} {agent} --mode xinetd --config {}\n",
                own_user(),
                config.display(),
                agent = agent::program(),
            );
            let file = folder.write("inetd.conf", &line);
            let mut command =
                syslog::command_behind(&syslog.wrapper(), &inetd_program().display().to_string());
            command.arg("-i").arg(file);
            command
        })
    }

    /// systemd-socket-activate with these options.
    #[track_caller]
    pub fn systemd(options: &[&str], mode: &str, settings: &str) -> Inetd {
        Inetd::start(settings, |syslog, _, port, config| {
            let mut command = syslog::command_behind(&syslog.wrapper(), "systemd-socket-activate");
            command.arg(format!("--listen=127.0.0.1:{port}")).args(options);
            command.arg(agent::program()).args(["--mode", mode, "--config"]).arg(config);
            command
        })
    }

    #[track_caller]
    fn start(settings: &str, command: impl FnOnce(&Syslog, &Folder, u16, &Path) -> Command) -> Inetd {
        let syslog = Syslog::start();
        let folder = Folder::new("inetd");
        let port = free_port();
        let config = folder.write("pgsqlchk.conf", settings);
        let command = command(&syslog, &folder, port, &config);
        let mut daemon = Daemon::start(folder, command);
        daemon.wait_listening(port);
        Inetd { daemon, _syslog: syslog, port }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The super-server itself.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }
}

/// packaging/install-dependencies unpacks it under Cargo's target folder: installed, it would remove xinetd.
fn inetd_program() -> PathBuf {
    let folders = Path::new(env!("CARGO_TARGET_TMPDIR")).ancestors();
    let mut candidates = folders.map(|folder| folder.join("openbsd-inetd/usr/sbin/inetd"));
    candidates.find(|path| path.is_file()).expect("openbsd-inetd: run make test, which unpacks it")
}
