//! `pgsqlchk doctor`: it finds what is planted and nothing on a healthy node, ends in time whatever hangs, and changes
//! nothing. What is planted are real servers, agents, files and processes.

mod support;

#[path = "doctor/plants.rs"]
mod plants;
#[path = "doctor/site.rs"]
mod site;
#[path = "doctor/table.rs"]
mod table;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use site::Site;
use support::cluster::psql_command;
use support::folder::Folder;
use support::impostor::FullQueue;
use support::pages;
use support::postgresql::run;
use support::xinetd::own_user;
use support::{Agent, Cluster, Frozen, Haproxy, eventually, free_port, haproxy, secs};
use table::{CONFIGURATION, DRAIN_AND_PEERS, PORT_AND_HOMES, POSTGRESQL, Row};

#[test]
fn a_healthy_node_has_only_lines_that_say_ok() {
    let site = Site::healthy();
    let said = site.doctor(&[]);
    assert_eq!(said.code, 0, "{said}");
    assert!(said.lines.iter().all(|line| line.starts_with("ok ")), "{said}");
    for subject in [
        "configuration: ",
        "PostgreSQL: ",
        "port ",
        "home: ",
        "old script: ",
        "drain: ",
        "peers: ",
        "answers: ",
    ] {
        assert!(
            said.lines.iter().any(|line| line["ok       ".len()..].starts_with(subject)),
            "{subject}: {said}"
        );
    }
    assert_eq!(said.stderr, "", "nothing is left for stderr");
}

#[test]
fn a_healthy_cluster_has_only_lines_that_say_ok_on_every_node() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let ports = [free_port(), free_port()];
    let peers: Vec<String> = ports.iter().map(|port| format!("peer = 127.0.0.1:{port}")).collect();
    let sites = [Site::beside(primary, ports[0], &peers), Site::beside(standby, ports[1], &peers)];
    for site in &sites {
        let said = site.doctor(&[]);
        assert!(said.code == 0 && said.lines.iter().all(|line| line.starts_with("ok ")), "{said}");
        assert!(said.lines.iter().any(|line| line.contains("is reached: ")), "{said}");
    }
}

fn find_all(rows: &[Row]) {
    for row in rows {
        let mut site = Site::healthy();
        (row.plant)(&mut site);
        let said = site.doctor(&[]);
        row.assert_found(&said);
    }
}

#[test]
fn what_is_wrong_with_the_configuration_is_found() {
    find_all(CONFIGURATION);
}

#[test]
fn what_is_wrong_with_postgresql_is_found() {
    find_all(POSTGRESQL);
}

#[test]
fn what_is_wrong_with_the_port_and_the_homes_is_found() {
    find_all(PORT_AND_HOMES);
}

#[test]
fn what_is_wrong_with_draining_peers_and_answers_is_found() {
    find_all(DRAIN_AND_PEERS);
}

#[test]
fn the_table_has_thirty_rows_and_more_each_about_something_else() {
    let rows = || [CONFIGURATION, POSTGRESQL, PORT_AND_HOMES, DRAIN_AND_PEERS].into_iter().flatten();
    assert!(rows().count() >= 30, "{} rows", rows().count());
    let lines: HashSet<_> = rows().map(|row| row.says).collect();
    assert_eq!(lines.len(), rows().count(), "two rows look for the same line");
}

#[test]
fn the_page_explains_what_is_found_and_nothing_else() {
    let rows = || [CONFIGURATION, POSTGRESQL, PORT_AND_HOMES, DRAIN_AND_PEERS].into_iter().flatten();
    let explained =
        pages::table(&pages::page("docs/doctor.md"), "| line | grade | what it means | what to type |");
    let explains = |line: &[String], row: &Row| {
        let [words] = pages::code(&line[0])[..] else { panic!("one piece of a line, please: {line:?}") };
        row.says.contains(words) && line[1] == row.grade
    };
    for line in &explained {
        assert!(line.iter().all(|cell| !cell.is_empty()), "{line:?}");
        assert!(rows().any(|row| explains(line, row)), "nothing planted says {}", line[0]);
    }
    for row in rows() {
        assert!(
            explained.iter().any(|line| explains(line, row)),
            "{}: {:?} is not explained",
            row.problem,
            row.says
        );
    }
}

