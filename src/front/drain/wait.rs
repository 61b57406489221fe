//! `pgsqlchk drain --wait`: drains, and stays until no session is left.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::agent;
use super::drain;
use super::progress::{Clients, Progress};
use crate::config::{Config, Wait};
use crate::instance::advice::advice;
use crate::instance::{ClientCounter, Failure, ProbeSettings};
use crate::system::agent_user::{self, AgentUser};
use crate::system::terminal::StatusLine;

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
    let mut counting = Counting::start(config);
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
            Ok((_, status)) => progress.hear(status.haproxy, asked),
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

/// Counts PostgreSQL's sessions on a thread of its own, which may hang.
enum Counting {
    Running {
        ask: Sender<()>,
        answers: Receiver<Result<u64, Failure>>,
        /// It has not answered the last question yet.
        owes: bool,
        config: Box<Config>,
    },
    /// There is nobody to ask, and why.
    Not(String),
}

impl Counting {
    fn start(config: &Config) -> Counting {
        if let Some(why) = &config.connection_problem {
            return Counting::Not(why.clone());
        }
        let (ask, questions) = channel::<()>();
        let (sender, answers) = channel();
        let settings = ProbeSettings::of(config);
        let agent = AgentUser::for_root();
        let count = move || {
            let become_agent = agent.map_or(Ok(()), |agent| agent.take_thread());
            let failed = become_agent.err().map(|error| Failure::from_io(agent_user::NAME, &error));
            let mut counter = ClientCounter::new(settings);
            while questions.recv().is_ok() {
                let answer = failed.clone().map_or_else(|| counter.count(), Err);
                if sender.send(answer).is_err() {
                    return;
                }
            }
        };
        match thread::Builder::new().name("counter".into()).spawn(count) {
            Ok(_) => Counting::Running { ask, answers, owes: false, config: Box::new(config.clone()) },
            Err(error) => Counting::Not(format!("cannot start a thread: {error}")),
        }
    }

    /// Counts now, or waits for a count that is late.
    fn count(&mut self, limit: Duration) -> Clients {
        let (ask, answers, owes, config) = match self {
            Counting::Not(why) => return Clients::Unknown(why.clone()),
            Counting::Running { ask, answers, owes, config } => (ask, answers, owes, config),
        };
        let deadline = Instant::now() + limit;
        let left = || deadline.saturating_duration_since(Instant::now());
        // An answer to an old question says nothing of now.
        let answer = match *owes {
            true => answers.recv_timeout(left()).map(|_| ()),
            false => Ok(()),
        };
        let answer = answer.and_then(|()| {
            *owes = ask.send(()).is_ok();
            answers.recv_timeout(left())
        });
        match answer {
            Ok(answer) => {
                *owes = false;
                answer.map_or_else(|failure| Clients::Unknown(explain(&failure, config)), Clients::Known)
            }
            Err(RecvTimeoutError::Timeout) => Clients::Unknown(format!("no answer after {limit:?}")),
            Err(RecvTimeoutError::Disconnected) => Clients::Unknown("counting panicked".into()),
        }
    }
}

fn explain(failure: &Failure, config: &Config) -> String {
    let os_user =
        AgentUser::for_root().map(|_| agent_user::NAME.to_owned()).or_else(|| whoami::username().ok());
    let advice = advice(failure, &config.connection, os_user.as_deref());
    let advice = advice.map(|what| format!("; {what}")).unwrap_or_default();
    format!("{}{advice}", failure.cause)
}
