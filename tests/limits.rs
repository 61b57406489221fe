//! Too few descriptors, too many clients: who is served, who gives way, and that it passes.

mod support;

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use support::postgresql::run;
use support::siege::{CHECK, Footprint, check, processor_time, waiting_check};
use support::wire::{PATIENCE, Received, Wire, head, reply};
use support::{Agent, Cluster, Frozen, eventually, millis, secs};

/// With few descriptors and a crowd that takes them all the agent neither dies, nor spins, nor fills the log;
/// a check that comes meanwhile waits its turn, and all is well when the crowd has gone.
#[test]
fn running_out_of_descriptors_ends_when_the_clients_go() {
    let primary = Cluster::primary();
    let mut agent = Agent::start(&["--dsn", &primary.dsn()]);
    let before = Footprint::at_rest(&agent);
    let lines = agent.log().lines().count();
    limit_descriptors(&agent, agent.descriptors() as u64 + 8);
    let crowd: Vec<Wire> = (0..100).map(|_| Wire::connect(agent.addr())).collect();

    assert_rests(&agent, crowd.last().expect("a crowd"));

    let mut waiting = Wire::connect(agent.addr());
    waiting.send(CHECK);
    let received = waiting.receive(PATIENCE);
    assert!(is_answer_with_few_descriptors(&received), "{received:?}");

    drop(crowd);
    eventually(secs(3), "service returns", || check(agent.addr()).is_ok());
    for _ in 0..20 {
        check(agent.addr()).expect("a check after the crowd has gone");
    }
    before.wait_for_return(&agent);
    assert!(agent.is_alive());
    let written = agent.log().lines().count() - lines;
    assert!(written <= 4, "a crowd writes no log: {}", agent.log());
}

/// Not a single one left, and nobody who could give way: all it can do is wait, and not in circles.
#[test]
fn an_agent_that_cannot_accept_at_all_rests_and_returns() {
    let primary = Cluster::primary();
    let dsn = primary.dsn();
    let mut agent = Agent::start(&["--dsn", &dsn, "--timeout", "8s", "--knock-interval", "10ms"]);
    let before = Footprint::at_rest(&agent);
    let lines = agent.log().lines().count();
    let postmaster = Frozen::new(primary.postmaster_pid());
    let mut served: Vec<Wire> = (0..4).map(|_| waiting_check(agent.addr())).collect();
    let limit = limit_descriptors(&agent, lowest_free_descriptor(&agent));

    let mut crowd: Vec<Wire> = (0..50).map(|_| Wire::connect(agent.addr())).collect();
    crowd.iter_mut().for_each(|wire| wire.send(CHECK));
    assert_rests(&agent, &crowd[0]);

    limit_descriptors(&agent, limit);
    postmaster.thaw();
    for wire in served.iter_mut().chain(&mut crowd) {
        assert_eq!(wire.receive(PATIENCE).text(), reply("200 Primary", "Primary\n"));
    }
    drop((served, crowd));
    before.wait_for_return(&agent);
    assert!(agent.is_alive());
    let written = agent.log().lines().count() - lines;
    assert!(written <= 4, "a crowd writes no log: {}", agent.log());
}

/// The number the next descriptor would get.
fn lowest_free_descriptor(agent: &Agent) -> u64 {
    let taken = |number: &u64| Path::new(&format!("/proc/{}/fd/{number}", agent.pid())).is_symlink();
    (0..).find(|number| !taken(number)).expect("a number")
}

/// Watches the agent for a second in which `bystander` gets nothing: it may use a tenth of a processor at most.
fn assert_rests(agent: &Agent, bystander: &Wire) {
    let used = processor_time(agent.pid());
    let window = Instant::now();
    bystander.wait_readable(secs(1));
    let used = processor_time(agent.pid()) - used;
    assert!(used < window.elapsed() / 10, "{used:?} of processor time in {:?}", window.elapsed());
}

