//! HTTPS on a port of the agent's own, as openssl and curl see it.

mod support;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::thread;

use support::agent::PASS_STDIN;
use support::certificates::{EXPIRED, Issued, Wish};
use support::folder::Folder;
use support::https::{Trust, curl, exchange, s_client, tls_addr};
use support::process::Killed;
use support::wire::{self, End, reply};
use support::{Agent, Cluster, agent, eventually, free_port, http, secs};

const GET: &str = "GET /liveness HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn path(path: &std::path::Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn curl_and_openssl_get_what_plain_clients_get() {
    let (trust, primary) = (Trust::new(), Cluster::primary());
    let agent = Trust::agent(&trust.options(), &["--dsn", &primary.dsn()]);
    let address = tls_addr(&agent);
    assert_eq!(agent.get("/").line(), "200 Primary", "plain HTTP goes on beside it");
    let ca = trust.servers.certificate();
    for options in
        [&["--http1.1"][..], &["--http2"], &["--tls-max", "1.2"], &["--head"], &["--request", "PUT"]]
    {
        let (code, text) = curl(address, "/", &[options, &["--include", "--cacert", path(&ca)]].concat());
        let expected = match options {
            ["--head"] => wire::head("200 Primary", "Primary\n"),
            ["--request", _] => {
                reply("405 Method Not Allowed", "Method Not Allowed: use GET, HEAD or OPTIONS\n")
            }
            _ => reply("200 Primary", "Primary\n"),
        };
        assert_eq!((code, &text), (0, &expected), "{options:?}");
    }
    let (code, text) = curl(address, "/metrics", &["--cacert", path(&ca)]);
    assert!(code == 0 && text.ends_with('\n') && text.contains("\npgsqlchk_primary 1\n"), "{text}");
    let (code, text) = curl(address, "/", &[]);
    assert_eq!(code, 60, "nobody here trusts this authority: {text}");
    let plain = http::get(agent.addr(), "/replica").expect("a reply").raw;
    let secret =
        exchange(&trust.client_config(), address, b"GET /replica HTTP/1.1\r\n\r\n").expect("a reply");
    assert_eq!(secret.as_bytes(), plain);
}

#[test]
fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let trust = Trust::new();
    let agent = Trust::agent(&trust.options(), &[]);
    let (address, ca) = (tls_addr(&agent), trust.servers.certificate());
    let alive = reply("200 Alive", "Alive\n");
    for version in ["-tls1_2", "-tls1_3"] {
        for further in [&[][..], &["-alpn", "h2,http/1.1"], &["-servername", "node1"], &["-noservername"]] {
            let options = [&[version, "-CAfile", path(&ca), "-verify_return_error"], further].concat();
            let text = s_client(address, &options, GET);
            assert!(
                text.contains(&alive.replace("\r\n", "\n")) || text.contains(&alive),
                "{options:?}: {text}"
            );
            assert!(text.contains("Verify return code: 0 (ok)"), "{options:?}: {text}");
            assert!(!text.contains("ALPN protocol: h2"), "{options:?}: {text}");
        }
    }
    for version in ["-tls1", "-tls1_1"] {
        let text = s_client(address, &[version, "-cipher", "DEFAULT@SECLEVEL=0"], GET);
        assert!(text.contains("alert") && text.contains("Cipher is (NONE)"), "{version}: {text}");
        assert!(!text.contains("HTTP/1.1"), "{version}: {text}");
    }
}

/// `R` has openssl renegotiate; in TLS 1.3 there is no such thing.
#[test]
fn nothing_is_negotiated_twice() {
    let trust = Trust::new();
    let agent = Trust::agent(&trust.options(), &[]);
    let address = tls_addr(&agent);
    let mut command = Command::new("bash");
    let line = format!(
        "(echo R; sleep 1) | timeout 10 openssl s_client -tls1_2 -legacy_renegotiation -connect {address}"
    );
    let output = command.args(["-c", &line]).output().expect("run openssl");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(text.contains("RENEGOTIATING") && text.contains("no renegotiation"), "{text}");
    assert_eq!(agent.get("/liveness").line(), "200 Alive");
}

