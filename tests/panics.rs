//! A panic costs one request, or it ends the agent; it never leaves half of one. Which of the two is decided for every
//! thread in `src/panics.rs`; here each of them panics once. The agent does so on demand in builds with debug assertions
//! only, such as those of the tests.

mod support;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use support::folder::Folder;
use support::peers::{assert_in_time, timed_line};
use support::pgbouncer::{Pgbouncer, Pool, PoolMode};
use support::process::wait_for_exit;
use support::wire::{self, Wire};
use support::{Agent, Cluster, Frozen, agent, eventually, process::Signal, secs};

/// What the agent reads to know where to panic; it removes it in the same moment.
struct Tripwire {
    folder: Folder,
}

impl Tripwire {
    fn new() -> Tripwire {
        Tripwire { folder: Folder::new("tripwire") }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("place")
    }

    /// Whole at once: a place that is half written is none.
    fn set(&self, place: &str) {
        let aside = self.folder.write("aside", place);
        fs::rename(aside, self.path()).expect("set the tripwire");
    }

    #[track_caller]
    fn wait_for_panic(&self) {
        eventually(secs(10), "it panics", || !self.path().exists());
    }
}

fn start(primary: &Cluster, tripwire: &Tripwire, args: &[&str]) -> Agent {
    let dsn = primary.dsn();
    Agent::start_with(|command| {
        command.args(["--dsn", &dsn]).args(args).env("PGSQLCHK_TEST_PANIC", tripwire.path());
    })
}

const DOWN: &str = "503 agent-out-of-resources";

#[test]
fn a_panic_over_one_request_costs_that_request_and_nothing_else() {
    let primary = Cluster::primary();
    let tripwire = Tripwire::new();
    let mut agent = start(&primary, &tripwire, &["--agent-listen", "127.0.0.1:0", "--workers", "1"]);
    assert_eq!(agent.get("/").line(), "200 Primary");
    let threads = agent.threads();
    for place in ["taking", "answering", "probe"] {
        // More often than there are threads that could be lost.
        for _ in 0..10 {
            tripwire.set(place);
            assert_eq!(agent.get("/").line(), DOWN, "{place}");
            assert_eq!(agent.get("/").line(), "200 Primary", "after {place}");
        }
        tripwire.set(place);
        let line = wire::talk(agent.agent_check_addr(), "/primary\n").text();
        assert_eq!(line, "down #agent-out-of-resources\n", "{place}");
        assert_eq!(agent.get("/").line(), "200 Primary", "after {place}");
        eventually(secs(5), "one session is left", || primary.backend_pids("pgsqlchk").len() == 1);
    }
    let metrics = agent.get("/metrics").body;
    assert!(metrics.contains("pgsqlchk_requests_total{path=\"/\",code=\"503\"} 20\n"), "{metrics}");
    assert_eq!(agent.threads(), threads);
    assert!(agent.is_alive());
    assert!(agent.log().contains("a test wants it (answering)"), "{}", agent.log());
}

#[test]
fn those_who_share_a_look_that_panics_all_get_503_and_in_time() {
    let primary = Cluster::primary();
    let tripwire = Tripwire::new();
    let agent = start(&primary, &tripwire, &["--knock-interval", "10ms"]);
    let postmaster = Frozen::new(primary.postmaster_pid());
    let mut first = support::siege::waiting_check(agent.addr());
    // These arrive while a look hangs, and wait for the next one.
    let mut crowd: Vec<Wire> = (0..8).map(|_| Wire::connect(agent.addr())).collect();
    for wire in &mut crowd {
        wire.send("GET / HTTP/1.1\r\n\r\n");
        wire.wait_consumed();
    }
    tripwire.set("probe");
    postmaster.thaw();
    assert!(first.receive(secs(5)).text().starts_with("HTTP/1.1 200 Primary\r\n"));
    for wire in &mut crowd {
        assert!(wire.receive(secs(5)).text().starts_with(&format!("HTTP/1.1 {DOWN}\r\n")));
    }
    assert_eq!(agent.get("/").line(), "200 Primary");
}

#[test]
fn a_line_of_the_log_that_cannot_be_written_is_lost_and_nothing_else() {
    let primary = Cluster::primary();
    let tripwire = Tripwire::new();
    let agent = start(&primary, &tripwire, &[]);
    assert_eq!(agent.get("/").line(), "200 Primary");
    agent.wait_for_log("unknown -> primary");
    tripwire.set("writing");
    primary.stop(support::StopMode::Fast);
    assert_eq!(agent.get("/").status, 503);
    tripwire.wait_for_panic();
    primary.start();
    eventually(secs(10), "it is a primary again", || agent.get("/").line() == "200 Primary");
    agent.wait_for_log("unavailable");
    assert!(!agent.log().contains("primary -> unavailable"), "{}", agent.log());
}

