//! The paths: what can be asked. Those of Patroni's REST API mean here what they mean there.

use crate::instance::SyncState;

/// Which question a request asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// `/`: the classic contract, any role holds.
    Contract,
    /// `/primary`, `/master`, `/leader`.
    Primary,
    /// `/read-write`: a primary on which a plain session could write.
    ReadWrite,
    /// `/replica`, `/standby`.
    Standby,
    /// `/read-only`: any role that can serve reads.
    ReadOnly,
    /// `/synchronous`, `/sync`: a standby that every commit waits for.
    Synchronous,
    /// `/asynchronous`, `/async`: a standby that no commit waits for.
    Asynchronous,
    /// `/quorum`: a standby of which some are waited for, whichever they are.
    Quorum,
    /// `/read-only-sync`, `/read-only-synchronous`: a primary or a synchronous standby.
    ReadOnlySync,
    /// `/read-only-quorum`: a primary or a standby of the quorum.
    ReadOnlyQuorum,
    /// `/standby-leader`, `/standby_leader`: a standby that receives from outside the cluster.
    StandbyLeader,
    /// `/health`: PostgreSQL answers in any role.
    Health,
    /// `/readiness`: the same, and with a limit a standby that replicates within it.
    Readiness,
    /// `/liveness`: the agent itself; never touches PostgreSQL.
    Liveness,
    /// `/status`: everything that can be observed.
    Status,
    /// `/metrics`: the same for Prometheus.
    Metrics,
    /// `/node`: what other agents ask; never depends on peers, so that nobody asks in circles.
    Node,
    /// `/cluster`: this node and all its peers.
    Cluster,
}

/// Which standbys hold on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standbys {
    /// All of them.
    Any,
    /// Those that the primary counts like this.
    Of(SyncState),
    /// The one that receives from outside the cluster.
    FedFromOutside,
}

impl Path {
    /// Every path there is.
    pub const ALL: [Path; 18] = [
        Path::Contract,
        Path::Primary,
        Path::ReadWrite,
        Path::Standby,
        Path::ReadOnly,
        Path::Synchronous,
        Path::Asynchronous,
        Path::Quorum,
        Path::ReadOnlySync,
        Path::ReadOnlyQuorum,
        Path::StandbyLeader,
        Path::Health,
        Path::Readiness,
        Path::Liveness,
        Path::Status,
        Path::Metrics,
        Path::Node,
        Path::Cluster,
    ];

