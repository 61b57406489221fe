//! A restore is no standby: it recovers, too, but to a target of its own, and is a primary of its own then. Where that can
//! be told, `/replica` says so; and a standby that looks much the same is never taken for one.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use support::postgresql::copy_folder;
use support::{Agent, Cluster, StopMode, agent, eventually, secs, wire};

/// The name of the restore point.
const HERE: &str = "here";

/// A primary that archives its WAL.
struct Archive {
    primary: Cluster,
    folder: PathBuf,
}

impl Archive {
    fn start() -> Archive {
        let primary = Cluster::primary();
        let folder = primary.socket_dir().join("archive");
        let shown = folder.display();
        let command = format!("mkdir -p {shown} && cp %p {shown}/.%f && mv {shown}/.%f {shown}/%f");
        primary.configure(&[("archive_mode", "on"), ("archive_command", &command)]);
        primary.restart(StopMode::Fast);
        primary.psql("CREATE ROLE plain LOGIN; CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher");
        Archive { primary, folder }
    }

    /// Closes the segment that is written now and waits until it is archived.
    #[track_caller]
    fn archive_segment(&self) {
        let segment = self.primary.psql("SELECT pg_walfile_name(pg_switch_wal())");
        eventually(secs(20), "the segment is archived", || self.folder.join(&segment).exists());
    }

    /// A base backup, the restore point `here` in a later segment than those that it needs, and a table on each side of
    /// it.
    #[track_caller]
    fn back_up_and_write(&self) -> Cluster {
        let backup = Cluster::stopped_standby_of(&self.primary, &[]);
        // Consistency is noticed with the record after the backup's end.
        self.primary.psql("CREATE TABLE meanwhile ()");
        self.archive_segment();
        copy_folder(&self.folder, &self.needed());
        self.primary.psql("CREATE TABLE before_here ()");
        self.primary.psql(&format!("SELECT pg_create_restore_point('{HERE}')"));
        self.primary.psql("CREATE TABLE after_here ()");
        self.archive_segment();
        backup
    }

    /// What the backup needs to be consistent.
    fn needed(&self) -> PathBuf {
        self.folder.with_extension("needed")
    }

    /// Copies from the archive; what the backup does not need only once the file `gate` exists.
    fn gated(&self, gate: &Path) -> String {
        let (needed, folder, gate) = (self.needed(), self.folder.display(), gate.display());
        format!(
            "cp {}/%f %p 2>/dev/null && exit; case %f in *.history) exit 1;; esac; \
             while [ ! -e {gate} ]; do sleep 0.05; done; cp {folder}/%f %p 2>/dev/null",
            needed.display()
        )
    }

    fn copy(&self) -> String {
        format!("cp {}/%f %p 2>/dev/null", self.folder.display())
    }
}

/// Makes a restore of what was prepared as a standby.
fn as_restore(backup: &Cluster, settings: &[(&str, &str)]) {
    fs::rename(backup.data().join("standby.signal"), backup.data().join("recovery.signal")).expect("rename");
    backup.write_auto_settings(settings);
}

/// With LOGIN alone, and with pg_monitor.
fn agents(server: &Cluster) -> [Agent; 2] {
    ["plain", "watcher"].map(|role| Agent::start(&["--dsn", &server.dsn_of(role)]))
}

#[track_caller]
fn say(agents: &[Agent; 2], path: &str, with_login: &str, with_monitor: &str) {
    let [plain, watcher] = agents;
    assert_eq!(plain.get(path).line(), with_login, "{path} with LOGIN alone");
    assert_eq!(watcher.get(path).line(), with_monitor, "{path} with pg_monitor");
}

#[track_caller]
fn both_say(agents: &[Agent; 2], path: &str, line: &str) {
    say(agents, path, line, line);
}

fn status(agent: &Agent) -> Value {
    serde_json::from_str(&agent.get("/status").body).expect("JSON")
}

fn has_table(server: &Cluster, table: &str) -> bool {
    server.psql(&format!("SELECT to_regclass('{table}') IS NOT NULL")) == "t"
}

#[track_caller]
fn wait_until_paused(server: &Cluster) {
    let state = "SELECT pg_get_wal_replay_pause_state()";
    eventually(secs(20), "replay is paused", || server.psql(state) == "paused");
}

