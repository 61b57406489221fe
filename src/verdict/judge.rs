//! From what was observed and what was asked to a verdict.

use std::time::Duration;

use super::path::Standbys;
use super::{Mode, Path, Target};
use crate::instance::{
    Drain, Lag, LagUnknown, Observation, Recovery, Replication, Role, Sighting, WriteProbe,
};
use crate::reason::Reason;

/// What the observation means for the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Verified: the target holds, and this is the role.
    Holds(Role),
    /// Verified: the target does not hold.
    No(Reason),
    /// Verified: the node drains, so no target about its role holds.
    Draining,
    /// Not verified.
    Down(Reason),
}

/// Judges. Primary means `pg_is_in_recovery()` was false in this very observation; unknown is never a role.
pub fn judge(target: Target, observation: &Observation) -> Verdict {
    if target.path.is_drained()
        && let Some(verdict) = judge_drain(observation)
    {
        return verdict;
    }
    let sighting = match &observation.instance {
        Some(Ok(sighting)) => sighting,
        Some(Err(failure)) => return Verdict::Down(failure.reason),
        None => return Verdict::Down(Reason::QueryFailed),
    };
    let is_about_role = target.path.is_drained();
    if is_about_role && observation.evidence.poolers.iter().any(|pooler| pooler.is_up == Some(false)) {
        return Verdict::Down(Reason::PoolerNotAnswering);
    }
    if target.has_other_tag {
        return Verdict::No(Reason::OtherTag);
    }
    match sighting.role {
        Role::Primary if !is_about_role => Verdict::Holds(Role::Primary),
        Role::Primary if !target.path.is_for_primaries() => Verdict::No(Reason::NotInRecovery),
        Role::Primary => against(observation).unwrap_or_else(|| judge_primary(target, sighting, observation)),
        Role::Standby if is_about_role && target.path.standbys().is_none() => Verdict::No(Reason::InRecovery),
        // Of a document the limits are but a part of what it says.
        Role::Standby if target.path.is_document() => Verdict::Holds(Role::Standby),
        Role::Standby => judge_standby(target, sighting, observation),
    }
}

/// What the drain file alone decides: the verdict, unless the node is known not to drain.
pub fn judge_drain(observation: &Observation) -> Option<Verdict> {
    match observation.drain {
        Drain::On => Some(Verdict::Draining),
        Drain::Unknown => Some(Verdict::Down(Reason::DrainUnknown)),
        Drain::Off => None,
        // Fine for a look that failed; any other answer would be a guess.
        Drain::NotLooked if observation.failure().is_some() => None,
        Drain::NotLooked => Some(Verdict::Down(Reason::DrainUnknown)),
    }
}

/// What other nodes have seen of a primary is verified; that too few can be heard means that nothing is.
fn against(observation: &Observation) -> Option<Verdict> {
    let reason = observation.evidence.against.as_ref()?.reason;
    Some(if reason == Reason::Isolated { Verdict::Down(reason) } else { Verdict::No(reason) })
}

fn judge_primary(target: Target, sighting: &Sighting, observation: &Observation) -> Verdict {
    let verdict = match target.path {
        Path::ReadWrite => judge_writability(sighting),
        _ => Verdict::Holds(Role::Primary),
    };
    if verdict != Verdict::Holds(Role::Primary) || !target.path.is_for_writers() {
        return verdict;
    }
    match &observation.evidence.write {
        Some(WriteProbe::Stalled { .. }) => Verdict::Down(Reason::WriteStalled),
        Some(WriteProbe::Failed { .. }) => Verdict::Down(Reason::WriteFailed),
        Some(WriteProbe::Committed(_)) | None => verdict,
    }
}

fn judge_writability(sighting: &Sighting) -> Verdict {
    match sighting.read_only_default {
        Some(false) => Verdict::Holds(Role::Primary),
        Some(true) => Verdict::No(Reason::ReadOnly),
        None => Verdict::Down(Reason::QueryFailed),
    }
}

/// Whatever the path has a standby to be; without limits that is enough, with them its lag has to be known, too.
fn judge_standby(target: Target, sighting: &Sighting, observation: &Observation) -> Verdict {
    match why_no_standby(target, sighting).and_then(|reason| match reason {
        Some(reason) => Ok(Some(reason)),
        None => why_not_this_one(target, observation),
    }) {
        Ok(None) => judge_lag(target, observation),
        Ok(Some(reason)) => Verdict::No(reason),
        Err(reason) => Verdict::Down(reason),
    }
}

