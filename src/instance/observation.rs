//! What one look at the instance can bring back.

use super::Failure;

/// The two roles an instance can have in streaming replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `pg_is_in_recovery()` was false.
    Primary,
    /// `pg_is_in_recovery()` was true.
    Standby,
}

/// What a request wants to know besides the role; the plain contract wants nothing more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Whether a plain session's transactions start read-only.
    pub writability: bool,
    /// The timeline.
    pub timeline: bool,
}

impl Needs {
    /// What satisfies both.
    pub fn union(self, other: Needs) -> Needs {
        Needs {
            writability: self.writability || other.writability,
            timeline: self.timeline || other.timeline,
        }
    }
}

/// What was seen at an instance that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The role, read in this very probe.
    pub role: Role,
    /// `default_transaction_read_only` as a new session of the agent's role and database would start with;
    /// `None` where nobody needed it.
    pub read_only_default: Option<bool>,
    /// The timeline: of the WAL that a primary writes now, or of a standby's last restartpoint; `None` where
    /// nobody needed it.
    pub timeline: Option<u32>,
}

/// The result of one probe: a sighting, or why there is none.
pub type Observation = Result<Sighting, Failure>;
