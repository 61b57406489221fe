//! Which PostgreSQL is installed, which user may run it, and the data directory every cluster is copied from.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::{env, fs};

use super::folder::Folder;

/// What the tests say when a server program is missing; they never skip.
pub const INSTALL: &str = "run make test: it installs PostgreSQL";

/// The user PostgreSQL runs as: it refuses root, so root's tests run it as `postgres`.
pub struct ServerUser {
    switch: Option<(u32, u32)>,
}

impl ServerUser {
    /// `postgres` where the tests run as root, else the tests' own user.
    pub fn current() -> ServerUser {
        if !rustix::process::geteuid().is_root() {
            return ServerUser { switch: None };
        }
        let accounts = fs::read_to_string("/etc/passwd").expect("read /etc/passwd");
        let entry: Vec<&str> = accounts
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields.first() == Some(&"postgres"))
            .unwrap_or_else(|| panic!("no user postgres on this machine; {INSTALL}"));
        let number = |field: usize| entry[field].parse().expect("a number in /etc/passwd");
        ServerUser { switch: Some((number(2), number(3))) }
    }

    /// User and group to change to, if any.
    pub fn switch(&self) -> Option<(u32, u32)> {
        self.switch
    }

    /// A program of PostgreSQL, to be run as this user, with nothing of the caller's PG* environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program_path(program));
        if let Some((uid, gid)) = self.switch {
            command.uid(uid).gid(gid);
        }
        prepare(&mut command);
        command
    }
}

/// Nothing of the caller's PG* environment, and messages in English.
pub fn prepare(command: &mut Command) {
    // The server's user may not be allowed to enter the folder the tests were started in.
    command.current_dir("/").stdin(Stdio::null());
    without_pg_variables(command);
    // Error messages are compared; they are English then.
    command.env("LC_ALL", "C");
}

/// Takes every PG* variable of the caller away, so that a developer's own settings reach no test.
pub fn without_pg_variables(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
}

/// A program of the newest PostgreSQL in Debian's folders, else of the one on PATH.
pub fn program_path(program: &str) -> PathBuf {
    static FOLDERS: OnceLock<Vec<PathBuf>> = OnceLock::new();
    FOLDERS
        .get_or_init(|| {
            let mut versions: Vec<u32> = fs::read_dir("/usr/lib/postgresql")
                .into_iter()
                .flatten()
                .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
                .collect();
            versions.sort_unstable_by(|a, b| b.cmp(a));
            let debian = versions.iter().map(|version| format!("/usr/lib/postgresql/{version}/bin").into());
            debian.chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())).collect()
        })
        .iter()
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{program} not found; {INSTALL}"))
}

/// A data directory fresh from initdb, made once and kept in Cargo's target folder: copying it takes a tenth of
/// the time. Superuser `postgres`, trust authentication, WAL segments of 1 MB (small to copy).
pub fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(make_template)
}

fn make_template() -> PathBuf {
    let user = ServerUser::current();
    let version = run(user.command("postgres").arg("--version"));
    let word = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let owner = user.switch().map_or_else(|| rustix::process::geteuid().as_raw(), |(uid, _)| uid);
    let name = format!("data-{owner}-{}", version.trim().chars().map(word).collect::<String>());
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if place.join("PG_VERSION").is_file() {
        return place;
    }
    let folder = Folder::of_server("initdb", &user);
    let data = folder.path().join("data");
    init(&data);
    // Several test programs may do this at the same time: copy beside, then rename; whoever is first, wins.
    let copy = place.with_extension(format!("{:016x}", super::random()));
    copy_folder(&data, &copy);
    if fs::rename(&copy, &place).is_err() {
        let _ = fs::remove_dir_all(&copy);
    }
    assert!(place.join("PG_VERSION").is_file(), "cannot put a data directory at {}", place.display());
    place
}

/// A data directory with a system identifier of its own; all copies of the template have the same.
pub fn init(data: &Path) {
    let options = ["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"];
    let mut initdb = ServerUser::current().command("initdb");
    run(initdb.args(options).arg("--wal-segsize=1").arg("-D").arg(data));
}

/// Copies a folder with its owners and modes.
pub fn copy_folder(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to));
}

/// Copies a program that is to run from there. By another process: a child that a test beside this one has just forked would
/// hold the copy open for writing as this one does, and what is open for writing can't be executed (ETXTBSY, execve(2)).
pub fn copy_program(from: impl AsRef<Path>, to: &Path) {
    run(Command::new("cp").arg(from.as_ref()).arg(to));
}

/// Runs a program to its end and returns what it wrote to stdout; panics with its stderr when it fails.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
