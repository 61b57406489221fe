//! repmgr with repmgrd. Replication is synchronous with one of the others (`ANY 1`), because without it a confirmed write
//! may die with its primary, whoever promotes.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use crate::page::{assert_tried, haproxy_version};
use crate::programs::Programs;
use crate::site::{LIMIT, NODES, ROLE, Servers, Site, host, name};
use crate::support::process::Killed;
use crate::support::{free_port, patiently, secs, show_log};
use crate::trees;
use crate::writer::TABLE;

const SETTINGS: &str = "\
listen_addresses = 'HOST'
port = PORT
unix_socket_directories = 'FOLDER'
shared_preload_libraries = 'repmgr'
wal_log_hints = on
wal_keep_size = 512MB
fsync = off
synchronous_standby_names = 'ANY 1 (node1, node2, node3)'
";

const HBA: &str = "\
local all all trust
host all all 127.0.0.0/8 trust
host replication all 127.0.0.0/8 trust
";

/// All nodes are on this host: what repmgr would have another host do, it does here.
const SSH: &str = "\
#!/bin/sh
while :; do
    case $1 in
    -o | -i | -p | -l) shift 2 ;;
    -*) shift ;;
    *) break ;;
    esac
done
shift
exec sh -c \"$*\"
";

/// Three registered nodes, each with its repmgrd. Everything ends in `Drop`.
struct Repmgr {
    daemons: Vec<Option<Killed>>,
    programs: Programs,
    servers: Servers,
}

