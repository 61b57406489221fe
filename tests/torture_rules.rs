//! What decides in the fault campaign (`make torture`): the checker catches what must not be and nothing else, and the
//! same seed draws the same faults.

#[path = "torture/checker.rs"]
mod checker;
#[path = "torture/hearing.rs"]
mod hearing;
#[path = "torture/history.rs"]
mod history;
#[path = "torture/lives.rs"]
mod lives;
#[path = "torture/plan.rs"]
mod plan;
#[path = "torture/primaries.rs"]
mod primaries;
#[path = "torture_rules/two_primaries.rs"]
mod two_primaries;
#[path = "torture/work.rs"]
mod work;
#[path = "torture_rules/working.rs"]
mod working;

use std::collections::HashSet;
use std::mem::discriminant;
use std::time::Duration;

use checker::{Finding, Findings, Limits, Worst, check, worst};
use history::{Against, Answer, Asked, At, Calm, History, Life, Moved, Reading, Role, Said, Sample, Span};
use plan::{LONGEST_HOLD_MS, Plan, Step};

const LIMITS: Limits = Limits {
    timeout: Duration::from_secs(1),
    slack: Duration::from_secs(1),
    knock: Duration::from_millis(350),
    login: Duration::from_millis(850),
    write_probe: Duration::from_secs(1),
    peer_interval: Duration::from_millis(200),
    recovery: Duration::from_secs(2),
    sessions: 5,
    descriptors: 0,
    threads: 0,
    memory_kib: 1000,
};

const fn ms(milliseconds: u64) -> At {
    Duration::from_millis(milliseconds)
}

fn span(from: u64, until: Option<u64>) -> Span {
    Span { node: 0, from: ms(from), until: until.map(ms) }
}

fn life(from: u64, until: Option<u64>, born: Role, promoted: Option<u64>) -> Life {
    Life { span: span(from, until), born, promoted: promoted.map(ms) }
}

fn reading(begun: u64, ended: u64, role: Role, sessions: usize) -> Reading {
    Reading { node: 0, begun: ms(begun), ended: ms(ended), role, timeline: 1, sessions }
}

fn answer(begun: u64, ended: u64, said: Said) -> Answer {
    let takes_writes = said == Said::Is(Role::Primary);
    Answer { node: 0, asked: Asked::Role, begun: ms(begun), ended: ms(ended), said, takes_writes }
}

/// A standby since the beginning that was told at 5 s to become a primary, was one at 5.1 s at the latest, was gone at
/// 10 s, and came back as a primary at 12 s.
fn failover() -> History {
    History {
        lives: vec![
            life(0, Some(10_000), Role::Standby, Some(5000)),
            life(12_000, None, Role::Primary, None),
        ],
        readings: vec![
            reading(4000, 4001, Role::Standby, 1),
            reading(5020, 5021, Role::Standby, 1),
            reading(5090, 5100, Role::Primary, 1),
        ],
        ..History::default()
    }
}

/// Of one answer in an otherwise faultless history.
fn findings(history: &History, begun: u64, ended: u64, said: Said) -> Findings {
    let mut history = history.clone();
    history.answers.push(answer(begun, ended, said));
    check(&history, &LIMITS)
}

fn counts(findings: &Findings) -> (usize, usize, usize) {
    (findings.wrong.len(), findings.late.len(), findings.leaks.len())
}

fn down() -> Said {
    Said::Unverified("connection-refused".into())
}

#[test]
fn a_role_that_the_node_had_at_no_time_between_question_and_answer_is_wrong() {
    use Role::{Primary, Standby};
    let table = [
        (4000, 4010, Primary, false, "before the promotion"),
        (4000, 4010, Standby, true, "before the promotion"),
        (5000, 5010, Primary, false, "PostgreSQL itself said later that it was a standby"),
        (5000, 5030, Primary, true, "it may have become one before the answer"),
        (5050, 5060, Primary, true, "nobody knows"),
        (5050, 5060, Standby, true, "nobody knows"),
        (5101, 5110, Standby, false, "PostgreSQL itself had said that it was a primary"),
        (5099, 5110, Standby, true, "it may have been one when the question came"),
        (9990, 10_050, Primary, true, "it lived when the question came"),
        (10_001, 10_050, Primary, false, "it had ended"),
        (10_001, 11_999, Primary, false, "it had ended and was not started"),
        (10_001, 12_001, Primary, true, "it was started before the answer"),
        (12_500, 12_510, Standby, false, "it came back as a primary"),
    ];
    for (begun, ended, role, is_right, why) in table {
        let found = findings(&failover(), begun, ended, Said::Is(role));
        assert_eq!(counts(&found), (usize::from(!is_right), 0, 0), "{begun} {ended} {role:?}: {why}");
    }
    assert_eq!(counts(&findings(&failover(), 10_001, 10_002, down())), (0, 0, 0), "503 is never wrong");
    assert_eq!(counts(&findings(&failover(), 1, 2, Said::Odd("/: 500".into()))), (1, 0, 0));
}

