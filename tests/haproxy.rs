//! A real HAProxy checks real agents beside a real primary and a real standby, and its own view is asserted:
//! which server is up, and why the other is not.

mod support;

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};

use support::cluster::psql_command;
use support::haproxy::assert_shut;
use support::postgresql::run;
use support::{Agent, Cluster, Frozen, Haproxy, ServerState, StopMode, eventually, free_port, secs};

/// HAProxy needs two failed checks at 200 ms, each one at most a deadline long.
const SOON: std::time::Duration = secs(8);

/// A primary, its standby, an agent beside each, and HAProxy with a write pool and a read pool over both.
struct Site {
    haproxy: Haproxy,
    write_port: u16,
    read_port: u16,
    a: (Cluster, Agent),
    b: (Cluster, Agent),
}

impl Site {
    fn start(write: &[&str], read: &[&str]) -> Site {
        Site::start_with(&[], write, read)
    }

    /// The same with further options of both agents.
    fn start_with(options: &[&str], write: &[&str], read: &[&str]) -> Site {
        let primary = Cluster::primary();
        let standby = Cluster::standby_of(&primary);
        let agent = |cluster: &Cluster| {
            let knocks = ["--knock-interval", "100ms", "--timeout", "1s"];
            Agent::start(&[&["--dsn", &cluster.dsn()][..], &knocks, options].concat())
        };
        let a = (agent(&primary), primary);
        let b = (agent(&standby), standby);
        let (write_port, read_port) = (free_port(), free_port());
        let pool = |name: &str, port: u16, check: &[&str]| {
            let check: String = check.iter().map(|line| format!("    {line}\n")).collect();
            let server = |name: &str, agent: &Agent, cluster: &Cluster| {
                format!("    server {name} 127.0.0.1:{} check port {}\n", cluster.port(), agent.addr().port())
            };
            format!(
                "listen {name}\n    bind 127.0.0.1:{port}\n{check}    \
                 default-server inter 200ms fall 2 rise 1 on-marked-down shutdown-sessions\n{}{}",
                server("a", &a.0, &a.1),
                server("b", &b.0, &b.1)
            )
        };
        let sections = pool("ReadWrite", write_port, write) + &pool("ReadOnly", read_port, read);
        let haproxy = Haproxy::start(&sections);
        Site { haproxy, write_port, read_port, a: (a.1, a.0), b: (b.1, b.0) }
    }

    fn classic() -> Site {
        Site::start(
            &["option httpchk", "http-check expect status 200"],
            &["option httpchk", "http-check expect status 206"],
        )
    }

    /// Waits until HAProxy sees a server like this: status, outcome, code and words of the last check.
    #[track_caller]
    fn expect(&self, pool: &str, server: &str, expected: [&str; 4]) {
        let mut last = None;
        let seen = |state: &ServerState| {
            [&state.status, &state.check_status, &state.check_code, &state.last_chk].map(String::clone)
        };
        let began = std::time::Instant::now();
        while began.elapsed() < SOON {
            let state = self.haproxy.server(pool, server);
            if seen(&state) == expected {
                return;
            }
            last = Some(state);
            std::thread::sleep(support::millis(20));
        }
        panic!("{pool}/{server}: expected {expected:?}, last seen {last:?}");
    }

    /// What a client of a pool reaches: the port of the PostgreSQL behind it.
    fn reaches(&self, pool_port: u16) -> String {
        run(psql_command().args(["-d", &dsn(pool_port), "-c", "SELECT inet_server_port()"])).trim().to_owned()
    }

    /// How many of so many new clients of the write pool can write.
    fn writes(&self, clients: usize) -> usize {
        let write = || {
            let mut psql = psql_command();
            psql.args(["-d", &dsn(self.write_port), "-c", "INSERT INTO writes DEFAULT VALUES"]);
            psql.output().expect("run psql").status.success()
        };
        (0..clients).filter(|_| write()).count()
    }
}

/// How a client of a pool connects.
fn dsn(pool_port: u16) -> String {
    format!("host=127.0.0.1 port={pool_port} user=postgres dbname=postgres")
}

