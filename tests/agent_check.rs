//! HAProxy's agent-check: how long it waits for a question, and what holds it within bounds. (What it says to which
//! target on which front: tests/fronts.rs; what HAProxy makes of it: tests/agent_check_haproxy.rs.)

mod support;

use std::iter::repeat;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use support::agent_check::{AGENT_LISTEN, ask, beside, lag, percent};
use support::siege::Siege;
use support::wire::{End, PATIENCE, Received, Wire, talk};
use support::{Agent, Cluster, Frozen, OneShot, StopMode, agent, eventually, free_port, millis, secs};

/// After this long without a byte the agent takes what it has.
const PAUSE: std::time::Duration = millis(100);

/// What a busy machine may add.
const SLACK: std::time::Duration = millis(1500);

#[track_caller]
fn assert_says(received: &Received, line: &str) {
    assert_eq!((received.text(), received.end), (format!("{line}\n"), End::Fin));
}

#[test]
fn silence_and_a_line_without_its_end_are_answered_after_a_tenth_of_a_second() {
    let standby_dsn = "host=/nowhere";
    let agent = Agent::start(&[&AGENT_LISTEN[..], &["--dsn", standby_dsn]].concat());
    for (sent, line) in [
        ("", "down #connection-refused"),
        ("/primary", "down #connection-refused"),
        ("/liveness", "up ready 100%"),
    ] {
        let begun = Instant::now();
        let received = talk(agent.agent_check_addr(), sent);
        assert_says(&received, line);
        let took = begun.elapsed();
        assert!((PAUSE..PAUSE + SLACK).contains(&took), "{sent:?}: {took:?}");
    }
    // Whoever waited for the pause would do so each time.
    for line in ["/liveness\n", "\n", "/liveness\r\n"] {
        let took = (0..5).map(|_| talk(agent.agent_check_addr(), line).elapsed).min().expect("five attempts");
        assert!(took < PAUSE, "{line:?}: {took:?}");
    }
}

/// Half a target would be another question.
#[test]
fn a_line_in_pieces_is_put_together_as_long_as_they_keep_coming() {
    let agent = Agent::start(&AGENT_LISTEN);
    // Longer than the pause as a whole.
    let received = dripping(agent.agent_check_addr(), b"/liveness\n", PAUSE / 4);
    assert_says(&received, "up ready 100%");
    // The same with a PROXY header, whose first bytes could be an empty line, ahead of it.
    let line = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0/liveness\n";
    assert_says(&dripping(agent.agent_check_addr(), line, PAUSE / 10), "up ready 100%");
}

/// Sends a byte after each pause, until something comes back or there are no more of them, and says whether it came before
/// the last one. Nothing where a busy machine has made a pause of its own: that attempt does not count.
fn drip(wire: &mut Wire, bytes: impl IntoIterator<Item = u8>, pause: Duration) -> Option<bool> {
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    for byte in bytes {
        let is_answered = wire.wait_readable(pause);
        if !is_answered {
            let _ = wire.try_send([byte]);
        }
        longest = longest.max(last.elapsed());
        if is_answered {
            return (longest < PAUSE / 2).then_some(true);
        }
        last = Instant::now();
    }
    (longest < PAUSE / 2).then_some(false)
}

/// What comes back for a line that is sent so.
#[track_caller]
fn dripping(address: SocketAddr, line: &[u8], pause: Duration) -> Received {
    for _ in 0..5 {
        let mut wire = Wire::connect(address);
        if let Some(is_early) = drip(&mut wire, line.iter().copied(), pause) {
            assert!(!is_early, "answered too early");
            return wire.receive(PATIENCE);
        }
    }
    panic!("this machine cannot send a byte every {pause:?}");
}

#[test]
fn a_line_that_comes_byte_by_byte_and_has_no_end_is_refused_after_five_seconds() {
    let agent = Agent::start(&AGENT_LISTEN);
    let is_refused = |mut wire: Wire| {
        let begun = Instant::now();
        let slashes = repeat(b'/').take_while(|_| begun.elapsed() < PATIENCE);
        if drip(&mut wire, slashes, PAUSE / 4).is_none() {
            return false;
        }
        let answered = begun.elapsed();
        assert_says(&wire.receive(PATIENCE), "down #bad-request");
        assert!((millis(4500)..secs(7)).contains(&answered), "{answered:?}");
        true
    };
    let is_any = (0..5).any(|_| {
        // The pause of this one begins at once.
        let (mut one_shot, wire) = OneShot::with_client(&[], "protocol = agent\n");
        let are_refused = thread::scope(|scope| {
            let wires = [Wire::connect(agent.agent_check_addr()), wire];
            wires
                .map(|wire| scope.spawn(|| is_refused(wire)))
                .map(|thread| thread.join().expect("refused as it should be"))
        });
        assert_eq!(one_shot.wait().code(), Some(0));
        are_refused == [true; 2]
    });
    assert!(is_any, "this machine cannot send a byte every {:?}", PAUSE / 4);
}

