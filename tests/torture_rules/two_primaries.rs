//! The rules of agents that know each other.

use super::hearing::{Stretch, hearing, hears_since};
use super::history::{
    Against, Answer, Asked, At, Calm, Deaf, History, Life, Node, Reading, Role, Said, Span,
};
use super::lives::phases;
use super::primaries::{both_take_writes, left_behind, splits};
use super::{LIMITS, check, counts, ms, worst};

use Role::{Primary, Standby};

fn span(node: Node, from: u64, until: Option<u64>) -> Span {
    Span { node, from: ms(from), until: until.map(ms) }
}

fn reading(node: Node, at: u64, role: Role, timeline: u32) -> Reading {
    Reading { node, begun: ms(at), ended: ms(at + 10), role, timeline, sessions: 1 }
}

fn deaf(listener: Node, speaker: Node, from: u64, until: u64) -> Deaf {
    Deaf { listener, speaker, from: ms(from), until: Some(ms(until)) }
}

fn answer(node: Node, begun: u64, said: Said) -> Answer {
    let takes_writes = said == Said::Is(Primary);
    Answer { node, asked: Asked::Role, begun: ms(begun), ended: ms(begun + 5), said, takes_writes }
}

/// Node 0 is a primary on timeline 1 all the time. Node 1 follows it, is told at 5 s to become a primary, is seen to be one
/// on timeline 2 at 5.1 s, and is gone at 20 s. So from 7.3 s on both have to know: 5.1 s, the interval, the deadline and the
/// second that is allowed to a busy machine.
fn split() -> History {
    let lives = vec![
        Life { span: span(0, 0, None), born: Primary, promoted: None },
        Life { span: span(1, 0, Some(20_000)), born: Standby, promoted: Some(ms(5000)) },
    ];
    let readings = vec![
        reading(0, 100, Primary, 1),
        reading(0, 30_000, Primary, 1),
        reading(1, 100, Standby, 1),
        reading(1, 4980, Standby, 1),
        reading(1, 5090, Primary, 2),
        reading(1, 19_000, Primary, 2),
    ];
    History { lives, readings, ..History::default() }
}

/// The same, and node 1 has been rebuilt at 22 s.
fn rebuilt() -> History {
    let mut history = split();
    history.lives.push(Life { span: span(1, 22_000, None), born: Standby, promoted: None });
    history.readings.extend([reading(1, 22_090, Standby, 1), reading(1, 29_000, Standby, 1)]);
    history
}

/// How many answers are too many where each node says once that it takes writes.
fn both(history: &History, one: u64, other: u64) -> usize {
    let answers = [answer(0, one, Said::Is(Primary)), answer(1, other, Said::Is(Primary))];
    let splits = splits(history, &phases(history), &LIMITS);
    splits.iter().map(|split| both_take_writes(split, &answers).len()).sum()
}

/// Whether node 0 has to refuse writes then.
fn has_to_refuse(history: &History, begun: u64) -> bool {
    let answer = answer(0, begun, Said::Is(Primary));
    let left = left_behind(history, &phases(history), &LIMITS);
    left.iter().any(|left| left.complaint(&answer).is_some())
}

fn wrong(history: &History, answer: Answer) -> usize {
    let mut history = history.clone();
    history.answers.push(answer);
    let (wrong, late, leaks) = counts(&check(&history, &LIMITS));
    assert_eq!((late, leaks), (0, 0));
    wrong
}