#[test]
fn the_other_nodes_life_proves_nothing() {
    let mut history = failover();
    let other = Span { node: 1, from: ms(0), until: None };
    history.lives.push(Life { span: other, born: Role::Primary, promoted: None });
    assert_eq!(counts(&findings(&history, 4000, 4010, Said::Is(Role::Primary))), (1, 0, 0));
}

#[test]
fn a_role_told_while_the_postmaster_is_frozen_is_wrong_once_no_knock_can_be_good() {
    let mut history = failover();
    history.frozen.push(span(6000, Some(8000)));
    for (begun, ended, wrong) in [(6100, 6101, 0), (6400, 6401, 1), (7900, 8001, 0)] {
        let found = findings(&history, begun, ended, Said::Is(Role::Primary));
        assert_eq!(counts(&found), (wrong, 0, 0), "{begun}");
    }
}

#[test]
fn a_role_told_while_no_new_client_is_let_in_is_wrong_once_the_agent_has_to_have_logged_in() {
    let mut history = failover();
    history.closed.push(span(6000, Some(8000)));
    let table = [
        (5990, 6010, 0, "clients were let in when the question came"),
        (6840, 6850, 0, "the last login of the agent may be younger than its interval"),
        (6850, 6851, 1, "it has to have tried"),
        (7990, 7999, 1, "nobody is let in yet"),
        (7990, 8000, 0, "it may have been let in just then"),
        (8001, 8002, 0, "clients are let in again"),
    ];
    for (begun, ended, wrong, why) in table {
        let found = findings(&history, begun, ended, Said::Is(Role::Primary));
        assert_eq!(counts(&found), (wrong, 0, 0), "{begun}: {why}");
        assert_eq!(counts(&findings(&history, begun, ended, down())), (0, 0, 0), "503 is never wrong");
    }
    history.rests.push(span(5000, Some(7000)));
    for (begun, wrong) in [(7840, 0), (7850, 1)] {
        let found = findings(&history, begun, begun + 10, Said::Is(Role::Primary));
        assert_eq!(
            counts(&found),
            (wrong, 0, 0),
            "{begun}: it may have rested, as it had been refused logins"
        );
    }
    let elsewhere = Span { node: 1, ..span(5000, Some(7000)) };
    for (rest, why) in [
        (span(6001, Some(7000)), "not before"),
        (span(1000, Some(2000)), "it was over"),
        (elsewhere, "the other node's"),
    ] {
        history.rests = vec![rest];
        for (begun, wrong) in [(6840, 0), (6850, 1)] {
            let found = findings(&history, begun, begun + 1, Said::Is(Role::Primary));
            assert_eq!(counts(&found), (wrong, 0, 0), "{begun}: {why}");
        }
    }
    history.closed = vec![Span { node: 1, from: ms(6000), until: None }];
    assert_eq!(counts(&findings(&history, 7000, 7001, Said::Is(Role::Primary))), (0, 0, 0), "the other node");
    history.closed = vec![span(6000, None)];
    assert_eq!(counts(&findings(&history, 9000, 9001, Said::Is(Role::Primary))), (1, 0, 0), "to the end");
}

