use super::*;
use crate::instance::{
    Evidence, Failure, Lsn, Pooler, PrimaryPosition, Receiver, ReceiverDetails, ReplayDelay, Sources,
    SyncState,
};

fn seen(sighting: Sighting) -> Observation {
    Observation::new(Drain::Off, Some(Ok(sighting)), None)
}

fn primary(read_only_default: Option<bool>) -> Observation {
    seen(Sighting { read_only_default, ..Sighting::of_role(Role::Primary) })
}

fn standby(replication: Option<Replication>) -> Observation {
    let recovery = Some(Recovery::default());
    seen(Sighting { recovery, replication, ..Sighting::of_role(Role::Standby) })
}

/// 60 bytes and 7 seconds behind.
fn behind(receiver: Option<Receiver>) -> Observation {
    standby(Some(Replication {
        replayed: Some(Lsn(100)),
        received: Some(Lsn(160)),
        last_commit_age: Some(Duration::from_secs(7)),
        receiver,
    }))
}

fn target(text: &str) -> Target {
    Target::parse(text).unwrap()
}

#[test]
fn verdicts_follow_role_and_target() {
    use Role::{Primary, Standby};
    use Verdict::{Holds, No};
    let table = [
        ("/", Holds(Primary), Holds(Standby)),
        ("/primary", Holds(Primary), No(Reason::InRecovery)),
        ("/read-write", Holds(Primary), No(Reason::InRecovery)),
        ("/replica", No(Reason::NotInRecovery), Holds(Standby)),
        ("/read-only", Holds(Primary), Holds(Standby)),
        ("/health", Holds(Primary), Holds(Standby)),
        // A primary has no lag.
        ("/?lag=0", Holds(Primary), No(Reason::LagExceeded)),
        ("/read-only?lag=0", Holds(Primary), No(Reason::LagExceeded)),
        ("/replica?lag=0", No(Reason::NotInRecovery), No(Reason::LagExceeded)),
    ];
    for (text, on_primary, on_standby) in table {
        let target = target(text);
        assert_eq!(judge(target, &primary(Some(false))), on_primary, "{text}");
        assert_eq!(judge(target, &behind(Some(Receiver::default()))), on_standby, "{text}");
        let failure = Observation::failed(Failure::new(Reason::StartingUp, ""));
        assert_eq!(judge(target, &failure), Verdict::Down(Reason::StartingUp), "{text}");
    }
}

#[test]
fn read_write_needs_a_primary_that_writes() {
    let on = |default| judge(target("/read-write"), &primary(default));
    assert_eq!(on(Some(true)), Verdict::No(Reason::ReadOnly));
    assert_eq!(on(None), Verdict::Down(Reason::QueryFailed));
}

#[test]
fn a_standby_holds_within_its_limits() {
    let holds = Verdict::Holds(Role::Standby);
    let exceeded = Verdict::No(Reason::LagExceeded);
    for (text, expected) in [
        ("/replica?lag=60", holds),
        ("/replica?lag=59", exceeded),
        ("/replica?lag_time=7s", holds),
        ("/replica?lag_time=6999ms", exceeded),
        ("/replica?lag=60&lag_time=6s", exceeded),
        ("/replica?lag=59&lag_time=7s", exceeded),
        ("/?lag=60&lag_time=7s&replication_state=streaming", holds),
    ] {
        assert_eq!(judge(target(text), &behind(Some(Receiver::default()))), expected, "{text}");
    }
    assert_eq!(judge(target("/?lag=60"), &standby(None)), Verdict::Down(Reason::QueryFailed));
}

#[test]
fn without_a_receiver_no_limit_is_kept() {
    let gone = behind(None);
    for (text, expected) in [
        ("/", Verdict::Holds(Role::Standby)),
        ("/replica", Verdict::Holds(Role::Standby)),
        ("/replica?lag=1TB", Verdict::Down(Reason::LagUnknown)),
        ("/replica?lag_time=1d", Verdict::Down(Reason::LagUnknown)),
        ("/replica?replication_state=streaming", Verdict::No(Reason::NoWalReceiver)),
        ("/replica?replication_state=streaming&lag=1", Verdict::No(Reason::NoWalReceiver)),
    ] {
        assert_eq!(judge(target(text), &gone), expected, "{text}");
    }
}