#[test]
fn two_that_hear_each_other_long_enough_never_both_take_writes() {
    for (one, other, found, why) in [
        (7290, 7290, 0, "they need not know yet"),
        (7290, 8000, 0, "one of them need not have known yet"),
        (7310, 7310, 1, "both have to know"),
        (9000, 18_000, 1, "at the same time or one after the other"),
        (9000, 18_999, 0, "nobody knows what it was then"),
    ] {
        assert_eq!(both(&split(), one, other), found, "{one} {other}: {why}");
    }
    for (nodes, found) in [(vec![0, 1], 2), (vec![0], 1), (vec![1], 0)] {
        let answers = nodes.iter().map(|node| answer(*node, 9000, Said::Is(Primary)));
        let history = History { answers: answers.collect(), ..split() };
        assert_eq!(
            counts(&check(&history, &LIMITS)),
            (found, 0, 0),
            "{nodes:?}: whom the checker complains of"
        );
    }
    // Either of them alone may be right.
    let history = split();
    let splits = splits(&history, &phases(&history), &LIMITS);
    for node in [0, 1] {
        let answers = [answer(node, 9000, Said::Is(Primary)), answer(1 - node, 9000, Said::Is(Standby))];
        assert!(splits.iter().all(|split| both_take_writes(split, &answers).is_empty()));
    }
}

#[test]
fn they_need_not_know_while_one_of_them_cannot_hear() {
    type Obstacle = fn(&mut History);
    let obstacles: [(&str, Obstacle); 6] = [
        ("cut one way", |history| history.deaf.push(deaf(0, 1, 3000, 8000))),
        ("cut the other way", |history| history.deaf.push(deaf(1, 0, 3000, 8000))),
        ("an agent is frozen", |history| history.muted.push(span(0, 3000, Some(8000)))),
        ("the other agent is", |history| history.muted.push(span(1, 3000, Some(8000)))),
        ("a postmaster is frozen", |history| history.frozen.push(span(1, 3000, Some(8000)))),
        ("nobody is let in", |history| history.closed.push(span(0, 3000, Some(8000)))),
    ];
    for (what, place) in obstacles {
        let mut history = split();
        place(&mut history);
        for (at, found) in [(9000, 0), (10_190, 0), (10_210, 1)] {
            assert_eq!(both(&history, at, at), found, "{what}: {at}");
        }
    }
    let mut history = split();
    history.deaf.push(deaf(0, 2, 3000, 8000));
    assert_eq!(both(&history, 9000, 9000), 1, "a third one is none of theirs");
    for (from, until, ripe, why) in [
        (6000, 6500, 7800, "the machine stood still"),
        (4000, 5600, 7800, "it did so since before they were both primaries"),
        (1000, 5000, 7300, "it did so before"),
        (7400, 7900, 7300, "it did so when both had known"),
    ] {
        history.stalls = vec![(ms(from), ms(until))];
        let found = [ripe - 10, ripe + 10].map(|at| both(&history, at, at));
        assert_eq!(found, [0, 1], "{from} to {until}: {why}");
    }
}

#[test]
fn what_was_heard_of_a_higher_timeline_sticks() {
    let mut history = rebuilt();
    // The witness is gone soon after.
    history.muted.push(span(1, 8000, None));
    for (begun, expected, why) in [
        (7290, false, "it need not know yet"),
        (7310, true, "it has heard"),
        (15_000, true, "the witness's agent is gone"),
        (21_000, true, "its server is gone, too"),
        (22_500, false, "it was rebuilt"),
    ] {
        assert_eq!(has_to_refuse(&history, begun), expected, "{begun}: {why}");
    }
    history.beginnings.extend([(0, ms(1000)), (1, ms(9000))]);
    assert!(has_to_refuse(&history, 15_000), "it heard that later, and it was not the other one that heard");
    history.beginnings.push((0, ms(9000)));
    assert!(has_to_refuse(&history, 8900) && !has_to_refuse(&history, 9100), "a new process knows nothing");

    let mut history = split();
    history.deaf.push(deaf(1, 0, 0, 30_000));
    assert!(has_to_refuse(&history, 9000), "it need not be heard to hear");
    history.deaf.push(deaf(0, 1, 7000, 30_000));
    assert!(!has_to_refuse(&history, 9000), "it has not heard for long enough");
    let answer = answer(1, 9000, Said::Is(Primary));
    let history = split();
    let left = left_behind(&history, &phases(&history), &LIMITS);
    assert!(left.iter().all(|left| left.complaint(&answer).is_none()), "the promoted one goes on");
}

