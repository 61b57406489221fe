//! Where the system's own files are.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::system::agent_user::AgentUser;

/// No file that is looked at here is read further than this.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// The folder that the system's files are under.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    /// `/`; in a build for tests what `PGSQLCHK_TEST_ROOT` says.
    pub fn system() -> Root {
        #[cfg(debug_assertions)]
        if let Some(root) = std::env::var_os("PGSQLCHK_TEST_ROOT") {
            return Root(root.into());
        }
        Root(PathBuf::from("/"))
    }

    /// For tests, a folder of theirs.
    #[cfg(test)]
    pub fn at(path: &Path) -> Root {
        Root(path.to_owned())
    }

    /// Where a file of the system really is.
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let absolute = absolute.as_ref();
        self.0.join(absolute.strip_prefix("/").unwrap_or(absolute))
    }

    /// The beginning of a file, whatever bytes it has. A FIFO or a device is none.
    pub fn read(&self, absolute: impl AsRef<Path>) -> io::Result<String> {
        read(&self.path(absolute))
    }

    /// The names in a folder, sorted; none where there is no such folder.
    pub fn names(&self, absolute: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for entry in fs::read_dir(self.path(absolute)).into_iter().flatten().flatten() {
            if let Ok(name) = entry.file_name().into_string() {
                let place = names.partition_point(|before| *before < name);
                names.insert(place, name);
            }
        }
        names
    }

    /// The agent's user of the operating system, where there is one.
    pub fn agent_user(&self) -> Option<AgentUser> {
        AgentUser::find(&self.read("/etc/passwd").ok()?, &self.read("/etc/group").unwrap_or_default())
    }
}

/// The beginning of a file.
pub fn read(path: &Path) -> io::Result<String> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_not_read() {
        assert!(read(Path::new("/dev/zero")).is_err() && read(Path::new("/")).is_err());
        assert_eq!(Root::at(Path::new("/srv")).path("/etc/passwd"), Path::new("/srv/etc/passwd"));
    }
}
