//! The rules about commits and poolers.

use super::history::{
    Answer, Asked, At, History, Life, Moved, Reading, Role, Said, Sample, Span, Tries, Try,
};
use super::{LIMITS, check, counts, ms};

use Role::{Primary, Standby};

/// Between two tries.
const PAUSE: u64 = 50;

/// Good tries of a millisecond all the time, but for those that begin in one of these stretches: they fail at once, or hang
/// until its end.
fn tries(failing: Option<(u64, u64)>, hanging: Option<(u64, u64)>) -> Tries {
    let within =
        |at: u64, stretch: Option<(u64, u64)>| stretch.filter(|(from, until)| (*from..*until).contains(&at));
    let mut tries = Tries::default();
    let mut at = 0;
    while at < 30_000 {
        let ended = within(at, hanging).map_or(at + 1, |(_, until)| until);
        let is_good = within(at, failing).is_none();
        tries.push(0, Try { begun: ms(at), ended: ms(ended), is_good });
        at = ended + PAUSE - 1;
    }
    tries
}

/// A primary all the time, whose clients met this.
fn primary(commits: Tries, calls: Tries) -> History {
    let span = Span { node: 0, from: ms(0), until: None };
    History {
        lives: vec![Life { span, born: Primary, promoted: None }],
        commits,
        calls,
        ..History::default()
    }
}

fn fine() -> Tries {
    tries(None, None)
}

fn answer(begun: u64, ended: u64, said: Said) -> Answer {
    let takes_writes = said == Said::Is(Primary);
    Answer { node: 0, asked: Asked::Role, begun: ms(begun), ended: ms(ended), said, takes_writes }
}

fn down(reason: &str) -> Said {
    Said::Unverified(reason.into())
}

/// What is found about this answer: wrong, late, leaks.
fn found(history: &History, answer: Answer) -> (usize, usize, usize) {
    counts(&check(&History { answers: vec![answer], ..history.clone() }, &LIMITS))
}

fn wrong(history: &History, answer: Answer) -> usize {
    let (wrong, late, leaks) = found(history, answer);
    assert_eq!((late, leaks), (0, 0));
    wrong
}

#[test]
fn writes_are_sent_nowhere_where_no_commit_has_come_back_for_the_interval_and_a_deadline() {
    let history = primary(tries(None, Some((10_000, 16_000))), fine());
    let table = [
        (9000, 0, "commits come back"),
        (12_990, 0, "the agent's last commit may be younger than its interval, and have taken a deadline"),
        (13_010, 1, "the interval, the deadline and the second that is allowed to a busy machine are over"),
        (14_980, 1, "so they are"),
        (
            15_010,
            0,
            "it hangs for less than a second more: the agent's commit may be back before the other's",
        ),
        (16_010, 0, "it came back"),
    ];
    for (begun, expected, why) in table {
        let answered = answer(begun, begun + 5, Said::Is(Primary));
        assert_eq!(wrong(&history, answered.clone()), expected, "{begun}: {why}");
        let elsewhere = Answer { asked: Asked::Health, takes_writes: false, ..answered };
        assert_eq!(wrong(&history, elsewhere), 0, "{begun}: no path for writes");
    }
}

#[test]
fn commits_that_fail_are_none_either() {
    let history = primary(tries(Some((10_000, 16_000)), None), fine());
    for (begun, expected) in [(12_000, 0), (13_100, 1), (15_900, 1), (15_960, 0), (16_100, 0)] {
        assert_eq!(wrong(&history, answer(begun, begun + 5, Said::Is(Primary))), expected, "{begun}");
    }
}

#[test]
fn what_nobody_tried_proves_nothing() {
    let answered = || answer(14_000, 14_005, Said::Is(Primary));
    assert_eq!(wrong(&primary(Tries::default(), Tries::default()), answered()), 0);
    let mut late = Tries::default();
    late.push(0, Try { begun: ms(12_100), ended: ms(20_000), is_good: false });
    assert_eq!(wrong(&primary(late, fine()), answered()), 0, "it may have come back before");
}

