//! What a history proves. Pure: the same history gives the same findings.

use std::time::Duration;

use super::history::{Answer, At, Calm, History, Life, Node, Reading, Role, Said, Sample, Span};

/// What is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The agents' `--timeout`.
    pub timeout: Duration,
    /// How much later an answer may be on a busy machine.
    pub slack: Duration,
    /// The agents' `--knock-interval`, with what a login that was under way may add.
    pub knock: Duration,
    /// How long after a fault the answers may still be wrong-footed.
    pub recovery: Duration,
    /// Sessions of one agent: the one in use and those it may have abandoned.
    pub sessions: usize,
    /// How many descriptors more than at the first rest.
    pub descriptors: u64,
    /// How many threads more.
    pub threads: u64,
    /// How much memory more.
    pub memory_kib: u64,
}

/// Something that must not be.
#[derive(Clone, Debug)]
pub struct Finding {
    /// When it began.
    pub at: At,
    /// What it was, on one line.
    pub what: String,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Answers that cannot have been true.
    pub wrong: Vec<Finding>,
    /// Answers past their deadline, none at all, and recoveries that took too long.
    pub late: Vec<Finding>,
    /// Sessions, descriptors, threads, memory.
    pub leaks: Vec<Finding>,
}

/// Holds the whole history against the rules.
pub fn check(history: &History, limits: &Limits) -> Findings {
    let mut findings = Findings::default();
    let lives = judge_lives(&history.lives, &history.readings);
    for answer in &history.answers {
        findings.wrong.extend(contradiction(answer, &lives, history, limits));
        findings.late.extend(lateness(answer, history, limits));
    }
    for calm in &history.calms {
        let mut answers: Vec<&Answer> =
            history.answers.iter().filter(|answer| is_within(answer, &calm.span)).collect();
        answers.sort_by_key(|answer| answer.begun);
        findings.late.extend(unrest(calm, &answers, history, limits));
    }
    for reading in &history.readings {
        if reading.sessions > limits.sessions
            && !is_muted(history, reading.node, reading.begun, reading.ended, limits)
        {
            let (node, count) = (reading.node, reading.sessions);
            let what = format!("node {node}: {count} sessions, {} are allowed", limits.sessions);
            findings.leaks.push(Finding { at: reading.begun, what });
        }
    }
    let misled = history.misled.iter().map(|(at, what)| Finding { at: *at, what: what.clone() });
    findings.wrong.extend(misled);
    findings.leaks.extend(growth(&history.samples, limits));
    findings
}

/// A life with what the observer saw in it.
struct Judged<'a> {
    life: &'a Life,
    /// Until then it was a standby for certain.
    standby_until: At,
    /// From then on it was a primary for certain.
    primary_from: Option<At>,
}

fn judge_lives<'a>(lives: &'a [Life], readings: &[Reading]) -> Vec<Judged<'a>> {
    lives
        .iter()
        .map(|life| {
            let own = readings.iter().filter(|reading| {
                reading.node == life.span.node
                    && life.span.from <= reading.begun
                    && life.span.until.is_none_or(|until| reading.begun <= until)
            });
            let (mut standby_until, mut primary_from) = (life.span.from, None::<At>);
            for reading in own {
                match reading.role {
                    Role::Standby => standby_until = standby_until.max(reading.begun),
                    Role::Primary => {
                        primary_from =
                            Some(primary_from.map_or(reading.ended, |from| from.min(reading.ended)));
                    }
                }
            }
            Judged { life, standby_until, primary_from }
        })
        .collect()
}

