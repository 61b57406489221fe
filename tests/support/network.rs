//! A network namespace of the test's own: nothing but a loopback device, which can be switched off like a cable that
//! is pulled out. Needs no privilege: an ordinary user gets a user namespace around it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use super::postgresql::{ServerUser, prepare, program_path};

/// It ends with its last process; the shell in it, which switches the device, is killed when dropped.
pub struct Network {
    shell: Child,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Network {
    /// A network in which 127.0.0.1 is reached, and nothing else.
    pub fn new() -> Network {
        let mut command = Command::new("unshare");
        command.arg("--net");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.arg("sh").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdin = shell.stdin.take().expect("stdin is a pipe");
        let stdout = BufReader::new(shell.stdout.take().expect("stdout is a pipe"));
        let network = Network { shell, pipes: Mutex::new((stdin, stdout)) };
        network.unblock();
        network
    }

    /// From now on every packet is lost; nobody is told.
    #[track_caller]
    pub fn block(&self) {
        self.switch("down");
    }

    /// Packets arrive again.
    #[track_caller]
    pub fn unblock(&self) {
        self.switch("up");
    }

    #[track_caller]
    fn switch(&self, state: &str) {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        // Debian keeps ip where an ordinary user has no PATH to.
        let line = format!("PATH=$PATH:/usr/sbin:/sbin ip link set lo {state} && echo done || echo failed\n");
        pipes.0.write_all(line.as_bytes()).expect("the shell listens");
        let mut answer = String::new();
        pipes.1.read_line(&mut answer).expect("the shell answers");
        assert_eq!(
            answer, "done\n",
            "ip link set lo {state} in a network of its own (make test installs ip)"
        );
    }

    /// A program of PostgreSQL, to be run in here as the server's user.
    pub fn command(&self, user: &ServerUser, program: &str) -> Command {
        let pid = self.shell.id().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--net"]);
        match user.switch() {
            Some((uid, gid)) => command
                .args(["setpriv", "--clear-groups"])
                .args([format!("--reuid={uid}"), format!("--regid={gid}")]),
            // PostgreSQL refuses to run as root, even as root of a user namespace.
            None => {
                let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
                command
                    .args(["--user", "--preserve-credentials", "unshare", "--user"])
                    .args([format!("--map-user={uid}"), format!("--map-group={gid}")])
            }
        };
        command.arg(program_path(program));
        prepare(&mut command);
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
