//! `--mode check`: one look, one line, one exit code.

use std::time::Instant;

use super::one_shot;
use crate::config::{Config, ConnectionSettings};
use crate::instance::{Failure, Needs, Observation, Role};
use crate::reason::Reason;
use crate::verdict::{Target, Verdict, judge};

/// The line for stdout and the exit code: 0 where the target holds, 1 where it does not, 2 where that could not be
/// verified. keepalived, HAProxy's external-check, containers and Nagios all read these.
pub fn run(config: Config) -> (String, u8) {
    let Some(needs) = config.target.needs() else { return ("alive".into(), 0) };
    let needs = Needs { timeline: true, ..needs };
    let deadline = Instant::now() + config.timeout;
    let observation = one_shot::look(config.connection.clone(), config.timeout, needs, deadline);
    report(config.target, &observation, &config.connection)
}

fn report(target: Target, observation: &Observation, settings: &ConnectionSettings) -> (String, u8) {
    let seen = match observation {
        Ok(sighting) => {
            let role = match sighting.role {
                Role::Primary => "primary",
                Role::Standby => "standby",
            };
            match sighting.timeline {
                Some(timeline) => format!("{role} timeline {timeline}"),
                None => role.to_owned(),
            }
        }
        Err(failure) => {
            let advice = advice(failure, settings).map(|what| format!("; {what}")).unwrap_or_default();
            return (format!("unavailable ({}): {}{advice}", failure.reason, failure.cause), 2);
        }
    };
    match judge(target, observation) {
        Verdict::Holds(_) => (seen, 0),
        Verdict::No(reason) => (format!("{seen}: {reason}"), 1),
        Verdict::Down(reason) => (format!("{seen}: {reason}"), 2),
    }
}

/// What to type on the usual first day. The server's texts are told apart in English; in other languages the
/// general advice stands.
fn advice(failure: &Failure, settings: &ConnectionSettings) -> Option<String> {
    let ConnectionSettings { user, database, .. } = settings;
    let cause = failure.cause.as_str();
    match failure.reason {
        Reason::ConnectionRefused => Some(
            "start it (systemctl start postgresql), or say where it is: --dsn 'host=... port=...'".into(),
        ),
        Reason::AuthenticationFailed if cause.contains("does not exist") => {
            Some(format!("create the role: sudo -u postgres createuser {user}"))
        }
        Reason::AuthenticationFailed if cause.contains("Peer authentication failed") => Some(format!(
            "run it as the operating system's user {user}, or map this one: in pg_ident.conf \"agent OSUSER \
             {user}\", in pg_hba.conf \"local {database} {user} peer map=agent\""
        )),
        Reason::AuthenticationFailed if cause.contains("password missing") => Some(format!(
            "put HOST:PORT:{database}:{user}:PASSWORD into ~/.pgpass (mode 0600), or use peer authentication"
        )),
        Reason::AuthenticationFailed if cause.contains("pg_hba.conf") => Some(format!(
            "add to pg_hba.conf: \"local {database} {user} peer\", then: SELECT pg_reload_conf()"
        )),
        Reason::AuthenticationFailed => {
            Some(format!("set the password of {user} anew (\\password {user}) and put it into ~/.pgpass"))
        }
        Reason::DatabaseMissing => Some(format!(
            "create it (sudo -u postgres createdb {database}), or name another: --dsn dbname=..."
        )),
        Reason::TooManyClients => {
            Some("reserve a place: reserved_connections (from PostgreSQL 16 on)".into())
        }
        Reason::PermissionDenied => {
            Some(format!("let {user} in: GRANT CONNECT ON DATABASE {database} TO {user}, or open the socket"))
        }
        Reason::NameNotResolved
        | Reason::Unreachable
        | Reason::PostmasterNotAnswering
        | Reason::NotPostgresql
        | Reason::StartingUp
        | Reason::ShuttingDown
        | Reason::NotAcceptingConnections
        | Reason::ConnectionLost
        | Reason::QueryFailed
        | Reason::DeadlinePassed
        | Reason::AgentOutOfResources
        | Reason::AgentStopping
        | Reason::InRecovery
        | Reason::NotInRecovery
        | Reason::ReadOnly => None,
    }
}
