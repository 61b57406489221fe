//! The README's installation and the homes, to the letter: commands are taken from the pages and typed on a fresh node with
//! Debian's own PostgreSQL. A failover after them is in [`crate::new_user`].

use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Instant;

use crate::container::Container;
use crate::packages::boot_node;
use crate::support::{eventually, http, secs, wire};
use crate::xinetd::agents;
use crate::{SERVICE, address, assert_table, get};

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

/// The text of a section of a page.
fn section(page: &str, heading: &str) -> String {
    let text = fs::read_to_string(format!("{SOURCE}/{page}")).expect(page);
    let section = text.split_once(&format!("\n## {heading}\n")).expect(heading).1;
    section.split("\n## ").next().unwrap_or_default().to_owned()
}

/// The fenced blocks of a section, without the blanks that indent them.
fn blocks(section: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut is_inside = false;
    for line in section.lines().map(str::trim_start) {
        if line.starts_with("```") {
            is_inside = !is_inside;
            if is_inside {
                blocks.push(String::new());
            }
        } else if is_inside {
            let block = blocks.last_mut().expect("it began with a fence");
            block.push_str(&format!("{line}\n"));
        }
    }
    blocks
}

/// The commands of the steps, and those that stand for the first where there is no package.
fn commands() -> Vec<String> {
    let mut commands = blocks(&section("README.md", "Installing on a node"));
    commands.extend(blocks(&section("docs/installing.md", "Without a package")));
    commands
}

/// The README's steps, for one way of installing.
pub struct Steps {
    /// Installs; the others are the same for every way.
    way: String,
    pub role: String,
    pub look: String,
    pub peers: String,
    pub start: String,
}

impl Steps {
    /// With the block that begins like this.
    #[track_caller]
    pub fn of(beginning: &str) -> Steps {
        let ways = ["sudo apt ", "sudo dnf ", "make "];
        let (of_ways, common): (Vec<String>, Vec<String>) =
            commands().into_iter().partition(|block| ways.iter().any(|way| block.starts_with(way)));
        assert_eq!(of_ways.len(), ways.len(), "{of_ways:#?}");
        let way = of_ways.into_iter().find(|block| block.starts_with(beginning)).expect("a block");
        let Ok([role, look, peers, start]) = <[String; 4]>::try_from(common) else {
            panic!("the role, a look, the peers, a home")
        };
        Steps { way, role, look, peers, start }
    }

    /// After `prepare`; "y" is what an administrator answers when he is asked.
    #[track_caller]
    pub fn install(&self, container: &Container, prepare: &str) {
        let name = self.way.lines().next().expect("a line");
        type_in(container, &format!("{prepare}\n{{\n{}}} < <(yes)", self.way), name);
    }
}

/// Types them all, then asks.
fn follow(container: &Container, beginning: &str, prepare: &str) {
    let steps = Steps::of(beginning);
    steps.install(container, prepare);
    assert!(TcpStream::connect(address()).is_err(), "nothing listens yet");
    type_in(container, &steps.role, &steps.role);
    assert_eq!(type_in(container, &steps.look, &steps.look), "primary timeline 1");
    type_in(container, &steps.peers, &steps.peers);
    type_in(container, &steps.start, &steps.start);
    assert_table();
}

/// Runs a script, and prints how long that took.
#[track_caller]
pub fn type_in(container: &Container, commands: &str, name: &str) -> String {
    timed(container, name, || container.shell(commands))
}

/// Prints how long something took.
#[track_caller]
pub fn timed<T>(container: &Container, name: &str, action: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = action();
    let (system, seconds) = (container.root, begun.elapsed().as_secs_f64());
    let line = format!("{system:?}, {seconds:.1} s: {}\n", name.trim_end());
    // Not captured by the harness, so that a run of all tests shows it.
    io::stdout().write_all(line.as_bytes()).expect("write to stdout");
    result
}

#[test]
fn the_steps_of_the_readme_work_with_apt() {
    let container = boot_node(&[]);
    follow(&container, "sudo apt ", "cd /new");
    change_the_configuration(&container);
}

