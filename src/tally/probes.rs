//! Looks at the instance: how they ended, how long they took, and how often the role was another one.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::instance::{Observation, Role};
use crate::reason::Reason;

/// Upper bounds of the histogram's buckets, in microseconds. A look over the reused session takes some tens of them,
/// a login milliseconds, and the default deadline is 2 s.
pub const BUCKETS_US: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000,
];

/// How a look at the instance can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It saw this role.
    Role(Role),
    /// It saw no role; `draining`: it needed none.
    Reason(Reason),
}

impl Outcome {
    fn of(observation: &Observation) -> Outcome {
        match &observation.instance {
            Some(Ok(sighting)) => Outcome::Role(sighting.role),
            Some(Err(failure)) => Outcome::Reason(failure.reason),
            None => Outcome::Reason(Reason::Draining),
        }
    }

    /// The word that stands in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Outcome::Role(role) => role.word(),
            Outcome::Reason(reason) => reason.word(),
        }
    }
}

/// Looks at the instance.
pub struct Probes {
    by_role: [AtomicU64; 2],
    by_reason: [AtomicU64; Reason::ALL.len()],
    /// By the first bound that is not below the duration; the last one is for those above all bounds.
    by_duration: [AtomicU64; BUCKETS_US.len() + 1],
    total_ns: AtomicU64,
    role_changes: AtomicU64,
    /// The role that was seen last, as its number and 1; 0: none yet.
    last_role: AtomicU8,
    abandoned: AtomicU64,
    is_writing: AtomicBool,
}

/// A write probe is under way.
pub struct Writing<'a>(&'a AtomicBool);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

/// How looks at the instance went.
pub struct ProbeCounts {
    by_role: [u64; 2],
    by_reason: [u64; Reason::ALL.len()],
    /// How many took at most as long as the bound of the same place in [`BUCKETS_US`]; the last one: all.
    pub at_most: [u64; BUCKETS_US.len() + 1],
    /// How long they took together, in seconds.
    pub total_s: f64,
    /// How often the role was another one than that seen last, whatever was between.
    pub role_changes: u64,
    /// Looks that were given up and still hang in the server now.
    pub abandoned: u64,
}

/// By hand, for the standard library knows no default of an array as long as the list of reasons.
impl Default for Probes {
    fn default() -> Self {
        Probes {
            by_role: Default::default(),
            by_reason: std::array::from_fn(|_| AtomicU64::default()),
            by_duration: Default::default(),
            total_ns: AtomicU64::default(),
            role_changes: AtomicU64::default(),
            last_role: AtomicU8::default(),
            abandoned: AtomicU64::default(),
            is_writing: AtomicBool::default(),
        }
    }
}

