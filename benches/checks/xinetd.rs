//! One check per process under a real xinetd, against the shell script that did it before; and one process for all
//! checks (`wait = yes`) against standalone.

use std::fmt::Write;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use crate::support::folder::Folder;
use crate::support::postgresql::{program_path, without_pg_variables};
use crate::support::process::{Frozen, Signal, children_of, signal};
use crate::support::{Cluster, eventually, free_port, secs};

/// Debian's `psql`: a Perl program that looks for the cluster and then runs the real one.
const WRAPPER: &str = "/usr/bin/psql";

/// Clock ticks per second, as /proc counts them (times(2)): 100 on every Linux.
const USER_HZ: f64 = 100.0;

/// A xinetd with one service on a port of its own, so that what its servers cost can be told apart. Killed with its
/// servers when dropped.
pub struct Xinetd {
    child: Child,
    port: u16,
    _folder: Folder,
}

impl Xinetd {
    /// The agent, one process per check.
    pub fn agent(cluster: &Cluster) -> Xinetd {
        Xinetd::agent_with("wait = no", cluster)
    }

    /// The agent, one process for all checks.
    pub fn waiting_agent(cluster: &Cluster) -> Xinetd {
        Xinetd::agent_with("wait = yes", cluster)
    }

    fn agent_with(wait: &str, cluster: &Cluster) -> Xinetd {
        let folder = Folder::new("bench");
        let dsn = format!("dsn = {}\nlog-target = none\n", cluster.dsn());
        let config = folder.write("pgsqlchk.conf", &dsn);
        let server = env!("CARGO_BIN_EXE_pgsqlchk");
        let service = format!(
            "{wait}\nserver = {server}\nserver_args = --mode xinetd --config {}\npassenv =",
            config.display()
        );
        Xinetd::start(folder, &service)
    }

    /// The script, with the real psql.
    pub fn script(cluster: &Cluster) -> Xinetd {
        Xinetd::script_with(&program_path("psql"), cluster)
    }

    /// The script with Debian's wrapper, as it finds `psql` in PATH there; `None` on another system.
    pub fn script_with_wrapper(cluster: &Cluster) -> Option<Xinetd> {
        let is_wrapper = fs::canonicalize(WRAPPER).is_ok_and(|path| path.ends_with("pg_wrapper"));
        is_wrapper.then(|| Xinetd::script_with(Path::new(WRAPPER), cluster))
    }

    fn script_with(psql: &Path, cluster: &Cluster) -> Xinetd {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/classic-check.sh");
        let service = format!(
            "wait = no\nserver = {script}\npassenv = PATH\n\
             env = PSQL={} PGHOST={} PGPORT={} PGUSER=postgres PGDATABASE=postgres",
            psql.display(),
            cluster.socket_dir().display(),
            cluster.port()
        );
        Xinetd::start(Folder::new("bench"), &service)
    }

    fn start(folder: Folder, service: &str) -> Xinetd {
        let port = free_port();
        let mut config =
            String::from("service check\n{\ntype = UNLISTED\nsocket_type = stream\nprotocol = tcp\n");
        write!(config, "bind = 127.0.0.1\nport = {port}\nuser = {}\n{service}\n", user()).expect("a String");
        config.push_str("cps = 100000 1\ninstances = UNLIMITED\nlog_on_success =\n}\n");
        let file = folder.write("xinetd.conf", &config);
        // Debian keeps it in a folder that an ordinary user does not have in PATH.
        let mut command = Command::new(program());
        without_pg_variables(&mut command);
        command.arg("-dontfork").arg("-f").arg(file).arg("-pidfile").arg(folder.path().join("pid"));
        command.arg("-filelog").arg(folder.path().join("log"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("run xinetd (make bench installs it)");
        let xinetd = Xinetd { child, port, _folder: folder };
        eventually(secs(10), "xinetd listens", || is_listening(port));
        xinetd
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Waits until the servers it has started have ended.
    pub fn wait_for_servers(&self) {
        eventually(secs(10), "the servers end", || children_of(self.child.id()).is_empty());
    }

    /// Processor time of the servers that have ended so far, and of what these had started, in seconds.
    pub fn cpu_of_servers(&self) -> f64 {
        self.wait_for_servers();
        let pid = self.child.id();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("read /proc/PID/stat");
        let (_, rest) = stat.rsplit_once(')').expect("a command's name");
        // cutime and cstime, fields 16 and 17 of proc(5); the state is field 3.
        let ticks = rest.split_whitespace().skip(13).take(2);
        let ticks: u64 = ticks.map(|field| field.parse::<u64>().expect("a number")).sum();
        ticks as f64 / USER_HZ
    }
}

impl Drop for Xinetd {
    fn drop(&mut self) {
        // What it started with wait = yes would outlive it. While it stands still, its children's ids are theirs.
        let frozen = Frozen::new(self.child.id());
        children_of(frozen.pid()).into_iter().for_each(|pid| signal(pid, Signal::KILL));
        let _ = self.child.kill();
        let _ = self.child.wait();
        std::mem::forget(frozen);
    }
}

fn program() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join("xinetd")).find(|path| path.is_file()).unwrap_or_else(|| "xinetd".into())
}

/// xinetd wants a name, also where it could not change the user anyway.
fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("run id");
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

/// Without a connection, which would start a server.
fn is_listening(port: u16) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").expect("read /proc/net/tcp");
    let (address, listens) = (format!(":{port:04X}"), "0A");
    table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&address)) && fields.nth(1) == Some(listens)
    })
}

/// Whether a read failed because the other side closed without having read everything.
pub fn is_reset(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionReset
}
