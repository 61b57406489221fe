//! The agent under test: the binary Cargo just built, started with a clean environment.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use super::folder::Folder;
use super::http::{self, Reply};
use super::process::{self, Signal, wait_for_exit};
use super::{eventually, postgresql, secs, show_log};

/// The agent as systemd starts it: what was standard input is descriptor 3.
pub const PASS_STDIN: [&str; 4] =
    ["bash", "-c", "exec 3<&0 </dev/null; LISTEN_PID=${PID-$$} LISTEN_FDS=1 exec \"$@\"", "bash"];

/// A running agent; killed when dropped.
pub struct Agent {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    folder: Folder,
}

impl Agent {
    /// Starts it on a free port of 127.0.0.1 with an empty configuration file and no PG* variable, and waits
    /// until it says that it listens.
    #[track_caller]
    pub fn start(args: &[&str]) -> Agent {
        Agent::start_with(|command| {
            command.args(args);
        })
    }

    /// The same, with a hand on the command: environment, further arguments.
    #[track_caller]
    pub fn start_with(adjust: impl FnOnce(&mut Command)) -> Agent {
        Agent::start_under(&[], adjust)
    }

    /// The same, started by another program that takes a command line at its end, such as
    /// `["prlimit", "--nofile=24"]`.
    #[track_caller]
    pub fn start_under(wrapper: &[&str], adjust: impl FnOnce(&mut Command)) -> Agent {
        Agent::start_command(command_under(wrapper), adjust)
    }

    /// The same for another build of the program, by a command that lacks nothing but its options.
    #[track_caller]
    pub fn start_command(mut command: Command, adjust: impl FnOnce(&mut Command)) -> Agent {
        postgresql::without_pg_variables(&mut command);
        let folder = Folder::new("agent");
        let config = folder.write("pgsqlchk.conf", "");
        // No ~/.pgpass and no ~/.pg_service.conf of the person who runs the tests.
        command.env("HOME", folder.path());
        command.args(["--listen", "127.0.0.1:0", "--config"]).arg(config);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        adjust(&mut command);
        command.stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (log, reader) = collect(child.stderr.take().expect("stderr is a pipe"));
        let mut agent = Agent { child, log, reader: Some(reader), folder };
        eventually(secs(10), "the agent says `listening on`", || {
            let exited = agent.child.try_wait().expect("wait for the agent");
            assert!(exited.is_none(), "the agent ended: {exited:?}");
            !agent.addrs().is_empty()
        });
        agent
    }

    /// Replaces its configuration file, which was empty when it started. It has to be told (SIGHUP).
    pub fn configure(&self, settings: &str) {
        self.folder.write("pgsqlchk.conf", settings);
    }

    /// The address it listens on; the first one, if there are several.
    pub fn addr(&self) -> SocketAddr {
        self.addrs()[0]
    }

    /// Where it answers HAProxy's agent-check; waits until its log says so.
    #[track_caller]
    pub fn agent_check_addr(&self) -> SocketAddr {
        self.addr_of("agent-check")
    }

    /// Where it listens for what its log has in brackets behind the address; waits until it says so.
    #[track_caller]
    pub fn addr_of(&self, what: &str) -> SocketAddr {
        let (mut address, mark) = (None, format!(" ({what})"));
        eventually(secs(5), &format!("the log names the address of {what}"), || {
            let log = self.log();
            let mut lines = log.lines().filter_map(|line| line.strip_suffix(mark.as_str()));
            address = lines.find_map(|line| line.split_once("listening on ")?.1.parse().ok());
            address.is_some()
        });
        address.expect("an address")
    }

    /// The addresses it listens on, which are `count`; waits until its log names them.
    #[track_caller]
    pub fn all_addrs(&self, count: usize) -> Vec<SocketAddr> {
        let mut addresses = Vec::new();
        eventually(secs(10), "the log names every address", || {
            addresses = self.addrs();
            addresses.len() >= count
        });
        assert_eq!(addresses.len(), count, "{addresses:?}");
        addresses
    }

    /// Every address its log names so far, in the order of `--listen` (`127.0.0.1:0` comes first).
    pub fn addrs(&self) -> Vec<SocketAddr> {
        let log = self.log();
        // Only whole lines: half a port is a port, too.
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        whole
            .lines()
            .filter_map(|line| line.split_once("listening on ")?.1.split_whitespace().next()?.parse().ok())
            .collect()
    }

    /// Asks for a path; panics when there is no complete reply.
    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        http::get(self.addr(), path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// Sends a request of the test's own; panics when there is no complete reply.
    #[track_caller]
    pub fn ask(&self, request: &[u8]) -> Reply {
        let shown = String::from_utf8_lossy(request);
        http::exchange(self.addr(), request).unwrap_or_else(|error| panic!("{shown:?}: {error}"))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to stderr so far. A reply does not wait for the log: see `wait_for_log` and `wait`.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until its log says `text`; logging may be a moment later than the reply.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        eventually(secs(5), &format!("the log says {text:?}"), || self.log().contains(text));
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// Sends SIGTERM and waits for its end, 10 s at most.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for its end, 10 s at most; its log is complete afterwards.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let status = wait_for_exit(&mut self.child, secs(10)).expect("the agent ends within 10 s");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader of the agent's log");
        }
        status
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("wait for the agent").is_none()
    }

    /// Resident memory now, in KiB.
    pub fn rss_kib(&self) -> u64 {
        process::status_number(self.pid(), "VmRSS")
    }

    /// The most resident memory it ever had, in KiB.
    pub fn peak_rss_kib(&self) -> u64 {
        process::status_number(self.pid(), "VmHWM")
    }

    /// How many threads it has.
    pub fn threads(&self) -> u64 {
        process::status_number(self.pid(), "Threads")
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        process::descriptors(self.pid())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        show_log(&format!("log of the agent, process {}", self.pid()), &self.log());
    }
}

/// The program under test: the one that Cargo has built, or what PGSQLCHK_TEST_PROGRAM names, such as one for another
/// machine (packaging/emulated).
pub fn program() -> &'static str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    let built = || env!("CARGO_BIN_EXE_pgsqlchk").to_owned();
    PROGRAM.get_or_init(|| std::env::var("PGSQLCHK_TEST_PROGRAM").unwrap_or_else(|_| built()))
}

/// The agent's binary without any argument and without PG* variables, for tests of a start that fails.
pub fn command() -> Command {
    command_under(&[])
}

fn command_under(wrapper: &[&str]) -> Command {
    let binary = program();
    let mut command = match wrapper.split_first() {
        None => Command::new(binary),
        Some((program, args)) => {
            let mut command = Command::new(program);
            command.args(args).arg(binary);
            command
        }
    };
    postgresql::without_pg_variables(&mut command);
    command
}

/// Reads a pipe to its end on a thread of its own, so that the agent never waits for a reader.
fn collect(stderr: ChildStderr) -> (Arc<Mutex<String>>, JoinHandle<()>) {
    let log = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&log);
    let reader = thread::spawn(move || {
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(count) if count > 0) {
            sink.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    (log, reader)
}