/// Fewer than it needs for itself, from the beginning: it says so to whoever asks, and to the log.
#[test]
fn an_agent_started_with_too_few_descriptors_answers_and_lives() {
    let primary = Cluster::primary();
    let dsn = primary.dsn();
    let mut agent = Agent::start_under(&["prlimit", "--nofile=24:24"], |command| {
        command.args(["--dsn", &dsn]);
    });
    for _ in 0..20 {
        let crowd: Vec<Wire> = (0..20).map(|_| Wire::connect(agent.addr())).collect();
        drop(crowd);
        let mut wire = Wire::connect(agent.addr());
        wire.send(CHECK);
        let received = wire.receive(PATIENCE);
        assert!(is_answer_with_few_descriptors(&received), "{received:?}");
    }
    assert!(agent.is_alive());
}

/// 200, or the reason why not.
fn is_answer_with_few_descriptors(received: &Received) -> bool {
    let good = reply("200 Primary", "Primary\n");
    let short = reply("503 agent-out-of-resources", "Down: agent-out-of-resources\n");
    [good, short].contains(&received.text())
}

/// The watch gave up a hanging probe, could have no thread for the one that waited behind it, and wanted to say so to
/// its caller first. But replies on a lane keep the order of their requests, so it waited for a reply that only it could
/// write: from then on nobody got an answer, and the port stayed open.
#[test]
fn an_agent_that_can_have_no_more_threads_answers_everybody_and_returns() {
    let primary = Cluster::primary();
    let dsn = primary.dsn();
    // Limits of processes do not count for root.
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let user = if rustix::process::geteuid().is_root() { user.as_slice() } else { &[] };
    let agent = Agent::start_under(user, |command| {
        // A login that falls due meanwhile would bring a session that is not frozen.
        command.args(["--dsn", &dsn, "--timeout", "1s", "--login-interval", "0"]);
    });
    check(agent.addr()).expect("a check before");
    let limit_threads = |limit: &str| {
        let pid = agent.pid().to_string();
        let line = [user, &["prlimit", "--pid", &pid, limit]].concat();
        run(Command::new(line[0]).args(&line[1..]));
    };
    let frozen = Frozen::all(primary.backend_pids("pgsqlchk"));
    limit_threads("--nproc=0:");

    let mut first = waiting_check(agent.addr());
    let mut second = waiting_check(agent.addr());
    let late = reply("503 deadline-passed", "Down: deadline-passed\n");
    let short = reply("503 agent-out-of-resources", "Down: agent-out-of-resources\n");
    assert_eq!(first.receive(PATIENCE).text(), late);
    assert_eq!(second.receive(PATIENCE).text(), short, "it joined no flight that had begun");

    drop(frozen);
    limit_threads("--nproc=4096:");
    for _ in 0..5 {
        check(agent.addr()).expect("a check after");
    }
}

/// Sets the soft limit of a running agent and returns the old one; descriptors above it stay open.
fn limit_descriptors(agent: &Agent, limit: u64) -> u64 {
    let pid = i32::try_from(agent.pid()).ok().and_then(Pid::from_raw);
    let hard = getrlimit(Resource::Nofile).maximum;
    let old =
        prlimit(pid, Resource::Nofile, Rlimit { current: Some(limit), maximum: hard }).expect("prlimit");
    old.current.or(hard).expect("a limit")
}

#[test]
fn over_max_connections_the_oldest_client_still_sending_its_head_gives_way() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn(), "--max-connections", "3"]);
    let mut waiting: Vec<Wire> = (0..3)
        .map(|_| {
            let mut wire = Wire::connect(agent.addr());
            wire.send("GET /liveness HT");
            wire.wait_consumed();
            wire
        })
        .collect();
    check(agent.addr()).expect("a new client is served");
    let oldest = waiting.remove(0).receive(PATIENCE);
    assert_eq!(oldest.text(), "", "who gives way gets nothing");
    assert!(oldest.elapsed < secs(1), "it gave way when the new client came: {:?}", oldest.elapsed);
    for mut wire in waiting {
        assert!(!wire.wait_readable(millis(1)), "only one had to give way");
        wire.send("TP/1.1\r\n\r\n");
        assert_eq!(wire.receive(PATIENCE).text(), reply("200 Alive", "Alive\n"));
    }
}

