use std::time::{Duration, SystemTime};

use super::super::http::MAX_DOCUMENT_BYTES;
use super::super::{Background, Media, http_reply};
use crate::balancers::{MAX_BALANCERS, Said};
use crate::instance::{
    Drain, Failure, Lsn, Observation, Receiver, ReceiverDetails, Recovery, ReplayDelay, Replication, Role,
    Server, Sighting, Sources,
};
use crate::monitor::{Change, Chronicle, Condition, LAG_BUCKETS, LagSample, MAX_TRANSITIONS, Transition};
use crate::peers::News;
use crate::reason::Reason;
use crate::system::own_name::OwnName;
use crate::tally::Tally;
use crate::verdict::{Limits, Path, Target};

fn reply(observation: &Observation, chronicle: &Chronicle, media: Media) -> String {
    let limits = Limits { bytes: Some(u64::MAX / 3), time: Some(Duration::MAX) };
    let target = Target::plain(Path::Status).limited_by(limits);
    let background = Background {
        media,
        own_name: OwnName::get(),
        news: &News::none(),
        remember: &|| chronicle.clone(),
        figures: &|| Tally::new().figures(),
        balancers: &|| vec![Said::longest(); MAX_BALANCERS],
    };
    let reply = http_reply(target, observation, &background);
    assert_eq!(reply.status(), 200);
    String::from_utf8(reply.to_bytes(false)).unwrap()
}

fn server(version: &str) -> Server {
    Server { system_identifier: u64::MAX, version: version.into(), started_unix_s: 253_402_300_799.0 }
}

/// A standby whose every word is as long as can be.
fn standby(text: &str) -> Observation {
    let details = ReceiverDetails {
        status: text.into(),
        latest_end: Some(Lsn(u64::MAX)),
        last_message_age: Some(Duration::MAX),
        has_heard: true,
        sender_host: Some(text.into()),
        sender_port: Some(u16::MAX),
        slot_name: Some(text.into()),
        application_name: Some(text.into()),
    };
    let replication = Replication {
        replayed: Some(Lsn(1)),
        received: Some(Lsn(u64::MAX)),
        last_commit_age: Some(Duration::MAX),
        receiver: Some(Receiver { details: Some(details), ..Receiver::default() }),
    };
    let sighting = Sighting {
        timeline: Some(u32::MAX),
        recovery: Some(Recovery {
            is_paused: true,
            delay: Some(ReplayDelay::Of(Duration::MAX)),
            sources: Sources { has_target: true, has_primary_conninfo: Some(false), has_receiver: false },
        }),
        replication: Some(replication),
        server: Some(server(text)),
        ..Sighting::of_role(Role::Standby)
    };
    Observation::new(Drain::On, Some(Ok(sighting)), Some(Duration::MAX))
}

/// Everything has happened, and the drawing is as long as can be.
fn eventful(samples: impl Fn(u64) -> LagSample) -> Chronicle {
    let longest = Reason::ALL.iter().max_by_key(|reason| reason.word().len()).unwrap();
    let (from, to) = (Condition::Unavailable(*longest), Condition::Unavailable(*longest));
    let change = Change::Condition { from: Some(from), to };
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    Chronicle {
        now: at,
        condition: Some((Condition::Standby, at)),
        transitions: vec![Transition { at, change }; MAX_TRANSITIONS],
        lag: (0..LAG_BUCKETS as u64).map(samples).collect(),
    }
}

#[test]
fn no_document_is_longer_than_its_bound() {
    let draws: [fn(u64) -> LagSample; 3] = [
        |index| LagSample::Bytes(u64::MAX - (index << 55)),
        |index| if index % 2 == 0 { LagSample::Bytes(index << 54) } else { LagSample::Unknown },
        |_| LagSample::Unknown,
    ];
    for text in ["\"".repeat(100_000), "\u{1}".repeat(100_000), "\u{1f418}".repeat(100_000)] {
        for draw in draws {
            for media in [Media::Json, Media::Html] {
                let text = reply(&standby(&text), &eventful(draw), media);
                let length = text.split_once("\r\n\r\n").unwrap().1.len();
                assert!((3000..=MAX_DOCUMENT_BYTES).contains(&length), "{media:?}: {length}");
            }
        }
    }
}

#[test]
fn text_from_the_server_is_text_in_both_forms() {
    let text = "</style><script>alert(\"1\")</script>&'\u{0}\n";
    let html = reply(&standby(text), &Chronicle::blank(), Media::Html);
    assert!(
        html.contains("&lt;/style&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;"),
        "{html}"
    );
    assert!(!html.contains("<script"), "{html}");
    let json = reply(&standby(text), &Chronicle::blank(), Media::Json);
    let body: serde_json::Value = serde_json::from_str(json.split_once("\r\n\r\n").unwrap().1).unwrap();
    for value in [&body["server_version"], &body["receiver"]["slot"], &body["receiver"]["sender_host"]] {
        assert_eq!(value, text);
    }
    assert_eq!(body["system_identifier"], u64::MAX.to_string());
}

/// A clock beyond all calendars makes no panic, and no date.
#[test]
fn what_cannot_be_a_date_is_null() {
    let mut observation = standby("x");
    if let Some(Ok(sighting)) = &mut observation.instance {
        for started_unix_s in [f64::NAN, f64::INFINITY, 1e300, -1e300, 253_402_300_800.0] {
            let server = Server { started_unix_s, ..server("x") };
            let sighting = Sighting { server: Some(server), ..sighting.clone() };
            let observation = Observation { instance: Some(Ok(sighting)), ..standby("x") };
            let json = reply(&observation, &Chronicle::blank(), Media::Json);
            assert!(json.contains("\"server_started\": null"), "{started_unix_s}: {json}");
        }
    }
}

/// Another look may have ended between this one and the copy.
#[test]
fn since_is_only_said_of_what_was_observed() {
    let failed = Observation::failed(Failure::new(Reason::DeadlinePassed, ""));
    let chronicle = eventful(|_| LagSample::NotAsked);
    assert!(reply(&failed, &chronicle, Media::Json).contains("\"since\": null"));
    assert!(
        reply(&standby("x"), &chronicle, Media::Json).contains("\"since\": \"9999-12-31T23:59:59.000Z\"")
    );
}
