//! Beside tables, every cluster of three nodes.

use super::*;
use crate::instance::{Drain, Failure, Lsn, Sighting};
use crate::peers::Statement;
use crate::verdict::{Condition, Survey, Target, Verdict, judge};

const SYSTEM: u64 = 7;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Node {
    /// `None` where PostgreSQL is down.
    role: Option<(Role, u32)>,
    is_draining: bool,
}

fn every_node() -> Vec<Node> {
    let roles = [Role::Primary, Role::Standby];
    let states = roles.iter().flat_map(|role| (1..=3).map(|timeline| Some((*role, timeline))));
    let states: Vec<_> = states.chain([None]).collect();
    let both = [false, true].into_iter();
    both.flat_map(|is_draining| states.iter().map(move |role| Node { role: *role, is_draining })).collect()
}

/// As the node sees itself; its number tells instances apart.
fn observation(node: Node, number: usize) -> Observation {
    let drain = if node.is_draining { Drain::On } else { Drain::Off };
    let instance = match node.role {
        None => Err(Failure::new(Reason::ConnectionRefused, "")),
        Some((role, timeline)) => Ok(Sighting {
            timeline: Some(timeline),
            read_only_default: Some(false),
            recovery: (role == Role::Standby).then(Default::default),
            identity: Some(Identity {
                system_identifier: SYSTEM,
                postmaster_started_unix_s: number as f64,
                primary_timeline: Some(timeline).filter(|_| role == Role::Primary),
            }),
            ..Sighting::of_role(role)
        }),
    };
    Observation::new(drain, Some(instance), None)
}

fn statement(node: Node, number: usize) -> Statement {
    Statement {
        agent: number.to_string(),
        name: format!("node{number}"),
        role: node.role.map(|(role, _)| role),
        reason: None,
        draining: Some(node.is_draining),
        system_identifier: node.role.map(|_| SYSTEM),
        timeline: node.role.map(|(_, timeline)| timeline),
        lsn: node.role.map(|_| Lsn(100)),
        postmaster_started_unix_s: node.role.map(|_| number as f64),
        receives: None,
        slot: None,
        application_name: None,
        standbys: None,
        cascaded: None,
    }
}

fn silent() -> PeerNews {
    PeerNews {
        address: "192.0.2.1:23267".into(),
        is_self: false,
        is_fresh: false,
        last: None,
        claim: None,
        rival: None,
        told: None,
    }
}

fn with(observation: Observation, peers: Vec<PeerNews>, min_peers: usize) -> Observation {
    let evidence = weigh(&observation, &News { peers }, min_peers);
    Observation { evidence, ..observation }
}

fn verdict(path: &str, observation: &Observation) -> Verdict {
    judge(Target::parse(path).unwrap(), observation)
}

const PATHS: [&str; 6] = ["/", "/primary", "/read-write", "/read-only", "/replica", "/health"];

#[test]
fn every_cluster_of_three_has_at_most_one_primary_that_others_can_hear() {
    let kinds = every_node();
    let mut clusters = 0;
    for &first in &kinds {
        for &second in &kinds {
            for &third in &kinds {
                for links in 0..64_u32 {
                    assert_cluster([first, second, third], links);
                    clusters += 1;
                }
            }
        }
    }
    assert_eq!(clusters, 14 * 14 * 14 * 64);
}

