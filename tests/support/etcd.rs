//! The store in which Patroni votes.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use super::folder::Folder;
use super::free_port;
use super::unpacked::unpacked;

/// A single etcd, which needs nobody's vote; it may lose what it knows when the machine stops.
pub fn start(folder: &Folder) -> (Child, u16) {
    let program = unpacked("etcd-server/usr/bin/etcd");
    let (clients, peers) = (free_port(), free_port());
    let log = File::create(folder.path().join("etcd.log")).expect("create etcd's log");
    let mut command = Command::new(program);
    for (name, port) in [("client", clients), ("peer", peers)] {
        command.arg(format!("--listen-{name}-urls=http://127.0.0.1:{port}"));
    }
    command.arg(format!("--advertise-client-urls=http://127.0.0.1:{clients}"));
    command.arg(format!("--initial-advertise-peer-urls=http://127.0.0.1:{peers}"));
    command.arg(format!("--initial-cluster=default=http://127.0.0.1:{peers}"));
    command.arg(format!("--data-dir={}", folder.path().join("etcd").display()));
    command.env_clear().current_dir("/").stdin(Stdio::null());
    command.stdout(log.try_clone().expect("a second handle")).stderr(log);
    (command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")), clients)
}