#[test]
fn a_receiver_that_is_seen_not_to_stream_does_not() {
    let details = ReceiverDetails { status: "waiting".into(), ..ReceiverDetails::default() };
    let waiting = behind(Some(Receiver { timeout: None, details: Some(details) }));
    let verdict = judge(target("/replica?replication_state=streaming"), &waiting);
    assert_eq!(verdict, Verdict::No(Reason::NotStreaming));
}

fn recovering(recovery: Recovery) -> Observation {
    let Some(Ok(sighting)) = behind(Some(Receiver::default())).instance else { panic!("a standby") };
    seen(Sighting { recovery: Some(recovery), ..sighting })
}

#[test]
fn replay_that_stands_still_is_told_only_where_it_is_asked() {
    let holds = Verdict::Holds(Role::Standby);
    let (paused, delayed) = (Verdict::No(Reason::ReplayPaused), Verdict::No(Reason::ReplayDelayed));
    let running = Recovery { delay: Some(ReplayDelay::Of(Duration::ZERO)), ..Recovery::default() };
    let late = Recovery { delay: Some(ReplayDelay::Of(Duration::from_secs(1))), ..running };
    let table = [
        (running, holds),
        (Recovery { is_paused: true, ..running }, paused),
        (late, delayed),
        (Recovery { is_paused: true, ..late }, paused),
        (Recovery { delay: Some(ReplayDelay::HoldsBack), ..running }, delayed),
        // Hidden in recovery.conf.
        (Recovery { delay: None, ..running }, holds),
    ];
    for (recovery, expected) in table {
        let observation = recovering(recovery);
        for text in ["/?", "/replica?", "/read-only?", "/replica?lag=60&", "/?replication_state=streaming&"] {
            let on = |parameter: &str| judge(target(&format!("{text}{parameter}")), &observation);
            assert_eq!(on("replay=running"), expected, "{text} {recovery:?}");
            assert_eq!(on("lag_time=7s"), holds, "{text} {recovery:?}");
        }
    }
    let unseen = seen(Sighting::of_role(Role::Standby));
    assert_eq!(judge(target("/?replay=running"), &unseen), Verdict::Down(Reason::QueryFailed));
    assert_eq!(judge(target("/?replay=running"), &primary(None)), Verdict::Holds(Role::Primary));
}

#[test]
fn a_restore_is_a_standby_by_the_classic_contract_alone() {
    let sources = Sources { has_target: true, has_primary_conninfo: Some(false), has_receiver: false };
    let recovery = Recovery { is_paused: true, delay: None, sources };
    let restore = seen(Sighting { recovery: Some(recovery), ..Sighting::of_role(Role::Standby) });
    for (text, expected) in [
        ("/", Verdict::Holds(Role::Standby)),
        ("/health", Verdict::Holds(Role::Standby)),
        ("/replica", Verdict::No(Reason::Restoring)),
        ("/read-only", Verdict::No(Reason::Restoring)),
        ("/replica?replay=running&replication_state=streaming", Verdict::No(Reason::Restoring)),
        ("/?replay=running", Verdict::No(Reason::ReplayPaused)),
        ("/primary", Verdict::No(Reason::InRecovery)),
    ] {
        assert_eq!(judge(target(text), &restore), expected, "{text}");
    }
    let unseen = seen(Sighting::of_role(Role::Standby));
    assert_eq!(judge(target("/replica"), &unseen), Verdict::Down(Reason::QueryFailed));
}

#[test]
fn who_drains_holds_no_role() {
    let draining = |instance| Observation::new(Drain::On, instance, None);
    for text in ["/", "/primary", "/read-write", "/replica", "/read-only"] {
        assert_eq!(judge(target(text), &draining(None)), Verdict::Draining, "{text}");
        let unknown = Observation { drain: Drain::Unknown, ..primary(Some(false)) };
        assert_eq!(judge(target(text), &unknown), Verdict::Down(Reason::DrainUnknown), "{text}");
    }
    let sighting = Some(Ok(Sighting::of_role(Role::Primary)));
    assert_eq!(judge(target("/health"), &draining(sighting)), Verdict::Holds(Role::Primary));
}