#[test]
fn who_was_promoted_in_its_turn_is_not_left_behind_any_more() {
    let mut history = split();
    history.lives[0].span.until = Some(ms(12_000));
    history.lives.push(Life { span: span(0, 13_000, None), born: Primary, promoted: None });
    history.readings.iter_mut().filter(|reading| reading.begun > ms(20_000)).for_each(|it| it.timeline = 3);
    history.readings.extend([reading(0, 11_950, Primary, 1), reading(0, 13_090, Primary, 3)]);
    assert!(has_to_refuse(&history, 11_900) && !has_to_refuse(&history, 13_500));
    let superseded = Answer { takes_writes: false, ..answer(0, 11_900, refused(Against::Superseded)) };
    assert_eq!(wrong(&history, superseded.clone()), 0);
    assert_eq!(wrong(&history, Answer { begun: ms(13_500), ended: ms(13_505), ..superseded }), 1);
}

/// Without pg_monitor an agent sees only its last restartpoint.
#[test]
fn a_standby_on_a_higher_timeline_is_a_reason_and_no_duty() {
    let mut history = split();
    history.lives[1].promoted = None;
    history.readings.iter_mut().filter(|reading| reading.timeline == 2).for_each(|it| it.role = Standby);
    assert!(!has_to_refuse(&history, 9000));
    let refusal = |against| Answer { takes_writes: false, ..answer(0, 9000, refused(against)) };
    assert_eq!(wrong(&history, refusal(Against::Superseded)), 0);
    assert_eq!(wrong(&history, refusal(Against::TwoPrimaries)), 1, "it is no primary");
}

#[test]
fn a_refusal_past_the_deadline_is_late_too() {
    for (ended, late) in [(11_000, 0), (11_001, 1)] {
        let refusal =
            Answer { ended: ms(ended), takes_writes: false, ..answer(0, 9000, refused(Against::Superseded)) };
        let history = History { answers: vec![refusal], ..split() };
        assert_eq!(counts(&check(&history, &LIMITS)), (0, late, 0), "{ended}");
    }
}

#[test]
fn two_on_one_timeline_both_have_to_refuse() {
    let mut history = split();
    history.readings.iter_mut().for_each(|reading| reading.timeline = 1);
    let left = left_behind(&history, &phases(&history), &LIMITS);
    for node in [0, 1] {
        let answer = answer(node, 9000, Said::Is(Primary));
        assert!(left.iter().any(|left| left.complaint(&answer).is_some()), "{node}");
        let refusal = |against| Answer { said: refused(against), takes_writes: false, ..answer.clone() };
        assert_eq!(wrong(&history, refusal(Against::TwoPrimaries)), 0);
        assert_eq!(wrong(&history, refusal(Against::Superseded)), 1);
    }
}

fn refused(against: Against) -> Said {
    Said::Refused(against)
}

#[test]
fn a_primary_refuses_writes_only_where_another_node_has_given_cause() {
    let superseded =
        |node, begun| Answer { takes_writes: false, ..answer(node, begun, refused(Against::Superseded)) };
    let mut history = rebuilt();
    for (begun, count, why) in [
        (4960, 1, "nobody was promoted yet"),
        (4985, 0, "nobody knows"),
        (5500, 0, "it was"),
        (19_500, 0, "it is"),
        (21_000, 0, "it is gone, and sticks"),
        (22_500, 0, "it was rebuilt, and need not have said so yet"),
        (24_290, 0, "it need not have said so yet"),
        (24_310, 1, "it has to have said so"),
    ] {
        assert_eq!(wrong(&history, superseded(0, begun)), count, "{begun}: {why}");
        let rivals = Answer { said: refused(Against::TwoPrimaries), ..superseded(0, begun) };
        assert_eq!(wrong(&history, rivals), 1, "{begun}: they never were on one timeline");
    }
    // Twice on the higher timeline before it was rebuilt.
    let mut twice = rebuilt();
    twice.lives.insert(2, Life { span: span(1, 20_500, Some(21_500)), born: Standby, promoted: None });
    twice.readings.extend([reading(1, 20_590, Standby, 2), reading(1, 21_000, Standby, 2)]);
    for (begun, count) in [(24_290, 0), (24_310, 1)] {
        assert_eq!(wrong(&twice, superseded(0, begun)), count, "{begun}");
    }
    assert_eq!(wrong(&history, superseded(1, 9000)), 1, "it is on the higher one");
    assert_eq!(wrong(&history, superseded(1, 4000)), 2, "a standby is no primary either");
    let mut behind = split();
    behind.lives[0].born = Standby;
    behind.readings.iter_mut().filter(|reading| reading.node == 0).for_each(|it| it.role = Standby);
    assert_eq!(wrong(&behind, superseded(0, 9000)), 2, "nor is one on a lower timeline");
    history.deaf.push(deaf(0, 1, 21_000, 26_000));
    assert_eq!(wrong(&history, superseded(0, 28_100)), 0, "it could not be heard for long");
    assert_eq!(wrong(&history, superseded(0, 28_300)), 1);
}

