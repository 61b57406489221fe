//! `pgsqlchk check`: one line on stdout and an exit code, from real servers. What can go wrong on the first day is set
//! up for real, and where the line says what to type, that is typed and helps.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::folder::Folder;
use support::postgresql::program_path;
use support::process::wait_for_exit;
use support::{Agent, Cluster, Frozen, StopMode, agent, eventually, free_port, millis, secs};

mod support;

/// How a check ended.
#[derive(Debug)]
struct Outcome {
    code: i32,
    /// What it printed to stdout, without the final newline.
    line: String,
    stderr: String,
    elapsed: Duration,
}

/// Who runs the checks: a home folder and a configuration of its own.
struct Admin {
    home: Folder,
}

impl Admin {
    fn new() -> Admin {
        let home = Folder::new("admin");
        home.write("pgsqlchk.conf", "");
        Admin { home }
    }

    /// Runs one check to its end.
    #[track_caller]
    fn check(&self, dsn: &str, arguments: &[&str]) -> Outcome {
        let mut command = agent::command();
        command.env("HOME", self.home.path()).args(["--mode", "check", "--dsn", dsn, "--config"]);
        command.arg(self.home.path().join("pgsqlchk.conf")).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let began = Instant::now();
        let mut child = command.spawn().expect("run the agent");
        if wait_for_exit(&mut child, secs(10)).is_none() {
            let _ = child.kill();
            panic!("no end within 10 s: {command:?}: {:?}", child.wait_with_output());
        }
        let elapsed = began.elapsed();
        let output = child.wait_with_output().expect("its output");
        let stdout = String::from_utf8(output.stdout).expect("UTF-8");
        let line = stdout.strip_suffix('\n').unwrap_or(&stdout).to_owned();
        assert!(!line.contains('\n'), "one line: {stdout:?}");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Outcome { code: output.status.code().expect("an exit code"), line, stderr, elapsed }
    }

