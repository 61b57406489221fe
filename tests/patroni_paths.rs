//! The paths of Patroni's that only several agents together can answer, and the rules by which a `haproxy.cfg` made for
//! Patroni works here. psql on the nodes and HAProxy are the judges.

mod support;

use support::agent_check::ask;
use support::one_check::OneCheck;
use support::peers::{Ring, assert_in_time, document, line, timed_line};
use support::{Agent, Cluster, Front, StopMode, eventually, http, secs};

/// A primary and two standbys by their own names, each with its agent.
struct Site {
    agents: [Agent; 3],
    standbys: [Cluster; 2],
    primary: Cluster,
    ring: Ring,
}

fn standby_named(primary: &Cluster, name: &str) -> Cluster {
    let standby = Cluster::stopped_standby_of(primary, &[("cluster_name", name)]);
    standby.start();
    standby
}

/// Makes a standby receive from another one.
#[track_caller]
fn feed_from(sender: &Cluster, standby: &Cluster) {
    let upstream = format!("host={} port={} user=postgres", sender.socket_dir().display(), sender.port());
    standby.psql(&format!("ALTER SYSTEM SET primary_conninfo = '{upstream}'"));
    standby.psql("SELECT pg_reload_conf()");
    eventually(secs(20), "psql sees the cascade", || {
        sender.psql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == "1"
    });
}

impl Site {
    fn start() -> Site {
        let primary = Cluster::primary();
        let standbys = ["node2", "node3"].map(|name| standby_named(&primary, name));
        let ring = Ring::of(3);
        let agents = [
            ring.start(0, &primary, &[]),
            ring.start(1, &standbys[0], &["--agent-listen", "127.0.0.1:0"]),
            ring.start(2, &standbys[1], &[]),
        ];
        let site = Site { agents, standbys, primary, ring };
        site.come_to_say("/async", ["503 not-in-recovery", "200 Standby", "200 Standby"]);
        site
    }

    /// Sets which standbys are waited for, and waits until PostgreSQL itself counts them so.
    fn wait_for(&self, names: &str, states: &str) {
        self.primary.psql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'"));
        self.primary.psql("SELECT pg_reload_conf()");
        let seen = "SELECT string_agg(sync_state, ' ' ORDER BY application_name) FROM pg_stat_replication";
        eventually(secs(20), "PostgreSQL counts them so", || self.primary.psql(seen) == states);
    }

    #[track_caller]
    fn come_to_say(&self, path: &str, lines: [&str; 3]) {
        eventually(secs(20), &format!("{path}: {lines:?}"), || {
            self.agents.iter().zip(lines).all(|(agent, expected)| line(agent, path) == expected)
        });
    }
}

#[test]
fn a_standby_says_how_the_primary_counts_it() {
    let site = Site::start();
    let (no, other, yes) = ("503 not-in-recovery", "503 other-sync-state", "200 Standby");
    for (names, states, sync, quorum) in [
        ("", "async async", [other, other], [other, other]),
        ("FIRST 1 (node2, node3)", "sync potential", [yes, other], [other, other]),
        ("ANY 1 (node2, node3)", "quorum quorum", [other, other], [yes, yes]),
        ("FIRST 1 (node3)", "async sync", [other, yes], [other, other]),
    ] {
        site.wait_for(names, states);
        let async_ = [0, 1].map(|node| match [sync[node], quorum[node]].contains(&yes) {
            true => other,
            false => yes,
        });
        for (path, on_primary, [second, third]) in [
            ("/sync", no, sync),
            ("/synchronous", no, sync),
            ("/read-only-sync", "200 Primary", sync),
            ("/read-only-synchronous", "200 Primary", sync),
            ("/quorum", no, quorum),
            ("/read-only-quorum", "200 Primary", quorum),
            ("/async", no, async_),
            ("/asynchronous", no, async_),
            ("/async?lag=1GB", no, async_),
        ] {
            site.come_to_say(path, [on_primary, second, third]);
        }
    }
    assert_eq!(ask(&site.agents[1], "/async"), "up ready 100%\n");
    assert_eq!(ask(&site.agents[1], "/sync"), "down #other-sync-state\n");
    let peers = site.ring.peers();
    let peers: Vec<&str> = peers.iter().map(String::as_str).collect();
    assert_in_time(0, || {
        let arguments = [&["--target", "/sync"], &peers[..]].concat();
        let check = OneCheck::run(&site.standbys[1].dsn(), &arguments);
        (check.code, check.elapsed)
    });

    // It lags: the limit of /async is that of /replica.
    site.standbys[0].psql("SELECT pg_wal_replay_pause()");
    site.primary.psql("SELECT pg_logical_emit_message(false, 'x', repeat('x', 3000000))");
    site.come_to_say("/async?lag=1MB", [no, "503 lag-exceeded", other]);
}

