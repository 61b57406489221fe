//! SIGHUP: the configuration is read again while the agent runs. The judges are the servers: who is asked, in which session.

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;
use support::folder::Folder;
use support::peers::{Ring, document, line};
use support::pgbouncer::{Pgbouncer, Pool, PoolMode};
use support::wire::Wire;
use support::xinetd::{Service, Xinetd};
use support::{Agent, Cluster, Frozen, StopMode, eventually, free_port, http, process, secs};

/// An agent whose configuration is all in its file.
struct Site {
    agent: Agent,
}

impl Site {
    /// It started with an empty file, and nobody has asked yet.
    #[track_caller]
    fn start(settings: &str) -> Site {
        let site = Site { agent: Agent::start(&[]) };
        site.reload(settings, "reloaded: ");
        site
    }

    fn count(&self, text: &str) -> usize {
        self.agent.log().matches(text).count()
    }

    /// Writes the file anew, and waits until the agent has said what it made of it.
    #[track_caller]
    fn reload(&self, settings: &str, said: &str) {
        self.agent.configure(settings);
        let before = self.count(said);
        self.agent.signal(Signal::HUP);
        eventually(secs(10), said, || self.count(said) > before);
    }
}

fn session_of(server: &Cluster) -> Vec<u32> {
    server.backend_pids("pgsqlchk")
}

#[test]
fn the_connection_leads_elsewhere_and_nothing_of_the_server_before_stays() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let site = Site::start(&format!("dsn = {}\nlogin-interval = 0\n", primary.dsn()));
    assert_eq!(line(&site.agent, "/"), "200 Primary");
    assert_eq!(session_of(&primary).len(), 1);
    site.reload(&format!("dsn = {}\nlogin-interval = 0\n", standby.dsn()), "reloaded: dsn\n");
    assert_eq!(line(&site.agent, "/"), "206 Standby", "the first answer already");
    assert_eq!(session_of(&standby).len(), 1);
    eventually(secs(10), "the old session is closed", || session_of(&primary).is_empty());
    site.reload(&format!("dsn = {}\nlogin-interval = 0\n", primary.dsn()), "reloaded: dsn\n");
    assert_eq!(line(&site.agent, "/"), "200 Primary");
    // Two instances, and none of them changed.
    eventually(secs(10), "each is seen for the first time", || site.count("unknown -> primary") == 2);
    assert_eq!(site.count("standby -> primary"), 0);
}

/// With a login interval of 0 a session is replaced for no other reason.
#[test]
fn a_session_stays_open_where_the_connection_does() {
    let primary = Cluster::primary_with(&[("log_statement", "all")]);
    let dsn = format!("dsn = {}\nlogin-interval = 0\n", primary.dsn());
    let site = Site::start(&format!("{dsn}timeout = 2s\n"));
    assert_eq!(line(&site.agent, "/"), "200 Primary");
    let session = session_of(&primary);
    site.reload(&format!("{dsn}timeout = 10s\n"), "reloaded: timeout\n");
    assert_eq!(line(&site.agent, "/"), "200 Primary");
    assert_eq!(session_of(&primary), session);
    // The server would end each question of this session after 2 s, had nobody told it.
    assert!(primary.log().contains("SET statement_timeout = 10000"), "{}", primary.log());
    assert_eq!(session_of(&primary), session);
    site.reload(&format!("{dsn}timeout = 1s\n"), "reloaded: timeout\n");
    assert_eq!(line(&site.agent, "/"), "200 Primary");
    let _frozen = Frozen::new(session[0]);
    let reply = site.agent.get("/");
    assert_eq!(reply.status, 503);
    assert!(reply.elapsed < secs(5), "after {:?}", reply.elapsed);
}

#[test]
fn whatever_can_change_does() {
    let primary = Cluster::primary();
    let folder = Folder::new("switch");
    let drain = folder.write("drain", "");
    let dsn = format!("dsn = {}\n", primary.dsn());
    let nobody = format!("127.0.0.1:{}", free_port());
    let site = Site::start(&dsn);
    let drain_file = format!("drain-file = {}\n", drain.display());
    for (words, settings, path, expected) in [
        ("drain-file", drain_file, "/", "404 draining"),
        ("peer, min-peers", format!("peer = {nobody}\nmin-peers = 1\n"), "/primary", "503 isolated"),
        ("pooler", format!("pooler = {nobody}\n"), "/", "503 pooler-not-answering"),
        ("root-path", "root-path = /replica\n".into(), "/", "503 not-in-recovery"),
        ("knock-interval", "knock-interval = 5s\n".into(), "/", "200 Primary"),
        ("max-lag", "max-lag = 16MB\n".into(), "/", "200 Primary"),
    ] {
        assert_eq!(line(&site.agent, "/"), "200 Primary", "{words}");
        site.reload(&format!("{dsn}{settings}"), &format!("reloaded: {words}\n"));
        assert_eq!(line(&site.agent, path), expected, "{words}");
        site.reload(&dsn, &format!("reloaded: {words}\n"));
    }
    assert_eq!(line(&site.agent, "/"), "200 Primary");
    site.reload(&format!("{dsn}log-level = debug\n"), "reloaded: log-level\n");
    primary
        .psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgsqlchk'");
    assert_eq!(line(&site.agent, "/"), "200 Primary");
    eventually(secs(10), "the log is talkative", || site.count("asking again") > 0);
    site.reload(&dsn, "reloaded: log-level\n");
    site.reload(&dsn, "reloaded: nothing is new\n");
}

