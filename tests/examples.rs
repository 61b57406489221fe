//! The files in packaging/examples/: each is valid as it stands, and does with real servers what it says. Here ports and
//! addresses are replaced, and nothing else.

mod support;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use pgsqlchk::verdict::Target;
use postgres::{Client, NoTls};
use support::pages::{fenced, page, pages};
use support::peers::{Ring, line};
use support::site::{
    Balancer, EXAMPLES, Node, Site, effective, example, folder, primary_and_standby, sections, server_of,
    write_pool,
};
use support::{Cluster, ServerState, StopMode, haproxy, secs};

/// As people have it for Patroni, but for the port: the write pool asks for no path, as older files do, the read pool
/// with HEAD, as newer ones do. Written for this test.
const MADE_FOR_PATRONI: &str = "\
global
    maxconn 100

defaults
    log global
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s

listen stats
    mode http
    bind *:7000
    stats enable
    stats uri /

listen master
    bind *:5000
    option httpchk
    http-check expect status 200
    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
    server node1 192.0.2.11:5432 maxconn 100 check port 23267
    server node2 192.0.2.12:5432 maxconn 100 check port 23267

listen replicas
    bind *:5001
    option httpchk HEAD /replica
    http-check expect status 200
    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
    server node1 192.0.2.11:5432 maxconn 100 check port 23267
    server node2 192.0.2.12:5432 maxconn 100 check port 23267
";

// --- As they stand ------------------------------------------------------------------------------------------------

#[test]
fn every_example_is_valid_as_it_stands() {
    for name in EXAMPLES {
        let mut command = Command::new(haproxy::program());
        command.arg("-c").arg("-f").arg(folder().join(name)).stdin(Stdio::null());
        let output = command.output().expect("run haproxy -c");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{name}: {said}");
        assert!(!said.contains("[ALERT]") && !said.contains("[WARNING]"), "{name}: {said}");
    }
}

#[test]
fn every_example_says_what_it_is_for_and_is_listed() {
    let entries = fs::read_dir(folder()).expect("packaging/examples");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    assert_eq!(names, EXAMPLES, "packaging/examples (left) and the tests (right)");
    let page = page("docs/haproxy.md");
    for name in EXAMPLES {
        assert!(page.contains(&format!("](../packaging/examples/{name})")), "docs/haproxy.md links {name}");
        let text = example(name);
        let head: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
        for word in ["# For: ", "# Assumes: ", "# Change: "] {
            assert!(head.iter().any(|line| line.starts_with(word)), "{name} begins with {word:?}");
        }
        assert!(
            text.lines().all(|line| line.chars().count() <= 120),
            "{name}: lines of at most 120 characters"
        );
    }
}

#[test]
fn every_example_asks_the_default_port_for_what_the_agent_knows() {
    for name in EXAMPLES {
        let text = example(name);
        for line in effective(&text) {
            let words: Vec<&str> = line.split([' ', '"']).collect();
            if line.starts_with("server ") {
                // Of a second instance on the same host the agent has another port.
                let port = if line.contains(":5433 ") { "23277" } else { "23267" };
                assert!(line.contains(&format!(" check port {port}")), "{name}: {line}");
            }
            if line.starts_with("option httpchk") || line.contains("agent-send") {
                for path in words.iter().filter(|word| word.starts_with('/')) {
                    let path = path.trim_end_matches("\\n");
                    assert!(Target::parse(path).is_ok(), "{name}: {line}: {:?}", Target::parse(path));
                }
            }
        }
    }
}

