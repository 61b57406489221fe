//! xinetd's files: the examples of the package, and what administrators made of those of the version before, on a node with Debian's own xinetd.

use std::fs;
use std::net::{SocketAddr, TcpStream};

use crate::container::Container;
use crate::packages::boot_node;
use crate::support::{eventually, http, secs, wire};
use crate::{address, assert_table, get};

const EXAMPLES: &str = "/usr/share/doc/pgsqlchk/examples/xinetd";

/// Copies the example as its first comment says, and lets xinetd read it; or takes the copy away.
fn switch(container: &Container, service: &str, is_on: bool) {
    let file = format!("/etc/xinetd.d/{service}");
    container.shell(&match is_on {
        true => format!("cp {EXAMPLES}/{service} /etc/xinetd.d/ && systemctl reload xinetd"),
        false => format!("rm {file} && systemctl reload xinetd"),
    });
}

/// As the packages of the version before had it: edits the file that they had put there.
fn switch_on_older(container: &Container, service: &str) {
    let file = format!("/etc/xinetd.d/{service}");
    container.shell(&format!(
        "sed -i 's/^\\(\\s*disable *= \\)yes$/\\1no/' {file} && grep -q 'disable *= no$' {file}
        systemctl reload-or-restart xinetd"
    ));
}

/// Nobody is asked, and nobody says what to do about configuration: whoever has no answer fails.
const UNATTENDED: &str = "DEBIAN_FRONTEND=noninteractive apt-get -y -qq install";

/// The processes that run the program, by the file they run.
pub fn agents(container: &Container) -> Vec<(u32, String)> {
    let text = container.shell("for p in /proc/[0-9]*; do echo ${p#/proc/} $(readlink $p/exe || true); done");
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let agents = lines.filter(|(_, program)| program.starts_with("/usr/bin/pgsqlchk"));
    agents.map(|(pid, program)| (pid.parse().expect("an id"), program.to_owned())).collect()
}

