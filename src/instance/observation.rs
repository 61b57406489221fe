//! What one look at the instance can bring back. What was not observed is `None`, never a default.

use std::time::Duration;

use super::{AttachedStandby, Evidence, Failure, Identity, LoginRefused, Lsn, Recovery};

/// The two roles an instance can have in streaming replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `pg_is_in_recovery()` was false.
    Primary,
    /// `pg_is_in_recovery()` was true.
    Standby,
}

impl Role {
    /// The word that stands in logs and documents.
    pub const fn word(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Standby => "standby",
        }
    }
}

/// What a request wants to know besides the role; the plain contract wants nothing more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Whether a plain session's transactions start read-only.
    pub writability: bool,
    /// The timeline.
    pub timeline: bool,
    /// Whether replay is paused, and whether it is that of a restore.
    pub recovery: bool,
    /// With `recovery`, also whether it is delayed on purpose.
    pub replay_delay: bool,
    /// How far a standby is, and whether it receives.
    pub replication: bool,
    /// With `replication`, also who sends: no verdict needs it, and it costs twice as much again.
    pub sender: bool,
    /// With `replication`, also by which names the sender knows the receiver.
    pub names: bool,
    /// Which server this is.
    pub server: bool,
    /// Where a primary writes.
    pub position: bool,
    /// Which instance this is, and a primary's timeline.
    pub identity: bool,
    /// Who receives WAL from this node.
    pub standbys: bool,
    /// Whether the drain file is there.
    pub drain: bool,
    /// The instance, also while the drain file is there.
    pub despite_drain: bool,
}

impl Needs {
    /// What satisfies both.
    pub fn union(self, other: Needs) -> Needs {
        Needs {
            writability: self.writability || other.writability,
            timeline: self.timeline || other.timeline,
            recovery: self.recovery || other.recovery,
            replay_delay: self.replay_delay || other.replay_delay,
            replication: self.replication || other.replication,
            sender: self.sender || other.sender,
            names: self.names || other.names,
            server: self.server || other.server,
            position: self.position || other.position,
            identity: self.identity || other.identity,
            standbys: self.standbys || other.standbys,
            drain: self.drain || other.drain,
            despite_drain: self.despite_drain || other.despite_drain,
        }
    }
}

/// The result of one look.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The drain file, as it was before the instance was asked.
    pub drain: Drain,
    /// A sighting of the instance, or why there is none; `None` where it drains, so that nobody needed one.
    pub instance: Option<Result<Sighting, Failure>>,
    /// How long the look took; `None` where its end was not waited for.
    pub took: Option<Duration>,
    /// What other nodes' words add to it.
    pub evidence: Evidence,
}

impl Observation {
    /// A look by itself.
    pub fn new(
        drain: Drain,
        instance: Option<Result<Sighting, Failure>>,
        took: Option<Duration>,
    ) -> Observation {
        Observation { drain, instance, took, evidence: Evidence::default() }
    }

    /// No look came to an end.
    pub fn failed(failure: Failure) -> Observation {
        Observation::new(Drain::NotLooked, Some(Err(failure)), None)
    }

    /// What was seen of the instance, if anything was.
    pub fn sighting(&self) -> Option<&Sighting> {
        self.instance.as_ref()?.as_ref().ok()
    }

    /// Why nothing was seen of it.
    pub fn failure(&self) -> Option<&Failure> {
        self.instance.as_ref()?.as_ref().err()
    }
}

/// What a look for the drain file can find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Nobody needed to know.
    NotLooked,
    /// There is no such file.
    Off,
    /// The file exists.
    On,
    /// The system would not say.
    Unknown,
}

