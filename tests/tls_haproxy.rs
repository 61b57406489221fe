//! HTTPS on a port of the agent's own, as a real HAProxy checks it.

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use rustix::process::Signal;
use support::certificates::{Issued, Wish};
use support::folder::Folder;
use support::https::{Trust, exchange, s_client, tls_addr};
use support::pages::{fenced, page};
use support::{Agent, Cluster, Haproxy, ServerState, eventually, secs};

/// The certificate and its key in one file, as HAProxy's `crt` wants them.
fn pem(folder: &Folder, issued: &Issued) -> String {
    let read = |path: &Path| fs::read_to_string(path).expect("a PEM file");
    let both = read(&issued.certificate) + &read(&issued.key);
    folder.write("haproxy.pem", &both).display().to_string()
}

/// HAProxy with one server, checked at this port with these words. A handshake has a second: HAProxy gives it no longer than
/// `inter` (configuration.txt, "timeout check").
fn haproxy(primary: &Cluster, port: u16, path: &str, check: &str) -> Haproxy {
    Haproxy::start(&format!(
        "backend pool\n    option httpchk GET {path}\n    http-check expect status 200\n    \
         server node 127.0.0.1:{} check port {port} inter 1s fastinter 100ms downinter 100ms fall 2 rise 1 {check}\n",
        primary.port()
    ))
}

#[track_caller]
fn expect(haproxy: &Haproxy, expected: [&str; 4]) {
    let mut last = None;
    let began = Instant::now();
    while began.elapsed() < secs(10) {
        let state = haproxy.server("pool", "node");
        let ServerState { status, check_status, check_code, last_chk, .. } = &state;
        if [status, check_status, check_code, last_chk] == expected {
            return;
        }
        last = Some(state);
        thread::sleep(support::millis(20));
    }
    panic!("{expected:?} is never seen, but {last:?}");
}

#[test]
fn certificates_of_both_are_verified_and_the_reason_is_shown() {
    let (trust, primary, folder) = (Trust::new(), Cluster::primary(), Folder::new("pem"));
    let agent = Trust::agent(&trust.mutual(), &["--dsn", &primary.dsn()]);
    let port = tls_addr(&agent).port();
    let (ca, crt) = (trust.servers.certificate().display().to_string(), pem(&folder, &trust.client));
    let verified = format!("check-ssl verify required ca-file {ca}");
    let whole = format!("{verified} crt {crt} verifyhost localhost check-sni localhost");
    expect(&haproxy(&primary, port, "/primary", &whole), ["UP", "L7OK", "200", ""]);
    expect(&haproxy(&primary, port, "/replica", &whole), ["DOWN", "L7STS", "503", "not-in-recovery"]);
    // Behind a proxy's header, which stands in the clear.
    let proxied = format!("{whole} check-send-proxy");
    expect(&haproxy(&primary, port, "/primary", &proxied), ["UP", "L7OK", "200", ""]);
    let without = haproxy(&primary, port, "/primary", &verified);
    eventually(secs(10), "without a certificate it is down", || {
        let state = without.server("pool", "node");
        // In TLS 1.3 the refusal comes when HAProxy has already asked.
        state.status == "DOWN" && state.last_chk.contains("SSL")
    });
}

#[test]
fn https_where_http_is_spoken_is_down_with_a_reason_and_the_reverse() {
    let (trust, primary) = (Trust::new(), Cluster::primary());
    let agent = Trust::agent(&trust.options(), &["--dsn", &primary.dsn()]);
    expect(
        &haproxy(&primary, tls_addr(&agent).port(), "/primary", ""),
        ["DOWN", "L7STS", "400", "Bad Request"],
    );
    let secret = haproxy(&primary, agent.addr().port(), "/primary", "check-ssl verify none");
    expect(&secret, ["DOWN", "L6RSP", "", "SSL handshake failure"]);
    // And whose certificate is not trusted.
    let ca = trust.clients.certificate().display().to_string();
    let strict = format!("check-ssl verify required ca-file {ca}");
    let distrustful = haproxy(&primary, tls_addr(&agent).port(), "/primary", &strict);
    expect(&distrustful, ["DOWN", "L6RSP", "", "SSL handshake failure"]);
}