    /// The first of its names.
    pub const fn name(self) -> &'static str {
        match self {
            Path::Contract => "/",
            Path::Primary => "/primary",
            Path::ReadWrite => "/read-write",
            Path::Standby => "/replica",
            Path::ReadOnly => "/read-only",
            Path::Synchronous => "/synchronous",
            Path::Asynchronous => "/asynchronous",
            Path::Quorum => "/quorum",
            Path::ReadOnlySync => "/read-only-sync",
            Path::ReadOnlyQuorum => "/read-only-quorum",
            Path::StandbyLeader => "/standby-leader",
            Path::Health => "/health",
            Path::Readiness => "/readiness",
            Path::Liveness => "/liveness",
            Path::Status => "/status",
            Path::Metrics => "/metrics",
            Path::Node => "/node",
            Path::Cluster => "/cluster",
        }
    }

    /// Paths match to the byte: nothing is decoded.
    pub(super) fn find(name: &str) -> Option<Path> {
        Some(match name {
            "/" | "*" => Path::Contract,
            "/primary" | "/master" | "/leader" => Path::Primary,
            "/read-write" => Path::ReadWrite,
            "/replica" | "/standby" => Path::Standby,
            "/read-only" => Path::ReadOnly,
            "/synchronous" | "/sync" => Path::Synchronous,
            "/asynchronous" | "/async" => Path::Asynchronous,
            "/quorum" => Path::Quorum,
            "/read-only-sync" | "/read-only-synchronous" => Path::ReadOnlySync,
            "/read-only-quorum" => Path::ReadOnlyQuorum,
            "/standby-leader" | "/standby_leader" => Path::StandbyLeader,
            "/health" => Path::Health,
            "/readiness" => Path::Readiness,
            "/liveness" => Path::Liveness,
            "/status" => Path::Status,
            "/metrics" => Path::Metrics,
            "/node" => Path::Node,
            "/cluster" => Path::Cluster,
            _ => return None,
        })
    }

    /// Whether it is no question that a node can hold or not.
    pub(crate) fn is_document(self) -> bool {
        matches!(self, Path::Status | Path::Metrics | Path::Node | Path::Cluster)
    }

    /// Whether a primary can hold here because it is one.
    pub(super) fn is_for_primaries(self) -> bool {
        match self {
            Path::Contract
            | Path::Primary
            | Path::ReadWrite
            | Path::ReadOnly
            | Path::ReadOnlySync
            | Path::ReadOnlyQuorum => true,
            Path::Standby
            | Path::Synchronous
            | Path::Asynchronous
            | Path::Quorum
            | Path::StandbyLeader
            | Path::Health
            | Path::Readiness
            | Path::Liveness
            | Path::Status
            | Path::Metrics
            | Path::Node
            | Path::Cluster => false,
        }
    }

    /// Which standbys can hold here because they are that.
    pub(super) fn standbys(self) -> Option<Standbys> {
        match self {
            Path::Contract | Path::Standby | Path::ReadOnly => Some(Standbys::Any),
            Path::Synchronous | Path::ReadOnlySync => Some(Standbys::Of(SyncState::Sync)),
            Path::Asynchronous => Some(Standbys::Of(SyncState::Async)),
            Path::Quorum | Path::ReadOnlyQuorum => Some(Standbys::Of(SyncState::Quorum)),
            Path::StandbyLeader => Some(Standbys::FedFromOutside),
            Path::Primary
            | Path::ReadWrite
            | Path::Health
            | Path::Readiness
            | Path::Liveness
            | Path::Status
            | Path::Metrics
            | Path::Node
            | Path::Cluster => None,
        }
    }

    /// Whether who asks wants to write, so that a primary has to show that it commits.
    pub(super) fn is_for_writers(self) -> bool {
        matches!(self, Path::Contract | Path::Primary | Path::ReadWrite)
    }

    /// Whether what a client can do here is asked for it anew: everything about the role, and what shows it.
    pub(super) fn is_about_work(self) -> bool {
        self.is_drained() || matches!(self, Path::Status | Path::Metrics)
    }

    /// Whether it shows what is known of that, and neither asks nor waits for more: other agents do not wait long for it.
    pub(crate) fn shows_work(self) -> bool {
        matches!(self, Path::Node | Path::Cluster)
    }

    /// Whether only what other nodes say decides about a standby.
    pub(super) fn compares_standbys(self) -> bool {
        matches!(self.standbys(), Some(Standbys::Of(_) | Standbys::FedFromOutside))
    }

    /// Whether limits on a standby's lag make sense, and what else is said of a standby that is wanted.
    pub(super) fn takes_limits(self) -> bool {
        matches!(self.standbys(), Some(Standbys::Any | Standbys::Of(_)))
    }

    /// Whether it asks for the one node of a cluster that leads: tags do not matter there.
    pub(super) fn is_for_leaders(self) -> bool {
        matches!(self, Path::Primary | Path::ReadWrite | Path::StandbyLeader)
    }

    /// Whether a restore does not hold here: who asks wants a standby, or whatever serves reads as well as one.
    pub(super) fn refuses_restores(self) -> bool {
        self.standbys().is_some() && self != Path::Contract
    }

    /// Whether it is about the role, so that a node that drains does not hold.
    pub fn is_drained(self) -> bool {
        self.is_for_primaries() || self.standbys().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_found_by_its_name() {
        for path in Path::ALL {
            assert_eq!(Path::find(path.name()), Some(path));
        }
    }
}
