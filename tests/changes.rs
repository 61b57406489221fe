//! PostgreSQL on its way from one state to another while checks go on: promotion, restart, stop, start-up.
//! No answer may contradict what was seen before its check began.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use support::folder::Folder;
use support::{Agent, Check, Cluster, Frozen, StopMode, Stream, eventually, millis, secs};

/// Whether a check's answer says that PostgreSQL is in recovery; panics when it says neither yes nor no.
#[track_caller]
fn says_in_recovery(check: &Check) -> bool {
    match (check.path.as_str(), check.line.as_str()) {
        (_, "200 Primary" | "503 not-in-recovery") => false,
        (_, "206 Standby" | "200 Standby" | "503 in-recovery") => true,
        other => panic!("an answer without a role: {other:?}"),
    }
}

#[test]
fn during_a_promotion_no_check_contradicts_what_was_seen_before_or_after_it() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let agent = Agent::start(&["--dsn", &standby.dsn()]);
    let stream = Stream::start(agent.addr(), &["/", "/primary", "/replica", "/read-write"]);
    let stop = AtomicBool::new(false);
    let (seen, promoted) = thread::scope(|scope| {
        // What a session of one's own sees: when the query began and ended, and its answer.
        let witness = scope.spawn(|| {
            let (mut session, mut seen) = (standby.connect(), Vec::new());
            while !stop.load(Ordering::SeqCst) {
                let began = Instant::now();
                let row = session.query_one("SELECT pg_is_in_recovery()", &[]).expect("the witness's query");
                seen.push((began, Instant::now(), row.get::<_, bool>(0)));
            }
            seen
        });
        stream.advance(20);
        standby.promote();
        let promoted = Instant::now();
        stream.advance(20);
        stop.store(true, Ordering::SeqCst);
        (witness.join().expect("the witness"), promoted)
    });
    let checks = stream.finish();
    let over = seen.iter().filter(|(_, _, recovery)| !recovery).map(|(_, ended, _)| *ended).min();
    let still = seen.iter().filter(|(_, _, recovery)| *recovery).map(|(began, _, _)| *began).max();
    let over = over.expect("a witness after the promotion").min(promoted);
    let still = still.expect("a witness before the promotion");
    let first_primary = checks.iter().filter(|check| !says_in_recovery(check)).map(|check| check.ended).min();
    let first_primary = first_primary.expect("a check that says primary");
    for check in &checks {
        if says_in_recovery(check) {
            assert!(check.began < over, "standby, although recovery was seen to be over: {check:?}");
            assert!(
                check.began < first_primary,
                "standby, although another check had said primary: {check:?}"
            );
        } else {
            assert!(
                check.ended > still,
                "primary, although recovery was seen to go on afterwards: {check:?}"
            );
        }
    }
    assert!(checks.iter().any(|check| check.line == "206 Standby"), "206 before the promotion");
}

/// A check on a connection of its own, sent and not yet answered.
fn send_check(agent: &Agent) -> TcpStream {
    let mut stream = TcpStream::connect(agent.addr()).expect("connect");
    stream.set_read_timeout(Some(secs(10))).expect("set a timeout");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("ask");
    stream
}

fn status_line(mut stream: TcpStream) -> String {
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a reply");
    reply.lines().next().unwrap_or_default().to_owned()
}

/// How often its threads have let go of a processor; `None` while one of them wants one.
fn switches(agent: &Agent) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{}/task", agent.pid())).expect("its threads");
    let counts = threads.map(|thread| {
        let status = fs::read_to_string(thread.ok()?.path().join("status")).ok()?;
        let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let is_waiting = value("State:\t")?.starts_with('S');
        is_waiting.then(|| value("voluntary_ctxt_switches:\t")?.parse::<u64>().ok())?
    });
    counts.sum()
}