/// Everything that it asks is frozen, or swallows whatever it is sent.
#[test]
fn it_ends_within_five_seconds_whatever_hangs() {
    let mut site = Site::healthy();
    let (_queue, swallowing) = FullQueue::tcp();
    let other = Agent::start(&["--dsn", &site.server.dsn()]);
    site.add(&format!("peer = {swallowing}\npeer = {}", other.addr()));
    let frozen = [site.server.postmaster_pid(), site.agent().pid(), other.pid()].map(Frozen::new);
    let said = site.doctor(&[]);
    assert!(said.elapsed < secs(5), "{:?}: {said}", said.elapsed);
    assert_eq!(said.code, 2, "{said}");
    let stuck = [
        "postmaster-not-answering",
        &format!("{swallowing} is not reached"),
        &format!("{} is not reached", other.addr()),
        "answers: ",
    ];
    for stuck in stuck {
        let found = said.lines.iter().any(|line| line.starts_with("problem ") && line.contains(stuck));
        assert!(found, "{stuck}: {said}");
    }
    drop(frozen);
}

/// A file system that hangs: nobody ever writes into this pipe.
#[test]
fn a_configuration_that_cannot_be_read_in_time_is_a_line() {
    let site = Site::healthy();
    let pipe = site.home.path().join("pipe");
    run(Command::new("mkfifo").arg(&pipe));
    fs::set_permissions(&pipe, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("open it to all");
    let said = site.doctor_with(&pipe, &[]);
    assert!(said.code == 2 && said.elapsed < secs(5), "{said}");
    assert!(
        said.lines[0].starts_with("problem  configuration: it cannot be read in time; remedy: "),
        "{said}"
    );
}

/// What was written when, of every file below.
fn files(folder: &Path) -> BTreeMap<PathBuf, (SystemTime, u64)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("read the folder").flatten() {
        let metadata = fs::symlink_metadata(entry.path()).expect("look at it");
        found.insert(entry.path(), (metadata.modified().expect("a time"), metadata.len()));
        if metadata.is_dir() {
            found.extend(files(&entry.path()));
        }
    }
    found
}

#[test]
fn an_instance_is_asked_by_its_name() {
    let output =
        Command::new(support::agent::program()).args(["doctor", "--instance", "there-is-none"]).output();
    let output = output.expect("run pgsqlchk doctor");
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find(|line| line.starts_with("problem")).unwrap_or_default();
    assert!(line.contains("/etc/pgsqlchk/there-is-none.conf"), "{said}");
    assert_eq!(output.status.code(), Some(2), "{said}");
}

#[test]
fn nothing_is_changed() {
    let site = Site::healthy();
    // Neither of both rises with anything but a transaction that writes.
    let state = || {
        let sql = "SELECT pg_snapshot_xmax(pg_current_snapshot()), pg_current_wal_insert_lsn(), \
                   (SELECT count(*) FROM pg_notification_queue_usage() WHERE pg_notification_queue_usage > 0)";
        (site.server.psql(sql), files(site.root.path()), files(site.home.path()))
    };
    // What the server does for itself after its start.
    site.server.psql("CHECKPOINT");
    let mut before = state();
    for attempt in 0.. {
        let said = site.doctor(&["--haproxy"]);
        assert_eq!(said.code, 0, "{said}");
        let after = state();
        if after == before {
            break;
        }
        // The server's own processes write now and then; doctor would each time.
        assert!(attempt < 5, "{before:?}\n{after:?}");
        before = after;
    }
    site.server.psql("SELECT pg_current_xact_id()");
    assert_ne!(state(), before, "a transaction that writes would be seen");
}

