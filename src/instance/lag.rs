//! How far a standby lags, as far as that can be known.
//!
//! The usual formulas claim a lag of zero once the WAL receiver is gone: nothing more is received, so everything
//! received is soon replayed. Here a lag is only known while a receiver lives that would bring news; or, in time, while
//! WAL waits for a replay that is paused, for then the data is as old as the last commit that was replayed.

use std::time::Duration;

use super::{Lsn, Observation, PrimaryPosition, Receiver, ReceiverDetails, Replication, Sighting};

/// The lag of a standby, in both currencies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lag {
    /// How much WAL is not replayed yet.
    pub bytes: Result<LagBytes, LagUnknown>,
    /// How old the data is.
    pub time: Result<LagTime, LagUnknown>,
}

/// A lag in bytes, and how it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LagBytes {
    /// WAL that was not replayed, in bytes.
    pub bytes: u64,
    /// Measured to where?
    pub basis: BytesBasis,
}

/// Up to which position the lag in bytes is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BytesBasis {
    /// The end of the sender's WAL, as of its last message; visible with `pg_monitor`.
    Sender,
    /// What was received: the sender may have more.
    Received,
    /// Where the primary wrote, as its agent said within `--peer-interval`: further than the standby itself knows.
    Primary,
}

/// A lag in time, and how it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LagTime {
    /// How old the data is.
    pub duration: Duration,
    /// Known from what?
    pub basis: TimeBasis,
}

/// What the lag in time follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeBasis {
    /// Everything known of the sender's WAL is replayed, and the receiver lives.
    CaughtUp,
    /// The age of the last commit that was replayed.
    LastCommit,
}

/// Why a lag is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LagUnknown {
    /// There is no WAL receiver.
    NoReceiver,
    /// The WAL receiver has heard nothing for longer than `wal_receiver_timeout`, and would have given up if it could; or
    /// it has just connected, and has heard nothing yet.
    ReceiverSilent,
    /// The WAL receiver streams nothing: it waits at the end of a timeline, for ever where the standby has a history of its
    /// own.
    NotStreaming,
    /// It has replayed more than its sender, which has spoken, ever had: a history of its own, which the sender's next WAL does
    /// not go on with.
    AheadOfSender,
    /// It is seen on a lower timeline than the primary, or than another node: what it replays next may be of another history.
    OtherTimeline,
    /// The server names no position, or no commit was replayed since its start.
    NothingReplayed,
}

impl BytesBasis {
    /// The word that stands in documents.
    pub const fn word(self) -> &'static str {
        match self {
            BytesBasis::Sender => "sender",
            BytesBasis::Received => "received",
            BytesBasis::Primary => "primary",
        }
    }
}

impl TimeBasis {
    /// The word that stands in documents.
    pub const fn word(self) -> &'static str {
        match self {
            TimeBasis::CaughtUp => "caught-up",
            TimeBasis::LastCommit => "last-commit",
        }
    }
}

impl LagUnknown {
    /// The word that stands in documents.
    pub const fn word(self) -> &'static str {
        match self {
            LagUnknown::NoReceiver => "no-wal-receiver",
            LagUnknown::ReceiverSilent => "wal-receiver-silent",
            LagUnknown::NotStreaming => "wal-receiver-not-streaming",
            LagUnknown::AheadOfSender => "ahead-of-sender",
            LagUnknown::OtherTimeline => "other-timeline",
            LagUnknown::NothingReplayed => "nothing-replayed",
        }
    }
}

impl Observation {
    /// What the standby's own words amount to, and those of its primary's agent; `None` where nobody needed it.
    pub fn lag(&self) -> Option<Lag> {
        let sighting = self.sighting()?;
        let replication = sighting.replication.as_ref()?;
        let is_paused = sighting.recovery.is_some_and(|recovery| recovery.is_paused);
        Some(match self.primary_of(sighting) {
            Ok(primary) => lag(replication, is_paused, primary),
            Err(why) => Lag { bytes: Err(why), time: Err(why) },
        })
    }