#[test]
fn the_weight_is_the_share_of_the_limit_that_is_free() {
    let lagging = behind(Some(Receiver::default()));
    for (text, expected) in [
        ("/replica", 100),
        ("/replica?lag=60", 1),
        ("/replica?lag=120", 50),
        ("/replica?lag=6000", 99),
        ("/replica?lag=6000&lag_time=10s", 30),
        ("/replica?lag=120&lag_time=100s", 50),
    ] {
        assert_eq!(weight_percent(target(text), &lagging), expected, "{text}");
    }
    assert_eq!(weight_percent(target("/read-only?lag=1"), &primary(None)), 100);
    assert_eq!((free_percent(0, 0), free_percent(0, 9), free_percent(9, 9)), (100, 100, 1));
}

fn with(observation: Observation, evidence: Evidence) -> Observation {
    Observation { evidence, ..observation }
}

#[test]
fn how_a_primary_counts_a_standby_is_told_where_it_is_known() {
    use SyncState::{Async, Quorum, Sync};
    let holds = Verdict::Holds(Role::Standby);
    let other = Verdict::No(Reason::OtherSyncState);
    for (text, as_async, as_sync, as_quorum, as_primary) in [
        ("/sync", other, holds, other, Verdict::No(Reason::NotInRecovery)),
        ("/async", holds, other, other, Verdict::No(Reason::NotInRecovery)),
        ("/quorum", other, other, holds, Verdict::No(Reason::NotInRecovery)),
        ("/read-only-sync", other, holds, other, Verdict::Holds(Role::Primary)),
        ("/read-only-quorum", other, other, holds, Verdict::Holds(Role::Primary)),
    ] {
        for (state, expected) in [(Some(Async), as_async), (Some(Sync), as_sync), (Some(Quorum), as_quorum)] {
            let evidence = Evidence { sync_state: state, ..Evidence::default() };
            let observation = with(behind(Some(Receiver::default())), evidence);
            assert_eq!(judge(target(text), &observation), expected, "{text} {state:?}");
        }
        let unknown = behind(Some(Receiver::default()));
        assert_eq!(judge(target(text), &unknown), Verdict::Down(Reason::SyncStateUnknown), "{text}");
        assert_eq!(judge(target(text), &primary(None)), as_primary, "{text}");
    }
    let evidence = Evidence { sync_state: Some(Async), ..Evidence::default() };
    let far = with(behind(Some(Receiver::default())), evidence);
    assert_eq!(judge(target("/async?lag=59"), &far), Verdict::No(Reason::LagExceeded));
    assert_eq!(judge(target("/async?lag=60"), &far), holds);
}

#[test]
fn a_standby_leader_streams_from_outside() {
    let asked = |receiver, is_fed_from_outside| {
        let evidence = Evidence { is_fed_from_outside, ..Evidence::default() };
        judge(target("/standby-leader"), &with(behind(receiver), evidence))
    };
    let receiver = || Some(Receiver::default());
    assert_eq!(asked(receiver(), Some(true)), Verdict::Holds(Role::Standby));
    assert_eq!(asked(receiver(), Some(false)), Verdict::No(Reason::NotStandbyLeader));
    assert_eq!(asked(receiver(), None), Verdict::Down(Reason::SenderUnknown));
    assert_eq!(asked(None, Some(true)), Verdict::No(Reason::NoWalReceiver));
    assert_eq!(judge(target("/standby-leader"), &primary(None)), Verdict::No(Reason::NotInRecovery));
}

#[test]
fn tags_keep_a_node_out_of_what_is_asked_for_standbys() {
    let other = Target { has_other_tag: true, ..target("/read-only") };
    assert_eq!(judge(other, &primary(None)), Verdict::No(Reason::OtherTag));
    assert_eq!(judge(other, &standby(None)), Verdict::No(Reason::OtherTag));
    let quiet = Target { refuses_load: true, ..target("/read-only") };
    assert_eq!(judge(quiet, &standby(None)), Verdict::No(Reason::NoLoadBalance));
    assert_eq!(judge(quiet, &primary(None)), Verdict::Holds(Role::Primary));
}