#[test]
fn checks_share_a_probe_but_never_one_that_had_begun_before_they_arrived() {
    let primary = Cluster::primary();
    // Every probe reads the role and is held then, until the witness lets go of its lock.
    primary.replace_pg_is_in_recovery(
        "RAISE LOG 'asked'; PERFORM pg_advisory_lock_shared(1), pg_advisory_unlock_shared(1)",
    );
    let standby = Cluster::standby_of(&primary);
    let agent = Agent::start(&["--dsn", &standby.dsn(), "--timeout", "10s"]);
    let mut witness = standby.connect();
    witness.batch_execute("SELECT pg_advisory_lock(1)").expect("take the lock");
    let early = send_check(&agent);
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    eventually(secs(5), "the probe is held", || standby.psql(held) == "1");
    standby.promote();
    let late: Vec<TcpStream> = (0..8).map(|_| send_check(&agent)).collect();
    eventually(secs(10), "the agent has parked what came, and rests", || {
        let before = switches(&agent);
        thread::sleep(millis(20));
        before.is_some() && switches(&agent) == before
    });
    witness.batch_execute("SELECT pg_advisory_unlock(1)").expect("let go of the lock");
    assert_eq!(status_line(early), "HTTP/1.1 206 Standby", "it began before the promotion");
    for stream in late {
        assert_eq!(status_line(stream), "HTTP/1.1 200 Primary", "it began after the promotion");
    }
    let probes = standby.log().matches("LOG:  asked").count();
    assert_eq!(probes, 2, "one probe for the early check, and one for eight late ones");
}

/// Restarts a primary under a stream of checks and judges each by what was certain while it ran.
fn restart(mode: StopMode) {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    let stream = Stream::start(agent.addr(), &["/", "/primary", "/read-write"]);
    stream.advance(20);
    let stopping = Instant::now();
    primary.stop(mode);
    let stopped = Instant::now();
    stream.advance(5);
    let starting = Instant::now();
    primary.start();
    let started = Instant::now();
    stream.advance(20);
    let checks = stream.finish();
    for check in &checks {
        if check.ended < stopping || check.began > started {
            assert_eq!(check.line, "200 Primary", "PostgreSQL was up all the time: {check:?}");
        } else if check.began > stopped && check.ended < starting {
            assert_eq!(check.line, "503 connection-refused", "PostgreSQL was down all the time: {check:?}");
        } else {
            let answers = ["200 Primary", "503 connection-refused", "503 shutting-down", "503 starting-up"];
            let known = answers.contains(&check.line.as_str()) || check.line == "503 connection-lost";
            assert!(known, "PostgreSQL was stopping or starting: {check:?}");
        }
        assert!(check.ended - check.began < secs(3), "within the deadline: {check:?}");
    }
}

#[test]
fn a_fast_restart_costs_only_the_checks_while_postgresql_is_down() {
    restart(StopMode::Fast);
}

#[test]
fn an_immediate_restart_costs_only_the_checks_while_postgresql_is_down() {
    restart(StopMode::Immediate);
}

#[test]
fn after_a_stop_no_check_says_primary_or_standby() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    for (cluster, up) in [(&standby, "206 Standby"), (&primary, "200 Primary")] {
        let agent = Agent::start(&["--dsn", &cluster.dsn()]);
        for mode in [StopMode::Fast, StopMode::Immediate] {
            assert_eq!(agent.get("/").line(), up);
            cluster.stop(mode);
            for _ in 0..5 {
                assert_eq!(agent.get("/").line(), "503 connection-refused", "{mode:?}");
            }
            cluster.start();
        }
        assert_eq!(agent.get("/").line(), up);
    }
}

#[test]
fn a_killed_postmaster_is_seen_by_the_next_check_after_its_backends_ended() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    assert_eq!(agent.get("/").line(), "200 Primary");
    primary.kill();
    assert_eq!(agent.get("/").line(), "503 connection-refused");
    primary.start();
    assert_eq!(agent.get("/").line(), "200 Primary");
}

#[test]
fn a_smart_shutdown_refuses_with_shutting_down() {
    let primary = Cluster::primary();
    let witness = primary.connect();
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    thread::scope(|scope| {
        let stop = scope.spawn(|| primary.stop(StopMode::Smart));
        eventually(secs(5), "the smart shutdown began", || primary.log().contains("received smart shutdown"));
        assert_eq!(agent.get("/").line(), "503 shutting-down");
        // The last client leaves; nothing of the agent's may hold the server.
        drop(witness);
        stop.join().expect("the smart shutdown ends");
    });
    assert_eq!(agent.get("/").line(), "503 connection-refused");
}