    /// How much WAL was not received yet, in bytes, replayed or not; known only where the end of the sender's WAL is.
    pub fn bytes_not_received(&self) -> Result<u64, LagUnknown> {
        let sighting = self.sighting().ok_or(LagUnknown::NothingReplayed)?;
        let replication = sighting.replication.as_ref().ok_or(LagUnknown::NothingReplayed)?;
        // A receiver that has just started says less than was there before.
        let received = replication.received.max(replication.replayed);
        let primary = self.primary_of(sighting)?.map(|primary| primary.lsn);
        let own = sender_end(replication);
        let end = match primary.filter(|primary| received.is_some_and(|received| received <= *primary)) {
            Some(primary) => primary.max(own.unwrap_or(primary)),
            None => own?,
        };
        Ok(end.bytes_since(received.ok_or(LagUnknown::NothingReplayed)?))
    }

    /// Where the primary writes by which this standby is measured. `Err` where the standby is on a lower timeline than a node
    /// was seen on, whether that one still answers or not.
    fn primary_of(&self, sighting: &Sighting) -> Result<Option<PrimaryPosition>, LagUnknown> {
        let Some(timeline) = sighting.timeline else { return Ok(None) };
        // Without `pg_monitor` it is that of the last restartpoint, and what comes since may be the primary's own.
        let is_hidden = sighting.replication.as_ref().is_some_and(Replication::hides_details);
        if !is_hidden && self.evidence.highest_timeline.is_some_and(|highest| timeline < highest) {
            return Err(LagUnknown::OtherTimeline);
        }
        // One that was left behind says nothing about this standby.
        Ok(self.evidence.primary.filter(|primary| timeline <= primary.timeline))
    }
}

/// The end of the sender's WAL as of its last message, of a receiver that lives.
fn sender_end(replication: &Replication) -> Result<Lsn, LagUnknown> {
    latest_end(living_receiver(replication)?).ok_or(LagUnknown::NothingReplayed)
}

fn lag(replication: &Replication, is_paused: bool, primary: Option<PrimaryPosition>) -> Lag {
    let bytes = match primary.zip(replication.replayed) {
        Some((primary, replayed)) if replayed <= primary.lsn => {
            to_primary(lag_bytes(replication), primary.lsn.bytes_since(replayed))
        }
        // A moment has passed since the primary's word; or this standby has what its primary never had.
        _ => lag_bytes(replication),
    };
    let time = match bytes {
        Ok(LagBytes { bytes: 0, .. }) => Ok(LagTime { duration: Duration::ZERO, basis: TimeBasis::CaughtUp }),
        Ok(_) => since_last_commit(replication),
        // It starts no new receiver while it is paused. What was received before waits, and nothing is replayed soon.
        Err(_) if is_paused && has_waiting_wal(replication) => since_last_commit(replication),
        Err(why) => Err(why),
    };
    Lag { bytes, time }
}

/// The primary's word counts where it is beyond what the standby knows itself: a stream may have died unnoticed.
fn to_primary(own: Result<LagBytes, LagUnknown>, bytes: u64) -> Result<LagBytes, LagUnknown> {
    match own {
        Ok(known) if known.bytes >= bytes => Ok(known),
        Ok(_) | Err(_) => Ok(LagBytes { bytes, basis: BytesBasis::Primary }),
    }
}

fn lag_bytes(replication: &Replication) -> Result<LagBytes, LagUnknown> {
    let receiver = living_receiver(replication)?;
    let ends = replication.replayed.zip(known_end(replication, receiver));
    let (replayed, (end, basis)) = ends.ok_or(LagUnknown::NothingReplayed)?;
    // It may connect all the same: it asks for the segment from the beginning.
    if replayed > end && receiver.details.as_ref().is_some_and(|details| details.has_heard) {
        return Err(LagUnknown::AheadOfSender);
    }
    Ok(LagBytes { bytes: end.bytes_since(replayed), basis })
}

