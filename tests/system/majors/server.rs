//! A server of one major version, driven through pg_ctl as an administrator would.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use super::programs::Programs;
use crate::support::cluster::psql_command;
use crate::support::folder::Folder;
use crate::support::postgresql::{copy_folder, run};
use crate::support::settings::make_certificate;
use crate::support::{Frozen, eventually, free_port, secs, show_log};

/// Over the socket the server believes everybody; over TCP only who has a password, of either kind.
const HBA: &str = "local all all trust\n\
                   local replication all trust\n\
                   host all hashed 127.0.0.1/32 md5\n\
                   host all scrammed 127.0.0.1/32 scram-sha-256\n";

/// The password of `hashed` and `scrammed`.
pub const PASSWORD: &str = "pa55 word";

/// A primary or a standby. Stopped at once and removed when dropped.
pub struct Server {
    programs: Arc<Programs>,
    folder: Folder,
    port: u16,
}

impl Server {
    /// A primary fresh from initdb, not started.
    pub fn new(programs: &Arc<Programs>) -> Server {
        let server = Server::empty(programs);
        let mut initdb = programs.command("initdb");
        initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]);
        run(initdb.arg("-D").arg(server.data()));
        make_certificate(&server.data(), &programs.user);
        server.write("pg_hba.conf", HBA);
        server.write("postgresql.conf", &server.settings(""));
        server
    }

    /// A standby that will stream from `primary`, which has to stand still: a cold copy of its data directory.
    pub fn standby_of(primary: &Server) -> Server {
        let standby = Server::empty(&primary.programs);
        assert!(!primary.data().join("postmaster.pid").exists(), "the primary stands still");
        copy_folder(&primary.data(), &standby.data());
        let source =
            format!("primary_conninfo = 'host={} port={} user=postgres'\n", primary.place(), primary.port);
        // PostgreSQL 12 made the parameters of recovery.conf parameters like all others.
        if standby.programs.major < 12 {
            standby.write("recovery.conf", &format!("standby_mode = on\n{source}"));
            standby.write("postgresql.conf", &standby.settings(""));
        } else {
            standby.write("standby.signal", "");
            standby.write("postgresql.conf", &standby.settings(&source));
        }
        standby
    }

    /// A restore of `primary`, which has to stand still, not started: it takes WAL from there up to this restore point, and
    /// stands still at it.
    pub fn restore_of(primary: &Server, restore_point: &str) -> Server {
        let restore = Server::empty(&primary.programs);
        assert!(!primary.data().join("postmaster.pid").exists(), "the primary stands still");
        copy_folder(&primary.data(), &restore.data());
        let recovery = format!(
            "restore_command = 'cp {}/pg_wal/%f %p'\nrecovery_target_name = '{restore_point}'\n",
            primary.data().display()
        );
        if restore.programs.major < 12 {
            restore.write("recovery.conf", &recovery);
            restore.write("postgresql.conf", &restore.settings(""));
        } else {
            restore.write("recovery.signal", "");
            restore.write("postgresql.conf", &restore.settings(&recovery));
        }
        restore
    }

    /// Has a running standby replay commits so much later. Before PostgreSQL 12 it starts again for it.
    #[track_caller]
    pub fn delay_replay(&self, delay: &str) {
        if self.programs.major < 12 {
            let conf = fs::read_to_string(self.data().join("recovery.conf")).expect("recovery.conf");
            let lines = conf.lines().filter(|line| !line.starts_with("recovery_min_apply_delay"));
            let lines: String = lines.map(|line| format!("{line}\n")).collect();
            self.stop();
            self.write("recovery.conf", &format!("{lines}recovery_min_apply_delay = '{delay}'\n"));
            self.start();
        } else {
            self.psql(&format!("ALTER SYSTEM SET recovery_min_apply_delay = '{delay}'"));
            self.psql("SELECT pg_reload_conf()");
            // Whoever replays is told before sessions are that begin later.
            eventually(secs(10), "the delay is known", || {
                self.psql("SHOW recovery_min_apply_delay") == delay
            });
        }
    }

    fn empty(programs: &Arc<Programs>) -> Server {
        let folder = Folder::of_server(&format!("pg{}", programs.major), &programs.user);
        Server { programs: Arc::clone(programs), folder, port: free_port() }
    }

    fn settings(&self, more: &str) -> String {
        let (place, port, host) = (self.place(), self.port, Ipv4Addr::LOCALHOST);
        format!(
            "listen_addresses = '{host}'\nport = {port}\nunix_socket_directories = '{place}'\n\
             fsync = off\nfull_page_writes = off\nautovacuum = off\nwal_level = replica\nhot_standby = on\n\
             max_connections = 30\nshared_buffers = 16MB\nssl = on\nlog_line_prefix = '%m [%p] %a '\n\
             wal_retrieve_retry_interval = 100ms\n{more}"
        )
    }

    /// The certificate that it shows, which signs itself.
    pub fn certificate(&self) -> PathBuf {
        self.data().join("server.crt")
    }

    /// Starts it and waits until it accepts sessions.
    #[track_caller]
    pub fn start(&self) {
        run(self.pg_ctl("start").arg("-l").arg(self.log_path()));
    }

    /// Ends every session, shuts down cleanly and waits for the end.
    #[track_caller]
    pub fn stop(&self) {
        run(self.pg_ctl("stop").args(["-m", "fast"]));
    }

    /// Makes a standby a primary and waits until it is one; pg_promote() exists from PostgreSQL 12 on only.
    #[track_caller]
    pub fn promote(&self) {
        run(&mut self.pg_ctl("promote"));
    }

    fn pg_ctl(&self, action: &str) -> Command {
        let mut command = self.programs.command("pg_ctl");
        command.args([action, "--silent", "--wait", "-D"]).arg(self.data());
        command
    }

    /// Runs SQL as the superuser, over the socket; panics when it fails. psql is the distribution's.
    #[track_caller]
    pub fn psql(&self, sql: &str) -> String {
        let mut psql = psql_command();
        psql.args(["-d", &self.dsn("postgres"), "-v", "ON_ERROR_STOP=1", "-c", sql]);
        run(&mut psql).trim_end().to_owned()
    }

    /// As `Cluster::keep_idle`.
    #[track_caller]
    pub fn keep_idle(&self) -> Frozen {
        let pid = self.psql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'");
        Frozen::new(pid.parse().expect("a background writer"))
    }

    /// Connection string over the socket.
    pub fn dsn(&self, role: &str) -> String {
        format!("host={} port={} user={role} dbname=postgres", self.place(), self.port)
    }

    /// Connection string over TCP, with a password.
    pub fn tcp_dsn(&self, role: &str, password: &str) -> String {
        let (host, port) = (Ipv4Addr::LOCALHOST, self.port);
        format!("host={host} port={port} user={role} dbname=postgres password='{password}'")
    }

    /// The server's log.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.data().join(name);
        fs::write(&path, content).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        self.programs.user.give(&path);
    }

    fn place(&self) -> String {
        self.folder.path().display().to_string()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            let _ = self.pg_ctl("stop").args(["-m", "immediate"]).output();
        }
        show_log(&format!("log of PostgreSQL in {}", self.place()), &self.log());
    }
}
