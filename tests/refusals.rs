//! PostgreSQL lets the agent not in: the right code and reason, and 200 by itself as soon as the cause is gone,
//! without a restart of the agent.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use support::folder::Folder;
use support::patience::{assert_down, assert_heals_soon};
use support::{Agent, Cluster, eventually, millis, secs, throughout};

/// The server's pg_hba.conf: one role for every way to be refused.
const HBA: &str = "\
local all checker scram-sha-256
local all rejected reject
local all peered peer
local all all trust
host all all 127.0.0.1/32 trust
";

/// A primary with the roles of `HBA`.
fn primary_with_roles() -> Cluster {
    let primary = Cluster::primary();
    for role in ["checker PASSWORD 'right'", "rejected", "peered", "limited CONNECTION LIMIT 0", "plain"] {
        primary.psql(&format!("CREATE ROLE {role} LOGIN"));
    }
    primary.psql("CREATE ROLE nologin NOLOGIN");
    primary.write_hba(HBA);
    primary
}

/// A connection string over the cluster's socket.
fn dsn(cluster: &Cluster, rest: &str) -> String {
    format!("host={} port={} {rest}", cluster.socket_dir().display(), cluster.port())
}

#[test]
fn every_refusal_of_postgresql_has_its_reason() {
    let primary = primary_with_roles();
    let rows = [
        ("user=nobody_has_this_name dbname=postgres", "authentication-failed"),
        ("user=nologin dbname=postgres", "authentication-failed"),
        ("user=rejected dbname=postgres", "authentication-failed"),
        ("user=peered dbname=postgres", "authentication-failed"),
        ("user=checker dbname=postgres", "authentication-failed"),
        ("user=checker password=wrong dbname=postgres", "authentication-failed"),
        ("user=postgres dbname=nothing_has_this_name", "database-missing"),
        ("user=limited dbname=postgres", "too-many-clients"),
    ];
    for (rest, reason) in rows {
        let mut agent = Agent::start(&["--dsn", &dsn(&primary, rest)]);
        assert_down(&agent, reason);
        agent.terminate();
        let log = agent.log();
        assert!(log.contains(&format!("unknown -> unavailable ({reason})")), "{rest}: {log}");
        assert_eq!(log.lines().count(), 3, "listening, the cause on one line, stopping: {log}");
        assert!(!log.contains("wrong"), "a password stays out of the log: {log}");
    }
}

#[test]
fn a_password_made_right_in_postgresql_heals_by_itself() {
    let primary = primary_with_roles();
    let agent = Agent::start(&["--dsn", &dsn(&primary, "user=checker password=other dbname=postgres")]);
    assert_down(&agent, "authentication-failed");
    primary.psql("ALTER ROLE checker PASSWORD 'other'");
    assert_heals_soon(&agent);
}

#[test]
fn a_password_made_right_in_the_passfile_heals_by_itself() {
    let primary = primary_with_roles();
    let folder = Folder::new("passfile");
    let passfile = folder.write("pgpass", "*:*:*:checker:wrong\n");
    fs::set_permissions(&passfile, fs::Permissions::from_mode(0o600)).expect("chmod the passfile");
    let dsn = dsn(&primary, "user=checker dbname=postgres");
    let agent = Agent::start_with(|command| {
        command.args(["--dsn", &dsn]).env("PGPASSFILE", &passfile);
    });
    assert_down(&agent, "authentication-failed");
    folder.write("pgpass", "*:*:*:checker:right\n");
    assert_heals_soon(&agent);
}

#[test]
fn a_role_and_a_database_made_later_are_found_by_themselves() {
    let primary = primary_with_roles();
    let role = Agent::start(&["--dsn", &dsn(&primary, "user=later dbname=postgres")]);
    let database = Agent::start(&["--dsn", &dsn(&primary, "user=postgres dbname=later")]);
    assert_down(&role, "authentication-failed");
    assert_down(&database, "database-missing");
    primary.psql("CREATE ROLE later LOGIN");
    primary.psql("CREATE DATABASE later");
    assert_heals_soon(&role);
    assert_heals_soon(&database);
}

#[test]
fn a_missing_privilege_is_permission_denied() {
    let primary = primary_with_roles();
    let agent = Agent::start(&["--dsn", &dsn(&primary, "user=plain dbname=postgres")]);
    primary.psql("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC");
    assert_down(&agent, "permission-denied");
    primary.psql("GRANT CONNECT ON DATABASE postgres TO PUBLIC");
    assert_heals_soon(&agent);
    primary.psql("REVOKE EXECUTE ON FUNCTION pg_is_in_recovery() FROM PUBLIC");
    assert_down(&agent, "permission-denied");
    primary.psql("GRANT EXECUTE ON FUNCTION pg_is_in_recovery() TO PUBLIC");
    assert_heals_soon(&agent);
}

/// Opens sessions until PostgreSQL takes no more.
fn fill(cluster: &Cluster) -> Vec<postgres::Client> {
    let open = || postgres::Client::connect(&cluster.dsn(), postgres::NoTls);
    let sessions: Vec<_> = (0..50).map_while(|_| open().ok()).collect();
    assert!(sessions.len() < 50, "max_connections is reached");
    sessions
}

const FEW: &[(&str, &str)] = &[("max_connections", "5"), ("superuser_reserved_connections", "0")];

#[test]
fn without_a_session_of_its_own_an_exhausted_max_connections_is_too_many_clients() {
    let primary = Cluster::primary_with(FEW);
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    let sessions = fill(&primary);
    assert_eq!(sessions.len(), 5);
    assert_down(&agent, "too-many-clients");
    drop(sessions);
    assert_heals_soon(&agent);
}

#[test]
fn with_a_session_of_its_own_an_exhausted_max_connections_changes_nothing() {
    let primary = Cluster::primary_with(FEW);
    // A knock is good for 10 ms here, so that many of the checks prove that it works in a full house, too.
    let agent = Agent::start(&["--dsn", &primary.dsn(), "--knock-interval", "10ms"]);
    assert_eq!(agent.get("/").line(), "200 Primary");
    let mut sessions = fill(&primary);
    assert_eq!(sessions.len(), 4, "the agent has the fifth");
    throughout(millis(300), || assert_eq!(agent.get("/").line(), "200 Primary"));
    // Its session ends and another client takes the place: now it is out, and says so.
    let terminate =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgsqlchk'";
    sessions[0].query(terminate, &[]).expect("terminate the agent's session");
    eventually(secs(5), "another client has the fifth place", || {
        sessions.extend(postgres::Client::connect(&primary.dsn(), postgres::NoTls).ok());
        sessions.len() == 5
    });
    assert_down(&agent, "too-many-clients");
    drop(sessions);
    assert_heals_soon(&agent);
}
