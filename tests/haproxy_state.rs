//! What a real HAProxy says of a server with its checks (`http-check send-state`): on `/status`, its page and `/metrics`,
//! and what whoever else may ask can make of it.

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use postgres::{Client, NoTls};
use serde_json::Value;
use support::agent::PASS_STDIN;
use support::folder::Folder;
use support::pages::{page, table};
use support::servers::servers;
use support::wire::{PATIENCE, Wire};
use support::{Agent, Cluster, Haproxy, OneShot, eventually, free_port, http, secs};

const SOON: std::time::Duration = secs(10);

/// A pool of one server, open on a port.
fn pool(name: &str, port: u16, cluster: &Cluster, check: &str) -> String {
    format!(
        "listen {name}\n    bind 127.0.0.1:{port}\n    option httpchk OPTIONS /read-only\n    http-check send-state\n    \
         server node1 127.0.0.1:{} check inter 100ms {check}\n",
        cluster.port()
    )
}

/// HAProxy of this name.
fn balancer(node: &str, pools: &str) -> Haproxy {
    Haproxy::start(&format!("global\n    node {node}\n{pools}"))
}

fn connect(port: u16) -> Client {
    let dsn = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres connect_timeout=5");
    Client::connect(&dsn, NoTls).expect("a session through HAProxy")
}

/// What the agent has heard.
fn heard(addr: SocketAddr) -> Vec<Value> {
    let reply = http::get(addr, "/status").expect("a reply");
    let document: Value = serde_json::from_str(&reply.body).expect("JSON");
    document["haproxy"].as_array().expect("a list").clone()
}

/// Node, pool and sessions of each.
fn sessions(addr: SocketAddr) -> Vec<(String, String, u64)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let heard = heard(addr);
    let said = heard.iter().map(|said| {
        (text(&said["node"]), text(&said["pool"]), said["sessions"].as_u64().unwrap_or(u64::MAX))
    });
    said.collect()
}

#[test]
fn two_haproxys_with_two_pools_each_are_shown_with_the_sessions_they_have() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    let ports: [u16; 4] = std::array::from_fn(|_| free_port());
    let check = format!("port {}", agent.addr().port());
    let pools =
        |writes, reads| pool("Writes", writes, &primary, &check) + &pool("Reads", reads, &primary, &check);
    let _lb1 = balancer("lb1", &pools(ports[0], ports[1]));
    let lb2 = balancer("lb2", &pools(ports[2], ports[3]));
    let _clients: Vec<Client> = [0, 1, 1, 3, 3, 3].into_iter().map(|number| connect(ports[number])).collect();
    let expected = [("lb1", "Reads", 2), ("lb1", "Writes", 1), ("lb2", "Reads", 3), ("lb2", "Writes", 0)];
    let expected = expected.map(|(node, pool, sessions)| (node.to_owned(), pool.to_owned(), sessions));
    eventually(SOON, "all four say what they have", || sessions(agent.addr()) == expected);

    // A server begins as one that the next check would take out.
    eventually(SOON, "checks have passed", || heard(agent.addr())[2]["state"] == "UP");
    let said = &heard(agent.addr())[2];
    let field = |name: &str| said[name].clone();
    assert_eq!([field("server"), field("state"), field("address")], ["node1", "UP", "127.0.0.1"], "{said}");
    assert_eq!([field("pool_sessions"), field("queue")], [3, 0], "{said}");
    assert_eq!(field("up"), true, "{said}");
    assert!(said["age_ms"].as_u64().is_some_and(|age| age < 5000), "{said}");

    let metrics = agent.get("/metrics").body;
    let labels = "{node=\"lb2\",pool=\"Reads\",server=\"node1\",address=\"127.0.0.1\"}";
    for (name, value) in [("up", 1), ("sessions", 3)] {
        assert!(metrics.contains(&format!("\npgsqlchk_haproxy_{name}{labels} {value}\n")), "{metrics}");
    }
    let shown = agent.ask(b"GET /status HTTP/1.1\r\nAccept: text/html\r\n\r\n").body;
    assert!(
        shown.contains("<td>lb2<small>127.0.0.1</small></td><td>Reads/node1</td><td>UP</td><td>3 of 3</td>"),
        "{shown}"
    );

    let names: Vec<&String> = said.as_object().expect("an object").keys().collect();
    let rows = table(&page("docs/monitoring.md"), "| field of `haproxy` | type | meaning |");
    let mut documented: Vec<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    documented.sort_unstable();
    assert_eq!(names, documented, "docs/monitoring.md (right)");

    // HAProxy's own word for what it has is the judge.
    assert_eq!(lb2.server("Reads", "node1").sessions, "3");
}

