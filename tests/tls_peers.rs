//! Peers that are asked over TLS: who is believed, and what those who are not, or who never come to the point, cost. What
//! speaks TLS in front of the other agent is HAProxy, and curl says what it makes of the same certificate.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use support::certificates::{Authority, EXPIRED, Issued, NOT_YET, Wish};
use support::folder::Folder;
use support::haproxy::Haproxy;
use support::impostor::answering;
use support::peers::{document, line};
use support::servers::servers;
use support::{Agent, Cluster, Signal, agent, eventually, free_port, millis, secs};

/// HAProxy before an agent: it speaks TLS and passes on what is asked.
struct Front {
    _haproxy: Haproxy,
    folder: Folder,
    port: u16,
}

impl Front {
    /// Shows this certificate; `more` is what else its `bind` line says.
    fn before(agent: SocketAddr, shown: &Issued, more: &str) -> Front {
        let (folder, port) = (Folder::new("front"), free_port());
        let both = [&shown.certificate, &shown.key].map(|path| fs::read_to_string(path).expect("a PEM file"));
        let pem = folder.write("both.pem", &both.concat());
        let sections = format!(
            "listen front\n    mode http\n    bind 127.0.0.1:{port} ssl crt {} {more}\n    server agent {agent}\n",
            pem.display()
        );
        Front { _haproxy: Haproxy::start(&sections), folder, port }
    }

    fn peer(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// What curl says to the same certificate: whether it got an answer.
    fn is_believed_by_curl(&self, authority: &Path, own: Option<&Issued>) -> bool {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--max-time", "10", "--output", "/dev/null", "--cacert"]);
        curl.arg(authority).arg(format!("{}/node", self.peer()));
        if let Some(own) = own {
            curl.arg("--cert").arg(&own.certificate).arg("--key").arg(&own.key);
        }
        curl.status().expect("run curl").success()
    }
}

/// An agent of the primary with one peer over TLS.
fn asking(server: &Cluster, peer: &str, authority: &Path, own: Option<&Issued>) -> Agent {
    Agent::start_with(|command| {
        command.args(["--dsn", &server.dsn(), "--peer", peer, "--peer-interval", "50ms", "--peer-ca"]);
        command.arg(authority);
        if let Some(own) = own {
            command.arg("--tls-cert").arg(&own.certificate).arg("--tls-key").arg(&own.key);
        }
    })
}

/// Whether it hears from its only peer, and its log.
fn hears(agent: &Agent) -> bool {
    document(agent, "/cluster")["nodes"].as_array().expect("nodes").iter().any(|node| {
        node["address"].as_str().is_some_and(|address| address.starts_with("https://"))
            && node["reached"] == true
    })
}

/// A handshake may take longer than a single question waits.
#[track_caller]
fn assert_hears(agent: &Agent, is_right: bool) {
    match is_right {
        true => eventually(secs(10), "the peer is heard", || hears(agent)),
        false => assert!(!hears(agent), "{}", agent.log()),
    }
}

fn wait_until_asked(agent: &Agent) {
    eventually(secs(10), "the peer was asked", || {
        line(agent, "/primary");
        agent.log().contains("peer https://")
    });
}

#[test]
fn a_peer_is_believed_where_curl_believes_it() {
    let servers = servers();
    let other = Agent::start(&["--dsn", &servers.standby.dsn()]);
    let (own, foreign) = (Authority::new("ours"), Authority::new("theirs"));
    let local = Wish::local("node2");
    for (shown, is_right, why) in [
        (own.issue(local), true, ""),
        (
            own.issue(Wish { alternative_names: "DNS:node2.example", ..local }),
            false,
            "is for node2.example, and not for 127.0.0.1",
        ),
        (own.issue(Wish { validity: EXPIRED, ..local }), false, "has expired: it was valid until 2020-02-01"),
        (own.issue(Wish { validity: NOT_YET, ..local }), false, "is not valid yet"),
        (foreign.issue(local), false, "comes from none of the authorities"),
    ] {
        let front = Front::before(other.addr(), &shown, "");
        assert_eq!(front.is_believed_by_curl(&own.certificate(), None), is_right, "curl: {shown:?}");
        let agent = asking(&servers.primary, &front.peer(), &own.certificate(), None);
        wait_until_asked(&agent);
        assert_hears(&agent, is_right);
        assert!(agent.log().contains(why), "{why}: {}", agent.log());
        assert_eq!(line(&agent, "/primary"), "200 Primary");
    }
}

#[test]
fn a_peer_that_wants_to_know_who_asks_is_shown_our_certificate() {
    let servers = servers();
    let other = Agent::start(&["--dsn", &servers.standby.dsn()]);
    let authority = Authority::new("ours");
    let shown = authority.issue(Wish::local("node2"));
    let more = format!("verify required ca-file {}", authority.certificate().display());
    let front = Front::before(other.addr(), &shown, &more);
    let right = authority.issue(Wish::local("node1"));
    let foreign = Authority::new("theirs");
    let wrong = foreign.issue(Wish::local("node1"));
    for (own, is_right) in [(Some(&right), true), (Some(&wrong), false), (None, false)] {
        assert_eq!(front.is_believed_by_curl(&authority.certificate(), own), is_right, "curl: {own:?}");
        let agent = asking(&servers.primary, &front.peer(), &authority.certificate(), own);
        wait_until_asked(&agent);
        assert_hears(&agent, is_right);
    }
}

/// A node on a lower timeline would not be a primary; who comes between must not be able to say that another one is.
#[test]
fn nobody_without_the_right_certificate_can_say_that_a_primary_is_superseded() {
    let servers = servers();
    let authority = Authority::new("ours");
    let liar = agent_of_another_timeline();
    for (issuer, expected) in [(&authority, "503 superseded"), (&Authority::new("theirs"), "200 Primary")] {
        let front = Front::before(liar, &issuer.issue(Wish::local("node2")), "");
        let agent = asking(&servers.primary, &front.peer(), &authority.certificate(), None);
        wait_until_asked(&agent);
        let identifier = document(&agent, "/node")["system_identifier"].as_str().map(str::to_owned);
        SYSTEM.set(identifier.expect("a system identifier")).ok();
        eventually(secs(10), expected, || line(&agent, "/primary") == expected);
    }
}

static SYSTEM: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Somebody who says that he is a primary of this system, ninety promotions later.
fn agent_of_another_timeline() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.read(&mut [0; 4096]);
            let system = SYSTEM.get().cloned().unwrap_or_default();
            let body = format!(
                "{{\"agent\":\"liar\",\"name\":\"liar\",\"role\":\"primary\",\"system_identifier\":\"{system}\",\
                 \"timeline\":99,\"draining\":false,\"lsn\":\"FF/0\"}}"
            );
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    address
}

