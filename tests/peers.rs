//! Peers that are silent, slow, hostile or oneself: what they cost a check, and what they can't do to it.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::impostor::{FullQueue, answering, closing};
use support::one_check::OneCheck;
use support::peers::{Ring, assert_in_time, document, line, said, timed_line};
use support::servers::servers;
use support::{
    Agent, Cluster, Front, Frozen, StopMode, agent, eventually, folder::Folder, free_port, http, millis, secs,
};

/// What a check waits for peers at most, and what a busy machine may add to it.
const WAIT: Duration = millis(250);
const SLACK: Duration = millis(1000);

fn with_peers(server: &Cluster, peers: &[String], options: &[&str]) -> Agent {
    Agent::start_with(|command| {
        command.args(["--dsn", &server.dsn()]).args(options);
        command.args(peers.iter().map(|peer| format!("--peer={peer}")));
    })
}

#[test]
fn a_peer_that_swallows_everything_costs_one_check_a_quarter_of_a_second() {
    let servers = servers();
    let (_full, black_hole) = FullQueue::tcp();
    let silent = answering(b"");
    for peer in [black_hole, silent] {
        // Its questions last as long as the timeout: several checks find the first one under way.
        let agent = with_peers(
            &servers.primary,
            &[peer.to_string()],
            &["--peer-interval", "50ms", "--timeout", "3s"],
        );
        assert_eq!(line(&agent, "/health"), "200 Primary", "it has logged in");
        let first = agent.get("/primary");
        assert_eq!(first.line(), "200 Primary", "nobody says otherwise");
        assert!((WAIT - millis(10)..WAIT + SLACK).contains(&first.elapsed), "{peer}: {:?}", first.elapsed);
        let later = || {
            let mut later: Vec<Duration> = (0..40)
                .map(|_| {
                    thread::sleep(millis(100));
                    let reply = agent.get("/primary");
                    assert_eq!(reply.line(), "200 Primary");
                    reply.elapsed
                })
                .collect();
            later.sort();
            later
        };
        // A busy machine delays a check; who waits anew with each question does so in every four seconds.
        let mut seen = Vec::new();
        let is_free = (0..3).any(|_| {
            seen = later();
            seen[20] < WAIT / 2 && seen[39] < WAIT
        });
        assert!(is_free, "half of them do not wait, and none waits once more: {seen:?}");
        let cluster = document(&agent, "/cluster");
        assert_eq!(cluster["nodes"][1]["reached"], false);
        assert_eq!(cluster["nodes"][1]["age_seconds"], serde_json::Value::Null);
    }
}

#[test]
fn who_needs_no_news_waits_for_nobody() {
    let servers = servers();
    for path in ["/health", "/readiness", "/liveness", "/node", "/replica", "/"] {
        // Each time an agent that has not learnt yet that its peer is silent.
        let took = (0..3).map(|_| {
            let peer = answering(b"").to_string();
            let agent = with_peers(&servers.standby, &[peer], &["--peer-interval", "10ms"]);
            assert!(line(&agent, "/health").starts_with("200"));
            agent.get(path).elapsed
        });
        let took: Vec<Duration> = took.collect();
        assert!(took.iter().any(|took| *took < WAIT), "{path} of a standby: {took:?}");
    }
}

#[test]
fn a_primary_waits_in_order_with_all_that_share_its_lane() {
    let servers = servers();
    let agent = with_peers(&servers.primary, &[answering(b"").to_string()], &["--workers", "1"]);
    let addr = agent.addr();
    let asked: Vec<_> = (0..40)
        .map(|number| {
            let path = ["/primary", "/replica", "/status", "/health"][number % 4];
            thread::spawn(move || support::http::get(addr, path).expect("an answer"))
        })
        .collect();
    for reply in asked.into_iter().map(|asked| asked.join().expect("no panic")) {
        assert!(reply.status == 200 || reply.line() == "503 not-in-recovery", "{reply:?}");
        assert!(reply.elapsed < WAIT + SLACK, "{reply:?}");
    }
}

/// Answers each request with these bytes, and closes.
fn saying(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
    let addr = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for mut stream in listener.incoming().take(10_000).flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&answer);
        }
    });
    addr
}

/// Sends a head and then bytes without end.
fn flooding() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
    let addr = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for mut stream in listener.incoming().take(10_000).flatten() {
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n");
                let chunk = [b' '; 65536];
                // Bounded by far more than the agent's deadline.
                for _ in 0..100_000 {
                    if stream.write_all(&chunk).is_err() {
                        return;
                    }
                }
            });
        }
    });
    addr
}