#[test]
fn the_examples_work_where_they_are_copied_to() {
    let agent_check = SocketAddr::from((address().ip(), 23268));
    let container = boot_node(&[]);
    container.shell(&format!("{UNATTENDED} /new/pgsqlchk_*_amd64.deb"));
    container.run(&["sudo", "-u", "postgres", "createuser", "pgsqlchk"]);
    container.run(&["systemctl", "reload-or-restart", "xinetd"]);
    for address in [address(), agent_check] {
        assert!(TcpStream::connect(address).is_err(), "{address}: nothing is switched on");
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

    // A second instance beside it. There is one server here, so both are of the same.
    container.shell("echo 'tag = instance=second' >/etc/pgsqlchk/15-second.conf");
    switch(&container, "pgsqlchk-15-second", true);
    let second = SocketAddr::from((address().ip(), 23277));
    eventually(secs(10), "xinetd listens there, too", || TcpStream::connect(second).is_ok());
    for (address, reason) in [(address(), "not-in-recovery"), (second, "not-in-recovery")] {
        assert_eq!(http::get(address, "/replica").expect("a reply").line(), format!("503 {reason}"));
    }
    container.run(&["pgsqlchk", "drain", "--instance", "15-second"]);
    assert_eq!(http::get(second, "/").expect("a reply").line(), "404 draining");
    assert_table();
    switch(&container, "pgsqlchk-15-second", false);

    switch(&container, "pgsqlchk", false);
    eventually(secs(10), "xinetd listens no more", || TcpStream::connect(address()).is_err());
    switch(&container, "pgsqlchk-wait", true);
    eventually(secs(10), "xinetd listens again", || TcpStream::connect(address()).is_ok());
    assert_table();
    assert_eq!(agents(&container).len(), 1, "one process for all");
    container.run(&["apt-get", "-qq", "remove", "pgsqlchk"]);
    assert_eq!(agents(&container), []);
    assert!(container.path("/etc/xinetd.d/pgsqlchk-wait").exists(), "it is the administrator's");
}

/// Unattended apt failed at the file of that name, the documented step found none, and purging removed the administrator's.
#[test]
fn a_file_of_the_administrators_own_is_nobody_elses() {
    let container = boot_node(&[]);
    let own = "service pgsqlchk\n{\n\tdisable = yes\n\tserver = /usr/local/bin/pgsqlchk\n}\n";
    container.write("/etc/xinetd.d/pgsqlchk", own);
    container.shell(&format!("{UNATTENDED} /new/pgsqlchk_*_amd64.deb"));
    container.run(&["test", "-f", &format!("{EXAMPLES}/pgsqlchk")]);
    assert_eq!(fs::read_to_string(container.path("/etc/xinetd.d/pgsqlchk")).expect("it stays"), own);
    container.run(&["apt-get", "-qq", "purge", "pgsqlchk"]);
    assert_eq!(fs::read_to_string(container.path("/etc/xinetd.d/pgsqlchk")).expect("it stays"), own);

    // The same where the version before had asked, and was told to keep it.
    for then in ["true", "apt-get -qq remove pgsqlchk"] {
        container.shell(&format!(
            "DEBIAN_FRONTEND=noninteractive apt-get -y -qq -o Dpkg::Options::=--force-confold install \
             /older/pgsqlchk_*_amd64.deb && {then}"
        ));
        container.shell(&format!("{UNATTENDED} /new/pgsqlchk_*_amd64.deb"));
        assert_eq!(fs::read_to_string(container.path("/etc/xinetd.d/pgsqlchk")).expect("it stays"), own);
        container.run(&["apt-get", "-qq", "purge", "pgsqlchk"]);
        assert_eq!(
            fs::read_to_string(container.path("/etc/xinetd.d/pgsqlchk")).expect("it stays"),
            own,
            "{then}"
        );
    }
    assert_eq!(
        container.shell("ls /etc/xinetd.d | grep pgsqlchk"),
        "pgsqlchk",
        "and those that came along go"
    );
}

#[test]
fn what_an_administrator_has_switched_on_goes_on_after_an_upgrade_and_a_purge() {
    let container = boot_node(&[]);
    container.shell(&format!("{UNATTENDED} /older/pgsqlchk_*_amd64.deb"));
    container.run(&["sudo", "-u", "postgres", "createuser", "pgsqlchk"]);
    switch_on_older(&container, "pgsqlchk-wait");
    eventually(secs(10), "xinetd listens", || TcpStream::connect(address()).is_ok());
    assert_table();
    let before = agents(&container);
    assert_eq!(before.len(), 1, "one process for all: {before:?}");
    let file = fs::read_to_string(container.path("/etc/xinetd.d/pgsqlchk-wait")).expect("the file");

    // Between the two xinetd may be told to read its files.
    container.shell("dpkg --unpack /new/pgsqlchk_*_amd64.deb 2>&1 && systemctl reload xinetd");
    assert_table();
    // It stays for as long as there are checks; so an upgrade has to end it.
    let said = container.shell("dpkg --configure --pending 2>&1");
    assert!(said.contains("pgsqlchk: /etc/xinetd.d/pgsqlchk-wait stays as it is and is yours now"), "{said}");
    container.run(&["systemctl", "reload", "xinetd"]);
    assert_table();
    eventually(secs(5), "the old program ends", || {
        assert_eq!(get("/").line(), "200 Primary");
        agents(&container).iter().all(|(_, program)| program == "/usr/bin/pgsqlchk")
    });
    let after = agents(&container);
    assert!(after.len() == 1 && after != before, "{before:?}, {after:?}");
    container.restart_xinetd();
    assert_table();
    // The two that nobody had touched are gone.
    assert_eq!(container.shell("ls /etc/xinetd.d | grep pgsqlchk"), "pgsqlchk-wait");
    container.run(&["apt-get", "-qq", "purge", "pgsqlchk"]);
    assert_eq!(fs::read_to_string(container.path("/etc/xinetd.d/pgsqlchk-wait")).expect("it stays"), file);
}