/// Both ways of telling the agent that runs, as the page has them.
fn change_the_configuration(container: &Container) {
    let blocks = blocks(&section("docs/configuration.md", "A changed configuration"));
    let ways: Vec<&str> = blocks[0].lines().collect();
    assert_eq!(ways.len(), 2, "{ways:?}");
    let file = "/etc/pgsqlchk/pgsqlchk.conf";
    for way in ways {
        container.shell(&format!("echo 'root-path = /replica' >>{file}"));
        container.shell(way);
        eventually(secs(10), way, || get("/").line() == "503 not-in-recovery");
        container.shell(&format!("sed --in-place '$d' {file}"));
        container.shell(way);
        eventually(secs(10), way, || get("/").line() == "200 Primary");
    }
}

/// Rust is this machine's, and the optimiser is left out: to wait for both would say nothing about the steps.
#[test]
fn the_steps_of_the_readme_work_with_make() {
    let rustc = Command::new("rustc").args(["--print", "sysroot"]).output().expect("rustc");
    let sysroot = String::from_utf8(rustc.stdout).expect("UTF-8");
    let home = |name: &str| std::env::var(name).ok();
    let cargo = home("CARGO_HOME").or_else(|| Some(format!("{}/.cargo", home("HOME")?))).expect("HOME");
    let options = [
        format!("--bind-ro={}:/opt/rust", sysroot.trim_end()),
        format!("--overlay={cargo}::/opt/cargo"),
        format!("--overlay={SOURCE}::/opt/pgsqlchk"),
    ];
    let container = boot_node(&[&options[0], &options[1], &options[2]]);
    follow(
        &container,
        "make ",
        "cd /opt/pgsqlchk
        export PATH=/opt/rust/bin:$PATH CARGO_HOME=/opt/cargo CARGO_NET_OFFLINE=true
        export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16",
    );
    let units =
        container.run(&["systemctl", "show", "--value", "--property", "FragmentPath", "pgsqlchk.service"]);
    assert_eq!(units, "/usr/local/lib/systemd/system/pgsqlchk.service");
    // What was installed goes again, but for a configuration that was changed.
    container.shell("echo 'timeout = 1s' >>/etc/pgsqlchk/pgsqlchk.conf");
    container.shell("cd /opt/pgsqlchk && systemctl --quiet disable --now pgsqlchk.socket pgsqlchk.service && sudo make uninstall");
    let left = container.shell("find /usr/local /etc -name '*pgsqlchk*'");
    assert_eq!(left, "/etc/pgsqlchk\n/etc/pgsqlchk/pgsqlchk.conf");
}

/// A node with the package and the role.
fn installed() -> Container {
    let container = boot_node(&[]);
    container.shell("DEBIAN_FRONTEND=noninteractive apt-get -y -qq install /new/pgsqlchk_*_amd64.deb 2>&1");
    container.run(&["sudo", "-u", "postgres", "createuser", "pgsqlchk"]);
    container
}

#[test]
fn the_steps_for_several_instances_work() {
    let container = boot_node(&[]);
    container.shell("DEBIAN_FRONTEND=noninteractive apt-get -y -qq install /new/pgsqlchk_*_amd64.deb 2>&1");
    container.run(&["pg_createcluster", "--start", "15", "second"]);
    let second = SocketAddr::from((address().ip(), 23277));
    let blocks = blocks(&section("docs/instances.md", "An agent for each"));
    let [roles, files, looks, start, xinetd] = &blocks[..] else { panic!("five blocks: {blocks:#?}") };
    container.shell(roles);
    container.shell(files);
    assert_eq!(container.shell(looks), "primary timeline 1\nprimary timeline 1");
    container.shell(start);
    assert_table();
    let line = || http::get(second, "/").map(|reply| reply.line()).unwrap_or_default();
    assert_eq!(line(), "200 Primary");
    // Each sees its own server.
    container.run(&["pg_ctlcluster", "15", "second", "stop"]);
    eventually(secs(10), "one is down", || line() == "503 connection-refused");
    assert_table();
    container.run(&["pg_ctlcluster", "15", "second", "start"]);
    eventually(secs(10), "it is back", || line() == "200 Primary");

    container.run(&["systemctl", "--quiet", "disable", "--now", "pgsqlchk@15-second"]);
    assert_eq!(line(), "");
    container.shell(xinetd);
    eventually(secs(10), "xinetd serves it", || line() == "200 Primary");
    assert_table();
}