impl Judged<'_> {
    /// Whether the server can have had the role at some time between these two.
    fn can_have_been(&self, role: Role, begun: At, ended: At) -> bool {
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

/// Never a role that the node did not have at any time between question and answer; and none while nobody could have
/// verified it.
fn contradiction(
    answer: &Answer,
    lives: &[Judged<'_>],
    history: &History,
    limits: &Limits,
) -> Option<Finding> {
    let role = match &answer.said {
        Said::Is(role) => *role,
        Said::Odd(what) => return Some(describe(answer, &format!("no answer to the question: {what}"))),
        Said::Unverified(_) | Said::Nothing(_) => return None,
    };
    let own = lives.iter().filter(|judged| judged.life.span.node == answer.node);
    if !own.into_iter().any(|judged| judged.can_have_been(role, answer.begun, answer.ended)) {
        return Some(describe(answer, "at no time in between it was one"));
    }
    let blind = history.frozen.iter().find(|span| {
        span.node == answer.node
            && answer.begun >= span.from + limits.knock
            && span.until.is_none_or(|until| answer.ended < until)
    });
    blind.map(|span| describe(answer, &format!("the postmaster was frozen since {:?}", span.from)))
}

/// Never later than the deadline, and never nothing, unless the agent was kept from answering.
fn lateness(answer: &Answer, history: &History, limits: &Limits) -> Option<Finding> {
    let took = answer.ended.saturating_sub(answer.begun);
    let stalled: Duration = history
        .stalls
        .iter()
        .map(|(from, until)| answer.ended.min(*until).saturating_sub(answer.begun.max(*from)))
        .sum();
    let complaint = match &answer.said {
        Said::Nothing(what) => format!("no answer: {what}"),
        Said::Is(_) | Said::Unverified(_) | Said::Odd(_)
            if took > limits.timeout + limits.slack + stalled =>
        {
            format!("after {took:?}")
        }
        Said::Is(_) | Said::Unverified(_) | Said::Odd(_) => return None,
    };
    let is_excused = is_muted(history, answer.node, answer.begun, answer.ended, limits);
    (!is_excused).then(|| describe(answer, &complaint))
}

fn is_muted(history: &History, node: Node, begun: At, ended: At, limits: &Limits) -> bool {
    let grace = limits.slack;
    history.muted.iter().any(|span| {
        span.node == node && span.from <= ended && span.until.is_none_or(|until| begun <= until + grace)
    })
}

/// In a calm time the first right answer comes soon, and all later ones are right.
fn unrest(calm: &Calm, answers: &[&Answer], history: &History, limits: &Limits) -> Option<Finding> {
    let right = |answer: &&&Answer| answer.said == Said::Is(calm.role);
    let node = calm.span.node;
    let first = answers.iter().find(right).map(|answer| answer.ended);
    let allowed = calm.span.from + limits.recovery;
    let stalled: Duration = history
        .stalls
        .iter()
        .map(|(from, until)| (*until).min(allowed).saturating_sub(calm.span.from.max(*from)))
        .sum();
    match first {
        Some(first) if first <= allowed + stalled => {
            let relapse = answers.iter().find(|answer| answer.begun > first && !right(answer));
            relapse.map(|answer| {
                describe(answer, &format!("it had recovered at {first:?}, and was {:?}", calm.role))
            })
        }
        Some(first) => {
            let what = format!("node {node}: right only {:?} after the fault", first - calm.span.from);
            Some(Finding { at: calm.span.from, what })
        }
        None if calm.span.until.is_some_and(|until| until > allowed + stalled) => {
            let what = format!("node {node}: no right answer in the calm after the fault");
            Some(Finding { at: calm.span.from, what })
        }
        None => None,
    }
}

fn is_within(answer: &Answer, span: &Span) -> bool {
    answer.node == span.node
        && answer.begun >= span.from
        && span.until.is_none_or(|until| answer.ended <= until)
}

/// Every process is measured against its own first rest.
fn growth(samples: &[Sample], limits: &Limits) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, sample) in samples.iter().enumerate() {
        let first = samples[..=index].iter().find(|first| first.pid == sample.pid).unwrap_or(sample);
        let figures = [
            ("descriptors", sample.descriptors, first.descriptors + limits.descriptors),
            ("threads", sample.threads, first.threads + limits.threads),
            ("KiB of memory", sample.resident_kib, first.resident_kib + limits.memory_kib),
            ("sessions", sample.sessions, 1),
        ];
        for (what, count, allowed) in figures {
            if count > allowed {
                let Sample { node, pid, at, .. } = sample;
                let what = format!("node {node}, process {pid}: {count} {what}, {allowed} are allowed");
                found.push(Finding { at: *at, what });
            }
        }
    }
    found
}

fn describe(answer: &Answer, complaint: &str) -> Finding {
    let Answer { node, begun, ended, said } = answer;
    let what = format!("node {node}: asked at {begun:?}, answered at {ended:?}: {said:?}: {complaint}");
    Finding { at: *begun, what }
}
