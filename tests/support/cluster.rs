//! A real PostgreSQL server on a data directory of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::folder::Folder;
use super::network::Network;
use super::postgresql::{ServerUser, copy_folder, init, program_path, run, template, without_pg_variables};
use super::process::{Frozen, Signal, children_of, signal, state, wait_for_exit};
use super::{eventually, free_port, secs, show_log};

/// How PostgreSQL is told to stop; the words and signals are pg_ctl's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Waits until every client has left (SIGTERM).
    Smart,
    /// Ends every session, then shuts down cleanly (SIGINT).
    Fast,
    /// Gives up at once; the next start recovers from WAL (SIGQUIT).
    Immediate,
}

impl StopMode {
    fn signal(self) -> Signal {
        match self {
            StopMode::Smart => Signal::TERM,
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        }
    }
}

/// A primary or a standby. Stopped at once and removed when dropped, whatever a test has frozen in it.
pub struct Cluster {
    pub(super) folder: Folder,
    pub(super) user: ServerUser,
    port: u16,
    pub(super) settings: Mutex<Vec<(String, String)>>,
    /// In which network it runs; `None` for this host's.
    network: Option<Arc<Network>>,
    /// Variables of the server's environment, from its next start on.
    pub environment: Mutex<Vec<(String, String)>>,
    postmaster: Mutex<Option<Child>>,
}

impl Cluster {
    /// A running primary with trust authentication.
    pub fn primary() -> Cluster {
        Cluster::primary_with(&[])
    }

    /// A running primary with settings of its own in postgresql.conf.
    pub fn primary_with(settings: &[(&str, &str)]) -> Cluster {
        let cluster = Cluster::stopped(settings);
        cluster.start();
        cluster
    }

    /// A primary of another system: all others share one identifier.
    pub fn foreign_primary() -> Cluster {
        let cluster = Cluster::empty(&[]);
        init(&cluster.data());
        cluster.write_settings();
        cluster.start();
        cluster
    }

    /// A primary that was never started.
    pub fn stopped(settings: &[(&str, &str)]) -> Cluster {
        let cluster = Cluster::empty(settings);
        copy_folder(template(), &cluster.data());
        cluster.write_settings();
        cluster
    }

    /// A running standby that streams from `primary` and has everything the primary wrote before.
    pub fn standby_of(primary: &Cluster) -> Cluster {
        let standby = Cluster::stopped_standby_of(primary, &[]);
        standby.start();
        let written = primary.psql("SELECT pg_current_wal_lsn()");
        // The agent does not believe a receiver from its first moment on.
        let caught_up = format!(
            "SELECT count(*) FROM pg_stat_wal_receiver WHERE pg_last_wal_replay_lsn() >= '{written}'
             AND (last_msg_receipt_time < clock_timestamp() - interval '20ms'
                  OR last_msg_send_time <> last_msg_receipt_time)"
        );
        eventually(secs(20), "the standby caught up", || standby.psql(&caught_up) == "1");
        standby
    }

    /// A base backup of a running primary, prepared as a standby and not started yet.
    pub fn stopped_standby_of(primary: &Cluster, settings: &[(&str, &str)]) -> Cluster {
        let standby = Cluster::empty(settings);
        standby.back_up(primary, &[]);
        standby
    }

    /// The same, at 16 MB a second: time to do something to the primary meanwhile.
    pub fn slow_standby_of(primary: &Cluster, settings: &[(&str, &str)]) -> Cluster {
        let standby = Cluster::empty(settings);
        standby.back_up(primary, &["--max-rate=16M"]);
        standby
    }

    /// A running primary in a network of the test's own. Its socket is reached from everywhere.
    pub fn primary_in(network: &Arc<Network>) -> Cluster {
        let mut cluster = Cluster::stopped(&[]);
        cluster.network = Some(Arc::clone(network));
        cluster.start();
        cluster
    }

    /// A base backup of a running primary that will run in the same network and reach the primary over it.
    pub fn stopped_standby_in(
        network: &Arc<Network>,
        primary: &Cluster,
        settings: &[(&str, &str)],
    ) -> Cluster {
        let mut standby = Cluster::stopped_standby_of(primary, settings);
        standby.network = Some(Arc::clone(network));
        standby.write_auto_settings(&[("primary_conninfo", &primary.tcp_dsn())]);
        standby
    }

    /// Throws the data of a stopped server away and makes a standby in its place, which is not started yet.
    pub fn rebuild_as_standby_of(&self, primary: &Cluster) {
        assert!(self.postmaster().is_none(), "the server runs");
        fs::remove_dir_all(self.data()).expect("remove the data directory");
        self.back_up(primary, &[]);
    }

