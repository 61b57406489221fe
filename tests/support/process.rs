//! Signals to processes the tests started, and what /proc says about them.

use std::fs;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// Sends a signal to a process of the test's own; a process that is gone already is no error.
pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    let _ = kill_process(pid, signal);
}

/// Waits for a child to end, for `limit` at most.
pub fn wait_for_exit(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("wait for a child") {
            return Some(status);
        }
        if began.elapsed() > limit {
            return None;
        }
        thread::sleep(super::PAUSE);
    }
}

/// The processes whose parent is `parent`.
pub fn children_of(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("read /proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| stat_field(*pid, 1).as_deref() == Some(&parent.to_string())).collect()
}

/// The running processes with this path in their command line, but one.
pub fn processes_that_name(path: &Path, but: u32) -> Vec<u32> {
    let path = path.to_str().expect("UTF-8");
    let names = |pid: u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(path)
    };
    let entries = fs::read_dir("/proc").expect("read /proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != but && names(*pid)).filter(|pid| state(*pid) != Some('Z')).collect()
}

/// The state letter of a process (`T` stopped, `S` sleeping, `Z` zombie; proc(5)), None when it is gone.
pub fn state(pid: u32) -> Option<char> {
    stat_field(pid, 0)?.chars().next()
}

/// One field of /proc/PID/stat, counted after the command name (which may hold blanks and brackets).
fn stat_field(pid: u32, field: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(field).map(str::to_owned)
}

/// A number of /proc/PID/status, such as `VmRSS` (KiB), `VmHWM` (KiB) or `Threads`.
pub fn status_number(pid: u32, name: &str) -> u64 {
    try_status_number(pid, name).unwrap_or_else(|| panic!("no number {name} in /proc/{pid}/status"))
}

/// The same of a process that may have ended: then there is no such number.
pub fn try_status_number(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

/// How many descriptors a process has open.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("read /proc/PID/fd").count()
}

/// A process under SIGSTOP; thawed when dropped.
pub struct Frozen {
    pid: u32,
}

impl Frozen {
    /// Stops a process and waits until it stands still.
    #[track_caller]
    pub fn new(pid: u32) -> Frozen {
        Frozen::unless_gone(pid).expect("a process stops and does not end")
    }

    /// The same of a process that may be about to end; `None` where it does.
    #[track_caller]
    pub fn unless_gone(pid: u32) -> Option<Frozen> {
        signal(pid, Signal::STOP);
        let frozen = Frozen { pid };
        let is_gone = |state| matches!(state, None | Some('Z'));
        let mut last = None;
        super::eventually(Duration::from_secs(5), "a process stops or ends", || {
            last = state(pid);
            last == Some('T') || is_gone(last)
        });
        (!is_gone(last)).then_some(frozen)
    }

    /// All of these but those that end meanwhile, as a session does in whose place there is a new one.
    #[track_caller]
    pub fn all(pids: impl IntoIterator<Item = u32>) -> Vec<Frozen> {
        pids.into_iter().filter_map(Frozen::unless_gone).collect()
    }

    /// Which process it is.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets it go on.
    pub fn thaw(self) {}
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal(self.pid, Signal::CONT);
    }
}

/// A child that is killed when dropped.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
