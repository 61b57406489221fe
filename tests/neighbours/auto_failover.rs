//! pg_auto_failover with its times as they are: a monitor, and three nodes with a keeper each (`pg_autoctl run`). It makes
//! replication synchronous by itself, so that a confirmed write is at two nodes.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::page::{assert_tried, haproxy_version};
use crate::programs::Programs;
use crate::site::{LIMIT, NODES, ROLE, Servers, Site, host, name};
use crate::support::process::{Killed, wait_for_exit};
use crate::support::{free_port, patiently, secs, show_log};
use crate::trees;
use crate::watch::Look;
use crate::writer::TABLE;

/// It gives an old primary half a minute to notice that it is one, and notices its death after twenty seconds.
const FAILOVER: std::time::Duration = secs(150);

/// The monitor and the keepers, each with the PostgreSQL that it runs. Everything ends in `Drop`.
struct AutoFailover {
    keepers: Vec<Option<Killed>>,
    _monitor: Option<Killed>,
    programs: Programs,
    servers: Servers,
}

impl AutoFailover {
    /// The first node is the primary, the others stream from it.
    #[track_caller]
    fn start() -> AutoFailover {
        let programs = Programs::of(&["postgresql-MAJOR-auto-failover", "pg-auto-failover-cli"]);
        let servers = Servers { port: free_port() };
        let mut cluster =
            AutoFailover { keepers: (0..NODES).map(|_| None).collect(), _monitor: None, programs, servers };
        let port = free_port().to_string();
        cluster.programs.make_folder("monitor");
        let options = ["--hostname", "127.0.0.1", "--pgport", &port, "--auth", "trust", "--no-ssl", "--run"];
        cluster._monitor = Some(cluster.spawn("monitor", &[&["create", "monitor"], &options[..]].concat()));
        let uri = format!("postgres://autoctl_node@127.0.0.1:{port}/pg_auto_failover");
        patiently(LIMIT, "the monitor is there", || {
            let psql = cluster.programs.command("psql").args(["-XAtqd", &uri, "-c", "SELECT 1"]).output();
            psql.expect("run psql").status.success()
        });
        for node in 0..NODES {
            cluster.programs.make_folder(&name(node));
            let (host, name, port) = (host(node), name(node), servers.port.to_string());
            let (place, who) =
                (["--hostname", &host, "--listen", &host, "--pgport", &port], ["--name", &name]);
            let access = ["--auth", "trust", "--no-ssl", "--username", "postgres", "--dbname", "postgres"];
            let options = [&["create", "postgres"], &place[..], &who, &access, &["--monitor", &uri, "--run"]];
            let keeper = cluster.spawn(&name, &options.concat());
            cluster.keepers[node] = Some(keeper);
            let state = if node == 0 { "single" } else { "secondary" };
            cluster.wait_for(node, state);
        }
        cluster.wait_for(0, "primary");
        servers.psql(0, TABLE);
        servers.psql(0, ROLE);
        cluster
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.programs.path().join(name)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = self.programs.command("pg_autoctl");
        // Where PostgreSQL has its socket; no other node may have the same, as they have the same port. There are
        // sessions of pg_autoctl that know the second variable alone.
        command.env("PG_REGRESS_SOCK_DIR", self.folder(name)).env("PGHOST", self.folder(name));
        command
    }