    /// Whether the postmaster has ended by itself; the server counts as stopped then.
    pub fn has_ended(&self) -> bool {
        let mut postmaster = self.postmaster();
        let ended = postmaster.as_mut().is_some_and(|child| child.try_wait().expect("wait for it").is_some());
        if ended {
            *postmaster = None;
        }
        ended
    }

    /// Whether it was started and not stopped since.
    pub fn is_started(&self) -> bool {
        self.postmaster().is_some()
    }

    fn back_up(&self, primary: &Cluster, options: &[&str]) {
        let mut backup = self.user.command("pg_basebackup");
        backup.args(["-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", &primary.dsn()]).args(options);
        run(backup.arg("-D").arg(self.data()));
        self.write_settings();
    }

    fn empty(settings: &[(&str, &str)]) -> Cluster {
        let user = ServerUser::current();
        let folder = Folder::of_server("pg", &user);
        let settings =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Cluster {
            folder,
            user,
            port: free_port(),
            settings: Mutex::new(settings),
            network: None,
            environment: Mutex::default(),
            postmaster: Mutex::new(None),
        }
    }

    /// Starts the server and waits until it accepts sessions (`pg_ctl -w start`).
    #[track_caller]
    pub fn start(&self) {
        self.try_start_nowait();
        self.wait_ready();
    }

