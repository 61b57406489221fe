//! One flavour exchanged for the other and back, with apt, dpkg and dnf: no check is lost, and nothing of the
//! administrator's; purging the one that was there before takes nothing away.

use std::net::{SocketAddr, TcpStream};

use crate::container::{Container, Root, bind_server};
use crate::deb::{assert_hardly_any_lost, difference, inventory, none};
use crate::packages::{boot_node, packages};
use crate::rpm::tell_dnf;
use crate::support::stream::Check;
use crate::support::{Cluster, Stream, eventually, http, secs};
use crate::xinetd::agents;
use crate::{SERVICE, address, assert_table, get};

const CONFIG: &str = "/etc/pgsqlchk/pgsqlchk.conf";
const INSTANCE: &str = "pgsqlchk@second.service";

fn small() -> String {
    format!("pgsqlchk {}", env!("CARGO_PKG_VERSION"))
}

fn with_tls() -> String {
    format!("{} (with TLS)", small())
}

/// A socket and the service behind it, an instance, a changed configuration with a group and mode of its own, a password and
/// a drain file for a third: all that must be there afterwards.
fn set_up(container: &Container, dsn: &str) {
    container.shell(&format!(
        "echo '{dsn}' >>{CONFIG}
        groupadd dba && chgrp dba {CONFIG} && chmod 644 {CONFIG}
        printf '%s\\nlisten = 127.0.0.1:23277\\n' '{dsn}' >/etc/pgsqlchk/second.conf
        install -o pgsqlchk -m 600 /dev/null /var/lib/pgsqlchk/.pgpass
        pgsqlchk drain --drain-file /var/lib/pgsqlchk/third.drain
        systemctl --quiet enable --now pgsqlchk.socket {INSTANCE}"
    ));
    assert_table();
}

