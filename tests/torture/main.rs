//! The fault campaign (`make torture`): two servers, an agent beside each, HAProxy, and faults drawn by lot. Observers
//! ask PostgreSQL itself, clients ask the agents all the time, and a checker holds the whole history against the rules.

mod checker;
mod clock;
mod faults;
mod history;
mod names;
mod network;
mod plan;
mod record;
#[path = "../support/mod.rs"]
mod support;
mod watchers;
mod world;

use std::env;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use checker::{Finding, Findings, Limits};
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
    recovery: secs(2),
    sessions: 5,
    descriptors: 0,
    threads: 0,
    memory_kib: 4096,
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
    run(&record, seed, faults);
    let history = record.lock();
    let findings = checker::check(&history, &LIMITS);
    report(&record, &findings, faults, history.answers.len())
}

fn run(record: &Arc<Record>, seed: u64, faults: usize) {
    let tcp_node = usize::try_from(Lots::new(!seed).below(2)).expect("0 or 1");
    let mut world = World::new(record, tcp_node);
    world.rest();
    let mut plan = Plan::new(seed);
    let only = env::var("ONLY").unwrap_or_default();
    for number in 1..=faults {
        let step = draw(&mut plan, &only);
        let node = faults::place(&step, &world);
        let troubled = faults::troubled(step.fault, node);
        let hold = faults::hold(&step);
        let role = world.role(node);
        record.tell(format!("fault {number}: {:?} on node {node}, {role:?}, for {hold:?}", step.fault));
        troubled.iter().for_each(|node| record.trouble(*node));
        let undo = faults::begin(&mut world, step.fault, node);
        thread::sleep(hold);
        record.tell(format!("fault {number} ends"));
        undo(&mut world);
        troubled.iter().for_each(|node| world.settle(*node));
        if number % FAULTS_PER_REST == 0 || number == faults {
            world.rest();
            let answers = record.lock().answers.len();
            say(&format!("{:6.1} s: {number} faults, {answers} answers", record.now().as_secs_f64()));
        }
    }
}

/// The next fault, or with `ONLY=Agent` the next one whose name has that in it.
fn draw(plan: &mut Plan, only: &str) -> Step {
    let mut steps = (0..MAX_DRAWS).map(|_| plan.draw());
    steps.find(|step| format!("{:?}", step.fault).contains(only)).expect("ONLY names a fault")
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