#[test]
fn who_may_ask_changes_and_how_many() {
    let primary = Cluster::primary();
    let dsn = format!("dsn = {}\n", primary.dsn());
    let site = Site::start(&dsn);
    site.reload(&format!("{dsn}allow = 127.0.0.2\n"), "reloaded: allow\n");
    let refused = http::get(site.agent.addr(), "/");
    assert!(refused.is_err(), "{refused:?}");
    site.reload(&format!("{dsn}max-connections = 1\n"), "reloaded: max-connections, allow\n");
    assert_eq!(line(&site.agent, "/"), "200 Primary");
    let mut crowd: Vec<_> = (0..2).map(|_| Wire::connect(site.agent.addr())).collect();
    // Nobody has asked, and there is room for one: the newer one stays.
    assert!(crowd[0].receive(secs(10)).bytes.is_empty());
    site.reload(&format!("{dsn}max-connections = 2\n"), "reloaded: max-connections\n");
    crowd[1].send("GET / HTTP/1.1\r\n\r\n");
    assert!(String::from_utf8_lossy(&crowd[1].receive(secs(10)).bytes).contains("200 Primary"));
}

#[test]
fn a_primary_commits_from_now_on_and_then_no_more() {
    let primary = Cluster::primary();
    let dsn = format!("dsn = {}\n", primary.dsn());
    let site = Site::start(&dsn);
    let writers = || primary.backend_pids("pgsqlchk write probe").len();
    assert_eq!(line(&site.agent, "/primary"), "200 Primary");
    assert_eq!(writers(), 0);
    site.reload(&format!("{dsn}write-probe = 1s\n"), "reloaded: write-probe\n");
    assert_eq!(line(&site.agent, "/primary"), "200 Primary");
    assert_eq!(writers(), 1);
    site.reload(&dsn, "reloaded: write-probe\n");
    eventually(secs(10), "its session is closed", || writers() == 0);
}

#[test]
fn what_needs_a_restart_is_named_in_one_warning() {
    let primary = Cluster::primary();
    let dsn = format!("dsn = {}\n", primary.dsn());
    let site = Site::start(&dsn);
    let warning = "only a restart takes over what the configuration says now of: ";
    let settings = format!("{dsn}workers = 2\nagent-listen = 127.0.0.1:1\nlog-target = none\ntimeout = 1s\n");
    site.reload(&settings, "reloaded: timeout\n");
    site.agent.wait_for_log(&format!("{warning}agent-listen, workers, log-target\n"));
    assert_eq!(site.count(warning), 1);
    // It is still so, and is said again with the next one.
    site.reload(&format!("{dsn}workers = 2\n"), &format!("{warning}workers\n"));
    site.reload(&dsn, "reloaded: nothing is new\n");
    assert_eq!(site.count(warning), 2);
    assert_eq!(line(&site.agent, "/"), "200 Primary");
}

#[test]
fn a_mistake_is_one_line_and_changes_nothing() {
    let primary = Cluster::primary();
    let dsn = format!("dsn = {}\n", primary.dsn());
    let site = Site::start(&format!("{dsn}login-interval = 0\n"));
    assert_eq!(line(&site.agent, "/"), "200 Primary");
    let session = session_of(&primary);
    for (settings, why) in [
        ("dsn = host=/nowhere\ntimeuot = 1s\n", ":2: "),
        ("root-path = /replica\ntimeout = 1d\n", ":2: timeout"),
        ("dsn = host=/nowhere password=geheim sslmode=require\n", "sslmode"),
        ("allow = 192.0.2.1\nmin-peers = 3\n", "min-peers is 3"),
    ] {
        let log = site.agent.log();
        site.reload(settings, " ERROR [pgsqlchk] reload: nothing has changed: ");
        let log = site.agent.log()[log.len()..].to_owned();
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.contains(why) && !log.contains("geheim"), "{log}");
        assert_eq!(line(&site.agent, "/"), "200 Primary", "{settings}");
    }
    assert_eq!(line(&site.agent, "/"), "200 Primary");
    assert_eq!(session_of(&primary), session);
}