#[test]
fn an_endless_line_is_refused_not_kept_and_no_reset_destroys_the_answer() {
    let siege = Siege::begin(&[]);
    let address = siege.agent.agent_check_addr();
    thread::scope(|scope| {
        for junk in [b'/', b'\0', 0xff, b'\r'].repeat(4) {
            let mut reading = Wire::connect(address);
            let mut writing = reading.second_handle();
            scope.spawn(move || writing.flood(&[junk; 65536], 32 << 20, secs(1)));
            scope.spawn(move || {
                let received = reading.receive(PATIENCE);
                assert_ne!(received.end, End::Open, "the connection ends");
                assert_eq!(received.text(), "down #bad-request\n");
            });
        }
    });
    siege.end();
}

// --- Who asks -------------------------------------------------------------------------------------------------

/// The crowd has an address of its own: where the house is full, the oldest of the largest crowd gives way, and with the
/// crowd's address that could be the well-behaved client, in the moment between its connection and its request.
#[test]
fn a_crowd_of_agent_checks_that_say_nothing_does_not_disturb_http() {
    let siege = Siege::begin(&[]);
    let address = siege.agent.agent_check_addr();
    let elsewhere = Ipv4Addr::new(127, 0, 0, 2);
    for _ in 0..3 {
        let crowd: Vec<Wire> = (0..200).map(|_| Wire::connect_from(elsewhere, address)).collect();
        siege.wait_for_checks(20);
        drop(crowd);
    }
    siege.end();
}

#[test]
fn agent_checks_that_never_read_or_close_are_let_go() {
    let mut siege = Siege::begin(&[]);
    let address = siege.agent.agent_check_addr();
    let crowd: Vec<Wire> = (0..50)
        .map(|_| {
            let mut wire = Wire::connect(address);
            wire.send("/liveness\n");
            wire
        })
        .collect();
    siege.wait_for_checks(20);
    siege.wait_for_footprint();
    drop(crowd);
    siege.finish();
}

/// It has less time than a head, but that does not make it the first to go.
#[test]
fn an_agent_check_that_says_nothing_outlives_older_idle_clients() {
    let agent = Agent::start(&[&AGENT_LISTEN[..], &["--max-connections", "8"]].concat());
    let mut crowd: Vec<Wire> = (0..8).map(|_| Wire::connect(agent.addr())).collect();
    crowd.last().expect("a crowd").wait_accepted();
    let mut wire = Wire::connect(agent.agent_check_addr());
    wire.wait_accepted();
    crowd.extend((0..4).map(|_| Wire::connect(agent.addr())));
    crowd.last().expect("a crowd").wait_accepted();
    assert_says(&wire.receive(PATIENCE), "down #connection-refused");
}

#[test]
fn only_allowed_addresses_get_an_answer() {
    let agent = Agent::start(&[&AGENT_LISTEN[..], &["--allow", "127.0.0.2"]].concat());
    for (client, expected) in [(1, ""), (2, "up ready 100%\n"), (3, "")] {
        let mut wire = Wire::connect_from(Ipv4Addr::new(127, 0, 0, client), agent.agent_check_addr());
        let _ = wire.try_send("/liveness\n");
        assert_eq!(wire.receive(PATIENCE).text(), expected, "127.0.0.{client}");
    }
}

