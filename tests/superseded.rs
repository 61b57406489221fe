//! Two nodes that both say they are the primary, and what their agents make of it. psql on every node is the judge of what
//! the servers are.

mod support;

use support::agent_check::ask;
use support::one_check::OneCheck;
use support::peers::{Ring, assert_in_time, document, line, said, timed_line};
use support::{Agent, Cluster, Front, StopMode, eventually, http, secs, throughout};

const ROLE_PATHS: [&str; 4] = ["/", "/primary", "/read-write", "/read-only"];

/// The server says so itself.
#[track_caller]
fn assert_primary(server: &Cluster, timeline: &str) {
    assert_eq!(server.psql("SELECT pg_is_in_recovery()"), "f");
    let own = server.psql("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 8, 1)");
    assert_eq!(own, timeline);
}

/// A standby that has been promoted while its primary went on: they are on timelines 1 and 2.
fn split() -> (Cluster, Cluster) {
    let old = Cluster::primary();
    let new = Cluster::standby_of(&old);
    new.promote();
    assert_primary(&old, "1");
    assert_primary(&new, "2");
    (old, new)
}

#[track_caller]
fn assert_superseded(agent: &Agent) {
    for path in ROLE_PATHS {
        let expected = ("503 superseded".to_owned(), "No: superseded".to_owned());
        assert_eq!(said(agent, path), expected, "{path}");
    }
    assert_eq!(line(agent, "/replica"), "503 not-in-recovery");
    assert_eq!(line(agent, "/health"), "200 Primary", "this node alone");
    assert_eq!(line(agent, "/readiness"), "200 Primary");
}

#[test]
fn a_primary_that_was_left_behind_is_superseded_until_the_other_is_rebuilt() {
    let (old, new) = split();
    let ring = Ring::of(2);
    let beside_old = ring.start(0, &old, &["--agent-listen", "127.0.0.1:0"]);
    assert_eq!(line(&beside_old, "/primary"), "200 Primary", "nobody says otherwise");
    let beside_new = ring.start(1, &new, &[]);
    eventually(secs(10), "the old primary is superseded", || {
        line(&beside_old, "/primary") == "503 superseded"
    });
    assert_superseded(&beside_old);
    for path in ROLE_PATHS {
        assert_eq!(line(&beside_new, path), "200 Primary", "{path}");
    }
    assert_eq!(ask(&beside_old, "/primary"), "down #superseded\n");
    let status = document(&beside_old, "/status");
    assert_eq!((&status["role"], &status["reason"]), (&"primary".into(), &"superseded".into()));
    assert_eq!(
        document(&beside_old, "/node")["reason"],
        serde_json::Value::Null,
        "asked by nobody in circles"
    );

    // The witness is gone: what it has said sticks.
    drop(beside_new);
    for _ in 0..5 {
        assert_superseded(&beside_old);
    }
    new.stop(StopMode::Fast);
    let beside_new = ring.start(1, &new, &[]);
    eventually(secs(10), "its server is down", || document(&beside_new, "/node")["role"].is_null());
    eventually(secs(10), "it is heard to be down", || {
        document(&beside_old, "/cluster")["nodes"][1]["reason"] == "connection-refused"
    });
    assert_superseded(&beside_old);

    // The other one is given up and follows the old one.
    new.rebuild_as_standby_of(&old);
    new.start();
    assert_eq!(new.psql("SELECT pg_is_in_recovery()"), "t");
    eventually(secs(10), "the old one is the primary again", || {
        line(&beside_old, "/primary") == "200 Primary"
    });
    // The answer comes before its line in the log.
    beside_old.wait_for_log("superseded no more");
    let log = beside_old.log();
    let count = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(count("superseded: "), 1, "once, with by whom: {log}");
    assert_eq!(count("was seen on timeline 2, and this primary writes on 1"), 1, "{log}");
    assert_eq!(count("superseded no more"), 1, "{log}");
}

#[test]
fn a_standby_that_follows_the_promoted_node_is_witness_enough() {
    let old = Cluster::primary();
    let new = Cluster::standby_of(&old);
    let follower = Cluster::standby_of(&old);
    old.stop(StopMode::Fast);
    new.promote();
    follower.psql(&format!(
        "ALTER SYSTEM SET primary_conninfo = 'host={} port={} user=postgres'",
        new.socket_dir().display(),
        new.port()
    ));
    follower.restart(StopMode::Fast);
    let ring = Ring::of(3);
    let follows = ring.start(2, &follower, &[]);
    eventually(secs(20), "it follows timeline 2", || document(&follows, "/node")["timeline"] == 2);
    new.stop(StopMode::Fast);
    eventually(secs(20), "its receiver goes", || {
        follower.psql("SELECT count(*) FROM pg_stat_wal_receiver WHERE received_tli > 0") == "0"
    });
    assert_eq!(document(&follows, "/node")["timeline"], 2, "its postmaster has seen it");
    // The old primary comes back as it was, and so does its agent, which remembers nothing.
    old.start();
    assert_primary(&old, "1");
    let mut beside_old = None;
    // At its first check.
    assert_in_time("503 superseded", || {
        drop(beside_old.take());
        timed_line(beside_old.insert(ring.start(0, &old, &[])), "/primary")
    });
    let beside_old = beside_old.expect("an agent");
    assert_eq!(document(&beside_old, "/cluster")["condition"], "superseded-primary");
}

