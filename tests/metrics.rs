//! `/metrics`: what it says of a real instance in every state, and what it counts. (Prometheus itself: tests/prometheus.rs.)

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;

use support::folder::Folder;
use support::http::Reply;
use support::pages;
use support::prometheus::Page;
use support::servers::servers;
use support::siege::waiting_check;
use support::table::head_of;
use support::wire::{PATIENCE, Wire};
use support::{Agent, Cluster, Frozen, OneShot, StopMode, eventually, secs};

/// The families that are there only while something was observed.
const OBSERVED: [&str; 8] = [
    "pgsqlchk_primary",
    "pgsqlchk_standby",
    "pgsqlchk_timeline",
    "pgsqlchk_replication_lag_bytes",
    "pgsqlchk_replication_lag_seconds",
    "pgsqlchk_wal_receiver",
    "pgsqlchk_replay_paused",
    "pgsqlchk_replay_delay_seconds",
];

/// The same connection string with another role.
fn as_role(dsn: &str, role: &str) -> String {
    dsn.replace("user=postgres", &format!("user={role}"))
}

/// A clean page with these values, and none of the observed ones besides.
#[track_caller]
fn assert_observed(page: &Page, expected: &[(&str, f64)]) {
    page.assert_clean();
    let expected: BTreeMap<&str, f64> = expected.iter().copied().collect();
    let names = OBSERVED.iter().chain(["pgsqlchk_up", "pgsqlchk_draining"].iter());
    let actual = names.filter_map(|name| Some((*name, page.get(name)?)));
    assert_eq!(actual.collect::<BTreeMap<_, _>>(), expected);
}

#[test]
fn it_says_what_was_observed_and_nothing_else() {
    let primary = Cluster::primary();
    primary.psql("CREATE ROLE plain LOGIN");
    let standby = Cluster::standby_of(&primary);
    let folder = Folder::new("drain");
    let drain_file = folder.path().join("drain");
    let agent = |dsn: String| {
        Agent::start_with(|command| {
            command.args(["--dsn", &dsn, "--drain-file"]).arg(&drain_file);
        })
    };
    let beside_primary = agent(primary.dsn());
    let beside_standby = agent(standby.dsn());
    let without_privilege = agent(as_role(&standby.dsn(), "plain"));
    let up = ("pgsqlchk_up", 1.0);

    let of_primary = |draining| {
        [
            up,
            ("pgsqlchk_primary", 1.0),
            ("pgsqlchk_standby", 0.0),
            ("pgsqlchk_draining", draining),
            ("pgsqlchk_timeline", 1.0),
        ]
    };
    assert_observed(&Page::of(&beside_primary), &of_primary(0.0));

    let of_standby = [
        up,
        ("pgsqlchk_primary", 0.0),
        ("pgsqlchk_standby", 1.0),
        ("pgsqlchk_draining", 0.0),
        ("pgsqlchk_timeline", 1.0),
        ("pgsqlchk_replication_lag_bytes", 0.0),
        ("pgsqlchk_replication_lag_seconds", 0.0),
        ("pgsqlchk_wal_receiver", 1.0),
        ("pgsqlchk_replay_paused", 0.0),
        ("pgsqlchk_replay_delay_seconds", 0.0),
    ];
    for agent in [&beside_standby, &without_privilege] {
        let mut page = Page::of(agent);
        eventually(secs(20), "the standby has caught up", || {
            page = Page::of(agent);
            page.get("pgsqlchk_replication_lag_bytes") == Some(0.0)
        });
        assert_observed(&page, &of_standby);
    }

    fs::write(&drain_file, "").expect("create the drain file");
    assert_observed(&Page::of(&beside_primary), &of_primary(1.0));
    assert_eq!(beside_primary.get("/").line(), "404 draining");
    fs::remove_file(&drain_file).expect("remove the drain file");

    // Without a commit since the standby's start nobody knows how old its data is.
    primary.psql("CREATE TABLE replayed ()");
    eventually(secs(20), "the standby replays a commit", || {
        standby.psql("SELECT pg_last_xact_replay_timestamp() IS NOT NULL") == "t"
    });
    standby.psql("SELECT pg_wal_replay_pause()");
    primary.psql("CREATE TABLE written AS SELECT generate_series(1, 1000)");
    for agent in [&beside_standby, &without_privilege] {
        eventually(secs(20), "the standby lags", || {
            let page = Page::of(agent);
            let lag = |unit| page.value(&format!("pgsqlchk_replication_lag_{unit}"));
            page.assert_clean();
            lag("bytes") > 30_000.0 && lag("seconds") > 0.0
        });
    }

    primary.stop(StopMode::Fast);
    assert_observed(&Page::of(&beside_primary), &[("pgsqlchk_up", 0.0), ("pgsqlchk_draining", 0.0)]);

    // The usual formulas say 0 once everything received is replayed.
    standby.psql("SELECT pg_wal_replay_resume()");
    let gone = [
        up,
        ("pgsqlchk_primary", 0.0),
        ("pgsqlchk_standby", 1.0),
        ("pgsqlchk_draining", 0.0),
        ("pgsqlchk_timeline", 1.0),
        ("pgsqlchk_wal_receiver", 0.0),
        ("pgsqlchk_replay_paused", 0.0),
        ("pgsqlchk_replay_delay_seconds", 0.0),
    ];
    for agent in [&beside_standby, &without_privilege] {
        eventually(secs(20), "the receiver is gone", || {
            Page::of(agent).get("pgsqlchk_wal_receiver") == Some(0.0)
        });
        assert_observed(&Page::of(agent), &gone);
    }
}

