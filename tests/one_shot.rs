//! `--mode xinetd` by itself: how long it waits for a question, what it leaves behind, and what may be on descriptor 0.

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Stdio;
use std::time::Instant;

use support::contract::flaw;
use support::folder::Folder;
use support::servers::servers;
use support::table::{MAX_HEAD_BYTES, head_of};
use support::wire::{End, PATIENCE, Wire, reply, talk};
use support::xinetd::{Service, Xinetd};
use support::{Front, OneShot, Signal, http, millis, secs};

const ONE_SHOTS: [Front; 3] = [Front::XinetdNoWait, Front::InetdNoWait, Front::SystemdAccept];

fn primary_reply() -> String {
    reply("200 Primary", "Primary\n")
}

/// `telnet localhost 23267`, and nothing typed.
#[test]
fn a_client_that_says_nothing_for_a_second_gets_the_answer_to_a_plain_get() {
    let servers = servers();
    for front in ONE_SHOTS {
        let running = front.start(&servers.primary.dsn());
        let begun = Instant::now();
        let received = Wire::connect(running.addr()).receive(PATIENCE);
        let elapsed = begun.elapsed();
        assert_eq!((received.text(), received.end), (primary_reply(), End::Fin), "{front:?}");
        assert!((millis(950)..secs(3)).contains(&elapsed), "{front:?}: {elapsed:?}");
    }
}

#[test]
fn a_bare_line_typed_by_a_person_counts_as_a_plain_get() {
    let servers = servers();
    for line in ["\r\n", "\n", "hello\r\n", "GET /\r\n", "\r\n\r\n"] {
        let (mut agent, mut wire) = OneShot::with_client(&[], &servers.settings());
        wire.send(line);
        let received = wire.receive(PATIENCE);
        assert_eq!((received.text(), received.end), (primary_reply(), End::Fin), "{line:?}");
        assert!(received.elapsed < secs(3), "{line:?}: {:?}", received.elapsed);
        assert_eq!(agent.wait().code(), Some(0), "{line:?}");
    }
}

#[test]
fn a_head_that_is_begun_has_five_seconds_and_then_gets_408() {
    let servers = servers();
    for begun in ["GET / HTTP/1.1\r\n", "OPTIONS / HTTP/1.0\r\nHost: a\r\n", "GET / HT", "GET /primary\r\n"] {
        let (mut agent, mut wire) = OneShot::with_client(&[], &servers.settings());
        wire.send(begun);
        let received = wire.receive(PATIENCE);
        assert_eq!(flaw("408 Request Timeout", b"GET", &received), None, "{begun:?}");
        assert!((millis(4500)..secs(7)).contains(&received.elapsed), "{begun:?}: {:?}", received.elapsed);
        assert_eq!(agent.wait().code(), Some(0), "{begun:?}");
    }
}

#[test]
fn a_head_in_pieces_is_put_together_and_its_limit_counts_them_all() {
    let servers = servers();
    for (length, status) in
        [(MAX_HEAD_BYTES, "200 Primary"), (MAX_HEAD_BYTES + 1, "431 Request Header Fields Too Large")]
    {
        let request = head_of(length, "\r\n");
        let (mut agent, mut wire) = OneShot::with_client(&[], &servers.settings());
        for part in request.chunks(1000) {
            wire.send(part);
            wire.wait_consumed();
        }
        assert_eq!(flaw(status, &request, &wire.receive(PATIENCE)), None);
        assert_eq!(agent.wait().code(), Some(0));
    }
}

/// The shell script does not read the request before it closes: every such client is reset, and many of them lose
/// the reply.
#[test]
fn no_client_is_reset_however_much_it_sent() {
    let servers = servers();
    for front in ONE_SHOTS {
        let running = front.start(&servers.primary.dsn());
        for (count, junk) in [(60, 0), (60, 1), (10, 64 * 1024)] {
            let request = [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &vec![b'j'; junk]].concat();
            for round in 0..count {
                let mut wire = Wire::connect(running.addr());
                wire.send(&request);
                assert!(wire.wait_readable(PATIENCE), "{front:?}: silence");
                // What is sent to a closed socket is answered with a reset as well.
                wire.send(&request[..junk.min(1000)]);
                let received = wire.receive(PATIENCE);
                let what = format!("{front:?}, {junk} bytes too many, round {round}");
                assert_eq!((received.text(), received.end), (primary_reply(), End::Fin), "{what}");
            }
        }
    }
}

#[test]
fn the_exit_code_is_0_whatever_the_reply_was() {
    let servers = servers();
    let down = format!("dsn = {}\n", servers.down());
    for (settings, request, status) in [
        (servers.settings(), "GET / HTTP/1.1\r\n\r\n", "200 Primary"),
        (servers.settings(), "GET /replica HTTP/1.1\r\n\r\n", "503 not-in-recovery"),
        (servers.settings(), "GET /nothing HTTP/1.1\r\n\r\n", "404 Not Found"),
        (servers.settings(), "hello\r\n\r\n", "400 Bad Request"),
        (down.clone(), "GET /liveness HTTP/1.1\r\n\r\n", "200 Alive"),
        (down, "GET / HTTP/1.1\r\n\r\n", "503 connection-refused"),
    ] {
        let (mut agent, mut wire) = OneShot::with_client(&[], &settings);
        wire.send(request);
        let received = wire.receive(PATIENCE);
        assert!(received.text().starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:?}: {received:?}");
        drop(wire);
        assert_eq!(agent.wait().code(), Some(0), "{request:?}");
    }
}