    fn spawn(&self, name: &str, args: &[&str]) -> Killed {
        let log = self.programs.path().join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(log).expect("open a log");
        let mut command = self.command(name);
        // The folder stands in the command line, too: what is left of a test that failed is found by it.
        command.args(args).arg("--pgdata").arg(self.folder(name).join("data"));
        command.stdout(Stdio::null()).stderr(log);
        Killed(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// `pg_autoctl` for one node, to its end.
    #[track_caller]
    fn run(&self, name: &str, args: &[&str]) -> String {
        let mut command = self.command(name);
        crate::support::postgresql::run(
            command.args(args).arg("--pgdata").arg(self.folder(name).join("data")),
        )
    }

    fn start_keeper(&mut self, node: usize) {
        self.keepers[node] = Some(self.spawn(&name(node), &["run"]));
    }

    /// What the monitor says that a node reports, and what it wants it to be.
    fn state(&self, node: usize) -> (String, String) {
        let mut command = self.command("monitor");
        command.args(["show", "state", "--pgdata"]).arg(self.folder("monitor").join("data"));
        let output = command.output().expect("run pg_autoctl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.trim_start().starts_with(&name(node))).unwrap_or_default();
        let mut cells = line.rsplit('|').map(|cell| cell.trim().to_owned());
        let (assigned, reported) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        (reported, assigned)
    }

    #[track_caller]
    fn wait_for(&self, node: usize, state: &str) {
        patiently(FAILOVER, &format!("the monitor sees {} as {state}", name(node)), || {
            self.state(node) == (state.to_owned(), state.to_owned())
        });
    }

    /// As when the host loses its power: the keeper, PostgreSQL and all their processes.
    #[track_caller]
    fn kill(&mut self, node: usize) {
        let mut keeper = self.keepers[node].take().expect("it runs");
        trees::kill(keeper.0.id());
        wait_for_exit(&mut keeper.0, secs(5)).expect("it was killed");
    }

    /// PostgreSQL as somebody who knows no keeper starts it.
    #[track_caller]
    fn start_by_hand(&self, node: usize) {
        let (folder, port) = (self.folder(&name(node)), self.servers.port);
        let data = folder.join("data").display().to_string();
        let options = format!("-p {port} -h {} -k {}", host(node), folder.display());
        let log = self.programs.path().join(format!("{}.by-hand.log", name(node))).display().to_string();
        self.programs.run("pg_ctl", &["-D", &data, "-l", &log, "-o", &options, "-s", "-w", "start"]);
    }

    /// What the maintenance is for.
    #[track_caller]
    fn stop_by_hand(&self, node: usize) {
        let data = self.folder(&name(node)).join("data").display().to_string();
        self.programs.run("pg_ctl", &["-D", &data, "-m", "fast", "-s", "-w", "stop"]);
    }

    /// Waits until another node than this one is a primary for psql, and says which.
    #[track_caller]
    fn promoted_instead_of(&self, old: usize) -> usize {
        let mut promoted = None;
        patiently(FAILOVER, "another node is promoted", || {
            promoted = (0..NODES).find(|node| *node != old && self.servers.is_primary(*node));
            promoted.is_some()
        });
        promoted.expect("a node")
    }
}

impl Drop for AutoFailover {
    fn drop(&mut self) {
        trees::clear(self.programs.path());
        for name in ["monitor".to_owned()].into_iter().chain((0..NODES).map(name)) {
            let text = fs::read(self.programs.path().join(format!("{name}.log"))).unwrap_or_default();
            show_log(&format!("log of pg_autoctl of {name}"), &String::from_utf8_lossy(&text));
        }
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "what was measured")]
fn beside_pg_auto_failover_no_confirmed_write_is_lost_and_no_old_primary_gets_one() {
    let mut cluster = AutoFailover::start();
    let servers = cluster.servers;
    let folders: Vec<PathBuf> = (0..NODES).map(|node| cluster.folder(&name(node))).collect();
    let mut site = Site::start(servers, &[&folders[0], &folders[1], &folders[2]]);
    site.expect_primary(0);
    (1..NODES).for_each(|node| site.expect_standby(LIMIT, node));
    site.writer.wait_for(LIMIT, &host(0), 50);

    // Maintenance of a standby: pg_autoctl lets go of it, no more. It is a standby until somebody stops it.
    cluster.run("node2", &["enable", "maintenance"]);
    cluster.wait_for(1, "maintenance");
    site.expect_standby(LIMIT, 1);
    cluster.stop_by_hand(1);
    for path in ["/", "/primary", "/read-write", "/replica"] {
        site.expect_lines(1, &[(path, "503 connection-refused")]);
    }
    site.expect_refused(1, "503", "connection-refused");
    site.writer.wait_for(LIMIT, &host(0), 20);
    site.expect_primary(0);
    cluster.run("node2", &["disable", "maintenance"]);
    cluster.wait_for(1, "secondary");
    site.expect_standby(LIMIT, 1);
    cluster.wait_for(0, "primary");

    // The whole primary is gone at once. Who is promoted in its place is a primary at once, and read-only for half a
    // minute.
    let began = Instant::now();
    site.kill_agent(0);
    cluster.kill(0);
    let killed = Instant::now();
    let new = cluster.promoted_instead_of(0);
    assert_eq!(servers.psql(new, "SHOW default_transaction_read_only"), "on", "the judge");
    assert_eq!(
        (site.line(new, "/primary"), site.line(new, "/")),
        ("200 Primary".into(), "200 Primary".into())
    );
    assert_eq!(site.line(new, "/read-write"), "503 read-only");
    site.expect_refused(new, "503", "read-only");
    patiently(FAILOVER, "a write at the new primary", || {
        !site.writer.confirmed_since(killed, &host(new)).is_empty()
    });
    let first = site.writer.confirmed_since(killed, &host(new)).swap_remove(0);
    let failover = first.ended - began;
    let read_only = site.watch.span(new, "/read-write", "503 read-only", killed);
    let writes = site.writer.writes();
    let sent = writes.iter().filter(|write| matches!(&write.by, Err(error) if error.contains("read-only")));
    assert_eq!(sent.count(), 0, "HAProxy sends nothing to a primary that is read-only");
    site.expect_primary(new);
    let other = NODES - new;
    site.expect_standby(LIMIT, other);
    site.expect_nothing_lost(new);

    // The host is back. Its keeper would stop and rewind it; somebody starts PostgreSQL without.
    site.start_agent(0);
    cluster.start_by_hand(0);
    site.expect_superseded(0, new, killed);

    // The keeper takes over.
    cluster.start_keeper(0);
    cluster.wait_for(0, "secondary");
    site.expect_standby(LIMIT, 0);
    site.expect_primary(new);
    cluster.wait_for(new, "primary");
    cluster.wait_for(other, "secondary");

    // A switchover: the old primary is demoted, in order.
    let began = Instant::now();
    cluster.run("monitor", &["perform", "switchover"]);
    let next = cluster.promoted_instead_of(new);
    site.writer.wait_for(FAILOVER, &host(next), 20);
    let switched = site.writer.gap(&host(new), &host(next), began);
    let first = site.writer.confirmed_since(began, &host(next)).swap_remove(0);
    assert_only_one_at_a_time(&site, new, next, began);
    cluster.wait_for(new, "secondary");
    site.watch.assert_never_primary(new, first.ended);
    site.expect_primary(next);
    site.expect_standby(LIMIT, new);
    site.expect_nothing_lost(next);
    (0..NODES).for_each(|node| cluster.wait_for(node, if node == next { "primary" } else { "secondary" }));

    // The primary goes into maintenance, and somebody else takes over.
    let began = Instant::now();
    cluster.run(&name(next), &["enable", "maintenance", "--allow-failover"]);
    let last = cluster.promoted_instead_of(next);
    site.writer.wait_for(FAILOVER, &host(last), 20);
    let maintained = site.writer.gap(&host(next), &host(last), began);
    for path in ["/", "/primary", "/read-write", "/replica"] {
        assert_eq!(site.line(next, path), "503 connection-refused", "{path}");
    }
    site.expect_primary(last);
    cluster.wait_for(last, "primary");
    cluster.run(&name(next), &["disable", "maintenance"]);
    cluster.wait_for(next, "secondary");
    site.expect_standby(LIMIT, next);
    site.expect_primary(last);
    assert_only_one_at_a_time(&site, next, last, began);
    site.expect_nothing_lost(last);

    let version = cluster.run("node1", &["version"]);
    let version =
        version.lines().next().and_then(|line| line.strip_prefix("pg_autoctl version ")).expect("one");
    let postgresql = servers.psql(0, "SHOW server_version");
    let postgresql = postgresql.split(' ').next().expect("a number");
    let haproxy = haproxy_version();
    eprintln!(
        "pg_auto_failover {version}, PostgreSQL {postgresql}, HAProxy {haproxy}: first write at the new primary {:.1} s \
         after the kill, {:.1} s of them read-only; no write for {:.1} s around a switchover, {:.1} s around maintenance \
         of the primary",
        failover.as_secs_f64(),
        read_only.as_secs_f64(),
        switched.as_secs_f64(),
        maintained.as_secs_f64()
    );
    assert_tried(&[("pg_auto_failover", version), ("PostgreSQL", postgresql), ("HAProxy", &haproxy)]);
    assert!(failover < secs(120), "{failover:?}");
}

/// After the new one may be written to, the old one was never again a primary for who asked then.
#[track_caller]
fn assert_only_one_at_a_time(site: &Site, old: usize, new: usize, since: Instant) {
    let looks = site.watch.since(since);
    let says_200 = |look: &&Look, node: usize| {
        look.node == node && look.path == "/read-write" && look.line.starts_with("200")
    };
    let first = looks.iter().find(|look| says_200(look, new)).expect("the new one says 200");
    let wrong = looks.iter().find(|look| says_200(look, old) && look.began > first.ended);
    assert!(wrong.is_none(), "{first:?}, and then {wrong:?}");
}
