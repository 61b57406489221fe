use std::time::{Duration, SystemTime};

use super::super::http::MAX_DOCUMENT_BYTES;
use super::super::{Media, http_reply};
use crate::instance::{
    Drain, Failure, Lsn, Observation, Receiver, ReceiverDetails, Replication, Role, Server, Sighting,
};
use crate::monitor::{Change, Chronicle, Condition, LAG_BUCKETS, LagSample, MAX_TRANSITIONS, Transition};
use crate::reason::Reason;
use crate::verdict::{Limits, Path, Target};

fn reply(observation: &Observation, chronicle: &Chronicle, media: Media) -> String {
    let limits = Limits { bytes: Some(u64::MAX / 3), time: Some(Duration::MAX) };
    let target = Target::plain(Path::Status).limited_by(limits);
    let reply = http_reply(target, observation, media, || chronicle.clone());
    assert_eq!(reply.status(), 200);
    String::from_utf8(reply.to_bytes(false)).unwrap()
}

fn server(version: &str) -> Server {
    Server {
        system_identifier: u64::MAX,
        version: version.into(),
        started_unix_s: 253_402_300_799.0,
        current: Some(Lsn(u64::MAX)),
    }
}

/// A standby whose every word is as long as can be.
fn standby(text: &str) -> Observation {
    let details = ReceiverDetails {
        status: text.into(),
        latest_end: Some(Lsn(u64::MAX)),
        last_message_age: Some(Duration::MAX),
        sender_host: Some(text.into()),
        sender_port: Some(u16::MAX),
        slot_name: Some(text.into()),
    };
    let replication = Replication {
        replayed: Some(Lsn(1)),
        received: Some(Lsn(u64::MAX)),
        last_commit_age: Some(Duration::MAX),
        is_paused: true,
        receiver: Some(Receiver { timeout: None, details: Some(details) }),
    };
    let sighting = Sighting {
        timeline: Some(u32::MAX),
        replication: Some(replication),
        server: Some(server(text)),
        ..Sighting::of_role(Role::Standby)
    };
    Observation { drain: Drain::On, instance: Some(Ok(sighting)), took: Some(Duration::MAX) }
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

#[test]
#[ignore]
fn dump() {
    let now = SystemTime::now();
    let ago = |s: u64| now - Duration::from_secs(s);
    let c = |s, from, to| Transition { at: ago(s), change: Change::Condition { from, to } };
    use Condition::*;
    let refused = Unavailable(Reason::ConnectionRefused);
    let starting = Unavailable(Reason::StartingUp);
    let history = vec![
        c(11523, Some(starting), Standby),
        c(11530, Some(refused), starting),
        c(11575, Some(Primary), refused),
        Transition { at: ago(11999), change: Change::Drain { from: Some(true), to: false } },
        Transition { at: ago(12400), change: Change::Drain { from: Some(false), to: true } },
        c(200_000, Some(Standby), Primary),
        c(912_000, None, Standby),
    ];
    let lag: Vec<LagSample> = (0..360u64)
        .map(|i| match i {
            0..40 => LagSample::NotAsked,
            150..158 => LagSample::NotAsked,
            230..250 => LagSample::Unknown,
            250..300 => LagSample::Bytes((300 - i) * 900_000),
            _ => LagSample::Bytes(
                (((i as f64 / 9.0).sin() + 1.0) * 3e6 + ((i as f64) / 2.3).cos().abs() * 9e5) as u64,
            ),
        })
        .collect();
    let srv = |cur| Server {
        system_identifier: 7_561_234_567_890_123_456,
        version: "15.14 (Debian 15.14-0+deb12u1)".into(),
        started_unix_s: ago(11529).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64(),
        current: cur,
    };
    let replication = Replication {
        replayed: Some(Lsn(0x3_4A00_1180)),
        received: Some(Lsn(0x3_4A80_2188)),
        last_commit_age: Some(Duration::from_millis(4210)),
        is_paused: false,
        receiver: Some(Receiver {
            timeout: Some(Duration::from_secs(60)),
            details: Some(ReceiverDetails {
                status: "streaming".into(),
                latest_end: Some(Lsn(0x3_4A90_3000)),
                last_message_age: Some(Duration::from_millis(212)),
                sender_host: Some("node1.db.example.net".into()),
                sender_port: Some(5432),
                slot_name: Some("node2".into()),
            }),
        }),
    };
    let obs = |drain, s: Sighting| Observation {
        drain,
        instance: Some(Ok(s)),
        took: Some(Duration::from_micros(412)),
    };
    let standby = Sighting {
        timeline: Some(3),
        replication: Some(replication),
        server: Some(srv(None)),
        ..Sighting::of_role(Role::Standby)
    };
    let primary = Sighting {
        timeline: Some(3),
        read_only_default: Some(false),
        server: Some(srv(Some(Lsn(0x3_4A90_3000)))),
        ..Sighting::of_role(Role::Primary)
    };
    let ch = |cond, transitions: Vec<Transition>, lag: Vec<LagSample>| {
        let since = transitions[0].at;
        Chronicle { now, condition: Some((cond, since)), transitions, lag }
    };
    let mut down = history.clone();
    down.insert(0, c(38, Some(Standby), refused));
    let mut phist = history[4..].to_vec();
    let plimits = Limits::default();
    let tight = Limits { bytes: Some(8 << 20), time: None };
    let none = vec![LagSample::NotAsked; 360];
    let mut dhist = phist.clone();
    dhist.insert(0, Transition { at: ago(95), change: Change::Drain { from: Some(false), to: true } });
    phist.remove(0);
    let blank = Chronicle::blank();
    for (name, o, chr, limits) in [
        ("primary", obs(Drain::Off, primary.clone()), ch(Primary, phist, none.clone()), plimits),
        ("standby", obs(Drain::Off, standby.clone()), ch(Standby, history.clone(), lag.clone()), plimits),
        ("lagging", obs(Drain::Off, standby.clone()), ch(Standby, history.clone(), lag.clone()), tight),
        ("draining", obs(Drain::On, primary), ch(Primary, dhist, none), plimits),
        (
            "down",
            Observation {
                drain: Drain::Off,
                instance: Some(Err(Failure::new(Reason::ConnectionRefused, "x"))),
                took: Some(Duration::from_micros(90)),
            },
            ch(refused, down, lag),
            plimits,
        ),
        ("oneshot", obs(Drain::Off, standby), blank, plimits),
    ] {
        let target = Target::plain(Path::Status).limited_by(limits);
        let text =
            String::from_utf8(http_reply(target, &o, Media::Html, || chr.clone()).to_bytes(false)).unwrap();
        let body = text.split_once("\r\n\r\n").unwrap().1.to_owned();
        std::fs::write(format!("/tmp/wt-status/target/shot-{name}.html"), &body).unwrap();
        let text =
            String::from_utf8(http_reply(target, &o, Media::Json, || chr.clone()).to_bytes(false)).unwrap();
        std::fs::write(format!("/tmp/wt-status/target/shot-{name}.json"), text).unwrap();
        println!("{name} {}", body.len());
    }
}