impl Repmgr {
    /// The first node is the primary, the others stream from it.
    #[track_caller]
    fn start() -> Repmgr {
        let programs = Programs::of(&["postgresql-MAJOR-repmgr"]);
        let servers = Servers { port: free_port() };
        let mut repmgr = Repmgr { daemons: (0..NODES).map(|_| None).collect(), programs, servers };
        let ssh = repmgr.programs.make_folder("local").join("ssh");
        fs::write(&ssh, SSH).expect("write ssh");
        fs::set_permissions(&ssh, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("its mode");
        for node in 0..NODES {
            repmgr.programs.make_folder(&name(node));
            repmgr.programs.write(&format!("{}.conf", name(node)), &repmgr.configuration(node));
        }
        let data = repmgr.data(0);
        let initdb = ["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"];
        repmgr.programs.run("initdb", &[&initdb[..], &["-D", &data]].concat());
        fs::write(format!("{data}/pg_hba.conf"), HBA).expect("write pg_hba.conf");
        repmgr.configure_server(0);
        repmgr.start_server(0);
        servers.psql(0, "CREATE ROLE repmgr SUPERUSER LOGIN");
        servers.psql(0, "CREATE DATABASE repmgr OWNER repmgr");
        servers.psql(0, TABLE);
        servers.psql(0, ROLE);
        repmgr.run(0, &["primary", "register"]);
        let port = servers.port.to_string();
        for node in 1..NODES {
            let source = ["-h", "127.0.0.1", "-p", &port, "-U", "repmgr", "-d", "repmgr"];
            repmgr.run(node, &[&source[..], &["standby", "clone", "--fast-checkpoint"]].concat());
            repmgr.configure_server(node);
            repmgr.start_server(node);
            repmgr.run(node, &["standby", "register"]);
        }
        (0..NODES).for_each(|node| repmgr.start_daemon(node));
        // A standby whose repmgrd is not there yet is not told to follow.
        (0..NODES).for_each(|node| repmgr.wait_for_daemon(node));
        repmgr
    }

    fn folder(&self, node: usize) -> PathBuf {
        self.programs.path().join(name(node))
    }

    fn data(&self, node: usize) -> String {
        self.folder(node).join("data").display().to_string()
    }

    fn configuration(&self, node: usize) -> String {
        let (id, name, host, port) = (node + 1, name(node), host(node), self.servers.port);
        let (bin, folder) = (self.programs.bin.display(), self.programs.path().display());
        let control = format!("{bin}/pg_ctl -D {folder}/{name}/data -l {folder}/{name}.log -m fast -w");
        format!(
            "node_id={id}
node_name='{name}'
conninfo='host={host} port={port} user=repmgr dbname=repmgr connect_timeout=2'
data_directory='{folder}/{name}/data'
pg_bindir='{bin}'
failover=automatic
promote_command='{bin}/repmgr standby promote -f {folder}/{name}.conf --log-to-file'
follow_command='{bin}/repmgr standby follow -f {folder}/{name}.conf --log-to-file --upstream-node-id=%n'
monitor_interval_secs=1
reconnect_attempts=3
reconnect_interval=1
log_file='{folder}/{name}.repmgrd.log'
service_start_command='{control} start'
service_stop_command='{control} stop'
service_restart_command='{control} restart'
service_promote_command='{bin}/pg_ctl -D {folder}/{name}/data -w promote'
"
        )
    }

    /// repmgr clones postgresql.conf, too: what is of one node alone comes last.
    fn configure_server(&self, node: usize) {
        let path = format!("{}/postgresql.conf", self.data(node));
        let own = SETTINGS
            .replace("HOST", &host(node))
            .replace("PORT", &self.servers.port.to_string())
            .replace("FOLDER", &self.folder(node).display().to_string());
        let text = fs::read_to_string(&path).expect("read postgresql.conf");
        fs::write(&path, text + &own).expect("write postgresql.conf");
    }

    #[track_caller]
    fn start_server(&self, node: usize) {
        self.control(node, "start");
    }

    #[track_caller]
    fn control(&self, node: usize, what: &str) {
        let log = self.programs.path().join(format!("{}.log", name(node))).display().to_string();
        self.programs.run("pg_ctl", &["-D", &self.data(node), "-l", &log, "-m", "fast", "-s", "-w", what]);
    }

    #[track_caller]
    fn run(&self, node: usize, args: &[&str]) -> String {
        let config = self.programs.path().join(format!("{}.conf", name(node)));
        self.programs.run("repmgr", &[&["-f", config.to_str().expect("UTF-8")], args].concat())
    }

    fn start_daemon(&mut self, node: usize) {
        let log = self.programs.write(&format!("{}.repmgrd.log", name(node)), "");
        let log = File::options().append(true).open(log).expect("open repmgrd's log");
        let mut command = self.programs.command("repmgrd");
        command.arg("-f").arg(self.programs.path().join(format!("{}.conf", name(node))));
        command.args(["--daemonize=false", "--no-pid-file"]).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        self.daemons[node] = Some(Killed(child));
    }

    #[track_caller]
    fn wait_for_daemon(&self, node: usize) {
        let dsn = format!("host={} port={} user=repmgr dbname=repmgr", host(node), self.servers.port);
        patiently(LIMIT, &format!("repmgrd of {} runs", name(node)), || {
            let sql = "SELECT repmgr.repmgrd_is_running()";
            self.programs.run("psql", &["-XAtqd", &dsn, "-c", sql]).trim() == "t"
        });
    }

    /// As when the host loses its power: repmgrd, PostgreSQL and all its processes.
    #[track_caller]
    fn kill(&mut self, node: usize) {
        self.daemons[node] = None;
        let file = fs::read_to_string(format!("{}/postmaster.pid", self.data(node))).expect("it runs");
        trees::kill(file.lines().next().and_then(|pid| pid.parse().ok()).expect("a process id"));
    }

    /// repmgr's own view: this node is the primary, and so many standbys run below it.
    #[track_caller]
    fn expect(&self, primary: usize, standbys: usize) {
        let mut shown = String::new();
        patiently(LIMIT, "repmgr sees its cluster in order", || {
            let config = self.programs.path().join(format!("{}.conf", name(primary)));
            let mut command = self.programs.command("repmgr");
            let output = command.arg("-f").arg(config).args(["cluster", "show", "--csv"]).output();
            shown = String::from_utf8_lossy(&output.expect("run repmgr").stdout).into_owned();
            // Node, availability (0 is up), and whether it is in recovery (0 is a primary).
            let count = |end: &str| shown.lines().filter(|line| line.ends_with(end)).count();
            shown.contains(&format!("{},0,0", primary + 1)) && count(",0,1") == standbys
        });
    }
}

impl Drop for Repmgr {
    fn drop(&mut self) {
        self.daemons.clear();
        trees::clear(self.programs.path());
        for node in 0..NODES {
            for log in ["log", "repmgrd.log"] {
                let path = self.programs.path().join(format!("{}.{log}", name(node)));
                let text = fs::read(path).unwrap_or_default();
                show_log(&format!("{}.{log}", name(node)), &String::from_utf8_lossy(&text));
            }
        }
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "what was measured")]
fn beside_repmgr_no_confirmed_write_is_lost_and_no_old_primary_gets_one() {
    let mut repmgr = Repmgr::start();
    let servers = repmgr.servers;
    let folders: Vec<PathBuf> = (0..NODES).map(|node| repmgr.folder(node)).collect();
    let mut site = Site::start(servers, &[&folders[0], &folders[1], &folders[2]]);
    site.expect_primary(0);
    (1..NODES).for_each(|node| site.expect_standby(LIMIT, node));
    site.writer.wait_for(LIMIT, &host(0), 50);

    // The whole primary is gone at once, and repmgrd promotes.
    let began = Instant::now();
    site.kill_agent(0);
    repmgr.kill(0);
    let killed = Instant::now();
    let mut promoted = None;
    patiently(LIMIT, "repmgrd promotes", || {
        promoted = (1..NODES).find(|node| servers.is_primary(*node));
        promoted.is_some()
    });
    let new = promoted.expect("a node");
    let other = NODES - new;
    let first = site.writer.wait_for(LIMIT, &host(new), 1);
    let failover = first.ended - began;
    site.expect_primary(new);
    site.expect_standby(LIMIT, other);
    site.expect_nothing_lost(new);
    repmgr.expect(new, 1);

    // The host is back, and its PostgreSQL starts as it was.
    site.start_agent(0);
    repmgr.start_server(0);
    site.expect_superseded(0, new, killed);

    // pg_rewind before PostgreSQL 16 takes the timeline from the new primary's last checkpoint: let that be done.
    servers.psql(new, "CHECKPOINT");
    repmgr.control(0, "stop");
    let target = format!("host={} port={} user=repmgr dbname=repmgr", host(new), servers.port);
    // And it brings the other node's postgresql.conf, which Debian has elsewhere.
    let archive = format!("--config-archive-dir={}", repmgr.programs.path().display());
    let keep = ["--config-files=postgresql.conf", &archive];
    repmgr.run(0, &[&["node", "rejoin", "-d", &target, "--force-rewind"], &keep[..]].concat());
    repmgr.start_daemon(0);
    repmgr.wait_for_daemon(0);
    site.expect_standby(LIMIT, 0);
    site.expect_primary(new);
    repmgr.expect(new, 2);

    // Back to where it was, in order.
    let began = Instant::now();
    repmgr.run(0, &["standby", "switchover", "--siblings-follow"]);
    site.writer.wait_for(LIMIT, &host(0), 20);
    let gap = site.writer.gap(&host(new), &host(0), began);
    site.expect_primary(0);
    (1..NODES).for_each(|node| site.expect_standby(LIMIT, node));
    site.expect_nothing_lost(0);
    repmgr.expect(0, 2);

    let version = repmgr.programs.run("repmgr", &["--version"]);
    let version = version.trim().trim_start_matches("repmgr ");
    let postgresql = servers.psql(0, "SHOW server_version");
    let postgresql = postgresql.split(' ').next().expect("a number");
    let haproxy = haproxy_version();
    eprintln!(
        "repmgr {version}, PostgreSQL {postgresql}, HAProxy {haproxy}: first write at the new primary {:.1} s after the \
         kill; no write for {:.1} s around a switchover",
        failover.as_secs_f64(),
        gap.as_secs_f64()
    );
    assert_tried(&[("repmgr", version), ("PostgreSQL", postgresql), ("HAProxy", &haproxy)]);
    assert!(failover < secs(60), "{failover:?}");
}