/// What an exchange must not change.
fn kept(container: &Container) -> String {
    container.shell(&format!(
        "stat --format='%n %a %U:%G %s' {CONFIG} /etc/pgsqlchk/* /var/lib/pgsqlchk /var/lib/pgsqlchk/.pgpass /var/lib/pgsqlchk/*
        sha256sum /etc/pgsqlchk/*
        id pgsqlchk
        find /etc/systemd/system -name '*pgsqlchk*' -printf '%p %l\\n' | sort
        systemctl is-enabled pgsqlchk.socket {INSTANCE}
        systemctl is-active pgsqlchk.socket {SERVICE} {INSTANCE}"
    ))
}

/// Does it while clients ask all the time.
#[track_caller]
fn exchange(container: &Container, command: &str, says: &str) {
    let before = (kept(container), container.show(SERVICE, "MainPID"), container.show(INSTANCE, "MainPID"));
    let (said, checks) = checks_during(container, command, &["/", "/primary", "/health", "/liveness"]);
    let lost: Vec<_> = checks.iter().filter(|check| !check.line.starts_with("200 ")).collect();
    assert!(lost.is_empty(), "{command}: {} of {} checks: {:?}\n{said}", lost.len(), checks.len(), lost[0]);
    assert_eq!(container.run(&["pgsqlchk", "--version"]), says, "{said}");
    assert_eq!(kept(container), before.0, "{command}: {said}");
    for (unit, pid) in [(SERVICE, before.1), (INSTANCE, before.2)] {
        let now = container.show(unit, "MainPID");
        assert_ne!(now, pid, "{unit} runs the new program");
        assert_eq!(container.run(&["readlink", &format!("/proc/{now}/exe")]), "/usr/bin/pgsqlchk");
    }
    assert_table();
    let instance = SocketAddr::from((address().ip(), 23277));
    assert_eq!(http::get(instance, "/").expect("a reply").line(), "200 Primary");
}

/// What the command says, and what clients hear that ask all the time.
#[track_caller]
fn checks_during(container: &Container, command: &str, paths: &[&str]) -> (String, Vec<Check>) {
    let stream = Stream::start(address(), paths);
    stream.advance(10);
    let said = container.shell(&format!("export DEBIAN_FRONTEND=noninteractive; {command} 2>&1"));
    stream.advance(10);
    (said, stream.finish())
}

#[test]
fn debian_packages_are_exchanged_either_way_while_they_are_asked() {
    let cluster = Cluster::primary();
    cluster.psql("CREATE ROLE pgsqlchk LOGIN");
    let binds = packages().binds();
    let container = Container::boot_root(Root::Minimal, &[&bind_server(&cluster), &binds[0], &binds[1]]);
    let before = inventory(&container);
    container.shell("DEBIAN_FRONTEND=noninteractive apt-get -qq install /new/pgsqlchk_*_amd64.deb 2>&1");
    set_up(&container, &format!("dsn = host=/run/postgresql port={}", cluster.port()));

    let apt = "apt-get -y install /new/";
    exchange(&container, &format!("{apt}pgsqlchk-tls_*_amd64.deb"), &with_tls());
    let still = kept(&container);
    container.run(&["apt-get", "-qq", "purge", "pgsqlchk"]);
    assert_eq!(kept(&container), still, "purging what is no longer there takes nothing away");
    assert_table();
    exchange(&container, &format!("{apt}pgsqlchk_*_amd64.deb"), &small());
    // dpkg removes the other one itself.
    exchange(&container, "dpkg --install /new/pgsqlchk-tls_*_amd64.deb", &with_tls());
    exchange(&container, "dpkg --install /new/pgsqlchk_*_amd64.deb", &small());
    container.run(&["apt-get", "-qq", "purge", "pgsqlchk-tls"]);
    assert_eq!(kept(&container), still);

    // A new one in the place of what does not run starts nothing.
    container.run(&["systemctl", "stop", "pgsqlchk.socket", SERVICE, INSTANCE]);
    container.shell(&format!("{apt}pgsqlchk-tls_*_amd64.deb 2>&1"));
    assert_eq!(agents(&container), []);
    // The last of them takes everything along, but what the administrator has made.
    container.shell(&format!(
        "rm /etc/pgsqlchk/second.conf && systemctl --quiet disable {INSTANCE} && groupdel -f dba
        apt-get -qq purge pgsqlchk-tls pgsqlchk 2>&1"
    ));
    let left: Vec<String> = difference(&before, &inventory(&container)).into_iter().collect();
    assert_eq!(left, Vec::from_iter(none()));
}

#[test]
fn rpm_packages_are_exchanged_either_way_while_they_are_asked() {
    let container = boot_node(&[]);
    tell_dnf(&container);
    container.shell("dnf -y --quiet install /new/pgsqlchk-[0-9]*.x86_64.rpm");
    container.run(&["sudo", "-u", "postgres", "createuser", "pgsqlchk"]);
    set_up(&container, "timeout = 1900ms");
    for _ in 0..2 {
        let tls = "dnf -y swap pgsqlchk /new/pgsqlchk-tls-*.x86_64.rpm";
        exchange(&container, tls, &with_tls());
        exchange(&container, "dnf -y swap pgsqlchk-tls /new/pgsqlchk-[0-9]*.x86_64.rpm", &small());
    }
    exchange(&container, "dnf -y --allowerasing install /new/pgsqlchk-tls-*.x86_64.rpm", &with_tls());
    container.run(&["dnf", "-y", "--quiet", "remove", "pgsqlchk-tls"]);
    assert_eq!(agents(&container), []);
}

/// One process for all, which xinetd starts; and one for each check, which needs the program at every moment: apt removes it
/// with the package, and its script puts it back.
#[test]
fn what_xinetd_starts_is_exchanged_too() {
    let container = boot_node(&[]);
    container.shell("DEBIAN_FRONTEND=noninteractive apt-get -y -qq install /new/pgsqlchk_*_amd64.deb 2>&1");
    container.run(&["sudo", "-u", "postgres", "createuser", "pgsqlchk"]);
    for service in ["pgsqlchk-wait", "pgsqlchk"] {
        container.shell(&format!(
            "rm -f /etc/xinetd.d/pgsqlchk* && cp /usr/share/doc/pgsqlchk/examples/xinetd/{service} /etc/xinetd.d/
            # One that waits for further checks outlives xinetd, with its port.
            systemctl stop xinetd && pkill -u pgsqlchk pgsqlchk || true"
        ));
        eventually(secs(20), "nobody listens", || TcpStream::connect(address()).is_err());
        container.restart_xinetd();
        eventually(secs(10), "xinetd listens", || http::get(address(), "/").is_ok());
        for (package, says) in [("pgsqlchk-tls", with_tls()), ("pgsqlchk", small())] {
            let checks = exchange_while_asked(&container, &apt(package), &says);
            match service {
                "pgsqlchk-wait" => assert_hardly_any_lost(&checks, &container),
                _ => assert_lost_for_a_moment(&checks),
            }
        }
    }
}

/// systemd starts the processes then, from a template that apt removes with the package.
#[test]
fn what_systemd_starts_for_each_check_is_exchanged_too() {
    let container = boot_node(&[]);
    let set_up = |command: &str| {
        container.shell(&format!("export DEBIAN_FRONTEND=noninteractive; {command} 2>&1"));
        container.run(&["systemctl", "--quiet", "enable", "--now", "pgsqlchk-inetd.socket"]);
    };
    set_up("apt-get -y -qq install /new/pgsqlchk_*_amd64.deb");
    container.run(&["sudo", "-u", "postgres", "createuser", "pgsqlchk"]);
    assert_inetd_socket_survives(&container, &apt("pgsqlchk-tls"), &with_tls());
    assert_inetd_socket_survives(&container, &apt("pgsqlchk"), &small());
    assert_inetd_socket_survives(&container, "dpkg --install /new/pgsqlchk-tls_*_amd64.deb", &with_tls());
    container.run(&["apt-get", "-y", "-qq", "purge", "pgsqlchk", "pgsqlchk-tls"]);

    tell_dnf(&container);
    set_up("dnf -y --quiet install /new/pgsqlchk-[0-9]*.x86_64.rpm");
    let swap = "dnf -y --quiet swap pgsqlchk /new/pgsqlchk-tls-*.x86_64.rpm";
    assert_inetd_socket_survives(&container, swap, &with_tls());
}

fn apt(package: &str) -> String {
    format!("apt-get -y -qq install /new/{package}_*_amd64.deb")
}

#[track_caller]
fn assert_inetd_socket_survives(container: &Container, command: &str, says: &str) {
    assert_lost_for_a_moment(&exchange_while_asked(container, command, says));
    assert_eq!(container.show("pgsqlchk-inetd.socket", "ActiveState"), "active", "{command}");
    assert_eq!(container.run(&["systemctl", "is-enabled", "pgsqlchk-inetd.socket"]), "enabled", "{command}");
    // Nothing is left that would hide the next version's.
    let template = container.show("pgsqlchk-inetd@1.service", "FragmentPath");
    assert!(template.ends_with("/lib/systemd/system/pgsqlchk-inetd@.service"), "{command}: {template}");
}

#[track_caller]
fn exchange_while_asked(container: &Container, command: &str, says: &str) -> Vec<Check> {
    let (_, checks) = checks_during(container, command, &["/", "/primary"]);
    assert_eq!(container.run(&["pgsqlchk", "--version"]), says);
    eventually(secs(5), "the old program ends", || {
        assert_eq!(get("/").line(), "200 Primary");
        agents(container).iter().all(|(_, program)| program == "/usr/bin/pgsqlchk")
    });
    checks
}

/// No wrong answer, and none missing but between two files of one package: HAProxy, which asks every two seconds, sees one at
/// most.
#[track_caller]
fn assert_lost_for_a_moment(checks: &[Check]) {
    let lost: Vec<&Check> = checks.iter().filter(|check| !check.line.starts_with("200 ")).collect();
    let answered = lost.iter().find(|check| check.line.starts_with(|first: char| first.is_ascii_digit()));
    assert!(answered.is_none(), "{answered:?}");
    let (began, ended) =
        (lost.iter().map(|check| check.began).min(), lost.iter().map(|check| check.ended).max());
    if let (Some(began), Some(ended)) = (began, ended) {
        assert!(ended - began < secs(1), "{} checks lost in {:?}", lost.len(), ended - began);
    }
}
