//! A real PgBouncer in front of a cluster.

use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{env, fmt};

use super::folder::Folder;
use super::postgresql::{ServerUser, prepare};
use super::process::wait_for_exit;
use super::settings::make_certificate;
use super::{Cluster, eventually, free_port, secs, show_log};

/// When a server session goes back into the pool; the words are PgBouncer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// When the client leaves.
    Session,
    /// After each transaction.
    Transaction,
    /// After each statement.
    Statement,
}

impl PoolMode {
    /// All of them.
    pub const ALL: [PoolMode; 3] = [PoolMode::Session, PoolMode::Transaction, PoolMode::Statement];
}

impl fmt::Display for PoolMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PoolMode::Session => "session",
            PoolMode::Transaction => "transaction",
            PoolMode::Statement => "statement",
        })
    }
}

/// How a pool is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Pool<'a> {
    /// When sessions change hands.
    pub mode: PoolMode,
    /// The role of every server session, whoever the client is; without it, the client's own.
    pub forced_user: Option<&'a str>,
    /// Server sessions for each role: with one, everybody of the role shares it.
    pub size: usize,
    /// Further lines of `[pgbouncer]`; `FOLDER` stands for its own, where a certificate is put for those about TLS.
    pub more: &'a str,
}

/// A running PgBouncer; killed when dropped.
pub struct Pgbouncer {
    child: Mutex<Child>,
    folder: Folder,
    port: u16,
}

impl Pgbouncer {
    /// Starts it before the database `postgres` of a cluster, and waits until it accepts connections. Everybody is let
    /// in; the roles `app`, `pgsqlchk` and `postgres` are known.
    #[track_caller]
    pub fn before(cluster: &Cluster, pool: Pool) -> Pgbouncer {
        // It refuses root as PostgreSQL does.
        let user = ServerUser::current();
        let folder = Folder::of_server("pgbouncer", &user);
        let port = free_port();
        let path = folder.path().display();
        let users = folder.write("users.txt", "\"app\" \"\"\n\"pgsqlchk\" \"\"\n\"postgres\" \"\"\n");
        let forced = pool.forced_user.map_or(String::new(), |role| format!(" user={role}"));
        let config = folder.write(
            "pgbouncer.ini",
            &format!(
                "[databases]\npostgres = host={} port={} dbname=postgres{forced}\n[pgbouncer]\n\
                 listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir = {path}\nauth_type = trust\n\
                 auth_file = {}\npool_mode = {}\ndefault_pool_size = {}\nserver_login_retry = 1\n\
                 admin_users = postgres\n{}\n",
                cluster.socket_dir().display(),
                cluster.port(),
                users.display(),
                pool.mode,
                pool.size,
                pool.more.replace("FOLDER", &path.to_string()),
            ),
        );
        if pool.more.contains("tls") {
            make_certificate(folder.path(), &user);
        }
        File::create(folder.path().join("pgbouncer.log")).expect("create PgBouncer's log");
        let child = spawn(&folder, &config);
        let pgbouncer = Pgbouncer { child: Mutex::new(child), folder, port };
        pgbouncer.wait_ready();
        pgbouncer
    }

    /// Over its socket: that takes no TLS.
    #[track_caller]
    fn wait_ready(&self) {
        eventually(secs(10), "PgBouncer accepts connections", || {
            let ended = self.child().try_wait().expect("wait for PgBouncer");
            assert!(ended.is_none(), "PgBouncer ended: {ended:?}\n{}", self.log());
            postgres::Client::connect(&self.socket_dsn("app"), postgres::NoTls).is_ok()
        });
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills it.
    pub fn kill(&self) {
        let mut child = self.child();
        let _ = child.kill();
        wait_for_exit(&mut child, secs(5)).expect("PgBouncer ends");
        // Nobody removes it then.
        let _ = fs::remove_file(self.socket_path());
        let _ = fs::remove_file(format!("{}.lock", self.socket_path().display()));
    }

    /// Starts it again after [`Pgbouncer::kill`].
    #[track_caller]
    pub fn start_again(&self) {
        *self.child() = spawn(&self.folder, &self.folder.path().join("pgbouncer.ini"));
        self.wait_ready();
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its socket.
    pub fn socket_path(&self) -> PathBuf {
        self.folder.path().join(format!(".s.PGSQL.{}", self.port))
    }

    /// A word to its console: `PAUSE`, `RESUME`.
    #[track_caller]
    pub fn tell(&self, command: &str) {
        let dsn = format!(
            "host={} port={} user=postgres dbname=pgbouncer",
            self.folder.path().display(),
            self.port
        );
        let mut console = postgres::Client::connect(&dsn, postgres::NoTls).expect("PgBouncer's console");
        console.simple_query(command).unwrap_or_else(|error| panic!("{command}: {error}"));
    }

    /// Connection string through it over TCP.
    pub fn dsn(&self, role: &str) -> String {
        format!("host=127.0.0.1 port={} user={role} dbname=postgres", self.port)
    }

    /// Connection string through it over its socket.
    pub fn socket_dsn(&self, role: &str) -> String {
        format!("host={} port={} user={role} dbname=postgres", self.folder.path().display(), self.port)
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("pgbouncer.log")).unwrap_or_default()
    }
}

impl Drop for Pgbouncer {
    fn drop(&mut self) {
        let mut child = self.child();
        let _ = child.kill();
        let _ = wait_for_exit(&mut child, secs(5));
        drop(child);
        show_log("log of PgBouncer", &self.log());
    }
}

fn spawn(folder: &Folder, config: &Path) -> Child {
    let log =
        OpenOptions::new().append(true).open(folder.path().join("pgbouncer.log")).expect("open its log");
    let mut command = Command::new(program());
    prepare(&mut command);
    if let Some((uid, gid)) = ServerUser::current().switch() {
        command.uid(uid).gid(gid);
    }
    command.arg(config).stdout(log.try_clone().expect("a second handle")).stderr(log);
    command.stdin(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// The pgbouncer program: on PATH, or where Debian puts it, which is not on an ordinary user's PATH.
fn program() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([Path::new("/usr/sbin").to_owned()]);
    let mut programs = folders.map(|folder| folder.join("pgbouncer"));
    programs
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("pgbouncer not found; run make test: it installs it"))
}