/// Node 0 is a primary from 5.1 s to 10 s, and its address leads to node 1, a standby, from 6 s to 8 s, for certain from
/// 6.1 s to 7.8 s.
#[test]
fn behind_a_moved_address_it_is_the_server_that_new_clients_reach() {
    use Role::{Primary, Standby};
    let mut history = failover();
    let other = Span { node: 1, from: ms(0), until: None };
    history.lives.push(Life { span: other, born: Standby, promoted: None });
    history.moved.push(Moved {
        there: 1,
        possible: span(6000, Some(8000)),
        certain: Some(span(6100, Some(7800))),
    });
    let table = [
        (5980, 5999, Primary, true, "it has not moved"),
        (5980, 5999, Standby, false, "it has not moved"),
        (5980, 6000, Standby, true, "it may have moved before the answer"),
        (6949, 6960, Primary, true, "the agent may have its old session for a while"),
        (6950, 6960, Primary, false, "it has to have logged in anew"),
        (6950, 6960, Standby, true, "it has to have logged in anew"),
        (7700, 7799, Primary, false, "it has not moved back"),
        (7700, 7800, Primary, true, "it may be moving back before the answer"),
        (8850, 8860, Standby, true, "the agent may have its session at the other one for a while"),
        (8851, 8860, Standby, false, "it has to have come back"),
        (8851, 8860, Primary, true, "it has to have come back"),
    ];
    for (begun, ended, role, is_right, why) in table {
        let found = findings(&history, begun, ended, Said::Is(role));
        assert_eq!(counts(&found), (usize::from(!is_right), 0, 0), "{begun} {ended} {role:?}: {why}");
    }
    // The way does not move for the other node's agent.
    let moved = history.clone();
    let answer = Answer { node: 1, ..answer(7000, 7001, Said::Is(Primary)) };
    history.answers.push(answer);
    assert_eq!(counts(&check(&history, &LIMITS)), (1, 0, 0));
    // An agent that was refused logins may have its old session for longer.
    let rested = History { rests: vec![span(5000, Some(6500))], ..moved };
    for (begun, wrong) in [(7349, 0), (7350, 1)] {
        assert_eq!(counts(&findings(&rested, begun, 7400, Said::Is(Primary))), (wrong, 0, 0), "{begun}");
    }
}

#[test]
fn a_deadline_that_is_said_to_have_passed_before_it_has_is_wrong() {
    let passed = || Said::Unverified("deadline-passed".into());
    // A look that is given up at the deadline of who began it takes those along who came a tenth of it later.
    for (ended, wrong) in [(1016, 1), (1899, 1), (1900, 0), (2100, 0)] {
        assert_eq!(counts(&findings(&failover(), 1000, ended, passed())), (wrong, 0, 0), "{ended}");
    }
    assert_eq!(counts(&findings(&failover(), 1000, 1016, down())), (0, 0, 0));
}

#[test]
fn an_answer_past_the_deadline_is_late_and_none_at_all_too() {
    let history = failover();
    assert_eq!(counts(&findings(&history, 1000, 3000, down())), (0, 0, 0));
    assert_eq!(counts(&findings(&history, 1000, 3001, down())), (0, 1, 0));
    assert_eq!(counts(&findings(&history, 1000, 1001, Said::Nothing("reset".into()))), (0, 1, 0));
}

#[test]
fn a_muted_agent_and_a_machine_that_stands_still_excuse_lateness_but_no_lie() {
    let mut history = failover();
    history.muted.push(span(2000, Some(3000)));
    for (begun, ended, late) in [(500, 2500, 0), (3500, 6000, 0), (4001, 7000, 1), (500, 1999, 0)] {
        let found = findings(&history, begun, ended, Said::Nothing("reset".into()));
        let late = if ended < 2000 { 1 } else { late };
        assert_eq!(counts(&found), (0, late, 0), "{begun}");
    }
    assert_eq!(counts(&findings(&history, 2100, 2200, Said::Is(Role::Primary))), (1, 0, 0));

    let mut history = failover();
    history.stalls.push((ms(1500), ms(2000)));
    assert_eq!(counts(&findings(&history, 1000, 3400, down())), (0, 0, 0));
    assert_eq!(counts(&findings(&history, 1000, 3600, down())), (0, 1, 0));
}

#[test]
fn a_recovery_that_takes_too_long_is_late_and_a_relapse_too() {
    let calm = Calm { span: span(6000, Some(9000)), role: Role::Primary, grace: Duration::ZERO };
    let right = Said::Is(Role::Primary);
    let table = [
        (vec![(6100, 6200, down()), (7900, 7990, right.clone())], 0, "in time"),
        (vec![(6100, 6200, down()), (7900, 8001, right.clone())], 1, "too late"),
        (vec![(6100, 6200, down())], 1, "never"),
        (vec![(6100, 6200, right.clone()), (6300, 6400, down())], 1, "a relapse"),
        (vec![(6100, 6200, right.clone()), (6150, 6400, down())], 0, "asked before"),
        (vec![(6100, 6200, right.clone()), (8900, 9100, down())], 0, "answered in the next fault"),
    ];
    for (answers, late, why) in table {
        let mut history = failover();
        history.calms.push(calm);
        history.answers.extend(answers.into_iter().map(|(begun, ended, said)| answer(begun, ended, said)));
        assert_eq!(counts(&check(&history, &LIMITS)), (0, late, 0), "{why}");
    }
    let mut history = failover();
    history.calms.push(Calm { grace: ms(500), ..calm });
    for (ended, late) in [(8499, 0), (8501, 1)] {
        history.answers = vec![answer(6100, ended, right.clone())];
        let found = counts(&check(&history, &Limits { timeout: ms(3000), ..LIMITS }));
        assert_eq!(found, (0, late, 0), "{ended}: it may have rested");
    }
}

