//! What a check makes this host do: processor time of the agent's session in the server and of the agent itself, the
//! agent's system calls, and how often its threads go to sleep.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::client::{PATIENCE, buffer, exchange};
use crate::report::{micros, say};
use crate::support::folder::Folder;
use crate::support::process::{Signal, signal, status_number};
use crate::support::{Agent, Cluster, eventually, http};

/// The bare question, in a session of our own.
const ROLE: &str = "SELECT pg_is_in_recovery()";

/// Target, code and goal; the first one is the unit of the server's time.
const BESIDE_PRIMARY: [(&str, &str, &str); 5] = [
    ("/", "200", "120 us, 7 switches, 18 calls"),
    ("/liveness", "200", ""),
    ("/read-write", "200", "ratio 1.60"),
    ("/status", "200", "ratio 4.00"),
    ("/metrics", "200", ""),
];

/// The same, of a standby.
const BESIDE_STANDBY: [(&str, &str, &str); 4] = [
    ("/", "206", "the unit"),
    ("/replica?lag=16MB", "200", ""),
    ("/replica?replay=running", "200", ""),
    ("/status", "200", "ratio 4.00"),
];

/// So many checks of one target come together, so that caches are as warm as for one who asks nothing else.
const ROUND: usize = 250;

/// While strace looks, a check takes several times as long.
const TRACED: usize = 500;

/// Of one check.
#[derive(Default)]
struct Work {
    server: Duration,
    agent: Duration,
    switches: f64,
    calls: f64,
}

/// So many checks of each target, in turns.
pub fn measure(checks: usize, title: &str) {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let bare = bare_question(checks, &primary);
    say(&format!(
        "{:<38}{:>10}{:>7}{:>10}{:>10}{:>7}  goal",
        format!("work, {title}"),
        "server",
        "ratio",
        "agent",
        "switches",
        "calls"
    ));
    for (cluster, place, targets) in
        [(&primary, "primary", BESIDE_PRIMARY.as_slice()), (&standby, "standby", BESIDE_STANDBY.as_slice())]
    {
        let works = beside(cluster, targets, checks);
        let unit = works[0].server.as_secs_f64();
        if place == "primary" {
            let ratio = bare.as_secs_f64() / unit;
            say(&format!("{:<38}{:>10}{ratio:>7.2}", format!("{ROLE}, bare"), micros(bare)));
        }
        for ((target, _, goal), Work { server, agent, switches, calls }) in targets.iter().zip(works) {
            let ratio = server.as_secs_f64() / unit;
            let line = format!(
                "{:<38}{:>10}{ratio:>7.2}{:>10}{switches:>10.1}{calls:>7.1}  {goal}",
                format!("{target}, {place}"),
                micros(server),
                micros(agent),
            );
            say(line.trim_end());
        }
    }
    say("");
}

/// The server's time for the question alone.
fn bare_question(checks: usize, primary: &Cluster) -> Duration {
    let mut session = primary.connect();
    let pid: i32 = session.query_one("SELECT pg_backend_pid()", &[]).expect("a query").get(0);
    let pid = u32::try_from(pid).expect("a process id");
    let mut ask = |count: usize| {
        (0..count).for_each(|_| drop(session.simple_query(ROLE).expect("the bare question")));
    };
    ask(ROUND);
    let before = run_time(pid);
    ask(checks);
    (run_time(pid) - before) / u32::try_from(checks).expect("a number of checks")
}

fn beside(cluster: &Cluster, targets: &[(&str, &str, &str)], checks: usize) -> Vec<Work> {
    // One session for all of it: a fresh login would end the process whose time is read.
    let agent = Agent::start(&["--dsn", &cluster.dsn(), "--login-interval", "0"]);
    for (target, code, _) in targets {
        eventually(PATIENCE, target, || {
            http::get(agent.addr(), target).is_ok_and(|reply| reply.status.to_string() == *code)
        });
    }
    let session = cluster.backend_pids("pgsqlchk")[0];
    let mut works: Vec<Work> = targets.iter().map(|_| Work::default()).collect();
    let rounds = (checks / ROUND).max(1);
    let total = (rounds * ROUND) as f64;
    for _ in 0..rounds {
        for ((target, code, _), work) in targets.iter().zip(&mut works) {
            // Some more than are counted: the first ones after another target pay for cold caches.
            ask(agent.addr(), target, code, ROUND / 10);
            let before = (run_time(session), run_time(agent.pid()), switches(agent.pid()));
            ask(agent.addr(), target, code, ROUND);
            work.server += run_time(session) - before.0;
            work.agent += run_time(agent.pid()) - before.1;
            work.switches += (switches(agent.pid()) - before.2) as f64;
        }
    }
    for ((target, code, _), work) in targets.iter().zip(&mut works) {
        work.server = work.server.div_f64(total);
        work.agent = work.agent.div_f64(total);
        work.switches /= total;
        work.calls = system_calls(&agent, target, code);
    }
    works
}

fn ask(agent: SocketAddr, target: &str, code: &str, count: usize) {
    let request = format!("OPTIONS {target} HTTP/1.0\r\n\r\n");
    let mut buffer = buffer();
    (0..count).for_each(|_| exchange(agent, &request, code, &mut buffer));
}

/// What strace counts, per check. Calls that were cut off by its coming and going are a handful of thousands.
fn system_calls(agent: &Agent, target: &str, code: &str) -> f64 {
    let folder = Folder::new("strace");
    let table = folder.path().join("calls");
    let pid = agent.pid().to_string();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-U", "calls,name", "-o"]).arg(&table).args(["-p", &pid]);
    let mut strace = strace
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("run strace (make bench installs it)");
    eventually(PATIENCE, "strace looks", || {
        status_number(agent.pid(), "TracerPid") == u64::from(strace.id())
    });
    ask(agent.addr(), target, code, TRACED);
    signal(strace.id(), Signal::INT);
    strace.wait().expect("wait for strace");
    let table = fs::read_to_string(&table).expect("strace's table");
    let total = table.lines().find_map(|line| line.trim().strip_suffix("total")).expect("a total");
    total.trim().parse::<f64>().expect("a number of calls") / TRACED as f64
}

/// Processor time of all threads of a process so far (`/proc/PID/task/TID/schedstat`: nanoseconds).
fn run_time(pid: u32) -> Duration {
    let nanos = of_each_thread(pid, "schedstat").map(|text| {
        text.split_whitespace().next().and_then(|field| field.parse::<u64>().ok()).expect("a number")
    });
    Duration::from_nanos(nanos.sum())
}

/// How often its threads have gone to sleep so far.
fn switches(pid: u32) -> u64 {
    let name = "voluntary_ctxt_switches:";
    let numbers = of_each_thread(pid, "status").map(|text| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        value.trim().parse::<u64>().expect("a number")
    });
    numbers.sum()
}

/// The text of a file of each thread; one that has just ended has none any more.
fn of_each_thread(pid: u32, file: &str) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    entries.filter_map(move |entry| fs::read_to_string(entry.expect("a thread").path().join(file)).ok())
}
