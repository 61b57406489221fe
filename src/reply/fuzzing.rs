//! What has to hold of every document, whatever was observed.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::{Background, HttpReply, MAX_DOCUMENT_BYTES, MAX_REPLY_BYTES, Media, http_reply};
use crate::balancers::{Health, MAX_BALANCERS, MAX_NAME_BYTES, Name, Said, State, Word};
use crate::config::MAX_POOLERS;
use crate::fuzzing::source::Source;
use crate::fuzzing::{exposition, html, wire};
use crate::instance::{
    AttachedStandby, Drain, Evidence, Failure, Identity, LoginRefused, Lsn, MAX_STANDBYS, Observation,
    Pooler, Receiver, ReceiverDetails, Recovery, ReplayDelay, Replication, Role, Server, Sighting, Sources,
    WriteProbe, fuzzing as instance,
};
use crate::monitor::{Change, Chronicle, Condition, LAG_BUCKETS, LagSample, MAX_TRANSITIONS, Transition};
use crate::peers::News;
use crate::reason::Reason;
use crate::system::own_name::OwnName;
use crate::tally::{Refusal, Tally};
use crate::verdict::{Limits, Path, Target, weight_percent};

/// Whatever can be observed and remembered.
pub(crate) fn documents(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let observation = observation(&mut source);
    let chronicle = chronicle(&mut source);
    let tally = tally(&mut source);
    let said: Vec<Said> =
        (0..source.below(MAX_BALANCERS + 1)).map(|number| said(&mut source, number)).collect();
    let limits = Limits { bytes: source.optional(Source::number), time: source.optional(Source::duration) };
    assert_documents(&observation, &chronicle, &said, &tally, limits);
}

/// A row of a server's, and all that is made of it.
pub(crate) fn row(bytes: &[u8]) {
    if let Some(sighting) = instance::row(bytes) {
        let observation = Observation::new(Drain::Off, Some(Ok(sighting)), None);
        assert_documents(&observation, &Chronicle::blank(), &[], &Tally::new(), Limits::default());
    }
}

fn assert_documents(
    observation: &Observation,
    chronicle: &Chronicle,
    said: &[Said],
    tally: &Tally,
    limits: Limits,
) {
    let say = |observation: &Observation, path, media| {
        let background = Background {
            media,
            own_name: OwnName::get(),
            news: &News::none(),
            remember: &|| chronicle.clone(),
            figures: &|| tally.figures(),
            balancers: &|| said.to_vec(),
        };
        let target =
            Target { limits, wants_streaming: true, wants_running_replay: true, ..Target::plain(path) };
        http_reply(target, observation, &background)
    };
    for path in Path::ALL {
        if !path.is_document() {
            let reply = say(observation, path, Media::Json).to_bytes(false);
            let (status, _) = wire::read_line_reply(&reply);
            assert!(matches!(status, 200 | 206 | 404 | 503), "{status}");
            let weight = weight_percent(Target { limits, ..Target::plain(path) }, observation);
            assert!((1..=100).contains(&weight), "{weight}");
        }
    }
    let status = body(&say(observation, Path::Status, Media::Json));
    assert_json(&status, observation);
    assert_eq!(status.matches("\"pool_sessions\"").count(), said.len());
    assert_node(&body(&say(observation, Path::Node, Media::Html)), observation);

    let page = body(&say(observation, Path::Status, Media::Html));
    let harmless = body(&say(&with_harmless_text(observation), Path::Status, Media::Html));
    assert_eq!(html::skeleton(&page), html::skeleton(&harmless), "text of the server's makes no elements");

    let text = body(&say(observation, Path::Metrics, Media::Json));
    let samples = exposition::read(&text);
    let value = |name: &str| samples.iter().find(|(series, _)| series == name).map(|(_, value)| *value);
    let role = observation.sighting().map(|sighting| sighting.role);
    assert_eq!(value("pgsqlchk_up"), Some(if role.is_some() { 1.0 } else { 0.0 }));
    assert_eq!(value("pgsqlchk_primary"), role.map(|role| if role == Role::Primary { 1.0 } else { 0.0 }));
}

fn body(reply: &HttpReply) -> String {
    let bytes = reply.to_bytes(false);
    assert!(bytes.len() <= MAX_REPLY_BYTES);
    let (status, body) = wire::read_reply(&bytes);
    assert_eq!(status, 200);
    assert!(body.len() < MAX_DOCUMENT_BYTES, "{} bytes", body.len());
    assert!(!body.contains(|character: char| character < ' ' && character != '\n'), "{body}");
    body.to_owned()
}

