//! Since when one node's agent could hear what another one knows of its server. Pure.

use std::time::Duration;

use super::history::{At, History, Node};

/// A stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Its beginning.
    pub from: At,
    /// Its end.
    pub until: At,
}

impl Stretch {
    /// What two have in common.
    pub fn within(self, other: Stretch) -> Option<Stretch> {
        let common = Stretch { from: self.from.max(other.from), until: self.until.min(other.until) };
        (common.from < common.until).then_some(common)
    }
}

/// The parts of a stretch in which `listener` could hear `speaker`: nothing was between them, both agents could work, and
/// the speaker could verify what its server was.
pub fn hearing(history: &History, listener: Node, speaker: Node, stretch: Stretch) -> Vec<Stretch> {
    let mut gaps = gaps(history, listener, speaker);
    gaps.sort_by_key(|gap| gap.from);
    let (mut parts, mut from) = (Vec::new(), stretch.from);
    for gap in gaps {
        let until = gap.from.min(stretch.until);
        if from < until {
            parts.push(Stretch { from, until });
        }
        from = from.max(gap.until);
    }
    if from < stretch.until {
        parts.push(Stretch { from, until: stretch.until });
    }
    parts
}

/// Since when `listener` could hear `speaker` without a break; `None` where it cannot at this moment.
pub fn hears_since(history: &History, listener: Node, speaker: Node, at: At) -> Option<At> {
    let whole = Stretch { from: Duration::ZERO, until: at + Duration::from_nanos(1) };
    hearing(history, listener, speaker, whole).last().filter(|last| last.until > at).map(|last| last.from)
}

fn gaps(history: &History, listener: Node, speaker: Node) -> Vec<Stretch> {
    let to_end = |until: Option<At>| until.unwrap_or(Duration::MAX);
    let between = history.deaf.iter().filter(|deaf| (deaf.listener, deaf.speaker) == (listener, speaker));
    let between = between.map(|deaf| Stretch { from: deaf.from, until: to_end(deaf.until) });
    let muted = history.muted.iter().filter(|span| span.node == listener || span.node == speaker);
    // An agent that cannot verify its server says no role.
    let blind = history.frozen.iter().chain(&history.closed).filter(|span| span.node == speaker);
    let own = muted.chain(blind).map(|span| Stretch { from: span.from, until: to_end(span.until) });
    between.chain(own).collect()
}
