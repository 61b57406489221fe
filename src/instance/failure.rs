//! From the ways in which connecting and asking can fail to one [`Reason`] and one line for the log.

use std::error::Error;
use std::io;

use postgres::error::DbError;

use super::channel::{self, NotOpened};
use crate::reason::Reason;

/// A handshake that fails is as much in the server's log ("could not accept SSL connection", and a hint).
const LINES_OF_A_HANDSHAKE: u32 = 2;

/// Why a probe brought back no sighting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The word for the reply.
    pub reason: Reason,
    /// The whole cause chain on one line, for the log only: it may hold text from the server.
    pub cause: String,
    /// What to type, for the log only; where nobody has worked that out, `None`.
    pub advice: Option<String>,
    /// What the server itself said, where it said anything.
    pub(super) refusal: Option<Refusal>,
}

/// An error message from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// How many lines it is in the server's log, as far as can be told from here.
    pub(super) lines: u32,
}

/// What the server was asked for when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A new session.
    Login,
    /// The answer to a query.
    Query,
}

impl Failure {
    /// A failure with its cause, folded to one line.
    pub fn new(reason: Reason, cause: impl AsRef<str>) -> Failure {
        Failure { reason, cause: one_line(cause.as_ref()), advice: None, refusal: None }
    }

    /// Whether a refused login says nothing of other clients: it may be that this role, this host or this password is
    /// not let in, or that the connections meant for it are taken, while everybody else is served as ever.
    pub(super) fn concerns_perhaps_the_agent_alone(&self) -> bool {
        match self.reason {
            // Class 28, or a password that only the agent lacks.
            Reason::AuthenticationFailed => true,
            // 53300 and 42501; the system's own "permission denied" is no refusal by the server.
            Reason::TooManyClients | Reason::PermissionDenied => self.refusal.is_some(),
            _ => false,
        }
    }

    /// Whether somebody ended this session or cancelled this query, which says nothing of the next one.
    pub(super) fn is_disturbance(&self) -> bool {
        matches!(self.reason, Reason::SessionTerminated | Reason::QueryCanceled)
    }

    /// Whether it says no more than that nobody was reached at this address.
    pub(super) fn is_next_address_worth_it(&self) -> bool {
        matches!(
            self.reason,
            Reason::ConnectionRefused | Reason::Unreachable | Reason::PostmasterNotAnswering
        )
    }

    /// What a failed system call on the way to the server means. `place` names the address.
    pub fn from_io(place: &str, error: &io::Error) -> Failure {
        let (reason, hint) = match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                (Reason::ConnectionRefused, " (is PostgreSQL running?)")
            }
            io::ErrorKind::PermissionDenied => {
                (Reason::PermissionDenied, " (may the agent's user enter the socket's directory?)")
            }
            // A socket with a full backlog answers EAGAIN: nobody accepts any more.
            io::ErrorKind::WouldBlock => (Reason::PostmasterNotAnswering, ""),
            io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                (Reason::Unreachable, "")
            }
            io::ErrorKind::OutOfMemory => (Reason::AgentOutOfResources, ""),
            _ if is_exhaustion(error) => (Reason::AgentOutOfResources, ""),
            _ => (Reason::ConnectionLost, ""),
        };
        Failure::new(reason, format!("{place}: {error}{hint}"))
    }

    /// Why there is no session.
    pub(super) fn from_login(place: &str, error: &NotOpened) -> Failure {
        match error {
            NotOpened::Driver(error) => Failure::from_postgres(place, error, Asked::Login),
            #[cfg(feature = "tls")]
            NotOpened::Unwanted(what) => Failure::of_tls(place, what),
        }
    }

    fn of_tls(place: &str, what: &str) -> Failure {
        let refusal = Some(Refusal { lines: LINES_OF_A_HANDSHAKE });
        Failure { refusal, ..Failure::new(Reason::TlsFailed, format!("{place}: {what}")) }
    }

    /// What an error of the `postgres` crate means. Its `Display` alone is just "db error", so the cause
    /// chain is walked.
    pub(super) fn from_postgres(place: &str, error: &postgres::Error, asked: Asked) -> Failure {
        if let Some(what) = channel::trouble(error) {
            return Failure::of_tls(place, &what);
        }
        let reason = if let Some(refusal) = error.as_db_error() {
            reason_of_sqlstate(refusal.code().code(), refusal.message(), asked)
        } else if is_nonsense(error) {
            Reason::NotPostgresql
        } else if let Some(cause) = find_io_error(error) {
            return Failure::from_io(place, cause);
        } else if error.is_closed() {
            Reason::ConnectionLost
        } else if is_login_refused_by_client(error) {
            Reason::AuthenticationFailed
        } else {
            otherwise(asked)
        };
        let refusal = error.as_db_error().map(|error| Refusal { lines: lines_in_log(error) });
        Failure { refusal, ..Failure::new(reason, format!("{place}: {}", cause_chain(error))) }
    }
}

/// The reason of an error that no other one stands for.
fn otherwise(asked: Asked) -> Reason {
    match asked {
        Asked::Login => Reason::LoginFailed,
        Asked::Query => Reason::QueryFailed,
    }
}

/// The message, DETAIL, HINT and CONTEXT are a line each (PostgreSQL manual, log_error_verbosity). Why a login is not
/// let in (class 28) stands in the log alone: the server writes a DETAIL of up to two lines that it does not send.
fn lines_in_log(error: &DbError) -> u32 {
    if error.code().code().starts_with("28") {
        return 3;
    }
    let more = [error.detail(), error.hint(), error.where_()];
    1 + more.into_iter().flatten().map(|text| u32::try_from(text.lines().count()).unwrap_or(1)).sum::<u32>()
}