/// What doctor tells to type is typed, and then it has nothing left to say. After that the node drains, and comes back.
#[test]
fn doctor_and_the_switch_do_what_their_pages_say() {
    let container = installed();
    container.shell(&blocks(&section("docs/homes.md", "systemd"))[0]);
    let page = fs::read_to_string(format!("{SOURCE}/docs/doctor.md")).expect("the page");
    let doctor = &blocks(&page)[0];
    let (is_fine, said) = container.try_run(&["bash", "-c", doctor]);
    let findings: Vec<&str> = said.lines().filter(|line| !line.starts_with("ok ")).collect();
    let [finding] = &findings[..] else { panic!("{said}") };
    assert!(!is_fine && finding.contains("pg_monitor"), "{said}");
    let (_, remedy) = finding.split_once("; remedy: on the primary: ").expect("what to type");
    container.shell(remedy);
    let said = container.shell(doctor);
    assert!(said.lines().all(|line| line.starts_with("ok ")), "{said}");
    assert!(said.contains("port 23267: held by pgsqlchk (process ") && said.contains(SERVICE), "{said}");

    let switch = &blocks(&section("docs/haproxy.md", "Draining"))[0];
    let [drain, undrain] = &switch.lines().collect::<Vec<_>>()[..] else { panic!("two lines: {switch}") };
    let said = container.shell(drain);
    assert!(said.lines().last().is_some_and(|line| line.starts_with("drained: ")), "{said}");
    assert_eq!(get("/").line(), "404 draining");
    container.shell(undrain);
    assert_table();
}

#[test]
fn the_steps_to_a_socket_work_and_so_does_the_cure_of_a_mistake() {
    let container = installed();
    container.shell(&blocks(&section("docs/homes.md", "systemd"))[0]);
    assert_table();
    let blocks = blocks(&section("docs/homes.md", "systemd with a socket"));
    // The last one is part of a unit, for another flavour.
    let [socket, cure, agent_check, _] = &blocks[..] else { panic!("four blocks: {blocks:#?}") };
    container.shell(socket);
    assert_table();
    assert_eq!(container.show("pgsqlchk.socket", "SubState"), "running");
    container.shell("echo 'timeout = 2' >>/etc/pgsqlchk/pgsqlchk.conf");
    assert!(!container.try_run(&["bash", "-c", cure]).0, "not mended yet");
    assert_eq!(get("/").line(), "503 bad-configuration");
    container.shell("sed -i '/^timeout = 2$/d' /etc/pgsqlchk/pgsqlchk.conf");
    container.shell(cure);
    assert_table();
    container.shell(agent_check);
    assert_eq!(wire::talk((address().ip(), 23268).into(), "/primary\n").text(), "up ready 100%\n");
    assert_table();
}

#[test]
fn the_steps_to_xinetd_work_and_so_does_the_look_before_them() {
    let container = installed();
    container.write("/usr/local/bin/pgsqlchk", "#!/bin/sh\n");
    container.run(&["chmod", "755", "/usr/local/bin/pgsqlchk"]);
    let look = &blocks(&section("docs/moving.md", "From the shell script"))[0];
    let found = container.shell(look);
    let found: Vec<&str> = found.lines().take(2).collect();
    assert_eq!(found, ["pgsqlchk is /usr/local/bin/pgsqlchk", "pgsqlchk is /usr/bin/pgsqlchk"]);
    for (heading, left) in [("xinetd, wait = no", 0), ("xinetd, wait = yes", 1)] {
        container.shell("rm -f /etc/xinetd.d/pgsqlchk* && systemctl reload-or-restart xinetd");
        eventually(secs(10), "nobody listens", || TcpStream::connect(address()).is_err());
        container.shell(&blocks(&section("docs/homes.md", heading))[0]);
        eventually(secs(10), "xinetd listens", || TcpStream::connect(address()).is_ok());
        assert_table();
        eventually(secs(10), "those are left that stay", || agents(&container).len() == left);
    }
    assert_eq!(container.show(SERVICE, "ActiveState"), "inactive");
}
