//! A minimal Debian of the test's own, booted by systemd-nspawn: its PID 1 is a real systemd.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::support::folder::Folder;
use crate::support::postgresql::{copy_program, run};
use crate::support::process::{Signal, children_of, signal, wait_for_exit};
use crate::support::{Cluster, eventually, patiently, secs, show_log};

const BINARY: &str = env!("CARGO_BIN_EXE_pgsqlchk");
const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

/// Of root, on Debian.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is in a root before a test boots it (packaging/system-root).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// Debian's essential packages and systemd.
    Minimal,
    /// A node's: PostgreSQL, HAProxy, xinetd, sudo; dnf, and what `make build` needs.
    Node,
    /// A node's of Debian 13: PostgreSQL, HAProxy and sudo.
    Debian13,
    /// The same of Ubuntu 24.04.
    Ubuntu,
}

/// A booted system with a network of its own (loopback only). Killed when dropped.
pub struct Container {
    /// What it was booted from.
    pub root: Root,
    nspawn: Child,
    leader: u32,
    console: PathBuf,
    _folder: Folder,
}

impl Container {
    /// Boots one with the agent and its units installed, and a PostgreSQL server of the host's behind /run/postgresql.
    pub fn boot(cluster: &Cluster) -> Container {
        let container = Container::boot_root(Root::Minimal, &[&bind_server(cluster)]);
        container.install(cluster);
        container
    }

    /// Boots a root as it is, with these options of systemd-nspawn. The calling thread, and those it starts afterwards,
    /// are in the container's network then.
    pub fn boot_root(root: Root, options: &[&str]) -> Container {
        let name = match root {
            Root::Minimal => "minimal",
            Root::Node => "node",
            Root::Debian13 => "node-13",
            Root::Ubuntu => "node-ubuntu",
        };
        let directory = root_named(name);
        let folder = Folder::new("container");
        let console = folder.path().join("console");
        let name = folder.path().file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
        let mut command = Command::new("systemd-nspawn");
        command.args(["--boot", "--quiet", "--private-network", "--register=no", "--keep-unit"]);
        command.args(["--link-journal=no", "--volatile=overlay"]).args(options);
        command.arg(format!("--machine={name}")).arg(format!("--directory={}", directory.display()));
        let file = File::create(&console).expect("a file for the console");
        command.stdin(Stdio::null()).stderr(file.try_clone().expect("the console")).stdout(file);
        let nspawn = command.spawn().expect("systemd-nspawn");
        let mut container = Container { root, nspawn, leader: 0, console, _folder: folder };
        // Several may boot at once; whoever asks all the time takes the processor from them.
        patiently(secs(180), "the container boots", || {
            let exited = container.nspawn.try_wait().expect("wait for systemd-nspawn");
            assert!(exited.is_none(), "systemd-nspawn ended: {exited:?}");
            container.leader = children_of(container.nspawn.id()).first().copied().unwrap_or(0);
            container.leader != 0 && container.try_run(&["systemctl", "is-active", "multi-user.target"]).0
        });
        // What a system does by itself at night: it takes apt's lock, and writes files.
        container.run(&["systemctl", "stop", "*.timer"]);
        container.enter_network();
        container
    }

    /// Installs the agent and its units, for this server behind /run/postgresql.
    pub fn install(&self, cluster: &Cluster) {
        self.run(&["useradd", "--system", "--create-home", "--home-dir", "/var/lib/pgsqlchk", "pgsqlchk"]);
        copy_program(BINARY, &self.path("/usr/local/bin/pgsqlchk"));
        for entry in fs::read_dir(format!("{SOURCE}/systemd")).expect("the units") {
            let unit = entry.expect("a unit").path();
            let name = unit.file_name().and_then(|name| name.to_str()).expect("UTF-8");
            fs::copy(&unit, self.path(&format!("/etc/systemd/system/{name}"))).expect("install a unit");
        }
        let dsn = format!("dsn = host=/run/postgresql port={}\n", cluster.port());
        self.write("/etc/pgsqlchk/pgsqlchk.conf", &dsn);
        self.run(&["systemctl", "daemon-reload"]);
    }

    /// Gives it an address, and a bridge to which others can be joined.
    pub fn be_hub(&self, address: &str) {
        self.ip("link add hub type bridge");
        self.ip(&format!("address add {address}/24 dev hub"));
        self.ip("link set hub up");
    }

