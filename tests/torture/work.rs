//! Whether clients could work: what agents may say of commits and poolers, as clients met them. Pure.

use std::time::Duration;

use super::checker::Limits;
use super::history::{Answer, Asked, At, History, Node, Said, Tries};

/// What an answer about the role has no right to where no client could work. `nodes` are those whose server it may be about.
pub fn idle(answer: &Answer, nodes: &[Node], history: &History, limits: &Limits) -> Option<String> {
    let is_told = matches!(answer.said, Said::Is(_) | Said::Refused(_));
    if is_told && answer.asked == Asked::Role {
        let window = window(limits.knock, answer, history, limits);
        let since = hopeless_since(&history.calls, answer.node, answer, &window);
        if let Some(since) = since {
            return Some(format!("the pooler answered nobody since {since:?}"));
        }
    }
    if answer.takes_writes {
        let window = window(limits.write_probe, answer, history, limits);
        let mut since = nodes.iter().map(|node| hopeless_since(&history.commits, *node, answer, &window));
        let first = since.next().flatten()?;
        if since.all(|since| since.is_some()) {
            return Some(format!("no commit came back since {first:?}"));
        }
    }
    None
}

/// An answer that blames commits or the pooler while they were fine the whole time.
pub fn false_alarm(answer: &Answer, nodes: &[Node], history: &History, limits: &Limits) -> Option<String> {
    let Said::Unverified(reason) = &answer.said else { return None };
    // A commit that hangs, or was late, may have been begun by another request before.
    let from = answer.begun.saturating_sub(limits.timeout + limits.slack);
    let is_stalled = history.stalls.iter().any(|(begun, ended)| *begun <= answer.ended && from <= *ended);
    let were_fine = |tries: &Tries, nodes: &[Node]| {
        !is_stalled && nodes.iter().all(|node| are_fine(tries, *node, from, answer.ended, limits.timeout / 2))
    };
    // Observers commit in a session that they have; that new ones are let in no more is noticed after it has happened.
    let mut shut = history.closed.iter().chain(&history.frozen).chain(&history.cut_off);
    let were_open = !shut.any(|span| {
        nodes.contains(&span.node)
            && span.from <= answer.ended + limits.slack
            && span.until.is_none_or(|until| from <= until)
    });
    match reason.as_str() {
        "write-stalled" | "write-failed" if were_open && were_fine(&history.commits, nodes) => {
            Some("others' commits came back the whole time".to_owned())
        }
        "pooler-not-answering" if were_fine(&history.calls, &[answer.node]) => {
            Some("the pooler answered others the whole time".to_owned())
        }
        _ => None,
    }
}

/// An answer that has nothing to do with commits and poolers, and came as late as if it had waited for them.
pub fn held_up(answer: &Answer, stalled: Duration, history: &History, limits: &Limits) -> Option<String> {
    let took = answer.ended.saturating_sub(answer.begun);
    if took <= limits.timeout * 3 / 4 + stalled {
        return None;
    }
    let is_held_up = match answer.asked {
        Asked::Role => false,
        Asked::Health => {
            let hangs = |tries: &Tries| {
                let first = tries.since(answer.node, answer.ended).first();
                first.is_some_and(|hung| hung.begun <= answer.begun)
            };
            // PostgreSQL itself answered others meanwhile.
            (hangs(&history.commits) || hangs(&history.calls))
                && history.readings.iter().any(|reading| {
                    reading.node == answer.node
                        && answer.begun <= reading.begun
                        && reading.ended <= answer.ended
                })
        }
        Asked::Liveness => true,
    };
    is_held_up.then(|| format!("after {took:?}, and it had nothing to wait for"))
}

/// The stretch before an answer in which somebody has to have met what it says.
struct Window {
    from: At,
    /// By then at the latest somebody has to have tried.
    watched_from: At,
    slack: Duration,
}

/// What the agent found is good for `interval`, and finding it takes it a deadline; time in which the machine stood still
/// does not count.
fn window(interval: Duration, answer: &Answer, history: &History, limits: &Limits) -> Window {
    let mut from = answer.begun.saturating_sub(interval + limits.timeout + limits.slack);
    for (begun, ended) in &history.stalls {
        if from < *ended && *begun < answer.ended {
            from = from.saturating_sub(*ended - *begun);
        }
    }
    Window { from, watched_from: from + limits.slack, slack: limits.slack }
}

/// When the first of the tries began that show that nothing could be done there in the whole window, until after the answer;
/// `None` where they do not show that.
fn hopeless_since(tries: &Tries, node: Node, answer: &Answer, window: &Window) -> Option<At> {
    let mut first = None;
    for tried in tries.since(node, window.from) {
        // Whoever waited, too, goes on when this one does, and may be the first to say so.
        let hung = tried.begun <= window.from && answer.ended + window.slack <= tried.ended;
        if tried.is_good && !hung {
            return None;
        }
        let first = *first.get_or_insert(tried.begun);
        if first > window.watched_from {
            return None;
        }
        // One that failed while the answer came shows nothing: things may have changed just then.
        if hung || answer.ended <= tried.begun {
            return Some(first);
        }
    }
    None
}

/// Whether all tries that met this stretch, and the one after it, were good and quick, and there was no long time without one.
fn are_fine(tries: &Tries, node: Node, from: At, until: At, quick: Duration) -> bool {
    let mut seen_until = from;
    for tried in tries.since(node, from) {
        if !tried.is_good || tried.ended - tried.begun > quick || tried.begun > seen_until + quick {
            return false;
        }
        if until <= tried.begun {
            return true;
        }
        seen_until = tried.ended;
    }
    false
}