/// Why it is none at all of what is asked for, apart from its lag. `Err` where what has to be known was not observed.
fn why_no_standby(target: Target, sighting: &Sighting) -> Result<Option<Reason>, Reason> {
    if target.refuses_load {
        return Ok(Some(Reason::NoLoadBalance));
    }
    if target.path.refuses_restores() {
        let recovery = sighting.recovery.ok_or(Reason::QueryFailed)?;
        if recovery.is_restore() == Some(true) {
            return Ok(Some(Reason::Restoring));
        }
    }
    if target.wants_streaming || target.path == Path::StandbyLeader {
        let replication = sighting.replication.as_ref().ok_or(Reason::QueryFailed)?;
        if let Some(reason) = why_not_streaming(replication) {
            return Ok(Some(reason));
        }
    }
    if target.wants_running_replay {
        return sighting.recovery.map(why_not_running).ok_or(Reason::QueryFailed);
    }
    Ok(None)
}

/// Why it is not the one among the cluster's standbys that is asked for. `Err` where nobody can tell.
fn why_not_this_one(target: Target, observation: &Observation) -> Result<Option<Reason>, Reason> {
    let evidence = &observation.evidence;
    match target.path.standbys() {
        None | Some(Standbys::Any) => Ok(None),
        Some(Standbys::Of(wanted)) => {
            let state = evidence.sync_state.ok_or(Reason::SyncStateUnknown)?;
            Ok((state != wanted).then_some(Reason::OtherSyncState))
        }
        Some(Standbys::FedFromOutside) => {
            let is_outside = evidence.is_fed_from_outside.ok_or(Reason::SenderUnknown)?;
            Ok((!is_outside).then_some(Reason::NotStandbyLeader))
        }
    }
}

/// A pause holds up more than a delay.
fn why_not_running(recovery: Recovery) -> Option<Reason> {
    match (recovery.is_paused, recovery.is_delayed()) {
        (true, _) => Some(Reason::ReplayPaused),
        (false, true) => Some(Reason::ReplayDelayed),
        (false, false) => None,
    }
}

fn judge_lag(target: Target, observation: &Observation) -> Verdict {
    if !target.limits.is_some() {
        return Verdict::Holds(Role::Standby);
    }
    let Some(lag) = observation.lag() else { return Verdict::Down(Reason::QueryFailed) };
    let known = bytes_behind(target, observation, lag);
    let bytes = target.limits.bytes.map(|limit| known.map(|bytes| bytes <= limit));
    let time = target.limits.time.map(|limit| lag.time.map(|known| known.duration <= limit));
    let within = [bytes, time].into_iter().flatten();
    // What is known to be too much is too much, whatever else is unknown.
    if within.clone().any(|within| within == Ok(false)) {
        Verdict::No(Reason::LagExceeded)
    } else if within.clone().any(|within| within.is_err()) {
        Verdict::Down(Reason::LagUnknown)
    } else {
        Verdict::Holds(Role::Standby)
    }
}

/// What the limit in bytes is about.
fn bytes_behind(target: Target, observation: &Observation, lag: Lag) -> Result<u64, LagUnknown> {
    match target.mode {
        Mode::Apply => lag.bytes.map(|known| known.bytes),
        Mode::Write => observation.bytes_not_received(),
    }
}

/// That there is a WAL receiver everybody may see; its state only `pg_monitor`.
fn why_not_streaming(replication: &Replication) -> Option<Reason> {
    let Some(receiver) = &replication.receiver else { return Some(Reason::NoWalReceiver) };
    let details = receiver.details.as_ref()?;
    (!details.streams()).then_some(Reason::NotStreaming)
}

/// The share of the target's limits that is still free, 1 to 100 percent, for a target that holds: a standby near
/// its limit gets less to do. 100 where there is no limit, or no standby.
pub fn weight_percent(target: Target, observation: &Observation) -> u8 {
    let Some(lag) = observation.lag() else { return 100 };
    let bytes = target.limits.bytes.zip(bytes_behind(target, observation, lag).ok());
    let bytes = bytes.map(|(limit, known)| free_percent(known.into(), limit.into()));
    let time = target.limits.time.zip(lag.time.ok());
    let micros = |duration: Duration| duration.as_micros();
    let time = time.map(|(limit, known)| free_percent(micros(known.duration), micros(limit)));
    [bytes, time].into_iter().flatten().min().unwrap_or(100)
}

fn free_percent(used: u128, limit: u128) -> u8 {
    let free = limit.saturating_sub(used).saturating_mul(100);
    let percent = if used == 0 { 100 } else { free.checked_div(limit).unwrap_or(0) };
    u8::try_from(percent.clamp(1, 100)).unwrap_or(100)
}

#[cfg(test)]
mod tests;
