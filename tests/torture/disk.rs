//! The disk of one node's WAL: a file system of its own, which can be frozen while that of the data goes on.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::network::shell;
use crate::support::folder::Folder;

/// More than a server here ever keeps of WAL.
const SIZE: &str = "128M";

/// What the folders are called in which the disks are mounted; see [`crate::network::enclose`].
pub const FOLDER: &str = "wal";

/// Mounted until it is dropped.
pub struct Disk {
    folder: Folder,
}

impl Disk {
    /// An empty one. It needs root and a loop device.
    pub fn new() -> Disk {
        let disk = Disk { folder: Folder::new(FOLDER) };
        let (image, mounted) = (disk.folder.path().join("image"), disk.mounted());
        let (image, mounted) = (image.display(), mounted.display());
        shell(&format!(
            "truncate -s {SIZE} {image} && mkfs.ext4 -q -m 0 {image}
             mkdir {mounted} && mount -o loop {image} {mounted}"
        ));
        disk
    }

    /// The WAL of this data directory, whose server is stopped, lies here from now on.
    pub fn take_wal(&self, data: &Path) {
        let (wal, own) = (data.join("pg_wal"), self.mounted().join("pg_wal"));
        let (wal, own) = (wal.display(), own.display());
        shell(&format!("rm -rf {own} && cp -a {wal} {own} && rm -rf {wal} && ln -s {own} {wal}"));
    }

    /// A file beside the WAL, which is nobody's.
    pub fn ballast(&self) -> PathBuf {
        self.mounted().join("ballast")
    }

    /// From now on whoever writes here waits, and cannot be killed either.
    pub fn freeze(&self) -> FrozenDisk {
        let mounted = self.mounted();
        shell(&format!("fsfreeze -f {}", mounted.display()));
        FrozenDisk { mounted }
    }

    fn mounted(&self) -> PathBuf {
        self.folder.path().join("disk")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Its loop device goes with it.
        shell(&format!("umount -l {}", self.mounted().display()));
    }
}

/// A disk that stands still; it goes on when this is dropped, also by a panic. Where the campaign is killed meanwhile, the
/// shell around it lets it go on.
pub struct FrozenDisk {
    mounted: PathBuf,
}

impl Drop for FrozenDisk {
    fn drop(&mut self) {
        // A panic on top of another one would end the program before the others are undone.
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.mounted).status();
    }
}
