//! `/node`: what other agents ask, with a fresh psql as the judge.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;
use support::folder::Folder;
use support::pages::{page, table};
use support::servers::servers;
use support::{Agent, Cluster, Front, StopMode, eventually, http, secs};

fn node(agent: &Agent) -> Value {
    let reply = agent.get("/node");
    assert_eq!((reply.line().as_str(), reply.header("Content-Type")), ("200 OK", Some("application/json")));
    serde_json::from_str(&reply.body).unwrap_or_else(|error| panic!("{error}: {}", reply.body))
}

fn position(cluster: &Cluster, function: &str) -> String {
    cluster.psql(&format!("SELECT {function}()"))
}

#[test]
fn a_primary_says_who_receives_from_it_and_each_standby_by_which_name() {
    let primary = Cluster::primary();
    primary.psql("SELECT pg_create_physical_replication_slot('of_the_first')");
    let slot = ("primary_slot_name", "of_the_first");
    let first = Cluster::stopped_standby_of(&primary, &[slot, ("cluster_name", "node2 of=the cluster")]);
    first.start();
    let second = Cluster::standby_of(&primary);
    let beside_primary = Agent::start(&["--dsn", &primary.dsn()]);
    let standbys = || node(&beside_primary)["standbys"].as_array().cloned().unwrap_or_default();
    eventually(secs(20), "both stream", || {
        let all = standbys();
        all.len() == 2 && all.iter().all(|standby| standby["state"] == "streaming")
    });

    let document = node(&beside_primary);
    assert_eq!(document["role"], "primary");
    assert_eq!(document["timeline"], 1);
    assert_eq!(
        document["system_identifier"],
        primary.psql("SELECT system_identifier FROM pg_control_system()")
    );
    let written = document["lsn"].as_str().expect("a position");
    assert_eq!(primary.psql(&format!("SELECT pg_current_wal_lsn() >= '{written}'")), "t");
    let started: f64 =
        primary.psql("SELECT extract(epoch FROM pg_postmaster_start_time())").parse().expect("seconds");
    assert!((document["postmaster_started"].as_f64().expect("seconds") - started).abs() < 1e-3);
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("a host name");
    assert_eq!(document["name"], host.trim_end());

    // As pg_stat_replication has it, and each knows itself by what it says of itself.
    let seen: BTreeMap<String, String> = standbys()
        .iter()
        .map(|standby| {
            let text = |field: &str| standby[field].as_str().unwrap_or("none").to_owned();
            (text("application_name"), text("slot"))
        })
        .collect();
    let expected = [("node2 of=the cluster", "of_the_first"), ("walreceiver", "none")];
    assert_eq!(seen, expected.map(|(name, slot)| (name.to_owned(), slot.to_owned())).into());
    for (standby, (name, slot)) in [&first, &second].into_iter().zip(expected) {
        let agent = Agent::start(&["--dsn", &standby.dsn()]);
        let own = node(&agent);
        assert_eq!(own["application_name"], name);
        assert_eq!(own["slot"].as_str().unwrap_or("none"), slot);
        assert_eq!((&own["role"], &own["standbys"]), (&"standby".into(), &Value::Null));
        assert_ne!(own["agent"], document["agent"], "another process");
        let replayed = own["lsn"].as_str().expect("a position");
        let is_true = format!("'{replayed}' <= pg_last_wal_replay_lsn()");
        assert_eq!(standby.psql(&format!("SELECT {is_true}")), "t");
    }
    assert_eq!(standbys()[0]["sync_state"], "async");
    primary.psql("ALTER SYSTEM SET synchronous_standby_names = '\"walreceiver\"'");
    primary.psql("SELECT pg_reload_conf()");
    eventually(secs(20), "one is waited for", || standbys()[0]["sync_state"] == "sync");
    assert_eq!(standbys()[0]["application_name"], "walreceiver", "it comes first");
    eventually(secs(20), "it says how far that has come", || {
        standbys()[0]["replayed"] == position(&second, "pg_last_wal_replay_lsn")
    });

    second.stop(StopMode::Fast);
    eventually(secs(20), "it is gone", || standbys().len() == 1);
    // The list of the status page's JSON is the same.
    let status: Value = serde_json::from_str(&beside_primary.get("/status").body).expect("JSON");
    assert_eq!(status["standbys"].as_array().map(Vec::len), Some(1));
    assert_eq!(status["agent"], document["agent"]);
}

#[test]
fn without_pg_monitor_nobody_claims_to_know_who_receives() {
    let primary = Cluster::primary();
    primary.psql("CREATE ROLE plain LOGIN");
    let agent = Agent::start(&["--dsn", &primary.dsn_of("plain")]);
    assert_eq!(node(&agent)["standbys"], Value::Array(Vec::new()), "nobody, and that is visible");
    let standby = Cluster::standby_of(&primary);
    eventually(secs(20), "the standby streams", || {
        primary.psql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == "1"
    });
    assert_eq!(node(&agent)["standbys"], Value::Null);
    let beside_standby = Agent::start(&["--dsn", &standby.dsn_of("plain")]);
    let own = node(&beside_standby);
    assert_eq!((&own["application_name"], &own["slot"]), (&Value::Null, &Value::Null));
    assert_eq!(own["timeline"], 1);
}

#[test]
fn it_answers_whatever_the_node_is() {
    let primary = Cluster::primary();
    let folder = Folder::new("drain");
    let shown = folder.path().join("drain").display().to_string();
    let agent =
        Agent::start(&["--dsn", &primary.dsn(), "--drain-file", &shown, "--agent-listen", "127.0.0.1:0"]);
    assert_eq!((&node(&agent)["draining"], &node(&agent)["reason"]), (&false.into(), &Value::Null));
    folder.write("drain", "");
    assert_eq!((&node(&agent)["draining"], &node(&agent)["reason"]), (&true.into(), &"draining".into()));
    assert_eq!(node(&agent)["role"], "primary");
    primary.stop(StopMode::Fast);
    let down = node(&agent);
    assert_eq!((&down["role"], &down["reason"]), (&Value::Null, &"connection-refused".into()));
    for field in ["system_identifier", "timeline", "lsn", "standbys", "postmaster_started"] {
        assert_eq!(down[field], Value::Null, "{field}");
    }
    assert_eq!(agent.get("/node?lag=1MB").status, 400);
    let line = support::agent_check::ask(&agent, "/node\n");
    assert_eq!(line, "down #bad-request\n", "no state follows from a document");
}

#[test]
fn every_front_gives_it() {
    let servers = servers();
    for front in Front::ALL {
        let running = front.start(&servers.standby.dsn());
        let reply = http::get(running.addr(), "/node").unwrap_or_else(|error| panic!("{front:?}: {error}"));
        let document: Value = serde_json::from_str(&reply.body).expect("JSON");
        assert_eq!((&document["role"], reply.status), (&"standby".into(), 200), "{front:?}");
    }
}

#[test]
fn every_field_is_documented_and_no_other() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    eventually(secs(20), "the standby streams", || node(&agent)["standbys"][0]["state"] == "streaming");
    let document = node(&agent);
    let own = document.as_object().expect("an object").keys().cloned();
    let of_standbys = document["standbys"][0].as_object().expect("an object").keys();
    let known: BTreeSet<String> = own
        .filter(|field| field != "standbys")
        .chain(of_standbys.map(|field| format!("standbys[].{field}")))
        .collect();
    let rows = table(&page("docs/peers.md"), "| field of `/node` | type | meaning |");
    let documented: BTreeSet<String> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(documented, known, "docs/peers.md (left) and the program (right)");
    drop(standby);
}