#[test]
fn classic_pools_follow_a_failover_and_name_the_reason() {
    let site = Site::classic();
    let ((a, _), (b, _)) = (&site.a, &site.b);
    site.expect("ReadWrite", "a", ["UP", "L7OK", "200", ""]);
    site.expect("ReadWrite", "b", ["DOWN", "L7STS", "206", "Standby"]);
    site.expect("ReadOnly", "a", ["DOWN", "L7STS", "200", "Primary"]);
    site.expect("ReadOnly", "b", ["UP", "L7OK", "206", ""]);
    assert_eq!(site.reaches(site.write_port), a.port().to_string());
    assert_eq!(site.reaches(site.read_port), b.port().to_string());

    a.stop(StopMode::Fast);
    site.expect("ReadWrite", "a", ["DOWN", "L7STS", "503", "connection-refused"]);
    site.expect("ReadOnly", "a", ["DOWN", "L7STS", "503", "connection-refused"]);
    b.promote();
    site.expect("ReadWrite", "b", ["UP", "L7OK", "200", ""]);
    site.expect("ReadOnly", "b", ["DOWN", "L7STS", "200", "Primary"]);
    assert_eq!(site.reaches(site.write_port), b.port().to_string());
}

#[test]
fn patroni_paths_follow_a_failover_and_name_the_reason() {
    let expect = "http-check expect status 200";
    let site = Site::start(
        &["option httpchk OPTIONS /primary", expect],
        &["option httpchk OPTIONS /replica", expect],
    );
    let ((a, _), (b, _)) = (&site.a, &site.b);
    site.expect("ReadWrite", "a", ["UP", "L7OK", "200", ""]);
    site.expect("ReadWrite", "b", ["DOWN", "L7STS", "503", "in-recovery"]);
    site.expect("ReadOnly", "a", ["DOWN", "L7STS", "503", "not-in-recovery"]);
    site.expect("ReadOnly", "b", ["UP", "L7OK", "200", ""]);
    assert_eq!(site.reaches(site.write_port), a.port().to_string());
    assert_eq!(site.reaches(site.read_port), b.port().to_string());

    a.stop(StopMode::Immediate);
    site.expect("ReadWrite", "a", ["DOWN", "L7STS", "503", "connection-refused"]);
    b.promote();
    site.expect("ReadWrite", "b", ["UP", "L7OK", "200", ""]);
    site.expect("ReadOnly", "b", ["DOWN", "L7STS", "503", "not-in-recovery"]);
    assert_eq!(site.reaches(site.write_port), b.port().to_string());
}

#[test]
fn a_frozen_postmaster_takes_its_server_out_with_the_reason_and_ends_its_sessions() {
    let site = Site::classic();
    site.expect("ReadWrite", "a", ["UP", "L7OK", "200", ""]);
    let mut client =
        postgres::Client::connect(&dsn(site.write_port), postgres::NoTls).expect("a session through HAProxy");
    let frozen = Frozen::new(site.a.0.postmaster_pid());
    site.expect("ReadWrite", "a", ["DOWN", "L7STS", "503", "postmaster-not-answering"]);
    assert_shut(&mut client);
    frozen.thaw();
    site.expect("ReadWrite", "a", ["UP", "L7OK", "200", ""]);
    assert_eq!(site.reaches(site.write_port), site.a.0.port().to_string());
}

#[test]
fn a_check_without_expect_takes_primary_and_standby_alike() {
    let site = Site::start(&["option httpchk"], &["option httpchk GET /read-only"]);
    site.expect("ReadWrite", "a", ["UP", "L7OK", "200", ""]);
    site.expect("ReadWrite", "b", ["UP", "L7OK", "206", ""]);
    site.expect("ReadOnly", "a", ["UP", "L7OK", "200", ""]);
    site.expect("ReadOnly", "b", ["UP", "L7OK", "200", ""]);
    site.a.0.stop(StopMode::Fast);
    site.expect("ReadWrite", "a", ["DOWN", "L7STS", "503", "connection-refused"]);
    site.expect("ReadOnly", "a", ["DOWN", "L7STS", "503", "connection-refused"]);
    site.expect("ReadOnly", "b", ["UP", "L7OK", "200", ""]);
}

