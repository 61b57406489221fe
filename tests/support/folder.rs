//! A temporary folder that its owner's `Drop` removes.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::{fs, process};

use super::postgresql::ServerUser;

/// A folder directly under /tmp, whatever TMPDIR says: a Unix socket's path may have 107 bytes at most.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A new folder of the test's own user, which everyone may enter.
    pub fn new(name: &str) -> Folder {
        let unique = format!("pgsqlchk-{name}-{}-{:08x}", process::id(), super::random() & 0xffff_ffff);
        let path = Path::new("/tmp").join(unique);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set the folder's mode");
        Folder { path }
    }

    /// A new folder that belongs to the user PostgreSQL runs as.
    pub fn of_server(name: &str, user: &ServerUser) -> Folder {
        let folder = Folder::new(name);
        user.give(&folder.path);
        folder
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file in it and returns the file's path.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, content).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A server that was killed may still be removing files of its own: a second attempt is enough.
        if fs::remove_dir_all(&self.path).is_err() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl ServerUser {
    /// Makes a file or folder the server's own; needed only where the tests run as root.
    pub fn give(&self, path: &Path) {
        if let Some((uid, gid)) = self.switch() {
            chown(path, Some(uid), Some(gid))
                .unwrap_or_else(|error| panic!("chown {}: {error}", path.display()));
        }
    }
}
