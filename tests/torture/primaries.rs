//! What agents that know each other may say of a primary, and what not. Pure.

use std::time::Duration;

use super::checker::Limits;
use super::hearing::{Stretch, hearing, hears_since};
use super::history::{Against, Answer, At, History, Node, Role};
use super::lives::Phase;

/// Two servers that are primaries for certain, in a stretch of time in which their agents hear each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    nodes: [Node; 2],
    /// From when on they have to know; until then both may say 200.
    from: At,
    until: At,
}

/// A primary whose agent has to have heard of another one on no lower timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftBehind {
    node: Node,
    by: Node,
    from: At,
    /// It sticks until the agent or either server is another one.
    until: At,
}

/// How long two agents may need to know of each other: what was heard is good for an interval, and a question that is under
/// way ends with its deadline.
fn window(limits: &Limits) -> Duration {
    limits.peer_interval + limits.timeout + limits.slack
}

/// When a stretch has lasted long enough; time in which the machine stood still does not count.
fn ripe(history: &History, stretch: Stretch, limits: &Limits) -> Option<At> {
    let mut ripe = stretch.from + window(limits);
    for (from, until) in &history.stalls {
        if *from < ripe && stretch.from < *until {
            ripe += *until - stretch.from.max(*from);
        }
    }
    (ripe < stretch.until).then_some(ripe)
}

fn certain(phase: &Phase) -> Stretch {
    Stretch { from: phase.certain_from, until: phase.certain_until }
}

/// Every pair of primaries, one before the other, in whose common time something can be expected.
fn pairs(phases: &[Phase]) -> impl Iterator<Item = (&Phase, &Phase, Stretch)> {
    let primaries = || phases.iter().filter(|phase| phase.role == Role::Primary);
    primaries().flat_map(move |one| {
        primaries().filter_map(move |other| {
            let common = certain(one).within(certain(other))?;
            (one.node != other.node).then_some((one, other, common))
        })
    })
}

/// When two nodes are primaries and hear each other.
pub fn splits(history: &History, phases: &[Phase], limits: &Limits) -> Vec<Split> {
    let mut found = Vec::new();
    for (one, other, common) in pairs(phases).filter(|(one, other, _)| one.node < other.node) {
        for heard in hearing(history, one.node, other.node, common) {
            for mutual in hearing(history, other.node, one.node, heard) {
                let ripe = ripe(history, mutual, limits);
                let nodes = [one.node, other.node];
                found.extend(ripe.map(|from| Split { nodes, from, until: mutual.until }));
            }
        }
    }
    found
}

/// Never two of them 200 for writes: the answers of one node that are one too many.
pub fn both_take_writes<'a>(split: &Split, answers: &'a [Answer]) -> Vec<(&'a Answer, String)> {
    let of = |node: Node| {
        answers.iter().filter(move |answer| {
            answer.node == node
                && answer.takes_writes
                && split.from <= answer.begun
                && answer.ended <= split.until
        })
    };
    let [one, other] = split.nodes;
    let Some(first) = of(one).next() else { return Vec::new() };
    let complaint = format!(
        "node {one}, which it hears, said that at {:?}, too, and both have had to know since {:?}",
        first.begun, split.from
    );
    of(other).map(|answer| (answer, complaint.clone())).collect()
}

/// Which primaries have to refuse writes, and how long.
pub fn left_behind(history: &History, phases: &[Phase], limits: &Limits) -> Vec<LeftBehind> {
    let mut found = Vec::new();
    for (own, other, common) in pairs(phases).filter(|(own, other, _)| own.timeline <= other.timeline) {
        // Whatever comes after it may be what lifts it.
        let next = phases
            .iter()
            .find(|next| next.node == other.node && next.possible_from >= other.certain_until)
            .map(|next| next.possible_from);
        for heard in hearing(history, own.node, other.node, common) {
            let Some(from) = ripe(history, heard, limits) else { continue };
            let is_forgotten = |(node, at): &&(Node, At)| *node == own.node && *at > heard.from;
            let forgotten = history.beginnings.iter().find(is_forgotten).map(|(_, at)| *at);
            let ends = [next, forgotten, own.possible_until].into_iter().flatten();
            let until = ends.min().unwrap_or(Duration::MAX);
            found.push(LeftBehind { node: own.node, by: other.node, from, until });
        }
    }
    found
}

impl LeftBehind {
    /// Why writes may not be taken here.
    pub fn complaint(&self, answer: &Answer) -> Option<String> {
        let LeftBehind { node, by, from, until } = *self;
        let is_its = answer.node == node && answer.takes_writes;
        (is_its && from <= answer.begun && answer.ended <= until).then(|| {
            format!("it has had to know since {from:?} of node {by}, a primary on no lower timeline")
        })
    }
}

/// Why a primary that is one refuses writes without a cause; `None` where another node has given it one. `nodes` are those
/// whose server the answer may be about.
pub fn unfounded(
    answer: &Answer,
    against: Against,
    nodes: &[Node],
    phases: &[Phase],
    history: &History,
    limits: &Limits,
) -> Option<String> {
    let is_met = |phase: &Phase| {
        phase.possible_from <= answer.ended && phase.possible_until.is_none_or(|until| answer.begun <= until)
    };
    let mut own = phases
        .iter()
        .filter(|phase| phase.role == Role::Primary && nodes.contains(&phase.node) && is_met(phase));
    let is_founded = own.any(|own| {
        let gives_cause = |other: &Phase| match against {
            Against::Superseded => other.timeline > own.timeline,
            Against::TwoPrimaries => other.role == Role::Primary && other.timeline == own.timeline,
        };
        phases.iter().enumerate().any(|(index, other)| {
            // What came after it counts by itself, and may be a cause as well.
            let next = phases.get(index + 1).filter(|next| next.node == other.node);
            other.node != own.node
                && gives_cause(other)
                && other.possible_from <= answer.ended
                && !next.is_some_and(|next| is_unsaid(answer, next, history, limits))
        })
    });
    let what = match against {
        Against::Superseded => "no other node was on a higher timeline",
        Against::TwoPrimaries => "no other node was a primary on its timeline",
    };
    (!is_founded).then(|| what.to_owned())
}

/// Whether the other node had said long enough ago that it is what it was no more.
fn is_unsaid(answer: &Answer, next: &Phase, history: &History, limits: &Limits) -> bool {
    let Some(heard) = hears_since(history, answer.node, next.node, answer.begun) else { return false };
    let stretch = Stretch { from: heard.max(next.certain_from), until: answer.begun };
    stretch.from < stretch.until && ripe(history, stretch, limits).is_some()
}