/// The counters that a page has more than another one, and by how much.
fn growth(before: &Page, after: &Page, family: &str) -> BTreeMap<String, f64> {
    assert_eq!(keys(before), keys(after), "the series stay the same");
    let of_family = after.series.iter().filter_map(|(series, value)| {
        let labels = series.strip_prefix(family).filter(|labels| labels.starts_with('{'))?;
        Some((labels.to_owned(), value - before.value(series)))
    });
    of_family.filter(|(_, growth)| *growth != 0.0).collect()
}

fn keys(page: &Page) -> BTreeSet<&String> {
    page.series.keys().collect()
}

fn counts<const N: usize>(expected: [(&str, f64); N]) -> BTreeMap<String, f64> {
    expected.map(|(labels, count)| (labels.to_owned(), count)).into()
}

#[test]
fn requests_and_looks_are_counted_as_they_were_answered() {
    let servers = servers();
    let agent = Agent::start(&["--dsn", &servers.primary.dsn()]);
    let mut slow = Wire::connect(agent.addr());
    slow.send("GET / HT");
    let before = Page::of(&agent);
    let ask =
        |count: usize, request: &[u8]| -> Vec<Reply> { (0..count).map(|_| agent.ask(request)).collect() };
    let get = |count: usize, path: &str| ask(count, format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes());
    get(3, "/");
    ask(1, b"OPTIONS * HTTP/1.1\r\n\r\n");
    ask(2, b"HEAD /leader HTTP/1.1\r\n\r\n");
    get(1, "/standby?lag=16MB");
    get(2, "/health");
    get(4, "/liveness");
    get(1, "/status");
    get(2, "/nothing");
    get(1, "/primary/x");
    get(1, "/primary?lag=1");
    ask(1, b"GET /\0 HTTP/1.1\r\n\r\n");
    ask(1, b"POST / HTTP/1.1\r\n\r\n");
    ask(2, b"GET / HTTP/1.1\r\nContent-Length: 1025\r\n\r\n");
    ask(1, &head_of(8193, "\r\n"));
    assert!(slow.receive(PATIENCE).text().starts_with("HTTP/1.1 408 "));

    let after = Page::of(&agent);
    after.assert_clean();
    let expected = counts([
        (r#"{path="/",code="200"}"#, 4.0),
        (r#"{path="/primary",code="200"}"#, 2.0),
        (r#"{path="/replica",code="503"}"#, 1.0),
        (r#"{path="/health",code="200"}"#, 2.0),
        (r#"{path="/liveness",code="200"}"#, 4.0),
        (r#"{path="/status",code="200"}"#, 1.0),
        // The first page counts when it is answered, the second one not yet.
        (r#"{path="/metrics",code="200"}"#, 1.0),
        (r#"{path="other",code="400"}"#, 2.0),
        (r#"{path="other",code="404"}"#, 3.0),
        (r#"{path="other",code="405"}"#, 1.0),
        (r#"{path="other",code="408"}"#, 1.0),
        (r#"{path="other",code="413"}"#, 2.0),
        (r#"{path="other",code="431"}"#, 1.0),
    ]);
    assert_eq!(growth(&before, &after, "pgsqlchk_requests_total"), expected);
    // One for each request that needs one, and that of the second page; the first page has its own.
    let expected = counts([(r#"{outcome="primary"}"#, 11.0)]);
    assert_eq!(growth(&before, &after, "pgsqlchk_probes_total"), expected);
    assert_eq!(after.value(r#"pgsqlchk_probes_total{outcome="primary"}"#), 12.0);
}

/// An answer to HAProxy's agent-check counts by what HTTP would have said.
#[test]
fn an_agent_check_counts_with_the_code_of_http() {
    let servers = servers();
    let folder = Folder::new("drain");
    let drain_file = folder.path().join("drain");
    let agent = Agent::start_with(|command| {
        command.args(["--dsn", &servers.standby.dsn(), "--agent-listen", "127.0.0.1:0", "--drain-file"]);
        command.arg(&drain_file);
    });
    let agent_check = agent.agent_check_addr();
    let before = Page::of(&agent);
    let ask = |line: &str, expected: &str| {
        let mut wire = Wire::connect(agent_check);
        wire.send(line);
        assert_eq!(wire.receive(PATIENCE).text(), format!("{expected}\n"), "{line}");
    };
    ask("/\n", "up ready 100%");
    ask("/standby\n", "up ready 100%");
    ask("/primary\n", "down #in-recovery");
    ask("/liveness\n", "up ready 100%");
    ask("/nothing\n", "down #bad-request");
    fs::write(&drain_file, "").expect("create the drain file");
    ask("/health\n", "up drain");

    let after = Page::of(&agent);
    let expected = counts([
        (r#"{path="/",code="206"}"#, 1.0),
        (r#"{path="/replica",code="200"}"#, 1.0),
        (r#"{path="/primary",code="503"}"#, 1.0),
        (r#"{path="/liveness",code="200"}"#, 1.0),
        (r#"{path="other",code="400"}"#, 1.0),
        (r#"{path="/health",code="404"}"#, 1.0),
        (r#"{path="/metrics",code="200"}"#, 1.0),
    ]);
    assert_eq!(growth(&before, &after, "pgsqlchk_requests_total"), expected);
    let expected = counts([(r#"{outcome="standby"}"#, 4.0), (r#"{outcome="draining"}"#, 1.0)]);
    assert_eq!(growth(&before, &after, "pgsqlchk_probes_total"), expected);
}

#[test]
fn the_histogram_is_cumulative_and_counts_every_look() {
    let servers = servers();
    let agent = Agent::start(&["--dsn", &servers.primary.dsn()]);
    (0..50).for_each(|_| drop(agent.get("/")));
    let page = Page::of(&agent);
    let name = "pgsqlchk_probe_duration_seconds";
    let buckets: Vec<(f64, f64)> = page
        .text
        .lines()
        .filter_map(|line| line.strip_prefix(&format!("{name}_bucket{{le=\""))?.split_once("\"} "))
        .map(|(bound, count)| (bound.parse().expect("a bound"), count.parse().expect("a count")))
        .collect();
    assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{buckets:?}");
    let (first, last) = (buckets[0], buckets[buckets.len() - 1]);
    assert_eq!((first.0, last), (0.0001, (f64::INFINITY, 51.0)));
    assert_eq!(page.value(&format!("{name}_count")), 51.0);
    assert_eq!(page.sum("pgsqlchk_probes_total"), 51.0);
    let sum = page.value(&format!("{name}_sum"));
    // Each look is above the bound before its bucket, and not above its own.
    let per_bucket = buckets.iter().scan((0.0, 0.0), |before, (bound, count)| {
        let bucket = (before.0, *bound, count - before.1);
        *before = (*bound, *count);
        Some(bucket)
    });
    let (least, most) = per_bucket.filter(|(_, _, count)| *count > 0.0).fold((0.0, 0.0), |sums, bucket| {
        let (from, to, count) = bucket;
        (sums.0 + from * count, sums.1 + to * count)
    });
    assert!(least <= sum && sum <= most, "{least} <= {sum} <= {most}: {buckets:?}");
}

#[test]
fn a_change_of_role_counts_once_also_across_an_outage() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let agent = Agent::start(&["--dsn", &standby.dsn()]);
    let changes = |page: &Page| page.value("pgsqlchk_role_changes_total");
    assert_eq!(changes(&Page::of(&agent)), 0.0, "the first role is no change");

    standby.stop(StopMode::Fast);
    let down = Page::of(&agent);
    assert_eq!((changes(&down), down.value("pgsqlchk_up")), (0.0, 0.0));
    assert_eq!(down.value(r#"pgsqlchk_probes_total{outcome="connection-refused"}"#), 1.0);
    standby.start();
    assert_eq!(changes(&Page::of(&agent)), 0.0, "a standby again");

    standby.stop(StopMode::Fast);
    assert_eq!(agent.get("/").status, 503);
    standby.start();
    standby.promote();
    let promoted = Page::of(&agent);
    let observed = ["pgsqlchk_primary", "pgsqlchk_timeline"].map(|name| promoted.value(name));
    assert_eq!((changes(&promoted), observed), (1.0, [1.0, 2.0]));
    assert_eq!(changes(&Page::of(&agent)), 1.0);
}

#[test]
fn a_session_that_hangs_is_counted_until_it_hangs_no_more() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn(), "--timeout", "1s"]);
    assert_eq!(Page::of(&agent).value("pgsqlchk_abandoned_sessions"), 0.0);
    let backend = Frozen::new(primary.backend_pids("pgsqlchk")[0]);
    let hung = Page::of(&agent);
    assert_observed(&hung, &[("pgsqlchk_up", 0.0), ("pgsqlchk_draining", 0.0)]);

    let page = Page::of(&agent);
    assert_eq!(page.value("pgsqlchk_up"), 1.0, "a new session");
    assert_eq!(page.value("pgsqlchk_abandoned_sessions"), 1.0);
    assert_eq!(page.value(r#"pgsqlchk_probes_total{outcome="deadline-passed"}"#), 1.0);
    let name = "pgsqlchk_probe_duration_seconds";
    let long = page.value(&format!("{name}_count")) - page.value(&format!("{name}_bucket{{le=\"0.5\"}}"));
    assert_eq!(long, 1.0, "it counts with the time after which it was given up");

    backend.thaw();
    eventually(secs(10), "the session has ended", || {
        Page::of(&agent).value("pgsqlchk_abandoned_sessions") == 0.0
    });
}

/// What the agent has refused so far, as asked from an address that is let in.
fn refused(page: &Page) -> [f64; 3] {
    ["not-allowed", "full", "gave-way"]
        .map(|reason| page.value(&format!("pgsqlchk_refused_connections_total{{reason=\"{reason}\"}}")))
}

/// A page for a client of this address.
fn page_from(source: [u8; 4], agent: &Agent) -> Page {
    let mut wire = Wire::connect_from(Ipv4Addr::from(source), agent.addr());
    wire.send("GET /metrics HTTP/1.1\r\n\r\n");
    let reply = Reply::parse(wire.receive(PATIENCE).text().into(), secs(0)).expect("a reply");
    Page::parse(&reply.body)
}

#[test]
fn connections_and_whoever_was_sent_away_are_counted() {
    let primary = Cluster::primary();
    let args = ["--dsn", &primary.dsn(), "--max-connections", "3", "--allow", "127.0.0.2", "--timeout", "5s"];
    let agent = Agent::start(&args);
    let stranger = [127, 0, 0, 1];
    let friend = [127, 0, 0, 2];
    let connect = |source| Wire::connect_from(Ipv4Addr::from(source), agent.addr());

    for _ in 0..2 {
        assert_eq!(connect(stranger).receive(PATIENCE).text(), "");
    }
    let page = page_from(friend, &agent);
    assert_eq!((refused(&page), page.value("pgsqlchk_connections")), ([2.0, 0.0, 0.0], 1.0));

    let waiting: Vec<Wire> = (0..2)
        .map(|_| {
            let mut wire = connect(friend);
            wire.send("GET / HT");
            wire.wait_consumed();
            wire
        })
        .collect();
    let page = page_from(friend, &agent);
    assert_eq!((refused(&page), page.value("pgsqlchk_connections")), ([2.0, 0.0, 0.0], 3.0));
    let mut third = connect(friend);
    third.send("GET / HT");
    third.wait_consumed();
    let page = page_from(friend, &agent);
    assert_eq!((refused(&page), page.value("pgsqlchk_connections")), ([2.0, 0.0, 1.0], 3.0));
    page.assert_clean();
    drop((waiting, third));
    eventually(secs(5), "they are gone", || page_from(friend, &agent).value("pgsqlchk_connections") == 1.0);
}

#[test]
fn who_finds_no_room_is_counted() {
    let primary = Cluster::primary();
    let agent = Agent::start(&[
        "--dsn",
        &primary.dsn(),
        "--max-connections",
        "2",
        "--timeout",
        "8s",
        "--knock-interval",
        "10ms",
    ]);
    assert_eq!(refused(&Page::of(&agent)), [0.0; 3]);
    let postmaster = Frozen::new(primary.postmaster_pid());
    let mut served: Vec<Wire> = (0..2).map(|_| waiting_check(agent.addr())).collect();
    for _ in 0..3 {
        assert_eq!(Wire::connect(agent.addr()).receive(PATIENCE).text(), "");
    }
    postmaster.thaw();
    served.iter_mut().for_each(|wire| drop(wire.receive(PATIENCE)));
    drop(served);
    assert_eq!(refused(&Page::of(&agent)), [0.0, 3.0, 0.0]);
}

#[test]
fn no_client_can_make_it_grow() {
    const PATHS: usize = 10_000;
    let servers = servers();
    let agent = Agent::start(&["--dsn", &servers.down()]);
    let ask = |from: usize, count: usize| {
        for number in from..from + count {
            assert_eq!(agent.get(&format!("/path-{number}")).status, 404);
        }
    };
    ask(0, 500);
    let before = Page::of(&agent);
    let resident = agent.rss_kib();
    ask(500, PATHS);
    let after = Page::of(&agent);
    assert_eq!(keys(&before), keys(&after));
    let others = r#"pgsqlchk_requests_total{path="other",code="404"}"#;
    assert_eq!(after.value(others) - before.value(others), PATHS as f64);
    let grown = agent.rss_kib().saturating_sub(resident);
    assert!(grown <= 256, "{grown} KiB more after {PATHS} paths");
    after.assert_clean();
}

#[test]
fn the_process_says_what_it_costs() {
    let servers = servers();
    let agent = Agent::start(&["--dsn", &servers.primary.dsn()]);
    let page = Page::of(&agent);
    let resident = page.value("process_resident_memory_bytes") / 1024.0;
    assert!((resident - agent.rss_kib() as f64).abs() < 2048.0, "{resident} KiB beside {}", agent.rss_kib());
    assert!(page.value("process_virtual_memory_bytes") > page.value("process_resident_memory_bytes"));
    assert_eq!(page.value("process_threads"), agent.threads() as f64);
    // The connection of the one who asks is gone by now, or not yet.
    let missing = page.value("process_open_fds") - agent.descriptors() as f64;
    assert!((0.0..=1.0).contains(&missing), "{missing} of {}", agent.descriptors());
    assert!(page.value("process_max_fds") >= page.value("process_open_fds"));
    let started =
        std::time::UNIX_EPOCH + std::time::Duration::from_secs_f64(page.value("process_start_time_seconds"));
    let age = started.elapsed().expect("in the past");
    assert!(age < secs(60), "{age:?}");
    let spent = |page: &Page| page.value("process_cpu_seconds_total");
    eventually(secs(30), "processor time adds up", || spent(&Page::of(&agent)) > spent(&page));
}

/// What the system hides is absent, like everything else that nobody saw.
#[test]
fn without_proc_the_process_figures_are_absent() {
    let servers = servers();
    let hide = r#"mount -t tmpfs none /proc && exec "$0" "$@""#;
    let unshare: &[&str] = match rustix::process::geteuid().is_root() {
        true => &["unshare", "--mount"],
        false => &["unshare", "--mount", "--map-root-user"],
    };
    let agent = Agent::start_under(&[unshare, &["sh", "-c", hide]].concat(), |command| {
        command.args(["--dsn", &servers.down()]);
    });
    let page = Page::of(&agent);
    page.assert_clean();
    let families = page.families();
    let process: Vec<&String> = families.keys().filter(|name| name.starts_with("process_")).collect();
    assert_eq!(process, ["process_max_fds", "process_start_time_seconds"], "the rest is read from /proc");
}

/// Behind a super-server a process answers once: what it counts is its own.
#[test]
fn a_process_per_check_says_what_it_saw_and_counts_itself() {
    let servers = servers();
    let settings = format!("dsn = {}\n", servers.standby.dsn());
    let (mut agent, mut wire) = OneShot::with_client(&[], &settings);
    wire.send("GET /metrics HTTP/1.1\r\n\r\n");
    let reply = Reply::parse(wire.receive(PATIENCE).text().into(), secs(0)).expect("a reply");
    drop(wire);
    agent.wait();
    let page = Page::parse(&reply.body);
    page.assert_clean();
    assert_eq!(page.value("pgsqlchk_standby"), 1.0);
    assert_eq!(page.value(r#"pgsqlchk_probes_total{outcome="standby"}"#), 1.0);
    assert_eq!(page.value("pgsqlchk_probe_duration_seconds_count"), 1.0);
    assert_eq!(page.value("pgsqlchk_connections"), 1.0);
    assert_eq!(page.sum("pgsqlchk_requests_total"), 0.0);
}

/// Name with labels, type and meaning of each row of the documented table.
fn documented(page: &str) -> Vec<[String; 3]> {
    let rows = page.lines().skip_while(|line| *line != "| metric | type | meaning |").skip(2);
    let rows = rows.take_while(|line| line.starts_with('|')).map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let cells: [&str; 3] = cells.try_into().unwrap_or_else(|cells| panic!("three cells: {cells:?}"));
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{cells:?}");
        cells.map(|cell| cell.trim_matches('`').to_owned())
    });
    rows.collect()
}

/// The names of the labels of a family, as the documents spell them.
fn with_labels(page: &Page, family: &str) -> String {
    let labels = page.series.keys().find_map(|series| series.strip_prefix(family)?.strip_prefix('{'));
    let Some(labels) = labels else { return family.to_owned() };
    let names: Vec<&str> = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0)).collect();
    format!("{family}{{{}}}", names.join(","))
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let servers = servers();
    // With a peer that nobody is: only then there are metrics of peers.
    let agent = Agent::start(&["--dsn", &servers.standby.dsn(), "--peer", "127.0.0.1:1"]);
    eventually(secs(20), "the lag is known", || {
        Page::of(&agent).get("pgsqlchk_replication_lag_seconds").is_some()
    });
    // Only a primary commits. The server answers a knock as a pooler does.
    let pooler = servers.primary.socket_path().display().to_string();
    let more = ["--write-probe", "1s", "--pooler", &pooler];
    let primary = Agent::start(&[&["--dsn", &servers.primary.dsn()], &more[..]].concat());
    // And HAProxy says what it has with its checks.
    primary.ask(b"GET / HTTP/1.1\r\nX-Haproxy-Server-State: UP; name=p/s; node=n; scur=1/2; qcur=0\r\n\r\n");
    let pages = [Page::of(&agent), Page::of(&primary)];
    let known: BTreeMap<String, String> = pages
        .iter()
        .flat_map(|page| page.families().into_iter().map(|(name, kind)| (with_labels(page, &name), kind)))
        .collect();
    let rows = documented(&pages::page("docs/monitoring.md"));
    let table: BTreeMap<String, String> =
        rows.iter().map(|[name, kind, _]| (name.clone(), kind.clone())).collect();
    assert_eq!(table.len(), rows.len(), "a metric stands there twice");
    assert_eq!(table, known, "docs/monitoring.md (left) and the program (right)");

    let refusals = rows.iter().find(|[name, _, _]| name.contains("_refused_")).expect("a row about refusals");
    let meaning = &refusals[2];
    let explained = meaning.split('`').skip(1).step_by(2).filter(|word| !word.starts_with("--"));
    let reasons = pages[0].series.keys().filter_map(|series| {
        series.strip_prefix("pgsqlchk_refused_connections_total{reason=\"")?.strip_suffix("\"}")
    });
    assert_eq!(explained.collect::<BTreeSet<_>>(), reasons.collect::<BTreeSet<_>>());
}

/// Pages are the longest replies, and those of requests that arrive together are all written at once.
#[test]
fn a_crowd_that_asks_at_once_gets_whole_pages() {
    let servers = servers();
    let agent = Agent::start(&["--dsn", &servers.primary.dsn()]);
    let alone = Page::of(&agent);
    for _ in 0..5 {
        let mut crowd: Vec<Wire> = (0..120).map(|_| Wire::connect(agent.addr())).collect();
        crowd.iter_mut().for_each(|wire| wire.send("GET /metrics HTTP/1.1\r\n\r\n"));
        for wire in &mut crowd {
            let reply = Reply::parse(wire.receive(PATIENCE).text().into(), secs(0)).expect("a reply");
            let length = reply.body.len().to_string();
            assert_eq!((reply.status, reply.header("Content-Length")), (200, Some(length.as_str())));
            assert_eq!(keys(&Page::parse(&reply.body)), keys(&alone));
        }
    }
    let page = Page::of(&agent);
    assert_eq!(page.value(r#"pgsqlchk_requests_total{path="/metrics",code="200"}"#), 601.0);
    let looks = page.value(r#"pgsqlchk_probes_total{outcome="primary"}"#);
    assert!((3.0..602.0).contains(&looks), "requests that arrive together share a look: {looks}");
}