#[test]
fn the_configuration_for_haproxy_works_and_its_writes_reach_the_primary() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let ports = [free_port(), free_port()];
    let lines: Vec<String> = ports
        .iter()
        .map(|port| format!("peer = 127.0.0.1:{port}"))
        .chain(["max-lag = 16MB".into(), "max-lag-time = 2min".into()])
        .collect();
    let sites = [Site::beside(primary, ports[0], &lines), Site::beside(standby, ports[1], &lines)];
    let said = sites[0].doctor(&["--haproxy"]);
    assert_eq!(said.code, 0, "{said}");
    let text = said.lines.join("\n") + "\n";
    let folder = Folder::new("doctor-haproxy");
    let file = folder.write("haproxy.cfg", &text);
    let mut command = Command::new(haproxy::program());
    let output =
        command.arg("-c").arg("-f").arg(&file).stdin(Stdio::null()).output().expect("run haproxy -c");
    let complaints = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && !complaints.contains("[WARNING]"), "{complaints}{text}");
    assert!(text.contains("/replica?lag=16777216&lag_time=120000ms"), "{text}");

    // Two servers on one host have two ports, which the nodes of a cluster do not have.
    let [own, other] = [&sites[0], &sites[1]].map(|site| site.server.port());
    let foreign = format!("127.0.0.1:{own} check port {}", ports[1]);
    assert!(
        text.contains(&foreign) && text.contains(&format!("127.0.0.1:{own} check port {}", ports[0])),
        "{text}"
    );
    let mut text = text.replace(&foreign, &format!("127.0.0.1:{other} check port {}", ports[1]));
    let [writes, reads, stats] = [free_port(), free_port(), free_port()];
    for (bind, port) in [("*:5000", writes), ("*:5001", reads), ("127.0.0.1:7000", stats)] {
        assert_eq!(text.matches(&format!("bind {bind}\n")).count(), 1, "{bind}: {text}");
        text = text.replace(bind, &format!("127.0.0.1:{port}"));
    }
    if !rustix::process::geteuid().is_root() {
        let for_root =
            |line: &&str| !["user ", "group ", "chroot "].iter().any(|word| line.trim().starts_with(word));
        text = text.lines().filter(for_root).collect::<Vec<_>>().join("\n") + "\n";
    }
    let _haproxy = Haproxy::start_whole(&text);
    let reached = |port: u16| {
        let dsn = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
        let output =
            psql_command().args(["-d", &dsn, "-c", "SELECT inet_server_port()"]).output().expect("run psql");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    // Until its first checks HAProxy counts every server as up.
    let both = || (reached(writes), reached(reads));
    let expected = (own.to_string(), other.to_string());
    eventually(secs(30), "writes reach the primary and reads the standby, ten times in a row", || {
        (0..10).all(|_| both() == expected)
    });
    // Each pool says with its checks how it sees this node.
    for (pool, state) in [("ReadWrite", "UP"), ("ReadOnly", "DOWN")] {
        eventually(secs(30), state, || {
            let said = sites[0].doctor(&[]).lines;
            let line = said.iter().find(|line| line.contains(&format!(" has {pool}/")));
            line.is_some_and(|line| {
                line.starts_with("ok ") && line.contains("(127.0.0.1)") && line.contains(state)
            })
        });
    }
}

/// PostgreSQL is told by the kernel who asks: root does so as the agent's user.
#[test]
fn it_logs_in_as_the_agents_user_whoever_runs_it() {
    let mut site = Site::healthy();
    let is_root = rustix::process::geteuid().is_root();
    let user = if is_root { "postgres".to_owned() } else { own_user() };
    if !is_root {
        let role = format!(
            "DO $$ BEGIN CREATE ROLE \"{user}\" LOGIN SUPERUSER; EXCEPTION WHEN duplicate_object THEN END $$"
        );
        site.server.psql(&role);
    }
    site.set_dsn(&site.server.dsn_of(&user));
    site.server.write_hba("local all all peer\n");
    let said = site.doctor(&[]);
    let line = format!("lets {user} in (as the operating system's {user})");
    assert!(said.lines.iter().any(|found| found.starts_with("ok ") && found.contains(&line)), "{said}");
}

/// A mistake in the file is a finding; one in what was typed is not.
#[test]
fn bad_usage_is_refused_as_everywhere() {
    let site = Site::healthy();
    let said = site.doctor(&["--bogus"]);
    assert_eq!((said.code, said.lines.len()), (3, 0), "{said}");
    assert!(said.stderr.contains("unknown option \"--bogus\""), "{said}");
    let mut check = support::agent::command();
    let output = check.args(["check", "--haproxy"]).output().expect("run the agent");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--haproxy"), "{output:?}");
}

/// Whatever stands in a password, no line has it.
#[test]
fn passwords_are_never_shown() {
    let mut site = Site::healthy();
    let dsn =
        format!("host=127.0.0.1 port={} user=postgres dbname=postgres password=s3cr3t", site.server.port());
    site.set_dsn(&dsn);
    site.environment.push(("PGPASSWORD".into(), "s3cr3t".into()));
    let said = site.doctor(&[]);
    assert!(said.code < 2 && said.lines.iter().any(|line| line.contains("password = ***")), "{said}");
    assert!(!said.lines.iter().any(|line| line.contains("s3cr3t")), "{said}");
    site.set_dsn("host=127.0.0.1 password=s3cr3t s3cr3t");
    let said = site.doctor(&[]);
    assert!(said.code == 2 && !said.lines.iter().any(|line| line.contains("s3cr3t")), "{said}");
}
