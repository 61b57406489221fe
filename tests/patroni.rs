//! Beside a real Patroni: what its leader key says of a node, what the agent says, and what a new session can do there.

mod support;

use std::time::Instant;

use support::outage::watch;
use support::patroni::{Node, Patroni, patiently};
use support::peers::{Ring, line};
use support::{Agent, Frozen, Signal, eventually, secs, signal};

/// An agent that knows nobody.
#[track_caller]
fn alone(node: &Node) -> Agent {
    Agent::start(&["--dsn", &node.dsn()])
}

/// New sessions find a primary there, and write.
#[track_caller]
fn assert_primary(node: &Node) {
    assert_eq!(node.psql("SELECT pg_is_in_recovery()").as_deref(), Ok("f"));
    assert_eq!(node.write(), Ok(()));
}

/// Shown by `cargo test --test patroni -- --nocapture`; the page for those who come from Patroni quotes it.
#[expect(clippy::print_stderr, reason = "figures are for whoever runs the test")]
fn print(what: &str, figures: &str) {
    eprintln!("{what}: {figures}");
}

#[test]
fn the_old_primary_of_a_frozen_patroni_is_superseded_where_agents_know_each_other() {
    let patroni = Patroni::start();
    let [old, new] = &patroni.nodes;
    let ring = Ring::of(2);
    let (beside_old, beside_new) = (old.agent(&ring, 0, &[]), new.agent(&ring, 1, &[]));
    let (alone_old, alone_new) = (alone(old), alone(new));
    assert_eq!(line(&beside_old, "/primary"), "200 Primary");
    assert_eq!(line(&beside_new, "/primary"), "503 in-recovery");

    let frozen = Frozen::new(old.patroni_pid());
    let began = Instant::now();
    // Its key has to run out first.
    patiently("the other node is promoted", || new.write().is_ok());
    print("frozen Patroni", &format!("two primaries after {:.1} s", began.elapsed().as_secs_f64()));
    assert_primary(old);
    assert_primary(new);
    let silent = old.api("/primary");
    assert!(matches!(silent, Err(ureq::Error::Timeout(_))), "Patroni is frozen: {silent:?}");
    assert!(new.says_200("/primary"));

    eventually(secs(20), "the old primary is superseded", || {
        line(&beside_old, "/primary") == "503 superseded"
    });
    eventually(secs(20), "the new one is the primary", || line(&beside_new, "/primary") == "200 Primary");
    for path in ["/", "/primary", "/read-write", "/read-only"] {
        assert_eq!(line(&beside_old, path), "503 superseded", "{path}");
        assert_eq!(line(&beside_new, path), "200 Primary", "{path}");
        // Each is right about its node, and HAProxy has two primaries.
        assert_eq!(line(&alone_old, path), "200 Primary", "{path}");
        assert_eq!(line(&alone_new, path), "200 Primary", "{path}");
    }
    assert_primary(old);

    frozen.thaw();
    patiently("Patroni takes the old one back", || old.write().is_err());
    assert_eq!(beside_old.get("/primary").status, 503);
    assert_eq!(line(&beside_new, "/primary"), "200 Primary");
}

#[test]
fn primary_is_200_by_the_agent_only_where_a_new_session_can_write_whatever_the_leader_key_says() {
    let patroni = Patroni::start();
    let [first, second] = &patroni.nodes;
    let ring = Ring::of(2);
    let (beside_first, beside_second) = (first.agent(&ring, 0, &[]), second.agent(&ring, 1, &[]));
    assert!(second.says_200("/replica?replication_state=nonsense"), "Patroni ignores it");
    assert_eq!(line(&beside_second, "/replica?replication_state=nonsense"), "400 Bad Request");

    let outage = watch(first, &beside_first, || {
        patroni.switch_over();
        patiently("the second node leads", || second.write().is_ok());
        patiently("the first follows", || first.says_200("/replica"));
    });
    let refused = outage.first_refusal();
    outage.assert_ours_is_right(refused);
    print("switchover", &outage.figures(refused));

    let mut killed = Instant::now();
    let outage = watch(second, &beside_second, || {
        // Again where Patroni has started it before anybody saw it dead.
        patiently("a dead postmaster is seen", || {
            let alive = second.postmaster_pid().inspect(|_| killed = Instant::now());
            alive.into_iter().for_each(|pid| signal(pid, Signal::KILL));
            second.write().is_err() && beside_second.get("/primary").status == 503
        });
        patiently("Patroni starts it again", || second.write().is_ok());
    });
    outage.assert_ours_is_right(killed);
    print("killed postmaster", &outage.figures(killed));

    let mut frozen_at = Instant::now();
    let outage = watch(second, &beside_second, || {
        let frozen = Frozen::new(second.postmaster_pid().expect("it runs"));
        frozen_at = Instant::now();
        // Longer than the key lasts by itself: Patroni renews it, for it asks in a session that was open before.
        while frozen_at.elapsed() < secs(25) {
            let refused = second.write();
            assert!(refused.is_err(), "its postmaster is frozen");
            assert!(second.says_200("/primary"), "its leader key is there");
        }
        frozen.thaw();
    });
    outage.assert_ours_is_right(frozen_at);
    outage.assert_ours_was_seen("503 postmaster-not-answering");
    print("frozen postmaster", &outage.figures(frozen_at));
}
