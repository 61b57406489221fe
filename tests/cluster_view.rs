//! `/cluster`, `pgsqlchk cluster` and the metrics of peers: all nodes in one place. psql and pg_stat_replication on the
//! nodes are the judges.

mod support;

use std::collections::BTreeSet;
use std::process::{Output, Stdio};

use serde_json::Value;
use support::folder::Folder;
use support::pages::{page, table};
use support::peers::{Ring, document, line};
use support::{Agent, Cluster, StopMode, agent, eventually, exchange, secs};

struct Site {
    agents: Vec<Agent>,
    standbys: [Cluster; 2],
    primary: Cluster,
    ring: Ring,
}

impl Site {
    /// A primary, a standby with a slot and one without.
    fn start() -> Site {
        let primary = Cluster::primary();
        primary.psql("SELECT pg_create_physical_replication_slot('of_the_first')");
        let slot = ("primary_slot_name", "of_the_first");
        let first = Cluster::stopped_standby_of(&primary, &[slot]);
        first.start();
        let second = Cluster::standby_of(&primary);
        let ring = Ring::of(3);
        let agents = [&primary, &first, &second].into_iter().enumerate();
        let agents = agents.map(|(node, server)| ring.start(node, server, &[])).collect();
        let site = Site { agents, standbys: [first, second], primary, ring };
        for agent in &site.agents {
            eventually(secs(20), "all are seen in their places", || {
                let cluster = document(agent, "/cluster");
                nodes(&cluster).iter().filter(|node| node["sync_state"] == "async").count() == 2
            });
        }
        site
    }

    fn run(&self, command: &str, server: &Cluster) -> Output {
        let home = Folder::new("cluster");
        let config = home.write("pgsqlchk.conf", "");
        let mut program = agent::command();
        program.env("HOME", home.path()).arg(command).arg("--config").arg(config);
        program.args(["--dsn", &server.dsn()]).args(self.ring.peers());
        program.stdin(Stdio::null()).output().expect("run the agent")
    }
}

fn nodes(cluster: &Value) -> &Vec<Value> {
    cluster["nodes"].as_array().expect("nodes")
}

#[test]
fn every_node_is_a_row_whoever_is_asked() {
    let site = Site::start();
    for (own, agent) in site.agents.iter().enumerate() {
        let mut cluster = Value::Null;
        eventually(secs(20), "the standbys have caught up", || {
            cluster = document(agent, "/cluster");
            nodes(&cluster).iter().filter(|node| node["lag_bytes"] == 0).count() == 2
        });
        assert_eq!(cluster["condition"], "one-primary", "{cluster:#}");
        let nodes = nodes(&cluster);
        assert_eq!(nodes.len(), 3, "itself once");
        assert_eq!((&nodes[0]["self"], &nodes[0]["address"]), (&true.into(), &site.ring.address(own).into()));
        for node in nodes {
            assert_eq!((&node["reached"], &node["foreign"]), (&true.into(), &false.into()), "{node:#}");
            assert_eq!((&node["timeline"], &node["draining"]), (&1.into(), &false.into()), "{node:#}");
            assert!(node["age_seconds"].as_f64().is_some_and(|age| age < 5.0), "{node:#}");
            let is_primary = node["address"] == site.ring.address(0);
            assert_eq!(node["role"], if is_primary { "primary" } else { "standby" });
            assert_eq!(node["sync_state"].is_null(), is_primary);
            let lsn = node["lsn"].as_str().expect("a position");
            assert_eq!(site.primary.psql(&format!("SELECT '{lsn}' <= pg_current_wal_lsn()")), "t");
        }
    }
    // The judge is pg_stat_replication: the one with the slot is waited for.
    site.primary.psql("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (\"walreceiver\")'");
    site.primary.psql("SELECT pg_reload_conf()");
    eventually(secs(20), "both are quorum", || {
        let cluster = document(&site.agents[2], "/cluster");
        nodes(&cluster).iter().filter(|node| node["sync_state"] == "quorum").count() == 2
    });
    site.primary.psql("ALTER SYSTEM RESET synchronous_standby_names");
    site.primary.psql("SELECT pg_reload_conf()");

    // A node that lags, a node that is silent.
    site.standbys[0].psql("SELECT pg_wal_replay_pause()");
    site.primary.psql("SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000))");
    eventually(secs(20), "the first lags", || {
        nodes(&document(&site.agents[0], "/cluster"))[1]["lag_bytes"]
            .as_u64()
            .is_some_and(|lag| lag > 900_000)
    });
    let mut site = site;
    drop(site.agents.pop());
    eventually(secs(20), "the second is silent", || {
        nodes(&document(&site.agents[0], "/cluster"))[2]["reached"] == false
    });
    let cluster = document(&site.agents[0], "/cluster");
    let silent = nodes(&cluster)[2].clone();
    assert!(silent["age_seconds"].as_f64().is_some_and(|age| age >= 1.0), "{silent:#}");
    for field in ["role", "reason", "timeline", "lsn", "lag_bytes", "sync_state", "draining", "foreign"] {
        assert_eq!(silent[field], Value::Null, "{field}");
    }
    assert!(silent["name"].is_string());
    assert_eq!(cluster["condition"], "one-primary", "the primary is where it was");
}