    /// Starts the server and returns at once, whatever becomes of it.
    pub fn try_start_nowait(&self) {
        let mut postmaster = self.postmaster();
        assert!(postmaster.is_none(), "the server was started already");
        let log =
            File::options().create(true).append(true).open(self.log_path()).expect("open the server's log");
        let mut command = match &self.network {
            Some(network) => network.command(&self.user, "postgres"),
            None => self.user.command("postgres"),
        };
        command.arg("-D").arg(self.data()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        command.stdin(Stdio::null());
        command.envs(self.environment.lock().unwrap_or_else(PoisonError::into_inner).clone());
        *postmaster = Some(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
    }

    /// Waits until the server accepts sessions; panics when it ends instead.
    #[track_caller]
    pub fn wait_ready(&self) {
        eventually(secs(30), "PostgreSQL is ready", || {
            let mut postmaster = self.postmaster();
            let child = postmaster.as_mut().expect("the server was started");
            let ended = child.try_wait().expect("wait for the postmaster");
            assert!(ended.is_none(), "PostgreSQL ended: {ended:?}\n{}", self.log());
            // The first line is the postmaster's process id, the eighth its state, as pg_ctl reads them.
            let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            let mut lines = file.lines();
            lines.next() == Some(&child.id().to_string()) && lines.nth(6).map(str::trim) == Some("ready")
        });
    }

    /// Stops the server and waits for its end.
    #[track_caller]
    pub fn stop(&self, mode: StopMode) {
        let mut child = self.postmaster().take().expect("the server runs");
        signal(child.id(), mode.signal());
        if wait_for_exit(&mut child, secs(20)).is_none() {
            // Put back, so that Drop still finds and kills it.
            *self.postmaster() = Some(child);
            panic!("PostgreSQL did not stop ({mode:?}) within 20 s");
        }
    }

    /// Kills the postmaster (SIGKILL) and waits until its children have noticed and ended.
    #[track_caller]
    pub fn kill(&self) {
        let mut child = self.postmaster().take().expect("the server runs");
        // Standing still, it makes no more of them.
        let frozen = Frozen::new(child.id());
        let children = children_of(child.id());
        signal(child.id(), Signal::KILL);
        frozen.thaw();
        child.wait().expect("wait for the postmaster");
        // Whoever adopts them may be slow to reap them: a zombie has ended.
        let gone = |pid: &u32| matches!(state(*pid), None | Some('Z'));
        eventually(secs(10), "the children of the postmaster end", || children.iter().all(gone));
    }

    /// Stops the server, starts it again and waits until it accepts sessions.
    #[track_caller]
    pub fn restart(&self, mode: StopMode) {
        self.stop(mode);
        self.start();
    }

    /// Makes a standby a primary; returns when pg_promote() has returned.
    #[track_caller]
    pub fn promote(&self) {
        assert_eq!(self.psql("SELECT pg_promote()"), "t", "pg_promote() succeeds");
    }

    /// Runs SQL as superuser `postgres` through psql over the socket; panics when it fails.
    #[track_caller]
    pub fn psql(&self, sql: &str) -> String {
        self.try_psql(sql).unwrap_or_else(|error| panic!("psql: {sql}: {error}"))
    }

    /// The same; psql's stderr when it fails.
    pub fn try_psql(&self, sql: &str) -> Result<String, String> {
        try_psql(&self.dsn(), sql)
    }

    /// A session that stays open: a frozen postmaster lets no new one in. Superuser, over the socket.
    #[track_caller]
    pub fn connect(&self) -> postgres::Client {
        let dsn = format!("{} application_name=witness connect_timeout=10", self.dsn());
        postgres::Client::connect(&dsn, postgres::NoTls).expect("a session of the test's own")
    }

    /// Connection string over the socket, user `postgres`.
    pub fn dsn(&self) -> String {
        format!("host={} port={} user=postgres dbname=postgres", self.socket_dir().display(), self.port)
    }

    /// Connection string over the socket, for a role of the test's own.
    pub fn dsn_of(&self, role: &str) -> String {
        format!("host={} port={} user={role} dbname=postgres", self.socket_dir().display(), self.port)
    }

    /// Connection string over TCP, user `postgres`.
    pub fn tcp_dsn(&self) -> String {
        format!("host=127.0.0.1 port={} user=postgres dbname=postgres", self.port)
    }

    /// The folder of the socket file.
    pub fn socket_dir(&self) -> &Path {
        self.folder.path()
    }

    /// The socket file.
    pub fn socket_path(&self) -> PathBuf {
        self.socket_dir().join(format!(".s.PGSQL.{}", self.port))
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Its TCP port, also part of the socket's name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The postmaster's process id; panics when the server was stopped.
    #[track_caller]
    pub fn postmaster_pid(&self) -> u32 {
        self.postmaster().as_ref().expect("the server runs").id()
    }

    /// The backends of sessions with this application name, as pg_stat_activity lists them.
    #[track_caller]
    pub fn backend_pids(&self, application_name: &str) -> Vec<u32> {
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE application_name = '{application_name}'");
        self.psql(&sql).lines().map(|pid| pid.parse().expect("a process id")).collect()
    }

    /// The one process of a kind, as pg_stat_activity names it in `backend_type`; `None` where there is none.
    #[track_caller]
    pub fn process_of_type(&self, backend_type: &str) -> Option<u32> {
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE backend_type = '{backend_type}'");
        let pid = self.psql(&sql);
        (!pid.is_empty()).then(|| pid.parse().expect("a process id"))
    }

    /// Until this is dropped nothing is written that nobody asked for: fifteen seconds after the last write this process
    /// writes a record about running transactions, and a standby is a moment behind.
    #[track_caller]
    pub fn keep_idle(&self) -> Frozen {
        Frozen::new(self.process_of_type("background writer").expect("a background writer"))
    }

    /// The server's log.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    pub(super) fn postmaster(&self) -> MutexGuard<'_, Option<Child>> {
        self.postmaster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut child) = self.postmaster().take() {
            // A stopped process takes no signal but SIGKILL: thaw what a test has frozen, backends included.
            let family: Vec<u32> = [child.id()].into_iter().chain(children_of(child.id())).collect();
            family.iter().for_each(|pid| signal(*pid, Signal::CONT));
            signal(child.id(), Signal::QUIT);
            if wait_for_exit(&mut child, secs(5)).is_none() {
                // Its children exist as long as their parent was not waited for, so these ids are still theirs.
                children_of(child.id()).into_iter().for_each(|pid| signal(pid, Signal::KILL));
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        show_log(&format!("log of PostgreSQL in {}", self.folder.path().display()), &self.log());
    }
}

/// Runs SQL through psql, by whatever way the connection string names; psql's stderr when it fails.
pub fn try_psql(dsn: &str, sql: &str) -> Result<String, String> {
    let mut psql = psql_command();
    psql.args(["-d", dsn, "-v", "ON_ERROR_STOP=1", "-c", sql]);
    let output = psql.output().unwrap_or_else(|error| panic!("{psql:?}: {error}"));
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// psql as a script uses it: no psqlrc, bare values, a bounded connect and a bounded statement.
pub fn psql_command() -> std::process::Command {
    let mut psql = std::process::Command::new(program_path("psql"));
    without_pg_variables(&mut psql);
    psql.arg("-XAtq").env("LC_ALL", "C").stdin(Stdio::null());
    psql.env("PGCONNECT_TIMEOUT", "10").env("PGOPTIONS", "-c statement_timeout=60s");
    psql
}
