//! What a history proves. Pure: the same history gives the same findings.

use std::time::Duration;

use super::history::{Against, Answer, At, Calm, History, Moved, Node, Role, Said, Sample, Span};
use super::lives::{Judged, judge_lives, phases};
use super::primaries::{both_take_writes, left_behind, splits, unfounded};
use super::work::{false_alarm, held_up, idle};

/// What is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The agents' `--timeout`.
    pub timeout: Duration,
    /// How much later an answer may be on a busy machine.
    pub slack: Duration,
    /// The agents' `--knock-interval`, with what a login that was under way may add.
    pub knock: Duration,
    /// The agents' `--login-interval`, with what a login that was under way may add.
    pub login: Duration,
    /// The agents' `--write-probe`.
    pub write_probe: Duration,
    /// The agents' `--peer-interval`.
    pub peer_interval: Duration,
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

/// Answers shown in a finding.
const SHOWN: usize = 12;

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
    let (lives, phases) = (judge_lives(history), phases(history));
    let left_behind = left_behind(history, &phases, limits);
    for answer in &history.answers {
        findings.wrong.extend(contradiction(answer, &lives, history, limits));
        if let Said::Refused(against) = answer.said {
            let nodes = reached(answer, history, limits);
            let complaint = unfounded(answer, against, &nodes, &phases, history, limits);
            findings.wrong.extend(complaint.map(|complaint| describe(answer, &complaint)));
        }
        findings.wrong.extend(unworkable(answer, history, limits));
        let complaints = left_behind.iter().filter_map(|left| left.complaint(answer));
        findings.wrong.extend(complaints.map(|complaint| describe(answer, &complaint)).next());
        findings.late.extend(lateness(answer, history, limits));
    }
    for split in splits(history, &phases, limits) {
        let found = both_take_writes(&split, &history.answers);
        findings.wrong.extend(found.into_iter().map(|(answer, complaint)| describe(answer, &complaint)));
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
    let defects = history.defects.iter().map(|(at, what)| Finding { at: *at, what: what.clone() });
    findings.wrong.extend(defects);
    findings.leaks.extend(growth(&history.samples, limits));
    findings
}

/// The worst that was seen, allowed or not.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Worst {
    /// The longest time to an answer, of agents that could answer.
    pub answer: Duration,
    /// The longest time from the end of a fault to the first right answer.
    pub recovery: Duration,
    /// The most sessions of one agent.
    pub sessions: usize,
    /// The most memory of an agent at rest.
    pub memory_kib: u64,
    /// Agents that died of lack of memory, and were started again.
    pub deaths: usize,
}

/// For the summary.
pub fn worst(history: &History, limits: &Limits) -> Worst {
    let answers = history.answers.iter().filter(|answer| {
        !matches!(answer.said, Said::Nothing(_))
            && !is_muted(history, answer.node, answer.begun, answer.ended, limits)
    });
    let first_right = |calm: &Calm| {
        let own = history.answers.iter().filter(|answer| is_within(answer, &calm.span));
        let right = own.filter(|answer| answer.is_wholly(calm.role));
        right.map(|answer| answer.ended.saturating_sub(calm.span.from)).min()
    };
    Worst {
        answer: answers.map(|answer| answer.ended.saturating_sub(answer.begun)).max().unwrap_or_default(),
        recovery: history.calms.iter().filter_map(first_right).max().unwrap_or_default(),
        sessions: history.readings.iter().map(|reading| reading.sessions).max().unwrap_or_default(),
        memory_kib: history.samples.iter().map(|sample| sample.resident_kib).max().unwrap_or_default(),
        deaths: history.deaths,
    }
}

