//! `pgsqlchk drain --wait`: drains, and stays until no session is left.

use std::mem::ManuallyDrop;
use std::thread;
use std::time::{Duration, Instant};

use super::drain;
use super::progress::{Clients, Progress};
use crate::agent_over_http as agent;
use crate::config::{Config, Wait};
use crate::instance::advice::advice;
use crate::instance::{ClientCounter, Failure, ProbeSettings};
use crate::monitor::RUNNER_STACK_BYTES;
use crate::system::agent_user::{self, AgentUser};
use crate::system::slot::{Nothing, Taker, slot};
use crate::system::terminal::StatusLine;
use crate::system::threads;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// What the agent may take on top of its own deadline for an answer.
const SLACK: Duration = Duration::from_secs(1);

/// So long nobody may say anything, once somebody has.
const BLIND_LIMIT: Duration = Duration::from_secs(10);

/// Creates the drain file, then waits until no session is left. Gives the exit code: 0 where none is, 1 where the time is over,
/// or nobody can say how many there are. `Err` is why the drain file could not be created. The file stays in any case.
pub fn run(config: &Config, wait: Wait) -> Result<u8, String> {
    // First of all: whatever else there is to learn can wait.
    let text = drain(config)?;
    let begun = Instant::now();
    let end = match wait {
        Wait::Unlimited => None,
        Wait::AtMost(limit) => begun.checked_add(limit),
    };
    println(&text);
    let addresses = agent::addresses(&config.listen);
    // Closing its session waits for the server, and the process ends anyway.
    let mut counting = ManuallyDrop::new(Counting::start(config));
    let mut progress = Progress::new(begun);
    let mut line = StatusLine::new();
    let mut seen = None;
    loop {
        let asked = Instant::now();
        match agent::ask(&addresses, config.timeout + SLACK) {
            Ok((address, status)) if status.draining == Some(false) => {
                line.finish(&format!(
                    "the agent at {address} does not drain: it looks for another drain file, or this one was removed"
                ));
                return Ok(1);
            }
            Ok((_, status)) => progress.hear(status.haproxy.unwrap_or_default(), asked),
            Err(why) => progress.miss(why),
        }
        progress.count(counting.count(config.timeout));
        let now = Instant::now();
        let left = progress.line(now);
        if progress.is_done(now) {
            line.finish(&format!("drained: {left}"));
            return Ok(0);
        }
        match progress.is_blind(now) {
            None => seen = Some(now),
            Some(why) if seen.is_none_or(|seen| now.saturating_duration_since(seen) >= BLIND_LIMIT) => {
                line.finish(&why);
                return Ok(1);
            }
            Some(_) => {}
        }
        if end.is_some_and(|end| now >= end) {
            line.finish(&format!("the time is over, and the node still drains: {left}"));
            return Ok(1);
        }
        line.show(&left);
        let rest = end.map_or(PAUSE, |end| end.saturating_duration_since(now));
        thread::sleep(rest.min(PAUSE));
    }
}

fn println(text: &str) {
    use std::io::Write;
    // A reader that has gone away is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Counts PostgreSQL's sessions, each time on a thread that may hang.
enum Counting {
    /// The counter is here, or with the thread that is at it.
    Running { counter: Option<Box<ClientCounter>>, under_way: Option<Taker<Counted>>, config: Box<Config> },
    /// There is nobody to ask, and why.
    Not(String),
}

/// The counter comes back with what it has counted.
type Counted = (Box<ClientCounter>, Result<u64, Failure>);

impl Counting {
    fn start(config: &Config) -> Counting {
        match &config.connection_problem {
            Some(why) => Counting::Not(why.clone()),
            None => Counting::Running {
                counter: Some(Box::new(ClientCounter::new(ProbeSettings::of(config)))),
                under_way: None,
                config: Box::new(config.clone()),
            },
        }
    }

    /// Counts now, or waits for a count that is late.
    fn count(&mut self, limit: Duration) -> Clients {
        let deadline = Instant::now() + limit;
        let (counter, under_way, config) = match self {
            Counting::Not(why) => return Clients::Unknown(why.clone()),
            Counting::Running { counter, under_way, config } => (counter, under_way, config),
        };
        // An answer to an old question says nothing of now.
        if let Some(late) = under_way.take() {
            match late.take(Some(deadline)) {
                Ok((back, _)) => *counter = Some(back),
                Err(nothing) => return unknown(nothing, late, under_way, limit),
            }
        }
        let Some(mut at_work) = counter.take() else { return Clients::Unknown("counting panicked".into()) };
        let (giver, taker) = slot();
        let count = move || {
            let failed = AgentUser::for_root().map_or(Ok(()), |agent| agent.take_thread()).err();
            let answer = match failed {
                Some(error) => Err(Failure::from_io(agent_user::NAME, &error)),
                None => at_work.count(),
            };
            giver.give((at_work, answer));
        };
        if let Err(error) = threads::spawn("counter", RUNNER_STACK_BYTES, count) {
            *counter = Some(Box::new(ClientCounter::new(ProbeSettings::of(config))));
            return Clients::Unknown(format!("cannot start a thread: {error}"));
        }
        match taker.take(Some(deadline)) {
            Ok((back, answer)) => {
                *counter = Some(back);
                answer.map_or_else(|failure| Clients::Unknown(explain(&failure, config)), Clients::Known)
            }
            Err(nothing) => unknown(nothing, taker, under_way, limit),
        }
    }
}

/// What is late may still come.
fn unknown(
    nothing: Nothing,
    taker: Taker<Counted>,
    under_way: &mut Option<Taker<Counted>>,
    limit: Duration,
) -> Clients {
    match nothing {
        Nothing::Late => {
            *under_way = Some(taker);
            Clients::Unknown(format!("no answer after {limit:?}"))
        }
        Nothing::Never => Clients::Unknown("counting panicked".into()),
    }
}

fn explain(failure: &Failure, config: &Config) -> String {
    let os_user =
        AgentUser::for_root().map(|_| agent_user::NAME.to_owned()).or_else(|| whoami::username().ok());
    let advice = advice(failure, &config.connection, os_user.as_deref());
    let advice = advice.map(|what| format!("; {what}")).unwrap_or_default();
    format!("{}{advice}", failure.cause)
}
