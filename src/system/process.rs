//! What the system says of this process, for the standard metrics `process_*`.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// Each is `None` where the system does not say it: `/proc` can be hidden.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFigures {
    /// Processor time spent, in user and system mode, in seconds.
    pub cpu_s: Option<f64>,
    /// Resident memory, in bytes.
    pub resident_bytes: Option<u64>,
    /// Virtual memory, in bytes.
    pub virtual_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// How many of them there may be; `None` where there is no limit.
    pub max_fds: Option<u64>,
}

impl ProcessFigures {
    /// As they are now.
    pub fn read() -> ProcessFigures {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let max_fds = getrlimit(Resource::Nofile).current;
        let figures = from_stat(&stat, clock_ticks_per_second(), page_size() as u64);
        ProcessFigures { open_fds: count_open_fds(), max_fds, ..figures }
    }
}

/// Reads the one line of `/proc/self/stat` (proc_pid_stat(5)).
fn from_stat(line: &str, ticks_per_s: u64, page_bytes: u64) -> ProcessFigures {
    // The second field is the program's name in parentheses, which may hold anything; from there on it is numbers.
    let rest = line.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The manual's numbers; the first field here is its third.
    let number = |place: usize| fields.get(place - 3)?.parse::<u64>().ok();
    let ticks = number(14).zip(number(15)).map(|(user, system)| user + system);
    ProcessFigures {
        cpu_s: ticks.map(|ticks| ticks as f64 / ticks_per_s as f64),
        resident_bytes: number(24).map(|pages| pages * page_bytes),
        virtual_bytes: number(23),
        threads: number(20),
        open_fds: None,
        max_fds: None,
    }
}

fn count_open_fds() -> Option<u64> {
    // From Linux 6.2 on the folder's size is their number; before, it is 0.
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return Some(size);
    }
    // The one that reads the folder is among them.
    let count = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some(count.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_read_whatever_the_program_is_called() {
        let line = "7 (a) (1 2 3) S 1 7 7 0 -1 4194560 180 0 0 0 250 50 0 0 20 0 13 0 9053 12345678 900 \
                    18446744073709551615 1 1";
        let expected = ProcessFigures {
            cpu_s: Some(3.0),
            resident_bytes: Some(900 * 4096),
            virtual_bytes: Some(12_345_678),
            threads: Some(13),
            open_fds: None,
            max_fds: None,
        };
        assert_eq!(from_stat(line, 100, 4096), expected);
        assert_eq!(from_stat("", 100, 4096), ProcessFigures::default());
    }
}
