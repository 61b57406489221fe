//! How each problem is made, with real servers, agents, processes and files.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::site::Site;
use super::support::impostor::{self, FullQueue};
use super::support::postgresql::ServerUser;
use super::support::{Agent, Cluster, Frozen, Signal, StopMode, eventually, secs, signal};

/// As it was in the field, in short.
const OLD_SCRIPT: &str = "#!/bin/bash\nif [ \"$(psql -Atc 'SELECT pg_is_in_recovery()')\" = f ]; then\n  \
                          echo -en 'HTTP/1.1 200 OK\\r\\n\\r\\n'\nelse\n  echo -en 'HTTP/1.1 206 OK\\r\\n\\r\\n'\nfi\n";

const SERVICE: &str = "etc/systemd/system/multi-user.target.wants/pgsqlchk.service";

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set the mode");
}

pub fn unreadable_configuration(site: &mut Site) {
    // Root would read it; the agent's user, as which it asks, may not.
    set_mode(&site.home.path().join("pgsqlchk.conf"), 0o000);
}

pub fn allow_without_peer(site: &mut Site) {
    let peer = Agent::start(&["--dsn", &site.server.dsn()]);
    site.add(&format!("allow = 192.0.2.0/24\npeer = {}", peer.addr()));
    site.hold(peer);
}

pub fn open_password(site: &mut Site) {
    let dsn = format!("{} password=s3cr3t", site.server.dsn());
    site.set_dsn(&dsn);
}

pub fn stopped_server(site: &mut Site) {
    site.server.stop(StopMode::Fast);
}

pub fn another_port(site: &mut Site) {
    let folder = site.server.socket_dir().display().to_string();
    site.set_dsn(&format!("host={folder} port=1 user=postgres"));
}

pub fn frozen_postmaster(site: &mut Site) {
    site.hold(Frozen::new(site.server.postmaster_pid()));
}

pub fn missing_role(site: &mut Site) {
    site.set_dsn(&site.server.dsn_of("pgsqlchk"));
}

pub fn missing_database(site: &mut Site) {
    site.set_dsn(&site.server.dsn().replace("dbname=postgres", "dbname=nowhere"));
}

fn make_role(site: &mut Site, options: &str) {
    site.server.psql(&format!("CREATE ROLE pgsqlchk LOGIN {options}"));
    site.set_dsn(&site.server.dsn_of("pgsqlchk"));
}

pub fn open_passfile(site: &mut Site) {
    site.server.psql("CREATE ROLE pgsqlchk LOGIN PASSWORD 'r1ght'");
    site.server.write_hba("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n");
    let passfile = site.home.write("passfile", "*:*:*:*:r1ght\n");
    ServerUser::current().give(&passfile);
    set_mode(&passfile, 0o644);
    let port = site.server.port();
    site.set_dsn(&format!(
        "host=127.0.0.1 port={port} user=pgsqlchk dbname=postgres passfile={}",
        passfile.display()
    ));
}

pub fn connection_limit(site: &mut Site) {
    make_role(site, "CONNECTION LIMIT 0");
}

pub fn no_monitor(site: &mut Site) {
    make_role(site, "");
}

pub fn few_connections(site: &mut Site) {
    site.server.configure(&[("max_connections", "10"), ("max_wal_senders", "0")]);
    site.stop_agent();
    site.server.restart(StopMode::Fast);
    let sessions: Vec<_> = (0..8).map(|_| site.server.connect()).collect();
    site.hold(sessions);
}

pub fn smart_shutdown(site: &mut Site) {
    let client = site.server.connect();
    site.hold(client);
    signal(site.server.postmaster_pid(), Signal::TERM);
    eventually(secs(10), "new clients are refused", || site.server.try_psql("SELECT 1").is_err());
}

fn standby_with(site: &mut Site, settings: &[(&str, &str)]) {
    let standby = Cluster::stopped_standby_of(&site.server, settings);
    let primary = std::mem::replace(&mut site.server, standby);
    site.hold(primary);
    site.set_dsn(&site.server.dsn());
}

pub fn cold_standby(site: &mut Site) {
    standby_with(site, &[("hot_standby", "off")]);
    site.server.try_start_nowait();
    eventually(secs(20), "it refuses clients for good", || {
        site.server.try_psql("SELECT 1").is_err_and(|why| why.contains("not accepting connections"))
    });
}

pub fn cold_primary(site: &mut Site) {
    site.server.configure(&[("hot_standby", "off")]);
    site.server.restart(StopMode::Fast);
}

