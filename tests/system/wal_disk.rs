//! The disk of a primary's WAL: frozen, and full. Every read goes on, and no commit comes back. The judge is another
//! client's own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::support::folder::Folder;
use crate::support::new_clients::{SOON, agent_with, assert_becomes, assert_stays, can_commit, timely};
use crate::support::postgresql::run;
use crate::support::prometheus::Page;
use crate::support::{Cluster, Stream, eventually, secs};

const PROBING: [&str; 2] = ["--write-probe", "1s"];

/// A file system of its own for a stopped server's `pg_wal`. Unmounted when dropped: it has to outlive the server.
struct WalDisk {
    place: PathBuf,
    folder: Folder,
}

impl WalDisk {
    /// On a file of so many megabytes.
    fn on_loop_device(cluster: &Cluster, megabytes: u32) -> WalDisk {
        let folder = Folder::new("waldisk");
        let image = folder.path().join("image");
        run(Command::new("truncate").arg(format!("--size={megabytes}M")).arg(&image));
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image));
        WalDisk::mount(cluster, folder, |mount| mount.args(["-t", "ext4", "-o", "loop"]).arg(&image))
    }

    /// In memory.
    fn in_memory(cluster: &Cluster, megabytes: u32) -> WalDisk {
        let size = format!("size={megabytes}M");
        WalDisk::mount(cluster, Folder::new("waldisk"), |mount| {
            mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"])
        })
    }

    fn mount(cluster: &Cluster, folder: Folder, what: impl FnOnce(&mut Command) -> &mut Command) -> WalDisk {
        let place = folder.path().join("disk");
        fs::create_dir(&place).expect("a folder to mount on");
        run(what(&mut Command::new("mount")).arg(&place));
        let disk = WalDisk { place, folder };
        let wal = cluster.data().join("pg_wal");
        run(Command::new("cp").arg("-a").arg(&wal).arg(&disk.place));
        fs::remove_dir_all(&wal).expect("remove pg_wal");
        std::os::unix::fs::symlink(disk.place.join("pg_wal"), &wal).expect("link pg_wal");
        // The server's user has to get there.
        run(Command::new("chmod").arg("o+x").args([disk.folder.path(), &disk.place]));
        disk
    }

    /// Until what is returned is dropped, which has to be before anything waits for the server's end.
    fn freeze(&self) -> FrozenDisk<'_> {
        run(Command::new("fsfreeze").arg("--freeze").arg(&self.place));
        FrozenDisk(self)
    }

    fn grow(&self, megabytes: u32) {
        let options = format!("remount,size={megabytes}M");
        run(Command::new("mount").args(["-o", &options]).arg(&self.place));
    }
}

impl Drop for WalDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.place).status();
    }
}

struct FrozenDisk<'a>(&'a WalDisk);

impl Drop for FrozenDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.0.place).status();
    }
}

fn prepare(cluster: &Cluster) -> String {
    cluster.start();
    cluster.psql("CREATE ROLE pgsqlchk LOGIN; CREATE ROLE app LOGIN");
    cluster.psql("CREATE TABLE written (number int); GRANT INSERT ON written TO app");
    cluster.dsn_of("app")
}

#[test]
fn on_a_frozen_disk_commits_stall_until_it_thaws() {
    let stopped = Cluster::stopped(&[]);
    let disk = WalDisk::on_loop_device(&stopped, 64);
    // Dropped before its disk.
    let primary = stopped;
    let dsn = prepare(&primary);
    let agent = agent_with(&primary.dsn_of("pgsqlchk"), &PROBING);
    assert_eq!(timely(&agent, "/primary"), "200 Primary");
    eventually(secs(20), "the judge commits", || can_commit(&dsn));
    for _ in 0..2 {
        let frozen = disk.freeze();
        assert!(!can_commit(&dsn), "the judge hangs");
        assert_becomes(&agent, "503 write-stalled");
        assert_eq!(timely(&agent, "/read-write"), "503 write-stalled");
        assert_eq!(timely(&agent, "/health"), "200 Primary");
        assert_eq!(timely(&agent, "/liveness"), "200 Alive");
        assert_eq!(Page::of(&agent).get("pgsqlchk_writable"), Some(0.0));
        drop(frozen);
        eventually(secs(20), "the judge commits again", || can_commit(&dsn));
        eventually(SOON, "so does the agent", || agent.get("/primary").line() == "200 Primary");
        assert_stays(&agent, "200 Primary");
    }
}

/// PostgreSQL ends itself there.
#[test]
fn on_a_full_disk_no_commit_is_believed() {
    let stopped = Cluster::stopped(&[("min_wal_size", "5MB"), ("max_wal_size", "1GB")]);
    let disk = WalDisk::in_memory(&stopped, 12);
    let primary = stopped;
    let dsn = prepare(&primary);
    let agent = agent_with(&primary.dsn_of("pgsqlchk"), &PROBING);
    assert_eq!(timely(&agent, "/primary"), "200 Primary");
    let stream = Stream::start(agent.addr(), &["/", "/primary", "/read-write"]);
    stream.advance(5);
    // Twice as much as there is room for.
    let fill = "INSERT INTO written SELECT generate_series(1, 400000)";
    let why = primary.try_psql(fill).expect_err("there is no room");
    assert!(!can_commit(&dsn), "the judge: {why}");
    let full = Instant::now();
    eventually(secs(20), "PostgreSQL ends", || primary.has_ended());
    stream.advance(20);
    let checks = stream.finish();
    let wrong: Vec<_> =
        checks.iter().filter(|check| check.began > full && check.line.starts_with("200")).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let odd: Vec<_> = checks
        .iter()
        .filter(|check| !check.line.starts_with("503 ") && check.line != "200 Primary")
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
    assert_stays(&agent, "503 connection-refused");

    disk.grow(64);
    primary.start();
    eventually(secs(20), "the judge commits", || can_commit(&dsn));
    assert_becomes(&agent, "200 Primary");
}
