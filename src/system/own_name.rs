//! By what name other agents know this one.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

/// The longest host name that Linux has (uname(2)).
const MAX_NAME_CHARS: usize = 64;

/// This agent, as it calls itself on `/node`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnName {
    /// Random, another one in each process: 32 hexadecimal digits. By it an agent knows itself among its peers.
    pub agent: String,
    /// The host's name, for people.
    pub host: String,
}

impl OwnName {
    /// That of this process: always the same.
    pub fn get() -> &'static OwnName {
        static NAME: OnceLock<OwnName> = OnceLock::new();
        NAME.get_or_init(|| {
            // The standard library's keys are the system's random bytes.
            let (one, other) = (RandomState::new(), RandomState::new());
            let agent = format!("{:016x}{:016x}", one.hash_one("pgsqlchk"), other.hash_one("node"));
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            OwnName { agent, host: host.chars().take(MAX_NAME_CHARS).collect() }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::OwnName;

    #[test]
    fn a_process_has_one_name() {
        let name = OwnName::get();
        assert_eq!(name, OwnName::get());
        assert!(
            name.agent.len() == 32 && name.agent.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{name:?}"
        );
        assert!(!name.host.is_empty());
    }
}
