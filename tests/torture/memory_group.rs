//! A control group that bounds the memory of a process, with what the kernel holds for its connections (Linux,
//! admin-guide/cgroup-v2.rst and admin-guide/cgroup-v1/memory.rst).

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::support::{millis, random, secs};

/// So long a process that is being killed may stay in its group.
const END_LIMIT: Duration = secs(5);

/// What differs between the two versions.
struct Version {
    /// Where the groups are.
    root: &'static str,
    /// A file of every group but the root, which holds the limit in bytes.
    limit: &'static str,
    /// What the line of /proc/PID/cgroup has before the path.
    controllers: &'static str,
}

const VERSIONS: [Version; 2] = [
    Version { root: "/sys/fs/cgroup", limit: "memory.max", controllers: "" },
    Version { root: "/sys/fs/cgroup/memory", limit: "memory.limit_in_bytes", controllers: "memory" },
];

/// A group with one process; `Drop` puts the process back and removes the group.
pub struct MemoryGroup {
    path: PathBuf,
    home: PathBuf,
    pid: u32,
}

impl MemoryGroup {
    /// Moves a process into a new group, which counts from here on. Needs root, and a kernel that lets it.
    pub fn enter(pid: u32, limit_bytes: u64) -> MemoryGroup {
        let name = format!("pgsqlchk-{:08x}", random() & 0xffff_ffff);
        let made = VERSIONS.iter().find_map(|version| {
            let path = Path::new(version.root).join(&name);
            fs::create_dir(&path).ok()?;
            // The kernel makes it, where this is a tree of groups and the memory controller is on.
            let limit = path.join(version.limit);
            if limit.exists() && fs::write(limit, limit_bytes.to_string()).is_ok() {
                return Some((version, path));
            }
            let _ = fs::remove_dir(&path);
            None
        });
        let (version, path) =
            made.expect("a memory control group below /sys/fs/cgroup, which only root can make");
        let group = MemoryGroup { path, home: home(pid, version), pid };
        group.admit(&group.path);
        group
    }

    fn admit(&self, folder: &Path) {
        let procs = folder.join("cgroup.procs");
        // It may have ended, for want of memory.
        let gone = Some(Errno::SRCH.raw_os_error());
        match fs::write(&procs, self.pid.to_string()) {
            Err(error) if error.raw_os_error() != gone => panic!("{}: {error}", procs.display()),
            _ => {}
        }
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        self.admit(&self.home);
        let began = Instant::now();
        while fs::remove_dir(&self.path).is_err() && began.elapsed() < END_LIMIT {
            thread::sleep(millis(10));
        }
    }
}

/// The group that a process is in, with its memory.
fn home(pid: u32, version: &Version) -> PathBuf {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the groups of a process");
    let path = groups.lines().find_map(|line| {
        let (_, group) = line.split_once(':')?;
        let (controllers, path) = group.split_once(':')?;
        (controllers == version.controllers).then_some(path)
    });
    Path::new(version.root).join(path.expect("a memory control group").trim_start_matches('/'))
}