    /// Gives it an address on the network of that hub.
    pub fn join(&self, hub: &Container, address: &str) {
        let port = format!("to{}", self.leader);
        hub.ip(&format!("link add {port} type veth peer name eth0 netns {}", self.leader));
        hub.ip(&format!("link set {port} master hub up"));
        self.ip(&format!("address add {address}/24 dev eth0"));
        self.ip("link set eth0 up");
    }

    /// This machine's ip, in the container's network.
    #[track_caller]
    fn ip(&self, words: &str) {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.leader.to_string(), "--net", "--", "ip"]).args(words.split(' '));
        run(&mut command);
    }

    /// A file of the container's, seen from here.
    pub fn path(&self, path: &str) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.leader)).join(path.trim_start_matches('/'))
    }

    /// Writes a file in the container, with the folders above it.
    pub fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("create the folder");
        fs::write(path, content).expect("write the file");
    }

    /// Runs a program in the container: whether it succeeded, and what it said.
    pub fn try_run(&self, words: &[&str]) -> (bool, String) {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.leader.to_string(), "--all", "--"]).args(words).stdin(Stdio::null());
        // Those of whoever runs the tests are not the container's.
        command.env_clear().env("PATH", PATH).env("HOME", "/root").env("LC_ALL", "C.UTF-8");
        let output = command.output().expect("nsenter");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).trim_end().to_owned())
    }

    /// The same; panics when it failed.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> String {
        let (is_fine, text) = self.try_run(words);
        assert!(is_fine, "{words:?}: {text}");
        text
    }

    /// The same for a script, in bash.
    #[track_caller]
    pub fn shell(&self, script: &str) -> String {
        self.run(&["bash", "-euo", "pipefail", "-c", script])
    }

    /// A property of a unit, as `systemctl show` has it.
    #[track_caller]
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.run(&["systemctl", "show", "--value", "--property", property, unit])
    }

    /// Debian's own script starts nothing while the xinetd that it has told to end is still there.
    #[track_caller]
    pub fn restart_xinetd(&self) {
        self.shell("systemctl stop xinetd");
        eventually(secs(20), "xinetd ends", || !self.try_run(&["pgrep", "--exact", "xinetd"]).0);
        self.shell("systemctl start xinetd");
    }

    /// Waits for a line of the unit's in the journal; programs hand theirs over at their leisure.
    #[track_caller]
    pub fn wait_for_journal(&self, unit: &str, line: &str) {
        eventually(secs(30), line, || self.journal(unit).contains(line));
    }

    /// The unit's lines in the journal.
    pub fn journal(&self, unit: &str) -> String {
        self.run(&["journalctl", "--no-pager", "--output=short-monotonic", "--unit", unit])
    }

    /// Puts the calling thread, and those it starts afterwards, into the container's network.
    pub fn enter_network(&self) {
        let network = File::open(format!("/proc/{}/ns/net", self.leader)).expect("the network");
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).expect("enter it");
    }
}

/// A root, made once (packaging/system-root).
#[track_caller]
pub fn root_named(name: &str) -> PathBuf {
    made_by("system-root", name)
}

/// What a script in packaging/ makes of this name: the path that it prints.
#[track_caller]
pub fn made_by(script: &str, name: &str) -> PathBuf {
    let mut command = Command::new(format!("{SOURCE}/packaging/{script}"));
    let output = command.arg(name).stderr(Stdio::inherit()).output().expect(script);
    assert!(output.status.success(), "packaging/{script} {name}");
    PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim_end())
}

/// The option that puts a server of the host's where a container looks for it.
pub fn bind_server(cluster: &Cluster) -> String {
    format!("--bind={}:/run/postgresql", cluster.socket_dir().display())
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() && self.leader != 0 {
            show_log("journal of the container", &self.try_run(&["journalctl", "--no-pager", "-n200"]).1);
            show_log("its console", &fs::read_to_string(&self.console).unwrap_or_default());
        }
        if self.leader != 0 {
            // With it, everything in the container ends; systemd-nspawn cleans up after it.
            signal(self.leader, Signal::KILL);
        }
        if wait_for_exit(&mut self.nspawn, secs(10)).is_none() {
            let _ = self.nspawn.kill();
            let _ = self.nspawn.wait();
        }
    }
}
