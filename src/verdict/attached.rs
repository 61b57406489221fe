//! By which names a sender knows a standby, and what follows from who is attached to whom. Pure.

use crate::instance::{AttachedStandby, Identity, MAX_NAME_BYTES, MAX_STANDBYS, Role, Sighting, SyncState};
use crate::peers::{PeerNews, Statement};

use super::weigh::{counts, highest_timeline};

/// By which a sender recognizes a standby.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Names {
    slot: Option<String>,
    application_name: Option<String>,
}

impl Names {
    /// Those of this node's own WAL receiver, where they can be seen.
    pub(super) fn of_receiver(sighting: &Sighting) -> Names {
        let receiver = sighting.replication.as_ref().and_then(|replication| replication.receiver.as_ref());
        let details = receiver.and_then(|receiver| receiver.details.as_ref());
        Names {
            slot: details.and_then(|details| details.slot_name.clone()),
            application_name: details
                .and_then(|details| details.application_name.clone())
                .filter(|name| is_kept(name)),
        }
    }

    /// Those that a peer has said.
    pub(super) fn of_statement(said: &Statement) -> Names {
        Names { slot: said.slot.clone(), application_name: said.application_name.clone() }
    }

    fn are_known(&self) -> bool {
        self.slot.is_some() || self.application_name.is_some()
    }

    /// The rows that can be this standby's: by its slot, else by its name among those without one.
    pub(super) fn rows<'a>(
        &self,
        attached: &'a [AttachedStandby],
    ) -> impl Iterator<Item = &'a AttachedStandby> {
        attached.iter().filter(|row| match &self.slot {
            Some(_) => row.slot == self.slot,
            None => {
                self.application_name.is_some()
                    && row.slot.is_none()
                    && row.application_name == self.application_name
            }
        })
    }

    /// Whether a sender could take the one for the other.
    pub(super) fn collide(&self, other: &Names) -> bool {
        match &self.slot {
            Some(_) => self.slot == other.slot,
            None => other.slot.is_none() && self.application_name == other.application_name,
        }
    }
}

/// Whether a server shows the name as it was given: it cuts longer ones, and replaces what is not ASCII (guc.c,
/// `check_application_name`).
fn is_kept(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES && name.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// How the primary counts this standby, which is on the primary's timeline as far as can be seen. `None` where nobody
/// can tell: without one primary among the peers, or where others have the same names. A peer that is silent may be
/// attached all the same, by the names that it told last.
pub(super) fn sync_state<'a>(
    sighting: &Sighting,
    own: Identity,
    peers: impl Iterator<Item = &'a PeerNews> + Clone,
) -> Option<SyncState> {
    let names = Some(Names::of_receiver(sighting)).filter(Names::are_known)?;
    let others = peers.clone().filter_map(PeerNews::fresh).filter(|said| counts(own, said));
    let of_role = |role| others.clone().filter(move |said| said.role == Some(role));
    // One that a promotion has left behind decides nothing any more, also while the promoted one is silent.
    let timeline = highest_timeline(own, peers.clone())?;
    let primaries = || of_role(Role::Primary).filter(|said| said.timeline == Some(timeline));
    // Of two, one that is to be given up drains.
    let primary =
        only(primaries()).or_else(|| only(primaries().filter(|said| said.draining != Some(true))))?;
    if sighting.timeline != Some(timeline) {
        return None;
    }
    let attached = primary.standbys.as_deref()?;
    let told = peers.filter_map(|peer| peer.told.as_deref()).filter(|said| counts(own, said));
    let is_shared = told.map(Names::of_statement).any(|others| names.collide(&others));
    let mut rows = names.rows(attached);
    match (rows.next(), rows.next()) {
        (None, _) => (attached.len() < MAX_STANDBYS).then_some(SyncState::Async),
        (Some(_), None) if is_shared || is_attached_to(&names, of_role(Role::Standby)) => None,
        (Some(row), None) => read(row.sync_state.as_deref()?),
        (Some(_), Some(_)) => None,
    }
}

/// The one that there is; `None` for several, too.
pub(super) fn only<T>(mut some: impl Iterator<Item = T>) -> Option<T> {
    let first = some.next()?;
    some.next().is_none().then_some(first)
}

fn read(word: &str) -> Option<SyncState> {
    match word {
        "async" | "potential" => Some(SyncState::Async),
        "sync" => Some(SyncState::Sync),
        "quorum" => Some(SyncState::Quorum),
        _ => None,
    }
}

/// Whether one of these standbys feeds somebody of these names.
fn is_attached_to<'a>(names: &Names, mut senders: impl Iterator<Item = &'a Statement>) -> bool {
    senders.any(|said| said.cascaded.as_deref().is_some_and(|rows| names.rows(rows).next().is_some()))
}

/// Whether this standby receives from nobody of the cluster. One of the others that is silent may be a primary, or the
/// sender.
pub(super) fn is_fed_from_outside<'a>(
    sighting: &Sighting,
    own: Identity,
    peers: impl Iterator<Item = &'a PeerNews>,
) -> Option<bool> {
    let names = Some(Names::of_receiver(sighting)).filter(Names::are_known);
    let verdicts: Vec<Option<bool>> = peers
        .filter(|peer| peer.fresh().is_none_or(|said| counts(own, said)))
        .map(|peer| feeds(names.as_ref(), peer.fresh()?, peer.rival.is_some()))
        .collect();
    let is_fed_by = |verdict| verdicts.contains(&verdict);
    match verdicts.is_empty() {
        true => None,
        false if is_fed_by(Some(true)) => Some(false),
        false => (!is_fed_by(None)).then_some(true),
    }
}

/// Whether a peer could be the sender, or is the primary that makes this standby an ordinary one.
fn feeds(names: Option<&Names>, said: &Statement, was_primary: bool) -> Option<bool> {
    match said.role {
        Some(Role::Primary) => Some(true),
        // It may be the primary that lets nobody in, and feeds its standbys on; over TCP also where its socket has gone.
        None => (said.is_down() && !was_primary).then_some(false),
        Some(Role::Standby) => {
            let rows = said.cascaded.as_deref()?;
            let is_fed = names?.rows(rows).next().is_some();
            (is_fed || rows.len() < MAX_STANDBYS).then_some(is_fed)
        }
    }
}

#[cfg(test)]
mod tests;