fn with_body(status: &str, fields: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// What would supersede this node, if it were believed.
fn claim(server: &Cluster) -> String {
    let system = server.psql("SELECT system_identifier FROM pg_control_system()");
    format!(
        "{{\"agent\":\"x\",\"role\":\"primary\",\"system_identifier\":\"{system}\",\"timeline\":99,\
         \"draining\":false}}"
    )
}

#[test]
fn junk_is_no_evidence_and_costs_bounded_memory_and_time() {
    let servers = servers();
    let claim = claim(&servers.primary);
    let believed = saying(with_body("200 OK", "", &claim));
    let redirected = format!("Location: http://{believed}/node\r\n");
    let padded = format!("{}{claim}", " ".repeat(65 * 1024));
    let long_head = format!("X: {}\r\n", "x".repeat(16 * 1024));
    let peers = [
        saying(with_body("302 Found", &redirected, "")),
        saying(with_body("503 Service Unavailable", "", &claim)),
        saying(with_body("200 OK", "", &padded)),
        saying(with_body("200 OK", &long_head, &claim)),
        saying(with_body("200 OK", "", &claim.replace("99", "-99"))),
        saying(with_body("200 OK", "", "<html>")),
        saying(claim.clone().into_bytes()),
        saying(Vec::new()),
        saying(vec![0xff; 100_000]),
        flooding(),
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
        closing(),
    ];
    let peers: Vec<String> = peers.iter().map(SocketAddr::to_string).collect();
    let agent = with_peers(&servers.primary, &peers, &["--peer-interval", "10ms", "--timeout", "1s"]);
    for _ in 0..30 {
        let reply = agent.get("/primary");
        assert_eq!(reply.line(), "200 Primary");
        assert!(reply.elapsed < WAIT + SLACK, "{reply:?}");
    }
    let cluster = document(&agent, "/cluster");
    let nodes = cluster["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.len(), 1 + peers.len());
    assert!(nodes[1..].iter().all(|node| node["reached"] == false), "{cluster:#}");
    assert!(agent.peak_rss_kib() < 40 * 1024, "{} KiB", agent.peak_rss_kib());

    // The judge of this test: without what is wrong with them, the words would have counted.
    let agent = with_peers(&servers.primary, &[believed.to_string()], &[]);
    eventually(secs(10), "its words count", || line(&agent, "/primary") == "503 superseded");
}

#[test]
fn a_primary_that_too_few_hear_cannot_be_verified() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let ring = Ring::of(2);
    let beside_primary = ring.start(0, &primary, &["--min-peers", "1", "--peer-interval", "100ms"]);
    let isolated = ("503 isolated".to_owned(), "Down: isolated".to_owned());
    for path in ["/", "/primary", "/read-write", "/read-only"] {
        assert_eq!(said(&beside_primary, path), isolated, "{path}");
    }
    assert_eq!(line(&beside_primary, "/health"), "200 Primary");
    let beside_standby = ring.start(1, &standby, &["--min-peers", "1"]);
    eventually(secs(10), "it is heard", || line(&beside_primary, "/primary") == "200 Primary");
    assert_eq!(line(&beside_standby, "/replica"), "200 Standby");
    // Any answer counts, also that PostgreSQL is down.
    standby.stop(StopMode::Fast);
    eventually(secs(10), "the standby is down", || line(&beside_standby, "/health").starts_with("503"));
    assert_in_time("200 Primary", || timed_line(&beside_primary, "/primary"));
    // A frozen agent is heard no more, and when it goes on, it is.
    let frozen = Frozen::new(beside_standby.pid());
    eventually(secs(10), "it is silent", || said(&beside_primary, "/primary") == isolated);
    frozen.thaw();
    eventually(secs(10), "it is heard again", || line(&beside_primary, "/primary") == "200 Primary");
    beside_primary.wait_for_log("isolated no more");
}

/// The peer's agent had no answer before its own deadline, which is longer than anybody waits for it.
#[test]
fn a_peer_whose_postgresql_hangs_answers_all_the_same() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    for front in [Front::Standalone, Front::XinetdNoWait] {
        let beside_standby = front.start(&standby.dsn());
        let peer = beside_standby.addr().to_string();
        let agent = with_peers(&primary, &[peer], &["--min-peers", "1"]);
        eventually(secs(10), "the peer is heard", || line(&agent, "/read-write") == "200 Primary");
        let frozen = Frozen::new(standby.postmaster_pid());
        // For longer than words from before are good for. On a busy machine a question may come too late.
        let mut since = Instant::now();
        eventually(secs(60), "it is heard for four seconds without a break, and has seen nothing", || {
            thread::sleep(millis(100));
            let node = &document(&agent, "/cluster")["nodes"][1];
            let is_heard = node["reached"] == true && node["role"] == Value::Null;
            if !is_heard || line(&agent, "/read-write") != "200 Primary" {
                since = Instant::now();
            }
            since.elapsed() > secs(4)
        });
        // Who does not say for how long he waits is told as much as the deadline allows.
        let begun = Instant::now();
        let node = http::get(beside_standby.addr(), "/node").expect("a reply").body;
        assert!(node.contains("\"role\":null") && begun.elapsed() > secs(1), "{front:?}: {node}");
        frozen.thaw();
    }
}

