//! A login of the agent's that is refused, perhaps it alone: its session goes on answering, and it says so to those who can
//! mend it. A DBA who loses the agent's line in pg_hba.conf, or a server whose connections are all taken, must not lose
//! the whole cluster two seconds later.

mod support;

use std::thread;

use postgres::{Client, NoTls};
use support::new_clients::{
    SOON, agent_with, assert_becomes, assert_refused, assert_stays, errand, log_lines, log_since, primary,
    primary_with, refused_login, status, timely,
};
use support::{Agent, Cluster, agent_check, eventually, exchange, secs};

/// The agent has no database to itself in these.
const LOCAL: &str = "local all postgres,app trust\n";

/// One way to refuse the agent.
struct Refusal<'a> {
    /// What an administrator does.
    refuse: &'a dyn Fn(),
    /// What undoes it.
    mend: &'a dyn Fn(),
    /// What the server says to a new session of the agent's role.
    message: &'a str,
    /// The reason's word.
    word: &'a str,
    /// Part of what there is to type.
    advice: &'a str,
}

/// The whole life of a refusal. `agent` has a session.
#[track_caller]
fn assert_noticed_and_endured(agent: &Agent, dsn: &str, refusal: &Refusal) {
    assert_eq!(timely(agent, "/"), "200 Primary");
    assert_eq!(refused_login(agent), (None, 0.0), "nothing is refused");
    let lines = log_lines(agent);
    (refusal.refuse)();
    assert_refused(dsn, refusal.message);
    let word = Some(refusal.word.to_owned());
    eventually(SOON, "the agent notices", || {
        assert_eq!(timely(agent, "/"), "200 Primary");
        refused_login(agent) == (word.clone(), 1.0)
    });
    let since = status(agent)["login"]["since"].clone();
    assert_stays(agent, "200 Primary");
    let document = status(agent);
    assert_eq!(document["login"]["since"], since, "since its beginning: {document}");
    assert_eq!(document["role"], "primary");
    assert_eq!(agent_check::ask(agent, "/health"), "up ready 100%\n");
    let page = exchange(agent.addr(), b"GET /status HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n");
    let page = page.expect("a page").body;
    assert!(page.contains(refusal.word), "the page says it: {page}");

    let said = log_since(agent, lines);
    assert_eq!(said.len(), 1, "one line, however often it is refused: {said:#?}");
    for part in ["WARN", refusal.message, refusal.advice] {
        assert!(said[0].contains(part), "{part:?} is not in {}", said[0]);
    }

    (refusal.mend)();
    errand(dsn).expect("a new session of the agent's role");
    eventually(SOON, "the agent notices that it may log in", || {
        assert_eq!(timely(agent, "/"), "200 Primary");
        refused_login(agent) == (None, 0.0)
    });
    eventually(secs(5), "the log has one more line", || log_since(agent, lines).len() == 2);
    let said = log_since(agent, lines);
    assert!(said[1].contains("INFO"), "{said:#?}");
    assert_stays(agent, "200 Primary");
    assert_eq!(log_since(agent, lines).len(), 2, "{}", agent.log());
}

/// An agent with all that these tests ask.
fn agent(dsn: &str) -> Agent {
    agent_with(dsn, &agent_check::AGENT_LISTEN)
}

#[test]
fn a_role_that_loses_login_goes_on_with_its_session() {
    let primary = primary();
    let dsn = primary.dsn_of("pgsqlchk");
    assert_noticed_and_endured(
        &agent(&dsn),
        &dsn,
        &Refusal {
            refuse: &|| drop(primary.psql("ALTER ROLE pgsqlchk NOLOGIN")),
            mend: &|| drop(primary.psql("ALTER ROLE pgsqlchk LOGIN")),
            message: "role \"pgsqlchk\" is not permitted to log in",
            word: "authentication-failed",
            advice: "ALTER ROLE pgsqlchk LOGIN",
        },
    );
}

