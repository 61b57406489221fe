//! Where the system's own files are.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::system::user::become_user;

/// No file that is looked at here is read further than this.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Whom the agent runs as where nobody says otherwise.
pub const AGENT_USER: &str = "pgsqlchk";

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
    pub fn agent_user(&self) -> Option<Account> {
        let users = self.read("/etc/passwd").ok()?;
        let mut account = users.lines().find_map(Account::parse).filter(|account| account.uid != 0)?;
        account.groups = groups_of_agent(&self.read("/etc/group").unwrap_or_default());
        Some(account)
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

/// A line of /etc/passwd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user's number.
    pub uid: u32,
    /// That of the user's group.
    pub gid: u32,
    /// Those that have the user as a member.
    pub groups: Vec<u32>,
    /// The home directory.
    pub home: String,
}

impl Account {
    /// Makes this thread that user's.
    pub fn enter(&self) -> io::Result<()> {
        become_user(self.uid, self.gid, &self.groups)
    }

    fn parse(line: &str) -> Option<Account> {
        let mut fields = line.split(':');
        if fields.next() != Some(AGENT_USER) {
            return None;
        }
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Account { uid, gid, groups: Vec::new(), home: fields.nth(1)?.to_owned() })
    }
}

/// By the lines of /etc/group.
fn groups_of_agent(text: &str) -> Vec<u32> {
    let id = |line: &str| {
        let mut fields = line.split(':').skip(2);
        let (id, members) = (fields.next()?.parse().ok()?, fields.next()?);
        members.split(',').any(|member| member == AGENT_USER).then_some(id)
    };
    text.lines().filter_map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_user_is_a_line_of_passwd() {
        let account = Account { uid: 7, gid: 8, groups: Vec::new(), home: "/var/lib/pgsqlchk".into() };
        assert_eq!(groups_of_agent("a:x:1:b\nc:x:2:b,pgsqlchk\nd:x:3:\npgsqlchk2:x:4:pgsqlchk2\n:"), [2]);
        assert_eq!(Account::parse("pgsqlchk:x:7:8:,,,:/var/lib/pgsqlchk:/bin/false"), Some(account));
        for line in ["pgsqlchk2:x:7:8::/:/", "pgsqlchk:x:7", "pgsqlchk:x:a:8::/:/", ""] {
            assert_eq!(Account::parse(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        assert!(read(Path::new("/dev/zero")).is_err() && read(Path::new("/")).is_err());
        assert_eq!(Root::at(Path::new("/srv")).path("/etc/passwd"), Path::new("/srv/etc/passwd"));
    }
}