#[test]
fn a_standby_that_still_starts_is_starting_up_and_then_a_standby_by_itself() {
    let primary = Cluster::primary();
    let gate = Folder::new("gate");
    // PostgreSQL asks the archive first and waits for it; the command ends with its folder at the latest.
    let place = gate.path().display();
    let wait = format!("while [ -d {place} ] && [ ! -e {place}/open ]; do sleep 0.05; done; false");
    let standby = Cluster::stopped_standby_of(&primary, &[("restore_command", &wait)]);
    let agent = Agent::start(&["--dsn", &standby.dsn()]);
    standby.try_start_nowait();
    eventually(secs(10), "PostgreSQL is starting up", || agent.get("/").line() == "503 starting-up");
    for path in ["/", "/replica", "/read-only", "/health", "/primary"] {
        assert_eq!(agent.get(path).line(), "503 starting-up", "{path}");
    }
    gate.write("open", "");
    standby.wait_ready();
    assert_eq!(agent.get("/").line(), "206 Standby");
    agent.wait_for_log("unavailable (starting-up) -> standby after ");
}

#[test]
fn a_standby_that_must_replay_before_it_is_consistent_is_starting_up() {
    let primary = Cluster::primary();
    let standby = standby_without_its_last_wal(&primary);
    primary.stop(StopMode::Fast);
    let agent = Agent::start(&["--dsn", &standby.dsn()]);
    standby.try_start_nowait();
    eventually(secs(10), "the standby waits for WAL", || {
        let refused = standby.try_psql("SELECT 1").err();
        refused.is_some_and(|error| error.contains("not yet accepting connections"))
    });
    assert_eq!(agent.get("/").line(), "503 starting-up");
    primary.start();
    standby.wait_ready();
    assert_eq!(agent.get("/").line(), "206 Standby");
}

/// A base backup over which WAL went on, without the segments after its first: its start can be read, the point
/// where it becomes consistent has to come from the primary.
fn standby_without_its_last_wal(primary: &Cluster) -> Cluster {
    let standby = thread::scope(|scope| {
        // Slow enough to do something meanwhile; the data directory has more than 20 MB.
        let retry = [("wal_retrieve_retry_interval", "100ms")];
        let backup = scope.spawn(move || Cluster::slow_standby_of(primary, &retry));
        let progress = "SELECT count(*) FROM pg_stat_progress_basebackup WHERE phase ~ 'database files'";
        eventually(secs(10), "the backup is under way", || primary.psql(progress) == "1");
        let sender = primary.psql("SELECT pid FROM pg_stat_progress_basebackup").parse().expect("a backend");
        let held = Frozen::new(sender);
        for number in 0..3 {
            primary.psql(&format!("CREATE TABLE later_{number} (); SELECT pg_switch_wal()"));
        }
        assert_eq!(primary.psql(progress), "1", "the backup is still under way");
        drop(held);
        backup.join().expect("the backup")
    });
    let label = fs::read_to_string(standby.data().join("backup_label")).expect("read backup_label");
    let first = label.split_once("(file ").and_then(|(_, rest)| rest.split_once(')')).expect("a WAL file").0;
    for entry in fs::read_dir(standby.data().join("pg_wal")).expect("read pg_wal").flatten() {
        let name = entry.file_name().into_string().expect("a WAL file's name");
        if name.len() == first.len() && name.as_str() > first {
            fs::remove_file(entry.path()).expect("remove a WAL file");
        }
    }
    standby
}

#[test]
fn a_standby_without_hot_standby_is_not_accepting_connections() {
    let primary = Cluster::primary();
    let standby = Cluster::stopped_standby_of(&primary, &[("hot_standby", "off")]);
    let agent = Agent::start(&["--dsn", &standby.dsn()]);
    standby.try_start_nowait();
    eventually(secs(10), "the standby refuses for good", || {
        agent.get("/").line() == "503 not-accepting-connections"
    });
    assert_eq!(agent.get("/replica").line(), "503 not-accepting-connections");
}
