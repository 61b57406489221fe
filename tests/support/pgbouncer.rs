//! A real PgBouncer in front of a cluster.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fmt};

use super::folder::Folder;
use super::postgresql::{ServerUser, prepare};
use super::process::wait_for_exit;
use super::settings::make_certificate;
use super::{Cluster, eventually, free_port, secs, show_log};

/// Its files, in its folder.
const CONFIG: &str = "pgbouncer.ini";
const LOG: &str = "pgbouncer.log";

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

/// A PgBouncer; killed when dropped.
pub struct Pgbouncer {
    child: Option<Child>,
    folder: Folder,
    address: SocketAddr,
}

impl Pgbouncer {
    /// Starts it before the database `postgres` of a cluster, and waits until it accepts connections. Everybody is let
    /// in; the roles `app`, `client`, `pgsqlchk` and `postgres` are known.
    #[track_caller]
    pub fn before(cluster: &Cluster, pool: Pool) -> Pgbouncer {
        let mut pgbouncer = Pgbouncer::stopped(cluster, Ipv4Addr::LOCALHOST, pool);
        pgbouncer.start();
        pgbouncer
    }

    /// The same at an address of the test's own, and not started yet; the cluster need not run either.
    pub fn stopped(cluster: &Cluster, ip: Ipv4Addr, pool: Pool) -> Pgbouncer {
        let user = ServerUser::current();
        let folder = Folder::of_server("pgbouncer", &user);
        if pool.more.contains("tls") {
            make_certificate(folder.path(), &user);
        }
        let port = free_port();
        let path = folder.path().display();
        let users: String =
            ["app", "client", "pgsqlchk", "postgres"].map(|role| format!("\"{role}\" \"\"\n")).concat();
        let users = folder.write("users.txt", &users);
        let forced = pool.forced_user.map_or(String::new(), |role| format!(" user={role}"));
        folder.write(
            CONFIG,
            &format!(
                "[databases]\npostgres = host={} port={} dbname=postgres{forced}\n[pgbouncer]\n\
                 listen_addr = {ip}\nlisten_port = {port}\nunix_socket_dir = {path}\nauth_type = trust\n\
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
        Pgbouncer { child: None, folder, address: (ip, port).into() }
    }

    /// Starts it, and waits until its console answers, which needs no server.
    #[track_caller]
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.path().join(LOG));
        let log = log.expect("open PgBouncer's log");
        let mut command = Command::new(program());
        prepare(&mut command);
        // It refuses root as PostgreSQL does.
        if let Some((uid, gid)) = ServerUser::current().switch() {
            command.uid(uid).gid(gid);
        }
        command.arg(self.folder.path().join(CONFIG));
        command.stdout(log.try_clone().expect("a second handle")).stderr(log).stdin(Stdio::null());
        let child = self.child.insert(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
        let console = console(&self.folder, self.address.port());
        eventually(secs(10), "PgBouncer accepts connections", || {
            let ended = child.try_wait().expect("wait for PgBouncer");
            assert!(ended.is_none(), "PgBouncer ended: {ended:?}\n{}", read_log(&self.folder));
            postgres::Client::connect(&console, postgres::NoTls).is_ok()
        });
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = wait_for_exit(&mut child, secs(5));
        }
    }

    /// Its process id; panics where it does not run.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("PgBouncer runs").id()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its socket file.
    pub fn socket_path(&self) -> PathBuf {
        self.folder.path().join(format!(".s.PGSQL.{}", self.address.port()))
    }

    /// Connection string to its own console, over its socket: what it says there it says without a server.
    pub fn console_dsn(&self) -> String {
        console(&self.folder, self.address.port())
    }

    /// A word to its console: `PAUSE`, `RESUME`.
    #[track_caller]
    pub fn tell(&self, command: &str) {
        let mut console =
            postgres::Client::connect(&self.console_dsn(), postgres::NoTls).expect("its console");
        console.simple_query(command).unwrap_or_else(|error| panic!("{command}: {error}"));
    }

    /// Connection string through it over TCP.
    pub fn dsn(&self, role: &str) -> String {
        format!("host={} port={} user={role} dbname=postgres", self.address.ip(), self.address.port())
    }

    /// Connection string through it over its socket.
    pub fn socket_dsn(&self, role: &str) -> String {
        let folder = self.folder.path().display();
        format!("host={folder} port={} user={role} dbname=postgres", self.address.port())
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        read_log(&self.folder)
    }
}

impl Drop for Pgbouncer {
    fn drop(&mut self) {
        self.kill();
        show_log("log of PgBouncer", &self.log());
    }
}

fn console(folder: &Folder, port: u16) -> String {
    format!("host={} port={port} user=postgres dbname=pgbouncer", folder.path().display())
}

fn read_log(folder: &Folder) -> String {
    fs::read_to_string(folder.path().join(LOG)).unwrap_or_default()
}

/// The pgbouncer program: on PATH, or where Debian puts it, which is not on an ordinary user's PATH.
pub fn program() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([Path::new("/usr/sbin").to_owned()]);
    let mut programs = folders.map(|folder| folder.join("pgbouncer"));
    programs
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("pgbouncer not found; run make test: it installs it"))
}
