//! Listeners that say nothing, or nonsense, and queues that are full: 503 within the deadline, with the right
//! reason.

mod support;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

use support::folder::Folder;
use support::impostor::{self, FullQueue};
use support::patience::{TIMEOUT, agent, ask, assert_heals, at_the_same_time};
use support::{Agent, Cluster};

fn tcp_dsn(addr: SocketAddr) -> String {
    format!("host={} port={} user=postgres dbname=postgres", addr.ip(), addr.port())
}

#[test]
fn a_listener_that_says_nothing_is_postmaster_not_answering() {
    // Nobody accepts here: the kernel completes the connection, as it does for a frozen process.
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
    let folder = Folder::new("silent");
    let _unix = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).expect("listen");
    let unix_dsn = format!("host={} port=5432 user=postgres", folder.path().display());
    let accepting = impostor::answering(b"");
    at_the_same_time(
        [tcp_dsn(tcp.local_addr().expect("its address")), unix_dsn, tcp_dsn(accepting)],
        |dsn| {
            let mut agent = agent(&dsn);
            for _ in 0..3 {
                assert_eq!(ask(&agent).line(), "503 postmaster-not-answering", "{dsn}");
            }
            agent.terminate();
            assert_eq!(agent.log().matches(" -> ").count(), 1, "{}", agent.log());
        },
    );
}

#[test]
fn a_listener_that_says_nothing_is_503_in_time_without_knocks_too() {
    let addr = impostor::answering(b"");
    let agent = Agent::start(&["--dsn", &tcp_dsn(addr), "--timeout", "1s", "--knock-interval", "0"]);
    for _ in 0..3 {
        let line = ask(&agent).line();
        assert!(["503 deadline-passed", "503 postmaster-not-answering"].contains(&line.as_str()), "{line}");
    }
}

#[test]
fn a_listener_that_answers_the_knock_and_then_nothing_is_503_in_time() {
    // An SSH banner begins with the S of a PostgreSQL that speaks TLS, and goes on as a message that never ends.
    at_the_same_time([&b"N"[..], b"S", b"SSH-2.0-OpenSSH_9.2\r\n"], |answer| {
        let agent = agent(&tcp_dsn(impostor::answering(answer)));
        for _ in 0..6 {
            let line = ask(&agent).line();
            assert!(
                ["503 deadline-passed", "503 postmaster-not-answering"].contains(&line.as_str()),
                "{line}"
            );
        }
        assert_eq!(agent.get("/liveness").line(), "200 Alive");
    });
}

#[test]
fn a_listener_that_is_no_postgresql_is_not_postgresql() {
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"RFB 003.008\n", b"X", b"\0\0\0\0"] {
        let agent = agent(&tcp_dsn(impostor::answering(answer)));
        for _ in 0..2 {
            let reply = ask(&agent);
            assert_eq!(reply.line(), "503 not-postgresql", "{}", String::from_utf8_lossy(answer));
            assert!(reply.elapsed < TIMEOUT, "at once: {reply:?}");
        }
    }
}

#[test]
fn a_listener_that_closes_at_once_is_503_at_once() {
    let agent = agent(&tcp_dsn(impostor::closing()));
    for _ in 0..3 {
        let reply = ask(&agent);
        assert_eq!(reply.status, 503, "{reply:?}");
        assert!(reply.elapsed < TIMEOUT, "at once: {reply:?}");
    }
}

#[test]
fn a_black_hole_is_503_in_time_over_tcp_and_over_a_socket() {
    let (_tcp, addr) = FullQueue::tcp();
    let folder = Folder::new("hole");
    let _unix = FullQueue::unix(&folder.path().join(".s.PGSQL.5432"));
    let unix_dsn = format!("host={} port=5432 user=postgres", folder.path().display());
    at_the_same_time([tcp_dsn(addr), unix_dsn], |dsn| {
        let agent = agent(&dsn);
        for _ in 0..3 {
            let line = ask(&agent).line();
            assert!(
                ["503 postmaster-not-answering", "503 unreachable"].contains(&line.as_str()),
                "{dsn}: {line}"
            );
        }
        assert_eq!(agent.get("/liveness").line(), "200 Alive");
    });
}

#[test]
fn a_knock_at_a_full_queue_is_given_up_and_the_next_goes_to_the_new_listener() {
    let primary = Cluster::primary();
    let agent = agent(&primary.dsn());
    let (socket, aside) = (primary.socket_path(), primary.socket_path().with_extension("aside"));
    fs::rename(&socket, &aside).expect("take the socket away");
    let _full = FullQueue::unix(&socket);
    for _ in 0..2 {
        assert_eq!(ask(&agent).line(), "503 postmaster-not-answering");
    }
    // The old listener stays as it is, and so does whoever still waits for a place in its queue.
    fs::rename(&aside, &socket).expect("put the socket back");
    assert_heals(&agent);
}