/// What is not said about a pool for writes that stands in a file or a page.
fn missing_for_writes(text: &str) -> Vec<String> {
    let pool = write_pool(text);
    let sections = sections(text);
    let has = |is: &dyn Fn(&[&str]) -> bool, line: &str| {
        sections.iter().any(|(_, lines)| is(lines) && lines.iter().any(|own| own.starts_with(line)))
    };
    let is_entrance =
        |lines: &[&str]| lines.iter().any(|line| line.starts_with("bind ") && line.ends_with(":5000"));
    let is_pool = |lines: &[&str]| {
        let name = sections.iter().find(|(_, own)| own == lines).map(|(name, _)| *name);
        [format!("listen {pool}"), format!("backend {pool}")].iter().any(|own| Some(own.as_str()) == name)
    };
    let reject = format!("tcp-request connection reject if {{ nbsrv({pool}) gt 1 }}");
    let mut missing = Vec::new();
    for (is, line) in [
        (&is_entrance as &dyn Fn(&[&str]) -> bool, reject.as_str()),
        (&is_pool, "option httpchk OPTIONS /read-write"),
        (&is_pool, "http-check expect status 200"),
    ] {
        if !has(is, line) {
            missing.push(line.to_owned());
        }
    }
    missing
}

#[test]
fn every_pool_for_writes_asks_for_read_write_and_refuses_them_while_there_are_two_primaries() {
    let pages = pages();
    let blocks = pages
        .iter()
        .flat_map(|page| fenced(&page.text, "haproxy").into_iter().map(|block| (page.path.as_str(), block)));
    let blocks: Vec<_> = blocks.filter(|(_, block)| block.contains(":5000\n")).collect();
    let paths: Vec<&str> = blocks.iter().map(|(path, _)| *path).collect();
    assert_eq!(
        paths,
        ["README.md", "docs/haproxy.md", "docs/instances.md", "docs/moving.md"],
        "the least, classic, two clusters, by Patroni's paths"
    );
    let examples = EXAMPLES.map(|name| (name, example(name)));
    for (name, text) in examples.into_iter().chain(blocks) {
        assert_eq!(missing_for_writes(&text), [""; 0], "{name}");
    }
}

#[test]
fn every_example_says_what_belongs_in_a_file_that_root_starts() {
    for name in EXAMPLES {
        let text = example(name);
        let (_, global) = &sections(&text)[0];
        for line in ["user haproxy", "group haproxy", "chroot /var/lib/haproxy"] {
            assert!(global.contains(&line), "{name}: {line}");
        }
        assert!(!text.contains("rise 1"), "{name}: two good checks bring a server in");
        // As a comment: HAProxy before 3.1 would not start.
        assert_eq!(text.matches("\n    #default-server init-state fully-down\n").count(), 1, "{name}");
    }
}

#[test]
fn the_classic_example_is_the_configuration_of_the_page() {
    let block = fenced(&page("docs/haproxy.md"), "haproxy").swap_remove(0);
    let text = example("classic.cfg");
    let config = text.split_once("\n\n").map(|(_, config)| config);
    assert_eq!(config, Some(block.as_str()), "classic.cfg (left) and docs/haproxy.md (right)");
}

// --- With real servers --------------------------------------------------------------------------------------------

#[test]
fn the_classic_pools_follow_a_failover() {
    let site = Site::start(&example("classic.cfg"));
    let (a, b) = (&site.a, &site.b);
    site.expect("ReadWrite", "node1", ["UP", "200", ""]);
    site.expect("ReadWrite", "node2", ["DOWN", "503", "in-recovery"]);
    site.expect("ReadOnly", "node1", ["DOWN", "200", "Primary"]);
    site.expect("ReadOnly", "node2", ["UP", "206", ""]);
    assert_eq!((site.reaches(5000), site.reaches(5001)), (a.port(), b.port()));

    let mut session = site.connect(5000);
    a.cluster.stop(StopMode::Fast);
    site.expect("ReadWrite", "node1", ["DOWN", "503", "connection-refused"]);
    assert!(session.simple_query("SELECT 1").is_err());
    b.cluster.promote();
    site.expect("ReadWrite", "node2", ["UP", "200", ""]);
    site.expect("ReadOnly", "node2", ["DOWN", "200", "Primary"]);
    assert_eq!(site.reaches(5000), b.port());
}