#[test]
fn readiness_within_a_limit_is_about_what_was_received_or_replayed() {
    let holds = Verdict::Holds(Role::Standby);
    let details = |latest_end| ReceiverDetails {
        status: "streaming".into(),
        latest_end,
        last_message_age: Some(Duration::ZERO),
        ..ReceiverDetails::default()
    };
    let receiver = |latest_end| Some(Receiver { timeout: None, details: Some(details(latest_end)) });
    let visible = behind(receiver(Some(Lsn(170))));
    for (text, expected) in [
        ("/readiness?lag=70", holds),
        ("/readiness?lag=69&mode=apply", Verdict::No(Reason::LagExceeded)),
        ("/readiness?lag=10&mode=write", holds),
        ("/readiness?lag=9&mode=write", Verdict::No(Reason::LagExceeded)),
        ("/readiness", holds),
    ] {
        assert_eq!(judge(target(text), &visible), expected, "{text}");
        assert_eq!(judge(target(text), &primary(None)), Verdict::Holds(Role::Primary), "{text}");
    }
    let gone = behind(None);
    assert_eq!(judge(target("/readiness?lag=1TB"), &gone), Verdict::No(Reason::NoWalReceiver));
    assert_eq!(judge(target("/readiness"), &gone), holds);
    // The end of the sender's WAL is hidden.
    let hidden = behind(Some(Receiver::default()));
    let write = target("/readiness?lag=1TB&mode=write");
    assert_eq!(judge(write, &hidden), Verdict::Down(Reason::LagUnknown));
    let primary = Some(PrimaryPosition { timeline: 1, lsn: Lsn(200) });
    let told = with(behind(receiver(Some(Lsn(170)))), Evidence { primary, ..Evidence::default() });
    let Some(Ok(sighting)) = told.instance else { panic!("a standby") };
    let told = Observation { instance: Some(Ok(Sighting { timeline: Some(1), ..sighting })), ..told };
    assert_eq!(judge(target("/readiness?lag=40&mode=write"), &told), holds);
    assert_eq!(judge(target("/readiness?lag=39&mode=write"), &told), Verdict::No(Reason::LagExceeded));
}

#[test]
fn who_would_write_is_told_of_commits_and_everybody_of_poolers() {
    let write = |write| Evidence { write: Some(write), ..Evidence::default() };
    let pooler = |is_up| Evidence {
        poolers: vec![Pooler { address: "node1:6432".into(), is_up, cause: None }],
        ..Evidence::default()
    };
    let with = |evidence| Observation { evidence, ..primary(Some(false)) };
    let stalled = with(write(WriteProbe::Stalled { lasts: None, cause: None }));
    let failed = with(write(WriteProbe::Failed { cause: "no".into() }));
    let committed = with(write(WriteProbe::Committed(Duration::ZERO)));
    let silent = with(pooler(Some(false)));
    let holds = Verdict::Holds(Role::Primary);
    for text in ["/", "/primary", "/read-write"] {
        assert_eq!(judge(target(text), &stalled), Verdict::Down(Reason::WriteStalled), "{text}");
        assert_eq!(judge(target(text), &failed), Verdict::Down(Reason::WriteFailed), "{text}");
        assert_eq!(judge(target(text), &committed), holds, "{text}");
    }
    for text in ["/read-only", "/health"] {
        assert_eq!(judge(target(text), &stalled), holds, "{text}");
    }
    for text in ["/", "/primary", "/replica", "/read-only", "/sync"] {
        assert_eq!(judge(target(text), &silent), Verdict::Down(Reason::PoolerNotAnswering), "{text}");
    }
    assert_eq!(judge(target("/health"), &silent), holds);
    assert_eq!(judge(target("/"), &with(pooler(Some(true)))), holds);
    // What nobody knows speaks against nobody; and a node that drains says that first.
    assert_eq!(judge(target("/"), &with(pooler(None))), holds);
    let draining = Observation { drain: Drain::On, ..silent };
    assert_eq!(judge(target("/"), &draining), Verdict::Draining);
    let read_only = Observation { evidence: stalled.evidence, ..primary(Some(true)) };
    assert_eq!(judge(target("/read-write"), &read_only), Verdict::No(Reason::ReadOnly));
}
