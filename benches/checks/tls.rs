//! What TLS costs: a check at the port that speaks it, with and without a session to resume, and a session with PostgreSQL.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use pgsqlchk::tls::files::authorities;
use pgsqlchk::tls::provider::provider;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::client::{CHECK, PATIENCE, buffer, exchange, timed};
use crate::report::{heading, median, say, timing_row};
use crate::support::certificates::{Authority, Wish};
use crate::support::{Agent, Cluster, agent, eventually, free_port, http};

/// Measures and prints both.
pub fn measure(turns: usize, title: &str) {
    let primary = Cluster::stopped(&[("ssl", "on")]);
    primary.make_certificate();
    primary.start();
    heading(&format!("TLS, {title}"));
    at_the_port(&primary, turns);
    say("");
    with_postgresql(&primary, turns);
    say("");
}

fn at_the_port(primary: &Cluster, turns: usize) {
    let authority = Authority::new("bench");
    let shown = authority.issue(Wish::local("localhost"));
    let place = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let agent = Agent::start_with(|command| {
        command.args(["--dsn", &primary.dsn(), "--tls-listen", &place.to_string(), "--tls-cert"]);
        command.arg(&shown.certificate).arg("--tls-key").arg(&shown.key);
    });
    let client = |resumption: Resumption| {
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let roots = authorities(&authority.certificate()).expect("the authority");
        let mut client = builder.with_root_certificates(roots).with_no_client_auth();
        client.resumption = resumption;
        Arc::new(client)
    };
    let clients = [client(Resumption::default()), client(Resumption::disabled())];
    let mut buffer = buffer();
    let mut timings = [(); 3].map(|()| Vec::with_capacity(turns));
    for _ in 0..turns {
        timings[0].push(timed(|| exchange(agent.addr(), CHECK, "200", &mut buffer)));
        for (timings, client) in timings[1..].iter_mut().zip(&clients) {
            timings.push(timed(|| exchange_over_tls(place, client)));
        }
    }
    let unit = median(&mut timings[0]);
    let rows = [
        "check over a new TCP connection",
        "the same over TLS, resumed",
        "the same over TLS, from the start",
    ];
    for (timings, (name, goal)) in timings.iter_mut().zip(rows.iter().zip(["the unit", "", ""])) {
        timing_row(name, timings, unit, goal);
    }
}

fn exchange_over_tls(agent: SocketAddr, client: &Arc<ClientConfig>) {
    let socket = TcpStream::connect(agent).expect("connect to the agent");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    socket.set_nodelay(true).expect("no delay");
    let name = ServerName::try_from("localhost").expect("a name");
    let session = ClientConnection::new(Arc::clone(client), name).expect("a session");
    let mut stream = StreamOwned::new(session, socket);
    stream.write_all(CHECK.as_bytes()).expect("send the check");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("read the reply");
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
}

fn with_postgresql(primary: &Cluster, turns: usize) {
    let dsn = |mode: &str| {
        format!("host=127.0.0.1 port={} user=postgres dbname=postgres sslmode={mode}", primary.port())
    };
    let dsns = ["disable", "require"].map(dsn);
    let agents = dsns.each_ref().map(|dsn| Agent::start(&["--dsn", dsn, "--login-interval", "0"]));
    for agent in &agents {
        let is_up = || http::get(agent.addr(), "/primary").is_ok_and(|reply| reply.status == 200);
        eventually(PATIENCE, "it answers", is_up);
    }
    let mut buffer = buffer();
    let mut checks = [(); 2].map(|()| Vec::with_capacity(turns));
    for _ in 0..turns {
        for (agent, timings) in agents.iter().zip(&mut checks) {
            timings.push(timed(|| exchange(agent.addr(), CHECK, "200", &mut buffer)));
        }
    }
    let mut logins = [(); 2].map(|()| Vec::with_capacity(turns / 20));
    for _ in 0..turns / 20 {
        for (dsn, timings) in dsns.iter().zip(&mut logins) {
            timings.push(timed(|| look_once(dsn)));
        }
    }
    print(&mut checks, ["check, the session to PostgreSQL over TCP", "the same, over TLS"]);
    print(&mut logins, ["pgsqlchk check over TCP: a login each", "the same, over TLS"]);
}

fn print(timings: &mut [Vec<Duration>; 2], names: [&str; 2]) {
    let unit = median(&mut timings[0]);
    for ((timings, name), goal) in timings.iter_mut().zip(names).zip(["the unit", ""]) {
        timing_row(name, timings, unit, goal);
    }
}

fn look_once(dsn: &str) {
    let mut command = agent::command();
    command.args(["check", "--dsn", dsn, "--config", "/dev/null"]).stdout(Stdio::null());
    assert!(command.status().expect("run the agent").success(), "{dsn}");
}