/// One that would bring news.
fn living_receiver(replication: &Replication) -> Result<&Receiver, LagUnknown> {
    let receiver = replication.receiver.as_ref().ok_or(LagUnknown::NoReceiver)?;
    if !receiver.details.as_ref().is_none_or(ReceiverDetails::streams) {
        return Err(LagUnknown::NotStreaming);
    }
    if is_silent(receiver) { Err(LagUnknown::ReceiverSilent) } else { Ok(receiver) }
}

fn latest_end(receiver: &Receiver) -> Option<Lsn> {
    receiver.details.as_ref().and_then(|details| details.latest_end)
}

fn since_last_commit(replication: &Replication) -> Result<LagTime, LagUnknown> {
    let duration = replication.last_commit_age.ok_or(LagUnknown::NothingReplayed)?;
    Ok(LagTime { duration, basis: TimeBasis::LastCommit })
}

fn has_waiting_wal(replication: &Replication) -> bool {
    replication.replayed.zip(replication.received).is_some_and(|(replayed, received)| replayed < received)
}

/// A receiver that lives asks the sender for a sign of life after half of `wal_receiver_timeout` and ends after the
/// whole; one that is older than that without news is stopped. One that has only just connected may be refused yet.
/// Without `pg_monitor` none of this is visible.
fn is_silent(receiver: &Receiver) -> bool {
    receiver.details.as_ref().is_some_and(|details| match details.last_message_age {
        Some(age) => receiver.timeout.is_some_and(|timeout| age > timeout),
        None => true,
    })
}

