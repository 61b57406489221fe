use super::*;
use crate::instance::{Lsn, Receiver, ReceiverDetails, Replication};
use crate::reason::Reason;

const OWN: Identity =
    Identity { system_identifier: 7, postmaster_started_unix_s: 1.0, primary_timeline: None };

fn sighting(slot: Option<&str>, name: Option<&str>) -> Sighting {
    let details = ReceiverDetails {
        status: "streaming".into(),
        slot_name: slot.map(Into::into),
        application_name: name.map(Into::into),
        ..ReceiverDetails::default()
    };
    let receiver = Some(Receiver { timeout: None, details: Some(details) });
    Sighting {
        timeline: Some(2),
        replication: Some(Replication { receiver, ..Replication::default() }),
        ..Sighting::of_role(Role::Standby)
    }
}

fn row(slot: Option<&str>, name: &str, state: &str) -> AttachedStandby {
    AttachedStandby {
        slot: slot.map(Into::into),
        application_name: Some(name.into()),
        state: Some("streaming".into()),
        sync_state: Some(state.into()),
        ..AttachedStandby::default()
    }
}

fn said(role: Option<Role>) -> Statement {
    Statement {
        agent: "a2".into(),
        name: "node2".into(),
        role,
        reason: None,
        draining: Some(false),
        system_identifier: role.map(|_| OWN.system_identifier),
        timeline: role.map(|_| 2),
        lsn: role.map(|_| Lsn(100)),
        postmaster_started_unix_s: role.map(|_| 2.0),
        receives: None,
        slot: None,
        application_name: None,
        standbys: None,
        cascaded: None,
    }
}

fn primary(standbys: Vec<AttachedStandby>) -> Statement {
    Statement { standbys: Some(standbys), ..said(Some(Role::Primary)) }
}

fn standby(slot: Option<&str>, name: &str, cascaded: Option<Vec<AttachedStandby>>) -> Statement {
    Statement {
        postmaster_started_unix_s: Some(3.0),
        slot: slot.map(Into::into),
        application_name: Some(name.into()),
        cascaded,
        ..said(Some(Role::Standby))
    }
}

fn state(own: &Sighting, peers: &[Statement]) -> Option<SyncState> {
    let peers: Vec<PeerNews> = peers.iter().map(|said| PeerNews::of(said.clone(), true)).collect();
    sync_state(own, OWN, peers.iter())
}

#[test]
fn a_standby_finds_itself_by_its_slot_else_by_its_name() {
    let rows = vec![row(Some("s1"), "walreceiver", "sync"), row(None, "node3", "quorum")];
    let seen = [primary(rows)];
    assert_eq!(state(&sighting(Some("s1"), Some("walreceiver")), &seen), Some(SyncState::Sync));
    assert_eq!(state(&sighting(None, Some("node3")), &seen), Some(SyncState::Quorum));
    assert_eq!(state(&sighting(Some("s2"), Some("node3")), &seen), Some(SyncState::Async), "not attached");
    assert_eq!(
        state(&sighting(None, Some("walreceiver")), &seen),
        Some(SyncState::Async),
        "that one has a slot"
    );
    assert_eq!(state(&sighting(None, None), &seen), None, "nobody knows its names");
    let potential = [primary(vec![row(None, "node3", "potential")])];
    assert_eq!(state(&sighting(None, Some("node3")), &potential), Some(SyncState::Async));
    let odd = [primary(vec![row(None, "node3", "something")])];
    assert_eq!(state(&sighting(None, Some("node3")), &odd), None);
}

#[test]
fn what_is_ambiguous_or_hidden_is_not_known() {
    let own = sighting(None, Some("walreceiver"));
    let one = || row(None, "walreceiver", "sync");
    assert_eq!(state(&own, &[primary(vec![one()])]), Some(SyncState::Sync));
    assert_eq!(state(&own, &[primary(vec![one(), one()])]), None, "two of that name");
    assert_eq!(state(&own, &[said(Some(Role::Primary))]), None, "its list is hidden");
    assert_eq!(state(&own, &[]), None);
    assert_eq!(state(&own, &[standby(None, "node3", None)]), None, "no primary");
    let namesake = standby(None, "walreceiver", None);
    assert_eq!(state(&own, &[primary(vec![one()]), namesake]), None, "it may be that one's row");
    let sender = standby(None, "node3", Some(vec![row(None, "walreceiver", "async")]));
    assert_eq!(state(&own, &[primary(vec![one()]), sender.clone()]), None, "it may receive from there");
    assert_eq!(state(&own, &[primary(vec![]), sender]), Some(SyncState::Async));
    let full = vec![row(None, "other", "async"); MAX_STANDBYS];
    assert_eq!(state(&own, &[primary(full)]), None, "there may be more");
    let long = sighting(None, Some(&"x".repeat(64)));
    assert_eq!(state(&long, &[primary(vec![])]), None, "the server cuts it");
}