/// Made for Patroni, whose API is 503 on `/` of a standby.
#[test]
fn a_check_without_path_and_expect_lets_writes_reach_the_primary_alone_where_root_path_says_so() {
    // From HAProxy 3.3 on, servers are taken by chance where nothing is said.
    let pools: [&[&str]; 2] = [&["option httpchk", "balance roundrobin"], &["option httpchk GET /replica"]];
    let count = |cluster: &Cluster| cluster.psql("SELECT count(*) FROM writes");

    let site = Site::start_with(&[], pools[0], pools[1]);
    site.a.0.psql("CREATE TABLE writes(number serial)");
    site.expect("ReadWrite", "a", ["UP", "L7OK", "200", ""]);
    site.expect("ReadWrite", "b", ["UP", "L7OK", "206", ""]);
    assert_eq!(site.writes(10), 5, "every other one went to the standby");
    assert_eq!(count(&site.a.0), "5");
    drop(site);

    let site = Site::start_with(&["--root-path", "/primary"], pools[0], pools[1]);
    let ((a, _), (b, _)) = (&site.a, &site.b);
    a.psql("CREATE TABLE writes(number serial)");
    site.expect("ReadWrite", "a", ["UP", "L7OK", "200", ""]);
    site.expect("ReadWrite", "b", ["DOWN", "L7STS", "503", "in-recovery"]);
    site.expect("ReadOnly", "a", ["DOWN", "L7STS", "503", "not-in-recovery"]);
    site.expect("ReadOnly", "b", ["UP", "L7OK", "200", ""]);
    assert_eq!(site.writes(10), 10);
    assert_eq!(count(a), "10");
    eventually(SOON, "the standby has them", || count(b) == "10");

    a.stop(StopMode::Fast);
    site.expect("ReadWrite", "a", ["DOWN", "L7STS", "503", "connection-refused"]);
    assert_eq!(site.writes(2), 0, "no server is up");
    b.promote();
    site.expect("ReadWrite", "b", ["UP", "L7OK", "200", ""]);
    assert_eq!(site.writes(10), 10);
    assert_eq!(count(b), "20");
}

/// Holds what HAProxy sends on the check of a server behind these lines against what they are here for.
#[track_caller]
fn assert_haproxy_sends(lines: &[&str], expected: &[u8]) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let address = listener.local_addr().expect("an address");
    let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
    let server = format!("    server s {address} check port {}\n", address.port());
    let _haproxy = Haproxy::start(&format!("backend b\n{lines}{server}"));
    let (mut check, _) = listener.accept().expect("HAProxy connects");
    check.set_read_timeout(Some(SOON)).expect("set a timeout");
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.windows(expected.len()).any(|window| window == expected) {
        check.read_exact(&mut byte).unwrap_or_else(|error| panic!("{}: {error}", bytes.escape_ascii()));
        bytes.extend(byte);
    }
}

/// A check with a PROXY header was a 400, which emptied both pools.
#[test]
fn checks_with_a_proxy_header_are_answered() {
    for (server, start) in [
        ("default-server check-send-proxy", b"PROXY TCP4 127.0.0.1 127.0.0.1 ".as_slice()),
        ("default-server check-send-proxy send-proxy-v2", b"\r\n\r\n\0\r\nQUIT\n"),
    ] {
        assert_haproxy_sends(&["option httpchk", server], start);
        let site = Site::start(
            &["option httpchk", "http-check expect status 200", server],
            &["option httpchk GET /replica", "http-check expect status 200", server],
        );
        site.expect("ReadWrite", "a", ["UP", "L7OK", "200", ""]);
        site.expect("ReadWrite", "b", ["DOWN", "L7STS", "206", "Standby"]);
        site.expect("ReadOnly", "a", ["DOWN", "L7STS", "503", "not-in-recovery"]);
        site.expect("ReadOnly", "b", ["UP", "L7OK", "200", ""]);
    }
}

#[test]
fn checks_with_a_body_are_answered() {
    let send = |method: &str, path: &str| {
        format!("http-check send meth {method} uri {path} ver HTTP/1.1 hdr Host node body hello")
    };
    let with_body = b"content-length: 5\r\nconnection: close\r\n\r\nhello";
    assert_haproxy_sends(&["option httpchk", &send("OPTIONS", "/read-write")], with_body);
    let site = Site::start(
        &["option httpchk", &send("OPTIONS", "/read-write"), "http-check expect status 200"],
        &["option httpchk", &send("GET", "/replica"), "http-check expect status 200"],
    );
    site.expect("ReadWrite", "a", ["UP", "L7OK", "200", ""]);
    site.expect("ReadWrite", "b", ["DOWN", "L7STS", "503", "in-recovery"]);
    site.expect("ReadOnly", "a", ["DOWN", "L7STS", "503", "not-in-recovery"]);
    site.expect("ReadOnly", "b", ["UP", "L7OK", "200", ""]);
    assert_eq!(site.reaches(site.write_port), site.a.0.port().to_string());
}

#[test]
fn a_stopped_agent_takes_its_server_out() {
    let mut site = Site::classic();
    site.expect("ReadWrite", "a", ["UP", "L7OK", "200", ""]);
    assert!(site.a.1.terminate().success());
    eventually(SOON, "HAProxy sees that nobody answers", || {
        let state = site.haproxy.server("ReadWrite", "a");
        (state.status.as_str(), state.check_status.as_str()) == ("DOWN", "L4CON")
    });
}
