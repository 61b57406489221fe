//! The fault campaign (`make torture`): three servers, an agent beside each, HAProxy, and faults drawn by lot. Observers
//! ask PostgreSQL itself, clients ask the agents all the time, and a checker holds the whole history against the rules.

mod agents;
mod checker;
mod clock;
mod descriptors;
mod disk;
mod faults;
mod hearing;
mod history;
mod lives;
mod memory_group;
mod names;
mod network;
mod plan;
mod poser;
mod primaries;
mod record;
mod refusals;
mod replication;
mod splits;
mod stoppages;
#[path = "../support/mod.rs"]
mod support;
mod watchers;
mod ways;
mod work;
mod workers;
mod world;

use std::env;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use checker::{Finding, Findings, Limits, Worst};
use history::{Answer, Node, Said};
use plan::{Lots, Plan, Step};
use record::Record;
use support::{millis, secs};
use world::World;

/// Faults between two rests.
const FAULTS_PER_REST: usize = 10;
const DEFAULT_FAULTS: usize = 200;
/// Every kind of fault is drawn far sooner.
const MAX_DRAWS: usize = 10_000;
/// Findings of a kind that are shown.
const SHOWN: usize = 20;

const LIMITS: Limits = Limits {
    timeout: world::TIMEOUT,
    slack: secs(1),
    knock: millis(350),
    login: millis(850),
    write_probe: world::WRITE_PROBE,
    peer_interval: world::PEER_INTERVAL,
    recovery: secs(2),
    // The one in use, four that were given up, and some that the server does not know to be cut off until its keepalive
    // says so.
    sessions: 8,
    descriptors: 0,
    threads: 0,
    // Most of it is stacks of threads that were first used after the first rest, and each peer is a thread more.
    memory_kib: 6144,
};

fn main() -> ExitCode {
    if let Some(status) = network::enclose() {
        return if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let seed = number("SEED").unwrap_or_else(|| RandomState::new().build_hasher().finish() % 1_000_000);
    let faults = number("FAULTS").map_or(DEFAULT_FAULTS, |count| usize::try_from(count).expect("FAULTS"));
    say(&format!("SEED={seed} FAULTS={faults}"));
    network::build();
    let record = Arc::new(Record::new());
    let faults = run(&record, seed, faults);
    let history = record.lock();
    let findings = checker::check(&history, &LIMITS);
    let Worst { answer, recovery, sessions, memory_kib, deaths } = checker::worst(&history, &LIMITS);
    say(&format!("slowest answer {answer:.2?} of {:?}, slowest recovery {recovery:.2?}", LIMITS.timeout));
    say(&format!("at most {sessions} sessions of an agent, {memory_kib} KiB of memory at rest"));
    say(&format!("agents that died without memory and were started again: {deaths}"));
    let refused = history.answers.iter().filter(|answer| matches!(answer.said, Said::Refused(_))).count();
    say(&format!("a primary was refused writes {refused} times, as another node was seen"));
    let told = history.answers.iter().filter(|answer| matches!(answer.said, Said::Is(_))).count();
    let unverified = |reason: &str| {
        let is_it = |answer: &&Answer| answer.said == Said::Unverified(reason.to_owned());
        history.answers.iter().filter(is_it).count()
    };
    let [stalled, failed, silent] = ["write-stalled", "write-failed", "pooler-not-answering"].map(unverified);
    say(&format!(
        "commits were said to stall {stalled} times, to fail {failed} times, and the pooler to be silent {silent} times"
    ));
    let alive = history.answers.iter().filter(|answer| answer.said == Said::Alive).count();
    let none = history.answers.len() - told - refused - alive;
    say(&format!("a role was told {told} times, {none} times none"));
    report(&record, &findings, faults, history.answers.len())
}

fn run(record: &Arc<Record>, seed: u64, faults: usize) -> usize {
    let tcp_node = usize::try_from(Lots::new(!seed).below(3)).expect("a node");
    let mut world = World::new(record, tcp_node);
    world.rest();
    let mut plan = Plan::new(seed);
    let only = env::var("ONLY").unwrap_or_default();
    let (mut number, mut rests_at) = (0, FAULTS_PER_REST);
    while number < faults {
        let steps = draw(&mut plan, &only);
        number += endure(&mut world, &steps, number);
        if number >= rests_at || number >= faults {
            rests_at = number + FAULTS_PER_REST;
            world.rest();
            let answers = record.lock().answers.len();
            say(&format!("{:6.1} s: {number} faults, {answers} answers", record.now().as_secs_f64()));
        }
    }
    number
}

/// Does these steps, undoes them, and waits until all is well. Says how many faults it were: two of one node are one.
fn endure(world: &mut World, steps: &[Step], before: usize) -> usize {
    let record = Arc::clone(&world.record);
    let mut placed: Vec<(Step, Node)> =
        steps.iter().map(|step| (*step, faults::place(step, world))).collect();
    placed.dedup_by_key(|(_, node)| *node);
    let hold = placed.iter().map(|(step, _)| faults::hold(step)).max().unwrap_or_default();
    let mut troubled: Vec<Node> =
        placed.iter().flat_map(|(step, node)| faults::troubled(step.fault, *node)).collect();
    troubled.sort_unstable();
    troubled.dedup();
    troubled.iter().for_each(|node| record.trouble(*node));
    let mut undos = Vec::new();
    for (index, (step, node)) in placed.iter().enumerate() {
        let (number, role) = (before + index + 1, world.role(*node));
        record.tell(format!("fault {number}: {:?} on node {node}, {role:?}, for {hold:?}", step.fault));
        undos.push(faults::begin(world, step.fault, *node));
    }
    thread::sleep(hold);
    record.tell(format!("fault {} ends", before + placed.len()));
    undos.into_iter().rev().for_each(|undo| undo(world));
    for (step, node) in &placed {
        let rest = faults::longest_rest_with_session(step.fault);
        let nodes = faults::troubled(step.fault, *node);
        rest.into_iter().for_each(|rest| nodes.iter().for_each(|node| record.rests(*node, rest)));
    }
    let rests = placed.iter().map(|(step, _)| faults::longest_rest(step.fault));
    let grace = rests.max().unwrap_or_default();
    world.settle_all(&troubled, grace);
    placed.len()
}

/// The next fault, or with `ONLY=Agent` the next one whose name has that in it.
fn draw(plan: &mut Plan, only: &str) -> Vec<Step> {
    let mut steps = (0..MAX_DRAWS).map(|_| plan.draw());
    steps.find(|steps| format!("{:?}", steps[0].fault).contains(only)).expect("ONLY names a fault")
}

fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|error| panic!("{name}={value}: {error}")))
}

fn report(record: &Record, findings: &Findings, faults: usize, answers: usize) -> ExitCode {
    for (kind, found) in [("wrong", &findings.wrong), ("late", &findings.late), ("leak", &findings.leaks)] {
        for Finding { at, what } in found.iter().take(SHOWN) {
            say(&format!("{kind}: {what}\n    at {at:?}, during: {}", record.chapter(*at)));
        }
    }
    let (wrong, late, leaks) = (findings.wrong.len(), findings.late.len(), findings.leaks.len());
    say(&format!("faults {faults}, answers {answers}, wrong {wrong}, late {late}, leaks {leaks}"));
    if wrong + late + leaks == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn say(line: &str) {
    // The program's own output: nobody else writes to it.
    let _ = writeln!(std::io::stdout(), "{line}");
}