/// Exit code 1: what systemd's `Restart=on-failure` starts again.
#[track_caller]
fn assert_ends(mut agent: Agent, tripwire: &Tripwire, place: &str, thread: &str) {
    tripwire.wait_for_panic();
    assert_eq!(agent.wait().code(), Some(1), "{place}");
    if thread != "log" {
        let log = agent.log();
        assert!(
            log.contains(&format!("thread {thread}")) && log.contains("the agent ends"),
            "{place}: {log}"
        );
    }
}

/// One request is not enough where what was heard a moment ago is still good for it: it waits for
/// nobody then, and wakes nobody.
#[track_caller]
fn ask_until_it_panics(agent: &Agent, tripwire: &Tripwire) {
    let mut wires: Vec<Wire> = Vec::new();
    eventually(secs(10), "it panics", || {
        if let Ok(mut wire) = Wire::try_connect(agent.addr()) {
            let _ = wire.try_send("GET /primary HTTP/1.1\r\n\r\n");
            wires.push(wire);
        }
        !tripwire.path().exists()
    });
}

#[test]
fn a_panic_anywhere_else_ends_the_agent_with_exit_code_1() {
    let primary = Cluster::primary();
    let tripwire = Tripwire::new();
    for (place, thread) in [("gate", "main"), ("run", "worker"), ("watch", "watch"), ("log", "log")] {
        let agent = start(&primary, &tripwire, &[]);
        assert_eq!(agent.get("/").line(), "200 Primary");
        // What that answer has woken sleeps again.
        agent.wait_for_log("unknown -> primary");
        tripwire.set(place);
        let mut wire = Wire::connect(agent.addr());
        wire.send("GET / HTTP/1.1\r\n\r\n");
        if place == "log" {
            // Only something to say wakes it.
            primary.stop(support::StopMode::Fast);
            if let Ok(mut wire) = Wire::try_connect(agent.addr()) {
                let _ = wire.try_send("GET / HTTP/1.1\r\n\r\n");
            }
        }
        assert_ends(agent, &tripwire, place, thread);
    }
}

#[test]
fn a_panic_over_a_peer_costs_its_answer_and_one_of_who_keeps_the_limits_ends_the_agent() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let tripwire = Tripwire::new();
    let witness = Agent::start(&["--dsn", &standby.dsn()]);
    let peer = witness.addr().to_string();
    let options = ["--peer", &peer, "--min-peers", "1", "--peer-interval", "10ms"];
    let agent = start(&primary, &tripwire, &options);
    assert_in_time("200 Primary", || timed_line(&agent, "/primary"));
    for _ in 0..5 {
        eventually(secs(5), "what was heard is too old", || {
            tripwire.set("asking a peer");
            agent.get("/primary").line() == "503 isolated"
        });
        eventually(secs(5), "it is heard again", || agent.get("/primary").line() == "200 Primary");
    }
    // Who waits for a frozen peer wakes the thread that keeps the limits.
    let _frozen = Frozen::new(witness.pid());
    tripwire.set("peers");
    ask_until_it_panics(&agent, &tripwire);
    assert_ends(agent, &tripwire, "peers", "peers");
}

#[test]
fn a_panic_over_a_pooler_or_a_commit_costs_that_answer_and_one_of_who_keeps_the_limits_ends_the_agent() {
    let primary = Cluster::primary();
    let tripwire = Tripwire::new();
    primary.psql("CREATE ROLE app LOGIN");
    let pool = Pool { mode: PoolMode::Session, forced_user: None, size: 2, more: "" };
    let bouncer = Pgbouncer::before(&primary, pool);
    let pooler = bouncer.address().to_string();
    let options = ["--pooler", &pooler, "--write-probe", "1s", "--knock-interval", "10ms"];
    let agent = start(&primary, &tripwire, &options);
    assert_eq!(agent.get("/primary").line(), "200 Primary");
    for (place, line) in
        [("knocking at a pooler", "503 pooler-not-answering"), ("committing", "503 write-failed")]
    {
        for _ in 0..3 {
            tripwire.set(place);
            eventually(secs(5), line, || agent.get("/primary").line() == line);
            eventually(secs(5), "the next one is", || agent.get("/primary").line() == "200 Primary");
        }
    }
    // Who waits wakes the thread that keeps the limits.
    let _frozen = Frozen::new(bouncer.pid());
    tripwire.set("poolers");
    ask_until_it_panics(&agent, &tripwire);
    assert_ends(agent, &tripwire, "poolers", "poolers");
}

