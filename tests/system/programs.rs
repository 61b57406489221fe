//! The static programs, each on its own kind of processor: this machine's, or qemu's.
//!
//! That they answer like the one that all other tests use is shown by tests/fronts.rs, which `make test-system` runs with
//! each of them.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use crate::packages::target;
use crate::support::{Agent, Cluster};

/// The flavours, by the names of their files, with what they are: a longer one is not released.
const FLAVOURS: [(&str, u64); 2] = [("pgsqlchk", 2 * 1024 * 1024), ("pgsqlchk-tls", 29 * 1024 * 1024 / 10)];

/// What the flavour with TLS may hold more than the other, where none is configured: 0.3 MiB.
const MAX_MORE_KIB: u64 = 3 * 1024 / 10;

/// Where qemu puts the memory of the program; its own is elsewhere.
const GUEST: std::ops::Range<u64> = 0x40_0000_0000..0x41_0000_0000;

/// Checks before the second look at the memory; emulated they take milliseconds each.
const CHECKS: usize = 1000;

/// Asking at the same time, so that all threads of the program serve: each that does holds a few pages more, and for one client
/// it is chance which do.
const CLIENTS: usize = 8;

struct Program {
    architecture: &'static str,
    /// As readelf calls it.
    machine: &'static str,
    emulator: Option<&'static str>,
}

const PROGRAMS: [Program; 3] = [
    Program { architecture: "x86_64", machine: "Advanced Micro Devices X86-64", emulator: None },
    Program { architecture: "aarch64", machine: "AArch64", emulator: Some("qemu-aarch64") },
    Program { architecture: "armv7", machine: "ARM", emulator: Some("qemu-arm") },
];

impl Program {
    fn path(&self, flavour: &str) -> PathBuf {
        target().join("static").join(self.architecture).join(flavour)
    }

    fn command(&self, flavour: &str) -> Command {
        let Some(emulator) = self.emulator else { return Command::new(self.path(flavour)) };
        let mut command = Command::new(emulator);
        command.args(["-B", &format!("{:#x}", GUEST.start)]);
        if self.architecture != "armv7" {
            // All of it within this many bytes; 32 bits are always.
            command.args(["-R", &format!("{:#x}", GUEST.end - GUEST.start)]);
        }
        command.arg(self.path(flavour));
        command
    }

    /// Resident memory of the program itself, in KiB. Counted page by page: VmRSS may be wrong by a hundred of them, as each
    /// processor keeps an account of its own (Linux 6.2, percpu_counter).
    fn resident(&self, agent: &Agent) -> u64 {
        let mut is_own = false;
        let mut resident = 0;
        for line in fs::read_to_string(format!("/proc/{}/smaps", agent.pid())).expect("smaps").lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["Rss:", size, "kB"] if is_own => resident += size.parse::<u64>().expect("a size"),
                [range, _, _, _, _, ..] if range.contains('-') => {
                    let begin = range.split('-').next().expect("a range");
                    let begin = u64::from_str_radix(begin, 16).expect("an address");
                    is_own = self.emulator.is_none() || GUEST.contains(&begin);
                }
                _ => {}
            }
        }
        resident
    }
}

fn readelf(option: &str, path: &PathBuf) -> String {
    let output = Command::new("readelf").args(["--wide", option]).arg(path).output().expect("readelf");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Also a table of what each weighs.
#[test]
fn each_static_program_is_static_and_short_and_answers() {
    let primary = Cluster::primary();
    let mut table =
        "| program | bytes | resident memory, idle | after 1,000 checks |\n|---|---|---|---|\n".to_owned();
    for program in PROGRAMS {
        let mut resident = Vec::new();
        for (flavour, max_bytes) in FLAVOURS {
            let bytes = assert_static_and_short(&program, flavour, max_bytes);
            let (idle, busy) = assert_answers(&program, flavour, &primary);
            table += &format!("| {flavour} {} | {bytes} | {idle} KiB | {busy} KiB |\n", program.architecture);
            resident.push((idle, busy));
        }
        // Not captured by the harness, so that a run of all tests shows it.
        writeln!(io::stdout(), "{table}").expect("write to stdout");
        table.clear();
        let (without, with) = (resident[0], resident[1]);
        assert!(with.0 <= without.0 + MAX_MORE_KIB, "idle: {resident:?}");
        assert!(with.1 <= without.1 + MAX_MORE_KIB, "after checks: {resident:?}");
    }
}

fn assert_static_and_short(program: &Program, flavour: &str, max_bytes: u64) -> u64 {
    let path = program.path(flavour);
    let head = readelf("--file-header", &path);
    let machine = head.lines().find_map(|line| line.trim().strip_prefix("Machine:")).expect("a machine");
    assert_eq!(machine.trim(), program.machine);
    for (option, word) in [("--program-headers", "INTERP"), ("--dynamic", "NEEDED")] {
        let found = readelf(option, &path);
        assert!(!found.contains(word), "{}: {found}", path.display());
    }
    if program.architecture == "armv7" {
        let attributes = readelf("--arch-specific", &path);
        assert!(attributes.contains("Tag_ABI_VFP_args: VFP registers"), "hard float: {attributes}");
    }
    let bytes = fs::metadata(&path).expect("it is there").len();
    assert!(bytes <= max_bytes, "{}: {bytes} bytes", path.display());
    bytes
}

/// Resident memory, idle and after many checks, in KiB.
fn assert_answers(program: &Program, flavour: &str, primary: &Cluster) -> (u64, u64) {
    let agent = Agent::start_command(program.command(flavour), |command| {
        command.args(["--dsn", &primary.dsn()]);
    });
    assert_eq!(agent.get("/").line(), "200 Primary");
    let idle = program.resident(&agent);
    assert!(idle > 0, "{flavour} for {} holds memory", program.architecture);
    thread::scope(|clients| {
        for _ in 0..CLIENTS {
            clients.spawn(|| {
                for _ in 0..CHECKS / CLIENTS {
                    assert_eq!(agent.get("/").line(), "200 Primary");
                }
            });
        }
    });
    (idle, program.resident(&agent))
}
