//! What is known of commits, and when a primary has to make one. One at a time, whatever is asked: while one hangs, that is
//! the answer.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::circle::{self, Call, Circle, Member};
use crate::config::Config;
use crate::instance::{Failure, NoCommit, ProbeSettings, WriteProbe, Writer};
use crate::panics;
use crate::reason::Reason;
use crate::tally::Tally;

/// Who commits.
pub struct Seat {
    /// How long a commit is good for, counted from its beginning.
    interval: Duration,
    /// The deadline of a check.
    timeout: Duration,
    /// A commit is to be begun for who arrived then, and for who came before.
    wanted: Option<Instant>,
    /// The instance is none to be written to: the session is to be closed.
    is_to_close: bool,
    has_session: bool,
    /// When the probe under way was begun.
    writing: Option<Instant>,
    last: Option<Last>,
}

/// A probe that has come to its end.
struct Last {
    begun: Instant,
    outcome: Result<Duration, NoCommit>,
}

/// What the thread is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Commit, for who waits until then.
    Commit {
        /// The deadline of the newest one.
        deadline: Instant,
    },
    /// Close the session.
    Close,
}

/// What the administrator said of commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteSettings {
    probe: ProbeSettings,
    interval: Duration,
}

impl WriteSettings {
    /// What the configuration says; `None` where nothing is to be committed.
    pub fn of(config: &Config) -> Option<WriteSettings> {
        config.write_probe.map(|interval| WriteSettings { probe: ProbeSettings::of(config), interval })
    }
}

/// Starts the circle of one.
pub fn start(settings: &WriteSettings, tally: Arc<Tally>) -> io::Result<Circle<Seat>> {
    let seat = Seat::new(settings.interval, settings.probe.timeout);
    let mut writer = Writer::new(settings.probe.clone());
    let work = move |task| match task {
        Task::Commit { deadline } => {
            panics::trip("committing");
            let _under_way = tally.probes.write();
            Some(writer.commit(deadline))
        }
        Task::Close => {
            writer.close();
            None
        }
    };
    let member = Member { seat, thread: "writer".into(), work: Box::new(work) };
    Circle::start("writes", vec![member])
}

impl Seat {
    fn new(interval: Duration, timeout: Duration) -> Seat {
        Seat {
            interval,
            timeout,
            wanted: None,
            is_to_close: false,
            has_session: false,
            writing: None,
            last: None,
        }
    }

    /// The instance was not to be seen: what was committed before says nothing of what comes back, which may be another
    /// server, and no session stays, for which a smart shutdown would wait. Says whether there is something to do.
    pub fn let_go(&mut self) -> bool {
        self.last = None;
        self.is_to_close = self.has_session;
        self.is_to_close
    }

    /// The instance was seen to be no primary: nothing is begun any more either.
    pub fn stop(&mut self) -> bool {
        self.wanted = None;
        self.let_go()
    }

    /// How long the probe under way has been hanging, where it does: until it ends nothing else has to be known.
    fn hangs(&self, now: Instant) -> Option<Duration> {
        let lasts = now.saturating_duration_since(self.writing?);
        (lasts >= self.timeout).then_some(lasts)
    }

    /// What the last probe that has ended tells this call: a commit is good for the interval, anything else for those who were
    /// there already.
    fn tells(&self, call: Call) -> Option<WriteProbe> {
        let Last { begun, outcome } = self.last.as_ref()?;
        match outcome {
            Ok(took) => (*begun + self.interval >= call.arrived).then_some(WriteProbe::Committed(*took)),
            Err(why) => (*begun >= call.arrived).then(|| told(why)),
        }
    }
}

fn told(why: &NoCommit) -> WriteProbe {
    match why {
        NoCommit::Failed(failure) => WriteProbe::Failed { cause: failure.cause.as_str().into() },
        NoCommit::Stalled(cause) => WriteProbe::Stalled { lasts: None, cause: Some(cause.as_str().into()) },
    }
}

impl circle::Seat for Seat {
    type Task = Task;
    type Outcome = Option<Result<Duration, NoCommit>>;
    type News = Option<WriteProbe>;