/// `make torture SEED=2003`: two hundred connections came from one host in the moment in which a client of another one
/// was connected and had not asked yet, and it was this one that had to go.
#[test]
fn a_crowd_from_one_host_takes_no_place_from_another() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn(), "--max-connections", "4"]);
    let connect = |last| Wire::connect_from(Ipv4Addr::new(127, 0, 0, last), agent.addr());
    let held = |wire: &mut Wire| {
        wire.send("GET /liveness HT");
        wire.wait_consumed();
    };
    let mut lonely = connect(2);
    held(&mut lonely);
    let mut crowd: Vec<Wire> = (0..100).map(|_| connect(3)).collect();
    let mut last: Vec<Wire> = crowd.split_off(97);
    last.iter_mut().for_each(held);
    check(agent.addr()).expect("a check from a third host");
    let [mut first, rest @ ..] = <[Wire; 3]>::try_from(last).ok().expect("the last three");
    assert_eq!(first.receive(PATIENCE).text(), "", "the oldest of the crowd has to go");
    for mut wire in rest.into_iter().chain([lonely]) {
        wire.send("TP/1.1\r\n\r\n");
        assert_eq!(wire.receive(PATIENCE).text(), reply("200 Alive", "Alive\n"));
    }
}

/// An agent with so many places beside a frozen PostgreSQL, and two checks that wait for their answers.
fn with_two_waiting(primary: &Cluster, places: &str) -> (Agent, Frozen, [Wire; 2]) {
    let args = ["--max-connections", places, "--timeout", "4s", "--knock-interval", "10ms"];
    let agent = Agent::start(&[&["--dsn", primary.dsn().as_str()], args.as_slice()].concat());
    check(agent.addr()).expect("a check before the freeze");
    let postmaster = Frozen::new(primary.postmaster_pid());
    let waiting = [waiting_check(agent.addr()), waiting_check(agent.addr())];
    (agent, postmaster, waiting)
}

/// With the crowd's requests all under way, only the one of the other host could give way to the next of the crowd.
#[test]
fn a_crowd_that_waits_for_its_answers_takes_no_place_from_another() {
    let primary = Cluster::primary();
    let (agent, postmaster, _waiting) = with_two_waiting(&primary, "3");
    let mut lonely = Wire::connect_from(Ipv4Addr::new(127, 0, 0, 2), agent.addr());
    lonely.send("GET /liveness HT");
    lonely.wait_consumed();
    assert_eq!(Wire::connect(agent.addr()).receive(PATIENCE).text(), "", "one more of the crowd");
    lonely.send("TP/1.1\r\n\r\n");
    assert_eq!(lonely.receive(PATIENCE).text(), reply("200 Alive", "Alive\n"));
    postmaster.thaw();
}

#[test]
fn over_max_connections_a_new_client_is_closed_when_all_others_wait_for_their_answer() {
    let primary = Cluster::primary();
    let (agent, postmaster, mut waiting) = with_two_waiting(&primary, "2");
    let late = Wire::connect(agent.addr()).receive(PATIENCE);
    assert_eq!(late.text(), "");
    assert!(late.elapsed < secs(1), "closed at once, not after {:?}", late.elapsed);

    postmaster.thaw();
    for wire in &mut waiting {
        assert_eq!(wire.receive(PATIENCE).text(), reply("200 Primary", "Primary\n"));
    }
}

/// A connection that was answered and waits for the client's end counts no more than one that still sends its
/// head, or HAProxy's next check would find the door closed.
#[test]
fn with_one_connection_allowed_one_check_after_the_other_is_answered() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn(), "--max-connections", "1"]);
    let mut answered = Vec::new();
    for number in 0..200 {
        check(agent.addr()).unwrap_or_else(|failure| panic!("check {number}: {failure}"));
        // Some clients keep their side open for a while.
        if number % 10 == 0 {
            let mut wire = Wire::connect(agent.addr());
            wire.send("HEAD /liveness HTTP/1.1\r\n\r\n");
            assert_eq!(wire.receive(PATIENCE).text(), head("200 Alive", "Alive\n"));
            answered.push(wire);
        }
    }
}