#[test]
fn a_machine_that_stands_still_excuses_a_relapse_but_no_lie() {
    let calm = Calm { span: span(6000, Some(9000)), role: Role::Primary, grace: Duration::ZERO };
    let stalls = vec![(ms(6300), ms(6500))];
    let refused = Said::Refused(Against::Superseded);
    for (said, expected) in [(down(), (0, 0, 0)), (Said::Is(Role::Standby), (1, 1, 0)), (refused, (1, 1, 0))]
    {
        let mut history = History { calms: vec![calm], stalls: stalls.clone(), ..failover() };
        history.answers.push(answer(6100, 6200, Said::Is(Role::Primary)));
        assert_eq!(counts(&findings(&history, 6350, 6400, said)), expected);
    }
}

#[test]
fn sessions_above_the_cap_are_a_leak_at_any_time() {
    for (sessions, leaks) in [(5, 0), (6, 1)] {
        let mut history = failover();
        history.readings.push(reading(6000, 6001, Role::Primary, sessions));
        assert_eq!(counts(&check(&history, &LIMITS)), (0, 0, leaks));
    }
}

#[test]
fn what_an_agent_at_rest_holds_beyond_its_first_rest_is_a_leak() {
    let first = Sample {
        node: 0,
        pid: 7,
        at: ms(1),
        descriptors: 20,
        threads: 8,
        resident_kib: 2000,
        sessions: 1,
        writing: 0,
    };
    let table = [
        (Sample { at: ms(2), ..first }, 0),
        (Sample { descriptors: 21, ..first }, 1),
        (Sample { threads: 9, ..first }, 1),
        (Sample { resident_kib: 3000, ..first }, 0),
        (Sample { resident_kib: 3001, ..first }, 1),
        (Sample { sessions: 2, ..first }, 1),
        (Sample { pid: 8, descriptors: 30, ..first }, 0),
    ];
    for (sample, leaks) in table {
        let history = History { samples: vec![first, sample], ..failover() };
        assert_eq!(counts(&check(&history, &LIMITS)), (0, 0, leaks), "{sample:?}");
    }
}

#[test]
fn what_was_noticed_on_the_way_is_wrong() {
    let defects = vec![(ms(3), "write/a is DOWN".to_owned())];
    let found = check(&History { defects, ..failover() }, &LIMITS);
    let [Finding { at, what }] = found.wrong.as_slice() else { panic!("{found:?}") };
    assert_eq!((*at, what.as_str()), (ms(3), "write/a is DOWN"));
}

#[test]
fn the_worst_that_was_seen_is_summed_up() {
    let mut history = failover();
    history.calms.push(Calm { span: span(6000, Some(9000)), role: Role::Primary, grace: Duration::ZERO });
    history.answers.push(answer(6100, 6900, down()));
    history.answers.push(answer(6950, 7000, Said::Is(Role::Primary)));
    history.answers.push(answer(7950, 8000, Said::Is(Role::Primary)));
    let expected = Worst { answer: ms(800), recovery: ms(1000), sessions: 1, memory_kib: 0, deaths: 0 };
    assert_eq!(worst(&history, &LIMITS), expected);
}

#[test]
fn the_same_seed_draws_the_same_faults_and_every_kind_has_its_turn() {
    let draw = |seed| -> Vec<Step> {
        let mut plan = Plan::new(seed);
        (0..600).flat_map(|_| plan.draw()).collect()
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
    let kinds: HashSet<_> = draw(7).iter().map(|step| discriminant(&step.fault)).collect();
    assert_eq!(kinds.len(), 34, "one of the kinds of faults is never drawn");
    assert!(draw(7).len() > 600, "two at a time are never drawn");
    assert!(draw(7).iter().all(|step| step.hold < Duration::from_millis(LONGEST_HOLD_MS)));
}
