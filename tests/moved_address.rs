//! A TCP address behind which the server changes while the agent's session stays open to the old one. What counts is whom
//! a new client of the address meets.
//!
//! Seen: 200 Primary 15 s after new clients had reached a standby.

mod support;

use postgres::{Client, NoTls};
use support::forwarder::Forwarder;
use support::new_clients::{
    SOON, agent_with, assert_becomes, assert_every_path, errand, primary, status, timely,
};
use support::prometheus::Page;
use support::{Agent, Cluster, agent_check, eventually, free_port, secs};

/// Through the address.
fn dsn(address: &Forwarder, role: &str) -> String {
    format!("host=127.0.0.1 port={} user={role} dbname=postgres", address.port())
}

/// An old client's session, which stays where it is.
#[track_caller]
fn old_client(address: &Forwarder) -> Client {
    Client::connect(&dsn(address, "app"), NoTls).expect("a session through the address")
}

#[track_caller]
fn port_of(client: &mut Client) -> String {
    let row = client.query_one("SELECT current_setting('port')", &[]).expect("the old server answers");
    row.get(0)
}

#[test]
fn the_answer_follows_a_moved_address_from_primary_to_standby_and_back() {
    let primary = primary();
    let standby = Cluster::standby_of(&primary);
    let address = Forwarder::to(primary.port());
    let agent = agent_with(&dsn(&address, "pgsqlchk"), &agent_check::AGENT_LISTEN);
    assert_eq!(timely(&agent, "/"), "200 Primary");
    let mut client = old_client(&address);
    for _ in 0..2 {
        address.switch(standby.port());
        assert_eq!(errand(&dsn(&address, "app")), Ok("standby"));
        assert_becomes(&agent, "206 Standby");
        assert_eq!(timely(&agent, "/primary"), "503 in-recovery");
        assert_eq!(agent_check::ask(&agent, "/primary"), "down #in-recovery\n");
        assert_eq!(port_of(&mut client), primary.port().to_string(), "the old server lives");
        leaves(&primary, "the agent has left the old server");

        address.switch(primary.port());
        assert_eq!(errand(&dsn(&address, "app")), Ok("primary"));
        assert_becomes(&agent, "200 Primary");
        assert_eq!(timely(&agent, "/replica"), "503 not-in-recovery");
        leaves(&standby, "the agent has left the standby");
    }
}

#[track_caller]
fn leaves(cluster: &Cluster, what: &str) {
    eventually(secs(5), what, || cluster.backend_pids("pgsqlchk").is_empty());
}

/// The role is the same at both: what tells them apart is who they are.
#[test]
fn another_system_behind_the_address_is_what_is_described() {
    let (first, second) = (primary(), primary());
    // Copies of one data directory, as after a restore; their postmasters started at different times.
    let address = Forwarder::to(first.port());
    let agent = agent_with(&dsn(&address, "pgsqlchk"), &[]);
    let started = |agent: &Agent| status(agent)["server_started"].clone();
    let at_first = started(&agent);
    let _client = old_client(&address);
    address.switch(second.port());
    eventually(SOON, "it describes the second server", || {
        assert_eq!(timely(&agent, "/"), "200 Primary");
        started(&agent) != at_first
    });
    let at_second = started(&agent);
    leaves(&first, "the agent has left the first server");
    for _ in 0..20 {
        assert_eq!(started(&agent), at_second);
    }
}

/// Nobody is behind the address any more, while the old server goes on with its old sessions.
#[test]
fn an_address_that_leads_nowhere_is_503_although_the_old_server_lives() {
    let primary = primary();
    let address = Forwarder::to(primary.port());
    let agent = agent_with(&dsn(&address, "pgsqlchk"), &[]);
    assert_eq!(timely(&agent, "/"), "200 Primary");
    let mut client = old_client(&address);
    address.switch(free_port());
    errand(&dsn(&address, "app")).expect_err("nobody is there");
    assert_becomes(&agent, "503 connection-lost");
    assert_every_path(&agent, "503 connection-lost");
    assert_eq!(Page::of(&agent).value("pgsqlchk_up"), 0.0);
    assert_eq!(port_of(&mut client), primary.port().to_string(), "the old server lives");
    address.switch(primary.port());
    assert_becomes(&agent, "200 Primary");
}

/// The new server refuses the agent alone, and the old session is none of the new server's.
#[test]
fn a_refusal_of_the_agent_behind_a_moved_address_is_said_and_ends() {
    let (old, new) = (primary(), primary());
    new.psql("ALTER ROLE pgsqlchk NOLOGIN");
    let address = Forwarder::to(old.port());
    let agent = agent_with(&dsn(&address, "pgsqlchk"), &[]);
    assert_eq!(timely(&agent, "/"), "200 Primary");
    address.switch(new.port());
    assert_eq!(errand(&dsn(&address, "app")), Ok("primary"));
    // Who refuses cannot be asked who it is: the session may go on, as for any refusal; but the log and /status say so.
    eventually(SOON, "the refusal is said", || {
        status(&agent)["login"]["refused"] == "authentication-failed"
            || timely(&agent, "/").starts_with("503 ")
    });
    new.psql("ALTER ROLE pgsqlchk LOGIN");
    eventually(SOON + secs(3), "the agent goes to the new server", || {
        timely(&agent, "/");
        old.backend_pids("pgsqlchk").is_empty()
    });
    assert_becomes(&agent, "200 Primary");
    assert_eq!(status(&agent)["login"]["refused"], serde_json::Value::Null);
}