#[test]
fn an_old_primary_that_comes_back_as_it_was_gets_no_write() {
    let ring = Ring::of(3);
    let primary = Cluster::primary();
    let standbys = [Cluster::standby_of(&primary), Cluster::standby_of(&primary)];
    let start = |node: usize, cluster| {
        let options = ring.options(node);
        Node::start_with(cluster, &options.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let [second, third] = standbys;
    let (a, b, c) = (start(0, primary), start(1, second), start(2, third));
    let site = Balancer::start(&example("cluster.cfg"), [&a, &b, &c]);
    for (pool, server, expected) in [
        ("ReadWrite", "node1", ["UP", "200", ""]),
        ("ReadWrite", "node2", ["DOWN", "503", "in-recovery"]),
        ("ReadWrite", "node3", ["DOWN", "503", "in-recovery"]),
        ("ReadOnly", "node1", ["DOWN", "503", "not-in-recovery"]),
        ("ReadOnly", "node2", ["UP", "200", ""]),
        ("ReadOnly", "node3", ["UP", "200", ""]),
    ] {
        site.expect(pool, server, expected);
    }
    let write = "INSERT INTO written DEFAULT VALUES RETURNING inet_server_port()";
    site.psql(5000, "CREATE TABLE written(at timestamptz DEFAULT now())").expect("a table");
    assert_eq!(site.psql(5000, write), Ok(a.port()));
    drop((site.connect_to(5001, &b), site.connect_to(5001, &c)));

    a.cluster.stop(StopMode::Fast);
    b.cluster.promote();
    let conninfo = b.cluster.dsn();
    c.cluster.psql(&format!("ALTER SYSTEM SET primary_conninfo = '{conninfo}'"));
    c.cluster.restart(StopMode::Fast);
    site.expect("ReadWrite", "node2", ["UP", "200", ""]);
    site.expect("ReadOnly", "node2", ["DOWN", "503", "not-in-recovery"]);
    site.expect("ReadOnly", "node3", ["UP", "200", ""]);
    assert_eq!(site.psql(5000, write), Ok(b.port()));

    a.cluster.start();
    let itself = "SELECT pg_is_in_recovery(), substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";
    assert_eq!(a.cluster.psql(itself), "f|00000001", "a primary as it was");
    assert_eq!(b.cluster.psql(itself), "f|00000002");
    let began = Instant::now();
    let mut writes = 1;
    // Longer than HAProxy needs to bring a server in.
    while began.elapsed() < secs(5) {
        assert_eq!(site.psql(5000, write), Ok(b.port()));
        writes += 1;
        assert!(!site.haproxy.server("ReadWrite", "node1").status.starts_with("UP"));
        assert_eq!(site.reaches(5001), c.port());
    }
    site.expect("ReadWrite", "node1", ["DOWN", "503", "superseded"]);
    site.expect("ReadOnly", "node1", ["DOWN", "503", "not-in-recovery"]);
    assert_eq!(line(&a.agent, "/read-write"), "503 superseded");
    let count = "SELECT count(*) FROM written";
    assert_eq!(a.cluster.psql(count), "1", "what it had before it was stopped");
    assert_eq!(b.cluster.psql(count), (writes + 1).to_string(), "all others");
}

/// Seen with the layout of the README: the server on 5433 was up by the role of the one on 5432, for `check port` was that of
/// the wrong agent.
#[test]
fn two_clusters_on_the_same_hosts_are_judged_each_by_its_own_agents() {
    let [first_a, first_b] = primary_and_standby();
    // The other way round: on host 1 a standby, on host 2 the primary.
    let [second_b, second_a] = primary_and_standby();
    let nodes = [&first_a, &first_b, &second_a, &second_b];
    let text = example("two-clusters.cfg");
    let site = Balancer::start(&text, nodes);
    for (pool, server, expected) in [
        ("ReadWrite", "node1", ["UP", "200", ""]),
        ("ReadWrite", "node2", ["DOWN", "503", "in-recovery"]),
        ("ReadOnly", "node1", ["DOWN", "503", "not-in-recovery"]),
        ("ReadOnly", "node2", ["UP", "200", ""]),
        ("SecondReadWrite", "node1", ["DOWN", "503", "in-recovery"]),
        ("SecondReadWrite", "node2", ["UP", "200", ""]),
        ("SecondReadOnly", "node1", ["UP", "200", ""]),
        ("SecondReadOnly", "node2", ["DOWN", "503", "not-in-recovery"]),
    ] {
        site.expect(pool, server, expected);
    }
    let itself = "SELECT inet_server_port() || ' ' || pg_is_in_recovery()";
    for (port, node, is_in_recovery) in
        [(5000, &first_a, false), (5001, &first_b, true), (5010, &second_b, false), (5011, &second_a, true)]
    {
        assert_eq!(site.psql(port, itself), Ok(format!("{} {is_in_recovery}", node.port())), "{port}");
    }
    let table = "CREATE TABLE written(at timestamptz DEFAULT now())";
    assert_eq!(site.psql(5010, table).map(drop), Ok(()), "the second cluster is written to");

    // What happens to one is nothing to the other.
    second_b.cluster.stop(StopMode::Fast);
    site.expect("SecondReadWrite", "node2", ["DOWN", "503", "connection-refused"]);
    second_a.cluster.promote();
    site.expect("SecondReadWrite", "node1", ["UP", "200", ""]);
    assert_eq!((site.reaches(5000), site.reaches(5010)), (first_a.port(), second_a.port()));
    assert_eq!(site.reaches(5001), first_b.port());
}

/// Why the page warns of that one line.
#[test]
fn with_the_port_of_the_other_agent_writes_go_to_a_standby() {
    let [first_a, first_b] = primary_and_standby();
    let [second_b, second_a] = primary_and_standby();
    let text = example("two-clusters.cfg");
    let mistaken = text.replace("check port 23277", "check port 23267");
    assert_ne!(text, mistaken);
    let site = Balancer::start(&mistaken, [&first_a, &first_b, &second_a, &second_b]);
    site.expect("SecondReadWrite", "node1", ["UP", "200", ""]);
    site.expect("SecondReadWrite", "node2", ["DOWN", "503", "in-recovery"]);
    assert_eq!(site.reaches(5010), second_a.port());
    let refused = site.psql(5010, "CREATE TABLE written()").expect_err("a standby takes no writes");
    assert!(refused.contains("read-only transaction"), "{refused}");
}

#[test]
fn the_pools_by_patronis_paths_follow_a_failover() {
    let site = Site::start(&example("patroni-paths.cfg"));
    let (a, b) = (&site.a, &site.b);
    site.expect("primary", "node1", ["UP", "200", ""]);
    site.expect("primary", "node2", ["DOWN", "503", "in-recovery"]);
    site.expect("replicas", "node1", ["DOWN", "503", "not-in-recovery"]);
    site.expect("replicas", "node2", ["UP", "200", ""]);
    site.expect("readers", "node1", ["UP", "200", ""]);
    site.expect("readers", "node2", ["UP", "200", ""]);
    assert_eq!((site.reaches(5000), site.reaches(5001)), (a.port(), b.port()));
    drop((site.connect_to(5002, a), site.connect_to(5002, b)));

    a.cluster.stop(StopMode::Fast);
    // Nothing is streamed any more, so nobody knows what it misses.
    site.expect("replicas", "node2", ["DOWN", "503", "no-wal-receiver"]);
    b.cluster.promote();
    site.expect("primary", "node2", ["UP", "200", ""]);
    site.expect("readers", "node1", ["DOWN", "503", "connection-refused"]);
    assert_eq!((site.reaches(5000), site.reaches(5002)), (b.port(), b.port()));
}

#[test]
fn a_configuration_made_for_patroni_works_after_changing_the_port() {
    let site = Site::start(MADE_FOR_PATRONI);
    site.expect("master", "node1", ["UP", "200", ""]);
    site.expect("master", "node2", ["DOWN", "206", "Standby"]);
    site.expect("replicas", "node1", ["DOWN", "503", "not-in-recovery"]);
    site.expect("replicas", "node2", ["UP", "200", ""]);
    assert_eq!((site.reaches(5000), site.reaches(5001)), (site.a.port(), site.b.port()));
}

/// More WAL than `lag=16MB` allows, or half of it.
#[track_caller]
fn write(cluster: &Cluster, megabytes: u32) {
    let rows = megabytes * 1024;
    cluster.psql(&format!(
        "CREATE TABLE IF NOT EXISTS load(filler text);
         INSERT INTO load SELECT repeat('x', 990) FROM generate_series(1, {rows})"
    ));
}

#[test]
fn lag_limited_readers_fall_back_to_the_primary_and_return() {
    let site = Site::start(&example("lag-limited-readers.cfg"));
    let (a, b) = (&site.a, &site.b);
    site.expect("Primary", "node1", ["UP", "200", ""]);
    site.expect("Primary", "node2", ["DOWN", "503", "in-recovery"]);
    site.expect("Standbys", "node1", ["DOWN", "503", "not-in-recovery"]);
    site.expect("Standbys", "node2", ["UP", "200", ""]);
    assert_eq!((site.reaches(5000), site.reaches(5001)), (a.port(), b.port()));

    let mut reader = site.connect(5001);
    b.cluster.psql("SELECT pg_wal_replay_pause()");
    write(&a.cluster, 20);
    site.expect("Standbys", "node2", ["DOWN", "503", "lag-exceeded"]);
    assert_eq!(site.reaches(5001), a.port(), "new readers go to the primary");
    assert_eq!(server_of(&mut reader), b.port(), "what runs on the standby may end there");
    b.cluster.psql("SELECT pg_wal_replay_resume()");
    site.expect("Standbys", "node2", ["UP", "200", ""]);
    assert_eq!(site.reaches(5001), b.port());

    b.cluster.stop(StopMode::Fast);
    site.expect("Standbys", "node2", ["DOWN", "503", "connection-refused"]);
    assert_eq!((site.reaches(5000), site.reaches(5001)), (a.port(), a.port()));
}

#[test]
fn readers_that_may_lag_have_a_standby_while_the_primary_is_dead() {
    let readme = fenced(&page("README.md"), "haproxy").into_iter().next().expect("a block");
    let (defaults, _) = readme.split_once("listen ").expect("what comes before the pools");
    let blocks = fenced(&page("docs/moving.md"), "haproxy");
    let readers = blocks.iter().find(|block| block.starts_with("frontend readers")).expect("its block");
    let site = Site::start(&format!("{defaults}{readers}"));
    for (pool, server, expected) in [
        ("replicas", "node1", ["DOWN", "503", "not-in-recovery"]),
        ("replicas", "node2", ["UP", "200", ""]),
        ("any", "node1", ["DOWN", "503", "not-in-recovery"]),
        ("any", "node2", ["UP", "200", ""]),
    ] {
        site.expect(pool, server, expected);
    }
    assert_eq!(site.reaches(5001), site.b.port());
    site.a.cluster.stop(StopMode::Immediate);
    site.expect("replicas", "node2", ["DOWN", "503", "lag-unknown"]);
    assert_eq!(site.reaches(5001), site.b.port());
}

#[test]
fn a_node_that_drains_finishes_its_sessions_gets_no_new_ones_and_comes_back() {
    let site = Site::start(&example("drain.cfg"));
    let (a, b) = (&site.a, &site.b);
    for (pool, server, expected) in [
        ("ReadWrite", "node1", ["UP", "200", ""]),
        ("ReadWrite", "node2", ["DOWN", "503", "in-recovery"]),
        ("ReadOnly", "node1", ["UP", "200", ""]),
        ("ReadOnly", "node2", ["UP", "200", ""]),
    ] {
        site.expect(pool, server, expected);
    }
    let mut reader = site.connect_to(5001, b);
    b.switch("drain");
    site.expect("ReadOnly", "node2", ["NOLB", "404", ""]);
    assert_eq!(server_of(&mut reader), b.port(), "the session goes on");
    (0..5).for_each(|_| assert_eq!(site.reaches(5001), a.port(), "new ones go elsewhere"));
    assert_eq!(site.haproxy.server("ReadOnly", "node2").sessions, "1", "what the administrator waits for");
    drop(reader);
    site.expect_that("ReadOnly", "node2", "no session", |state| state.sessions == "0");
    // The work of the administrator raises no alarm.
    b.cluster.restart(StopMode::Fast);
    site.expect("ReadOnly", "node2", ["NOLB", "404", ""]);
    b.switch("undrain");
    site.expect("ReadOnly", "node2", ["UP", "200", ""]);
    drop(site.connect_to(5001, b));

    let mut writer = site.connect(5000);
    a.switch("drain");
    site.expect("ReadWrite", "node1", ["NOLB", "404", ""]);
    writer.batch_execute("CREATE TABLE written()").expect("a session of the primary that drains writes");
    assert!(Client::connect(&site.dsn(5000), NoTls).is_err(), "nobody is promoted by draining the primary");
    a.switch("undrain");
    site.expect("ReadWrite", "node1", ["UP", "200", ""]);
    assert_eq!(site.reaches(5000), a.port());
}

#[test]
fn agent_checks_set_the_weights_by_the_lag_and_drain() {
    let site = Site::start(&example("agent-check.cfg"));
    let (a, b) = (&site.a, &site.b);
    let weight = |state: &ServerState| state.weight.parse::<u32>().expect("a weight");
    site.expect("ReadWrite", "node1", ["UP", "200", ""]);
    site.expect_that("ReadWrite", "node2", "a standby in maintenance", |state| state.status == "MAINT");
    site.expect_that("ReadOnly", "node1", "a primary that is down", |state| state.status.starts_with("DOWN"));
    site.expect_that("ReadOnly", "node2", "all of the weight", |state| {
        state.status == "UP" && weight(state) == 100
    });
    assert_eq!((site.reaches(5000), site.reaches(5001)), (a.port(), b.port()));

    b.cluster.psql("SELECT pg_wal_replay_pause()");
    write(&a.cluster, 7);
    site.expect_that("ReadOnly", "node2", "about half of the weight", |state| {
        state.status == "UP" && (30..70).contains(&weight(state))
    });
    write(&a.cluster, 13);
    site.expect_that("ReadOnly", "node2", "a standby that lags to be down", |state| {
        state.status.starts_with("DOWN")
    });
    b.cluster.psql("SELECT pg_wal_replay_resume()");
    site.expect_that("ReadOnly", "node2", "all of the weight", |state| {
        state.status == "UP" && weight(state) == 100
    });

    let mut session = site.connect(5001);
    b.switch("drain");
    site.expect_that("ReadOnly", "node2", "to drain, over HTTP and by the agent-check", |state| {
        // Both say so; what HTTP says is what is shown.
        [&state.status, &state.last_agt] == ["NOLB", "via agent : up"]
    });
    assert_eq!(server_of(&mut session), b.port(), "the session goes on");
    assert!(Client::connect(&site.dsn(5001), NoTls).is_err(), "there is no other standby");
    b.switch("undrain");
    site.expect_that("ReadOnly", "node2", "to be back", |state| state.status == "UP" && weight(state) == 100);
    assert_eq!(site.reaches(5001), b.port());
}
