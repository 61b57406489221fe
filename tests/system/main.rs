//! What takes more than the distribution's own programs (`make test-system`): the units on a real systemd, in a container
//! of each test's own, sandbox included; every major version of PostgreSQL ([`majors`]); and what is released: that the
//! packages install ([`deb`], [`rpm`], [`xinetd`]), one flavour in the place of the other ([`exchange`]), as the page says
//! ([`readme`]), with HAProxy and a failover on each system ([`new_user`]), and that the programs for all machines run
//! ([`programs`]); `/tmp`, which others can write to ([`shared_directory`]); names with several addresses ([`addresses`]);
//! several instances on one host ([`instances`]) and mistakes in the configuration ([`bad_configuration`]); the newest
//! HAProxy ([`haproxy`]); whether the page names what was tried ([`compatibility`]); who balances in the kernel ([`ipvs`]);
//! and disks of WAL that are frozen or full ([`wal_disk`]).

mod addresses;
mod bad_configuration;
mod compatibility;
mod container;
mod deb;
mod exchange;
mod haproxy;
mod instances;
mod ipvs;
mod majors;
mod new_user;
mod packages;
mod programs;
mod readme;
mod rpm;
mod shared_directory;
#[path = "../support/mod.rs"]
mod support;
mod wal_disk;
mod xinetd;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Instant;

use container::{Container, Root, bind_server};
use support::{Cluster, Frozen, Reply, StopMode, Stream, eventually, http, secs, wire};

const SERVICE: &str = "pgsqlchk.service";

/// What a test adds to it.
const DROP_IN: &str = "/run/systemd/system/pgsqlchk.service.d/test.conf";

/// On a primary.
const TABLE: &[(&str, &str)] = &[
    ("/", "200 Primary"),
    ("/primary", "200 Primary"),
    ("/read-write", "200 Primary"),
    ("/replica", "503 not-in-recovery"),
    ("/read-only", "200 Primary"),
    ("/health", "200 Primary"),
    ("/liveness", "200 Alive"),
    ("/nothing", "404 Not Found"),
    ("/?lag=1mb", "400 Bad Request"),
];

fn address() -> SocketAddr {
    "127.0.0.1:23267".parse().expect("an address")
}