/// One bit for each direction between two nodes.
fn assert_cluster(nodes: [Node; 3], links: u32) {
    let hears = |from: usize, to: usize| from != to && links >> (2 * from + (to + 2 - from) % 3) & 1 == 1;
    let weighed = [0, 1, 2].map(|own| {
        let others = (0..3).filter(|other| *other != own);
        let peers = others.map(|other| match hears(own, other) {
            true => PeerNews::of(statement(nodes[other], other), true),
            false => silent(),
        });
        with(observation(nodes[own], own), peers.collect(), 0)
    });
    let holds = |number: usize| matches!(verdict("/primary", &weighed[number]), Verdict::Holds(_));
    for own in 0..3 {
        let alone = observation(nodes[own], own);
        for path in PATHS {
            let (before, now) = (verdict(path, &alone), verdict(path, &weighed[own]));
            assert!(
                before == now || matches!((before, now), (Verdict::Holds(_), Verdict::No(_))),
                "{path} of {own}: {before:?} became {now:?}: {nodes:?} {links:b}"
            );
            let is_deaf = (0..3).all(|other| !hears(own, other));
            assert!(!is_deaf || before == now, "{path} of {own}: {nodes:?} {links:b}");
            let is_own_affair = path == "/replica" || path == "/health";
            assert!(!is_own_affair || before == now, "{path} of {own}: {nodes:?} {links:b}");
        }
        for other in 0..3 {
            let is_double = hears(own, other) && hears(other, own) && holds(own) && holds(other);
            assert!(!is_double, "{own} and {other}: {nodes:?} {links:b}");
        }
        let Node { role: Some((Role::Primary, timeline)), is_draining: false } = nodes[own] else { continue };
        let is_ahead_of = |other: usize| match nodes[other].role {
            _ if !hears(own, other) => true,
            Some((Role::Primary, theirs)) if theirs == timeline => nodes[other].is_draining,
            Some((_, theirs)) => theirs <= timeline,
            None => true,
        };
        let is_rightful = (0..3).all(|other| other == own || is_ahead_of(other));
        assert_eq!(holds(own), is_rightful, "{own}: {nodes:?} {links:b}");
    }
}

fn node(role: Role, timeline: u32) -> Node {
    Node { role: Some((role, timeline)), is_draining: false }
}

#[test]
fn what_sticks_counts_although_the_peer_is_silent() {
    let own = || observation(node(Role::Primary, 2), 0);
    let reason = |peers: Vec<PeerNews>| with(own(), peers, 0).evidence.against.map(|against| against.reason);
    let promoted = statement(node(Role::Primary, 3), 1);
    let follower = statement(node(Role::Standby, 3), 2);
    for said in [promoted, follower] {
        assert_eq!(reason(vec![PeerNews::of(said.clone(), false)]), Some(Reason::Superseded));
        let foreign = Statement { system_identifier: Some(8), ..said };
        assert_eq!(reason(vec![PeerNews::of(foreign, true)]), None, "another cluster");
    }
    let rival = statement(node(Role::Primary, 2), 1);
    assert_eq!(reason(vec![PeerNews::of(rival.clone(), false)]), Some(Reason::TwoPrimaries));
    let both =
        vec![PeerNews::of(rival.clone(), true), PeerNews::of(statement(node(Role::Standby, 3), 2), false)];
    assert_eq!(reason(both), Some(Reason::Superseded), "the more certain of both");
    // A second agent beside this very instance, or an address more of this host.
    let itself = Statement { postmaster_started_unix_s: Some(0.0), ..rival };
    assert_eq!(reason(vec![PeerNews::of(itself, true)]), None);
}

#[test]
fn a_primary_has_to_be_heard_by_as_many_as_the_administrator_says() {
    let down = || PeerNews::of(statement(Node { role: None, is_draining: false }, 1), true);
    let foreign =
        PeerNews::of(Statement { system_identifier: Some(8), ..statement(node(Role::Standby, 1), 2) }, true);
    let oneself = PeerNews { is_self: true, ..PeerNews::of(statement(node(Role::Primary, 2), 0), true) };
    let verdict_of = |peers: Vec<PeerNews>, min_peers| {
        verdict("/primary", &with(observation(node(Role::Primary, 2), 0), peers, min_peers))
    };
    let holds = Verdict::Holds(Role::Primary);
    let isolated = Verdict::Down(Reason::Isolated);
    assert_eq!(verdict_of(vec![down(), silent()], 1), holds, "any answer counts");
    assert_eq!(verdict_of(vec![down(), silent()], 2), isolated);
    assert_eq!(verdict_of(vec![silent(), oneself], 1), isolated, "the agent itself does not");
    // Once it is down it does not say so any more.
    let foreign_and_down = PeerNews {
        last: down().last,
        ..PeerNews::of(Statement { system_identifier: Some(8), ..statement(node(Role::Standby, 1), 2) }, true)
    };
    assert_eq!(verdict_of(vec![foreign, silent()], 1), isolated);
    assert_eq!(verdict_of(vec![foreign_and_down, silent()], 1), isolated);
    assert_eq!(verdict_of(vec![silent()], 0), holds);
    let standby = with(observation(node(Role::Standby, 2), 0), vec![silent()], 1);
    assert_eq!(verdict("/replica", &standby), Verdict::Holds(Role::Standby), "a standby needs nobody");
}