fn assert_json(text: &str, observation: &Observation) {
    let json: serde_json::Value = serde_json::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}"));
    let fields = json.as_object().expect("an object");
    assert_eq!(fields.len(), 28, "every field is always there");
    let version =
        observation.sighting().and_then(|sighting| sighting.server.as_ref()).map(|server| &server.version);
    match (version, json["server_version"].as_str()) {
        (Some(version), Some(shown)) => {
            let begin = shown.strip_suffix('…').unwrap_or(shown);
            assert!(version.starts_with(begin), "{shown:?}");
        }
        (said, shown) => assert_eq!((said, shown), (None, None)),
    }
    assert_eq!(json["role"].as_str(), observation.sighting().map(|sighting| sighting.role.word()));
}

fn assert_node(text: &str, observation: &Observation) {
    let json: serde_json::Value = serde_json::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}"));
    assert_eq!(json.as_object().expect("an object").len(), 17, "every field is always there");
    let sighting = observation.sighting();
    assert_eq!(json["role"].as_str(), sighting.map(|sighting| sighting.role.word()));
    let standbys = sighting.and_then(|sighting| sighting.standbys.as_ref());
    assert_eq!(json["standbys"].as_array().map(Vec::len), standbys.map(Vec::len));
    let cascaded = sighting.and_then(|sighting| sighting.cascaded.as_ref());
    assert_eq!(json["cascaded"].as_array().map(Vec::len), cascaded.map(Vec::len));
}

/// The same without anything that could be markup.
fn with_harmless_text(observation: &Observation) -> Observation {
    let mut observation = observation.clone();
    let harmless = |text: &mut String| {
        *text = text.chars().map(|_| 'x').collect();
    };
    for pooler in &mut observation.evidence.poolers {
        pooler.address = pooler.address.chars().map(|_| 'x').collect::<String>().into();
    }
    if let Some(Ok(sighting)) = &mut observation.instance {
        if let Some(server) = &mut sighting.server {
            harmless(&mut server.version);
        }
        let receiver = sighting.replication.as_mut().and_then(|replication| replication.receiver.as_mut());
        if let Some(details) = receiver.and_then(|receiver| receiver.details.as_mut()) {
            // The one word of the server's that has a meaning.
            if details.status != "streaming" {
                harmless(&mut details.status);
            }
            details.sender_host.iter_mut().for_each(harmless);
            details.slot_name.iter_mut().for_each(harmless);
            details.application_name.iter_mut().for_each(harmless);
        }
    }
    observation
}

fn reason(source: &mut Source<'_>) -> Reason {
    Reason::ALL[source.below(Reason::ALL.len())]
}

fn lsn(source: &mut Source<'_>) -> Lsn {
    Lsn(source.number())
}

fn observation(source: &mut Source<'_>) -> Observation {
    let drain = [Drain::NotLooked, Drain::Off, Drain::On, Drain::Unknown][source.below(4)];
    let instance = match source.below(4) {
        0 => None,
        1 => Some(Err(Failure::new(reason(source), source.text()))),
        _ => Some(Ok(sighting(source))),
    };
    let took = source.optional(Source::duration);
    let evidence = Evidence {
        poolers: (0..source.below(MAX_POOLERS + 1)).map(|number| pooler(source, number)).collect(),
        write: source.optional(write),
        ..Evidence::default()
    };
    Observation { evidence, ..Observation::new(drain, instance, took) }
}

fn pooler(source: &mut Source<'_>, number: usize) -> Pooler {
    // Two of one address there are not, and none has a character that stands for something else.
    let text: String = source.text().chars().filter(char::is_ascii_alphanumeric).take(200).collect();
    let address = format!("{number}{text}:1");
    Pooler { address: address.into(), is_up: source.optional(Source::flag), cause: None }
}

fn said(source: &mut Source<'_>, number: usize) -> Said {
    let text: Vec<u8> =
        source.text().bytes().filter(u8::is_ascii_alphanumeric).take(MAX_NAME_BYTES - 2).collect();
    let name = |text: &[u8]| Name::new(text).expect("nothing but letters and digits");
    // Two of the same names there are not.
    let node = name(&[format!("{number:02}").as_bytes(), text.as_slice()].concat());
    let word = Word {
        node,
        pool: node,
        server: name(b"node1"),
        state: State::ALL[source.below(State::ALL.len())],
        health: source
            .optional(|source| Health { checks: source.number() as u16, of: source.number() as u16 }),
        sessions: source.number() as u32,
        pool_sessions: source.number() as u32,
        queue: source.number() as u32,
    };
    Said {
        address: source.optional(|source| Ipv6Addr::from_bits(source.number().into()).into()),
        word,
        age: source.duration(),
    }
}