#[test]
fn only_the_one_primary_of_its_timeline_counts() {
    let own = sighting(None, Some("node3"));
    let rows = || vec![row(None, "node3", "sync")];
    let on = |timeline| Statement { timeline: Some(timeline), ..primary(rows()) };
    assert_eq!(state(&own, &[on(2)]), Some(SyncState::Sync));
    assert_eq!(state(&own, &[on(1)]), None, "left behind");
    assert_eq!(state(&own, &[on(3)]), None, "this one was");
    assert_eq!(state(&own, &[on(1), primary(vec![])]), Some(SyncState::Async), "the old one says nothing");
    assert_eq!(state(&own, &[on(2), on(2)]), None, "two of them");
    let foreign = Statement { system_identifier: Some(8), ..on(2) };
    assert_eq!(state(&own, &[foreign]), None);
    let own_address = Statement { postmaster_started_unix_s: Some(1.0), ..on(2) };
    assert_eq!(state(&own, &[own_address]), None);
}

#[test]
fn who_is_silent_may_be_attached_by_the_names_that_it_told() {
    let own = sighting(None, Some("walreceiver"));
    let beside = |peer: PeerNews| {
        let rows = vec![row(None, "walreceiver", "sync")];
        sync_state(&own, OWN, [PeerNews::of(primary(rows), true), peer].iter())
    };
    for (said, expected) in [
        (standby(None, "walreceiver", None), None),
        (standby(Some("s"), "walreceiver", None), Some(SyncState::Sync)),
        (standby(None, "node3", None), Some(SyncState::Sync)),
    ] {
        assert_eq!(beside(PeerNews::of(said.clone(), true)), expected, "{said:?}");
        assert_eq!(beside(PeerNews::of(said.clone(), false)), expected, "{said:?}");
    }
    let foreign = Statement { system_identifier: Some(8), ..standby(None, "walreceiver", None) };
    assert_eq!(beside(PeerNews::of(foreign, false)), Some(SyncState::Sync));
    // One that was promoted, and is silent since.
    let promoted = Statement { timeline: Some(3), ..primary(vec![]) };
    assert_eq!(beside(PeerNews::of(promoted, false)), None);
}

/// `None` is a peer that is silent.
fn outside(own: &Sighting, peers: &[Option<Statement>]) -> Option<bool> {
    let news = |peer: &Option<Statement>| PeerNews::of(peer.clone().unwrap_or(said(None)), peer.is_some());
    let peers: Vec<PeerNews> = peers.iter().map(news).collect();
    is_fed_from_outside(own, OWN, peers.iter())
}

#[test]
fn who_receives_from_outside_is_on_nobodys_list() {
    let own = sighting(None, Some("node1"));
    let feeds = |rows: Vec<AttachedStandby>| Some(standby(None, "node2", Some(rows)));
    let other = || row(None, "node3", "async");
    let failing = |reason: Reason| Some(Statement { reason: Some(reason.word().into()), ..said(None) });
    let down = || failing(Reason::ConnectionRefused);
    assert_eq!(outside(&own, &[feeds(vec![])]), Some(true));
    assert_eq!(outside(&own, &[feeds(vec![other()]), down()]), Some(true), "one is down");
    let last_seen_as = |role: Statement| {
        let peer = PeerNews { rival: PeerNews::of(role, true).rival, ..PeerNews::of(down().unwrap(), true) };
        is_fed_from_outside(&own, OWN, std::iter::once(&peer))
    };
    assert_eq!(last_seen_as(primary(vec![])), None, "only its socket may have gone");
    assert_eq!(last_seen_as(standby(None, "node2", None)), Some(true));
    for reason in [Reason::TooManyClients, Reason::AuthenticationFailed, Reason::PostmasterNotAnswering] {
        assert_eq!(outside(&own, &[failing(reason)]), None, "{reason}: it may be the primary, and feed");
        assert_eq!(outside(&own, &[feeds(vec![other()]), failing(reason)]), None, "{reason}");
    }
    assert_eq!(outside(&own, &[feeds(vec![other(), row(None, "node1", "async")])]), Some(false));
    assert_eq!(outside(&own, &[Some(primary(vec![])), None]), Some(false), "there is a primary");
    assert_eq!(outside(&own, &[feeds(vec![]), None]), None, "a silent one may be the sender");
    assert_eq!(outside(&own, &[Some(standby(None, "node2", None))]), None, "its list is hidden");
    assert_eq!(outside(&own, &[]), None, "nobody else is known");
    assert_eq!(outside(&own, &[feeds(vec![other(); MAX_STANDBYS])]), None, "there may be more");
    assert_eq!(outside(&sighting(None, None), &[feeds(vec![])]), None, "nobody knows its names");
    let itself = Statement { postmaster_started_unix_s: Some(1.0), ..said(Some(Role::Standby)) };
    assert_eq!(outside(&own, &[Some(itself)]), None, "no other");
}