#[test]
fn a_session_is_taken_up_again_unless_certificates_are_asked_for() {
    let trust = Trust::new();
    let folder = Folder::new("sessions");
    let plain = Trust::agent(&trust.options(), &[]);
    let mutual = Trust::agent(&trust.mutual(), &[]);
    for (agent, is_mutual) in [(&plain, false), (&mutual, true)] {
        let address = tls_addr(agent);
        for version in ["-tls1_2", "-tls1_3"] {
            let session = folder.path().join(format!("{version}-{is_mutual}"));
            let shown = ["-cert", path(&trust.client.certificate), "-key", path(&trust.client.key)];
            let first =
                s_client(address, &[&[version, "-sess_out", path(&session)][..], &shown].concat(), GET);
            assert!(first.contains("200 Alive") && first.contains("New, TLSv1."), "{first}");
            if !session.exists() {
                // Without a ticket there is nothing to keep.
                assert!(is_mutual, "{version}: {first}");
                continue;
            }
            for _ in 0..2 {
                let options = [version, "-sess_in", path(&session), "-sess_out", path(&session)];
                let again = s_client(address, &[&options[..], &shown].concat(), GET);
                assert!(again.contains("200 Alive"), "{again}");
                assert_eq!(again.contains("Reused, TLSv1."), !is_mutual, "{version}: {again}");
            }
        }
    }
}

#[test]
fn clients_show_a_certificate_where_they_have_to() {
    let trust = Trust::new();
    let agent = Trust::agent(&trust.mutual(), &["--log-level", "debug"]);
    let (address, ca) = (tls_addr(&agent), trust.servers.certificate());
    let expired = trust.clients.issue(Wish { validity: EXPIRED, ..Wish::local("expired") });
    let foreign = trust.servers.issue(Wish::local("foreign"));
    let ask = |shown: Option<&Issued>, version: &str| {
        let mut options = vec![version, "-CAfile", path(&ca)];
        if let Some(issued) = shown {
            options.extend(["-cert", path(&issued.certificate), "-key", path(&issued.key)]);
        }
        s_client(address, &options, GET)
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let text = ask(Some(&trust.client), version);
        assert!(text.contains("HTTP/1.1 200 Alive"), "{version}: {text}");
        for (shown, alert, said) in [
            (None, ["handshake failure", "certificate required"], "no certificates"),
            (Some(&expired), ["certificate expired"; 2], "expired"),
            (Some(&foreign), ["unknown ca"; 2], "UnknownIssuer"),
        ] {
            let text = ask(shown, version);
            assert!(
                alert.iter().any(|alert| text.contains(&format!("alert {alert}"))),
                "{version} {said}: {text}"
            );
            assert!(!text.contains("HTTP/1.1"), "{version} {said}: {text}");
            agent.wait_for_log(said);
        }
    }
    // Nobody has to on the plain port, which an administrator can keep to this host.
    assert_eq!(agent.get("/liveness").line(), "200 Alive");
}

#[test]
fn plain_http_on_a_port_of_https_is_told_so_and_the_reverse() {
    let trust = Trust::new();
    let agent = Trust::agent(&trust.options(), &[]);
    let said = "Bad Request: this port speaks HTTPS, and that was plain HTTP\n";
    for request in
        [GET, "OPTIONS / HTTP/1.0\r\n\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n\r\n"]
    {
        let received = wire::talk(tls_addr(&agent), request);
        assert_eq!(
            (received.text(), received.end),
            (reply("400 Bad Request", said), End::Fin),
            "{request:?}"
        );
    }
    let received = wire::talk(tls_addr(&agent), "HEAD / HTTP/1.1\r\n\r\n");
    assert_eq!(received.text(), wire::head("400 Bad Request", said));
    let (code, text) = curl(agent.addr(), "/", &[]);
    assert!(code == 35 && text.contains("wrong version number"), "{code}: {text}");
}