fn write(source: &mut Source<'_>) -> WriteProbe {
    match source.below(3) {
        0 => WriteProbe::Committed(source.duration()),
        1 => WriteProbe::Stalled { lasts: source.optional(Source::duration), cause: None },
        _ => WriteProbe::Failed { cause: source.text().into() },
    }
}

fn sighting(source: &mut Source<'_>) -> Sighting {
    let role = [Role::Primary, Role::Standby][source.below(2)];
    let attached: Option<Vec<AttachedStandby>> =
        source.optional(|source| (0..source.below(MAX_STANDBYS + 1)).map(|_| standby(source)).collect());
    let (standbys, cascaded) = match role {
        Role::Primary => (attached, None),
        Role::Standby => (None, attached),
    };
    Sighting {
        role,
        read_only_default: source.optional(Source::flag),
        timeline: source.optional(|source| source.number() as u32),
        recovery: source.optional(|source| Recovery {
            is_paused: source.flag(),
            delay: source.optional(|source| match source.flag() {
                true => ReplayDelay::Of(source.duration()),
                false => ReplayDelay::HoldsBack,
            }),
            sources: Sources {
                has_receiver: source.flag(),
                has_target: source.flag(),
                has_primary_conninfo: source.optional(Source::flag),
            },
        }),
        replication: source.optional(|source| Replication {
            replayed: source.optional(lsn),
            received: source.optional(lsn),
            last_commit_age: source.optional(Source::duration),
            receiver: source.optional(|source| Receiver {
                timeout: source.optional(Source::duration),
                details: source.optional(|source| ReceiverDetails {
                    status: source.text(),
                    latest_end: source.optional(lsn),
                    last_message_age: source.optional(Source::duration),
                    has_heard: source.flag(),
                    sender_host: source.optional(Source::text),
                    sender_port: source.optional(|source| source.number() as u16),
                    slot_name: source.optional(Source::text),
                    application_name: source.optional(Source::text),
                }),
            }),
        }),
        server: source.optional(|source| Server {
            system_identifier: source.number(),
            version: source.text(),
            started_unix_s: source.float(),
        }),
        position: source.optional(lsn),
        identity: source.optional(|source| Identity {
            system_identifier: source.number(),
            postmaster_started_unix_s: source.float(),
            primary_timeline: source.optional(|source| source.number() as u32),
        }),
        standbys,
        cascaded,
        login_refused: source.optional(|source| LoginRefused {
            reason: reason(source),
            since: source.moment(),
            told: source.text(),
        }),
    }
}

fn standby(source: &mut Source<'_>) -> AttachedStandby {
    let seen = AttachedStandby {
        application_name: source.optional(Source::text),
        slot: source.optional(Source::text),
        client_addr: source.optional(Source::text),
        state: source.optional(Source::text),
        sync_state: source.optional(Source::text),
        replayed: source.optional(lsn),
    };
    seen.cut()
}

fn condition(source: &mut Source<'_>) -> Condition {
    match source.below(3) {
        0 => Condition::Primary,
        1 => Condition::Standby,
        _ => Condition::Unavailable(reason(source)),
    }
}

fn chronicle(source: &mut Source<'_>) -> Chronicle {
    let transition = |source: &mut Source<'_>| Transition {
        at: source.moment(),
        change: match source.flag() {
            true => Change::Condition { from: source.optional(condition), to: condition(source) },
            false => Change::Drain { from: source.optional(Source::flag), to: source.flag() },
        },
    };
    let sample = |source: &mut Source<'_>| match source.below(3) {
        0 => LagSample::NotAsked,
        1 => LagSample::Unknown,
        _ => LagSample::Bytes(source.number()),
    };
    let samples: Vec<LagSample> = (0..=source.below(16)).map(|_| sample(source)).collect();
    Chronicle {
        now: source.moment(),
        condition: source.optional(|source| (condition(source), source.moment())),
        transitions: (0..source.below(MAX_TRANSITIONS + 1)).map(|_| transition(source)).collect(),
        lag: if source.flag() { samples.into_iter().cycle().take(LAG_BUCKETS).collect() } else { Vec::new() },
    }
}

fn tally(source: &mut Source<'_>) -> Tally {
    let tally = Tally::new();
    for _ in 0..source.below(4) {
        let observation = observation(source);
        tally.probes.record(&observation, Duration::from_nanos(source.number()));
        let path = source.optional(|source| Path::ALL[source.below(Path::ALL.len())]);
        tally.requests.count(path, [200, 206, 400, 404, 405, 408, 413, 431, 503][source.below(9)]);
        tally.clients.enter();
        tally.clients.refuse(Refusal::ALL[source.below(Refusal::ALL.len())]);
    }
    tally.probes.set_abandoned(source.below(6));
    tally
}