impl Probes {
    /// A look came to its end, or was given up, `lasted` after it began. One at a time, in their order.
    pub fn record(&self, observation: &Observation, lasted: Duration) {
        match Outcome::of(observation) {
            Outcome::Role(role) => {
                self.by_role[role as usize].fetch_add(1, Relaxed);
                let seen = role as u8 + 1;
                let before = self.last_role.swap(seen, Relaxed);
                if before != 0 && before != seen {
                    self.role_changes.fetch_add(1, Relaxed);
                }
            }
            Outcome::Reason(reason) => {
                self.by_reason[reason as usize].fetch_add(1, Relaxed);
            }
        }
        let is_within = |bound: &u64| lasted <= Duration::from_micros(*bound);
        let place = BUCKETS_US.iter().position(is_within).unwrap_or(BUCKETS_US.len());
        self.by_duration[place].fetch_add(1, Relaxed);
        self.total_ns.fetch_add(u64::try_from(lasted.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// So many hang now.
    pub fn set_abandoned(&self, count: usize) {
        self.abandoned.store(count as u64, Relaxed);
    }

    /// A write probe begins; it ends when what is returned is dropped. There is one at a time.
    pub fn write(&self) -> Writing<'_> {
        self.is_writing.store(true, Relaxed);
        Writing(&self.is_writing)
    }

    /// Whether a write probe is under way, which may hang.
    pub fn is_writing(&self) -> bool {
        self.is_writing.load(Relaxed)
    }

    pub(super) fn counts(&self) -> ProbeCounts {
        let mut sum = 0;
        ProbeCounts {
            by_role: self.by_role.each_ref().map(|count| count.load(Relaxed)),
            by_reason: self.by_reason.each_ref().map(|count| count.load(Relaxed)),
            at_most: self.by_duration.each_ref().map(|count| {
                sum += count.load(Relaxed);
                sum
            }),
            total_s: self.total_ns.load(Relaxed) as f64 / 1e9,
            role_changes: self.role_changes.load(Relaxed),
            abandoned: self.abandoned.load(Relaxed),
        }
    }
}

impl ProbeCounts {
    /// Every outcome a look can have, with its count.
    pub fn by_outcome(&self) -> impl Iterator<Item = (Outcome, u64)> {
        let roles =
            [Role::Primary, Role::Standby].map(|role| (Outcome::Role(role), self.by_role[role as usize]));
        let reasons = Reason::ALL.iter().map(|reason| (*reason, self.by_reason[*reason as usize]));
        let reasons = reasons.filter(|(reason, count)| *count > 0 || ends_probe(*reason));
        roles.into_iter().chain(reasons.map(|(reason, count)| (Outcome::Reason(reason), count)))
    }
}

/// Whether a look can end with this; the others are said of what a look has seen.
fn ends_probe(reason: Reason) -> bool {
    match reason {
        Reason::ConnectionRefused
        | Reason::PermissionDenied
        | Reason::NameNotResolved
        | Reason::Unreachable
        | Reason::PostmasterNotAnswering
        | Reason::NotPostgresql
        | Reason::AuthenticationFailed
        | Reason::DatabaseMissing
        | Reason::LoginFailed
        | Reason::TooManyClients
        | Reason::StartingUp
        | Reason::ShuttingDown
        | Reason::NotAcceptingConnections
        | Reason::ConnectionLost
        | Reason::SessionTerminated
        | Reason::QueryCanceled
        | Reason::QueryFailed
        | Reason::DeadlinePassed
        | Reason::AgentOutOfResources
        | Reason::Draining => true,
        Reason::TlsFailed => cfg!(feature = "tls"),
        Reason::AgentStopping
        | Reason::BadConfiguration
        | Reason::InRecovery
        | Reason::NotInRecovery
        | Reason::ReadOnly
        | Reason::Restoring
        | Reason::NoWalReceiver
        | Reason::NotStreaming
        | Reason::ReplayPaused
        | Reason::ReplayDelayed
        | Reason::LagExceeded
        | Reason::LagUnknown
        | Reason::OtherSyncState
        | Reason::SyncStateUnknown
        | Reason::NotStandbyLeader
        | Reason::SenderUnknown
        | Reason::OtherTag
        | Reason::NoLoadBalance
        | Reason::DrainUnknown
        | Reason::Superseded
        | Reason::TwoPrimaries
        | Reason::Isolated
        | Reason::PoolerNotAnswering
        | Reason::WriteStalled
        | Reason::WriteFailed
        | Reason::BadRequest => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::{Drain, Failure, Sighting};

    fn seen(role: Role) -> Observation {
        Observation::new(Drain::Off, Some(Ok(Sighting::of_role(role))), None)
    }

    fn record(probes: &Probes, observation: &Observation, lasted_us: u64) {
        probes.record(observation, Duration::from_micros(lasted_us));
    }

    #[test]
    fn a_role_changes_across_whatever_was_between() {
        let down = Observation::failed(Failure::new(Reason::ConnectionRefused, ""));
        let drained = Observation::new(Drain::On, None, None);
        let (primary, standby) = (seen(Role::Primary), seen(Role::Standby));
        let probes = Probes::default();
        for (observation, changes) in [
            (&down, 0),
            (&primary, 0),
            (&primary, 0),
            (&down, 0),
            (&primary, 0),
            (&down, 0),
            (&standby, 1),
            (&drained, 1),
            (&standby, 1),
            (&primary, 2),
        ] {
            record(&probes, observation, 1);
            assert_eq!(probes.counts().role_changes, changes, "{observation:?}");
        }
        let counts = probes.counts();
        let nonzero: Vec<_> = counts.by_outcome().filter(|(_, count)| *count > 0).collect();
        let expected = [
            (Outcome::Role(Role::Primary), 4),
            (Outcome::Role(Role::Standby), 2),
            (Outcome::Reason(Reason::ConnectionRefused), 3),
            (Outcome::Reason(Reason::Draining), 1),
        ];
        assert_eq!(nonzero, expected);
    }

    #[test]
    fn a_duration_counts_in_every_bucket_that_it_fits() {
        let probes = Probes::default();
        for lasted_us in [0, 100, 101, 5_000_000, 5_000_001, 60_000_000] {
            record(&probes, &seen(Role::Primary), lasted_us);
        }
        let counts = probes.counts();
        assert_eq!(counts.at_most, [2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 6]);
        assert!((counts.total_s - 70.000_202).abs() < 1e-9, "{}", counts.total_s);
    }

    /// The counters are found by a reason's place in the enum, and named by its place in the list.
    #[test]
    fn the_list_of_reasons_has_the_order_of_the_enum() {
        for (place, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place, "{reason}");
        }
    }
}