pub fn ending_password(site: &mut Site) {
    make_role(site, "PASSWORD 'x' IN ROLE pg_monitor");
    site.server
        .psql("DO $$ BEGIN EXECUTE format('ALTER ROLE pgsqlchk VALID UNTIL %L', now() + '3 days'); END $$");
}

pub fn cut_off_standby(site: &mut Site) {
    standby_with(site, &[("primary_conninfo", "")]);
    site.server.write_auto_settings(&[("primary_conninfo", "")]);
    site.server.start();
}

pub fn other_program(site: &mut Site) {
    site.stop_agent();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, site.port)).expect("listen in its place");
    site.hold(listener);
}

/// A service file in the place of systemd's units; the attributes come last, where they count.
pub fn xinetd(site: &mut Site, attributes: &str) {
    let own = format!(
        "service pgsqlchk\n{{\n\tdisable = no\n\tport = {}\n\twait = no\n\tserver = /usr/local/bin/pgsqlchk\n\tserver_args = \
         --mode xinetd\n\t{attributes}\n}}\n",
        site.port
    );
    site.plant("etc/xinetd.d/pgsqlchk", &own);
}

pub fn xinetd_alone(site: &mut Site) {
    site.remove(SERVICE);
    xinetd(site, "");
}

pub fn xinetd_with_script(site: &mut Site) {
    site.plant("usr/lib/pgcheck.sh", OLD_SCRIPT);
    xinetd(site, "server = /usr/lib/pgcheck.sh");
}

pub fn script_in_path(site: &mut Site) {
    site.remove("usr/local/bin/pgsqlchk");
    site.plant("usr/local/bin/pgsqlchk", OLD_SCRIPT);
}

pub fn script_beside(site: &mut Site) {
    script_in_path(site);
    site.environment.push(("PATH".into(), "/usr/sbin:/sbin".into()));
}

pub fn drained(site: &mut Site) {
    let file = site.home.write("drain", "");
    site.add(&format!("drain-file = {}", file.display()));
}

pub fn open_drain_folder(site: &mut Site) {
    let folder = site.home.path().join("drain");
    fs::create_dir(&folder).expect("make a folder");
    set_mode(&folder, 0o777);
    site.add(&format!("drain-file = {}/drain", folder.display()));
}

pub fn closed_drain_folder(site: &mut Site) {
    let folder = site.home.path().join("closed");
    fs::create_dir(&folder).expect("make a folder");
    set_mode(&folder, 0o000);
    site.add(&format!("drain-file = {}/drain", folder.display()));
}

pub fn swallowing_peer(site: &mut Site) {
    let (queue, address) = FullQueue::tcp();
    site.add(&format!("peer = {address}"));
    site.hold(queue);
}

pub fn closing_peer(site: &mut Site) {
    site.add(&format!("peer = {}", impostor::closing()));
}

pub fn script_as_peer(site: &mut Site) {
    let address = impostor::answering(b"HTTP/1.1 206 OK\r\nContent-Length: 0\r\n\r\n");
    site.add(&format!("peer = {address}"));
}

pub fn foreign_peer(site: &mut Site) {
    let other = Cluster::foreign_primary();
    let agent = Agent::start(&["--dsn", &other.dsn()]);
    site.add(&format!("peer = {}", agent.addr()));
    site.hold((agent, other));
}

pub fn two_primaries(site: &mut Site) {
    let other = Cluster::primary();
    let agent = Agent::start(&["--dsn", &other.dsn()]);
    site.add(&format!("peer = {}", agent.addr()));
    site.hold((agent, other));
}

/// An agent of another release, or on another host.
pub fn peer_that_says(site: &mut Site, field: &str, value: &str) {
    let body = format!("{{\"agent\":\"a1\",\"name\":\"node2\",\"role\":\"standby\",\"{field}\":{value}}}");
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let address = impostor::answering(answer.leak().as_bytes());
    site.add(&format!("peer = {address}"));
}

pub fn one_sided_peer(site: &mut Site) {
    let standby = Cluster::standby_of(&site.server);
    let agent = Agent::start(&["--dsn", &standby.dsn()]);
    site.add(&format!("peer = {}", agent.addr()));
    site.hold((agent, standby));
}

pub fn frozen_agent(site: &mut Site) {
    site.hold(Frozen::new(site.agent().pid()));
}

pub fn agent_without_role(site: &mut Site) {
    site.set_dsn(&site.server.dsn_of("nobody"));
    site.start_agent();
    // Mended since, without the agent's knowing.
    site.set_dsn(&site.server.dsn());
}

pub fn script_at_the_port(site: &mut Site) {
    site.stop_agent();
    let address = impostor::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    site.port = address.port();
    site.add("");
}