/// Never a role that the node did not have at any time between question and answer; and none while nobody could have
/// verified it, or no new client could have had any use of it.
fn contradiction(
    answer: &Answer,
    lives: &[Judged<'_>],
    history: &History,
    limits: &Limits,
) -> Option<Finding> {
    let role = match &answer.said {
        Said::Is(role) => *role,
        // Verified all the same.
        Said::Refused(Against::Superseded | Against::TwoPrimaries) => Role::Primary,
        Said::Odd(what) => return Some(describe(answer, &format!("no answer to the question: {what}"))),
        Said::Unverified(reason) => return hasty(answer, reason, limits),
        Said::Alive | Said::Nothing(_) => return None,
    };
    let nodes = reached(answer, history, limits);
    let mut own = lives.iter().filter(|judged| nodes.contains(&judged.life.span.node));
    if !own.any(|judged| judged.can_have_been(role, answer.begun, answer.ended)) {
        let place = if nodes == [answer.node] { "it" } else { "what new clients reach there" };
        return Some(describe(answer, &format!("at no time in between {place} was one")));
    }
    if let Some(span) =
        history.closed.iter().find(|span| covers(&until_login(span, history), answer, limits.login))
    {
        return Some(describe(answer, &format!("no new client was let in since {:?}", span.from)));
    }
    let blind = history.frozen.iter().find(|span| covers(span, answer, limits.knock));
    blind.map(|span| describe(answer, &format!("the postmaster was frozen since {:?}", span.from)))
}

/// Nor that clients can work where they cannot, nor the other way round.
fn unworkable(answer: &Answer, history: &History, limits: &Limits) -> Option<Finding> {
    let nodes = reached(answer, history, limits);
    let is_muted = || is_muted(history, answer.node, answer.begun, answer.ended, limits);
    let alarm = || false_alarm(answer, &nodes, history, limits).filter(|_| !is_muted());
    let complaint = idle(answer, &nodes, history, limits).or_else(alarm)?;
    Some(describe(answer, &complaint))
}

/// A deadline that is said to have passed has passed, or nearly: requests that come one after the other may share a look,
/// and with it the deadline of the first one, where a tenth of it was left to them at most (`expire` in
/// `src/monitor/state.rs`). The first one can be HAProxy's, which is not written down.
fn hasty(answer: &Answer, reason: &str, limits: &Limits) -> Option<Finding> {
    let took = answer.ended.saturating_sub(answer.begun);
    let is_hasty = reason == "deadline-passed" && took < limits.timeout * 9 / 10;
    is_hasty.then(|| describe(answer, &format!("after {took:?} of {:?}", limits.timeout)))
}

/// Whether the answer lies in this stretch of time of its node's, without the first of it, in which the agent need not
/// know yet.
fn covers(span: &Span, answer: &Answer, unknown: Duration) -> bool {
    span.node == answer.node
        && answer.begun >= span.from + unknown
        && span.until.is_none_or(|until| answer.ended < until)
}

/// The same without the time in which the agent rests because of what had been before.
fn until_login(span: &Span, history: &History) -> Span {
    let is_met = |rest: &&Span| rest.node == span.node && rest.from <= span.from;
    let rested = history.rests.iter().filter(is_met).filter_map(|rest| rest.until).max();
    Span { from: rested.map_or(span.from, |rested| rested.max(span.from)), ..*span }
}

/// The servers that the answer may be about: the node's own, and another one while its address leads there, and each
/// for a while longer, until the agent has to have logged in anew.
fn reached(answer: &Answer, history: &History, limits: &Limits) -> Vec<Node> {
    let own = history.moved.iter().filter(|moved| moved.possible.node == answer.node);
    let mut nodes = Vec::new();
    let mut certain = own.clone().filter_map(|moved| moved.certain);
    if !certain.any(|span| covers(&until_login(&span, history), answer, limits.login)) {
        nodes.push(answer.node);
    }
    let led_away = own.filter(|Moved { possible: span, .. }| {
        span.from <= answer.ended && span.until.is_none_or(|until| answer.begun <= until + limits.login)
    });
    nodes.extend(led_away.map(|moved| moved.there));
    nodes
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
        Said::Is(_) | Said::Refused(_) | Said::Unverified(_) | Said::Alive | Said::Odd(_)
            if took > limits.timeout + limits.slack + stalled =>
        {
            format!("after {took:?}")
        }
        Said::Is(_) | Said::Refused(_) | Said::Unverified(_) | Said::Alive | Said::Odd(_) => {
            held_up(answer, stalled, history, limits)?
        }
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
    let right = |answer: &&&Answer| [Said::Is(calm.role), Said::Alive].contains(&answer.said);
    let node = calm.span.node;
    let first = answers.iter().find(|answer| answer.is_wholly(calm.role)).map(|answer| answer.ended);
    let allowed = calm.span.from + limits.recovery + calm.grace;
    let stalled: Duration = history
        .stalls
        .iter()
        .map(|(from, until)| (*until).min(allowed).saturating_sub(calm.span.from.max(*from)))
        .sum();
    match first {
        Some(first) if first <= allowed + stalled => {
            // Where the machine stands still, PostgreSQL may miss the deadline, and that is what has to be said.
            let is_excused = |answer: &Answer| {
                let is_stalled = history
                    .stalls
                    .iter()
                    .any(|(from, until)| *from <= answer.ended && answer.begun <= *until);
                matches!(answer.said, Said::Unverified(_)) && is_stalled
            };
            let relapse =
                answers.iter().find(|answer| answer.begun > first && !right(answer) && !is_excused(answer));
            relapse.map(|answer| {
                describe(answer, &format!("it had recovered at {first:?}, and was {:?}", calm.role))
            })
        }
        Some(first) => {
            let before = answers.iter().filter(|answer| answer.ended <= first).map(|answer| brief(answer));
            let before: Vec<String> = before.take(SHOWN).collect();
            let late = first - calm.span.from;
            let what = format!("node {node}: right only {late:?} after the fault: {}", before.join(", "));
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

/// Every process is measured against its own first rest, for descriptors against the first with as many sessions that commit:
/// beside a primary there is one.
fn growth(samples: &[Sample], limits: &Limits) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, sample) in samples.iter().enumerate() {
        let first = samples[..=index].iter().find(|first| first.pid == sample.pid).unwrap_or(sample);
        let alike = samples[..=index].iter().find(|first| first.is_like(sample)).unwrap_or(sample);
        let figures = [
            ("descriptors", sample.descriptors, alike.descriptors + limits.descriptors),
            ("threads", sample.threads, first.threads + limits.threads),
            ("KiB of memory", sample.resident_kib, first.resident_kib + limits.memory_kib),
            ("sessions", sample.sessions, 1),
            ("sessions that commit", sample.writing, 1),
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

fn brief(answer: &Answer) -> String {
    format!("{:.3?} to {:.3?} {:?}", answer.begun, answer.ended, answer.said)
}

fn describe(answer: &Answer, complaint: &str) -> Finding {
    let Answer { node, begun, ended, said, .. } = answer;
    let what = format!("node {node}: asked at {begun:?}, answered at {ended:?}: {said:?}: {complaint}");
    Finding { at: *begun, what }
}