#[test]
fn a_standby_that_has_lost_its_receiver_has_not_gone_back() {
    let mut history = rebuilt();
    history.readings.extend([reading(1, 23_000, Standby, 2), reading(1, 24_000, Standby, 1)]);
    let own: Vec<_> = phases(&history).into_iter().filter(|phase| phase.node == 1).collect();
    let seen: Vec<(Role, u32)> = own.iter().map(|phase| (phase.role, phase.timeline)).collect();
    assert_eq!(seen, [(Standby, 1), (Primary, 2), (Standby, 1), (Standby, 2)]);
    let times = |index: usize| (own[index].possible_from, own[index].possible_until);
    assert_eq!(times(1), (ms(4980), Some(ms(20_000))));
    assert_eq!(times(2), (ms(22_000), Some(ms(23_010))));
    assert_eq!(times(3), (ms(22_090), None));
}

#[test]
fn who_hears_whom_is_what_is_left_between_the_gaps() {
    let mut history = History { deaf: vec![deaf(0, 1, 2000, 3000), deaf(0, 1, 2500, 4000)], ..split() };
    history.muted.push(span(1, 6000, None));
    let stretch = |from, until| Stretch { from: ms(from), until: ms(until) };
    let heard = hearing(&history, 0, 1, stretch(1000, 9000));
    assert_eq!(heard, [stretch(1000, 2000), stretch(4000, 6000)]);
    assert_eq!(
        hearing(&history, 1, 0, stretch(1000, 9000)),
        [stretch(1000, 6000)],
        "who is mute asks nobody"
    );
    let blind = History {
        frozen: vec![span(0, 4500, Some(5500))],
        closed: vec![span(0, 4500, Some(5500))],
        ..history.clone()
    };
    assert_eq!(hearing(&blind, 0, 1, stretch(1000, 9000)), heard, "who is blind hears");
    let since = |at: u64| -> Option<At> { hears_since(&history, 0, 1, ms(at)) };
    assert_eq!(
        (since(1500), since(2500), since(5000), since(7000)),
        (Some(ms(0)), None, Some(ms(4000)), None)
    );
}

#[test]
fn a_primary_has_recovered_when_it_takes_writes_again() {
    let mut history = split();
    history.lives.truncate(1);
    let calm = Calm { span: span(0, 6000, Some(9000)), role: Primary, grace: ms(0) };
    history.calms.push(calm);
    let healthy = Answer { takes_writes: false, ..answer(0, 6100, Said::Is(Primary)) };
    for (takes_writes, late) in [(false, 1), (true, 0)] {
        history.answers = vec![Answer { takes_writes, ..healthy.clone() }];
        assert_eq!(counts(&check(&history, &LIMITS)), (0, late, 0));
    }
    history.answers = vec![healthy, answer(0, 6895, Said::Is(Primary))];
    assert_eq!(worst(&history, &LIMITS).recovery, ms(900), "the summary has it so, too");
}