/// Each of them had the session thrown away for a login that would be refused.
#[test]
fn a_setting_that_somebody_changes_then_costs_nothing() {
    let primary = primary();
    let agent = agent(&primary.dsn_of("pgsqlchk"));
    assert_eq!(timely(&agent, "/read-write"), "200 Primary");
    primary.psql("ALTER ROLE pgsqlchk NOLOGIN");
    eventually(SOON, "the agent notices", || {
        assert_eq!(timely(&agent, "/read-write"), "200 Primary");
        refused_login(&agent).0.is_some()
    });
    for change in ["ALTER DATABASE postgres", "ALTER ROLE ALL", "ALTER ROLE pgsqlchk"] {
        primary.psql(&format!("{change} SET work_mem = '5MB'"));
        for path in ["/read-write", "/", "/read-only"] {
            assert_eq!(timely(&agent, path), "200 Primary", "{path} after {change}");
        }
    }
    assert_stays(&agent, "200 Primary");
}

#[test]
fn a_connection_limit_on_the_role_goes_on_with_its_session() {
    let primary = primary();
    let dsn = primary.dsn_of("pgsqlchk");
    assert_noticed_and_endured(
        &agent(&dsn),
        &dsn,
        &Refusal {
            refuse: &|| drop(primary.psql("ALTER ROLE pgsqlchk CONNECTION LIMIT 0")),
            mend: &|| drop(primary.psql("ALTER ROLE pgsqlchk CONNECTION LIMIT -1")),
            message: "too many connections for role \"pgsqlchk\"",
            word: "too-many-clients",
            advice: "ALTER ROLE pgsqlchk CONNECTION LIMIT",
        },
    );
}

#[test]
fn a_connection_limit_on_the_database_goes_on_with_its_session() {
    let primary = primary();
    primary.psql("CREATE DATABASE checks");
    let dsn = primary.dsn_of("pgsqlchk").replace("dbname=postgres", "dbname=checks");
    assert_noticed_and_endured(
        &agent(&dsn),
        &dsn,
        &Refusal {
            refuse: &|| drop(primary.psql("ALTER DATABASE checks CONNECTION LIMIT 0")),
            mend: &|| drop(primary.psql("ALTER DATABASE checks CONNECTION LIMIT -1")),
            message: "too many connections for database \"checks\"",
            word: "too-many-clients",
            advice: "ALTER DATABASE checks CONNECTION LIMIT",
        },
    );
}

#[test]
fn a_revoked_privilege_to_connect_goes_on_with_its_session() {
    let primary = primary();
    let dsn = primary.dsn_of("pgsqlchk");
    assert_noticed_and_endured(
        &agent(&dsn),
        &dsn,
        &Refusal {
            refuse: &|| drop(primary.psql("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")),
            mend: &|| drop(primary.psql("GRANT CONNECT ON DATABASE postgres TO PUBLIC")),
            message: "permission denied for database \"postgres\"",
            word: "permission-denied",
            advice: "GRANT CONNECT ON DATABASE postgres TO pgsqlchk",
        },
    );
}

/// Clients are let in all the time: only the agent's line is lost.
#[test]
fn a_lost_line_in_pg_hba_goes_on_with_its_session_over_socket_and_tcp() {
    let primary = primary();
    let mend = || primary.write_hba("local all all trust\nhost all all 127.0.0.1/32 trust\n");
    let tcp = primary.tcp_dsn().replace("user=postgres", "user=pgsqlchk");
    for dsn in [primary.dsn_of("pgsqlchk"), tcp] {
        mend();
        assert_noticed_and_endured(
            &agent(&dsn),
            &dsn,
            &Refusal {
                refuse: &|| {
                    primary.write_hba(&format!("{LOCAL}host all app 127.0.0.1/32 trust\n"));
                    errand(&primary.dsn_of("app")).expect("clients go on");
                },
                mend: &mend,
                message: "no pg_hba.conf entry",
                word: "authentication-failed",
                advice: "pg_hba.conf",
            },
        );
    }
}