#[test]
fn doctor_knows_the_port_and_says_what_is_wrong_with_the_files() {
    let trust = Trust::new();
    let agent = Trust::agent(&trust.options(), &[]);
    let (plain, secret) = (agent.addr(), tls_addr(&agent));
    let doctor = |key: &std::path::Path| {
        let mut command = agent::command();
        let (listen, tls_listen) = (format!("--listen={plain}"), format!("--tls-listen={secret}"));
        command.args(["doctor", "--config=/dev/null", &listen, &tls_listen, "--tls-cert"]);
        command.arg(&trust.server.certificate).arg("--tls-key").arg(key);
        String::from_utf8(command.output().expect("run doctor").stdout).expect("UTF-8")
    };
    let said = doctor(&trust.server.key);
    for port in [plain.port(), secret.port()] {
        assert!(said.contains(&format!("port {port}: held by pgsqlchk (process {}", agent.pid())), "{said}");
    }
    let said = doctor(&trust.client.key);
    assert!(
        said.contains("tls-key: the key in ") && said.contains(" is not that of the certificate in "),
        "{said}"
    );
}

/// `FileDescriptorName=tls`, and nothing else: then the agent asks itself there, too.
#[test]
fn a_socket_of_systemd_can_be_a_port_of_https() {
    let trust = Trust::new();
    let (config, port) = (trust.client_config(), free_port());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listen = format!("--listen={address}");
    let wrapper = ["systemd-socket-activate", &listen, "--fdname=tls"];
    let waker = thread::spawn(move || {
        eventually(secs(10), "the request that starts the agent is answered", || {
            exchange(&config, address, GET.as_bytes())
                .is_ok_and(|text| text.starts_with("HTTP/1.1 200 Alive"))
        });
    });
    let agent = Agent::start_under(&wrapper, |command| {
        command.args(&trust.options()[2..]);
    });
    waker.join().expect("the waker");
    assert_eq!(tls_addr(&agent), address);
    let refused = wire::talk(address, GET).text();
    assert!(refused.starts_with("HTTP/1.1 400 Bad Request"), "{refused}");
}

/// Where nothing else is passed, too: for the agent itself there is no TLS.
#[test]
fn the_watchdog_gets_through_a_port_of_https() {
    let (trust, folder) = (Trust::new(), Folder::new("manager"));
    let name = folder.path().join("notify");
    let manager = UnixDatagram::bind(&name).expect("bind the manager's socket");
    manager.set_read_timeout(Some(secs(10))).expect("set a timeout");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let mut command = Command::new(PASS_STDIN[0]);
    command.args(&PASS_STDIN[1..]).args([agent::program(), "--config=/dev/null", "--dsn=host=/nowhere"]);
    command.args(&trust.mutual()[2..]).stdin(OwnedFd::from(listener)).stderr(Stdio::null());
    command.env("LISTEN_FDNAMES", "tls").env("NOTIFY_SOCKET", &name).env("WATCHDOG_USEC", "200000");
    let _agent = Killed(command.spawn().expect("start the agent"));
    let mut fed = 0;
    for _ in 0..10 {
        let mut message = [0; 4096];
        let count = loop {
            match manager.recv(&mut message) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                result => break result.expect("a message"),
            }
        };
        fed += usize::from(&message[..count] == b"WATCHDOG=1");
    }
    assert!(fed >= 5, "fed {fed} times");
}

#[test]
fn a_socket_for_https_takes_a_certificate() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let mut command = Command::new(PASS_STDIN[0]);
    command
        .args(&PASS_STDIN[1..])
        .args([agent::program(), "--config=/dev/null"])
        .env("LISTEN_FDNAMES", "tls");
    let output = command.stdin(OwnedFd::from(listener)).output().expect("run the agent");
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = "pgsqlchk: FileDescriptorName=tls: it takes tls-cert and tls-key\n";
    assert_eq!((said.as_ref(), output.status.code()), (expected, Some(3)));
}

#[test]
fn a_request_that_makes_no_sense_is_refused_through_tls() {
    let trust = Trust::new();
    let agent = Trust::agent(&trust.options(), &[]);
    let (config, address) = (trust.client_config(), tls_addr(&agent));
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    for (request, expected) in [
        ("GET / HTTP/2.0\r\n\r\n", "HTTP/1.1 400 "),
        ("GET / HTTP/1.1\r\nContent-Length: 1000000000000\r\n\r\n", "HTTP/1.1 413 "),
        ("GET /nothing HTTP/1.1\r\n\r\n", "HTTP/1.1 404 "),
        // There is a place for it, and this is none.
        ("PROXY UNKNOWN\r\nGET /liveness HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "),
        (&long, "HTTP/1.1 431 "),
    ] {
        let text = exchange(&config, address, request.as_bytes()).expect("a whole reply");
        assert!(text.starts_with(expected), "{request:?}: {text}");
    }
}

