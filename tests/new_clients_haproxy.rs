//! Writes through HAProxy while its primary goes: none reaches a server that lets nobody in any more, once the agent can
//! know.

mod support;

use std::thread;
use std::time::{Duration, Instant};

use support::cluster::psql_command;
use support::new_clients::{SOON, agent_with, errand, primary};
use support::patience::SLACK;
use support::{Cluster, Haproxy, Signal, eventually, free_port, millis, secs, signal};

/// HAProxy's pace: `inter` and `fall`, and what they take together.
const INTER: Duration = millis(200);
const FALL: u32 = 2;

/// A write of a new client's.
struct Write {
    begun: Instant,
    /// What psql wrote to stderr, where it failed.
    error: Option<String>,
}

impl Write {
    fn through(port: u16) -> Write {
        let begun = Instant::now();
        let mut psql = psql_command();
        let dsn = format!("host=127.0.0.1 port={port} user=app dbname=postgres");
        psql.args(["-d", &dsn, "-c", "INSERT INTO written VALUES (1)"]);
        let output = psql.output().unwrap_or_else(|error| panic!("{psql:?}: {error}"));
        let error = (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned());
        Write { begun, error }
    }

    /// HAProxy sent it to the server that shuts down.
    fn met_the_dying_server(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error.contains("the database system is shutting down"))
    }
}

#[test]
fn no_write_meets_a_server_in_smart_shutdown_once_haproxy_has_been_told() {
    let primary = primary();
    primary.psql("CREATE TABLE written (number int); GRANT INSERT ON written TO app");
    let standby = Cluster::standby_of(&primary);
    let agents = [&primary, &standby].map(|cluster| agent_with(&cluster.dsn_of("pgsqlchk"), &[]));
    let port = free_port();
    let haproxy = Haproxy::start(&format!(
        "listen ReadWrite\n    bind 127.0.0.1:{port}\n    option httpchk\n    http-check expect status 200\n    \
         default-server inter {}ms fall {FALL} rise 1 on-marked-down shutdown-sessions\n    \
         server a 127.0.0.1:{} check port {}\n    server b 127.0.0.1:{} check port {}\n",
        INTER.as_millis(),
        primary.port(),
        agents[0].addr().port(),
        standby.port(),
        agents[1].addr().port(),
    ));
    eventually(secs(8), "writes reach the primary", || Write::through(port).error.is_none());
    eventually(secs(8), "the standby is out", || haproxy.server("ReadWrite", "b").status == "DOWN");

    // An old client's session: a smart shutdown waits for it.
    let client = primary.connect();
    let stopped = Instant::now();
    signal(primary.postmaster_pid(), Signal::TERM);
    eventually(secs(5), "new clients are refused", || errand(&primary.dsn_of("app")).is_err());
    let told = SOON + INTER * FALL;
    let mut writes = Vec::new();
    while stopped.elapsed() < told + INTER * 10 {
        writes.push(Write::through(port));
        thread::sleep(millis(20));
    }
    let late = writes.iter().filter(|write| write.met_the_dying_server() && write.begun > stopped + told);
    assert_eq!(late.count(), 0, "of {} writes", writes.len());
    // While the next check is under way there are no words.
    eventually(secs(5), "HAProxy shows the reason", || {
        let state = haproxy.server("ReadWrite", "a");
        (state.status.as_str(), state.last_chk.as_str()) == ("DOWN", "shutting-down")
    });
    assert!(writes.iter().all(|write| write.error.is_some()), "there is no primary");

    drop(client);
    eventually(secs(10), "the primary has ended", || primary.has_ended());
    standby.promote();
    let limit = INTER * 2 + SLACK + secs(2);
    eventually(limit, "writes reach the new primary", || Write::through(port).error.is_none());
    assert_eq!(standby.psql("SELECT count(*) > 0 FROM written"), "t");
}
