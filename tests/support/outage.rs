//! An outage as three see it at the same time: a new session that writes, the agent, and Patroni.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::patroni::{Node, PAUSE, patiently};
use super::{Agent, http, secs};

/// What nobody ends by then has gone wrong, and its test says so.
const LIMIT: Duration = secs(180);

/// The agent's deadline, which is its default.
pub const DEADLINE: Duration = secs(2);

/// One look at something.
#[derive(Debug, Clone)]
pub struct Look {
    began: Instant,
    ended: Instant,
    /// Status line of the agent, status code of Patroni, `written` or what psql said.
    saw: String,
}

/// What was seen of one node while something was done to it.
pub struct Outage {
    writes: Vec<Look>,
    ours: Vec<Look>,
    patronis: Vec<Look>,
}

const WRITTEN: &str = "written";
const OURS: &str = "200 Primary";
const PATRONIS: &str = "200";

/// Watches `/primary` of both while `happening` runs. All three say yes before it does, and at least one write fails
/// before the watch ends.
#[track_caller]
pub fn watch(node: &Node, agent: &Agent, happening: impl FnOnce()) -> Outage {
    patiently("a primary for everybody", || {
        node.write().is_ok() && agent.get("/primary").line() == OURS && node.says_200("/primary")
    });
    let stop = AtomicBool::new(false);
    let outage = thread::scope(|scope| {
        let _stop_in_any_case = StopOnDrop(&stop);
        let writes =
            scope.spawn(|| looks(&stop, || node.write().map_or_else(|said| said, |()| WRITTEN.into())));
        let ours = scope.spawn(|| {
            let ask = || http::get(agent.addr(), "/primary").map(|reply| reply.line());
            looks(&stop, || ask().unwrap_or_else(|error| error.to_string()))
        });
        let patronis = scope.spawn(|| {
            let ask = || node.api("/primary").map(|status| status.to_string());
            looks(&stop, || ask().unwrap_or_else(|error| error.to_string()))
        });
        happening();
        stop.store(true, Ordering::SeqCst);
        let [writes, ours, patronis] =
            [writes, ours, patronis].map(|thread| thread.join().expect("a watcher"));
        Outage { writes, ours, patronis }
    });
    assert!(outage.writes.iter().any(|look| look.saw != WRITTEN), "no write failed");
    outage
}

/// So that a test that fails meanwhile ends.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn looks(stop: &AtomicBool, mut look: impl FnMut() -> String) -> Vec<Look> {
    let start = Instant::now();
    let mut looks = Vec::new();
    while !stop.load(Ordering::SeqCst) && start.elapsed() < LIMIT {
        let began = Instant::now();
        let saw = look();
        looks.push(Look { began, ended: Instant::now(), saw });
        thread::sleep(PAUSE);
    }
    looks
}

impl Outage {
    /// From when on nobody could write, at the latest: the first attempt that failed has ended. The first of those that
    /// failed one after the other for the longest time, for one alone that took too long is no outage.
    pub fn first_refusal(&self) -> Instant {
        let lasted = |looks: &&[Look]| looks.last().map(|last| last.ended - looks[0].began);
        let longest = self.writes.split(|look| look.saw == WRITTEN).max_by_key(lasted);
        longest.and_then(<[Look]>::first).expect("a write failed").ended
    }

    /// Until when nobody could write, at least: the last attempt that failed began.
    fn last_refusal(&self) -> Instant {
        self.writes.iter().rfind(|look| look.saw != WRITTEN).expect("a write failed").began
    }

    /// The agent must not call the node a primary later than a deadline after `since`, as long as nobody can write.
    #[track_caller]
    pub fn assert_ours_is_right(&self, since: Instant) {
        let wrong = self.ours.iter().find(|look| {
            look.saw == OURS && look.began > since + DEADLINE && look.ended < self.last_refusal()
        });
        assert!(
            wrong.is_none(),
            "{:?} after the last write: {wrong:?}",
            wrong.map(|look| look.began - since)
        );
    }

    /// The agent gave another answer while nobody could write: the watch was long enough to see that.
    #[track_caller]
    pub fn assert_ours_was_seen(&self, line: &str) {
        let during = self.ours.iter().filter(|look| look.ended <= self.last_refusal());
        let mut lines: Vec<&str> = during.map(|look| look.saw.as_str()).collect();
        lines.dedup();
        assert!(lines.iter().any(|seen| seen.starts_with(line)), "no {line}: {lines:?}");
    }

    /// How long after `since` nobody could write, how long the agent went on to say 200, and Patroni: as a line.
    pub fn figures(&self, since: Instant) -> String {
        let figure = |looks: &[Look], yes: &str| {
            let asked_then = looks.iter().filter(|look| look.began >= since);
            let still = asked_then.take_while(|look| look.saw == yes && look.ended <= self.last_refusal());
            still.last().map_or(Duration::ZERO, |look| look.ended - since).as_secs_f64()
        };
        let refused = self.last_refusal().saturating_duration_since(since).as_secs_f64();
        format!(
            "writes failed for {refused:.1} s, Patroni said 200 for {:.1} s of them, the agent for {:.1} s",
            figure(&self.patronis, PATRONIS),
            figure(&self.ours, OURS)
        )
    }
}