#[test]
fn what_nobody_can_tell_is_503_sync_state_unknown() {
    let site = Site::start();
    let unknown = "503 sync-state-unknown";
    let alone = Agent::start(&["--dsn", &site.standbys[0].dsn()]);
    let plain = Agent::start_with(|command| {
        site.primary.psql("CREATE ROLE plain LOGIN");
        eventually(secs(20), "the role arrives", || {
            site.standbys[0].psql("SELECT count(*) FROM pg_roles WHERE rolname = 'plain'") == "1"
        });
        command.args(["--dsn", &site.standbys[0].dsn_of("plain")]).args(site.ring.peers());
    });
    for path in ["/sync", "/async", "/quorum", "/read-only-sync", "/read-only-quorum"] {
        assert_eq!(line(&alone, path), unknown, "without peers, {path}");
        assert_eq!(line(&plain, path), unknown, "without pg_monitor, {path}");
        assert_eq!(alone.get(path).body, "Down: sync-state-unknown\n");
    }
    // Its namesake may be the one on the primary's list.
    let namesake = standby_named(&site.primary, "node3");
    eventually(secs(20), "PostgreSQL has two of that name", || {
        site.primary.psql("SELECT count(*) FROM pg_stat_replication WHERE application_name = 'node3'") == "2"
    });
    site.come_to_say("/async", ["503 not-in-recovery", "200 Standby", unknown]);
    namesake.stop(StopMode::Fast);
    site.come_to_say("/async", ["503 not-in-recovery", "200 Standby", "200 Standby"]);
    // Nobody says how it counts them.
    site.primary.stop(StopMode::Fast);
    site.come_to_say("/async", ["503 connection-refused", unknown, unknown]);
}

/// It took the one row of their name for its own when the agent of the one in between was silent.
#[test]
fn a_cascading_standby_takes_no_namesakes_row_for_its_own() {
    let primary = Cluster::primary();
    let [middle, far] = ["twin", "twin"].map(|name| standby_named(&primary, name));
    feed_from(&middle, &far);
    primary.psql("ALTER SYSTEM SET synchronous_standby_names = 'twin'");
    primary.psql("SELECT pg_reload_conf()");
    let seen = "SELECT string_agg(application_name || ' ' || sync_state, ', ') FROM pg_stat_replication";
    eventually(secs(20), "the one in between is waited for", || primary.psql(seen) == "twin sync");
    let ring = Ring::of(3);
    let agents = [&primary, &middle, &far].into_iter().enumerate();
    let agents: Vec<Agent> = agents.map(|(node, server)| ring.start(node, server, &[])).collect();
    let unknown = || assert_eq!(line(&agents[2], "/sync"), "503 sync-state-unknown");
    let is_reached = |expected: bool| document(&agents[2], "/cluster")["nodes"][2]["reached"] == expected;
    eventually(secs(20), "all are heard", || is_reached(true));
    unknown();
    for node in document(&agents[0], "/cluster")["nodes"].as_array().expect("nodes") {
        assert_eq!(node["sync_state"], serde_json::Value::Null, "{node}");
    }
    let frozen = support::Frozen::new(agents[1].pid());
    eventually(secs(20), "one of them is silent", || is_reached(false));
    unknown();
    frozen.thaw();
    eventually(secs(20), "all are heard again", || is_reached(true));
    // Only now is the row its own.
    middle.stop(StopMode::Fast);
    far.psql(&format!("ALTER SYSTEM SET primary_conninfo = '{}'", primary.dsn()));
    far.psql("SELECT pg_reload_conf()");
    eventually(secs(20), "it is the one of its name", || line(&agents[2], "/sync") == "200 Standby");
    assert_eq!(primary.psql(seen), "twin sync");
}