/// The furthest position that is known of. Until its first message the first receiver since the server's start knows
/// none, and a later one that of its predecessor.
fn known_end(replication: &Replication, receiver: &Receiver) -> Option<(Lsn, BytesBasis)> {
    let latest_end = latest_end(receiver);
    match (latest_end, replication.received) {
        (Some(sender), received) => Some((sender.max(received.unwrap_or(sender)), BytesBasis::Sender)),
        (None, Some(received)) => Some((received, BytesBasis::Received)),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn details(latest_end: u64, last_message_age: Duration) -> ReceiverDetails {
        ReceiverDetails {
            status: "streaming".into(),
            latest_end: Some(Lsn(latest_end)),
            last_message_age: Some(last_message_age),
            ..ReceiverDetails::default()
        }
    }

    fn standby(replayed: u64, received: u64, details: Option<ReceiverDetails>) -> Replication {
        Replication {
            replayed: Some(Lsn(replayed)),
            received: Some(Lsn(received)),
            last_commit_age: Some(7 * SECOND),
            receiver: Some(Receiver { timeout: Some(60 * SECOND), details }),
        }
    }

    fn known(bytes: u64, basis: BytesBasis, duration: Duration, time_basis: TimeBasis) -> Lag {
        Lag { bytes: Ok(LagBytes { bytes, basis }), time: Ok(LagTime { duration, basis: time_basis }) }
    }

    #[test]
    fn the_lag_is_measured_to_the_sender_where_that_is_visible() {
        use {BytesBasis::*, TimeBasis::*};
        let table = [
            (standby(100, 100, None), known(0, Received, Duration::ZERO, CaughtUp)),
            (standby(100, 160, None), known(60, Received, 7 * SECOND, LastCommit)),
            (standby(100, 100, Some(details(100, SECOND))), known(0, Sender, Duration::ZERO, CaughtUp)),
            (standby(100, 160, Some(details(200, SECOND))), known(100, Sender, 7 * SECOND, LastCommit)),
            (standby(100, 100, Some(details(200, SECOND))), known(100, Sender, 7 * SECOND, LastCommit)),
            // The sender's word can be older than what came after it.
            (standby(100, 160, Some(details(90, SECOND))), known(60, Sender, 7 * SECOND, LastCommit)),
            // A receiver that has just started is said to have received the segment's beginning, and that stays so
            // until the sender has more than was replayed before: on an idle primary for ever.
            (standby(100, 64, None), known(0, Received, Duration::ZERO, CaughtUp)),
            (standby(100, 64, Some(details(64, SECOND))), known(0, Sender, Duration::ZERO, CaughtUp)),
        ];
        for (replication, expected) in table {
            assert_eq!(lag(&replication, false, None), expected, "{replication:?}");
        }
    }

    fn unknown(why: LagUnknown) -> Lag {
        Lag { bytes: Err(why), time: Err(why) }
    }

    #[test]
    fn without_a_receiver_that_lives_no_lag_is_known() {
        let gone = Replication { receiver: None, ..standby(100, 100, None) };
        assert_eq!(lag(&gone, false, None), unknown(LagUnknown::NoReceiver));
        let silent = standby(100, 100, Some(details(100, 61 * SECOND)));
        assert_eq!(lag(&silent, false, None), unknown(LagUnknown::ReceiverSilent));
        for status in ["waiting", "restarting", "stopping", "connecting"] {
            let details = ReceiverDetails { status: status.into(), ..details(100, SECOND) };
            let at_the_end = standby(100, 100, Some(details));
            assert_eq!(lag(&at_the_end, false, None), unknown(LagUnknown::NotStreaming), "{status}");
        }
        let mut patient = silent;
        patient.receiver.as_mut().unwrap().timeout = None;
        assert_eq!(
            lag(&patient, false, None),
            known(0, BytesBasis::Sender, Duration::ZERO, TimeBasis::CaughtUp)
        );
    }

    #[test]
    fn while_replay_is_paused_waiting_wal_is_as_old_as_the_last_commit_whatever_the_receiver() {
        let last_commit = Ok(LagTime { duration: 7 * SECOND, basis: TimeBasis::LastCommit });
        let gone = Replication { receiver: None, ..standby(100, 160, None) };
        assert_eq!(lag(&gone, true, None), Lag { bytes: Err(LagUnknown::NoReceiver), time: last_commit });
        assert_eq!(lag(&gone, false, None), unknown(LagUnknown::NoReceiver));
        let silent = standby(100, 160, Some(details(160, 61 * SECOND)));
        assert_eq!(
            lag(&silent, true, None),
            Lag { bytes: Err(LagUnknown::ReceiverSilent), time: last_commit }
        );
        // Nothing waits: nobody knows what else there is.
        for received in [Some(Lsn(100)), Some(Lsn(64)), None] {
            let done = Replication { received, receiver: None, ..standby(100, 100, None) };
            assert_eq!(lag(&done, true, None), unknown(LagUnknown::NoReceiver));
        }
    }

    /// 60 bytes behind what was received, on this timeline, with a primary that is so far.
    fn beside(timeline: u32, primary: (u32, u64), receiver: Option<Receiver>) -> Lag {
        let replication = Replication { receiver, ..standby(100, 160, None) };
        let sighting = Sighting {
            timeline: Some(timeline),
            replication: Some(replication),
            ..Sighting::of_role(crate::instance::Role::Standby)
        };
        let mut observation = Observation::new(crate::instance::Drain::Off, Some(Ok(sighting)), None);
        let (timeline, lsn) = (primary.0, Lsn(primary.1));
        observation.evidence.primary = Some(PrimaryPosition { timeline, lsn });
        observation.evidence.highest_timeline = Some(timeline);
        observation.lag().unwrap()
    }

    #[test]
    fn the_primarys_word_counts_where_it_is_beyond_the_standbys_own() {
        use BytesBasis::*;
        let live = || Some(Receiver { timeout: None, details: Some(details(160, SECOND)) });
        let bytes = |lag: Lag| lag.bytes.map(|known| (known.bytes, known.basis));
        assert_eq!(bytes(beside(2, (2, 500), live())), Ok((400, Primary)));
        assert_eq!(bytes(beside(2, (2, 160), live())), Ok((60, Sender)));
        assert_eq!(bytes(beside(2, (2, 50), live())), Ok((60, Sender)));
        // Nothing comes any more, and yet it is known how far the primary is.
        assert_eq!(bytes(beside(2, (2, 500), None)), Ok((400, Primary)));
        assert_eq!(bytes(beside(2, (2, 100), None)), Ok((0, Primary)));
        assert_eq!(beside(2, (2, 100), None).time.map(|time| time.basis), Ok(TimeBasis::CaughtUp));
        assert_eq!(beside(2, (2, 101), None).time.map(|time| time.basis), Ok(TimeBasis::LastCommit));
    }

    #[test]
    fn who_has_more_than_the_primary_or_the_sender_knows_no_lag() {
        let live = |details| Some(Receiver { timeout: None, details: Some(details) });
        // The primary's word is a moment old; but where nothing comes any more, it makes no lag known.
        assert_eq!(beside(2, (2, 99), live(details(160, SECOND))).bytes.map(|known| known.bytes), Ok(60));
        assert_eq!(beside(2, (2, 99), None), unknown(LagUnknown::NoReceiver));
        // It asks for the segment from the beginning, and the sender has less than was replayed.
        let heard = |latest_end| ReceiverDetails { has_heard: true, ..details(latest_end, SECOND) };
        let ahead = |latest_end| lag(&standby(100, 64, Some(heard(latest_end))), false, None);
        assert_eq!(ahead(99), unknown(LagUnknown::AheadOfSender));
        assert_eq!(ahead(100), known(0, BytesBasis::Sender, Duration::ZERO, TimeBasis::CaughtUp));
    }

    #[test]
    fn on_another_timeline_than_the_primary_nothing_is_known_or_all_is_as_without_it() {
        let live = || Some(Receiver { timeout: None, details: Some(details(160, SECOND)) });
        assert_eq!(beside(1, (2, 160), live()), unknown(LagUnknown::OtherTimeline));
        assert_eq!(beside(1, (2, 160), None), unknown(LagUnknown::OtherTimeline));
        assert_eq!(beside(3, (2, 900), None), unknown(LagUnknown::NoReceiver));
        // Which one it receives is hidden: the last restartpoint may have been long ago, and it may follow that primary.
        for (timeline, bytes, basis) in
            [(1, 800, BytesBasis::Primary), (2, 800, BytesBasis::Primary), (3, 60, BytesBasis::Received)]
        {
            let hidden = beside(timeline, (2, 900), Some(Receiver::default()));
            assert_eq!(hidden.bytes, Ok(LagBytes { bytes, basis }), "{timeline}");
        }
    }

    #[test]
    fn what_was_replayed_was_received_although_a_receiver_has_just_started() {
        let not_received = |receiver: Option<ReceiverDetails>, primary: Option<PrimaryPosition>| {
            let sighting = Sighting {
                timeline: Some(2),
                replication: Some(standby(100, 64, receiver)),
                ..Sighting::of_role(crate::instance::Role::Standby)
            };
            let mut observation = Observation::new(crate::instance::Drain::Off, Some(Ok(sighting)), None);
            observation.evidence.primary = primary;
            observation.bytes_not_received()
        };
        let primary = Some(PrimaryPosition { timeline: 2, lsn: Lsn(130) });
        assert_eq!(not_received(Some(details(100, SECOND)), None), Ok(0));
        assert_eq!(not_received(Some(details(100, SECOND)), primary), Ok(30));
        assert_eq!(not_received(None, primary), Ok(30));
        assert_eq!(not_received(None, None), Err(LagUnknown::NothingReplayed));
    }

    #[test]
    fn without_a_commit_to_compare_only_the_bytes_are_known() {
        let behind = Replication { last_commit_age: None, ..standby(100, 160, None) };
        assert_eq!(lag(&behind, true, None).time, Err(LagUnknown::NothingReplayed));
        assert_eq!(lag(&behind, true, None).bytes, Ok(LagBytes { bytes: 60, basis: BytesBasis::Received }));
        let fresh = Replication { received: None, ..standby(100, 0, None) };
        assert_eq!(lag(&fresh, false, None), unknown(LagUnknown::NothingReplayed));
    }
}