#[test]
fn the_command_prints_the_same_and_its_code_says_whether_all_is_well() {
    let site = Site::start();
    let output = site.run("cluster", &site.standbys[0]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(text.lines().next(), Some("one-primary"), "{text}");
    let heading: Vec<&str> = text.lines().nth(1).expect("headings").split_whitespace().collect();
    assert_eq!(
        heading,
        ["NODE", "ADDRESS", "ROLE", "TIMELINE", "POSITION", "LAG", "BYTES", "SYNC", "AGE", "REASON"]
    );
    assert_eq!(text.lines().count(), 5, "{text}");
    assert_eq!(text.matches(" primary ").count(), 1, "{text}");
    assert_eq!(text.matches(" async ").count(), 2, "{text}");

    site.primary.stop(StopMode::Fast);
    let output = site.run("cluster", &site.standbys[0]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!((output.status.code(), text.lines().next()), (Some(1), Some("no-primary")), "{text}");
    assert!(text.contains("connection-refused"), "{text}");
    site.primary.start();
    let mut site = site;
    drop(site.agents.pop());
    let output = site.run("--mode=cluster", &site.primary);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!((output.status.code(), text.lines().next()), (Some(1), Some("one-primary")), "{text}");
    assert!(text.contains(" silent "), "{text}");
    site.agents.clear();
    site.primary.stop(StopMode::Fast);
    assert_eq!(site.run("cluster", &site.primary).status.code(), Some(2), "nobody could be asked");
}

#[test]
fn metrics_count_peers_and_without_peers_there_are_none() {
    let site = Site::start();
    let value = |agent: &Agent, name: &str| {
        let page = agent.get("/metrics").body;
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<u64>().ok())
    };
    let of_peers = |agent: &Agent| {
        ["pgsqlchk_peers", "pgsqlchk_peers_reached", "pgsqlchk_cluster_primaries", "pgsqlchk_superseded"]
            .map(|name| value(agent, name))
    };
    eventually(secs(10), "both peers answer", || {
        of_peers(&site.agents[0]) == [Some(2), Some(2), Some(1), Some(0)]
    });
    eventually(secs(10), "so they do to the other one", || {
        of_peers(&site.agents[1]) == [Some(2), Some(2), Some(1), Some(0)]
    });
    site.standbys[1].promote();
    eventually(secs(10), "the primary is superseded", || {
        of_peers(&site.agents[0]) == [Some(2), Some(2), Some(2), Some(1)]
    });
    site.primary.stop(StopMode::Fast);
    eventually(secs(10), "it is down", || of_peers(&site.agents[0]) == [Some(2), Some(2), Some(1), None]);
    let alone = Agent::start(&["--dsn", &site.standbys[0].dsn()]);
    assert_eq!(of_peers(&alone), [None; 4]);
    let cluster = document(&alone, "/cluster");
    assert_eq!((&cluster["condition"], nodes(&cluster).len()), (&"no-primary".into(), 1));
}

#[test]
fn every_field_is_documented_and_no_other() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    let cluster = document(&agent, "/cluster");
    let own = cluster.as_object().expect("an object").keys().filter(|field| *field != "nodes").cloned();
    let of_nodes = nodes(&cluster)[0].as_object().expect("an object").keys();
    let known: BTreeSet<String> = own.chain(of_nodes.map(|field| format!("nodes[].{field}"))).collect();
    let rows = table(&page("docs/peers.md"), "| field of `/cluster` | type | meaning |");
    let documented: BTreeSet<String> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(documented, known, "docs/peers.md (left) and the program (right)");
}

#[test]
fn people_get_a_page_that_refreshes_itself() {
    let site = Site::start();
    let request = b"GET /cluster HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n";
    let reply = exchange(site.agents[1].addr(), request).expect("an answer");
    assert_eq!(reply.header("Content-Type"), Some("text/html; charset=utf-8"));
    assert!(reply.body.contains("http-equiv=\"refresh\""), "{}", reply.body);
    assert_eq!(reply.body.matches("<tr class=\"standby\">").count(), 2, "{}", reply.body);
    assert_eq!(reply.body.matches("<tr class=\"primary\">").count(), 1, "{}", reply.body);
    assert!(!reply.body.contains("<script"), "{}", reply.body);
    // The status page names the peers, and leads there.
    let request = b"GET /status HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n";
    let page = exchange(site.agents[1].addr(), request).expect("an answer").body;
    assert!(page.contains("<a href=\"/cluster\">Peers</a>"), "{page}");
    assert!(page.contains(&site.ring.address(0)) && page.contains("primary, timeline 1"), "{page}");
    assert_eq!(line(&site.agents[1], "/cluster"), "200 OK");
}