/// After each failover: a receiver that follows its sender to a new timeline shows `primary_conninfo` as it was written.
#[test]
fn a_standby_knows_its_name_on_the_next_timeline() {
    let primary = Cluster::primary();
    let promoted = standby_named(&primary, "node2");
    let by_cluster_name = standby_named(&primary, "node3");
    let quoted = standby_named(&primary, "node4");
    let sender = format!("host={} port={} user=postgres", promoted.socket_dir().display(), promoted.port());
    for (standby, name) in [(&by_cluster_name, ""), (&quoted, " application_name=''a name of its own''")] {
        standby.psql(&format!("ALTER SYSTEM SET primary_conninfo = '{sender}{name}'"));
        standby.psql("SELECT pg_reload_conf()");
    }
    let names = "SELECT string_agg(application_name, ', ' ORDER BY application_name) FROM pg_stat_replication
                 WHERE state = 'streaming'";
    eventually(secs(20), "both receive from there", || promoted.psql(names) == "a name of its own, node3");
    promoted.promote();
    promoted.psql("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (\"a name of its own\")'");
    promoted.psql("SELECT pg_reload_conf()");
    let is_bare = "SELECT received_tli = 2 AND conninfo NOT LIKE '%fallback%' FROM pg_stat_wal_receiver";
    for standby in [&by_cluster_name, &quoted] {
        eventually(secs(20), "PostgreSQL shows what was written", || standby.psql(is_bare) == "t");
    }
    let ring = Ring::of(3);
    let servers = [&promoted, &by_cluster_name, &quoted].into_iter().enumerate();
    let agents: Vec<Agent> = servers.map(|(node, server)| ring.start(node, server, &[])).collect();
    eventually(secs(20), "one is not waited for", || line(&agents[1], "/async") == "200 Standby");
    eventually(secs(20), "the other one is", || line(&agents[2], "/quorum") == "200 Standby");
    assert_eq!(promoted.psql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'"), "1");
}

#[test]
fn a_slot_tells_apart_whom_names_do_not() {
    let primary = Cluster::primary();
    primary.psql("SELECT pg_create_physical_replication_slot('of_the_first')");
    let first = Cluster::stopped_standby_of(&primary, &[("primary_slot_name", "of_the_first")]);
    first.start();
    let second = Cluster::standby_of(&primary);
    let ring = Ring::of(3);
    let agents = [&primary, &first, &second].into_iter().enumerate();
    let agents: Vec<Agent> = agents.map(|(node, server)| ring.start(node, server, &[])).collect();
    for agent in &agents[1..] {
        eventually(secs(20), "each knows itself", || line(agent, "/async") == "200 Standby");
    }
    assert_eq!(primary.psql("SELECT count(DISTINCT application_name) FROM pg_stat_replication"), "1");
}

#[test]
fn a_standby_leader_is_fed_from_outside_the_cluster() {
    let outside = Cluster::primary();
    let leader = standby_named(&outside, "leader");
    let follower = standby_named(&outside, "follower");
    feed_from(&leader, &follower);
    let ring = Ring::of(3);
    let beside_leader = ring.start(1, &leader, &[]);
    let beside_follower = ring.start(2, &follower, &[]);
    // The third node is silent: it may be the sender, or the primary.
    let path = "/standby-leader";
    eventually(secs(20), "nobody can tell", || line(&beside_leader, path) == "503 sender-unknown");
    eventually(secs(20), "it is on the list", || line(&beside_follower, path) == "503 not-standby-leader");
    assert_eq!(document(&beside_leader, "/node")["cascaded"][0]["application_name"], "follower");

    let ring = Ring::of(2);
    let both = [ring.start(0, &leader, &[]), ring.start(1, &follower, &[])];
    for name in ["/standby-leader", "/standby_leader", "/standby-leader?tag_a=b"] {
        eventually(secs(20), name, || line(&both[0], name) == "200 Standby");
        assert_in_time("503 not-standby-leader", || timed_line(&both[1], name));
    }
    outside.stop(StopMode::Fast);
    eventually(secs(20), "it receives nothing", || line(&both[0], path) == "503 no-wal-receiver");
    outside.start();
    eventually(secs(20), "it streams again", || line(&both[0], path) == "200 Standby");
    // One of them is promoted: there is a primary in the cluster.
    follower.promote();
    eventually(secs(20), "no leader of standbys", || line(&both[0], path) == "503 not-standby-leader");
    assert_eq!(line(&both[1], path), "503 not-in-recovery");
}

/// It said that its role is not known, which was taken for a server that is down.
#[test]
fn a_primary_that_lets_nobody_in_still_feeds_its_standby() {
    let primary = Cluster::primary();
    primary.psql("CREATE ROLE kept_out LOGIN CONNECTION LIMIT 0");
    let standby = standby_named(&primary, "node2");
    let ring = Ring::of(2);
    let kept_out = Agent::start_with(|command| {
        command.args(["--dsn", &primary.dsn_of("kept_out")]).args(ring.options(0));
    });
    let agent = ring.start(1, &standby, &[]);
    assert_eq!(line(&kept_out, "/primary"), "503 too-many-clients");
    eventually(secs(20), "it streams", || {
        primary.psql("SELECT state FROM pg_stat_replication") == "streaming"
    });
    let path = "/standby-leader";
    eventually(secs(20), "nobody can tell", || line(&agent, path) == "503 sender-unknown");
    drop(kept_out);
    let _beside_primary = ring.start(0, &primary, &[]);
    eventually(secs(20), "there is a primary", || line(&agent, path) == "503 not-standby-leader");
}

#[test]
fn readiness_has_a_limit_on_what_is_received_or_replayed() {
    let site = Site::start();
    let (primary, standby) = (&site.agents[0], &site.agents[1]);
    site.standbys[0].psql("SELECT pg_wal_replay_pause()");
    site.primary.psql("SELECT pg_logical_emit_message(false, 'x', repeat('x', 3000000))");
    let missing = "SELECT pg_last_wal_receive_lsn() - pg_last_wal_replay_lsn() > 2000000";
    eventually(secs(20), "psql sees it received and not replayed", || site.standbys[0].psql(missing) == "t");
    for path in ["/readiness?lag=1MB", "/readiness?lag=1MB&mode=apply"] {
        eventually(secs(20), path, || line(standby, path) == "503 lag-exceeded");
    }
    let write = "/readiness?lag=1MB&mode=write";
    eventually(secs(20), "all of it is received", || line(standby, write) == "200 Standby");
    eventually(secs(20), "nothing is missing", || ask(standby, write) == "up ready 100%\n");
    assert_eq!(line(primary, write), "200 Primary");
    assert_eq!(line(standby, "/readiness"), "200 Standby", "without a limit");
    // The stream has died, and nobody has told the WAL receiver.
    let walsenders =
        site.primary.psql("SELECT pid FROM pg_stat_replication WHERE application_name = 'node2'");
    let frozen = support::Frozen::new(walsenders.parse().expect("a pid"));
    site.primary.psql("SELECT pg_logical_emit_message(true, 'x', repeat('x', 3000000))");
    eventually(secs(20), "the primary has more", || line(standby, write) == "503 lag-exceeded");
    frozen.thaw();
    eventually(secs(20), "all of it is received again", || line(standby, write) == "200 Standby");
    // Paused replay would let go of no receiver.
    site.standbys[0].psql("SELECT pg_wal_replay_resume()");
    site.standbys[0].psql("ALTER SYSTEM SET primary_conninfo = ''");
    site.standbys[0].psql("SELECT pg_reload_conf()");
    eventually(secs(20), "it does not replicate", || line(standby, write) == "503 no-wal-receiver");
    assert_eq!(line(standby, "/readiness"), "200 Standby");
}

#[test]
fn tags_choose_among_standbys() {
    let site = Site::start();
    let tagged = Agent::start(&["--dsn", &site.standbys[0].dsn(), "--tag=dc=north", "--tag=kind=big one"]);
    let quiet = Agent::start(&["--dsn", &site.standbys[0].dsn(), "--tag", "noloadbalance=true"]);
    let primary = Agent::start(&["--dsn", &site.primary.dsn(), "--tag", "noloadbalance=true"]);
    for (path, expected) in [
        ("/replica?tag_dc=north", "200 Standby"),
        ("/replica?tag_dc=north&tag_kind=big%20one", "200 Standby"),
        ("/replica?tag_dc=south", "503 other-tag"),
        ("/read-only?tag_dc=north&tag_kind=small", "503 other-tag"),
        ("/?tag_dc=north", "206 Standby"),
        ("/?tag_nothing=x", "503 other-tag"),
        ("/primary?tag_dc=south", "503 in-recovery"),
    ] {
        assert_eq!(line(&tagged, path), expected, "{path}");
    }
    for path in ["/replica", "/read-only", "/async", "/replica?lag=1GB"] {
        assert_eq!(line(&quiet, path), "503 noloadbalance", "{path}");
        assert_eq!(quiet.get(path).body, "No: noloadbalance\n");
    }
    assert_eq!(line(&quiet, "/"), "206 Standby");
    assert_eq!(line(&quiet, "/health"), "200 Standby");
    for path in ["/primary?tag_dc=south", "/read-write?tag_dc=south", "/read-only", "/"] {
        assert_eq!(line(&primary, path), "200 Primary", "{path}");
    }
    assert_eq!(line(&primary, "/primary?dc=south"), "400 Bad Request");
}

#[test]
fn the_root_stands_for_the_path_that_was_named_in_every_home() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    for front in Front::ALL {
        for (server, expected) in [(&primary, "200 Primary"), (&standby, "503 in-recovery")] {
            let running = front.start_with(&[("dsn", &server.dsn()), ("root-path", "/primary")]);
            for path in ["/", "//"] {
                let reply =
                    http::get(running.addr(), path).unwrap_or_else(|error| panic!("{front:?}: {error}"));
                assert_eq!(reply.line(), expected, "{front:?} {path}");
            }
        }
    }
    let options = ["--dsn", &standby.dsn(), "--root-path", "/primary", "--agent-listen", "127.0.0.1:0"];
    let agent = Agent::start(&options);
    assert_eq!(ask(&agent, "/"), "down #in-recovery\n");
    assert_eq!(ask(&agent, "/replica"), "up ready 100%\n");
    assert_eq!(line(&agent, "/?lag=1MB"), "400 Bad Request");
    let check = OneCheck::run(&standby.dsn(), &["--root-path", "/primary"]);
    assert_eq!((check.code, check.line.as_str()), (1, "standby timeline 1: in-recovery"));
    let settings = [("dsn", standby.dsn()), ("root-path", "/replica".into()), ("max-lag", "1GB".into())];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let running = Front::Standalone.start_with(&settings);
    let reply = http::get(running.addr(), "/").expect("a reply");
    assert_eq!(reply.line(), "200 Standby", "not 206: that is the classic contract");
}