/// PostgreSQL manual, appendix A (error codes). `message` is only consulted where one code has two meanings.
fn reason_of_sqlstate(code: &str, message: &str, asked: Asked) -> Reason {
    match code {
        "3D000" => Reason::DatabaseMissing,
        "42501" => Reason::PermissionDenied,
        "53300" => Reason::TooManyClients,
        // admin_shutdown: pg_terminate_backend() says the same to one session as a fast shutdown to all. Whoever logs in
        // again learns which.
        "57P01" => Reason::SessionTerminated,
        "57P02" => Reason::ShuttingDown,
        // cannot_connect_now: the same code for a server that starts and one that stops. The texts are those of
        // backend_startup.c (postmaster.c before 17); a server with translated messages is told apart by none.
        "57P03" if message.contains("shutting down") => Reason::ShuttingDown,
        "57P03" if message.contains("starting up") => Reason::StartingUp,
        "57P03" if message.contains("in recovery mode") => Reason::StartingUp,
        "57P03" if message.contains("not yet accepting connections") => Reason::StartingUp,
        "57P03" => Reason::NotAcceptingConnections,
        "57014" => Reason::QueryCanceled,
        _ if code.starts_with("28") => Reason::AuthenticationFailed,
        _ => otherwise(asked),
    }
}

/// The crate refuses a login by itself where no password is configured or the method is unknown to it; it offers
/// no accessor for that, only these texts.
fn is_login_refused_by_client(error: &postgres::Error) -> bool {
    let text = error.to_string();
    text.starts_with("invalid configuration") || text.starts_with("authentication error")
}

/// What came is no message (a length or a tag that cannot be, fields beyond its end), or none that could come here. The
/// crate says the former with `io::Error`s of its own, of these kinds, and the latter with this text only. A connection
/// that ends has others.
fn is_nonsense(error: &postgres::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    let kind = find_io_error(error).map(io::Error::kind);
    matches!(kind, Some(InvalidData | InvalidInput | UnexpectedEof))
        || error.to_string().starts_with("unexpected message from server")
}

/// EMFILE and ENFILE have no stable `ErrorKind`.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

fn find_io_error(error: &postgres::Error) -> Option<&io::Error> {
    let mut next = error.source();
    while let Some(source) = next {
        if let Some(found) = source.downcast_ref::<io::Error>() {
            return Some(found);
        }
        next = source.source();
    }
    None
}

/// Without the outermost text where there is a cause: it says no more than "db error".
fn cause_chain(error: &postgres::Error) -> String {
    let (mut text, mut next) = match error.source() {
        Some(cause) => (cause.to_string(), cause.source()),
        None => (error.to_string(), None),
    };
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// Server messages may hold line breaks and control characters; a log line may not.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_map_to_reasons() {
        let table = [
            ("28P01", "password authentication failed", Reason::AuthenticationFailed),
            ("28000", "role \"x\" does not exist", Reason::AuthenticationFailed),
            ("3D000", "database \"x\" does not exist", Reason::DatabaseMissing),
            ("42501", "permission denied for database", Reason::PermissionDenied),
            ("53300", "sorry, too many clients already", Reason::TooManyClients),
            ("57P01", "terminating connection", Reason::SessionTerminated),
            (
                "57P02",
                "terminating connection because of crash of another server process",
                Reason::ShuttingDown,
            ),
            ("57014", "canceling statement due to user request", Reason::QueryCanceled),
            ("57P03", "the database system is starting up", Reason::StartingUp),
            ("57P03", "the database system is in recovery mode", Reason::StartingUp),
            ("57P03", "the database system is not yet accepting connections", Reason::StartingUp),
            ("57P03", "the database system is shutting down", Reason::ShuttingDown),
            ("57P03", "the database system is not accepting connections", Reason::NotAcceptingConnections),
            ("57P03", "das Datenbanksystem startet", Reason::NotAcceptingConnections),
            ("42883", "function does not exist", Reason::QueryFailed),
        ];
        for (code, message, expected) in table {
            assert_eq!(reason_of_sqlstate(code, message, Asked::Query), expected, "{code} {message}");
        }
        for code in ["58P01", "55000", "XX000"] {
            assert_eq!(reason_of_sqlstate(code, "", Asked::Login), Reason::LoginFailed, "{code}");
        }
    }

    #[test]
    fn system_errors_map_to_reasons() {
        use rustix::io::Errno;
        let table = [
            (Errno::CONNREFUSED, Reason::ConnectionRefused),
            (Errno::NOENT, Reason::ConnectionRefused),
            (Errno::ACCESS, Reason::PermissionDenied),
            (Errno::AGAIN, Reason::PostmasterNotAnswering),
            (Errno::TIMEDOUT, Reason::Unreachable),
            (Errno::HOSTUNREACH, Reason::Unreachable),
            (Errno::NETUNREACH, Reason::Unreachable),
            (Errno::MFILE, Reason::AgentOutOfResources),
            (Errno::NFILE, Reason::AgentOutOfResources),
            (Errno::CONNRESET, Reason::ConnectionLost),
            (Errno::PIPE, Reason::ConnectionLost),
        ];
        for (errno, expected) in table {
            let error = io::Error::from(errno);
            assert_eq!(Failure::from_io("here", &error).reason, expected, "{errno:?}");
        }
    }

    #[test]
    fn causes_are_one_line() {
        let failure = Failure::new(Reason::QueryFailed, "FATAL:  no\n\tHINT: \u{1b}[31mtry\r\n");
        assert_eq!(failure.cause, "FATAL: no HINT: [31mtry");
    }
}
