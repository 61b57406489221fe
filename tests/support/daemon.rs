//! A super-server and the servers it has started, ended together.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::{fs, io};

use super::folder::Folder;
use super::process::{Frozen, Signal, children_of, signal, wait_for_exit};
use super::{eventually, secs, show_log};

/// A running inetd, xinetd or the like. Killed when dropped, with everything it started.
pub struct Daemon {
    child: Child,
    /// Its folder, for its configuration and logs.
    pub folder: Folder,
}

impl Daemon {
    /// Starts `command`; what it prints goes to a file that a failing test shows.
    pub fn start(folder: Folder, mut command: Command) -> Daemon {
        let output = fs::File::create(folder.path().join("output")).expect("create a file");
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("a second handle")).stderr(output);
        let child =
            command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}: run make test once"));
        Daemon { child, folder }
    }

    /// Waits until somebody listens on the port; does not connect, which would start a server.
    #[track_caller]
    pub fn wait_listening(&mut self, port: u16) {
        eventually(secs(10), "the super-server listens", || {
            let ended = self.child.try_wait().expect("wait for the super-server");
            assert!(ended.is_none(), "it ended: {ended:?}");
            is_listening(port)
        });
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The servers that it has started and that still run.
    pub fn servers(&self) -> Vec<u32> {
        children_of(self.pid())
    }

    /// Sends it a signal.
    pub fn signal(&self, which: Signal) {
        signal(self.pid(), which);
    }

    /// What it has said in its log or on its output.
    pub fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.path(name)).unwrap_or_default();
        read("log") + &read("output")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Standing still it reaps nobody, so these ids are its servers' until it is gone.
            let frozen = Frozen::new(self.pid());
            self.servers().into_iter().for_each(|pid| signal(pid, Signal::KILL));
            let _ = self.child.kill();
            frozen.thaw();
            let _ = wait_for_exit(&mut self.child, secs(5));
        }
        show_log(&format!("log of the super-server in {}", self.folder.path().display()), &self.log());
    }
}

/// Whether a socket of the system listens on this TCP port.
pub fn is_listening(port: u16) -> bool {
    let listens = |table: io::Result<String>| {
        let ending = format!(":{port:04X}");
        table.unwrap_or_default().lines().any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let is_ours = fields.next().is_some_and(|local| local.ends_with(&ending));
            // TCP_LISTEN.
            is_ours && fields.nth(1) == Some("0A")
        })
    };
    ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().any(|path| listens(fs::read_to_string(path)))
}
