//! Two nodes under a real Patroni, which votes in an etcd of its own. Both programs lie under Cargo's target folder, where
//! packaging/install-dependencies puts them.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::cluster::psql_command;
use super::folder::Folder;
use super::peers::Ring;
use super::postgresql::{ServerUser, copy_folder, program_path};
use super::process::{Killed, Signal, children_of, processes_that_name, signal, wait_for_exit};
use super::unpacked::unpacked;
use super::{Agent, etcd, free_port, millis, secs, show_log};

/// Patroni gives up sooner than anybody who waits for it here; under load its own queries take seconds.
const PATIENCE: Duration = secs(10);
/// Everything here takes seconds, and a look starts a psql or keeps a Python busy: two processors have a cluster to run.
pub const PAUSE: Duration = millis(100);
/// Far more than anything takes where other programs want the processors, too.
const LIMIT: Duration = secs(180);
/// The user postgres may not reach another one.
const PYTHON: &str = "/usr/bin/python3";

/// Its shortest `ttl`; the others as its documentation asks for with that.
const TIMES: &str = "ttl: 20\n    loop_wait: 5\n    retry_timeout: 5";

/// A leader and a replica that streams from it. All processes are killed when dropped, whatever a test has frozen.
pub struct Patroni {
    /// The node that led at the start, and the other one.
    pub nodes: [Node; 2],
    etcd: Killed,
    folder: Folder,
}

/// One node: a Patroni, and the PostgreSQL that it runs.
pub struct Node {
    name: &'static str,
    folder: PathBuf,
    /// The port of Patroni's own API.
    pub api_port: u16,
    /// PostgreSQL's port.
    pub port: u16,
    patroni: Option<Child>,
}

/// Waits until `condition` holds, with a pause between two looks that suits Patroni.
#[track_caller]
pub fn patiently(what: &str, condition: impl FnMut() -> bool) {
    super::patiently(LIMIT, what, condition);
}

impl Patroni {
    /// Starts everything, and waits until the first node leads and the second streams from it.
    #[track_caller]
    pub fn start() -> Patroni {
        // Found before anything runs: what is missing is one line.
        let packages = unpacked("patroni/packages");
        let folder = Folder::new("patroni");
        let (etcd, etcd_port) = etcd::start(&folder);
        // The user postgres need not reach the folder of the sources.
        copy_folder(&packages, &folder.path().join("packages"));
        let node = |name: &'static str| Node {
            name,
            folder: folder.path().join(name),
            api_port: free_port(),
            port: free_port(),
            patroni: None,
        };
        let mut patroni = Patroni { nodes: [node("node1"), node("node2")], etcd: Killed(etcd), folder };
        patroni.wait_for_etcd(etcd_port);
        let Patroni { nodes: [leader, replica], folder, .. } = &mut patroni;
        leader.start(folder, etcd_port);
        leader.wait_for("/primary");
        replica.start(folder, etcd_port);
        replica.wait_for("/replica");
        let streams = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        patiently("the replica streams", || leader.psql(streams).as_deref() == Ok("1"));
        patroni
    }

    #[track_caller]
    fn wait_for_etcd(&mut self, port: u16) {
        patiently("etcd is healthy", || {
            let ended = self.etcd.0.try_wait().expect("wait for etcd");
            assert!(ended.is_none(), "etcd ended: {ended:?}");
            status(port, "/health").is_ok_and(|status| status == 200)
        });
    }

    /// Has the second node lead instead of the first, as `patronictl switchover` does; returns when Patroni says that
    /// this is done.
    #[track_caller]
    pub fn switch_over(&self) {
        let [leader, candidate] = &self.nodes;
        let url = format!("http://127.0.0.1:{}/switchover", leader.api_port);
        let body = format!(r#"{{"leader": "{}", "candidate": "{}"}}"#, leader.name, candidate.name);
        // It refuses while it does not know yet how far the candidate is.
        patiently("Patroni switches over", || {
            let answer = http(secs(60)).post(&url).send(body.as_str());
            answer.is_ok_and(|answer| answer.status() == 200) || candidate.says_200("/primary")
        });
    }
}

