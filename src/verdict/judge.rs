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

impl Verdict {
    fn holds(self) -> bool {
        matches!(self, Verdict::Holds(_))
    }
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
    match &observation.evidence.write {
        Some(WriteProbe::Stalled { .. }) if target.path.is_for_writers() && verdict.holds() => {
            Verdict::Down(Reason::WriteStalled)
        }
        Some(WriteProbe::Failed { .. }) if target.path.is_for_writers() && verdict.holds() => {
            Verdict::Down(Reason::WriteFailed)
        }
        Some(_) | None => verdict,
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
    (details.status != "streaming").then_some(Reason::NotStreaming)
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
mod tests {
    use super::*;
    use crate::instance::{
        Evidence, Failure, Lsn, PrimaryPosition, Receiver, ReceiverDetails, ReplayDelay, Sources, SyncState,
    };

    fn seen(sighting: Sighting) -> Observation {
        Observation::new(Drain::Off, Some(Ok(sighting)), None)
    }

    fn primary(read_only_default: Option<bool>) -> Observation {
        seen(Sighting { read_only_default, ..Sighting::of_role(Role::Primary) })
    }

    fn standby(replication: Option<Replication>) -> Observation {
        let recovery = Some(Recovery::default());
        seen(Sighting { recovery, replication, ..Sighting::of_role(Role::Standby) })
    }

    /// 60 bytes and 7 seconds behind.
    fn behind(receiver: Option<Receiver>) -> Observation {
        standby(Some(Replication {
            replayed: Some(Lsn(100)),
            received: Some(Lsn(160)),
            last_commit_age: Some(Duration::from_secs(7)),
            receiver,
        }))
    }

    fn target(text: &str) -> Target {
        Target::parse(text).unwrap()
    }

    #[test]
    fn verdicts_follow_role_and_target() {
        use Role::{Primary, Standby};
        use Verdict::{Holds, No};
        let table = [
            ("/", Holds(Primary), Holds(Standby)),
            ("/primary", Holds(Primary), No(Reason::InRecovery)),
            ("/read-write", Holds(Primary), No(Reason::InRecovery)),
            ("/replica", No(Reason::NotInRecovery), Holds(Standby)),
            ("/read-only", Holds(Primary), Holds(Standby)),
            ("/health", Holds(Primary), Holds(Standby)),
            // A primary has no lag.
            ("/?lag=0", Holds(Primary), No(Reason::LagExceeded)),
            ("/read-only?lag=0", Holds(Primary), No(Reason::LagExceeded)),
            ("/replica?lag=0", No(Reason::NotInRecovery), No(Reason::LagExceeded)),
        ];
        for (text, on_primary, on_standby) in table {
            let target = target(text);
            assert_eq!(judge(target, &primary(Some(false))), on_primary, "{text}");
            assert_eq!(judge(target, &behind(Some(Receiver::default()))), on_standby, "{text}");
            let failure = Observation::failed(Failure::new(Reason::StartingUp, ""));
            assert_eq!(judge(target, &failure), Verdict::Down(Reason::StartingUp), "{text}");
        }
    }

    #[test]
    fn read_write_needs_a_primary_that_writes() {
        let on = |default| judge(target("/read-write"), &primary(default));
        assert_eq!(on(Some(true)), Verdict::No(Reason::ReadOnly));
        assert_eq!(on(None), Verdict::Down(Reason::QueryFailed));
    }

    #[test]
    fn a_standby_holds_within_its_limits() {
        let holds = Verdict::Holds(Role::Standby);
        let exceeded = Verdict::No(Reason::LagExceeded);
        for (text, expected) in [
            ("/replica?lag=60", holds),
            ("/replica?lag=59", exceeded),
            ("/replica?lag_time=7s", holds),
            ("/replica?lag_time=6999ms", exceeded),
            ("/replica?lag=60&lag_time=6s", exceeded),
            ("/replica?lag=59&lag_time=7s", exceeded),
            ("/?lag=60&lag_time=7s&replication_state=streaming", holds),
        ] {
            assert_eq!(judge(target(text), &behind(Some(Receiver::default()))), expected, "{text}");
        }
        assert_eq!(judge(target("/?lag=60"), &standby(None)), Verdict::Down(Reason::QueryFailed));
    }

    #[test]
    fn without_a_receiver_no_limit_is_kept() {
        let gone = behind(None);
        for (text, expected) in [
            ("/", Verdict::Holds(Role::Standby)),
            ("/replica", Verdict::Holds(Role::Standby)),
            ("/replica?lag=1TB", Verdict::Down(Reason::LagUnknown)),
            ("/replica?lag_time=1d", Verdict::Down(Reason::LagUnknown)),
            ("/replica?replication_state=streaming", Verdict::No(Reason::NoWalReceiver)),
            ("/replica?replication_state=streaming&lag=1", Verdict::No(Reason::NoWalReceiver)),
        ] {
            assert_eq!(judge(target(text), &gone), expected, "{text}");
        }
    }

    #[test]
    fn a_receiver_that_is_seen_not_to_stream_does_not() {
        let details = ReceiverDetails { status: "waiting".into(), ..ReceiverDetails::default() };
        let waiting = behind(Some(Receiver { timeout: None, details: Some(details) }));
        let verdict = judge(target("/replica?replication_state=streaming"), &waiting);
        assert_eq!(verdict, Verdict::No(Reason::NotStreaming));
    }

    fn recovering(recovery: Recovery) -> Observation {
        let Some(Ok(sighting)) = behind(Some(Receiver::default())).instance else { panic!("a standby") };
        seen(Sighting { recovery: Some(recovery), ..sighting })
    }

    #[test]
    fn replay_that_stands_still_is_told_only_where_it_is_asked() {
        let holds = Verdict::Holds(Role::Standby);
        let (paused, delayed) = (Verdict::No(Reason::ReplayPaused), Verdict::No(Reason::ReplayDelayed));
        let running = Recovery { delay: Some(ReplayDelay::Of(Duration::ZERO)), ..Recovery::default() };
        let late = Recovery { delay: Some(ReplayDelay::Of(Duration::from_secs(1))), ..running };
        let table = [
            (running, holds),
            (Recovery { is_paused: true, ..running }, paused),
            (late, delayed),
            (Recovery { is_paused: true, ..late }, paused),
            (Recovery { delay: Some(ReplayDelay::HoldsBack), ..running }, delayed),
            // Hidden in recovery.conf.
            (Recovery { delay: None, ..running }, holds),
        ];
        for (recovery, expected) in table {
            let observation = recovering(recovery);
            for text in
                ["/?", "/replica?", "/read-only?", "/replica?lag=60&", "/?replication_state=streaming&"]
            {
                let on = |parameter: &str| judge(target(&format!("{text}{parameter}")), &observation);
                assert_eq!(on("replay=running"), expected, "{text} {recovery:?}");
                assert_eq!(on("lag_time=7s"), holds, "{text} {recovery:?}");
            }
        }
        let unseen = seen(Sighting::of_role(Role::Standby));
        assert_eq!(judge(target("/?replay=running"), &unseen), Verdict::Down(Reason::QueryFailed));
        assert_eq!(judge(target("/?replay=running"), &primary(None)), Verdict::Holds(Role::Primary));
    }

    #[test]
    fn a_restore_is_a_standby_by_the_classic_contract_alone() {
        let sources = Sources { has_target: true, has_primary_conninfo: Some(false), has_receiver: false };
        let recovery = Recovery { is_paused: true, delay: None, sources };
        let restore = seen(Sighting { recovery: Some(recovery), ..Sighting::of_role(Role::Standby) });
        for (text, expected) in [
            ("/", Verdict::Holds(Role::Standby)),
            ("/health", Verdict::Holds(Role::Standby)),
            ("/replica", Verdict::No(Reason::Restoring)),
            ("/read-only", Verdict::No(Reason::Restoring)),
            ("/replica?replay=running&replication_state=streaming", Verdict::No(Reason::Restoring)),
            ("/?replay=running", Verdict::No(Reason::ReplayPaused)),
            ("/primary", Verdict::No(Reason::InRecovery)),
        ] {
            assert_eq!(judge(target(text), &restore), expected, "{text}");
        }
        let unseen = seen(Sighting::of_role(Role::Standby));
        assert_eq!(judge(target("/replica"), &unseen), Verdict::Down(Reason::QueryFailed));
    }

    #[test]
    fn who_drains_holds_no_role() {
        let draining = |instance| Observation::new(Drain::On, instance, None);
        for text in ["/", "/primary", "/read-write", "/replica", "/read-only"] {
            assert_eq!(judge(target(text), &draining(None)), Verdict::Draining, "{text}");
            let unknown = Observation { drain: Drain::Unknown, ..primary(Some(false)) };
            assert_eq!(judge(target(text), &unknown), Verdict::Down(Reason::DrainUnknown), "{text}");
        }
        let sighting = Some(Ok(Sighting::of_role(Role::Primary)));
        assert_eq!(judge(target("/health"), &draining(sighting)), Verdict::Holds(Role::Primary));
    }

    #[test]
    fn the_weight_is_the_share_of_the_limit_that_is_free() {
        let lagging = behind(Some(Receiver::default()));
        for (text, expected) in [
            ("/replica", 100),
            ("/replica?lag=60", 1),
            ("/replica?lag=120", 50),
            ("/replica?lag=6000", 99),
            ("/replica?lag=6000&lag_time=10s", 30),
            ("/replica?lag=120&lag_time=100s", 50),
        ] {
            assert_eq!(weight_percent(target(text), &lagging), expected, "{text}");
        }
        assert_eq!(weight_percent(target("/read-only?lag=1"), &primary(None)), 100);
        assert_eq!((free_percent(0, 0), free_percent(0, 9), free_percent(9, 9)), (100, 100, 1));
    }

    fn with(observation: Observation, evidence: Evidence) -> Observation {
        Observation { evidence, ..observation }
    }

    #[test]
    fn how_a_primary_counts_a_standby_is_told_where_it_is_known() {
        use SyncState::{Async, Quorum, Sync};
        let holds = Verdict::Holds(Role::Standby);
        let other = Verdict::No(Reason::OtherSyncState);
        for (text, as_async, as_sync, as_quorum, as_primary) in [
            ("/sync", other, holds, other, Verdict::No(Reason::NotInRecovery)),
            ("/async", holds, other, other, Verdict::No(Reason::NotInRecovery)),
            ("/quorum", other, other, holds, Verdict::No(Reason::NotInRecovery)),
            ("/read-only-sync", other, holds, other, Verdict::Holds(Role::Primary)),
            ("/read-only-quorum", other, other, holds, Verdict::Holds(Role::Primary)),
        ] {
            for (state, expected) in
                [(Some(Async), as_async), (Some(Sync), as_sync), (Some(Quorum), as_quorum)]
            {
                let evidence = Evidence { sync_state: state, ..Evidence::default() };
                let observation = with(behind(Some(Receiver::default())), evidence);
                assert_eq!(judge(target(text), &observation), expected, "{text} {state:?}");
            }
            let unknown = behind(Some(Receiver::default()));
            assert_eq!(judge(target(text), &unknown), Verdict::Down(Reason::SyncStateUnknown), "{text}");
            assert_eq!(judge(target(text), &primary(None)), as_primary, "{text}");
        }
        let evidence = Evidence { sync_state: Some(Async), ..Evidence::default() };
        let far = with(behind(Some(Receiver::default())), evidence);
        assert_eq!(judge(target("/async?lag=59"), &far), Verdict::No(Reason::LagExceeded));
        assert_eq!(judge(target("/async?lag=60"), &far), holds);
    }

    #[test]
    fn a_standby_leader_streams_from_outside() {
        let asked = |receiver, is_fed_from_outside| {
            let evidence = Evidence { is_fed_from_outside, ..Evidence::default() };
            judge(target("/standby-leader"), &with(behind(receiver), evidence))
        };
        let receiver = || Some(Receiver::default());
        assert_eq!(asked(receiver(), Some(true)), Verdict::Holds(Role::Standby));
        assert_eq!(asked(receiver(), Some(false)), Verdict::No(Reason::NotStandbyLeader));
        assert_eq!(asked(receiver(), None), Verdict::Down(Reason::SenderUnknown));
        assert_eq!(asked(None, Some(true)), Verdict::No(Reason::NoWalReceiver));
        assert_eq!(judge(target("/standby-leader"), &primary(None)), Verdict::No(Reason::NotInRecovery));
    }

    #[test]
    fn tags_keep_a_node_out_of_what_is_asked_for_standbys() {
        let other = Target { has_other_tag: true, ..target("/read-only") };
        assert_eq!(judge(other, &primary(None)), Verdict::No(Reason::OtherTag));
        assert_eq!(judge(other, &standby(None)), Verdict::No(Reason::OtherTag));
        let quiet = Target { refuses_load: true, ..target("/read-only") };
        assert_eq!(judge(quiet, &standby(None)), Verdict::No(Reason::NoLoadBalance));
        assert_eq!(judge(quiet, &primary(None)), Verdict::Holds(Role::Primary));
    }

    #[test]
    fn readiness_within_a_limit_is_about_what_was_received_or_replayed() {
        let holds = Verdict::Holds(Role::Standby);
        let details = |latest_end| ReceiverDetails {
            status: "streaming".into(),
            latest_end,
            last_message_age: Some(Duration::ZERO),
            ..ReceiverDetails::default()
        };
        let receiver = |latest_end| Some(Receiver { timeout: None, details: Some(details(latest_end)) });
        let visible = behind(receiver(Some(Lsn(170))));
        for (text, expected) in [
            ("/readiness?lag=70", holds),
            ("/readiness?lag=69&mode=apply", Verdict::No(Reason::LagExceeded)),
            ("/readiness?lag=10&mode=write", holds),
            ("/readiness?lag=9&mode=write", Verdict::No(Reason::LagExceeded)),
            ("/readiness", holds),
        ] {
            assert_eq!(judge(target(text), &visible), expected, "{text}");
            assert_eq!(judge(target(text), &primary(None)), Verdict::Holds(Role::Primary), "{text}");
        }
        let gone = behind(None);
        assert_eq!(judge(target("/readiness?lag=1TB"), &gone), Verdict::No(Reason::NoWalReceiver));
        assert_eq!(judge(target("/readiness"), &gone), holds);
        // The end of the sender's WAL is hidden.
        let hidden = behind(Some(Receiver::default()));
        let write = target("/readiness?lag=1TB&mode=write");
        assert_eq!(judge(write, &hidden), Verdict::Down(Reason::LagUnknown));
        let primary = Some(PrimaryPosition { timeline: 1, lsn: Lsn(200) });
        let told = with(behind(receiver(Some(Lsn(170)))), Evidence { primary, ..Evidence::default() });
        let Some(Ok(sighting)) = told.instance else { panic!("a standby") };
        let told = Observation { instance: Some(Ok(Sighting { timeline: Some(1), ..sighting })), ..told };
        assert_eq!(judge(target("/readiness?lag=40&mode=write"), &told), holds);
        assert_eq!(judge(target("/readiness?lag=39&mode=write"), &told), Verdict::No(Reason::LagExceeded));
    }
}
