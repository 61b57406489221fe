//! What other nodes' words mean for this one. Pure: own observation, what peers said and when, what sticks.
//!
//! Evidence is all this is: nobody is elected, and nothing here makes a node a primary or a standby.

use super::attached::{is_fed_from_outside, sync_state};
use crate::instance::{Against, Evidence, Identity, Observation, PrimaryPosition, Role};
use crate::peers::{Claim, News, PeerNews, Statement};
use crate::reason::Reason;

/// Weighs. Only peers of the same system count, and none that is this very instance under another address.
pub fn weigh(observation: &Observation, news: &News, min_peers: usize) -> Evidence {
    let Some(sighting) = observation.sighting() else { return Evidence::default() };
    let Some(own) = sighting.identity else { return Evidence::default() };
    let others = || news.peers.iter().filter(|peer| !peer.is_self);
    match sighting.role {
        Role::Primary => {
            let Some(timeline) = sighting.timeline else { return Evidence::default() };
            let against = superseded(own, timeline, others())
                .or_else(|| two_primaries(own, timeline, others()))
                .or_else(|| isolated(own, min_peers, others()));
            Evidence { against, ..Evidence::default() }
        }
        Role::Standby => Evidence {
            primary: furthest_primary(own, others()),
            highest_timeline: highest_timeline(own, others()),
            sync_state: sync_state(sighting, own, others()),
            is_fed_from_outside: is_fed_from_outside(sighting, own, others()),
            ..Evidence::default()
        },
    }
}

/// Whether a peer is of another cluster; `None` where one of both does not say.
pub fn foreign(observation: &Observation, peer: &PeerNews) -> Option<bool> {
    let own = observation.sighting()?.identity?;
    let said = peer.fresh()?;
    said.system_identifier.map(|_| is_foreign(own, said))
}

fn superseded<'a>(
    own: Identity,
    timeline: u32,
    mut peers: impl Iterator<Item = &'a PeerNews>,
) -> Option<Against> {
    let above =
        |peer: &&PeerNews| peer.claim.filter(|claim| is_of_another(own, claim) && claim.timeline > timeline);
    let (peer, claim) = peers.find_map(|peer| Some((peer, above(&peer)?)))?;
    let what = format!(
        "{} was seen on timeline {}, and this primary writes on {timeline}",
        peer.described(),
        claim.timeline
    );
    Some(Against { reason: Reason::Superseded, what })
}

fn two_primaries<'a>(
    own: Identity,
    timeline: u32,
    mut peers: impl Iterator<Item = &'a PeerNews>,
) -> Option<Against> {
    let is_equal = |claim: Claim| is_of_another(own, &claim) && claim.timeline == timeline;
    let peer = peers.find(|peer| peer.rival.is_some_and(is_equal))?;
    let what = format!(
        "{} is a primary on timeline {timeline} as this one is: drain the one whose writes are to be lost",
        peer.described()
    );
    Some(Against { reason: Reason::TwoPrimaries, what })
}

fn isolated<'a>(
    own: Identity,
    min_peers: usize,
    peers: impl Iterator<Item = &'a PeerNews>,
) -> Option<Against> {
    if min_peers == 0 {
        return None;
    }
    // One that is down does not say of which cluster it is, and has said so before.
    let was_foreign =
        |peer: &PeerNews| peer.claim.is_some_and(|claim| claim.system_identifier != own.system_identifier);
    let is_heard =
        |peer: &&PeerNews| peer.fresh().is_some_and(|said| counts(own, said)) && !was_foreign(peer);
    let heard = peers.filter(is_heard).count();
    let what = format!("{heard} of at least {min_peers} peers answer");
    (heard < min_peers).then_some(Against { reason: Reason::Isolated, what })
}

/// Any answer counts, also that PostgreSQL is down there; but not that of another cluster's agent.
pub(super) fn counts(own: Identity, said: &Statement) -> bool {
    !is_foreign(own, said) && !is_same_instance(own, said)
}

/// Whether what was said is about another cluster.
fn is_foreign(own: Identity, said: &Statement) -> bool {
    said.system_identifier.is_some_and(|system| system != own.system_identifier)
}

/// Whether it is about this very instance: two agents beside it, or one address more of this host.
pub(super) fn is_same_instance(own: Identity, said: &Statement) -> bool {
    said.system_identifier == Some(own.system_identifier)
        && said.postmaster_started_unix_s == Some(own.postmaster_started_unix_s)
}

fn is_of_another(own: Identity, claim: &Claim) -> bool {
    claim.system_identifier == own.system_identifier
        && claim.postmaster_started_unix_s != Some(own.postmaster_started_unix_s)
}

/// An old primary that is still up writes on a lower timeline, and of two on the same one that is to be given up drains.
fn furthest_primary<'a>(own: Identity, peers: impl Iterator<Item = &'a PeerNews>) -> Option<PrimaryPosition> {
    let others = peers.filter_map(PeerNews::fresh).filter(|said| counts(own, said));
    let primaries = others.filter(|said| said.role == Some(Role::Primary));
    let positions = primaries.filter_map(|said| {
        let position = PrimaryPosition { timeline: said.timeline?, lsn: said.lsn? };
        Some((position, said.draining == Some(true)))
    });
    let rank = |(position, drains): &(PrimaryPosition, bool)| (position.timeline, !drains, position.lsn);
    positions.max_by_key(rank).map(|(position, _)| position)
}

/// The highest timeline that another node was seen on, also while that one is silent.
pub(super) fn highest_timeline<'a>(own: Identity, peers: impl Iterator<Item = &'a PeerNews>) -> Option<u32> {
    let claims = peers.filter_map(|peer| peer.claim).filter(|claim| is_of_another(own, claim));
    claims.map(|claim| claim.timeline).max()
}

#[cfg(test)]
mod tests;