#[test]
fn time_in_which_the_machine_stood_still_is_no_proof() {
    let mut history = primary(tries(None, Some((10_000, 16_000))), fine());
    history.stalls.push((ms(10_500), ms(11_500)));
    assert_eq!(wrong(&history, answer(13_900, 13_905, Said::Is(Primary))), 0);
    assert_eq!(wrong(&history, answer(14_100, 14_105, Said::Is(Primary))), 1);
}

/// The address of node 0 leads to node 1, where commits come back.
#[test]
fn behind_a_moved_address_it_is_that_servers_commits() {
    let mut history = primary(tries(None, Some((10_000, 16_000))), fine());
    let span = |node| Span { node, from: ms(9000), until: None };
    history.lives.push(Life { span: span(1), born: Primary, promoted: None });
    history.moved.push(Moved { there: 1, possible: span(0), certain: Some(span(0)) });
    for tried in fine().since(0, ms(0)) {
        history.commits.push(1, *tried);
    }
    assert_eq!(wrong(&history, answer(14_000, 14_005, Said::Is(Primary))), 0);
    assert_eq!(wrong(&history, answer(14_000, 14_005, down("write-stalled"))), 1);
}

#[test]
fn no_role_is_told_where_the_pooler_has_answered_nobody_for_a_knock_and_a_deadline() {
    for (calls, last) in
        [(tries(None, Some((10_000, 16_000))), 14_980), (tries(Some((10_000, 16_000)), None), 15_900)]
    {
        let history = primary(fine(), calls);
        for (begun, expected) in [(9000, 0), (12_300, 0), (12_450, 1), (last, 1), (16_010, 0)] {
            let answered = answer(begun, begun + 5, Said::Is(Primary));
            assert_eq!(wrong(&history, answered.clone()), expected, "{begun}");
            let elsewhere = Answer { asked: Asked::Health, takes_writes: false, ..answered };
            assert_eq!(wrong(&history, elsewhere), 0, "{begun}: it is not about the role");
        }
    }
    let standby = Life { born: Standby, ..primary(fine(), fine()).lives[0] };
    let calls = tries(None, Some((10_000, 16_000)));
    let history = History { lives: vec![standby], ..primary(tries(Some((0, 30_000)), None), calls) };
    assert_eq!(wrong(&history, answer(12_450, 12_455, Said::Is(Standby))), 1);
    assert_eq!(wrong(&history, answer(17_000, 17_005, Said::Is(Standby))), 0, "nobody commits there");
}

#[test]
fn an_alarm_is_false_where_clients_worked_the_whole_time() {
    for (reason, are_commits) in
        [("write-stalled", true), ("write-failed", true), ("pooler-not-answering", false)]
    {
        let history = |tries: Tries| match are_commits {
            true => primary(tries, fine()),
            false => primary(fine(), tries),
        };
        let alarm = |begun| answer(begun, begun + 5, down(reason));
        assert_eq!(wrong(&history(fine()), alarm(14_000)), 1, "{reason}");
        assert_eq!(wrong(&history(Tries::default()), alarm(14_000)), 0, "{reason}: nobody tried");
        let table = [
            (9000, 1, "before"),
            (9960, 0, "the next one failed, or hung"),
            (10_400, 0, "now"),
            (12_400, 0, "shortly before"),
            (12_700, 1, "long before"),
        ];
        for stopped in [tries(Some((10_000, 10_600)), None), tries(None, Some((10_000, 10_600)))] {
            for (begun, expected, why) in table {
                assert_eq!(
                    wrong(&history(stopped.clone()), alarm(begun)),
                    expected,
                    "{reason} {begun}: {why}"
                );
            }
        }
        let span = Span { node: 0, from: ms(10_500), until: Some(ms(10_600)) };
        let closed = History { closed: vec![span], ..history(fine()) };
        let frozen = History { frozen: vec![span], ..history(fine()) };
        let cut_off = History { cut_off: vec![span], ..history(fine()) };
        for (begun, is_excused) in [(9400, false), (9600, true), (12_500, true), (12_700, false)] {
            let expected = usize::from(!(is_excused && are_commits));
            for shut in [&closed, &frozen, &cut_off] {
                assert_eq!(
                    wrong(shut, alarm(begun)),
                    expected,
                    "{reason} {begun}: no new client on the agent's way was let in"
                );
            }
        }
        let mut stood_still = history(fine());
        stood_still.stalls.push((ms(13_000), ms(13_200)));
        assert_eq!(wrong(&stood_still, alarm(14_000)), 0, "{reason}");
        let mut muted = history(fine());
        muted.muted.push(Span { node: 0, from: ms(13_000), until: None });
        assert_eq!(wrong(&muted, alarm(14_000)), 0, "{reason}: it lacks what it needs");
        assert_eq!(wrong(&history(fine()), answer(14_000, 14_005, down("connection-refused"))), 0);
    }
}