#[test]
fn a_peer_that_never_ends_its_handshake_costs_what_a_silent_one_costs() {
    let servers = servers();
    let authority = Authority::new("ours");
    // Nothing at all; the beginning of a record; no TLS; byte after byte of a record that is to be long.
    let junk: [&'static [u8]; 3] = [b"", b"\x16\x03\x03\x40\x00\x02", b"HTTP/1.1 200 OK\r\n\r\n{}"];
    let mut places: Vec<SocketAddr> = junk.iter().map(|bytes| answering(bytes)).collect();
    places.push(dripping());
    for place in places {
        let agent = Agent::start_with(|command| {
            command.args(["--dsn", &servers.primary.dsn(), "--timeout", "4s", "--peer-interval", "50ms"]);
            command.arg(format!("--peer=https://{place}")).arg("--peer-ca").arg(authority.certificate());
        });
        assert_eq!(line(&agent, "/health"), "200 Primary", "it has logged in");
        let threads = agent.threads();
        for _ in 0..20 {
            let reply = agent.get("/primary");
            assert_eq!(reply.line(), "200 Primary", "nobody says otherwise");
            assert!(reply.elapsed < millis(1250), "{place}: {:?}", reply.elapsed);
        }
        wait_until_asked(&agent);
        assert!(agent.threads() <= threads, "{} threads, and {threads} before", agent.threads());
    }
}

/// Sends a byte every 20 ms, for ever.
fn dripping() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut stream = stream;
                let _ = stream.write_all(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03");
                while stream.write_all(b"\x00").is_ok() {
                    thread::sleep(millis(20));
                }
            });
        }
    });
    address
}

#[test]
fn a_reload_finds_other_files_of_the_same_names() {
    let servers = servers();
    let other = Agent::start(&["--dsn", &servers.standby.dsn()]);
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let front = Front::before(other.addr(), &new.issue(Wish::local("node2")), "");
    let trusted = front.folder.path().join("trusted.crt");
    let put = |from: PathBuf| fs::copy(from, &trusted).expect("copy a certificate");
    put(old.certificate());
    let agent = asking(&servers.primary, &front.peer(), &trusted, None);
    wait_until_asked(&agent);
    assert!(!hears(&agent), "{}", agent.log());
    put(new.certificate());
    agent.signal(Signal::HUP);
    agent.wait_for_log("reloaded: peer-ca");
    eventually(secs(10), "the peer is heard", || hears(&agent));
    // What is no certificate changes nothing.
    fs::write(&trusted, "no certificate\n").expect("write a file");
    agent.signal(Signal::HUP);
    agent.wait_for_log("reload: nothing has changed: peer-ca");
    let since = Instant::now();
    // Later than what was heard before is good for.
    eventually(secs(10), "the peer is heard still", || since.elapsed() > secs(2) && hears(&agent));
}

#[test]
fn the_table_of_the_cluster_and_doctor_ask_over_tls_too() {
    let servers = servers();
    let other = Agent::start(&["--dsn", &servers.standby.dsn()]);
    let authority = Authority::new("ours");
    let front = Front::before(other.addr(), &authority.issue(Wish::local("node2")), "");
    let run = |word: &str, trusted: &Path| {
        let mut command = agent::command();
        let config = front.folder.write("pgsqlchk.conf", "");
        command.args([word, "--dsn", &servers.primary.dsn(), "--peer", &front.peer(), "--peer-ca"]);
        command.arg(trusted).arg("--config").arg(config);
        let output = command.output().expect("run the agent");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let table = run("cluster", &authority.certificate());
    let row = table.lines().find(|line| line.contains("https://")).unwrap_or_else(|| panic!("{table}"));
    assert!(row.contains("standby"), "{table}");
    let said = run("doctor", &authority.certificate());
    // What only its own documents can have told.
    assert!(said.contains(&format!("{} does not name this node", front.peer())), "{said}");
    let foreign = Authority::new("theirs");
    let said = run("doctor", &foreign.certificate());
    let of_peer = format!("peers: {}", front.peer());
    let line = said.lines().find(|line| line.contains(&of_peer)).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains("not reached") && line.contains("comes from none of the authorities"), "{line}");
}