    fn want(&mut self, call: Call, now: Instant) -> bool {
        if self.tells(call).is_some() || self.hangs(now).is_some() {
            return false;
        }
        // Beside the one under way none is begun; after it only where that tells this call nothing.
        let before = self.wanted;
        self.wanted = before.max(Some(call.arrived));
        before.is_none() && self.writing.is_none()
    }

    fn begin(&mut self, now: Instant) -> Option<Task> {
        if std::mem::take(&mut self.is_to_close) {
            self.has_session = false;
            return Some(Task::Close);
        }
        let arrived = self.wanted.take()?;
        self.writing = Some(now);
        self.has_session = true;
        Some(Task::Commit { deadline: arrived + self.timeout })
    }

    fn end(&mut self, outcome: Option<Result<Duration, NoCommit>>, now: Instant) {
        // A commit that came back too late for a check is good for none: the next one shows whether they do again.
        let is_late = self.hangs(now).is_some() && matches!(outcome, Some(Ok(_)));
        let begun = self.writing.take();
        self.last = begun.zip(outcome).filter(|_| !is_late).map(|(begun, outcome)| Last { begun, outcome });
        // Who came longer ago than a deadline does not wait any more.
        self.wanted = self.wanted.filter(|arrived| *arrived + self.timeout > now);
        if let Some(Last { begun, outcome: Ok(_) }) = &self.last {
            let until = *begun + self.interval;
            self.wanted = self.wanted.filter(|arrived| *arrived > until);
        }
    }

    fn is_settled(&self, call: Call, now: Instant) -> bool {
        self.tells(call).is_some() || self.hangs(now).is_some()
    }

    fn news(&self, call: Call, now: Instant) -> Option<WriteProbe> {
        if let Some(lasts) = self.hangs(now) {
            return Some(WriteProbe::Stalled { lasts: Some(lasts), cause: None });
        }
        self.tells(call).or_else(|| match call.is_deadline {
            true => {
                let lasts = self.writing.map(|begun| now.saturating_duration_since(begun));
                (now >= call.limit).then_some(WriteProbe::Stalled { lasts, cause: None })
            }
            false => self.last.as_ref().and_then(|last| last.outcome.as_ref().err()).map(told),
        })
    }

    fn panicked() -> Option<Result<Duration, NoCommit>> {
        let failure = Failure::new(Reason::AgentOutOfResources, "the write probe panicked");
        Some(Err(NoCommit::Failed(failure)))
    }
}

#[cfg(test)]
mod tests {
    use super::circle::Seat as _;
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const INTERVAL: Duration = Duration::from_secs(10);
    const TIMEOUT: Duration = Duration::from_secs(1);

    fn call(arrived: Instant) -> Call {
        Call { arrived, limit: arrived + TIMEOUT, is_deadline: true }
    }

    /// At work since then.
    fn writing(since: Instant) -> Seat {
        let mut seat = Seat::new(INTERVAL, TIMEOUT);
        assert!(seat.want(call(since), since));
        assert_eq!(seat.begin(since), Some(Task::Commit { deadline: since + TIMEOUT }));
        seat
    }

    #[test]
    fn a_commit_is_good_for_the_interval() {
        let t = Instant::now();
        let mut seat = writing(t);
        assert!(!seat.want(call(t + MS), t + MS), "one at a time");
        seat.end(Some(Ok(MS)), t + 2 * MS);
        assert!(seat.begin(t + 2 * MS).is_none(), "whoever came meanwhile is served");
        for (later, is_known) in [(MS, true), (INTERVAL, true), (INTERVAL + MS, false)] {
            let call = call(t + later);
            let news = seat.news(call, call.arrived);
            assert_eq!(news, is_known.then_some(WriteProbe::Committed(MS)), "{later:?}");
            assert_eq!(seat.want(call, call.arrived), !is_known, "{later:?}");
        }
    }

