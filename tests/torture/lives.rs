//! What the servers were, as they said themselves. Pure.

use super::history::{At, History, Life, Node, Reading, Role};

/// A life with what the observers saw in it.
pub struct Judged<'a> {
    /// The life.
    pub life: &'a Life,
    /// Until then it was a standby for certain.
    standby_until: At,
    /// From then on it was a primary for certain.
    primary_from: Option<At>,
}

/// All lives.
pub fn judge_lives(history: &History) -> Vec<Judged<'_>> {
    history.lives.iter().map(|life| judge(history, life)).collect()
}

fn judge<'a>(history: &History, life: &'a Life) -> Judged<'a> {
    let (mut standby_until, mut primary_from) = (life.span.from, None::<At>);
    for reading in readings_of(history, life) {
        match reading.role {
            Role::Standby => standby_until = standby_until.max(reading.begun),
            Role::Primary => {
                primary_from = Some(primary_from.map_or(reading.ended, |from| from.min(reading.ended)));
            }
        }
    }
    Judged { life, standby_until, primary_from }
}

impl Judged<'_> {
    /// Whether the server can have had the role at some time between these two.
    pub fn can_have_been(&self, role: Role, begun: At, ended: At) -> bool {
        let Life { span, born, promoted } = self.life;
        let (from, until) = match (role, born, promoted) {
            (Role::Primary, Role::Primary, _) => (span.from, None),
            (Role::Primary, Role::Standby, None) | (Role::Standby, Role::Primary, _) => return false,
            (Role::Primary, Role::Standby, Some(ordered)) => (self.standby_until.max(*ordered), None),
            (Role::Standby, Role::Standby, _) => (span.from, self.primary_from),
        };
        let until = [until, span.until].into_iter().flatten().min();
        from <= ended && until.is_none_or(|until| begun <= until)
    }
}

/// A part of a life in which neither role nor timeline changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Whose.
    pub node: Node,
    /// What it was.
    pub role: Role,
    /// On which timeline; on a standby at least.
    pub timeline: u32,
    /// It cannot have begun earlier.
    pub possible_from: At,
    /// It cannot have ended later; `None` where it never ended.
    pub possible_until: Option<At>,
    /// By then it had begun.
    pub certain_from: At,
    /// Until then it went on.
    pub certain_until: At,
}

/// All phases, in their order for each node. A server that nobody saw in some role has none for it.
pub fn phases(history: &History) -> Vec<Phase> {
    let mut found = Vec::new();
    for life in &history.lives {
        let mut readings: Vec<&Reading> = readings_of(history, life).collect();
        readings.sort_by_key(|reading| reading.begun);
        let mut own: Vec<Phase> = Vec::new();
        for reading in readings {
            // A postmaster never goes back; but a standby without a receiver shows only where its last restartpoint was.
            let timeline = own.last().map_or(0, |last| last.timeline).max(reading.timeline);
            match own.last_mut() {
                Some(last) if (last.role, last.timeline) == (reading.role, timeline) => {
                    last.certain_from = last.certain_from.min(reading.ended);
                    last.certain_until = reading.begun;
                }
                last => {
                    let possible_from = last.map_or(life.span.from, |last| {
                        last.possible_until = Some(reading.ended);
                        last.certain_until
                    });
                    own.push(Phase {
                        node: reading.node,
                        role: reading.role,
                        timeline,
                        possible_from,
                        possible_until: life.span.until,
                        certain_from: reading.ended,
                        certain_until: reading.begun,
                    });
                }
            }
        }
        found.extend(own);
    }
    found.sort_by_key(|phase| (phase.node, phase.possible_from));
    found
}

fn readings_of<'a>(history: &'a History, life: &'a Life) -> impl Iterator<Item = &'a Reading> {
    history.readings.iter().filter(|reading| {
        reading.node == life.span.node
            && life.span.from <= reading.begun
            && life.span.until.is_none_or(|until| reading.begun <= until)
    })
}