#[test]
fn a_panic_over_a_new_configuration_changes_nothing() {
    let primary = Cluster::primary();
    let tripwire = Tripwire::new();
    let agent = start(&primary, &tripwire, &[]);
    tripwire.set("reload");
    agent.signal(Signal::HUP);
    agent.wait_for_log("reload: nothing has changed: reading the configuration panicked");
    assert_eq!(agent.get("/").line(), "200 Primary");
    agent.signal(Signal::HUP);
    agent.wait_for_log("reloaded: nothing is new");
}

/// A thread that takes over where a look hangs.
#[test]
fn a_panic_of_the_thread_that_takes_over_ends_the_agent_with_exit_code_1() {
    let primary = Cluster::primary();
    let tripwire = Tripwire::new();
    let agent = start(&primary, &tripwire, &["--timeout", "500ms"]);
    eventually(secs(10), "it has one session", || {
        agent.get("/").line() == "200 Primary" && primary.backend_pids("pgsqlchk").len() == 1
    });
    let backend = Frozen::new(primary.backend_pids("pgsqlchk")[0]);
    tripwire.set("runner");
    let mut wires: Vec<Wire> = Vec::new();
    eventually(secs(10), "a look is abandoned with another one behind it", || {
        if let Ok(mut wire) = Wire::try_connect(agent.addr()) {
            let _ = wire.try_send("GET / HTTP/1.1\r\n\r\n");
            wires.push(wire);
        }
        !tripwire.path().exists()
    });
    backend.thaw();
    assert_ends(agent, &tripwire, "runner", "runner");
}

/// Both threads exist only beside a service manager.
#[test]
fn a_panic_in_what_keeps_the_service_manager_informed_ends_the_agent_with_exit_code_1() {
    let primary = Cluster::primary();
    let tripwire = Tripwire::new();
    let manager = tripwire.folder.path().join("notify");
    // Nobody reads it; it takes what few messages there are.
    let _manager = UnixDatagram::bind(&manager).expect("bind the manager's socket");
    for place in ["first look", "watchdog"] {
        tripwire.set(place);
        let dsn = primary.dsn();
        let mut command = agent::command();
        command.args(["--listen", "127.0.0.1:0", "--config", "/dev/null", "--dsn", &dsn]);
        command.env("NOTIFY_SOCKET", &manager).env("WATCHDOG_USEC", "200000");
        command.env("PGSQLCHK_TEST_PANIC", tripwire.path()).stderr(Stdio::piped());
        let (code, log) = output_of(&mut command);
        assert_eq!(code, Some(1), "{place}: {log}");
        assert!(log.contains(&format!("thread {place}: panicked")), "{place}: {log}");
    }
}

#[test]
fn a_panic_in_a_thread_of_the_http_servers_own_ends_the_agent_with_exit_code_1() {
    let primary = Cluster::primary();
    let tripwire = Tripwire::new();
    tripwire.set("tiny_http");
    let dsn = primary.dsn();
    let mut command = agent::command();
    command.args(["--listen", "127.0.0.1:0", "--config", "/dev/null", "--dsn", &dsn]);
    command.env("PGSQLCHK_TEST_PANIC", tripwire.path()).stderr(Stdio::piped());
    let output = output_of(&mut command);
    assert_eq!(output.0, Some(1), "{}", output.1);
    assert!(output.1.contains("thread ?: panicked") && output.1.contains("the agent ends"), "{}", output.1);
}

#[test]
fn a_look_of_mode_check_that_panics_is_exit_code_2() {
    let primary = Cluster::primary();
    let tripwire = Tripwire::new();
    tripwire.set("probe");
    let dsn = primary.dsn();
    let mut command = agent::command();
    command.args(["--mode", "check", "--config", "/dev/null", "--dsn", &dsn]);
    command.env("PGSQLCHK_TEST_PANIC", tripwire.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (code, text) = output_of(&mut command);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("unavailable (agent-out-of-resources)"), "{text}");
}

fn output_of(command: &mut Command) -> (Option<i32>, String) {
    let mut child = command.stdin(Stdio::null()).spawn().expect("run the agent");
    // It says less than a pipe holds, so nobody has to read meanwhile.
    let ended = wait_for_exit(&mut child, secs(10));
    let _ = child.kill();
    let output = child.wait_with_output().expect("what it said");
    let text = [output.stdout, output.stderr].concat();
    (ended.and_then(|status| status.code()), String::from_utf8_lossy(&text).into_owned())
}
