//! `pgsqlchk doctor`: what a colleague who knows it all would look at. Each room below looks at one subject, and judges what
//! it saw in a function of its own that looks at nothing. Nothing here changes anything: files are read, PostgreSQL is
//! logged in to and asked in read-only transactions, agents are asked over HTTP.

pub mod answers;
mod ask;
pub mod configuration;
pub mod drain;
pub mod haproxy;
pub mod homes;
pub mod peers;
pub mod port;
mod resolve;
pub mod root;
pub mod scripts;
pub mod server;
mod xinetd;

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::spelling::printable;
use root::Account;

/// Between what was found and what to do about it.
const REMEDY: &str = "; remedy: ";

/// How bad it is, ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Ok,
    /// It works now, and will not some day; or it works worse than it could.
    Warning,
    /// It does not work.
    Problem,
}

impl Grade {
    /// The first word of its line.
    pub const fn word(self) -> &'static str {
        match self {
            Grade::Ok => "ok",
            Grade::Warning => "warning",
            Grade::Problem => "problem",
        }
    }

    /// The exit code where nothing is worse.
    pub const fn exit_code(self) -> u8 {
        self as u8
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub grade: Grade,
    /// The subject, a colon, and what was seen.
    pub what: String,
    /// What to type; empty where all is well.
    pub remedy: String,
}

impl Finding {
    /// All is well.
    pub fn ok(what: fmt::Arguments) -> Finding {
        Finding::of(Grade::Ok, what, format_args!(""))
    }

    /// It works now.
    pub fn warning(what: fmt::Arguments, remedy: fmt::Arguments) -> Finding {
        Finding::of(Grade::Warning, what, remedy)
    }

    /// It does not work.
    pub fn problem(what: fmt::Arguments, remedy: fmt::Arguments) -> Finding {
        Finding::of(Grade::Problem, what, remedy)
    }

    /// There are a hundred callers, who would each have a copy of this.
    #[inline(never)]
    fn of(grade: Grade, what: fmt::Arguments, remedy: fmt::Arguments) -> Finding {
        Finding { grade, what: what.to_string(), remedy: remedy.to_string() }
    }
}

/// Its line. Whatever it names stays on it.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<9}{}", self.grade.word(), printable(&self.what))?;
        match self.remedy.is_empty() {
            true => Ok(()),
            false => write!(f, "{REMEDY}{}", printable(&self.remedy)),
        }
    }
}

/// Where a thread leaves what came of its work. (All results are of one type there: a channel for each would be thousands of
/// bytes of the program.)
#[derive(Default)]
struct Slot {
    result: Mutex<Option<Box<dyn Any + Send>>>,
    is_there: Condvar,
}

/// What a thread of its own is busy with.
pub(crate) struct Work<T> {
    slot: Arc<Slot>,
    result: PhantomData<T>,
}

/// The same as the agent's user, where there is one to become.
pub(crate) fn begin_as<T: Send + 'static>(
    account: Option<&Account>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Work<T> {
    let account = account.cloned();
    begin(move || {
        // Tried before: it does not fail.
        let _ = account.map(|account| account.enter());
        work()
    })
}

/// Does something on a thread that is left behind where it hangs.
pub(crate) fn begin<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Work<T> {
    let slot = spawn(Box::new(move || Box::new(work()) as Box<dyn Any + Send>));
    Work { slot, result: PhantomData }
}

fn spawn(work: Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>) -> Arc<Slot> {
    let slot = Arc::new(Slot::default());
    let filled = Arc::clone(&slot);
    // Where there is no thread, the slot stays empty: that is a time that has passed.
    let _ = thread::Builder::new().name("doctor".into()).spawn(move || {
        let result = work();
        *filled.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        filled.is_there.notify_all();
    });
    slot
}

impl<T: 'static> Work<T> {
    /// What came of it by the deadline.
    pub(crate) fn end(&self, deadline: Instant) -> Option<T> {
        let result = self.slot.wait(deadline)?;
        result.downcast().ok().map(|result| *result)
    }
}

impl Slot {
    fn wait(&self, deadline: Instant) -> Option<Box<dyn Any + Send>> {
        let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        while result.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            result = self.is_there.wait_timeout(result, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        result.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line() {
        assert_eq!(Finding::ok(format_args!("a\nb")).to_string(), "ok       a\\nb");
        let warning = Finding::warning(format_args!("drain: since now"), format_args!("pgsqlchk undrain"));
        assert_eq!(warning.to_string(), "warning  drain: since now; remedy: pgsqlchk undrain");
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst() {
        assert_eq!([Grade::Ok, Grade::Warning, Grade::Problem].map(Grade::exit_code), [0, 1, 2]);
        assert!(Grade::Problem > Grade::Warning && Grade::Warning > Grade::Ok);
    }

    #[test]
    fn whoever_waits_has_the_result_or_his_time_is_over() {
        let soon = Instant::now() + std::time::Duration::from_secs(10);
        assert_eq!(begin(|| 7).end(soon), Some(7));
        let never = begin(|| thread::sleep(std::time::Duration::from_secs(3600)));
        assert_eq!(never.end(Instant::now() + std::time::Duration::from_millis(20)), None);
    }
}