    /// Types a command of the advice. `sudo -u postgres` is left out: over the test's own socket, which trusts, the
    /// superuser is chosen by PGUSER.
    #[track_caller]
    fn types(&self, command: &str) {
        let folder = program_path("psql").parent().expect("a folder").to_owned();
        let path = std::env::join_paths(
            [folder].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
        );
        let mut shell = Command::new("sh");
        support::postgresql::without_pg_variables(&mut shell);
        shell.args(["-c", &format!("sudo() {{ shift 2; \"$@\"; }}\n{command}")]);
        shell.env("PATH", path.expect("a PATH")).env("PGUSER", "postgres").env("HOME", self.home.path());
        let output = shell.stdin(Stdio::null()).output().expect("run sh");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The check fails with this reason, its line says `advice`, and `helps` makes it succeed.
    #[track_caller]
    fn is_helped(&self, dsn: &str, reason: &str, advice: &str, helps: impl FnOnce()) {
        let outcome = self.check(dsn, &[]);
        assert_says(&outcome, reason, advice);
        helps();
        let outcome = self.check(dsn, &[]);
        assert_eq!((outcome.code, outcome.line.as_str()), (0, "primary timeline 1"), "after: {advice}");
    }

    /// The same, where the advice is a command.
    #[track_caller]
    fn is_helped_by_typing(&self, dsn: &str, reason: &str, command: &str) {
        self.is_helped(dsn, reason, command, || self.types(command));
    }
}

#[track_caller]
fn assert_says(outcome: &Outcome, reason: &str, advice: &str) {
    assert_eq!(outcome.code, 2, "{outcome:?}");
    assert!(outcome.line.starts_with(&format!("unavailable ({reason}): ")), "{outcome:?}");
    assert!(outcome.line.contains(advice), "{advice}\nis not in\n{}", outcome.line);
    assert_eq!(outcome.stderr, "", "the line is all");
    assert!(!outcome.line.contains("wr0ng"), "a password stays out of it: {outcome:?}");
}

/// A connection string over the cluster's socket.
fn dsn(cluster: &Cluster, rest: &str) -> String {
    format!("host={} port={} dbname=postgres {rest}", cluster.socket_dir().display(), cluster.port())
}

/// The options that PostgreSQL's programs need to find the cluster.
fn place(cluster: &Cluster) -> String {
    format!("-h {} -p {}", cluster.socket_dir().display(), cluster.port())
}

fn os_user() -> String {
    let output = Command::new("id").arg("-un").output().expect("run id");
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

/// Every path, and how it ends beside a primary and beside a standby.
const VERDICTS: &[(&str, &str, &str)] = &[
    ("/", "", ""),
    ("*", "", ""),
    ("/primary", "", ": in-recovery"),
    ("/master", "", ": in-recovery"),
    ("/leader", "", ": in-recovery"),
    ("/read-write", "", ": in-recovery"),
    ("/replica", ": not-in-recovery", ""),
    ("/standby", ": not-in-recovery", ""),
    ("/read-only", "", ""),
    ("/health", "", ""),
    ("/readiness", "", ""),
];

#[test]
fn every_path_has_its_line_and_its_exit_code() {
    let admin = Admin::new();
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    for (path, on_primary, on_standby) in VERDICTS {
        for (cluster, role, refusal) in [(&primary, "primary", on_primary), (&standby, "standby", on_standby)]
        {
            let outcome = admin.check(&cluster.dsn(), &["--target", path]);
            let expected = (i32::from(!refusal.is_empty()), format!("{role} timeline 1{refusal}"));
            assert_eq!((outcome.code, outcome.line), expected, "{path} of a {role}");
        }
    }
    assert_eq!(admin.check(&primary.dsn(), &[]).line, "primary timeline 1", "/ is the default");

    primary.psql("ALTER SYSTEM SET default_transaction_read_only = on");
    primary.psql("SELECT pg_reload_conf()");
    eventually(secs(5), "the server has read its configuration", || {
        primary.psql("SHOW default_transaction_read_only") == "on"
    });
    let outcome = admin.check(&primary.dsn(), &["--target", "/read-write"]);
    assert_eq!((outcome.code, outcome.line.as_str()), (1, "primary timeline 1: read-only"));

    standby.stop(StopMode::Fast);
    for (path, ..) in VERDICTS {
        let outcome = admin.check(&standby.dsn(), &["--target", path]);
        assert_says(&outcome, "connection-refused", "is PostgreSQL running?");
    }
    let outcome = admin.check(&standby.dsn(), &["--target", "/liveness"]);
    assert_eq!((outcome.code, outcome.line.as_str()), (0, "alive"), "PostgreSQL is not asked");
}

#[test]
fn what_cannot_be_asked_is_bad_usage_and_no_verdict() {
    let admin = Admin::new();
    for path in
        ["/primry", "/replica?lag=16mb", "/primary?lag=16MB", "/primary?else=maint", "/status", "primary"]
    {
        let outcome = admin.check("host=/nowhere", &["--target", path]);
        assert_eq!((outcome.code, outcome.line.as_str()), (3, ""), "{path}: {outcome:?}");
        assert!(outcome.stderr.starts_with("pgsqlchk: --target "), "{outcome:?}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    }
}

#[test]
fn a_promoted_standby_shows_its_new_timeline() {
    let admin = Admin::new();
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    assert_eq!(admin.check(&standby.dsn(), &["--target", "/standby"]).line, "standby timeline 1");
    primary.stop(StopMode::Fast);
    standby.promote();
    let outcome = admin.check(&standby.dsn(), &["--target", "/primary"]);
    assert_eq!((outcome.code, outcome.line.as_str()), (0, "primary timeline 2"));
}

#[test]
fn a_frozen_postmaster_is_told_by_the_deadline() {
    let admin = Admin::new();
    let primary = Cluster::primary();
    let frozen = Frozen::new(primary.postmaster_pid());
    for dsn in [primary.dsn(), primary.tcp_dsn()] {
        let outcome = admin.check(&dsn, &["--timeout", "500ms"]);
        assert_says(&outcome, "deadline-passed", "still logging in");
        assert!(outcome.elapsed >= millis(500) && outcome.elapsed < millis(2500), "{outcome:?}");
    }
    frozen.thaw();
    assert_eq!(admin.check(&primary.dsn(), &[]).code, 0);
}

#[test]
fn a_check_leaves_no_session_that_a_smart_shutdown_would_wait_for() {
    let admin = Admin::new();
    let primary = Cluster::primary();
    assert_eq!(admin.check(&primary.dsn(), &[]).code, 0);
    eventually(secs(5), "its session ends with it", || primary.backend_pids("pgsqlchk").is_empty());
    primary.stop(StopMode::Smart);
}

#[test]
fn where_a_server_listens_on_another_port_the_line_names_it() {
    let admin = Admin::new();
    let primary = Cluster::primary();
    let (directory, port) = (primary.socket_dir().display(), primary.port());
    let outcome = admin.check(&format!("host={directory} user=postgres"), &[]);
    let dsn = format!("host={directory} port={port} user=postgres");
    // The one that is asked for may merely be down.
    let advice = format!(
        "start PostgreSQL (systemctl start postgresql), or if it is meant, a server listens on port {port} there: --dsn '{dsn}'"
    );
    assert_says(&outcome, "connection-refused", &advice);
    let helped = admin.check(&dsn, &[]);
    assert_eq!(helped.code, 0, "{helped:?}");
}

/// It said `connection-lost`, where an agent that stays says what it is.
#[test]
fn a_port_where_http_is_spoken_is_not_postgresql() {
    let admin = Admin::new();
    let agent = Agent::start(&["--dsn", "host=/nowhere"]);
    let dsn = format!("host=127.0.0.1 port={} user=u", agent.addr().port());
    assert_says(&admin.check(&dsn, &[]), "not-postgresql", "the knock was answered with byte 0x48");
}

#[test]
fn without_a_server_the_line_says_how_to_start_or_name_one() {
    let admin = Admin::new();
    let (folder, tcp) = (Folder::new("empty"), format!("host=127.0.0.1 port={} user=u", free_port()));
    for dsn in [format!("host={} user=u", folder.path().display()), tcp] {
        let outcome = admin.check(&dsn, &[]);
        assert_says(&outcome, "connection-refused", "start PostgreSQL (systemctl start postgresql)");
        assert!(outcome.line.contains("--dsn 'host="), "{outcome:?}");
    }
}

#[test]
fn a_missing_role_is_created_by_what_the_line_says() {
    let admin = Admin::new();
    let primary = Cluster::primary();
    let command = format!("sudo -u postgres createuser {} pgsqlchk", place(&primary));
    admin.is_helped_by_typing(&dsn(&primary, "user=pgsqlchk"), "authentication-failed", &command);
}

#[test]
fn a_role_that_may_not_log_in_may_after_what_the_line_says() {
    let admin = Admin::new();
    let primary = Cluster::primary();
    primary.psql("CREATE ROLE \"a group\" NOLOGIN");
    let command = format!("sudo -u postgres psql {} -c 'ALTER ROLE \"a group\" LOGIN'", place(&primary));
    admin.is_helped_by_typing(&dsn(&primary, "user='a group'"), "authentication-failed", &command);
}

#[test]
fn a_missing_peer_mapping_is_made_by_what_the_line_says() {
    let admin = Admin::new();
    let primary = Cluster::primary();
    primary.psql("CREATE ROLE peered LOGIN");
    primary.write_hba("local all peered peer\nlocal all all trust\n");
    let ident = format!("agent {} peered", os_user());
    let hba = "local postgres peered peer map=agent";
    let reload = format!("sudo -u postgres psql {} -c 'SELECT pg_reload_conf()'", place(&primary));
    let advice = format!(
        "put `{ident}` into pg_ident.conf and put `{hba}` above the other lines of pg_hba.conf, then: {reload}"
    );
    admin.is_helped(&dsn(&primary, "user=peered"), "authentication-failed", &advice, || {
        fs::write(primary.data().join("pg_ident.conf"), format!("{ident}\n")).expect("write pg_ident.conf");
        primary.write_hba(&format!("{hba}\nlocal all peered peer\nlocal all all trust\n"));
    });
}

#[test]
fn a_missing_password_goes_where_the_line_says() {
    let admin = Admin::new();
    let primary = Cluster::primary();
    primary.psql("CREATE ROLE checker LOGIN PASSWORD 'r1ght'");
    primary.write_hba("local all checker scram-sha-256\nlocal all all trust\n");
    let passfile = admin.home.path().join(".pgpass");
    let (directory, port) = (primary.socket_dir().display(), primary.port());
    let line = format!("{directory}:{port}:postgres:checker:PASSWORD");
    let command = format!("(umask 077; echo {line} >>{})", passfile.display());
    let dsn = dsn(&primary, "user=checker");
    admin.is_helped(&dsn, "authentication-failed", &command, || {
        admin.types(&command.replace("PASSWORD", "r1ght"));
    });

    // A passfile that everyone can read is ignored, and the line says so.
    admin.types(&format!("chmod 644 {}", passfile.display()));
    let command = format!("chmod 600 {}", passfile.display());
    admin.is_helped_by_typing(&dsn, "authentication-failed", &command);

    // A folder would be of no use to its owner any more.
    let outcome = admin.check(&format!("{dsn} passfile=/tmp"), &[]);
    assert_says(&outcome, "authentication-failed", "name another file in --dsn (passfile=...) or PGPASSFILE");
}

#[test]
fn a_wrong_password_is_set_anew_by_what_the_line_says() {
    let admin = Admin::new();
    let primary = Cluster::primary();
    primary.psql("CREATE ROLE checker LOGIN PASSWORD 'r1ght'");
    primary
        .write_hba("local all checker scram-sha-256\nlocal all unknown scram-sha-256\nlocal all all trust\n");
    let command = format!("sudo -u postgres psql {} -c '\\password checker'", place(&primary));
    let dsn = dsn(&primary, "user=checker password=wr0ng");
    let outcome = admin.check(&dsn, &[]);
    assert_says(&outcome, "authentication-failed", &command);
    assert!(outcome.line.ends_with("then correct it in --dsn or PGPASSWORD"), "{outcome:?}");
    // \password asks at the terminal; the new password is typed as ALTER ROLE here.
    primary.psql("ALTER ROLE checker PASSWORD 'wr0ng'");
    assert_eq!(admin.check(&dsn, &[]).code, 0);

    // Where a password is wanted, the server does not say that the role is missing: the line thinks of it.
    let create = format!("sudo -u postgres createuser {} unknown", place(&primary));
    let dsn = format!("{} user=unknown", dsn.split(" user=").next().expect("a place"));
    let outcome = admin.check(&format!("{dsn} password=wr0ng"), &[]);
    assert_says(&outcome, "authentication-failed", &create);
}

#[test]
fn a_refusal_of_pg_hba_is_lifted_by_the_line_to_put_there() {
    let admin = Admin::new();
    let primary = Cluster::primary();
    let user = os_user();
    primary.psql(&format!("DO $$ BEGIN CREATE ROLE \"{user}\"; EXCEPTION WHEN duplicate_object THEN END $$"));
    primary.psql(&format!("ALTER ROLE \"{user}\" LOGIN PASSWORD 'r1ght'"));
    let reload = format!("sudo -u postgres psql {} -c 'SELECT pg_reload_conf()'", place(&primary));
    for refusal in
        ["local all postgres trust\n".to_owned(), format!("local all {user} reject\nlocal all all trust\n")]
    {
        primary.write_hba(&refusal);
        let line = format!("local postgres {user} peer");
        let advice = format!("put `{line}` above the other lines of pg_hba.conf, then: {reload}");
        let dsn = dsn(&primary, &format!("user={user}"));
        admin.is_helped(&dsn, "authentication-failed", &advice, || {
            primary.write_hba(&format!("{line}\n{refusal}"));
        });
    }
    let line = format!("host postgres {user} 127.0.0.1/32 scram-sha-256");
    let advice = format!("put `{line}` above the other lines of pg_hba.conf, then: ");
    let dsn = format!("host=127.0.0.1 port={} user={user} password=r1ght dbname=postgres", primary.port());
    admin.is_helped(&dsn, "authentication-failed", &advice, || {
        primary.write_hba(&format!("{line}\nlocal all postgres trust\n"));
    });
}

#[test]
fn a_missing_database_is_created_by_what_the_line_says() {
    let admin = Admin::new();
    let primary = Cluster::primary();
    let dsn = dsn(&primary, "user=postgres").replace("dbname=postgres", "dbname=checks");
    let command = format!("sudo -u postgres createdb {} checks", place(&primary));
    assert_says(&admin.check(&dsn, &[]), "database-missing", "--dsn dbname=postgres");
    admin.is_helped_by_typing(&dsn, "database-missing", &command);
}

#[test]
fn a_full_server_is_told_how_to_keep_a_place() {
    let admin = Admin::new();
    // Two, for whoever was refused has a place until its process has ended.
    let settings = [("max_connections", "6"), ("superuser_reserved_connections", "2")];
    let primary = Cluster::primary_with(&settings);
    primary.psql("CREATE ROLE pgsqlchk LOGIN");
    let open = || postgres::Client::connect(&dsn(&primary, "user=pgsqlchk"), postgres::NoTls).ok();
    let sessions: Vec<_> = (0..10).map_while(|_| open()).collect();
    let check = dsn(&primary, "user=pgsqlchk");
    let who = format!(
        "sudo -u postgres psql {} -c 'SELECT usename, application_name, count(*) FROM pg_stat_activity GROUP BY 1, 2'",
        place(&primary)
    );
    let keep = "reserved_connections = 2 and GRANT pg_use_reserved_connections TO pgsqlchk";
    assert_says(&admin.check(&check, &[]), "too-many-clients", keep);
    admin.is_helped(&check, "too-many-clients", &who, || {
        // The superuser still has a place, and sees who has the others.
        admin.types(&who);
        drop(sessions);
        eventually(secs(5), "the sessions end", || {
            primary.psql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'pgsqlchk'") == "0"
        });
    });

    primary.psql("ALTER ROLE pgsqlchk CONNECTION LIMIT 0");
    let command =
        format!("sudo -u postgres psql {} -c 'ALTER ROLE pgsqlchk CONNECTION LIMIT -1'", place(&primary));
    admin.is_helped_by_typing(&check, "too-many-clients", &command);
}

#[test]
fn a_missing_privilege_is_granted_by_what_the_line_says() {
    let admin = Admin::new();
    let primary = Cluster::primary();
    primary.psql("CREATE ROLE pgsqlchk LOGIN");
    let dsn = dsn(&primary, "user=pgsqlchk");
    for (revoke, grant) in [
        ("CONNECT ON DATABASE postgres", "GRANT CONNECT ON DATABASE postgres TO pgsqlchk"),
        (
            "EXECUTE ON FUNCTION pg_is_in_recovery()",
            "GRANT EXECUTE ON FUNCTION pg_is_in_recovery() TO pgsqlchk",
        ),
    ] {
        primary.psql(&format!("REVOKE {revoke} FROM PUBLIC"));
        let command = format!("sudo -u postgres psql {} -c '{grant}'", place(&primary));
        admin.is_helped_by_typing(&dsn, "permission-denied", &command);
    }
}

#[test]
fn whatever_the_names_hold_it_is_one_line() {
    let admin = Admin::new();
    let primary = Cluster::primary();
    let outcome = admin.check(&dsn(&primary, "user='two\nlines'"), &[]);
    assert_says(&outcome, "authentication-failed", "createuser");
}