#[track_caller]
fn get(path: &str) -> Reply {
    http::get(address(), path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
}

#[track_caller]
fn assert_table() {
    for (path, expected) in TABLE {
        assert_eq!(get(path).line(), *expected, "{path}");
    }
}

/// A primary that has the role.
pub fn primary() -> Cluster {
    let primary = Cluster::primary();
    primary.psql("CREATE ROLE pgsqlchk LOGIN");
    primary
}

#[test]
fn the_service_is_ready_when_it_listens_and_answers_inside_its_sandbox() {
    let primary = primary();
    let container = Container::boot(&primary);
    assert!(http::get(address(), "/").is_err(), "nobody listens yet");
    container.run(&["systemctl", "start", SERVICE]);
    // Not a moment later: ready means listening.
    assert_eq!(get("/liveness").line(), "200 Alive");
    assert_eq!(container.show(SERVICE, "StatusText"), "primary");
    assert_table();

    let began = Instant::now();
    container.run(&["systemctl", "stop", SERVICE]);
    assert!(began.elapsed() < secs(3), "stopping took {:?}", began.elapsed());
    assert_eq!(container.show(SERVICE, "Result"), "success");
    assert_eq!(container.show(SERVICE, "ExecMainStatus"), "0");
    assert!(http::get(address(), "/").is_err(), "nobody listens any more");
}

/// It failed for that, and said nothing of it.
#[test]
fn a_mode_in_the_file_is_not_for_the_service() {
    let primary = primary();
    let container = Container::boot(&primary);
    container.shell("echo 'mode = check' >>/etc/pgsqlchk/pgsqlchk.conf");
    container.run(&["systemctl", "start", SERVICE]);
    assert_eq!(container.show(SERVICE, "StatusText"), "primary");
    assert_table();
}

/// `systemctl reload` returns when the new configuration is in force, inside the sandbox.
#[test]
fn a_reload_takes_a_changed_file_over_and_a_mistake_changes_nothing() {
    let primary = primary();
    let container = Container::boot(&primary);
    container.run(&["systemctl", "start", SERVICE]);
    assert_table();
    let pid = container.show(SERVICE, "MainPID");
    let file = "/etc/pgsqlchk/pgsqlchk.conf";
    let before = fs::read_to_string(container.path(file)).expect("read the configuration");
    for turn in 0..20 {
        for (added, expected) in [("root-path = /replica", "503 not-in-recovery"), ("", "200 Primary")] {
            container.write(file, &format!("{before}\n{added}\n"));
            container.run(&["systemctl", "reload", SERVICE]);
            assert_eq!(get("/").line(), expected, "turn {turn}");
        }
    }
    container.write(file, &format!("{before}\nroot-path = replica\n"));
    container.run(&["systemctl", "reload", SERVICE]);
    assert_table();
    container.wait_for_journal(SERVICE, "reload: nothing has changed: /etc/pgsqlchk/pgsqlchk.conf:");
    assert_eq!(container.show(SERVICE, "ActiveState"), "active");
    assert_eq!(container.show(SERVICE, "MainPID"), pid);
}

/// Also where the agent gets no processor between the signal and the end of the command that sent it.
#[test]
fn a_reload_waits_for_an_agent_that_has_not_noticed_it_yet() {
    assert_reload_waits(Root::Minimal);
}

/// In each of its versions systemd waits in another way.
#[test]
fn so_it_does_on_ubuntu() {
    assert_reload_waits(Root::Ubuntu);
}

#[test]
fn so_it_does_on_debian_13() {
    assert_reload_waits(Root::Debian13);
}

fn assert_reload_waits(root: Root) {
    let primary = primary();
    let container = Container::boot_root(root, &[&bind_server(&primary)]);
    container.install(&primary);
    // It stands still for as long as a slow machine takes.
    container.write(DROP_IN, "[Service]\nWatchdogSec=0\n");
    container.run(&["systemctl", "daemon-reload"]);
    container.run(&["systemctl", "start", SERVICE]);
    let kill = |signal| container.run(&["systemctl", "kill", signal, "--kill-whom=main", SERVICE]);
    let status = container.path(&format!("/proc/{}/status", container.show(SERVICE, "MainPID")));
    kill("--signal=STOP");
    container.shell("echo 'root-path = /replica' >>/etc/pgsqlchk/pgsqlchk.conf");
    thread::scope(|scope| {
        let reload = scope.spawn(|| container.run(&["systemctl", "reload", SERVICE]));
        eventually(secs(60), "the signal waits for the agent, and who sent it is gone", || {
            let status = fs::read_to_string(&status).expect("the agent's status");
            let is_pending = status.contains("\nShdPnd:\t0000000000000001\n");
            is_pending && container.show(SERVICE, "ControlPID") == "0"
        });
        let state = container.show(SERVICE, "ActiveState");
        kill("--signal=CONT");
        assert_eq!(state, "reloading");
        reload.join().expect("systemctl reload");
    });
    assert_eq!(get("/").line(), "503 not-in-recovery");
}

#[test]
fn the_watchdog_restarts_an_agent_that_stands_still() {
    let primary = primary();
    let container = Container::boot(&primary);
    container.write(DROP_IN, "[Service]\nWatchdogSec=4s\n");
    container.run(&["systemctl", "daemon-reload"]);
    container.run(&["systemctl", "start", SERVICE]);
    let frozen = container.show(SERVICE, "MainPID");
    container.run(&["systemctl", "kill", "--signal=STOP", "--kill-whom=main", SERVICE]);
    eventually(secs(60), "another agent is ready", || {
        // In this order: between two questions the old one may end.
        let pid = container.show(SERVICE, "MainPID");
        pid != frozen && pid != "0" && container.show(SERVICE, "ActiveState") == "active"
    });
    assert_eq!(container.show(SERVICE, "NRestarts"), "1");
    container.wait_for_journal(SERVICE, "Watchdog timeout");
    assert_table();
    // One that answers is left alone.
    let pid = container.show(SERVICE, "MainPID");
    wait_for_signs_of_life(&container);
    assert_eq!(container.show(SERVICE, "MainPID"), pid);
}

/// Three for the watchdog, of which two may come within its period.
#[track_caller]
fn wait_for_signs_of_life(container: &Container) {
    let mut seen = BTreeSet::new();
    eventually(secs(60), "the agent says three times that it lives", || {
        assert_eq!(get("/").line(), "200 Primary");
        seen.insert(container.show(SERVICE, "WatchdogTimestampMonotonic"));
        seen.len() > 3
    });
}

#[test]
fn twenty_restarts_under_load_lose_no_request_of_an_activated_service() {
    let primary = primary();
    let container = Container::boot(&primary);
    container.run(&["systemctl", "start", "pgsqlchk.socket"]);
    assert_eq!(container.show(SERVICE, "ActiveState"), "inactive");
    // The first check starts it.
    assert_table();
    assert_eq!(container.show(SERVICE, "ActiveState"), "active");
    let stream = Stream::start(address(), &["/", "/primary", "/health", "/liveness"]);
    for _ in 0..20 {
        container.run(&["systemctl", "restart", SERVICE]);
        stream.advance(3);
    }
    let checks = stream.finish();
    let lost: Vec<_> = checks.iter().filter(|check| !check.line.starts_with("200 ")).collect();
    assert!(lost.is_empty(), "{} of {} checks: {:?}", lost.len(), checks.len(), lost[0]);
    container.run(&["systemctl", "stop", "pgsqlchk.socket", SERVICE]);
    assert_eq!(container.show(SERVICE, "Result"), "success");
}

/// Enabling the socket of the agent-check alone is enough: it brings that of HTTP along, and one service serves both.
#[test]
fn one_activated_service_answers_http_and_agent_checks() {
    let primary = primary();
    let container = Container::boot(&primary);
    container.run(&["systemctl", "enable", "--now", "pgsqlchk-agent.socket"]);
    assert_eq!(container.show(SERVICE, "ActiveState"), "inactive");
    let agent_check = SocketAddr::from((address().ip(), 23268));
    assert_eq!(wire::talk(agent_check, "/primary\n").text(), "up ready 100%\n");
    assert_eq!(wire::talk(agent_check, "/replica\n").text(), "down #not-in-recovery\n");
    assert_table();
    let pid = container.show(SERVICE, "MainPID");
    container.run(&["systemctl", "restart", SERVICE]);
    assert_eq!(wire::talk(agent_check, "").text(), "up ready 100%\n");
    assert_table();
    assert_ne!(container.show(SERVICE, "MainPID"), pid);
}

#[test]
fn a_process_per_check_answers_inside_its_sandbox() {
    let primary = primary();
    let container = Container::boot(&primary);
    container.run(&["systemctl", "enable", "--now", "pgsqlchk-inetd.socket"]);
    assert_table();
    for _ in 0..50 {
        assert_eq!(get("/").line(), "200 Primary");
    }
    eventually(secs(10), "no instance is left", || {
        container
            .run(&["systemctl", "list-units", "--all", "--plain", "--no-legend", "pgsqlchk*@*"])
            .is_empty()
    });
}

/// In this test a system call that is not on the unit's list kills, where it only fails otherwise: nothing that the
/// agent does is so much as tried in vain.
#[test]
fn the_service_makes_no_system_call_that_is_not_on_its_list() {
    let primary = primary();
    let container = Container::boot(&primary);
    let drop_in = "[Service]\nSystemCallErrorNumber=kill\nWatchdogSec=4s\nRestart=no\n";
    for unit in ["pgsqlchk.service", "pgsqlchk-inetd@.service"] {
        container.write(&format!("/run/systemd/system/{unit}.d/test.conf"), drop_in);
    }
    container.run(&["systemctl", "daemon-reload"]);
    container.run(&["systemctl", "start", "pgsqlchk.socket", "pgsqlchk-agent.socket"]);
    assert_table();
    let pid = container.show(SERVICE, "MainPID");
    let status = fs::read_to_string(container.path(&format!("/proc/{pid}/status"))).expect("its status");
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"] {
        assert!(status.contains(&format!("\n{line}\n")), "{line}: {status}");
    }
    let agent_check = SocketAddr::from((address().ip(), 23268));
    // With losses of the session, of the server and of the way to it.
    for round in 0..4 {
        exercise(&primary, &container, agent_check, round);
    }
    wait_for_signs_of_life(&container);
    assert_eq!(get("/").line(), "200 Primary");
    assert_eq!(container.show(SERVICE, "MainPID"), pid, "{}", container.journal(SERVICE));
    container.run(&["systemctl", "stop", "pgsqlchk.socket", "pgsqlchk-agent.socket", SERVICE]);
    assert_eq!(container.show(SERVICE, "Result"), "success");

    container.write("/etc/hosts", "127.0.0.1 localhost\n");
    // Other ways to PostgreSQL: a name, an address, a password; and listening without a socket unit.
    let ways = [
        ("host=localhost port=1 user=pgsqlchk", "503 connection-refused"),
        ("host=192.0.2.1 port=1 user=pgsqlchk connect_timeout=1", "503 unreachable"),
        ("host=nowhere.invalid user=pgsqlchk", "503 name-not-resolved"),
        ("host=/run/postgresql user=secret password=right", "200 Primary"),
        ("host=/run/postgresql user=secret password=wrong", "503 authentication-failed"),
    ];
    primary.psql("CREATE ROLE secret LOGIN PASSWORD 'right'");
    primary.write_hba("local all secret scram-sha-256\nlocal all all trust\n");
    for (way, expected) in ways {
        let port = if way.contains("port=") { String::new() } else { port_of(&primary) };
        container.write("/etc/pgsqlchk/pgsqlchk.conf", &format!("dsn = {way} {port}\n"));
        container.run(&["systemctl", "start", SERVICE]);
        assert_eq!(get("/").line(), expected, "{way}");
        container.run(&["systemctl", "stop", SERVICE]);
        assert_eq!(container.show(SERVICE, "Result"), "success", "{way}");
    }

    container
        .write("/etc/pgsqlchk/pgsqlchk.conf", &format!("dsn = host=/run/postgresql {}\n", port_of(&primary)));
    container.run(&["systemctl", "enable", "--now", "pgsqlchk-inetd.socket"]);
    assert_table();
    assert_eq!(get("/metrics").line(), "200 OK");
    container.run(&["journalctl", "--sync"]);
    let journal = container.run(&["journalctl", "--no-pager"]);
    assert!(!journal.contains("status=31/SYS"), "{journal}");
}

