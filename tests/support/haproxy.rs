//! A real HAProxy, and its own view of the servers it checks.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use postgres::Client;

use super::folder::Folder;
use super::process::wait_for_exit;
use super::{eventually, secs, show_log};

/// What every configuration begins with; `GLOBAL` is replaced by the folder of the stats socket.
const HEAD: &str = "\
global
    stats socket GLOBAL/stats mode 600 level admin
    log stdout format raw local0 notice
    maxconn 100
defaults
    mode tcp
    log global
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    timeout check 3s
";

/// A running HAProxy; killed when dropped.
pub struct Haproxy {
    child: Child,
    folder: Folder,
}

/// One line of `show stat`: a server as HAProxy sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerState {
    /// Name of the `backend` or `listen` section.
    pub backend: String,
    /// Name of the server in it.
    pub server: String,
    /// `UP`, `DOWN`, `UP 1/3` (going down), `DOWN 1/2` (going up), `NOLB`, `MAINT`, `no check`.
    pub status: String,
    /// Outcome of the last check: `L7OK`, `L7STS` (unexpected status), `L7TOUT`, `L4CON`, …
    pub check_status: String,
    /// Layer 7 code of the last check; empty when there was none.
    pub check_code: String,
    /// What HAProxy keeps of the last reply: the reason phrase.
    pub last_chk: String,
    /// HAProxy's own words for `check_status`.
    pub check_desc: String,
    /// Outcome of the last agent-check: `L7OK`, `L7STS` (down), `L7RSP` (not understood), `L4CON`, …
    pub agent_status: String,
    /// What HAProxy keeps of the agent-check's last line: the description after `#`.
    pub last_agt: String,
    /// The share of its load that the server gets now.
    pub weight: String,
    /// Sessions that are open now.
    pub sessions: String,
}

impl Haproxy {
    /// Starts HAProxy with these `listen`, `frontend` and `backend` sections after a common head, and waits for
    /// its stats socket.
    #[track_caller]
    pub fn start(sections: &str) -> Haproxy {
        let folder = Folder::new("haproxy");
        let head = HEAD.replace("GLOBAL", &folder.path().display().to_string());
        let config = folder.write("haproxy.cfg", &format!("{head}{sections}"));
        Haproxy::start_with(Command::new(program()), folder, &[config])
    }

    /// Starts HAProxy with a whole configuration; a second file beside it adds nothing but the stats socket and a log
    /// that a failing test can show.
    #[track_caller]
    pub fn start_whole(config: &str) -> Haproxy {
        Haproxy::start_command(Command::new(program()), config)
    }

    /// The same with another HAProxy, by a command that lacks nothing but its options.
    #[track_caller]
    pub fn start_command(command: Command, config: &str) -> Haproxy {
        let folder = Folder::new("haproxy");
        let path = folder.path().display().to_string();
        let access = format!(
            "global\n    stats socket {path}/stats mode 600 level admin\n    log stdout format raw local0 notice\n"
        );
        let files = [folder.write("haproxy.cfg", config), folder.write("test.cfg", &access)];
        Haproxy::start_with(command, folder, &files)
    }

    #[track_caller]
    fn start_with(mut command: Command, folder: Folder, files: &[PathBuf]) -> Haproxy {
        let log = fs::File::create(folder.path().join("haproxy.log")).expect("create HAProxy's log");
        command.arg("-db").stdin(Stdio::null());
        files.iter().for_each(|file| {
            command.arg("-f").arg(file);
        });
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut haproxy = Haproxy { child, folder };
        eventually(secs(10), "HAProxy opens its stats socket", || {
            let ended = haproxy.child.try_wait().expect("wait for HAProxy");
            assert!(ended.is_none(), "HAProxy ended: {ended:?}\n{}", haproxy.log());
            UnixStream::connect(haproxy.stats_socket()).is_ok()
        });
        haproxy
    }

    /// Every server line of `show stat`.
    #[track_caller]
    pub fn servers(&self) -> Vec<ServerState> {
        let table = self.command("show stat");
        let mut lines = table.lines().filter(|line| !line.is_empty()).map(csv_fields);
        let names = lines.next().expect("a head line in show stat");
        let servers = lines.filter_map(|values| {
            let field = |name: &str| {
                let place = names.iter().position(|known| known.trim_start_matches("# ") == name);
                place.and_then(|place| values.get(place)).cloned().unwrap_or_default()
            };
            let state = ServerState {
                backend: field("pxname"),
                server: field("svname"),
                status: field("status"),
                check_status: field("check_status"),
                check_code: field("check_code"),
                last_chk: field("last_chk"),
                check_desc: field("check_desc"),
                agent_status: field("agent_status"),
                last_agt: field("last_agt"),
                weight: field("weight"),
                sessions: field("scur"),
            };
            (!["FRONTEND", "BACKEND"].contains(&state.server.as_str())).then_some(state)
        });
        servers.collect()
    }

    /// One server of one backend.
    #[track_caller]
    pub fn server(&self, backend: &str, server: &str) -> ServerState {
        let found =
            self.servers().into_iter().find(|state| state.backend == backend && state.server == server);
        found.unwrap_or_else(|| panic!("no server {backend}/{server} in show stat"))
    }

    /// Sends one command to the stats socket and returns the whole answer.
    #[track_caller]
    pub fn command(&self, command: &str) -> String {
        let mut stream = UnixStream::connect(self.stats_socket()).expect("connect to the stats socket");
        stream.set_read_timeout(Some(secs(5))).expect("set a read timeout");
        stream.write_all(format!("{command}\n").as_bytes()).expect("write to the stats socket");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read from the stats socket");
        answer
    }

    /// Lets it say and hear nothing more.
    pub fn freeze(&self) {
        super::signal(self.child.id(), super::Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        super::signal(self.child.id(), super::Signal::CONT);
    }

    /// What HAProxy wrote so far: warnings, and a line for every server that went up or down.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("haproxy.log")).unwrap_or_default()
    }

    fn stats_socket(&self) -> PathBuf {
        self.folder.path().join("stats")
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = wait_for_exit(&mut self.child, secs(5));
        show_log("log of HAProxy", &self.log());
    }
}

/// Its session ends where `on-marked-down shutdown-sessions` stands: a moment after HAProxy says that the server is down.
#[track_caller]
pub fn assert_shut(session: &mut Client) {
    eventually(secs(5), "on-marked-down shutdown-sessions", || session.simple_query("SELECT 1").is_err());
}

/// The haproxy program: that of `PGSQLCHK_TEST_HAPROXY`, which `make test-system` sets to other ones; else on PATH, or
/// where Debian puts it, which is not on an ordinary user's PATH.
pub fn program() -> PathBuf {
    if let Some(other) = env::var_os("PGSQLCHK_TEST_HAPROXY") {
        return other.into();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([Path::new("/usr/sbin").to_owned()]);
    let mut programs = folders.map(|folder| folder.join("haproxy"));
    programs
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("haproxy not found; run make test: it installs it"))
}

/// The fields of one CSV line; HAProxy quotes a field only where it must and doubles quotes in it.
fn csv_fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let field = fields.last_mut().expect("there is always a last field");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    fields
}
