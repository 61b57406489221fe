//! What a process holds open, for whoever reads a finding.

use std::collections::HashMap;
use std::fs;

/// The kernel's tables of sockets, as the process's own network namespace has them (proc(5)).
const TABLES: [&str; 3] = ["tcp", "tcp6", "udp"];
/// The columns of these tables: both addresses, state, queues and timer, which is what is told; and the inode.
const TOLD: std::ops::Range<usize> = 1..6;
const INODE: usize = 9;

/// The connections among its descriptors, and how many others there are.
pub fn describe(pid: u32) -> String {
    let sockets = sockets(pid);
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string()));
    let (mut told, mut others) = (Vec::new(), 0);
    for link in links {
        match sockets.get(&link) {
            Some(socket) => told.push(socket.as_str()),
            None => others += 1,
        }
    }
    format!("{}, and {others} others", told.join(", "))
}

/// By what the link of a descriptor says.
fn sockets(pid: u32) -> HashMap<String, String> {
    let mut found = HashMap::new();
    for table in TABLES {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let (Some(told), Some(inode)) = (words.get(TOLD), words.get(INODE)) {
                found.insert(format!("socket:[{inode}]"), format!("{table} {}", told.join(" ")));
            }
        }
    }
    found
}
