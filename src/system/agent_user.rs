//! The user that the packages run the agent as, for root: who asks PostgreSQL in the agent's stead has to be the one it lets
//! in.

use std::fs;
use std::io;
use std::path::PathBuf;

use rustix::process::geteuid;
use rustix::thread::{Gid, Uid, set_thread_gid, set_thread_groups, set_thread_uid};

/// The user's name, in all packages and units.
pub const NAME: &str = "pgsqlchk";

/// The user as /etc/passwd has it.
#[derive(Debug, PartialEq, Eq)]
pub struct AgentUser {
    uid: u32,
    gid: u32,
    /// Its home directory, where its passfile would be.
    pub home: PathBuf,
}

impl AgentUser {
    /// The user, if this process is root and may become it.
    pub fn for_root() -> Option<AgentUser> {
        let users = if geteuid().is_root() { fs::read_to_string("/etc/passwd").ok()? } else { return None };
        users.lines().find_map(AgentUser::read)
    }

    /// passwd(5).
    fn read(line: &str) -> Option<AgentUser> {
        let fields: Vec<&str> = line.split(':').collect();
        let [NAME, _, uid, gid, _, home, _] = fields[..] else { return None };
        Some(AgentUser { uid: uid.parse().ok()?, gid: gid.parse().ok()?, home: home.into() })
    }

    /// Makes this thread the user's, for good, and no other thread.
    pub fn take_thread(&self) -> io::Result<()> {
        let gid = Gid::from_raw(self.gid);
        set_thread_groups(&[gid])?;
        set_thread_gid(gid)?;
        Ok(set_thread_uid(Uid::from_raw(self.uid))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_read_as_passwd_has_it() {
        let user = AgentUser { uid: 998, gid: 997, home: "/var/lib/pgsqlchk".into() };
        let line = "pgsqlchk:x:998:997:pgsqlchk:/var/lib/pgsqlchk:/usr/sbin/nologin";
        assert_eq!(AgentUser::read(line), Some(user));
        for line in ["", "root:x:0:0:root:/root:/bin/bash", "pgsqlchk:x:998", "pgsqlchk:x:a:b:::", &line[1..]]
        {
            assert_eq!(AgentUser::read(line), None, "{line}");
        }
    }
}