#[test]
fn the_primary_that_is_furthest_says_how_far_a_standby_has_to_go() {
    let said = |timeline, lsn, number| {
        let said = statement(node(Role::Primary, timeline), number);
        PeerNews::of(Statement { lsn: Some(Lsn(lsn)), ..said }, true)
    };
    let primary = |peers| with(observation(node(Role::Standby, 2), 0), peers, 0).evidence.primary;
    let position = |timeline, lsn| Some(PrimaryPosition { timeline, lsn: Lsn(lsn) });
    assert_eq!(primary(vec![said(1, 900, 1), said(2, 300, 2)]), position(2, 300));
    assert_eq!(primary(vec![PeerNews { is_fresh: false, ..said(2, 300, 1) }]), None, "too old");
    let draining = |timeline, lsn, number| {
        let said = statement(Node { is_draining: true, ..node(Role::Primary, timeline) }, number);
        PeerNews::of(Statement { lsn: Some(Lsn(lsn)), ..said }, true)
    };
    assert_eq!(primary(vec![draining(2, 900, 1), said(2, 300, 2)]), position(2, 300), "it is given up");
    assert_eq!(
        primary(vec![draining(2, 900, 1), said(1, 300, 2)]),
        position(2, 900),
        "that one was left behind"
    );
    assert_eq!(primary(vec![draining(2, 900, 1)]), position(2, 900), "the only one");
    let highest = |peers| with(observation(node(Role::Standby, 2), 0), peers, 0).evidence.highest_timeline;
    assert_eq!(highest(vec![said(1, 900, 1), PeerNews { is_fresh: false, ..said(3, 300, 2) }]), Some(3));
    assert_eq!(highest(vec![silent()]), None);
    assert_eq!(primary(vec![PeerNews::of(statement(node(Role::Standby, 2), 1), true)]), None);
}

#[test]
fn a_survey_says_what_the_nodes_amount_to() {
    use Role::{Primary, Standby};
    let drained = Node { is_draining: true, ..node(Primary, 2) };
    let down = Node { role: None, is_draining: false };
    let table = [
        ([node(Primary, 2), node(Standby, 2)], Condition::OnePrimary),
        ([node(Standby, 2), node(Primary, 2)], Condition::OnePrimary),
        ([node(Standby, 2), down], Condition::NoPrimary),
        ([down, node(Primary, 1)], Condition::OnePrimary),
        ([node(Primary, 2), node(Primary, 2)], Condition::TwoPrimaries),
        ([node(Primary, 2), drained], Condition::OnePrimary),
        ([node(Primary, 1), node(Primary, 2)], Condition::SupersededPrimary),
        ([node(Primary, 1), node(Standby, 2)], Condition::SupersededPrimary),
        ([drained, node(Standby, 2)], Condition::OnePrimary),
    ];
    let own_name = crate::system::own_name::OwnName::get();
    for ([own, other], expected) in table {
        let news = News { peers: vec![PeerNews::of(statement(other, 1), true)] };
        let observation = observation(own, 0);
        let evidence = weigh(&observation, &news, 0);
        let observation = Observation { evidence, ..observation };
        let survey = Survey::new(Target::parse("/cluster").unwrap(), &observation, &news, own_name);
        assert_eq!((survey.condition, survey.nodes.len()), (expected, 2), "{own:?} {other:?}");
    }
}
