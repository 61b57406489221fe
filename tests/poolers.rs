//! Clients that go through a pooler meet its end, whatever PostgreSQL says behind it. The judge is a client of the pool.
//!
//! Seen: with PgBouncer dead, through which all clients went, the node stayed in.

mod support;

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Instant;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use support::cluster::psql_command;
use support::new_clients::{
    agent_with, assert_becomes, assert_refused, assert_stays, errand, primary, status, timely,
};
use support::one_check::OneCheck;
use support::patience::{SLACK, TIMEOUT};
use support::pgbouncer::{Pgbouncer, Pool, PoolMode};
use support::process::{Killed, wait_for_exit};
use support::prometheus::Page;
use support::{Agent, Cluster, Frozen, Haproxy, agent_check, eventually, free_port, impostor, millis, secs};

/// What psql sends when it comes.
const POOL: Pool = Pool {
    mode: PoolMode::Transaction,
    forced_user: None,
    size: 4,
    more: "ignore_startup_parameters = options",
};

/// Every path about the role.
const ROLE_PATHS: [&str; 12] = [
    "/",
    "/primary",
    "/read-write",
    "/replica",
    "/read-only",
    "/sync",
    "/async",
    "/quorum",
    "/read-only-sync",
    "/read-only-quorum",
    "/standby-leader",
    "/replica?lag=16MB",
];

fn agent_of(cluster: &Cluster, poolers: &[&str]) -> Agent {
    let named = poolers.iter().flat_map(|pooler| ["--pooler", pooler]);
    let args: Vec<&str> = named.chain(agent_check::AGENT_LISTEN).collect();
    agent_with(&cluster.dsn_of("pgsqlchk"), &args)
}

fn is_up(agent: &Agent, pooler: &str) -> Option<f64> {
    Page::of(agent).get(&format!("pgsqlchk_pooler_up{{pooler=\"{pooler}\"}}"))
}

/// What speaks of PostgreSQL alone says what it said before, and at once.
#[track_caller]
fn assert_the_rest_goes_on(agent: &Agent, role: &str) {
    for path in ["/health", "/readiness", "/liveness"] {
        let reply = agent.get(path);
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        assert!(reply.elapsed < SLACK, "{path} waits for nobody: {reply:?}");
    }
    assert_eq!(status(agent)["role"], role);
}

#[test]
fn a_dead_pooler_takes_its_node_out_on_every_path_about_the_role() {
    let primary = primary();
    let standby = Cluster::standby_of(&primary);
    for (cluster, role, up) in [(&primary, "primary", "200 Primary"), (&standby, "standby", "206 Standby")] {
        let mut bouncer = Pgbouncer::before(cluster, POOL);
        for address in [bouncer.address().to_string(), bouncer.socket_path().display().to_string()] {
            let agent = agent_of(cluster, &[&address]);
            assert_eq!(timely(&agent, "/"), up);
            assert!(errand(&bouncer.dsn("app")).is_ok());
            assert_eq!(is_up(&agent, &address), Some(1.0));
            assert_eq!(status(&agent)["poolers"][0]["up"], true);
            bouncer.kill();
            assert!(errand(&bouncer.dsn("app")).is_err(), "the judge");
            assert_becomes(&agent, "503 pooler-not-answering");
            for path in ROLE_PATHS {
                assert_eq!(timely(&agent, path), "503 pooler-not-answering", "{path}");
            }
            assert_eq!(agent_check::ask(&agent, "/primary?else=maint"), "down #pooler-not-answering\n");
            assert_the_rest_goes_on(&agent, role);
            assert_eq!(is_up(&agent, &address), Some(0.0));
            let document = status(&agent);
            assert_eq!(document["reason"], "pooler-not-answering");
            assert_eq!(document["poolers"][0]["address"], address);
            assert_eq!(document["poolers"][0]["up"], false);
            agent.wait_for_log(&format!("pooler-not-answering: {address}: "));
            let check = OneCheck::run(&cluster.dsn_of("pgsqlchk"), &["--pooler", &address]);
            assert_eq!(check.code, 2, "{check:?}");
            assert!(check.line.contains(&format!("pooler-not-answering: {address}")), "{check:?}");
            bouncer.start();
            assert_becomes(&agent, up);
            agent.wait_for_log(&format!("the pooler {address} answers again"));
            let check = OneCheck::run(&cluster.dsn_of("pgsqlchk"), &["--pooler", &address]);
            assert_eq!(check.code, 0, "{check:?}");
        }
    }
}

