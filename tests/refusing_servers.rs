//! Servers that refuse every login of an agent without a session: what that leaves in their logs, whatever is asked, and
//! how soon the agent is right again.
//!
//! Seen, with two pools and one HAProxy: 21,600 lines an hour for a wrong password, 14,400 for `hot_standby = off`, 7,200
//! while a server starts up.

mod support;

use std::thread;
use std::time::{Duration, Instant};

use support::folder::Folder;
use support::patience::{SLACK, at_the_same_time};
use support::{Agent, Cluster, StopMode, eventually, millis, secs};

/// Fewer lines than this an hour, `log_connections` off.
const LINES_PER_HOUR: u64 = 4000;

/// So long a server is watched.
const WATCHED: Duration = secs(30);

/// What one attempt more than an even share may add.
const ONE_ATTEMPT: u64 = 3;

/// Two pools that ask twice a second each.
const ASKERS: u32 = 2;
const ASKING: Duration = millis(500);

/// So soon the agent has to be right again once the cause is gone.
const MENDED: Duration = secs(4);

/// The default deadline.
const TIMEOUT: Duration = secs(2);

/// Nothing of the machine's own.
fn lines(cluster: &Cluster) -> u64 {
    let log = cluster.log();
    let is_own = |line: &&str| !line.contains("checkpoint") && !line.contains("restartpoint");
    log.lines().filter(is_own).count() as u64
}

/// Watches an agent that is refused, then mends the cause.
#[track_caller]
fn assert_within_budget(cluster: &Cluster, dsn: &str, reason: &str, mend: impl FnOnce(), up: &str) {
    let agent = Agent::start(&["--dsn", dsn]);
    let line = format!("503 {reason}");
    // Three of the same kind may come as fast as they are asked for.
    for _ in 0..3 {
        assert_eq!(agent.get("/").line(), line);
    }
    let (began, before) = (Instant::now(), lines(cluster));
    thread::scope(|scope| {
        for path in ["/", "/read-only"].into_iter().take(ASKERS as usize) {
            let (agent, line) = (&agent, &line);
            scope.spawn(move || {
                let mut asked = 0;
                while began.elapsed() < WATCHED {
                    let reply = agent.get(path);
                    assert_eq!(&reply.line(), line, "{path}, {:?}: {reply:?}", began.elapsed());
                    assert!(reply.elapsed < TIMEOUT + SLACK, "{path}: {reply:?}");
                    asked += 1;
                    thread::sleep((ASKING * asked).saturating_sub(began.elapsed()));
                }
                assert!(asked >= 10, "{path} was asked {asked} times in {WATCHED:?}");
            });
        }
    });
    let written = lines(cluster) - before;
    let allowed = LINES_PER_HOUR * began.elapsed().as_secs() / 3600 + ONE_ATTEMPT;
    assert!(
        written <= allowed,
        "{written} lines in {:?}, {allowed} are allowed: {}",
        began.elapsed(),
        cluster.log()
    );
    assert!(written > 0, "it goes on trying");
    mend();
    eventually(MENDED, "the agent is right again", || agent.get("/").line() == up);
    for _ in 0..20 {
        assert_eq!(agent.get("/").line(), up);
    }
}

/// All of them wait more than they work.
#[test]
fn what_a_refusing_server_logs_stays_within_the_budget_and_a_mended_one_is_right_soon() {
    let cases: [fn(); 5] = [
        a_wrong_password,
        an_unknown_role,
        a_library_that_cannot_be_loaded,
        a_standby_without_hot_standby,
        a_server_that_starts_up_for_long,
    ];
    at_the_same_time(cases, |case| case());
}

fn a_wrong_password() {
    let primary = Cluster::primary();
    primary.psql("CREATE ROLE pgsqlchk LOGIN PASSWORD 'r1ght'");
    primary.write_hba("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n");
    let dsn = format!("host=127.0.0.1 port={} user=pgsqlchk dbname=postgres password=wr0ng", primary.port());
    let mend = || drop(primary.psql("ALTER ROLE pgsqlchk PASSWORD 'wr0ng'"));
    assert_within_budget(&primary, &dsn, "authentication-failed", mend, "200 Primary");
}

fn an_unknown_role() {
    let primary = Cluster::primary();
    let mend = || drop(primary.psql("CREATE ROLE pgsqlchk LOGIN"));
    assert_within_budget(&primary, &primary.dsn_of("pgsqlchk"), "authentication-failed", mend, "200 Primary");
}

fn a_library_that_cannot_be_loaded() {
    let primary = Cluster::primary_with(&[("session_preload_libraries", "no_such_library")]);
    let mend = || primary.configure(&[("session_preload_libraries", "")]);
    assert_within_budget(&primary, &primary.dsn(), "login-failed", mend, "200 Primary");
}

fn a_standby_without_hot_standby() {
    let primary = Cluster::primary();
    let standby = Cluster::stopped_standby_of(&primary, &[("hot_standby", "off")]);
    standby.try_start_nowait();
    let refuses =
        || standby.try_psql("SELECT 1").is_err_and(|error| error.contains("not accepting connections"));
    eventually(secs(10), "the standby refuses for good", refuses);
    let mend = || {
        standby.stop(StopMode::Fast);
        standby.configure(&[("hot_standby", "on")]);
        standby.start();
    };
    assert_within_budget(&standby, &standby.dsn(), "not-accepting-connections", mend, "206 Standby");
}

fn a_server_that_starts_up_for_long() {
    let primary = Cluster::primary();
    let gate = Folder::new("gate");
    // PostgreSQL asks the archive first and waits for it; the command ends with its folder at the latest.
    let place = gate.path().display();
    let wait = format!("while [ -d {place} ] && [ ! -e {place}/open ]; do sleep 0.05; done; false");
    let standby = Cluster::stopped_standby_of(&primary, &[("restore_command", &wait)]);
    standby.try_start_nowait();
    let refuses = || standby.try_psql("SELECT 1").is_err_and(|error| error.contains("starting up"));
    eventually(secs(10), "the standby is starting up", refuses);
    let mend = || {
        gate.write("open", "");
        standby.wait_ready();
    };
    assert_within_budget(&standby, &standby.dsn(), "starting-up", mend, "206 Standby");
}

/// A crowd asks for no more logins than two pools do.
#[test]
fn a_crowd_of_checks_at_a_refusing_server_is_answered_in_time_within_the_budget() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn_of("pgsqlchk")]);
    for _ in 0..3 {
        assert_eq!(agent.get("/").line(), "503 authentication-failed");
    }
    let (began, before) = (Instant::now(), lines(&primary));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while began.elapsed() < secs(9) {
                    let reply = agent.get("/");
                    assert_eq!(reply.line(), "503 authentication-failed");
                    assert!(reply.elapsed < TIMEOUT + SLACK, "{reply:?}");
                }
            });
        }
    });
    let (written, allowed) =
        (lines(&primary) - before, began.elapsed().as_secs() * LINES_PER_HOUR / 3600 + ONE_ATTEMPT);
    assert!(written <= allowed, "{written} lines, {allowed} are allowed");
}