#[test]
fn one_address_cannot_speak_both() {
    let address = format!("127.0.0.1:{}", free_port());
    let output = agent::command()
        .args(["--config", "/dev/null", "--listen", &address, "--agent-listen", &address])
        .output()
        .expect("run the agent");
    let line =
        format!("pgsqlchk: agent-listen and listen are both {address}: each needs an address of its own\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), line);
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn an_address_that_is_taken_names_the_option() {
    let first = Agent::start(&AGENT_LISTEN);
    let taken = first.agent_check_addr().to_string();
    let output = agent::command()
        .args(["--config", "/dev/null", "--listen", "127.0.0.1:0", "--agent-listen", &taken])
        .output()
        .expect("run the agent");
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        line.starts_with(&format!("pgsqlchk: cannot listen on {taken}: address already in use")),
        "{line}"
    );
    assert!(line.contains("--agent-listen chooses another") && line.lines().count() == 1, "{line}");
    assert_eq!(output.status.code(), Some(1));
}

// --- The answer -----------------------------------------------------------------------------------------------

#[test]
fn the_line_comes_by_the_deadline_and_says_what_hangs() {
    let primary = Cluster::primary();
    let agent = beside(&primary, &["--timeout", "500ms", "--knock-interval", "10ms"]);
    let is_up = || ask(&agent, "/primary") == "up ready 100%\n";
    eventually(secs(5), "it has logged in", is_up);
    let frozen = Frozen::new(primary.postmaster_pid());
    eventually(secs(5), "the knock is due", || ask(&agent, "") == "down #postmaster-not-answering\n");
    for line in ["/primary\n", "/health\n", ""] {
        let received = talk(agent.agent_check_addr(), line);
        assert_says(&received, "down #postmaster-not-answering");
        assert!(received.elapsed < millis(600) + SLACK, "{line:?}: {:?}", received.elapsed);
    }
    assert_eq!(ask(&agent, "/liveness"), "up ready 100%\n");
    frozen.thaw();
    eventually(secs(5), "it is up again", is_up);
}

#[test]
fn no_line_that_begins_after_a_promotion_says_standby() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let agent = beside(&standby, &[]);
    assert_eq!(ask(&agent, "/primary"), "down #in-recovery\n");
    primary.stop(StopMode::Fast);
    standby.promote();
    assert_eq!(ask(&agent, "/primary"), "up ready 100%\n");
    assert_eq!(ask(&agent, "/replica"), "down #not-in-recovery\n");
    standby.stop(StopMode::Fast);
    assert_eq!(ask(&agent, "/primary"), "down #connection-refused\n");
}

#[test]
fn standing_limits_hold_for_agent_checks_too() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let agent = beside(&standby, &["--max-lag", "16MB"]);
    assert_eq!(ask(&agent, "/replica"), "up ready 100%\n");
    lag(&primary, &standby, 8 << 20);
    for target in ["/replica", "/", "/replica?lag=32MB"] {
        assert!((1..=60).contains(&percent(&ask(&agent, target))), "{target}: {}", ask(&agent, target));
    }
    assert_eq!(ask(&agent, "/replica?lag=1MB"), "down #lag-exceeded\n");
    assert_eq!(ask(&agent, "/health"), "up ready 100%\n");
    primary.stop(StopMode::Immediate);
    eventually(secs(10), "the WAL receiver notices", || ask(&agent, "/replica") == "down #lag-unknown\n");
}

#[test]
fn who_waits_while_the_agent_stops_is_told_so() {
    let primary = Cluster::primary();
    let mut agent = beside(&primary, &["--timeout", "10s", "--knock-interval", "10ms"]);
    let _frozen = Frozen::new(primary.postmaster_pid());
    let mut waiting = None;
    eventually(secs(10), "a check waits for the frozen PostgreSQL", || {
        let mut wire = Wire::connect(agent.agent_check_addr());
        wire.send("/primary\n");
        wire.wait_consumed();
        let waits = !wire.wait_readable(millis(100));
        waiting = waits.then_some(wire);
        waits
    });
    assert_eq!(agent.terminate().code(), Some(0));
    assert_says(&waiting.expect("the one that waits").receive(PATIENCE), "down #agent-stopping");
}

#[test]
fn a_listener_for_agent_checks_is_named_in_the_log() {
    let agent = Agent::start(&AGENT_LISTEN);
    let address: SocketAddr = agent.agent_check_addr();
    assert!(agent.log().contains(&format!("listening on {address} (agent-check)\n")), "{}", agent.log());
    assert!(agent.log().contains(&format!("listening on {}\n", agent.addr())), "{}", agent.log());
    // Questions leave no line.
    let before = agent.log();
    for line in ["/liveness\n", "/nothing\n", "\0\n", ""] {
        let _ = talk(address, line);
    }
    let new = agent.log().replace(&before, "");
    assert!(new.lines().all(|line| line.contains("unavailable")), "{new}");
}