/// Four that are frozen cost one deadline, and nobody who does not ask for them.
#[test]
fn frozen_poolers_are_waited_for_at_the_same_time() {
    let primary = primary();
    let bouncers: Vec<Pgbouncer> = (0..2).map(|_| Pgbouncer::before(&primary, POOL)).collect();
    let tcp = bouncers.iter().map(|bouncer| bouncer.address().to_string());
    let unix = bouncers.iter().map(|bouncer| bouncer.socket_path().display().to_string());
    let addresses: Vec<String> = tcp.chain(unix).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let agent = agent_of(&primary, &addresses);
    assert_eq!(timely(&agent, "/"), "200 Primary");
    let frozen: Vec<Frozen> = bouncers.iter().map(|bouncer| Frozen::new(bouncer.pid())).collect();
    assert_becomes(&agent, "503 pooler-not-answering");
    for path in ["/primary", "/read-write"] {
        let reply = agent.get(path);
        assert_eq!(reply.line(), "503 pooler-not-answering");
        assert!(reply.elapsed < TIMEOUT + SLACK, "{reply:?}");
    }
    let asking = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| agent.get("/primary"));
        assert_the_rest_goes_on(&agent, "primary");
        waiting.join().expect("a reply")
    });
    assert_eq!(asking.line(), "503 pooler-not-answering");
    assert!(addresses.iter().all(|address| is_up(&agent, address) == Some(0.0)), "{:?}", status(&agent));
    // One of both is enough.
    let mut frozen = frozen.into_iter();
    frozen.next().expect("the first").thaw();
    assert_stays(&agent, "503 pooler-not-answering");
    frozen.next().expect("the second").thaw();
    assert_becomes(&agent, "200 Primary");
    let check =
        OneCheck::run(&primary.dsn_of("pgsqlchk"), &["--pooler", addresses[0], "--pooler", addresses[2]]);
    assert_eq!(check.code, 0, "{check:?}");
}

/// Nobody accepts any more, and the kernel has no place left for those who wait.
#[test]
fn a_full_backlog_is_no_answer() {
    let primary = primary();
    let bouncer = Pgbouncer::before(&primary, Pool { more: "listen_backlog = 1", ..POOL });
    let (tcp, unix) = (bouncer.address(), bouncer.socket_path());
    for address in [tcp.to_string(), unix.display().to_string()] {
        let agent = agent_of(&primary, &[&address]);
        assert_eq!(timely(&agent, "/"), "200 Primary");
        let frozen = Frozen::new(bouncer.pid());
        let _waiting: Vec<_> = (0..8).map(|_| TcpStream::connect_timeout(&tcp, millis(100))).collect();
        let _also: Vec<_> = (0..8).map(|_| try_unix(&unix)).collect();
        assert!(TcpStream::connect_timeout(&tcp, millis(200)).is_err(), "the backlog is full");
        assert!(try_unix(&unix).is_none(), "that of the socket, too");
        let begun = Instant::now();
        assert_becomes(&agent, "503 pooler-not-answering");
        assert!(begun.elapsed() < secs(20));
        assert_the_rest_goes_on(&agent, "primary");
        frozen.thaw();
        assert_becomes(&agent, "200 Primary");
    }
}

/// Without waiting where there is no place.
fn try_unix(path: &std::path::Path) -> Option<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a socket");
    connect(&socket, &SocketAddrUnix::new(path).expect("an address")).ok()?;
    Some(socket.into())
}

/// It lets its clients wait, and goes on answering.
#[test]
fn a_paused_pooler_answers() {
    let primary = primary();
    let bouncer = Pgbouncer::before(&primary, POOL);
    let agent = agent_of(&primary, &[&bouncer.address().to_string()]);
    bouncer.tell("PAUSE");
    let mut psql = psql_command();
    psql.args(["-d", &bouncer.dsn("app"), "-c", "SELECT 1"]).stdout(Stdio::null());
    let mut client = Killed(psql.spawn().expect("start psql"));
    assert_stays(&agent, "200 Primary");
    assert_eq!(client.0.try_wait().expect("look for psql"), None, "the judge waits");
    bouncer.tell("RESUME");
    let ended = wait_for_exit(&mut client.0, secs(10));
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    assert_stays(&agent, "200 Primary");
}

#[test]
fn a_pooler_that_wants_tls_answers() {
    let primary = primary();
    // Beside its configuration.
    let more = "client_tls_sslmode = require\nclient_tls_key_file = FOLDER/server.key\n\
                client_tls_cert_file = FOLDER/server.crt";
    let mut bouncer = Pgbouncer::before(&primary, Pool { more, ..POOL });
    assert_refused(&format!("{} sslmode=disable", bouncer.dsn("app")), "SSL required");
    let agent = agent_of(&primary, &[&bouncer.address().to_string()]);
    assert_stays(&agent, "200 Primary");
    let before = bouncer.log().lines().count();
    assert_stays(&agent, "200 Primary");
    let handshakes = bouncer.log().lines().skip(before).filter(|line| line.contains("handshake")).count();
    assert_eq!(handshakes, 0, "{}", bouncer.log());
    bouncer.kill();
    assert_becomes(&agent, "503 pooler-not-answering");
}