/// The lines of the page, with this machine's ports and files.
#[test]
fn the_lines_of_the_page_do_what_they_say() {
    let (trust, primary, folder) = (Trust::new(), Cluster::primary(), Folder::new("page"));
    let standby = Cluster::standby_of(&primary);
    let agents = [&primary, &standby].map(|server| Trust::agent(&trust.mutual(), &["--dsn", &server.dsn()]));
    let mut lines = fenced(&page("docs/tls.md"), "haproxy").swap_remove(0);
    for (from, to) in [
        ("/etc/haproxy/agents.crt", trust.servers.certificate().display().to_string()),
        ("/etc/haproxy/checks.pem", pem(&folder, &trust.client)),
        (
            "192.0.2.11:5432 check port 23269",
            format!("127.0.0.1:{} check port {}", primary.port(), tls_addr(&agents[0]).port()),
        ),
        (
            "192.0.2.12:5432 check port 23269",
            format!("127.0.0.1:{} check port {}", standby.port(), tls_addr(&agents[1]).port()),
        ),
        ("verifyhost node1", "verifyhost localhost".into()),
    ] {
        assert!(lines.contains(from), "{from}: {lines}");
        lines = lines.replace(from, &to);
    }
    // node2's certificate here says localhost, and nothing of node2.
    let sections = format!("backend pool\n    option httpchk OPTIONS /read-only\n{lines}");
    let haproxy = Haproxy::start(&sections);
    let seen = |name: &str| {
        let state = haproxy.server("pool", name);
        format!("{} {} {}", state.status, state.check_status.trim_start_matches("* "), state.last_chk)
    };
    eventually(secs(20), "the first is up", || seen("node1").starts_with("UP L7OK"));
    eventually(secs(20), "the other has another name", || {
        seen("node2") == "DOWN L6RSP Server presented an SSL certificate different from the configured one"
    });
}

/// Whoever renews certificates every night reloads in the middle of checks.
#[test]
fn certificates_are_renewed_under_load_and_no_check_is_lost() {
    let (mut trust, primary, folder) = (Trust::new(), Cluster::primary(), Folder::new("renewed"));
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let install = |issued: &Issued| {
        for (from, to) in [(&issued.certificate, &certificate), (&issued.key, &key)] {
            // As those do it who renew: the new file takes the old one's place as a whole.
            let beside = to.with_extension("new");
            fs::copy(from, &beside).expect("copy");
            fs::rename(&beside, to).expect("rename");
        }
    };
    install(&trust.server);
    trust.server = Issued { certificate: certificate.clone(), key: key.clone() };
    let agent = Trust::agent(&trust.options(), &["--dsn", &primary.dsn(), "--timeout", "8s"]);
    let (address, config) = (tls_addr(&agent), trust.client_config());
    let ca = trust.servers.certificate().display().to_string();
    let haproxy =
        haproxy(&primary, address.port(), "/primary", &format!("check-ssl verify required ca-file {ca}"));
    expect(&haproxy, ["UP", "L7OK", "200", ""]);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let (stop, config) = (Arc::clone(&stop), Arc::clone(&config));
            thread::spawn(move || {
                let mut made = 0;
                while !stop.load(Ordering::SeqCst) {
                    let text = exchange(&config, address, b"GET /primary HTTP/1.1\r\n\r\n").expect("a reply");
                    assert!(text.starts_with("HTTP/1.1 200 Primary\r\n"), "{text}");
                    made += 1;
                }
                made
            })
        })
        .collect();
    // So long that HAProxy asks eight times.
    let (began, mut number) = (Instant::now(), 0);
    while number < 5 || began.elapsed() < secs(8) {
        number += 1;
        let name = format!("renewed-{number}");
        install(&trust.servers.issue(Wish::local(&name)));
        reload(&agent, "reloaded: tls-cert, tls-key\n");
        let shown = s_client(address, &["-CAfile", &ca], "GET / HTTP/1.1\r\n\r\n");
        assert!(shown.contains(&format!("subject=CN = {name}")), "{shown}");
    }
    reload(&agent, "reloaded: nothing is new\n");
    // A certificate without its key changes nothing, and is one line.
    let other = trust.servers.issue(Wish::local("other"));
    fs::copy(&other.certificate, &certificate).expect("copy");
    reload(&agent, "reload: nothing has changed: tls-key: the key in ");
    let shown = s_client(address, &["-CAfile", &ca], "GET / HTTP/1.1\r\n\r\n");
    assert!(shown.contains(&format!("subject=CN = renewed-{number}\n")), "{shown}");
    stop.store(true, Ordering::SeqCst);
    let made: usize = clients.into_iter().map(|client| client.join().expect("no check was lost")).sum();
    assert!(made > 20, "{made} checks");
    assert!(!haproxy.log().contains(" DOWN"), "{}", haproxy.log());
}

#[track_caller]
fn reload(agent: &Agent, said: &str) {
    let count = || agent.log().matches(said).count();
    let before = count();
    agent.signal(Signal::HUP);
    eventually(secs(10), said, || count() > before);
}
