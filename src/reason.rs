//! The closed list of reasons: every word that a 503 can carry, in one table.
//!
//! HAProxy copies the reason phrase of a failed check into its log, its stats page and `show stat`, so these
//! words are what a DBA reads first. They never contain text from the server; that goes to the log.

use std::fmt;

macro_rules! reasons {
    ($($(#[doc = $meaning:literal])+ $variant:ident => $word:literal,)+) => {
        /// Why an answer is not the one the caller hoped for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $meaning])+ $variant,)+
        }

        impl Reason {
            /// Every reason there is, in the order of the table in docs/answers.md.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)+];

            /// The word that stands in status lines, bodies, logs and metrics.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Reason::$variant => $word,)+
                }
            }

            /// What it means, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Reason::$variant => concat!($($meaning,)+).trim_ascii_start(),)+
                }
            }
        }
    };
}

reasons! {
    /// Nothing listens at the socket or port, or the socket file does not exist.
    ConnectionRefused => "connection-refused",
    /// The agent's user may not use the socket, or its role lacks a privilege (SQLSTATE 42501).
    PermissionDenied => "permission-denied",
    /// The host name of the connection settings has no address.
    NameNotResolved => "name-not-resolved",
    /// The network has no way to the server, or swallows what is sent there.
    Unreachable => "unreachable",
    /// The socket accepts, but the postmaster does not answer the knock.
    PostmasterNotAnswering => "postmaster-not-answering",
    /// Whoever answers does not speak PostgreSQL's protocol.
    NotPostgresql => "not-postgresql",
    /// The server refuses the login (SQLSTATE class 28), or wants a password that is not configured.
    AuthenticationFailed => "authentication-failed",
    /// The server and this agent do not agree on TLS: its certificate is not believed, or ours, or it speaks none.
    TlsFailed => "tls-failed",
    /// The database of the connection settings does not exist (SQLSTATE 3D000).
    DatabaseMissing => "database-missing",
    /// The server refuses every login to this database, with an error that no other reason stands for.
    LoginFailed => "login-failed",
    /// All connection slots are taken, or all that role or database may have (SQLSTATE 53300).
    TooManyClients => "too-many-clients",
    /// The server starts, or recovers and is not consistent yet (SQLSTATE 57P03).
    StartingUp => "starting-up",
    /// The server shuts down (SQLSTATE 57P03), or has ended its sessions because one crashed (57P02).
    ShuttingDown => "shutting-down",
    /// The server refuses connections and does not say that it starts or stops (SQLSTATE 57P03).
    NotAcceptingConnections => "not-accepting-connections",
    /// The server closed the connection in the middle of login or query.
    ConnectionLost => "connection-lost",
    /// Somebody ends the agent's sessions, again and again (SQLSTATE 57P01), on a server that goes on.
    SessionTerminated => "session-terminated",
    /// Somebody cancels the agent's query, again and again (SQLSTATE 57014).
    QueryCanceled => "query-canceled",
    /// The server answered the query with an error, or with something else than a role.
    QueryFailed => "query-failed",
    /// The deadline (`--timeout`) passed before everything needed was observed.
    DeadlinePassed => "deadline-passed",
    /// The agent itself is short of descriptors, threads or memory.
    AgentOutOfResources => "agent-out-of-resources",
    /// The agent was told to stop and could not wait for the answer.
    AgentStopping => "agent-stopping",
    /// The agent cannot start with the configuration that it was given.
    BadConfiguration => "bad-configuration",
    /// Observed: the instance is a standby, and the path asks for a primary.
    InRecovery => "in-recovery",
    /// Observed: the instance is a primary, and the path asks for a standby.
    NotInRecovery => "not-in-recovery",
    /// Observed: a primary on which a plain session's transactions start read-only.
    ReadOnly => "read-only",
    /// Observed: a restore on its way to a recovery target, and the path asks for a standby.
    Restoring => "restoring",
    /// Observed: a standby without a WAL receiver, and streaming is asked for.
    NoWalReceiver => "no-wal-receiver",
    /// Observed: the WAL receiver is not streaming, and streaming is asked for.
    NotStreaming => "not-streaming",
    /// Observed: replay is paused, and running replay is asked for.
    ReplayPaused => "replay-paused",
    /// Observed: replay is delayed on purpose, and running replay is asked for.
    ReplayDelayed => "replay-delayed",
    /// Observed: the standby lags more than allowed.
    LagExceeded => "lag-exceeded",
    /// A limit on the lag is set, and the lag cannot be known.
    LagUnknown => "lag-unknown",
    /// Observed: a standby that the primary counts otherwise for its commits than is asked for.
    OtherSyncState => "other-sync-state",
    /// How the primary counts this standby for its commits is asked, and nobody can tell.
    SyncStateUnknown => "sync-state-unknown",
    /// Observed: a standby of a primary or standby of this cluster, and one that receives from outside is asked for.
    NotStandbyLeader => "not-standby-leader",
    /// A standby that receives from outside the cluster is asked for, and nobody can tell from where this one does.
    SenderUnknown => "sender-unknown",
    /// The request names a tag that this node does not have (`--tag`).
    OtherTag => "other-tag",
    /// A standby that is not to get any reads (`--tag noloadbalance=true`).
    NoLoadBalance => "noloadbalance",
    /// Observed: the drain file exists.
    Draining => "draining",
    /// The system does not say whether the drain file exists.
    DrainUnknown => "drain-unknown",
    /// Another node of the cluster was seen on a higher timeline: what is written to this primary is lost.
    Superseded => "superseded",
    /// Another node of the cluster is a primary on the same timeline, and nobody can tell whose writes are to stay.
    TwoPrimaries => "two-primaries",
    /// A primary whose agent hears from fewer peers than `--min-peers` asks for.
    Isolated => "isolated",
    /// What clients of this node go through (`--pooler`) does not answer the knock.
    PoolerNotAnswering => "pooler-not-answering",
    /// A primary on which no commit came back in time (`--write-probe`), or none that its synchronous standbys confirmed.
    WriteStalled => "write-stalled",
    /// A primary on which a commit (`--write-probe`) ended with an error.
    WriteFailed => "write-failed",
    /// What HAProxy's agent-check sends is no target.
    BadRequest => "bad-request",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn every_word_is_distinct_and_safe_in_a_status_line() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            let word = reason.word();
            assert!(word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{word}");
            assert!(Reason::ALL[index + 1..].iter().all(|other| other.word() != word), "{word} twice");
        }
    }
}