/// Seen: from the second knock on the node was out.
#[test]
fn who_offers_tls_and_knows_no_gssapi_answers() {
    let primary = primary();
    let agent = agent_of(&primary, &[&impostor::speaking_tls_only().to_string()]);
    assert_stays(&agent, "200 Primary");
    let closing = agent_of(&primary, &[&impostor::closing().to_string()]);
    assert_stays(&closing, "503 pooler-not-answering");
}

/// It knows nothing of PostgreSQL behind it: that is the agent's own look.
#[test]
fn a_pooler_says_nothing_of_the_server_behind_it() {
    let primary = primary();
    let mut bouncer = Pgbouncer::before(&primary, POOL);
    let agent = agent_of(&primary, &[&bouncer.address().to_string()]);
    assert_eq!(timely(&agent, "/"), "200 Primary");
    primary.kill();
    assert_becomes(&agent, "503 connection-refused");
    assert_eq!(is_up(&agent, &bouncer.address().to_string()), Some(1.0));
    // What PostgreSQL lacks comes first.
    bouncer.kill();
    assert_stays(&agent, "503 connection-refused");
    primary.start();
    assert_becomes(&agent, "503 pooler-not-answering");
}

/// As PostgreSQL does with every place taken: whoever comes now learns after the knock that there is none.
#[test]
fn a_pooler_with_all_places_taken_answers() {
    let primary = primary();
    let more = "ignore_startup_parameters = options\nmax_client_conn = 3";
    let bouncer = Pgbouncer::before(&primary, Pool { more, ..POOL });
    let agent = agent_of(&primary, &[&bouncer.address().to_string()]);
    let connect = || postgres::Client::connect(&bouncer.dsn("app"), postgres::NoTls).ok();
    let clients: Vec<_> = std::iter::from_fn(connect).take(10).collect();
    assert!(clients.len() < 10, "there is no place left");
    assert_refused(&bouncer.dsn("app"), "no more connections allowed");
    assert_stays(&agent, "200 Primary");
    drop(clients);
    assert_stays(&agent, "200 Primary");
}

/// HAProxy's clients go through the pooler, and its checks to the agent.
#[test]
fn haproxy_sends_nobody_to_a_node_whose_pooler_is_dead() {
    let primary = primary();
    let bouncer = Pgbouncer::before(&primary, POOL);
    let agent = agent_of(&primary, &[&bouncer.address().to_string()]);
    let port = free_port();
    let haproxy = Haproxy::start(&format!(
        "listen write\n    mode tcp\n    bind 127.0.0.1:{port}\n    option httpchk GET /primary\n    \
         default-server check inter 200ms fall 2 rise 1 on-marked-down shutdown-sessions\n    \
         server node1 {} check port {}\n",
        bouncer.address(),
        agent.addr().port()
    ));
    let state = || haproxy.server("write", "node1");
    let dsn = format!("host=127.0.0.1 port={port} user=app dbname=postgres");
    eventually(secs(10), "it is up", || state().status == "UP");
    assert!(errand(&dsn).is_ok());
    let frozen = Frozen::new(bouncer.pid());
    eventually(secs(10), "it is down", || {
        let state = state();
        state.status == "DOWN" && state.last_chk.contains("pooler-not-answering")
    });
    assert!(errand(&dsn).is_err());
    frozen.thaw();
    eventually(secs(10), "it is up again", || state().status == "UP");
    assert!(errand(&dsn).is_ok());
}

#[test]
fn a_pooler_by_name_is_tried_at_all_its_addresses() {
    let primary = primary();
    let bouncer = Pgbouncer::before(&primary, POOL);
    let name = format!("localhost:{}", bouncer.address().port());
    // It listens on one of them only.
    let agent = agent_of(&primary, &[&name]);
    assert_stays(&agent, "200 Primary");
    let nowhere = agent_of(&primary, &["no-such-host.invalid:6432"]);
    assert_eq!(timely(&nowhere, "/"), "503 pooler-not-answering");
    assert_the_rest_goes_on(&nowhere, "primary");
}

/// In each look, where the postmaster's knock is off: nothing else says how old an answer may be.
#[test]
fn without_knocks_at_the_postmaster_poolers_are_knocked_at_for_each_check() {
    let primary = primary();
    let mut bouncer = Pgbouncer::before(&primary, POOL);
    let pooler = bouncer.address().to_string();
    let dsn = primary.dsn_of("pgsqlchk");
    let agent =
        Agent::start(&["--dsn", &dsn, "--timeout", "1s", "--knock-interval", "0", "--pooler", &pooler]);
    assert_eq!(timely(&agent, "/"), "200 Primary");
    bouncer.kill();
    assert_eq!(timely(&agent, "/"), "503 pooler-not-answering");
}
