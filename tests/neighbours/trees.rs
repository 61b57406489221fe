//! Processes that were started by somebody else than the test: killed as a machine that loses its power kills them.

use std::path::Path;
use std::thread;
use std::time::Instant;

use crate::support::process::processes_that_name;
use crate::support::process::{children_of, state};
use crate::support::{Signal, eventually, millis, secs, signal};

/// Kills a process and all that descend from it, and waits until they are gone. Parents first: nobody starts anything
/// again.
#[track_caller]
pub fn kill(root: u32) {
    let tree = tree(root);
    tree.iter().for_each(|pid| signal(*pid, Signal::KILL));
    eventually(secs(10), "a tree of processes is gone", || tree.iter().all(|pid| is_gone(*pid)));
}

/// The process and all its descendants, parents before their children.
fn tree(root: u32) -> Vec<u32> {
    let mut tree = vec![root];
    let mut next = 0;
    while next < tree.len() {
        tree.extend(children_of(tree[next]));
        next += 1;
    }
    tree
}

/// Whoever adopts it may be slow to reap it: a zombie has ended.
fn is_gone(pid: u32) -> bool {
    matches!(state(pid), None | Some('Z'))
}

/// Ends whatever has this folder in its command line, and what descends from it: first those who would start a PostgreSQL
/// again, then PostgreSQL, which removes its shared memory when it is asked to end at once.
pub fn clear(folder: &Path) {
    let named = processes_that_name(folder, 0);
    let is_postgres = |pid: &u32| {
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        program.file_name().is_some_and(|name| name == "postgres")
    };
    let all: Vec<u32> = named.into_iter().flat_map(tree).collect();
    let (servers, managers): (Vec<u32>, Vec<u32>) = all.into_iter().partition(is_postgres);
    managers.iter().for_each(|pid| signal(*pid, Signal::KILL));
    servers.iter().for_each(|pid| signal(*pid, Signal::QUIT));
    let began = Instant::now();
    while !servers.iter().all(|pid| is_gone(*pid)) && began.elapsed() < secs(5) {
        thread::sleep(millis(20));
    }
    let rest = processes_that_name(folder, 0).into_iter().flat_map(tree).chain(servers);
    rest.for_each(|pid| signal(pid, Signal::KILL));
}
