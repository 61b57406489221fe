//! `/status`: everything that was observed and nothing else, as the documented table says it, on every front.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use support::folder::Folder;
use support::pages::page;
use support::servers::servers;
use support::{Agent, Cluster, Front, Reply, StopMode, eventually, exchange, http, secs};

/// What Chromium sends.
const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";

/// The document as a program gets it.
#[track_caller]
fn status(addr: SocketAddr) -> Value {
    let reply = http::get(addr, "/status").expect("a reply");
    assert_eq!((reply.line().as_str(), reply.header("Content-Type")), ("200 OK", Some("application/json")));
    serde_json::from_str(&reply.body).unwrap_or_else(|error| panic!("{error}: {}", reply.body))
}

#[track_caller]
fn ask(addr: SocketAddr, method: &str, accept: &str) -> Reply {
    let request = format!("{method} /status HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n");
    exchange(addr, request.as_bytes()).unwrap_or_else(|error| panic!("{request:?}: {error}"))
}

/// Every field by its name in the documents, with its values: more than one where it stands in a list.
fn fields(document: &Value) -> BTreeMap<String, Vec<Value>> {
    fn walk(name: &str, value: &Value, found: &mut BTreeMap<String, Vec<Value>>) {
        match value {
            Value::Object(members) => {
                let dot = if name.is_empty() { "" } else { "." };
                members.iter().for_each(|(key, value)| walk(&format!("{name}{dot}{key}"), value, found));
            }
            Value::Array(_) if ["standbys", "cascaded", "poolers", "haproxy"].contains(&name) => {
                // Its own fields stand elsewhere.
                found.entry(name.to_owned()).or_default().push(value.clone());
            }
            Value::Array(items) => items.iter().for_each(|item| walk(&format!("{name}[]"), item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                found.entry(name.to_owned()).or_default().push(value.clone());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk("", document, &mut found);
    found
}

/// The documented table of fields: name and type.
fn documented() -> BTreeMap<String, String> {
    let page = page("docs/monitoring.md");
    let (_, table) = page.split_once("| field | type | meaning |\n").expect("a table of fields");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let fields: BTreeMap<String, String> = rows
        .iter()
        .map(|row| {
            assert!(row.len() == 3 && row[2].ends_with('.'), "name, type and a sentence: {row:?}");
            (row[0].trim_matches('`').to_owned(), row[1].to_owned())
        })
        .collect();
    assert_eq!(fields.len(), rows.len(), "a field stands there twice");
    fields
}

fn has_type(value: &Value, word: &str) -> bool {
    match word {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "list" => value.is_array(),
        "time" => value.as_str().is_some_and(is_rfc_3339),
        other => panic!("the page has a type {other:?}"),
    }
}

/// In UTC, to the millisecond; so times compare as text.
fn is_rfc_3339(text: &str) -> bool {
    let form = "dddd-dd-ddTdd:dd:dd.dddZ";
    let fits = |(byte, form): (u8, u8)| if form == b'd' { byte.is_ascii_digit() } else { byte == form };
    text.len() == form.len() && text.bytes().zip(form.bytes()).all(fits)
}

/// A time of the document in seconds since 1970, by PostgreSQL, which is sure to know.
fn unix_seconds(cluster: &Cluster, time: &Value) -> f64 {
    let time = time.as_str().expect("a time");
    cluster.psql(&format!("SELECT extract(epoch FROM '{time}'::timestamptz)")).parse().expect("seconds")
}

fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

/// The names of the fields that are not null.
fn observed(document: &Value) -> BTreeSet<String> {
    let fields = fields(document).into_iter();
    fields.filter(|(_, values)| values.iter().any(|value| !value.is_null())).map(|(name, _)| name).collect()
}

fn names(words: &str) -> BTreeSet<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

/// What is there whatever PostgreSQL does, in a process that remembers.
const ALWAYS: &str =
    "agent name draining haproxy since time agent_version probe_seconds transitions[].time transitions[].to";
const OF_A_SERVER: &str = "role read_only timeline system_identifier server_version server_started";
const OF_A_STANDBY: &str =
    "lsn.received lsn.replayed restoring replay_paused replay_delay_seconds receiver.exists";
const OF_A_LAG: &str = "lag.bytes lag.bytes_basis lag.seconds lag.seconds_basis";
const OF_A_RECEIVER: &str = "lsn.sender_end receiver.state receiver.sender_host \
     receiver.sender_port receiver.application_name receiver.last_message_seconds";

/// A connection string of a role that may log in and nothing else.
fn unprivileged(cluster: &Cluster) -> String {
    cluster.dsn().replace("user=postgres", "user=guest")
}

#[test]
fn every_field_is_documented_with_its_type_and_no_other() {
    let table = documented();
    let primary = Cluster::primary();
    primary.psql("CREATE ROLE guest LOGIN");
    primary.psql("SELECT pg_create_physical_replication_slot('of_the_standby')");
    let standby = Cluster::stopped_standby_of(&primary, &[("primary_slot_name", "of_the_standby")]);
    standby.start();
    let agents = [primary.dsn(), standby.dsn(), unprivileged(&standby)];
    // The server answers a knock as a pooler does.
    let pooler = primary.socket_path().display().to_string();
    let more = ["--write-probe", "1s", "--pooler", &pooler];
    let agents = agents.map(|dsn| Agent::start(&[&["--dsn", &dsn], &more[..]].concat()));
    // Just after its start a receiver has not heard from the sender.
    let has_heard = || status(agents[1].addr())["lag"]["bytes_basis"] == "sender";
    eventually(secs(20), "the standby streams", has_heard);
    // Who asks for the first time may not wait until the commit is through.
    eventually(secs(20), "the primary commits", || status(agents[0].addr())["writable"] == true);
    let mut documents: Vec<Value> = agents.iter().map(|agent| status(agent.addr())).collect();
    primary.psql("ALTER ROLE guest NOLOGIN");
    eventually(secs(20), "the guest's login is refused", || {
        status(agents[2].addr())["login"]["refused"].is_string()
    });
    documents.push(status(agents[2].addr()));
    primary.stop(StopMode::Fast);
    eventually(secs(20), "the receiver goes", || status(agents[1].addr())["receiver"]["exists"] == false);
    standby.psql("SELECT pg_wal_replay_pause()");
    documents.push(status(agents[1].addr()));
    standby.stop(StopMode::Fast);
    documents.extend(agents.iter().map(|agent| status(agent.addr())));

    let mut seen = BTreeSet::new();
    for document in &documents {
        let fields = fields(document);
        assert_eq!(
            fields.keys().collect::<BTreeSet<_>>(),
            table.keys().collect(),
            "fields (left) and docs/monitoring.md (right)"
        );
        for (name, values) in fields {
            for value in values.iter().filter(|value| !value.is_null()) {
                assert!(has_type(value, &table[&name]), "{name} is no {}: {value}", table[&name]);
                seen.insert(name.clone());
            }
        }
    }
    assert_eq!(seen.iter().collect::<BTreeSet<_>>(), table.keys().collect(), "each has a value somewhere");
}

#[test]
fn a_primary_is_described_by_its_own_words() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    let document = status(agent.addr());
    let expected = format!("{ALWAYS} {OF_A_SERVER} lsn.current standbys");
    assert_eq!(observed(&document), names(&expected), "{document:#}");
    assert_eq!(document["role"], "primary");
    assert_eq!((&document["draining"], &document["read_only"]), (&false.into(), &false.into()));
    assert_eq!(document["timeline"], 1);
    let identifier = primary.psql("SELECT system_identifier FROM pg_control_system()");
    assert_eq!(document["system_identifier"], identifier);
    assert_eq!(document["server_version"], primary.psql("SHOW server_version"));
    assert_eq!(document["agent_version"], env!("CARGO_PKG_VERSION"));
    let written = document["lsn"]["current"].as_str().expect("a position");
    assert_eq!(primary.psql(&format!("SELECT pg_current_wal_lsn() >= '{written}'")), "t");
    let started: f64 =
        primary.psql("SELECT extract(epoch FROM pg_postmaster_start_time())").parse().expect("seconds");
    assert!((unix_seconds(&primary, &document["server_started"]) - started).abs() < 0.01);
    assert!((unix_seconds(&primary, &document["time"]) - now_s()).abs() < 5.0);
    assert!(document["probe_seconds"].as_f64().is_some_and(|seconds| (0.0..5.0).contains(&seconds)));

    primary.configure(&[("default_transaction_read_only", "on")]);
    eventually(secs(5), "the flag is seen", || status(agent.addr())["read_only"] == true);
}

#[test]
fn a_standby_is_described_with_its_lag_and_who_sends() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let agent = Agent::start(&["--dsn", &standby.dsn(), "--max-lag", "64kB"]);
    let caught_up = || {
        let document = status(agent.addr());
        document["lag"]["seconds_basis"] == "caught-up" && document["lag"]["bytes_basis"] == "sender"
    };
    eventually(secs(20), "the standby has caught up", caught_up);
    standby.psql("SELECT pg_wal_replay_pause()");
    primary.psql("CREATE TABLE t AS SELECT repeat('x', 1000) FROM generate_series(1, 1000)");
    eventually(secs(20), "the lag grows", || {
        status(agent.addr())["lag"]["bytes"].as_u64().is_some_and(|bytes| bytes > 1_000_000)
    });
    let document = status(agent.addr());
    let expected = format!(
        "{ALWAYS} {OF_A_SERVER} {OF_A_STANDBY} {OF_A_LAG} {OF_A_RECEIVER} receiver.details_visible cascaded"
    );
    // The last replayed commit may be none, of which there is no age.
    let seconds = names("lag.seconds lag.seconds_basis lag.unknown reason");
    let without_seconds = |set: BTreeSet<String>| set.difference(&seconds).cloned().collect::<BTreeSet<_>>();
    assert_eq!(without_seconds(observed(&document)), without_seconds(names(&expected)), "{document:#}");
    assert_eq!((&document["role"], &document["reason"]), (&"standby".into(), &"lag-exceeded".into()));
    assert_eq!((&document["replay_paused"], &document["read_only"]), (&true.into(), &true.into()));
    let receiver = &document["receiver"];
    assert_eq!(receiver["state"], "streaming");
    assert_eq!(receiver["sender_port"], primary.port());
    assert_eq!(receiver["slot"], Value::Null);
    assert_eq!(receiver["sender_host"], primary.socket_dir().display().to_string());
    let sql = format!(
        "SELECT '{}'::pg_lsn - '{}'::pg_lsn",
        document["lsn"]["sender_end"].as_str().expect("a position"),
        document["lsn"]["replayed"].as_str().expect("a position")
    );
    assert_eq!(document["lag"]["bytes"].to_string(), primary.psql(&sql));

    standby.psql("SELECT pg_wal_replay_resume()");
    eventually(secs(20), "the standby has caught up again", caught_up);
    assert_eq!(status(agent.addr())["reason"], Value::Null);
}

#[test]
fn what_the_role_may_not_see_is_null_and_said_to_be_hidden() {
    let primary = Cluster::primary();
    primary.psql("CREATE ROLE guest LOGIN");
    let standby = Cluster::standby_of(&primary);
    let agent = Agent::start(&["--dsn", &unprivileged(&standby)]);
    let hidden = |document: &Value| {
        assert_eq!(document["receiver"]["details_visible"], false, "{document:#}");
        let expected =
            format!("{ALWAYS} {OF_A_SERVER} {OF_A_STANDBY} {OF_A_LAG} receiver.details_visible cascaded");
        assert_eq!(observed(document), names(&expected), "{document:#}");
    };
    eventually(secs(20), "the standby receives", || status(agent.addr())["receiver"]["exists"] == true);
    let document = status(agent.addr());
    assert_eq!(document["lag"]["bytes_basis"], "received");
    hidden(&document);

    primary.psql("GRANT pg_monitor TO guest");
    eventually(secs(20), "it may see them", || status(agent.addr())["receiver"]["details_visible"] == true);
    assert_eq!(status(agent.addr())["receiver"]["state"], "streaming");
    primary.stop(StopMode::Fast);
    eventually(secs(20), "the receiver goes", || status(agent.addr())["receiver"]["exists"] == false);
    let document = status(agent.addr());
    assert_eq!(document["lag"]["unknown"], "no-wal-receiver");
    let expected = format!("{ALWAYS} {OF_A_SERVER} {OF_A_STANDBY} lag.unknown cascaded");
    assert_eq!(observed(&document), names(&expected), "{document:#}");
}

#[test]
fn while_postgresql_is_down_nothing_of_it_is_said_but_why() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    assert_eq!(status(agent.addr())["role"], "primary");
    primary.stop(StopMode::Fast);
    let document = status(agent.addr());
    let expected = format!("{ALWAYS} reason transitions[].from transitions[].reason");
    assert_eq!(observed(&document), names(&expected), "{document:#}");
    assert_eq!((&document["role"], &document["reason"]), (&Value::Null, &"connection-refused".into()));
    let transitions = document["transitions"].as_array().expect("a list");
    let said: Vec<[&Value; 3]> =
        transitions.iter().map(|change| [&change["from"], &change["to"], &change["reason"]]).collect();
    assert_eq!(
        said,
        [
            [&"primary".into(), &"unavailable".into(), &"connection-refused".into()],
            [&Value::Null, &"primary".into(), &Value::Null],
        ]
    );
    assert_eq!(transitions[0]["time"], document["since"], "since the newest change");
    let times: Vec<&str> = transitions.iter().filter_map(|change| change["time"].as_str()).collect();
    assert!(times[0] > times[1], "the newest first: {times:?}");

    primary.start();
    let document = status(agent.addr());
    assert_eq!((&document["role"], &document["reason"]), (&"primary".into(), &Value::Null));
}

#[test]
fn a_node_that_drains_says_so_and_who_it_is() {
    let primary = Cluster::primary();
    let folder = Folder::new("drain");
    let file = folder.path().join("drain");
    let shown = file.display().to_string();
    let agent = Agent::start(&["--dsn", &primary.dsn(), "--drain-file", &shown]);
    assert_eq!(status(agent.addr())["draining"], false);
    folder.write("drain", "");
    let document = status(agent.addr());
    assert_eq!((&document["draining"], &document["reason"]), (&true.into(), &"draining".into()));
    assert_eq!(document["role"], "primary");
    assert_eq!(document["transitions"][0]["to"], "draining");
    primary.stop(StopMode::Fast);
    let document = status(agent.addr());
    assert_eq!((&document["draining"], &document["reason"]), (&true.into(), &"connection-refused".into()));
    fs::remove_file(&file).expect("remove the drain file");
    assert_eq!(status(agent.addr())["draining"], false);
    let document = status(agent.addr());
    let newest = &document["transitions"][0];
    assert_eq!((&newest["from"], &newest["to"]), (&"draining".into(), &"not-draining".into()));

    for _ in 0..15 {
        folder.write("drain", "");
        agent.get("/");
        fs::remove_file(&file).expect("remove the drain file");
        agent.get("/");
    }
    let document = status(agent.addr());
    assert_eq!(document["transitions"].as_array().map(Vec::len), Some(20), "no more are kept");
    // Where it cannot be known, neither is said.
    let unknown =
        Agent::start(&["--dsn", &primary.dsn(), "--drain-file", &format!("/tmp/{}", "x".repeat(300))]);
    assert_eq!(status(unknown.addr())["draining"], Value::Null);
}

#[test]
fn accept_chooses_between_the_page_and_json() {
    let servers = servers();
    let agent = Agent::start(&["--dsn", &servers.primary.dsn()]);
    for (accept, expected) in [
        (BROWSER, "text/html; charset=utf-8"),
        ("text/html;q=0.2, application/json;q=0.1", "text/html; charset=utf-8"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/html;q=0.1, application/json;q=0.2", "application/json"),
        ("image/png", "application/json"),
    ] {
        let reply = ask(agent.addr(), "GET", accept);
        assert_eq!((reply.status, reply.header("Content-Type")), (200, Some(expected)), "{accept}");
        assert_eq!(
            reply.body.starts_with("<!DOCTYPE html>\n"),
            expected.starts_with("text/html"),
            "{accept}"
        );
        let names: Vec<&str> = reply.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["Content-Type", "Content-Length", "Cache-Control", "Connection"]);
        let head = ask(agent.addr(), "HEAD", accept);
        assert_eq!((head.header("Content-Type"), head.body.as_str()), (Some(expected), ""), "{accept}");
    }
}

/// Whose process ends with the reply remembers nothing.
#[test]
fn every_front_gives_both_forms_and_only_those_that_last_have_a_memory() {
    let servers = servers();
    let fields_of = |document: &Value| fields(document).into_keys().collect::<BTreeSet<_>>();
    let without_transitions = |mut names: BTreeSet<String>| {
        names.retain(|name| !name.starts_with("transitions"));
        names
    };
    for (front, lasts) in [
        (Front::Standalone, true),
        (Front::XinetdNoWait, false),
        (Front::XinetdWait, true),
        (Front::InetdNoWait, false),
        (Front::InetdWait, true),
        (Front::SystemdAccept, false),
        (Front::SystemdSocket, true),
    ] {
        for (dsn, role) in [
            (servers.primary.dsn(), "primary".into()),
            (servers.standby.dsn(), "standby".into()),
            (servers.down(), Value::Null),
        ] {
            let running = front.start(&dsn);
            let document = status(running.addr());
            assert_eq!(document["role"], role, "{front:?}");
            assert_eq!(document["since"].is_string(), lasts, "{front:?}: {document:#}");
            let transitions = document["transitions"].as_array().expect("a list");
            assert_eq!(transitions.len(), usize::from(lasts), "{front:?}: {document:#}");
            let expected = documented().into_keys().collect();
            let expected = if lasts { expected } else { without_transitions(expected) };
            let mut names = fields_of(&document);
            names.remove("transitions[]");
            assert_eq!(names, expected, "{front:?}");
            let page = ask(running.addr(), "GET", BROWSER);
            let headline = if role == "primary" {
                "Primary"
            } else if role == "standby" {
                "Standby"
            } else {
                "Down"
            };
            assert!(page.body.contains(&format!("<h1>{headline}</h1>")), "{front:?}: {}", page.body);
            assert_eq!(page.body.contains("class=\"events\""), lasts, "{front:?}");
        }
    }
}

/// Documents are longer than anything else that goes over the lanes.
#[test]
fn many_long_replies_at_once_arrive_whole() {
    let servers = servers();
    let agent = Agent::start(&["--dsn", &servers.standby.dsn()]);
    thread::scope(|scope| {
        for number in 0..100 {
            let accept = if number % 3 == 0 { "*/*" } else { BROWSER };
            let agent = &agent;
            scope.spawn(move || {
                let reply = ask(agent.addr(), "GET", accept);
                assert_eq!(reply.header("Content-Length"), Some(reply.body.len().to_string().as_str()));
                assert!(reply.body.len() < 32 * 1024 && reply.body.len() > 500, "{}", reply.body.len());
                let end = if number % 3 == 0 { "}\n" } else { "</html>\n" };
                assert!(reply.body.ends_with(end), "{}", reply.body);
            });
        }
    });
    assert_eq!(agent.get("/").line(), "206 Standby");
}
