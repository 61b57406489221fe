//! The user that the packages run the agent as, for root: who asks PostgreSQL in the agent's stead has to be the one it lets
//! in.

use std::fs;
use std::io;
use std::path::PathBuf;

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// The user's name, in all packages and units.
pub const NAME: &str = "pgsqlchk";

/// The user as the system's files have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentUser {
    /// Its number; not root's.
    pub uid: u32,
    gid: u32,
    /// Those that have the user as a member.
    groups: Vec<u32>,
    /// Its home directory, where its passfile would be.
    pub home: PathBuf,
}

impl AgentUser {
    /// The user, if this process is root and may become it.
    pub fn for_root() -> Option<AgentUser> {
        if !geteuid().is_root() {
            return None;
        }
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        AgentUser::find(&fs::read_to_string("/etc/passwd").ok()?, &groups)
    }

    /// By the lines of /etc/passwd and /etc/group (passwd(5), group(5)).
    pub fn find(users: &str, groups: &str) -> Option<AgentUser> {
        let user = users.lines().find_map(AgentUser::read).filter(|user| user.uid != 0)?;
        Some(AgentUser { groups: groups.lines().filter_map(group_of_agent).collect(), ..user })
    }

    fn read(line: &str) -> Option<AgentUser> {
        let fields: Vec<&str> = line.split(':').collect();
        let [NAME, _, uid, gid, _, home, _] = fields[..] else { return None };
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        Some(AgentUser { uid, gid, groups: Vec::new(), home: home.into() })
    }

    /// Makes this thread the user's, for good, and no other but those that it starts. Only root may.
    pub fn take_thread(&self) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let groups: Vec<Gid> = self.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        set_thread_groups(&groups)?;
        set_thread_res_gid(gid, gid, gid)?;
        Ok(set_thread_res_uid(uid, uid, uid)?)
    }
}

/// The number of a group that has the user as a member.
fn group_of_agent(line: &str) -> Option<u32> {
    let mut fields = line.split(':').skip(2);
    let (id, members) = (fields.next()?.parse().ok()?, fields.next()?);
    members.split(',').any(|member| member == NAME).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_read_as_the_systems_files_have_it() {
        let user = AgentUser { uid: 998, gid: 997, groups: vec![2], home: "/var/lib/pgsqlchk".into() };
        let line = "pgsqlchk:x:998:997:pgsqlchk:/var/lib/pgsqlchk:/usr/sbin/nologin";
        let groups = "a:x:1:b\nc:x:2:b,pgsqlchk\nd:x:3:\npgsqlchk2:x:4:pgsqlchk2\n:";
        assert_eq!(
            AgentUser::find(&format!("root:x:0:0:root:/root:/bin/bash\n{line}\n"), groups),
            Some(user)
        );
        for line in ["", "pgsqlchk:x:998", "pgsqlchk:x:a:b:::", "pgsqlchk:x:0:0::/:/bin/sh", &line[1..]] {
            assert_eq!(AgentUser::find(line, groups), None, "{line}");
        }
    }
}