/// What is wrong is one line, and the agent does not start.
#[test]
fn what_does_not_fit_together_is_one_line() {
    let trust = Trust::new();
    let (certificate, key) = (path(&trust.server.certificate), path(&trust.server.key));
    let other = trust.servers.issue(Wish::local("other"));
    let folder = Folder::new("wrong");
    let empty = folder.write("empty.pem", "");
    let shared = folder.write("shared.key", &fs::read_to_string(key).expect("the key"));
    let set_mode =
        |file, mode| fs::set_permissions(file, fs::Permissions::from_mode(mode)).expect("set its mode");
    set_mode(&shared, 0o644);
    set_mode(&empty, 0o600);
    let (empty, shared, other) = (path(&empty), path(&shared), path(&other.key));
    let missing = folder.path().join("missing.pem");
    let missing = path(&missing);
    let listen = ["--tls-listen", "127.0.0.1:0"];
    let chmod = match rustix::process::geteuid().is_root() {
        true => format!("chmod 640 {shared}"),
        false => format!("chmod 600 {shared}"),
    };
    for (options, expected) in [
        (listen.to_vec(), "tls-listen takes tls-cert and tls-key, which are not given".to_owned()),
        (vec!["--tls-cert", certificate], "tls-cert goes with tls-key, which is not given".into()),
        (vec!["--tls-key", key], "tls-key goes with tls-cert, which is not given".into()),
        (
            vec!["--tls-client-ca", certificate],
            "tls-client-ca is about the port of tls-listen, which is not given".into(),
        ),
        (
            vec!["--tls-client-ca", certificate, "--tls-cert", certificate, "--tls-key", key],
            "tls-client-ca is about a port of HTTPS, and there is none: it takes tls-listen".into(),
        ),
        (
            vec![
                "--listen=127.0.0.1:1",
                "--tls-listen=127.0.0.1:1",
                "--tls-cert",
                certificate,
                "--tls-key",
                key,
            ],
            "tls-listen and listen are both 127.0.0.1:1: each needs an address of its own".into(),
        ),
        (
            vec![
                "--agent-listen=127.0.0.1:1",
                "--tls-listen=127.0.0.1:1",
                "--tls-cert",
                certificate,
                "--tls-key",
                key,
            ],
            "tls-listen and agent-listen are both 127.0.0.1:1: each needs an address of its own".into(),
        ),
        (
            [&listen[..], &["--tls-cert", missing, "--tls-key", key]].concat(),
            format!("tls-cert: cannot read {missing}: no such file"),
        ),
        (
            [&listen[..], &["--tls-cert", certificate, "--tls-key", missing]].concat(),
            format!("tls-key: cannot read {missing}: no such file"),
        ),
        (
            [&listen[..], &["--tls-cert", empty, "--tls-key", key]].concat(),
            format!("tls-cert: {empty}: no certificate in it (PEM)"),
        ),
        (
            [&listen[..], &["--tls-cert", certificate, "--tls-key", empty]].concat(),
            format!("tls-key: {empty}: no key in it (PEM, without a password)"),
        ),
        (
            [&listen[..], &["--tls-cert", certificate, "--tls-key", other]].concat(),
            format!("tls-key: the key in {other} is not that of the certificate in {certificate}"),
        ),
        (
            [&listen[..], &["--tls-cert", certificate, "--tls-key", shared]].concat(),
            format!("tls-key: {shared}: others may read this key: {chmod}"),
        ),
        (
            [&listen[..], &["--tls-cert", certificate, "--tls-key", key, "--tls-client-ca", empty]].concat(),
            format!("tls-client-ca: {empty}: no certificate in it (PEM)"),
        ),
    ] {
        let mut command = agent::command();
        let output = command.args(["--config=/dev/null"]).args(&options).output().expect("run the agent");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (said.as_ref(), output.status.code()),
            (format!("pgsqlchk: {expected}\n").as_str(), Some(3))
        );
    }
    // Our own certificate without a port is what peers are shown.
    let agent = Agent::start(&["--tls-cert", certificate, "--tls-key", key]);
    assert_eq!(agent.get("/liveness").line(), "200 Alive");
}