#[test]
fn an_agent_knows_itself_among_its_peers() {
    let servers = servers();
    let port = free_port();
    let own = format!("127.0.0.1:{port}");
    let agent = with_peers(&servers.primary, std::slice::from_ref(&own), &["--listen", &own]);
    eventually(secs(10), "it says so", || {
        assert_eq!(line(&agent, "/primary"), "200 Primary");
        agent.log().contains("each --peer is this agent itself")
    });
    let cluster = document(&agent, "/cluster");
    assert_eq!(cluster["nodes"].as_array().map(Vec::len), Some(1));
    assert_eq!(cluster["nodes"][0]["address"], own);
    assert_eq!(cluster["condition"], "one-primary");
    // A second agent beside the same server is no second primary either, nor are homes with a process per check.
    let second = with_peers(&servers.primary, std::slice::from_ref(&own), &[]);
    for _ in 0..3 {
        assert_eq!(line(&second, "/primary"), "200 Primary");
    }
    let check = OneCheck::run(&servers.primary.dsn(), &["--target", "/primary", "--peer", &own]);
    assert_eq!((check.code, check.line.as_str()), (0, "primary timeline 1"));
}

/// `pgsqlchk` with these arguments.
fn run(arguments: &[&str]) -> Output {
    let home = Folder::new("arguments");
    let config = home.write("pgsqlchk.conf", "");
    let mut command = agent::command();
    command.env("HOME", home.path()).args(arguments).arg("--config").arg(config).stdin(Stdio::null());
    command.output().expect("run the agent")
}

#[test]
fn what_is_no_peer_is_one_line_and_exit_code_3() {
    let seventeen: Vec<String> = (1..=17).map(|number| format!("--peer=node{number}:1")).collect();
    let seventeen: Vec<&str> = seventeen.iter().map(String::as_str).collect();
    let table: &[(&[&str], &str)] = &[
        (&["--peer", "node1"], "--peer \"node1\": expected http://HOST:PORT or HOST:PORT"),
        (&["--peer", "http://node1"], "--peer \"http://node1\": expected http://HOST:PORT or HOST:PORT"),
        (
            &["--peer", "http://node1:1/node"],
            "--peer \"http://node1:1/node\": a peer has no path: it is asked for /node",
        ),
        (
            &["--peer", "http://a:s3cret@node1:1"],
            "--peer: a peer has neither user nor password: give HOST:PORT alone",
        ),
        (&seventeen, "--peer \"node17:1\": at most 16 peers"),
        (
            &["--peer", "node1:1", "--peer", "http://NODE1:1"],
            "--peer \"http://NODE1:1\": the peer is given twice",
        ),
        (
            &["--peer", "https://node1:1"],
            "--peer \"https://node1:1\": not in this build, install pgsqlchk-tls (or use http:// on a trusted network)",
        ),
        (&["--peer-interval", "9ms"], "--peer-interval \"9ms\": expected 10ms to 1h"),
        (&["--min-peers", "17"], "--min-peers \"17\": expected a whole number from 0 to 16"),
        (
            &["--min-peers", "2", "--peer", "node1:1"],
            "min-peers is 2, and peer names only 1: no primary could ever be verified",
        ),
        (&["cluster"], "pgsqlchk cluster needs at least one --peer, here or in the configuration file"),
    ];
    for (arguments, expected) in table {
        let output = run(arguments);
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(stderr, format!("pgsqlchk: {expected}\n"), "{arguments:?}");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0), "{arguments:?}");
    }
}