impl Node {
    fn start(&mut self, folder: &Folder, etcd_port: u16) {
        let user = ServerUser::current();
        fs::create_dir(&self.folder).expect("create the node's folder");
        user.give(&self.folder);
        let config = folder.write(&format!("{}.yml", self.name), &self.configuration(etcd_port));
        let log = File::create(self.log_path()).expect("create Patroni's log");
        let mut command = Command::new(PYTHON);
        // Nothing of the caller's: no PATRONI_* or PG* variable, no other Python's packages.
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("HOME", &self.folder);
        command.env("PYTHONPATH", folder.path().join("packages")).env("PYTHONNOUSERSITE", "1");
        command.args(["-m", "patroni"]).arg(config).current_dir(&self.folder).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        if let Some((uid, gid)) = user.switch() {
            command.uid(uid).gid(gid);
        }
        let child =
            command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}; run make test once"));
        self.patroni = Some(child);
    }

    fn configuration(&self, etcd_port: u16) -> String {
        let Node { name, api_port, port, .. } = self;
        let (folder, postgres) = (self.folder.display(), program_path("postgres"));
        let programs = postgres.parent().expect("a folder").display();
        format!(
            "scope: pgsqlchk
name: {name}
etcd3: {{host: '127.0.0.1:{etcd_port}'}}
restapi: {{listen: '127.0.0.1:{api_port}', connect_address: '127.0.0.1:{api_port}'}}
bootstrap:
  dcs:
    {TIMES}
  initdb: [no-sync, {{auth: trust}}, {{encoding: UTF8}}, {{locale: C}}]
postgresql:
  listen: 127.0.0.1:{port}
  connect_address: 127.0.0.1:{port}
  data_dir: {folder}/data
  bin_dir: {programs}
  pgpass: {folder}/pgpass
  use_unix_socket: true
  authentication: {{superuser: {{username: postgres}}, replication: {{username: postgres}}}}
  parameters: {{unix_socket_directories: {folder}, fsync: 'off'}}
  pg_hba:
  - local all all trust
  - host all all 127.0.0.1/32 trust
  - host replication all 127.0.0.1/32 trust
"
        )
    }

    /// Waits until its Patroni answers 200 on a path; the first start makes a data directory.
    #[track_caller]
    fn wait_for(&mut self, path: &str) {
        patiently(&format!("Patroni of {} says 200 on {path}", self.name), || {
            let ended = self.child().try_wait().expect("wait for Patroni");
            assert!(ended.is_none(), "Patroni of {} ended: {ended:?}", self.name);
            self.says_200(path)
        });
    }

    fn child(&mut self) -> &mut Child {
        self.patroni.as_mut().expect("it was started")
    }

    /// The status code of Patroni's own API.
    pub fn api(&self, path: &str) -> Result<u16, ureq::Error> {
        status(self.api_port, path)
    }

    /// Whether Patroni's own API is content.
    pub fn says_200(&self, path: &str) -> bool {
        self.api(path).is_ok_and(|status| status == 200)
    }

    /// Patroni's process.
    pub fn patroni_pid(&self) -> u32 {
        self.patroni.as_ref().expect("it was started").id()
    }

    /// PostgreSQL's process; `None` where the file names one that has ended.
    pub fn postmaster_pid(&self) -> Option<u32> {
        let pid = read(&self.folder.join("data/postmaster.pid")).lines().next()?.parse().ok()?;
        processes_that_name(&self.folder, self.patroni_pid()).contains(&pid).then_some(pid)
    }

    /// Connection string over the socket.
    pub fn dsn(&self) -> String {
        format!("host={} port={} user=postgres dbname=postgres", self.folder.display(), self.port)
    }

    /// A statement in a new session, which has two seconds to be let in.
    pub fn psql(&self, sql: &str) -> Result<String, String> {
        let mut psql = psql_command();
        psql.env("PGCONNECT_TIMEOUT", "2").args(["-d", &self.dsn(), "-v", "ON_ERROR_STOP=1", "-c", sql]);
        let output = psql.output().unwrap_or_else(|error| panic!("{psql:?}: {error}"));
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// A transaction that writes, in a new session.
    pub fn write(&self) -> Result<(), String> {
        // A standby has no number to give.
        self.psql("SELECT txid_current()").map(|_| ())
    }

    /// An agent beside it that knows the others.
    #[track_caller]
    pub fn agent(&self, ring: &Ring, index: usize, more: &[&str]) -> Agent {
        Agent::start_with(|command| {
            command.args(["--dsn", &self.dsn()]).args(ring.options(index)).args(more);
        })
    }

    /// What its Patroni and PostgreSQL wrote so far.
    pub fn log(&self) -> String {
        read(&self.log_path())
    }

    fn log_path(&self) -> PathBuf {
        self.folder.with_extension("log")
    }
}

impl Drop for Patroni {
    fn drop(&mut self) {
        // First those who would start a PostgreSQL again.
        for child in self.nodes.iter_mut().filter_map(|node| node.patroni.as_mut()) {
            let _ = child.kill();
            let _ = wait_for_exit(child, secs(5));
        }
        // What they have started is nobody's child, and names the folder in its command line. A stopped process takes no
        // signal but SIGKILL, and who is killed leaves its shared memory behind.
        for kind in [Signal::QUIT, Signal::KILL] {
            let began = Instant::now();
            loop {
                let running = processes_that_name(self.folder.path(), self.etcd.0.id());
                if running.is_empty() || began.elapsed() > secs(5) {
                    break;
                }
                for pid in running {
                    children_of(pid).into_iter().for_each(|child| match kind {
                        Signal::KILL => signal(child, Signal::KILL),
                        _ => signal(child, Signal::CONT),
                    });
                    signal(pid, Signal::CONT);
                    signal(pid, kind);
                }
                thread::sleep(millis(50));
            }
        }
        for node in &self.nodes {
            show_log(&format!("log of Patroni and PostgreSQL of {}", node.name), &node.log());
        }
        show_log("log of etcd", &read(&self.folder.path().join("etcd.log")));
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn http(limit: Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(Some(limit)).http_status_as_error(false);
    config.proxy(None).build().into()
}

fn status(port: u16, path: &str) -> Result<u16, ureq::Error> {
    let answer = http(PATIENCE).get(format!("http://127.0.0.1:{port}{path}")).call();
    answer.map(|answer| answer.status().as_u16())
}