/// The promoted node is gone, and who followed it crashes: what that one knows then is its last restartpoint.
#[test]
fn a_follower_that_crashes_takes_nothing_back() {
    let old = Cluster::primary();
    let new = Cluster::standby_of(&old);
    let follower = Cluster::standby_of(&old);
    // It stays attached through the promotion, and nothing is written that would note the timeline.
    let place = new.socket_dir().display();
    follower.psql(&format!(
        "ALTER SYSTEM SET primary_conninfo = 'host={place} port={} user=postgres'",
        new.port()
    ));
    follower.psql("ALTER SYSTEM SET bgwriter_lru_maxpages = 0");
    follower.psql("SELECT pg_reload_conf()");
    let ring = Ring::of(3);
    let beside_old = ring.start(0, &old, &[]);
    let follows = ring.start(2, &follower, &[]);
    new.promote();
    eventually(secs(20), "it follows timeline 2", || document(&follows, "/node")["timeline"] == 2);
    assert_eq!(document(&follows, "/node")["receives"], true);
    eventually(secs(10), "the old one is superseded", || {
        line(&beside_old, "/read-write") == "503 superseded"
    });
    new.stop(StopMode::Immediate);
    follower.stop(StopMode::Immediate);
    follower.start();
    eventually(secs(10), "it answers again", || document(&follows, "/node")["role"] == "standby");
    let node = document(&follows, "/node");
    assert_eq!(
        (&node["timeline"], &node["receives"]),
        (&1.into(), &false.into()),
        "it has forgotten: {node}"
    );
    throughout(secs(3), || assert_eq!(line(&beside_old, "/read-write"), "503 superseded"));
    // It is given up, and follows the old one.
    follower.stop(StopMode::Fast);
    follower.rebuild_as_standby_of(&old);
    follower.start();
    eventually(secs(20), "the old one is the primary", || line(&beside_old, "/read-write") == "200 Primary");
}

#[test]
fn two_primaries_on_one_timeline_are_none_until_one_drains() {
    let first = Cluster::primary();
    let second = Cluster::standby_of(&first);
    let third = Cluster::standby_of(&first);
    first.stop(StopMode::Fast);
    second.promote();
    third.promote();
    assert_primary(&second, "2");
    assert_primary(&third, "2");
    let ring = Ring::of(3);
    let folder = support::folder::Folder::new("drain");
    let file = folder.path().join("drain").display().to_string();
    let beside_second = ring.start(1, &second, &[]);
    let beside_third = ring.start(2, &third, &["--drain-file", &file]);
    for agent in [&beside_second, &beside_third] {
        eventually(secs(10), "both are refused", || line(agent, "/primary") == "503 two-primaries");
        for path in ROLE_PATHS {
            let expected = ("503 two-primaries".to_owned(), "No: two-primaries".to_owned());
            assert_eq!(said(agent, path), expected, "{path}");
        }
        assert_eq!(document(agent, "/cluster")["condition"], "two-primaries");
    }

    folder.write("drain", "");
    eventually(secs(10), "the other one holds", || line(&beside_second, "/primary") == "200 Primary");
    assert_eq!(line(&beside_third, "/primary"), "404 draining");
    assert_eq!(document(&beside_second, "/cluster")["condition"], "one-primary");
    std::fs::remove_file(&file).expect("remove the drain file");
    eventually(secs(10), "both are refused again", || {
        line(&beside_second, "/primary") == "503 two-primaries"
    });
    // It sticks: the other one is silent, and nobody has decided.
    drop(beside_third);
    assert_eq!(line(&beside_second, "/primary"), "503 two-primaries");
}

#[test]
fn the_homes_that_remember_nothing_ask_within_the_check() {
    let (old, new) = split();
    let ring = Ring::of(2);
    let beside_new = ring.start(1, &new, &[]);
    eventually(secs(10), "it has looked", || document(&beside_new, "/node")["role"] == "primary");
    let peers = ring.peers();
    let peers: Vec<&str> = peers.iter().map(String::as_str).collect();
    assert_in_time((1, "primary timeline 1: superseded".to_owned()), || {
        let check = OneCheck::run(&old.dsn(), &[&["--target", "/primary"], &peers[..]].concat());
        ((check.code, check.line), check.elapsed)
    });
    let check = OneCheck::run(&new.dsn(), &[&["--target", "/primary"], &peers[..]].concat());
    assert_eq!((check.code, check.line.as_str()), (0, "primary timeline 2"));
    let address = ring.address(1);
    for front in Front::ALL {
        let expected = ("503 superseded".to_owned(), "No: superseded\n".to_owned());
        assert_in_time(expected, || {
            let running = front.start_with(&[("dsn", &old.dsn()), ("peer", &address)]);
            let reply =
                http::get(running.addr(), "/primary").unwrap_or_else(|error| panic!("{front:?}: {error}"));
            ((reply.line(), reply.body), reply.elapsed)
        });
    }
}

#[test]
fn another_clusters_agent_does_not_count() {
    let (one, other) = (Cluster::primary(), Cluster::foreign_primary());
    other.psql("SELECT pg_switch_wal()");
    let ring = Ring::of(2);
    let beside_one = ring.start(0, &one, &[]);
    let _beside_other = ring.start(1, &other, &[]);
    eventually(secs(10), "the other one is heard", || {
        document(&beside_one, "/cluster")["nodes"][1]["reached"] == true
    });
    let cluster = document(&beside_one, "/cluster");
    assert_eq!(
        (&cluster["condition"], &cluster["nodes"][1]["foreign"]),
        (&"one-primary".into(), &true.into())
    );
    assert_eq!(line(&beside_one, "/primary"), "200 Primary");
    beside_one.wait_for_log("is of another cluster, and does not count");
    assert_eq!(beside_one.log().matches("is of another cluster").count(), 1);
}