/// The state is that of the check before, which the agent has answered.
#[test]
fn a_server_that_drains_or_is_down_is_shown_so() {
    let primary = Cluster::primary();
    let folder = Folder::new("drain");
    let drain_file = folder.path().join("drain").display().to_string();
    let agent = Agent::start(&[
        "--dsn",
        &primary.dsn(),
        "--drain-file",
        &drain_file,
        "--agent-listen",
        "127.0.0.1:0",
    ]);
    let check = format!("port {} fall 2 rise 2", agent.addr().port());
    let drains = pool("Drains", free_port(), &primary, &check)
        .replace("send-state", "send-state\n    http-check disable-on-404");
    let told = format!(
        "port {} agent-check agent-port {} agent-inter 100ms",
        agent.addr().port(),
        agent.agent_check_addr().port()
    );
    let told = pool("Told", free_port(), &primary, &told).replace("/read-only", "/health");
    let _haproxy = balancer("lb1", &(drains + &pool("Falls", free_port(), &primary, &check) + &told));
    let states = || {
        let said = heard(agent.addr()).into_iter();
        said.map(|said| (said["state"].as_str().unwrap_or_default().to_owned(), said["up"] == true))
            .collect::<Vec<_>>()
    };
    let of = |states: [(&str, bool); 3]| states.map(|(state, takes)| (state.to_owned(), takes));
    eventually(SOON, "all are up", || states() == of([("UP", true); 3]));
    folder.write("drain", "");
    // HAProxy does not tell that an agent-check has drained it.
    eventually(SOON, "the state follows", || {
        states() == of([("NOLB", false), ("DOWN", false), ("UP", true)])
    });
    let metrics = agent.get("/metrics").body;
    let ups = metrics.lines().filter_map(|line| line.strip_prefix("pgsqlchk_haproxy_up{")?.rsplit_once(' '));
    assert_eq!(ups.map(|(_, value)| value).collect::<Vec<_>>(), ["0", "0", "1"], "{metrics}");
}

#[test]
fn checks_with_a_proxy_header_and_over_a_unix_socket_are_understood() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    let check = format!("port {} check-send-proxy", agent.addr().port());
    let pools = pool("First", free_port(), &primary, &check)
        + &pool("Second", free_port(), &primary, &format!("{check} send-proxy-v2"));
    let _haproxy = balancer("lb1", &pools);
    let expected = ["First", "Second"].map(|pool| ("lb1".to_owned(), pool.to_owned(), 0));
    eventually(SOON, "both are heard", || sessions(agent.addr()) == expected);

    let folder = Folder::new("socket");
    let path = folder.path().join("http.sock");
    let listener = UnixListener::bind(&path).expect("bind");
    let (dsn, config) = (primary.dsn(), folder.write("pgsqlchk.conf", ""));
    let mut command = std::process::Command::new(PASS_STDIN[0]);
    command
        .args(&PASS_STDIN[1..])
        .arg(support::agent::program())
        .args(["--dsn", &dsn, "--config"])
        .arg(config);
    command
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("start the agent");
    let unix = format!(
        "backend Unix\n    option httpchk\n    http-check send-state\n    server node1 unix@{} check inter 100ms\n",
        path.display()
    );
    let _haproxy = balancer("lb2", &unix);
    let ask = || {
        use std::io::{Read, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(&path).ok()?;
        stream.write_all(b"GET /status HTTP/1.0\r\n\r\n").ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).ok()?;
        serde_json::from_str::<Value>(reply.split_once("\r\n\r\n")?.1).ok()
    };
    let said = || ask().map(|document| document["haproxy"][0].clone());
    let is_heard =
        |said: &Value| said["node"] == "lb2" && said["pool"] == "Unix" && said["address"].is_null();
    let begun = std::time::Instant::now();
    let mut last = None;
    while begun.elapsed() < SOON && !last.as_ref().is_some_and(is_heard) {
        last = said();
        std::thread::sleep(support::millis(20));
    }
    support::signal(child.id(), support::Signal::TERM);
    let _ = child.wait();
    assert!(last.as_ref().is_some_and(is_heard), "{last:?}");
}

