//! docs/compatibility.md says with what pgsqlchk was tried: held against the programs that the tests run.

use std::path::Path;
use std::process::Command;

use crate::container::root_named;
use crate::majors::{MAJORS, Programs};
use crate::support::pages::{page, table};
use crate::support::unpacked::unpacked;
use crate::support::versions::{is_meant, version_in};
use crate::support::{haproxy, pgbouncer};

/// Those that `make test-neighbours` runs and holds against the page.
const OF_NEIGHBOURS: [&str; 2] = ["repmgr", "pg_auto_failover"];

/// The systems that are booted.
const SYSTEMS: [&str; 3] = ["node", "node-13", "node-ubuntu"];

#[track_caller]
fn said(mut command: Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[track_caller]
fn ask(command: Command) -> String {
    version_in(&said(command))
}

#[track_caller]
fn ask_program(program: impl AsRef<Path>, option: &str) -> Vec<String> {
    let mut command = Command::new(program.as_ref());
    command.arg(option);
    vec![ask(command)]
}

/// What `/etc/os-release` says of the systems of this name.
fn systems(id: &str) -> Vec<String> {
    let files = SYSTEMS.map(|name| root_named(name).join("etc/os-release"));
    let texts = files.map(|file| std::fs::read_to_string(file).expect("what system it is"));
    let of_name = texts.into_iter().filter(|text| text.lines().any(|line| line == format!("ID={id}")));
    let version =
        |text: String| text.lines().find_map(|line| line.strip_prefix("VERSION_ID=")).map(version_in);
    of_name.filter_map(version).collect()
}

fn in_root(name: &str, program: &str, option: &str) -> String {
    let mut command = Command::new("chroot");
    command.arg(root_named(name)).args([program, option]);
    ask(command)
}

/// Of a program that does not say it itself.
fn package_in(name: &str, package: &str) -> String {
    let mut command = Command::new("chroot");
    command.arg(root_named(name)).args([
        "dpkg-query",
        "--show",
        "--showformat=${source:Upstream-Version}",
        package,
    ]);
    ask(command)
}

/// The versions that the tests run, in the order in which the page has them.
fn ran(software: &str) -> Vec<String> {
    match software {
        "PostgreSQL" => {
            let of_major = |major: &u32| {
                let programs = Programs::of(*major);
                let mut command = programs.command("postgres");
                command.arg("--version");
                ask(command)
            };
            MAJORS.iter().map(of_major).collect()
        }
        "HAProxy" => {
            let of_root = |name: &str| {
                let mut command = crate::haproxy::of_root(name);
                command.arg("-v");
                ask(command)
            };
            let of_ubuntu = in_root("node-ubuntu", "haproxy", "-v");
            let others = vec![of_ubuntu, of_root("haproxy-13"), of_root("haproxy")];
            [ask_program(haproxy::program(), "-v"), others].concat()
        }
        "PgBouncer" => ask_program(pgbouncer::program(), "--version"),
        "Patroni" => {
            let file = unpacked("patroni/packages/patroni/version.py");
            vec![version_in(&std::fs::read_to_string(file).expect("Patroni's version"))]
        }
        "etcd" => ask_program(unpacked("etcd-server/usr/bin/etcd"), "--version"),
        "Debian" => systems("debian"),
        "Ubuntu" => systems("ubuntu"),
        "dnf" => vec![in_root("node", "dnf", "--version")],
        "systemd" => {
            ["node", "node-ubuntu", "node-13"].map(|name| in_root(name, "systemctl", "--version")).into()
        }
        "xinetd" => ask_program("/usr/sbin/xinetd", "-version"),
        "qemu" => ask_program("qemu-arm", "--version"),
        "Prometheus" => ask_program("prometheus", "--version"),
        "keepalived" => vec![in_root("ipvs", "keepalived", "--version")],
        "ldirectord" => vec![package_in("ipvs", "ldirectord")],
        "user-mode Linux" => vec![package_in("ipvs", "user-mode-linux")],
        "check_http" => {
            ask_program(unpacked("monitoring-plugins-basic/usr/lib/nagios/plugins/check_http"), "--version")
        }
        "monit" => ask_program(unpacked("monit/usr/bin/monit"), "--version"),
        "blackbox_exporter" => {
            let program = "prometheus-blackbox-exporter/usr/bin/prometheus-blackbox-exporter";
            ask_program(unpacked(program), "--version")
        }
        "Envoy" => {
            let mut command = Command::new(unpacked("envoy/packages/envoy/_bin/envoy"));
            command.arg("--version");
            // commit/version/state/build/library
            vec![version_in(said(command).rsplit('/').nth(3).expect("what it was built from"))]
        }
        "nginx" => ask_program(unpacked("nginx/usr/sbin/nginx"), "-v"),
        "curl" => ask_program("curl", "--version"),
        "Python" => ask_program("/usr/bin/python3", "--version"),
        other => panic!("no test says which version of {other} it runs"),
    }
}

#[test]
fn the_page_names_what_was_tried() {
    for row in table(&page("docs/compatibility.md"), "| software | versions | what is tried |") {
        let (software, listed) = (row[0].as_str(), row[1].split(", ").collect::<Vec<_>>());
        if OF_NEIGHBOURS.contains(&software) {
            continue;
        }
        let ran = ran(software);
        assert_eq!(ran.len(), listed.len(), "{software}: {listed:?} and {ran:?}");
        for (listed, ran) in listed.iter().zip(&ran) {
            assert!(is_meant(listed, ran), "{software} {listed} stands there, and {ran} ran");
        }
    }
}

#[test]
fn versions_are_found_in_what_programs_say() {
    for (said, version) in [
        ("HAProxy version 2.6.12-1+deb12u4 2026/10/17", "2.6.12"),
        ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "15.18"),
        ("check_http v2.3.3 (monitoring-plugins 2.3.3)", "2.3.3"),
        ("nginx version: nginx/1.22.1", "1.22.1"),
        ("systemd 252 (252.39-1~deb12u1)", "252"),
        ("__version__ = '4.1.5'", "4.1.5"),
        ("This is Monit version 5.33.0\n", "5.33.0"),
    ] {
        assert_eq!(version_in(said), version, "{said}");
    }
    assert!(is_meant("15", "15.3") && !is_meant("1", "15.3") && !is_meant("15", "16.1"));
    assert!(is_meant("3.4+", "3.10.1") && !is_meant("3.4+", "3.3.9"));
}
