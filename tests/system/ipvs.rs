//! Who balances in the kernel, or moves an address: keepalived and ldirectord, with what docs/askers.md tells to write. Not every
//! machine's kernel has IPVS, so they run on one that is started as a program, user-mode Linux, with a primary, a standby and
//! an agent beside each (ipvs/init). Whom new clients come to is what that kernel says.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use crate::container::root_named;
use crate::support::folder::Folder;
use crate::support::pages::{fenced, page};
use crate::support::postgresql::copy_program;
use crate::support::process::wait_for_exit;
use crate::support::{secs, show_log};

const INIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/ipvs/init");

/// What is to be seen of every tool: node1 is the primary, until node2 is promoted.
const COURSE: [&str; 6] = [
    "at the start: [10.0.0.11]",
    "while node1 drains: []",
    "afterwards: [10.0.0.11]",
    "node1 is stopped: []",
    "node2 is promoted: [10.0.0.12]",
    "node1 is back as it was: [10.0.0.12]",
];

#[test]
fn keepalived_moves_an_address_to_the_primary() {
    assert_right_node("vrrp");
}

#[test]
fn keepalived_has_the_kernel_send_clients_to_the_primary() {
    assert_right_node("keepalived");
}

#[test]
fn ldirectord_has_the_kernel_send_clients_to_the_primary() {
    assert_right_node("ldirectord");
}

/// With the block of the page that is in this language.
#[track_caller]
fn assert_right_node(tool: &str) {
    let root = root_named("ipvs");
    let folder = Folder::new("ipvs");
    let block = fenced(&page("docs/askers.md"), tool).into_iter().next().expect("a block on the page");
    folder.write(&format!("{tool}.conf"), &block.replace("192.0.2.", "10.0.0."));
    for (from, name) in [(INIT, "init"), (env!("CARGO_BIN_EXE_pgsqlchk"), "pgsqlchk")] {
        copy_program(from, &folder.path().join(name));
    }
    let script = r#"mount --bind "$1" "$2/mnt" && mount -t proc proc "$2/proc" && mount -t tmpfs -o mode=1777 tmpfs "$2/dev/shm"
        exec chroot "$2" linux.uml mem=768M rootfstype=hostfs rootflags=/ ro quiet init=/mnt/init TOOL="$3" con=null con0=fd:0,fd:1"#;
    let console = folder.path().join("console");
    let file = File::create(&console).expect("a file for the console");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "bash", "-c", script, "bash"]);
    // It keeps a folder there, and whoever runs the tests may have a home that this root has not.
    command.arg(folder.path()).arg(root).arg(tool).env("HOME", "/root");
    command.stdin(Stdio::null()).stderr(file.try_clone().expect("a second handle")).stdout(file);
    let mut machine = command.spawn().expect("unshare");
    let ended = wait_for_exit(&mut machine, secs(600));
    if ended.is_none() {
        let _ = machine.kill();
        let _ = machine.wait();
    }
    let said = String::from_utf8_lossy(&fs::read(console).expect("what was said")).into_owned();
    show_log(&format!("console of the machine with {tool}"), &said);
    assert!(ended.is_some(), "it has not powered off");
    let course: Vec<&str> =
        said.lines().filter_map(|line| line.strip_prefix("| ")).map(str::trim_end).collect();
    assert_eq!(course, COURSE, "{tool}");
}
