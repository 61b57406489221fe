//! `pgsqlchk doctor`: what a colleague who knows it all would look at. Each room below looks at one subject, and judges what
//! it saw in a function of its own that looks at nothing. Nothing here changes anything: files are read, PostgreSQL is
//! logged in to and asked in read-only transactions, agents are asked over HTTP.

pub mod answers;
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

use std::fmt;
use std::time::Instant;

use crate::spelling::printable;
use crate::system::agent_user::AgentUser;
use crate::system::slot::{Taker, slot};
use crate::system::threads;

/// Between what was found and what to do about it.
const REMEDY: &str = "; remedy: ";

/// Of each thread: some read long files, and look up names.
const STACK_BYTES: usize = 1024 * 1024;

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

/// What a thread of its own is busy with.
pub(crate) struct Work<T>(Taker<T>);

/// The same as the agent's user, where there is one to become.
pub(crate) fn begin_as<T: Send + 'static>(
    account: Option<&AgentUser>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Work<T> {
    let account = account.cloned();
    begin(move || {
        // Tried before: it does not fail.
        let _ = account.map(|account| account.take_thread());
        work()
    })
}

/// Does something on a thread that is left behind where it hangs.
pub(crate) fn begin<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Work<T> {
    let (giver, taker) = slot();
    // Where there is no thread, nothing is ever left there: that is a time that has passed.
    let _ = threads::spawn("doctor", STACK_BYTES, move || giver.give(work()));
    Work(taker)
}

impl<T: 'static> Work<T> {
    /// What came of it by the deadline.
    pub(crate) fn end(&self, deadline: Instant) -> Option<T> {
        self.0.take(Some(deadline)).ok()
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
        let never = begin(|| std::thread::sleep(std::time::Duration::from_secs(3600)));
        assert_eq!(never.end(Instant::now() + std::time::Duration::from_millis(20)), None);
    }
}
