//! The agent as an inetd-like parent starts it: with a socket on its standard descriptors.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::agent;
use super::folder::Folder;
use super::process::{self, Signal, wait_for_exit};
use super::syslog;
use super::wire::Wire;
use super::{secs, show_log};

/// A process that was given a socket; killed when dropped.
pub struct OneShot {
    child: Child,
    folder: Folder,
}

impl OneShot {
    /// `pgsqlchk --mode xinetd` with one socket on descriptors 0, 1 and 2, as xinetd does it. `settings` is its
    /// configuration file; `wrapper` stands in front of the command line.
    #[track_caller]
    pub fn on_socket(wrapper: &[String], settings: &str, socket: impl Into<OwnedFd>) -> OneShot {
        let socket = socket.into();
        let copy = || Stdio::from(socket.as_fd().try_clone_to_owned().expect("a second handle"));
        OneShot::start(wrapper, settings, [copy(), copy(), copy()])
    }

    /// The same with these three descriptors.
    #[track_caller]
    pub fn start(wrapper: &[String], settings: &str, descriptors: [Stdio; 3]) -> OneShot {
        let folder = Folder::new("one-shot");
        let config = folder.write("pgsqlchk.conf", settings);
        let mut command = syslog::command_behind(wrapper, agent::program());
        command.env("HOME", folder.path()).args(["--mode", "xinetd", "--config"]).arg(config);
        OneShot { child: spawn(command, descriptors), folder }
    }

    /// A client, and the one-shot agent that serves it.
    #[track_caller]
    pub fn with_client(wrapper: &[String], settings: &str) -> (OneShot, Wire) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let wire = Wire::connect(listener.local_addr().expect("an address"));
        let (socket, _) = listener.accept().expect("accept");
        (OneShot::on_socket(wrapper, settings, socket), wire)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("wait for the agent").is_none()
    }

    /// Waits for its end; 10 s at most.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        wait_for_exit(&mut self.child, secs(10)).expect("the agent ends within 10 s")
    }

    /// Waits for its end and returns its exit code, and what it wrote to a piped stdout and stderr.
    #[track_caller]
    pub fn finish(&mut self) -> (Option<i32>, String, String) {
        let code = self.wait().code();
        let (mut stdout, mut stderr) = (String::new(), String::new());
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_string(&mut stdout).expect("read its stdout");
        }
        if let Some(mut pipe) = self.child.stderr.take() {
            pipe.read_to_string(&mut stderr).expect("read its stderr");
        }
        (code, stdout, stderr)
    }

    /// Where its configuration file is.
    pub fn config_path(&self) -> String {
        self.folder.path().join("pgsqlchk.conf").display().to_string()
    }
}

fn spawn(mut command: Command, descriptors: [Stdio; 3]) -> Child {
    let [input, output, error] = descriptors;
    command.stdin(input).stdout(output).stderr(error);
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

impl Drop for OneShot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let status = self.child.wait();
        show_log("the one-shot agent", &format!("process {}: {status:?}\n", self.pid()));
    }
}