const PLAIN: &str = "UP; name=pool/node1; node=lb1; weight=1/1; scur=1/2; qcur=0";

/// A check with these header lines, from this address.
fn check_from(source: Ipv4Addr, addr: SocketAddr, lines: &str) -> String {
    let mut wire = Wire::connect_from(source, addr);
    wire.send(format!("OPTIONS / HTTP/1.0\r\n{lines}\r\n"));
    wire.receive(PATIENCE).text()
}

fn check(agent: &Agent, state: &str) -> String {
    check_from(Ipv4Addr::LOCALHOST, agent.addr(), &format!("X-Haproxy-Server-State: {state}\r\n"))
}

#[test]
fn forged_and_hostile_headers_change_no_answer_stay_few_and_are_never_in_the_log() {
    let servers = servers();
    let mut agent = Agent::start(&["--dsn", &servers.primary.dsn(), "--log-level=debug"]);
    let plain = check_from(Ipv4Addr::LOCALHOST, agent.addr(), "");
    assert!(plain.starts_with("HTTP/1.1 200 Primary\r\n"), "{plain}");
    for (part, other) in [
        ("lb1", "<script>s3cret</script>"),
        ("lb1", "s3cret\"quoted\""),
        ("lb1", "s3cret&amp;"),
        ("lb1", "s3cret\u{e9}"),
        ("lb1", &format!("s3cret{}", "n".repeat(80))),
        ("qcur=0", &format!("qcur=0{}", "; s3cret=1".repeat(700))),
        ("UP", "s3cret"),
        ("scur=1/2", "scur=s3cret/2"),
        ("; node=lb1", ""),
    ] {
        assert_eq!(check(&agent, &PLAIN.replacen(part, other, 1)), plain, "{other}");
        assert_eq!(heard(agent.addr()), [] as [Value; 0], "{other}");
    }
    // No header of HTTP has these, whatever its name.
    for control in ["\u{1}", "\u{0}", "\r"] {
        let reply = check(&agent, &PLAIN.replacen("lb1", &format!("s3cret{control}"), 1));
        assert!(reply.starts_with("HTTP/1.1 400 "), "{reply}");
    }
    let twice = format!("X-Haproxy-Server-State: {PLAIN}\r\n").repeat(2);
    assert_eq!(check_from(Ipv4Addr::LOCALHOST, agent.addr(), &twice), plain);
    assert_eq!(heard(agent.addr()), [] as [Value; 0]);

    for number in 0..40 {
        assert_eq!(check(&agent, &PLAIN.replacen("lb1", &format!("s3cret{number:02}"), 1)), plain);
    }
    let names: Vec<String> = sessions(agent.addr()).into_iter().map(|(node, ..)| node).collect();
    let expected: Vec<String> = (8..40).map(|number| format!("s3cret{number:02}")).collect();
    assert_eq!(names, expected);
    let metrics = agent.get("/metrics").body;
    assert_eq!(metrics.matches("\npgsqlchk_haproxy_sessions{").count(), 32);
    agent.terminate();
    let log = agent.log();
    assert!(!log.contains("s3cret"), "{log}");
}

#[test]
fn who_may_not_ask_is_not_heard() {
    let servers = servers();
    let agent = Agent::start(&["--dsn", &servers.primary.dsn(), "--allow", "127.0.0.1"]);
    let line = format!("X-Haproxy-Server-State: {PLAIN}\r\n");
    assert_eq!(check_from(Ipv4Addr::new(127, 0, 0, 2), agent.addr(), &line), "");
    assert_eq!(heard(agent.addr()), [] as [Value; 0]);
    assert!(check_from(Ipv4Addr::LOCALHOST, agent.addr(), &line).contains("200 Primary"));
    assert_eq!(sessions(agent.addr()), [("lb1".to_owned(), "pool".to_owned(), 1)]);
}

#[test]
fn a_process_for_each_check_remembers_nothing() {
    let servers = servers();
    let (_shot, mut wire) = OneShot::with_client(&[], &format!("dsn = {}\n", servers.primary.dsn()));
    wire.send(format!("GET /status HTTP/1.1\r\nX-Haproxy-Server-State: {PLAIN}\r\n\r\n"));
    let text = wire.receive(PATIENCE).text();
    assert!(text.contains("\"role\": \"primary\"") && text.contains("\"haproxy\": []"), "{text}");
}