    #[test]
    fn who_comes_while_one_hangs_knows_at_once_and_begins_no_other() {
        let t = Instant::now();
        let mut seat = writing(t);
        assert_eq!(seat.news(call(t), t + TIMEOUT - MS), None);
        let later = t + TIMEOUT;
        let stalled = |lasts| Some(WriteProbe::Stalled { lasts: Some(lasts), cause: None });
        assert_eq!(seat.news(call(t), later), stalled(TIMEOUT));
        assert!(!seat.want(call(later), later) && seat.is_settled(call(later), later));
        assert_eq!(seat.news(call(later), later + MS), stalled(TIMEOUT + MS));
        assert!(seat.begin(later).is_none());
        // It came back too late to tell anybody that a commit comes back in time.
        seat.end(Some(Ok(TIMEOUT)), later + MS);
        let after = later + 2 * MS;
        assert_eq!(seat.news(call(after), after), None);
        assert!(seat.want(call(after), after) && seat.begin(after).is_some());
    }

    #[test]
    fn who_comes_when_the_one_under_way_is_too_old_for_him_gets_another_one() {
        let t = Instant::now();
        let mut seat = Seat { interval: TIMEOUT, timeout: INTERVAL, ..writing(t) };
        let (served, late) = (call(t + TIMEOUT), call(t + TIMEOUT + MS));
        assert!(!seat.want(served, served.arrived) && !seat.want(late, late.arrived));
        assert!(!seat.want(served, late.arrived));
        seat.end(Some(Ok(2 * TIMEOUT)), t + 2 * TIMEOUT);
        assert!(seat.is_settled(served, t + 2 * TIMEOUT) && !seat.is_settled(late, t + 2 * TIMEOUT));
        assert_eq!(seat.begin(t + 2 * TIMEOUT), Some(Task::Commit { deadline: late.arrived + INTERVAL }));
        assert!(!seat.want(late, t + 2 * TIMEOUT));
        seat.end(Some(Err(NoCommit::Stalled("no".into()))), t + 2 * INTERVAL);
        assert!(seat.begin(t + 2 * INTERVAL).is_none(), "nobody waits any more");
    }

    #[test]
    fn what_failed_counts_for_those_who_were_there() {
        let t = Instant::now();
        let mut seat = writing(t);
        let (before, after) = (call(t), call(t + MS));
        assert!(!seat.want(after, after.arrived));
        seat.end(Some(Err(NoCommit::Failed(Failure::new(Reason::QueryFailed, "no")))), t + 2 * MS);
        assert_eq!(seat.news(before, t + 2 * MS), Some(WriteProbe::Failed { cause: "no".into() }));
        assert_eq!(seat.news(after, t + 2 * MS), None);
        let shown = Call { is_deadline: false, ..after };
        assert!(seat.news(shown, t + 2 * MS).is_some(), "what is only shown is what was known last");
        assert_eq!(
            seat.begin(t + 2 * MS),
            Some(Task::Commit { deadline: after.arrived + TIMEOUT }),
            "for who came after it"
        );
    }

    #[test]
    fn after_a_failure_a_commit_has_to_come_back_again() {
        let t = Instant::now();
        let mut seat = writing(t);
        seat.end(Some(Ok(MS)), t + MS);
        assert!(!seat.want(call(t + MS), t + MS));
        assert!(seat.let_go(), "no session stays");
        assert_eq!(seat.news(call(t + MS), t + MS), None);
        seat.want(call(t + MS), t + MS);
        assert_eq!(seat.begin(t + MS), Some(Task::Close));
        seat.end(None, t + MS);
        assert_eq!(seat.begin(t + MS), Some(Task::Commit { deadline: t + MS + TIMEOUT }));
    }

    #[test]
    fn a_standby_is_never_written_to() {
        let t = Instant::now();
        let mut seat = Seat::new(INTERVAL, TIMEOUT);
        assert!(!seat.stop(), "it has no session");
        assert!(seat.want(call(t), t) && !seat.stop());
        assert!(seat.begin(t).is_none());
        let mut seat = writing(t);
        seat.end(Some(Ok(MS)), t + MS);
        assert!(seat.stop());
        assert_eq!(seat.begin(t + MS), Some(Task::Close));
        assert!(seat.begin(t + MS).is_none() && !seat.stop());
        assert!(seat.want(call(t + MS), t + MS), "a primary again has to show it again");
    }
}