/// What a peer has said sticks although it is silent; a reload is no reason to forget it.
#[test]
fn a_primary_that_was_left_behind_stays_superseded() {
    let old = Cluster::primary();
    let new = Cluster::standby_of(&old);
    new.promote();
    let ring = Ring::of(2);
    let witness = ring.start(1, &new, &[]);
    let dsn = format!("dsn = {}\n", old.dsn());
    let peers = format!("{dsn}peer = {}\n", ring.address(1));
    let site = Site::start(&peers);
    eventually(secs(10), "it is superseded", || line(&site.agent, "/") == "503 superseded");
    drop(witness);
    new.stop(StopMode::Fast);
    site.reload(&format!("{peers}peer = 127.0.0.1:{}\n", free_port()), "reloaded: peer\n");
    assert_eq!(line(&site.agent, "/"), "503 superseded");
    assert_eq!(document(&site.agent, "/cluster")["nodes"].as_array().map(Vec::len), Some(3));
    site.reload(&format!("{peers}timeout = 1s\n"), "reloaded: timeout, peer\n");
    assert_eq!(line(&site.agent, "/"), "503 superseded");
    // The administrator says that there is no such node any more.
    site.reload(&dsn, "reloaded: timeout, peer\n");
    assert_eq!(line(&site.agent, "/"), "200 Primary");
}

/// Asks as fast as it is answered until it is told to stop, and says how often that was.
fn ask_steadily(addr: SocketAddr, is_over: &AtomicBool) -> usize {
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) {
        let reply = http::get(addr, "/").expect("an answer");
        assert_eq!(reply.line(), "200 Primary");
        assert!(reply.elapsed < secs(2), "within the deadline: {:?}", reply.elapsed);
        count += 1;
    }
    count
}

#[test]
fn no_check_is_lost_or_late_during_200_reloads_under_load() {
    let primary = Cluster::primary();
    let pool = Pool { mode: PoolMode::Session, forced_user: None, size: 2, more: "" };
    primary.psql("CREATE ROLE app LOGIN");
    let bouncer = Pgbouncer::before(&primary, pool);
    let standby = Cluster::standby_of(&primary);
    let witness = Agent::start(&["--dsn", &standby.dsn()]);
    let dsn = format!("dsn = {}\nlogin-interval = 0\n", primary.dsn());
    let variants = [
        String::new(),
        format!("pooler = {}\n", bouncer.address()),
        format!("peer = {}\ntimeout = 1900ms\n", witness.addr()),
        format!("write-probe = 1s\npooler = {}\n", bouncer.address()),
        "max-lag = 1MB\nallow = 127.0.0.0/8\nmax-connections = 64\nlog-level = debug\n".to_owned(),
    ];
    let site = Site::start(&dsn);
    assert_eq!(line(&site.agent, "/"), "200 Primary");
    let (session, threads) = (session_of(&primary), site.agent.threads());
    let is_over = AtomicBool::new(false);
    let addr = site.agent.addr();
    let asked: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| ask_steadily(addr, &is_over))).collect();
        let mut reloads = 0;
        while reloads < 200 && clients.iter().all(|client| !client.is_finished()) {
            reloads += 1;
            site.reload(&format!("{dsn}{}", variants[reloads % variants.len()]), "reloaded: ");
        }
        is_over.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().expect("every check is answered")).sum()
    });
    assert!(asked > 200, "{asked}");
    assert_eq!(site.count("reloaded: "), 201);
    assert_eq!(session_of(&primary), session, "one and the same");
    let log = site.agent.log();
    let worse = log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR "));
    assert_eq!(worse.collect::<Vec<_>>(), [""; 0]);
    site.reload(&dsn, "reloaded: ");
    assert_eq!(line(&site.agent, "/"), "200 Primary");
    eventually(secs(10), "those who were asked are gone", || site.agent.threads() == threads);
    eventually(secs(10), "their sessions, too", || {
        primary.backend_pids("pgsqlchk write probe").is_empty() && session_of(&primary) == session
    });
}

#[test]
fn an_agent_that_xinetd_has_started_reloads_too() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let xinetd = Xinetd::start(Service::Wait, &format!("dsn = {}\n", primary.dsn()));
    let line = || http::get(xinetd.addr(), "/").expect("an answer").line();
    assert_eq!(line(), "200 Primary");
    let agents: BTreeSet<u32> = xinetd.agents().into_iter().collect();
    assert_eq!(agents.len(), 1);
    xinetd.configure_agent(&format!("dsn = {}\n", standby.dsn()));
    assert_eq!(line(), "200 Primary", "nobody has told it yet");
    for agent in &agents {
        process::signal(*agent, Signal::HUP);
    }
    eventually(secs(10), "it has read the file", || line() == "206 Standby");
    assert_eq!(xinetd.agents().into_iter().collect::<BTreeSet<_>>(), agents);
}