/// Who sees it took the restore for a standby, and who does not saw that it was none.
#[test]
fn a_primary_conninfo_that_came_with_the_backup_makes_a_restore_no_standby() {
    let archive = Archive::start();
    let restore = archive.back_up_and_write();
    let conninfo = format!("host={} port={}", archive.primary.socket_dir().display(), archive.primary.port());
    let settings = [
        ("restore_command", &*archive.copy()),
        ("recovery_target_name", HERE),
        ("primary_conninfo", &*conninfo),
    ];
    as_restore(&restore, &settings);
    restore.start();
    wait_until_paused(&restore);
    assert!(has_table(&restore, "before_here") && !has_table(&restore, "after_here"));
    assert_eq!(restore.psql("SHOW primary_conninfo"), conninfo);
    for path in ["/replica", "/read-only", "/replica?replay=running"] {
        both_say(&agents(&restore), path, "503 restoring");
    }
}

/// It was 206, and 200 on /replica, and 200 Primary the moment it was resumed.
#[test]
fn a_restore_that_stands_at_its_target_is_no_standby_and_resumed_it_is_a_primary() {
    let archive = Archive::start();
    let restore = archive.back_up_and_write();
    let settings = [("restore_command", &*archive.copy()), ("recovery_target_name", HERE)];
    as_restore(&restore, &settings);
    restore.start();
    wait_until_paused(&restore);
    assert!(has_table(&restore, "before_here") && !has_table(&restore, "after_here"));
    assert_eq!(restore.psql("SELECT count(*) FROM pg_stat_wal_receiver"), "0");

    let agents = agents(&restore);
    for path in ["/replica", "/standby", "/read-only", "/replica?lag=16MB&replay=running"] {
        both_say(&agents, path, "503 restoring");
    }
    for agent in &agents {
        assert_eq!(agent.get("/replica").body, "No: restoring\n");
        let document = status(agent);
        assert_eq!((&document["restoring"], &document["reason"]), (&true.into(), &Value::Null));
        let page = agent.ask(b"GET /status HTTP/1.1\r\nAccept: text/html\r\n\r\n").body;
        assert!(page.contains("<dt>Restore</dt>"), "{page}");
    }
    // The classic contract knows no restores; docs/answers.md says so.
    both_say(&agents, "/", "206 Standby");
    both_say(&agents, "/health", "200 Standby");
    both_say(&agents, "/primary", "503 in-recovery");
    let mut check = agent::command();
    check.args(["--mode", "check", "--config", "/dev/null", "--target", "/replica", "--dsn"]);
    let output = check.arg(restore.dsn_of("plain")).stdin(Stdio::null()).output().expect("run the agent");
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!((line.as_str(), output.status.code()), ("standby timeline 1: restoring\n", Some(1)));
    let dsn = restore.dsn_of("plain");
    let haproxys = Agent::start(&["--dsn", &dsn, "--agent-listen", "127.0.0.1:0"]);
    assert_eq!(wire::talk(haproxys.agent_check_addr(), "/replica\n").text(), "down #restoring\n");

    restore.psql("SELECT pg_wal_replay_resume()");
    eventually(secs(20), "recovery has ended", || restore.psql("SELECT pg_is_in_recovery()") == "f");
    both_say(&agents, "/", "200 Primary");
    both_say(&agents, "/replica", "503 not-in-recovery");
    both_say(&agents, "/read-only", "200 Primary");
    assert_eq!(status(&agents[0])["restoring"], Value::Null);
}

/// With LOGIN alone it looks as a standby does that has a target and whose primary is down.
#[test]
fn a_restore_on_its_way_to_the_target_is_told_with_pg_monitor() {
    let archive = Archive::start();
    let restore = archive.back_up_and_write();
    let gate = restore.socket_dir().join("gate");
    let command = archive.gated(&gate);
    as_restore(&restore, &[("restore_command", &command), ("recovery_target_name", HERE)]);
    restore.start();
    assert!(!has_table(&restore, "before_here"), "it is consistent, and not at its target");
    let agents = agents(&restore);
    for path in ["/replica", "/read-only"] {
        say(&agents, path, "200 Standby", "503 restoring");
    }
    both_say(&agents, "/", "206 Standby");
    let restoring = agents.each_ref().map(|agent| status(agent)["restoring"].clone());
    assert_eq!(restoring, [Value::Null, true.into()]);

    fs::write(&gate, "").expect("open the gate");
    wait_until_paused(&restore);
    both_say(&agents, "/replica", "503 restoring");
}

