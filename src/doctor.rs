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
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use crate::spelling::printable;

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
    const ALL: [Grade; 3] = [Grade::Ok, Grade::Warning, Grade::Problem];

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

    /// Reads what `Display` writes; `None` where it is something else.
    pub fn parse(line: &str) -> Option<Finding> {
        let (word, rest) = line.split_once(' ')?;
        let grade = Grade::ALL.into_iter().find(|grade| grade.word() == word)?;
        let (what, remedy) = rest.trim_start().split_once(REMEDY).unwrap_or((rest.trim_start(), ""));
        Some(Finding { grade, what: what.to_owned(), remedy: remedy.to_owned() })
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
pub(crate) struct Work<T> {
    receiver: Receiver<Box<dyn Any + Send>>,
    result: PhantomData<T>,
}

/// Does something on a thread that is left behind where it hangs. (One channel for all kinds of results: each kind of its own
/// would be thousands of bytes of the program.)
pub(crate) fn begin<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Work<T> {
    let receiver = spawn(Box::new(move || Box::new(work()) as Box<dyn Any + Send>));
    Work { receiver, result: PhantomData }
}

fn spawn(work: Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>) -> Receiver<Box<dyn Any + Send>> {
    let (sender, receiver) = channel();
    // Where there is no thread, nobody ever sends: that is a time that has passed.
    let _ = thread::Builder::new().name("doctor".into()).spawn(move || drop(sender.send(work())));
    receiver
}

impl<T: 'static> Work<T> {
    /// What came of it by the deadline.
    pub(crate) fn end(&self, deadline: Instant) -> Option<T> {
        let result = wait(&self.receiver, deadline)?;
        result.downcast().ok().map(|result| *result)
    }
}

fn wait(receiver: &Receiver<Box<dyn Any + Send>>, deadline: Instant) -> Option<Box<dyn Any + Send>> {
    receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        for finding in [
            Finding::ok(format_args!("port: pgsqlchk")),
            Finding::warning(format_args!("drain: since now"), format_args!("pgsqlchk undrain")),
            Finding::problem(format_args!("port: nobody"), format_args!("start it; then ask again")),
        ] {
            assert_eq!(Finding::parse(&finding.to_string()), Some(finding));
        }
        assert_eq!(Finding::ok(format_args!("a\nb")).to_string(), "ok       a\\nb");
        assert_eq!(Finding::parse("fine  x"), None);
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst() {
        assert_eq!(Grade::ALL.map(Grade::exit_code), [0, 1, 2]);
        assert!(Grade::Problem > Grade::Warning && Grade::Warning > Grade::Ok);
    }
}
