//! What `pgsqlchk check` tells to type for a login that fails: it has to be what helps.

mod support;

use support::one_check::OneCheck;
use support::{Agent, Cluster};

/// Through the socket, as this role.
fn place(cluster: &Cluster) -> String {
    format!("-h {} -p {}", cluster.socket_dir().display(), cluster.port())
}

/// Over TCP, where a password is wanted.
fn tcp(cluster: &Cluster, password: &str) -> String {
    format!("host=127.0.0.1 port={} user=pgsqlchk dbname=postgres password={password}", cluster.port())
}

#[track_caller]
fn assert_helped(dsn: &str) {
    let check = OneCheck::run(dsn, &[]);
    assert_eq!((check.code, check.line.as_str()), (0, "primary timeline 1"), "{check:?}");
}

fn with_password() -> Cluster {
    let primary = Cluster::primary();
    primary.psql("CREATE ROLE pgsqlchk LOGIN PASSWORD 'r1ght'");
    primary.write_hba("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n");
    primary
}

/// It was told to set its password anew, which helps nobody: the server does not say why a password no longer counts.
#[test]
fn an_expired_role_is_told_of_valid_until() {
    let primary = with_password();
    let dsn = tcp(&primary, "r1ght");
    assert_helped(&dsn);
    primary.psql("ALTER ROLE pgsqlchk VALID UNTIL '2020-01-01'");
    OneCheck::run(&dsn, &[]).assert_says("authentication-failed", &["VALID UNTIL", "password"]);
    primary.psql("ALTER ROLE pgsqlchk VALID UNTIL 'infinity'");
    assert_helped(&dsn);
    // A wrong password is the same message.
    OneCheck::run(&tcp(&primary, "wr0ng"), &[])
        .assert_says("authentication-failed", &["VALID UNTIL", "\\password pgsqlchk"]);
}

/// It was told to add a `host` line, which lets everybody of the role in without encryption.
#[test]
fn a_server_with_hostssl_lines_only_is_no_case_for_a_host_line_alone() {
    let primary = with_password();
    primary.make_certificate();
    primary.configure(&[("ssl", "on")]);
    primary.write_hba("local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n");
    let check = OneCheck::run(&tcp(&primary, "r1ght"), &[]);
    check.assert_says("authentication-failed", &["TLS", "Unix socket"]);
    assert_helped(&primary.dsn_of("pgsqlchk"));
}

/// It was called "all connections are taken".
#[test]
fn a_connection_limit_is_named_and_the_servers_places_are_not() {
    let primary = Cluster::primary();
    primary.psql("CREATE ROLE pgsqlchk LOGIN CONNECTION LIMIT 1");
    primary.psql("CREATE DATABASE checks");
    let dsn = primary.dsn_of("pgsqlchk");
    // One session that somebody has abandoned.
    let abandoned = postgres::Client::connect(&dsn, postgres::NoTls).expect("the one session");
    let check = OneCheck::run(&dsn, &[]);
    let command =
        format!("sudo -u postgres psql {} -c 'ALTER ROLE pgsqlchk CONNECTION LIMIT", place(&primary));
    check.assert_says("too-many-clients", &["CONNECTION LIMIT", &command]);
    for wrong in ["max_connections", "reserved_connections", "all connections"] {
        assert!(!check.line.contains(wrong), "{wrong}: {}", check.line);
    }
    drop(abandoned);
    primary.psql("ALTER ROLE pgsqlchk CONNECTION LIMIT -1");
    assert_helped(&dsn);

    let dsn = dsn.replace("dbname=postgres", "dbname=checks");
    primary.psql("ALTER DATABASE checks CONNECTION LIMIT 0");
    let check = OneCheck::run(&dsn, &[]);
    check.assert_says("too-many-clients", &["ALTER DATABASE checks CONNECTION LIMIT"]);
    assert!(!check.line.contains("max_connections"), "{}", check.line);
    primary.psql("ALTER DATABASE checks CONNECTION LIMIT -1");
    assert_helped(&dsn);
}

/// Both were called `query-failed`.
#[test]
fn a_login_that_fails_for_everybody_is_login_failed_with_what_to_do() {
    let primary = Cluster::primary();
    primary.psql("CREATE ROLE pgsqlchk LOGIN");
    primary.psql("CREATE DATABASE checks");
    let dsn = primary.dsn_of("pgsqlchk").replace("dbname=postgres", "dbname=checks");
    assert_helped(&dsn);
    primary.psql("ALTER DATABASE checks ALLOW_CONNECTIONS false");
    OneCheck::run(&dsn, &[]).assert_says(
        "login-failed",
        &["not currently accepting connections", "ALTER DATABASE checks ALLOW_CONNECTIONS true"],
    );
    primary.psql("ALTER DATABASE checks ALLOW_CONNECTIONS true");
    assert_helped(&dsn);

    for (setting, library) in
        [("session_preload_libraries", "no_such_library"), ("local_preload_libraries", "no_such_plugin")]
    {
        primary.configure(&[(setting, library)]);
        OneCheck::run(&dsn, &[]).assert_says("login-failed", &[library, "session_preload_libraries"]);
        primary.configure(&[(setting, "")]);
        assert_helped(&dsn);
    }
    // What a role is given by ALTER ROLE reaches its own sessions alone, and the server says the same.
    primary.psql("ALTER ROLE pgsqlchk SET session_preload_libraries = 'no_such_library'");
    OneCheck::run(&dsn, &[]).assert_says("login-failed", &["no_such_library", "session_preload_libraries"]);
    primary.psql("ALTER ROLE pgsqlchk RESET session_preload_libraries");
    assert_helped(&dsn);
}

/// It had nothing of what a check says.
#[test]
fn the_log_of_an_agent_says_what_to_type_as_a_check_does() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn_of("pgsqlchk")]);
    let create =
        format!("create the role, on the primary: sudo -u postgres createuser {} pgsqlchk", place(&primary));
    for _ in 0..3 {
        assert_eq!(agent.get("/").line(), "503 authentication-failed");
    }
    agent.wait_for_log(&create);
    assert_eq!(agent.log().matches(&create).count(), 1, "once for each change: {}", agent.log());
    primary.psql("CREATE ROLE pgsqlchk LOGIN");
    support::eventually(support::secs(10), "it is let in", || agent.get("/").line() == "200 Primary");
}