/// A restore of all there is looks like a standby that restore_command alone feeds; and that one must not go.
#[test]
fn a_restore_without_a_target_can_not_be_told_and_nothing_is_claimed_of_it() {
    let archive = Archive::start();
    let restore = archive.back_up_and_write();
    let gate = restore.socket_dir().join("gate");
    as_restore(&restore, &[("restore_command", &archive.gated(&gate))]);
    restore.start();
    let agents = agents(&restore);
    both_say(&agents, "/replica", "200 Standby");
    agents.iter().for_each(|agent| assert_eq!(status(agent)["restoring"], Value::Null));
    fs::write(&gate, "").expect("open the gate");
    eventually(secs(20), "it is a primary", || restore.psql("SELECT pg_is_in_recovery()") == "f");
    assert!(has_table(&restore, "after_here"));
    both_say(&agents, "/replica", "503 not-in-recovery");
}

#[test]
fn a_standby_that_is_fed_from_an_archive_alone_is_one_also_while_it_is_paused() {
    let archive = Archive::start();
    let standby = archive.back_up_and_write();
    let settings = [("restore_command", &*archive.copy()), ("wal_retrieve_retry_interval", "100ms")];
    standby.write_auto_settings(&settings);
    standby.start();
    eventually(secs(20), "it replays all of the archive", || has_table(&standby, "after_here"));
    assert_eq!(standby.psql("SHOW primary_conninfo"), "");
    let agents = agents(&standby);
    let is_standby = || {
        for path in ["/replica", "/standby", "/read-only"] {
            both_say(&agents, path, "200 Standby");
        }
    };
    is_standby();
    standby.psql("SELECT pg_wal_replay_pause()");
    wait_until_paused(&standby);
    is_standby();
    // It goes on where it stood.
    archive.primary.psql("CREATE TABLE later ()");
    archive.archive_segment();
    standby.psql("SELECT pg_wal_replay_resume()");
    eventually(secs(20), "it replays what came later", || has_table(&standby, "later"));
    is_standby();
}

/// Whoever sees least sees no receiver and no primary_conninfo.
#[test]
fn a_standby_whose_primary_is_down_is_no_restore_whatever_else_it_has() {
    let primary = Cluster::primary();
    primary.psql("CREATE ROLE plain LOGIN; CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher");
    let usual = Cluster::standby_of(&primary);
    let paused = Cluster::standby_of(&primary);
    // It would stop in a thousand years.
    let target = [("recovery_target_time", "3026-01-01 00:00:00+00")];
    let targeted = Cluster::stopped_standby_of(&primary, &target);
    targeted.start();
    let standbys = [&usual, &paused, &targeted];
    let beside = standbys.map(agents);
    let receivers = |server: &Cluster| server.psql("SELECT count(*) FROM pg_stat_wal_receiver");
    for (standby, agents) in standbys.iter().zip(&beside) {
        eventually(secs(20), "it streams", || receivers(standby) == "1");
        both_say(agents, "/replica", "200 Standby");
    }
    paused.psql("SELECT pg_wal_replay_pause()");
    wait_until_paused(&paused);
    primary.stop(StopMode::Immediate);
    for (standby, agents) in standbys.iter().zip(&beside) {
        eventually(secs(20), "its receiver is gone", || receivers(standby) == "0");
        for path in ["/replica", "/standby", "/read-only"] {
            both_say(agents, path, "200 Standby");
        }
        let restoring = agents.each_ref().map(|agent| status(agent)["restoring"].clone());
        assert_eq!(restoring, [Value::Null, false.into()]);
    }
    // Started without its primary it has never had a receiver.
    usual.restart(StopMode::Fast);
    both_say(&beside[0], "/replica", "200 Standby");
}
