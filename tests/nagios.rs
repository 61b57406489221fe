//! `pgsqlchk check --format nagios`, run by a program of the Monitoring Plugins: `negate` starts a plugin as Nagios does, reads
//! its line and its exit code, and turns the state around.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::drain::Switch;
use support::folder::Folder;
use support::{Cluster, Frozen, StopMode, agent, eventually, secs};

/// packaging/install-dependencies unpacks it under Cargo's target folder.
fn negate() -> PathBuf {
    let folders = Path::new(env!("CARGO_TARGET_TMPDIR")).ancestors();
    let mut candidates =
        folders.map(|folder| folder.join("monitoring-plugins-common/usr/lib/nagios/plugins/negate"));
    candidates
        .find(|path| path.is_file())
        .expect("monitoring-plugins-common: run make test, which unpacks it")
}

/// The line of the plugin and the exit code that `negate` makes of its state: OK becomes CRITICAL and the reverse.
fn negated(dsn: &str, more: &[&str]) -> (String, Option<i32>) {
    let folder = Folder::new("nagios");
    let config = folder.write("pgsqlchk.conf", "");
    let mut command = Command::new(negate());
    command
        .arg("--substitute")
        .arg(agent::program())
        .args(["check", "--format", "nagios", "--dsn", dsn, "--config"]);
    command.arg(config).args(more).env("HOME", folder.path());
    said(command.output().expect("run negate"))
}

fn plain(dsn: &str, more: &[&str]) -> (String, Option<i32>) {
    let folder = Folder::new("nagios");
    let config = folder.write("pgsqlchk.conf", "");
    let mut command = agent::command();
    command.args(["check", "--format=nagios", "--dsn", dsn, "--config"]).arg(config).args(more);
    said(command.env("HOME", folder.path()).output().expect("run the agent"))
}

#[track_caller]
fn said(output: Output) -> (String, Option<i32>) {
    let line = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(line.lines().count(), 1, "one line: {line:?}");
    (line.trim_end().to_owned(), output.status.code())
}

const THRESHOLDS: [&str; 4] = ["--warning", "16MB,30s", "--critical", "64MB,1h"];

#[test]
fn a_plugins_runner_understands_every_state() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let switch = Switch::new();
    switch.on();
    let drain = ["--drain-file", &switch.path().display().to_string()].map(str::to_owned);
    let drain: Vec<&str> = drain.iter().map(String::as_str).collect();
    let to_replica = ["--target", "/replica"];
    for (dsn, more, line, code, negated_code) in [
        (primary.dsn(), &[][..], "PGSQLCHK OK - primary timeline 1 | time=", 0, 2),
        (primary.dsn(), &to_replica, "PGSQLCHK CRITICAL - primary timeline 1: not-in-recovery | time=", 2, 0),
        (standby.dsn(), &[], "PGSQLCHK OK - standby timeline 1 | time=", 0, 2),
        (primary.dsn(), &drain, "PGSQLCHK WARNING - ", 1, 1),
        (primary.dsn(), &["--warning", "much"], "PGSQLCHK UNKNOWN - --warning \"much\": ", 3, 3),
        (primary.dsn(), &["--nothing"], "PGSQLCHK UNKNOWN - unknown option ", 3, 3),
        ("host=/nowhere user=u".into(), &[], "PGSQLCHK CRITICAL - unavailable (connection-refused): ", 2, 0),
    ] {
        let (said, exit) = plain(&dsn, more);
        assert!(said.starts_with(line), "{said}");
        assert_eq!(exit, Some(code), "{said}");
        // It gives the state that it makes of it in the line as well.
        let (said, exit) = negated(&dsn, more);
        assert_eq!(exit, Some(negated_code), "{said}");
        let word = ["OK", "WARNING", "CRITICAL", "UNKNOWN"][usize::try_from(negated_code).expect("a state")];
        assert!(said.starts_with(&format!("PGSQLCHK {word} - ")), "{said}");
    }
}

#[test]
fn the_lag_has_thresholds_and_is_performance_data() {
    let primary = Cluster::primary();
    primary.psql("CREATE TABLE filler (line text)");
    let standby = Cluster::standby_of(&primary);
    let (line, code) = plain(&primary.dsn(), &THRESHOLDS);
    assert!(line.starts_with("PGSQLCHK OK - primary timeline 1 | time="), "a primary has none: {line}");
    assert_eq!(code, Some(0));
    let caught_up = "PGSQLCHK OK - standby timeline 1 lag 0 bytes 0.0 s | lag=0B;16777216;67108864;0 \
                     lag_time=0.000s;30;3600;0 time=0.";
    eventually(secs(20), "it has caught up", || plain(&standby.dsn(), &THRESHOLDS).0.starts_with(caught_up));

    standby.psql("SELECT pg_wal_replay_pause()");
    primary.psql("INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 30000)");
    let says = |start: &str, code: i32| {
        let (line, exit) = plain(&standby.dsn(), &THRESHOLDS);
        line.starts_with(start) && exit == Some(code)
    };
    eventually(secs(20), "it lags by 30 MB", || says("PGSQLCHK WARNING - standby timeline 1 lag ", 1));
    primary.psql("INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 50000)");
    eventually(secs(20), "it lags by 80 MB", || says("PGSQLCHK CRITICAL - standby timeline 1 lag ", 2));
    standby.psql("SELECT pg_wal_replay_resume()");
    eventually(secs(20), "it has caught up", || plain(&standby.dsn(), &THRESHOLDS).0.starts_with(caught_up));
    primary.stop(StopMode::Fast);
    eventually(secs(20), "nobody knows its lag", || {
        says("PGSQLCHK UNKNOWN - standby timeline 1 lag unknown", 3)
    });
}

#[test]
fn a_frozen_server_is_critical_by_the_deadline() {
    let primary = Cluster::primary();
    let _frozen = Frozen::new(primary.postmaster_pid());
    let (line, code) = plain(&primary.dsn(), &["--timeout", "500ms"]);
    assert!(line.starts_with("PGSQLCHK CRITICAL - unavailable ("), "{line}");
    assert_eq!(code, Some(2));
}