/// The agent cannot tell that it is not alone: the server says the same to each of them.
#[test]
fn a_pg_hba_that_rejects_everybody_goes_on_with_the_session() {
    let primary = primary();
    let mend = || primary.write_hba("local all all trust\nhost all all 127.0.0.1/32 trust\n");
    let tcp = primary.tcp_dsn().replace("user=postgres", "user=pgsqlchk");
    for dsn in [primary.dsn_of("pgsqlchk"), tcp] {
        mend();
        assert_noticed_and_endured(
            &agent(&dsn),
            &dsn,
            &Refusal {
                refuse: &|| {
                    primary.write_hba("local all all reject\nhost all all all reject\n");
                    errand(&primary.dsn_of("app")).expect_err("everybody is rejected");
                },
                mend: &mend,
                message: "pg_hba.conf rejects connection",
                word: "authentication-failed",
                advice: "pg_hba.conf",
            },
        );
    }
}

/// As many sessions as an ordinary role can have.
fn take_all(cluster: &Cluster) -> Vec<Client> {
    let sessions: Vec<Client> =
        (0..40).map_while(|_| Client::connect(&cluster.dsn_of("app"), NoTls).ok()).collect();
    assert!(sessions.len() < 40, "the server refuses at last");
    sessions
}

#[test]
fn a_server_whose_connections_are_all_taken_goes_on_with_its_session() {
    let primary = primary_with(&[("max_connections", "10")]);
    let dsn = primary.dsn_of("pgsqlchk");
    let agent = agent(&dsn);
    let held = std::cell::RefCell::new(Vec::new());
    assert_noticed_and_endured(
        &agent,
        &dsn,
        &Refusal {
            // A replacement under way may have had the place that the agent lacks then.
            refuse: &|| {
                eventually(secs(5), "no place is left", || {
                    held.borrow_mut().extend(take_all(&primary));
                    errand(&dsn).is_err()
                })
            },
            mend: &|| {
                held.borrow_mut().clear();
                eventually(secs(5), "places are free again", || errand(&dsn).is_ok());
            },
            message: "remaining connection slots are reserved",
            word: "too-many-clients",
            advice: "reserved_connections",
        },
    );
}

/// Whatever the reason was: without a session nothing answers but a new one.
#[test]
fn a_session_that_ends_while_logins_are_refused_is_503_and_mended_is_200_again() {
    let primary = primary();
    let agent = agent(&primary.dsn_of("pgsqlchk"));
    assert_eq!(timely(&agent, "/"), "200 Primary");
    primary.psql("ALTER ROLE pgsqlchk NOLOGIN");
    eventually(SOON, "the agent notices", || {
        assert_eq!(timely(&agent, "/"), "200 Primary");
        refused_login(&agent).0.is_some()
    });
    primary
        .psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgsqlchk'");
    assert_becomes(&agent, "503 authentication-failed");
    let fresh = support::new_clients::agent_with(&primary.dsn_of("pgsqlchk"), &[]);
    assert_eq!(timely(&fresh, "/"), "503 authentication-failed", "one that starts now says the same");
    primary.psql("ALTER ROLE pgsqlchk LOGIN");
    for agent in [&agent, &fresh] {
        eventually(secs(4), "it is right again", || timely(agent, "/") == "200 Primary");
        assert_eq!(refused_login(agent), (None, 0.0));
    }
}

/// `pgsqlchk_up` and HAProxy's agent-check have followed above; checks that come all at once do, too.
#[test]
fn a_crowd_of_checks_during_a_refusal_gets_the_sessions_answer_in_time() {
    let primary = primary();
    let agent = agent(&primary.dsn_of("pgsqlchk"));
    assert_eq!(timely(&agent, "/"), "200 Primary");
    primary.psql("ALTER ROLE pgsqlchk CONNECTION LIMIT 0");
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_stays(&agent, "200 Primary"));
        }
    });
}