fn port_of(cluster: &Cluster) -> String {
    format!("port={}", cluster.port())
}

/// Everything that an agent can be asked, and what makes it connect anew.
fn exercise(primary: &Cluster, container: &Container, agent_check: SocketAddr, round: usize) {
    assert_table();
    for path in ["/status", "/metrics", "/replica?lag=1MB&lag_time=1s"] {
        assert!(get(path).status >= 200);
    }
    let html = "GET /status HTTP/1.1\r\nAccept: text/html\r\n\r\n";
    assert!(wire::talk(address(), html).text().ends_with("</html>\n"));
    assert!(wire::talk(address(), "\0").text().starts_with("HTTP/1.1 400 "));
    assert_eq!(wire::talk(agent_check, "/primary\n").text(), "up ready 100%\n");
    container.write("/run/pgsqlchk/drain", "");
    assert_eq!(get("/").line(), "404 draining");
    fs::remove_file(container.path("/run/pgsqlchk/drain")).expect("remove the drain file");
    match round {
        0 => drop(
            primary.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pgsqlchk'"),
        ),
        1 => primary.restart(StopMode::Immediate),
        2 => {
            // A login that hangs: a thread takes over, and more log lines are written.
            let backends = Frozen::all(primary.backend_pids("pgsqlchk"));
            let postmaster = Frozen::new(primary.postmaster_pid());
            assert_eq!(get("/").status, 503);
            drop((postmaster, backends));
        }
        _ => {
            primary.stop(StopMode::Fast);
            assert_eq!(get("/").line(), "503 connection-refused");
            primary.start();
        }
    }
    eventually(secs(10), "it is a primary again", || get("/").line() == "200 Primary");
}

