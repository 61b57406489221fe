//! A syslog of the test's own: /dev/log of a mount namespace in which the programs under test run.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::folder::Folder;
use super::{eventually, millis, secs, show_log};

/// Mounts a /dev with nothing but the few files our programs use, and maybe a log, over the real one.
/// Run with: the folder, the log's socket (or nothing), user and group (or nothing), then the command.
/// Whoever is not root is root for these mounts only, in a user namespace, and himself again in one inside it.
const ENTER: &str = r#"
set -e
dev=$1 log=$2 user=$3 group=$4
shift 4
mount -t tmpfs none "$dev"
for file in null urandom; do
    touch "$dev/$file"
    mount --bind "/dev/$file" "$dev/$file"
done
if [ "$log" ]; then ln -s "$log" "$dev/log"; fi
mount --rbind "$dev" /dev
if [ "$user" ]; then set -- unshare --map-user="$user" --map-group="$group" "$@"; fi
exec "$@"
"#;

/// A running syslog; its log is shown when a test fails.
pub struct Syslog {
    lines: Arc<Mutex<Vec<String>>>,
    stop: Arc<UnixDatagram>,
    receiver: Option<JoinHandle<()>>,
    folder: Folder,
}

impl Syslog {
    /// Listens on a socket in a folder of its own.
    pub fn start() -> Syslog {
        let folder = Folder::new("syslog");
        std::fs::create_dir(folder.path().join("dev")).expect("create a folder");
        let socket = UnixDatagram::bind(folder.path().join("log")).expect("bind the syslog's socket");
        socket.set_read_timeout(Some(millis(100))).expect("set_read_timeout");
        let socket = Arc::new(socket);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stop, sink) = (Arc::clone(&socket), Arc::clone(&lines));
        let receiver = thread::spawn(move || receive(&socket, &sink));
        Syslog { lines, stop, receiver: Some(receiver), folder }
    }

    /// The programs and arguments in front of a command line that has to see this syslog.
    pub fn wrapper(&self) -> Vec<String> {
        enter(&self.folder, &self.folder.path().join("log").display().to_string())
    }

    /// Every datagram so far, priority, tag and all.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a datagram that contains `text`, and returns it.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        let found = || self.lines().into_iter().find(|line| line.contains(text));
        eventually(secs(5), &format!("the syslog has {text:?}"), || found().is_some());
        found().expect("it was there")
    }
}

impl Drop for Syslog {
    fn drop(&mut self) {
        // The receiver's next look finds the socket shut.
        let _ = self.stop.shutdown(std::net::Shutdown::Both);
        if let Some(receiver) = self.receiver.take() {
            let _ = receiver.join();
        }
        show_log("syslog", &self.lines().iter().map(|line| format!("{line}\n")).collect::<String>());
    }
}

fn receive(socket: &UnixDatagram, sink: &Mutex<Vec<String>>) {
    let mut datagram = [0; 8192];
    loop {
        match socket.recv(&mut datagram) {
            // Nobody sends empty datagrams: the socket was shut.
            Ok(0) => return,
            Ok(length) => {
                let line = String::from_utf8_lossy(&datagram[..length]).into_owned();
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
            // Also after a pause of the whole program (signal(7), SO_RCVTIMEO).
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => return,
        }
    }
}

/// A host without a syslog.
pub struct NoSyslog {
    folder: Folder,
}

impl NoSyslog {
    /// Nothing runs for it.
    pub fn new() -> NoSyslog {
        let folder = Folder::new("no-syslog");
        std::fs::create_dir(folder.path().join("dev")).expect("create a folder");
        NoSyslog { folder }
    }

    /// The programs and arguments in front of a command line that has to see no syslog.
    pub fn wrapper(&self) -> Vec<String> {
        enter(&self.folder, "")
    }
}

fn enter(folder: &Folder, log: &str) -> Vec<String> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let (unshare, user, group): (&[&str], _, _) = match user.is_root() {
        true => (&["unshare", "--mount"], String::new(), String::new()),
        false => (
            &["unshare", "--mount", "--map-root-user"],
            user.as_raw().to_string(),
            group.as_raw().to_string(),
        ),
    };
    let dev = folder.path().join("dev").display().to_string();
    let shell = ["sh", "-c", ENTER, "sh", &dev, log, &user, &group];
    unshare.iter().chain(&shell).map(|word| (*word).to_owned()).collect()
}

/// A command that runs `program` behind such a wrapper.
pub fn command_behind(wrapper: &[String], program: &str) -> Command {
    let mut words = wrapper.iter().map(String::as_str).chain([program]);
    let mut command = Command::new(words.next().expect("at least the program"));
    command.args(words);
    super::postgresql::without_pg_variables(&mut command);
    command
}
