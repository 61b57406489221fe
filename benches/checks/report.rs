//! The table: rows of timings beside a unit, and rows of single figures.

use std::io::{self, Write};
use std::time::Duration;

use crate::support::millis;

/// The heading of a table of timings.
pub fn heading(title: &str) {
    say(&format!("{title:<52}{:>10}{:>10}{:>8}  goal", "median", "p99", "ratio"));
}

/// A timing beside its unit.
pub fn timing_row(name: &str, timings: &mut [Duration], unit: Duration, goal: &str) {
    let middle = median(timings);
    let slow = percentile(timings, 99);
    let ratio = middle.as_secs_f64() / unit.as_secs_f64();
    let line = format!("{name:<52}{:>10}{:>10}{ratio:>8.2}  {goal}", micros(middle), micros(slow));
    say(line.trim_end());
}

/// A figure that stands for itself.
pub fn row(name: &str, value: &str, goal: &str) {
    say(format!("{name:<52}{value:>10}{goal:>20}").trim_end());
}

/// The table is what this program is for; a closed pipe ends it.
pub fn say(line: &str) {
    writeln!(io::stdout(), "{line}").expect("write to stdout");
}

/// Half of all are at most this.
pub fn median(timings: &mut [Duration]) -> Duration {
    percentile(timings, 50)
}

/// `percent` of all are at most this.
pub fn percentile(timings: &mut [Duration], percent: usize) -> Duration {
    timings.sort_unstable();
    timings[(timings.len() - 1) * percent / 100]
}

/// In milliseconds where the column would be too narrow.
pub fn micros(duration: Duration) -> String {
    match duration < millis(10) {
        true => format!("{:.1} us", duration.as_secs_f64() * 1e6),
        false => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
    }
}

/// A number with a comma between groups of three digits.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    groups.map(|group| String::from_utf8_lossy(group)).collect::<Vec<_>>().join(",")
}