#[test]
fn neither_service_can_write_anywhere() {
    let container = Container::boot(&primary());
    container.run(&["systemctl", "start", SERVICE]);
    // The search does find what can be written: without the sandbox, the temporary folders at least.
    assert!(writable(&container, "/").iter().any(|path| path == "./tmp"));
    assert_writes_nowhere(&container, &container.show(SERVICE, "MainPID"));
    container.run(&["systemctl", "stop", SERVICE]);

    container.run(&["systemctl", "enable", "--now", "pgsqlchk-inetd.socket"]);
    // Half a request: the instance waits 5 s for the rest.
    let mut client = TcpStream::connect(address()).expect("systemd listens");
    client.write_all(b"GET / HT").expect("send");
    eventually(secs(4), "an instance runs", || {
        container.show("pgsqlchk-inetd@*.service", "ActiveState") == "active"
    });
    let pid = container.show("pgsqlchk-inetd@*.service", "MainPID");
    assert_writes_nowhere(&container, &pid);
}

#[track_caller]
fn assert_writes_nowhere(container: &Container, pid: &str) {
    let status = fs::read_to_string(container.path(&format!("/proc/{pid}/status"))).expect("its status");
    let uid = container.run(&["id", "--user", "pgsqlchk"]);
    assert!(status.contains(&format!("\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")), "{status}");
    let found = writable(container, &format!("/proc/{pid}/root"));
    assert!(found.is_empty(), "{found:#?}");
}

/// The files and folders that the service's user can write below this root, with the mounts that are seen from there.
/// Devices and sockets are no files.
fn writable(container: &Container, root: &str) -> Vec<String> {
    let script = format!(
        "cd {root} && exec setpriv --reuid pgsqlchk --regid pgsqlchk --clear-groups find . -path ./proc -prune -o \
         \\( -type d -o -type f \\) -writable -print"
    );
    // It ends with an error wherever it may not look.
    let (_, found) = container.try_run(&["bash", "-c", &script]);
    found.lines().filter(|line| line.starts_with("./")).map(str::to_owned).collect()
}