/// A port scanner, or a checker that only connects.
#[test]
fn a_client_that_leaves_without_a_question_leaves_no_process() {
    let servers = servers();
    for leave in [drop as fn(Wire), Wire::reset] {
        let (mut agent, wire) = OneShot::with_client(&[], &servers.settings());
        leave(wire);
        assert_eq!(agent.wait().code(), Some(0));
    }
    let (mut agent, mut wire) = OneShot::with_client(&[], &servers.settings());
    wire.send("GET / HTTP/1.1\r\n\r\n");
    wire.reset();
    assert_eq!(agent.wait().code(), Some(0));
}

#[test]
fn a_client_that_never_closes_is_let_go() {
    let servers = servers();
    let (mut agent, mut wire) = OneShot::with_client(&[], &servers.settings());
    wire.send("GET / HTTP/1.1\r\n\r\n");
    assert!(wire.wait_readable(PATIENCE));
    // It reads nothing and closes nothing.
    assert_eq!(agent.wait().code(), Some(0));
    assert_eq!(wire.receive(PATIENCE).text(), primary_reply());
}

#[test]
fn a_client_that_is_not_allowed_gets_no_byte() {
    let servers = servers();
    for front in [Service::NoWait, Service::Wait] {
        let settings = |allowed: &str| format!("{}allow = {allowed}\n", servers.settings());
        let refusing = Xinetd::start(front, &settings("192.0.2.0/24"));
        for request in ["GET / HTTP/1.1\r\n\r\n", ""] {
            let mut wire = Wire::connect(refusing.addr());
            let _ = wire.try_send(request);
            assert_eq!(wire.receive(PATIENCE).text(), "", "{front:?}");
        }
        // Through a socket of IPv6 the client's address is ::ffff:127.0.0.1.
        let admitting = Xinetd::start(front, &settings("127.0.0.1"));
        assert_eq!(talk(admitting.addr(), "GET / HTTP/1.1\r\n\r\n").text(), primary_reply(), "{front:?}");
    }
}

#[test]
fn a_descriptor_0_that_is_no_socket_is_one_line_on_stderr_and_exit_code_3() {
    let file = Folder::new("stdin");
    let path = file.write("file", "GET / HTTP/1.1\r\n\r\n");
    let (_client, datagram) = UnixDatagram::pair().expect("a pair of sockets");
    for (name, input) in [
        ("a file", Stdio::from(File::open(path).expect("open"))),
        ("a pipe", Stdio::piped()),
        ("/dev/null", Stdio::null()),
        ("a datagram socket", Stdio::from(OwnedFd::from(datagram))),
    ] {
        let mut agent = OneShot::start(&[], "", [input, Stdio::piped(), Stdio::piped()]);
        assert_how_to_run(name, agent.finish());
    }
    let closed = ["sh", "-c", "exec \"$@\" <&-", "sh"].map(str::to_owned);
    let mut agent = OneShot::start(&closed, "", [Stdio::null(), Stdio::piped(), Stdio::piped()]);
    assert_how_to_run("nothing", agent.finish());
}

#[track_caller]
fn assert_how_to_run(name: &str, (code, stdout, stderr): (Option<i32>, String, String)) {
    assert_eq!((code, stdout.as_str()), (Some(3), ""), "{name}: {stderr}");
    assert!(stderr.starts_with("pgsqlchk: --mode xinetd: standard input is not a stream socket"), "{stderr}");
    assert!(stderr.ends_with('\n') && stderr.lines().count() == 1, "{name}: {stderr:?}");
}

fn read_to_end(mut stream: UnixStream) -> String {
    let mut text = String::new();
    stream.set_read_timeout(Some(PATIENCE)).expect("set_read_timeout");
    stream.read_to_string(&mut text).expect("read to the end");
    text
}

#[test]
fn a_listening_socket_of_any_family_is_served_until_nobody_asks() {
    let servers = servers();
    let settings = format!("{}idle-exit = 4s\n", servers.settings());
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let listener = TcpListener::bind(SocketAddr::new(ip, 0)).expect("bind");
        let addr = listener.local_addr().expect("an address");
        let mut agent = OneShot::on_socket(&[], &settings, listener.try_clone().expect("a second handle"));
        for path in ["/", "/primary", "/read-only"] {
            assert_eq!(http::get(addr, path).expect("a reply").line(), "200 Primary", "{addr}{path}");
        }
        assert_eq!(agent.wait().code(), Some(0), "{addr}");
    }
    let folder = Folder::new("unix");
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).expect("bind");
    let mut agent = OneShot::on_socket(&[], &settings, listener);
    for _ in 0..3 {
        let mut stream = UnixStream::connect(&path).expect("connect");
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("ask");
        assert_eq!(read_to_end(stream), primary_reply());
    }
    assert_eq!(agent.wait().code(), Some(0));
}

#[test]
fn a_listening_socket_is_given_up_on_sigterm_as_standalone_does() {
    let servers = servers();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let addr = listener.local_addr().expect("an address");
    let mut agent = OneShot::on_socket(&[], &servers.settings(), listener);
    assert_eq!(http::get(addr, "/").expect("a reply").line(), "200 Primary");
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait().code(), Some(0));
}
