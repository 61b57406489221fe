//! xinetd's files as the package installs them, on a node with Debian's own xinetd.

use std::fs;
use std::net::{SocketAddr, TcpStream};

use crate::container::Container;
use crate::packages::boot_node;
use crate::support::{eventually, secs, wire};
use crate::{address, assert_table, get};

/// Edits the file as its first comment says, and lets xinetd read it.
fn switch(container: &Container, service: &str, is_on: bool) {
    let (was, word) = if is_on { ("yes", "no") } else { ("no", "yes") };
    let file = format!("/etc/xinetd.d/{service}");
    container.shell(&format!(
        "sed -i 's/^\\(\\s*disable *= \\){was}$/\\1{word}/' {file} && grep -q 'disable *= {word}$' {file}
        systemctl reload xinetd"
    ));
}

/// The processes that run the program, by the file they run.
fn agents(container: &Container) -> Vec<(u32, String)> {
    let text = container.shell("for p in /proc/[0-9]*; do echo ${p#/proc/} $(readlink $p/exe || true); done");
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let agents = lines.filter(|(_, program)| program.starts_with("/usr/bin/pgsqlchk"));
    agents.map(|(pid, program)| (pid.parse().expect("an id"), program.to_owned())).collect()
}

#[test]
fn the_installed_files_work_once_they_are_enabled() {
    let agent_check = SocketAddr::from((address().ip(), 23268));
    let container = boot_node(&[]);
    container.shell("apt-get -qq install /older/pgsqlchk_*_amd64.deb");
    container.run(&["sudo", "-u", "postgres", "createuser", "pgsqlchk"]);
    container.run(&["systemctl", "reload-or-restart", "xinetd"]);
    for address in [address(), agent_check] {
        assert!(TcpStream::connect(address).is_err(), "{address}: all of them are off");
    }

    switch(&container, "pgsqlchk", true);
    switch(&container, "pgsqlchk-agent", true);
    eventually(secs(10), "xinetd listens", || {
        [address(), agent_check].iter().all(|address| TcpStream::connect(address).is_ok())
    });
    assert_table();
    assert_eq!(wire::talk(agent_check, "/primary\n").text(), "up ready 100%\n");
    assert_eq!(wire::talk(agent_check, "/replica\n").text(), "down #not-in-recovery\n");
    eventually(secs(10), "no process stays", || agents(&container).is_empty());

    switch(&container, "pgsqlchk", false);
    switch(&container, "pgsqlchk-wait", true);
    eventually(secs(10), "xinetd listens again", || TcpStream::connect(address()).is_ok());
    assert_table();
    let before = agents(&container);
    assert_eq!(before.len(), 1, "one process for all: {before:?}");
    // It stays for as long as there are checks; so an upgrade has to end it.
    container.shell(
        "DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Options::=--force-confold install /new/pgsqlchk_*_amd64.deb",
    );
    assert_table();
    eventually(secs(5), "the old program ends", || {
        assert_eq!(get("/").line(), "200 Primary");
        agents(&container).iter().all(|(_, program)| program == "/usr/bin/pgsqlchk")
    });
    let after = agents(&container);
    assert!(after.len() == 1 && after != before, "{before:?}, {after:?}");

    container.run(&["apt-get", "-qq", "remove", "pgsqlchk"]);
    assert_eq!(agents(&container), []);
    let kept =
        fs::read_to_string(container.path("/etc/xinetd.d/pgsqlchk-wait")).expect("it is configuration");
    assert!(kept.contains("disable         = no"), "{kept}");
}