#[test]
fn nothing_else_waits_for_commits_and_poolers() {
    let stopped = || tries(None, Some((10_000, 16_000)));
    let reading =
        Reading { node: 0, begun: ms(12_100), ended: ms(12_110), role: Primary, timeline: 1, sessions: 1 };
    for history in [primary(stopped(), fine()), primary(fine(), stopped())] {
        let health = |ended| Answer {
            asked: Asked::Health,
            takes_writes: false,
            ..answer(12_000, ended, Said::Is(Primary))
        };
        assert_eq!(
            found(&history, health(12_900)),
            (0, 0, 0),
            "others may have waited for PostgreSQL as well"
        );
        let mut history = History { readings: vec![reading], ..history };
        assert_eq!(found(&history, health(12_750)), (0, 0, 0));
        assert_eq!(found(&history, health(12_751)), (0, 1, 0));
        history.stalls.push((ms(12_200), ms(12_400)));
        assert_eq!(found(&history, health(12_900)), (0, 0, 0), "the machine stood still");
        history.stalls.clear();
        history.muted.push(Span { node: 0, from: ms(12_000), until: None });
        assert_eq!(found(&history, health(12_900)), (0, 0, 0));
    }
    let alive = |ended| Answer { asked: Asked::Liveness, ..answer(20_000, ended, Said::Alive) };
    let history = primary(fine(), fine());
    assert_eq!(found(&history, alive(20_750)), (0, 0, 0));
    assert_eq!(found(&history, alive(20_751)), (0, 1, 0));
    let health = Answer { asked: Asked::Health, ..answer(20_000, 20_900, down("deadline-passed")) };
    assert_eq!(found(&history, health), (0, 0, 0), "clients worked: it waited for something else");
}

#[test]
fn one_session_more_beside_a_primary_is_no_leak_and_two_are() {
    let at = |number: u64| -> At { ms(number) };
    let first = Sample {
        node: 0,
        pid: 7,
        at: at(1),
        descriptors: 20,
        threads: 8,
        resident_kib: 2000,
        sessions: 1,
        writing: 0,
    };
    let writing = Sample { at: at(2), descriptors: 23, writing: 1, ..first };
    let table = [
        (vec![writing], 0),
        (vec![writing, Sample { descriptors: 24, ..writing }], 1),
        (vec![writing, first], 0),
        (vec![writing, Sample { descriptors: 21, ..first }], 1),
        (vec![Sample { writing: 2, ..writing }], 1),
    ];
    for (samples, leaks) in table {
        let samples = [vec![first], samples].concat();
        let history = History { samples: samples.clone(), ..primary(fine(), fine()) };
        assert_eq!(counts(&check(&history, &LIMITS)), (0, 0, leaks), "{samples:?}");
    }
}