/// What was seen at an instance that answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    /// The role, read in this very probe.
    pub role: Role,
    /// `default_transaction_read_only` as a new session of the agent's role and database would start with;
    /// `None` where nobody needed it.
    pub read_only_default: Option<bool>,
    /// The timeline: of the WAL that a primary writes now; of the WAL that a standby received last, where that is
    /// visible, or else of its last restartpoint, and no lower than this postmaster was seen on before. `None` where nobody
    /// needed it.
    pub timeline: Option<u32>,
    /// `None` on a primary, and where nobody needed it.
    pub recovery: Option<Recovery>,
    /// `None` on a primary, and where nobody needed it.
    pub replication: Option<Replication>,
    /// `None` where nobody needed it.
    pub server: Option<Server>,
    /// Where a primary writes WAL now; `None` on a standby, and where nobody needed it.
    pub position: Option<Lsn>,
    /// `None` where nobody needed it.
    pub identity: Option<Identity>,
    /// Who receives WAL from a primary, [`MAX_STANDBYS`](super::MAX_STANDBYS) at most; `None` on a standby, where the role
    /// may not see it, and where nobody needed it.
    pub standbys: Option<Vec<AttachedStandby>>,
    /// The same of a standby; `None` on a primary.
    pub cascaded: Option<Vec<AttachedStandby>>,
    /// The last login was refused, perhaps to the agent alone, and this session has outlasted that.
    pub login_refused: Option<LoginRefused>,
}

impl Sighting {
    /// Nothing but the role.
    pub fn of_role(role: Role) -> Sighting {
        Sighting {
            role,
            read_only_default: None,
            timeline: None,
            recovery: None,
            replication: None,
            server: None,
            position: None,
            identity: None,
            standbys: None,
            cascaded: None,
            login_refused: None,
        }
    }
}

/// What a standby says of its replication (PostgreSQL manual, section 9.28.4, "Recovery Control Functions").
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replication {
    /// `pg_last_wal_replay_lsn()`.
    pub replayed: Option<Lsn>,
    /// `pg_last_wal_receive_lsn()`: received and synced to disk; `None` where nothing was ever received.
    pub received: Option<Lsn>,
    /// How long ago the last replayed commit or abort was made, by the clocks of primary and standby; `None` where
    /// none was replayed since the start. Clocks that disagree make it too large or zero.
    pub last_commit_age: Option<Duration>,
    /// The WAL receiver; `None` where there is none.
    pub receiver: Option<Receiver>,
}

impl Replication {
    /// There is a WAL receiver, and the agent's role may not see more of it.
    pub fn hides_details(&self) -> bool {
        self.receiver.as_ref().is_some_and(|receiver| receiver.details.is_none())
    }
}

/// A WAL receiver that exists: its row in `pg_stat_wal_receiver` is visible without privileges.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Receiver {
    /// `wal_receiver_timeout`; `None` where it is off.
    pub timeout: Option<Duration>,
    /// What only `pg_monitor` may see; `None` where the role may not.
    pub details: Option<ReceiverDetails>,
}

/// The columns of `pg_stat_wal_receiver` (PostgreSQL manual, section 27.2.5).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReceiverDetails {
    /// `status`: `streaming`, `starting`, `waiting`, `restarting`, `stopping`.
    pub status: String,
    /// `latest_end_lsn`: the end of the sender's WAL as of its last message.
    pub latest_end: Option<Lsn>,
    /// How long ago the last message came; `None` while the sender may yet refuse a receiver that has just connected.
    pub last_message_age: Option<Duration>,
    /// The sender has spoken since the receiver connected.
    pub has_heard: bool,
    /// `sender_host`, from PostgreSQL 11 on; this and what follows is `None` where nobody needed it.
    pub sender_host: Option<String>,
    /// `sender_port`, from PostgreSQL 11 on.
    pub sender_port: Option<u16>,
    /// `slot_name`.
    pub slot_name: Option<String>,
    /// The name by which the sender knows the receiver: `application_name` of its connection.
    pub application_name: Option<String>,
}

impl ReceiverDetails {
    /// It brings WAL, and does not connect, wait or end.
    pub fn streams(&self) -> bool {
        self.status == "streaming"
    }
}

/// Which server this is.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// The same for a primary and all its standbys (`pg_control_system()`).
    pub system_identifier: u64,
    /// `server_version`.
    pub version: String,
    /// `pg_postmaster_start_time()`, in seconds since 1970.
    pub started_unix_s: f64,
}
