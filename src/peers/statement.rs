//! What a peer says of its node: bytes of somebody else's, read strictly. Pure.

use serde::Deserialize;

use crate::instance::{AttachedStandby, Lsn, MAX_STANDBYS, Role};
use crate::reason::Reason;

/// The longest answer that is read.
pub(super) const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Names longer than this are cut; no host's is.
const MAX_NAME_CHARS: usize = 64;

/// What a peer has said, on `/node`.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// By which it knows itself.
    pub agent: String,
    /// Its host's name; may be empty.
    pub name: String,
    /// `None` where its PostgreSQL could not be verified.
    pub role: Option<Role>,
    /// Why it has no role, or why its `/` does not hold: a word.
    pub reason: Option<String>,
    /// Whether its drain file exists.
    pub draining: Option<bool>,
    /// There wherever there is a role.
    pub system_identifier: Option<u64>,
    /// On a standby a lower bound; there on every primary.
    pub timeline: Option<u32>,
    /// Where a primary writes; how far a standby has replayed.
    pub lsn: Option<Lsn>,
    /// In seconds since 1970.
    pub postmaster_started_unix_s: Option<f64>,
    /// Whether a standby has a WAL receiver.
    pub receives: Option<bool>,
    /// The slot that a standby uses.
    pub slot: Option<String>,
    /// By which a standby's sender knows it.
    pub application_name: Option<String>,
    /// Who receives from a primary, where it may see them.
    pub standbys: Option<Vec<AttachedStandby>>,
    /// Who receives from a standby, where it may see them.
    pub cascaded: Option<Vec<AttachedStandby>>,
}

impl Statement {
    /// Nobody listens there, so that WAL flows neither to it nor from it. Any other failure is one of those who log in.
    pub fn is_down(&self) -> bool {
        self.role.is_none() && self.reason.as_deref() == Some(Reason::ConnectionRefused.word())
    }

    /// Whether it tells by which names the node's sender knows it.
    pub(super) fn tells_names(&self) -> bool {
        self.role == Some(Role::Standby) && (self.slot.is_some() || self.application_name.is_some())
    }
}

/// As it is spelled. Unknown fields are ignored: they are added in later releases.
#[derive(Deserialize)]
struct Spelled {
    agent: String,
    name: Option<String>,
    role: Option<String>,
    reason: Option<String>,
    draining: Option<bool>,
    system_identifier: Option<String>,
    timeline: Option<u32>,
    lsn: Option<Lsn>,
    postmaster_started: Option<f64>,
    receives: Option<bool>,
    slot: Option<String>,
    application_name: Option<String>,
    standbys: Option<Vec<AttachedStandby>>,
    cascaded: Option<Vec<AttachedStandby>>,
}

/// Reads an answer. `Err` says why it is none, and shows nothing of it.
pub(super) fn read(bytes: &[u8]) -> Result<Statement, String> {
    let said: Spelled = serde_json::from_slice(bytes).map_err(|_| "not the answer of an agent".to_owned())?;
    let role = match said.role.as_deref() {
        None => None,
        Some("primary") => Some(Role::Primary),
        Some("standby") => Some(Role::Standby),
        Some(_) => return Err("a role that there is not".into()),
    };
    let system_identifier = match said.system_identifier.map(|text| text.parse()) {
        None => None,
        Some(Ok(identifier)) => Some(identifier),
        Some(Err(_)) => return Err("a system identifier that is no number".into()),
    };
    if role.is_some() && system_identifier.is_none() {
        return Err("a role without a system identifier".into());
    }
    if role == Some(Role::Primary) && said.timeline.is_none() {
        return Err("a primary without a timeline".into());
    }
    let is_word = |word: &String| {
        word.len() <= 64 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    };
    if said.agent.is_empty() || said.agent.len() > 64 || !said.reason.as_ref().is_none_or(is_word) {
        return Err("not the words of an agent".into());
    }
    Ok(Statement {
        agent: said.agent,
        name: cut(said.name.unwrap_or_default()),
        role,
        reason: said.reason,
        draining: said.draining,
        system_identifier,
        timeline: said.timeline.filter(|_| role.is_some()),
        lsn: said.lsn.filter(|_| role.is_some()),
        postmaster_started_unix_s: said.postmaster_started,
        receives: said.receives,
        slot: said.slot.map(cut),
        application_name: said.application_name.map(cut),
        standbys: said.standbys.map(few),
        cascaded: said.cascaded.map(few),
    })
}

fn few(attached: Vec<AttachedStandby>) -> Vec<AttachedStandby> {
    attached.into_iter().take(MAX_STANDBYS).map(AttachedStandby::cut).collect()
}

/// On one line: it stands in the log, too.
fn cut(text: String) -> String {
    let cut = text.chars().take(MAX_NAME_CHARS);
    cut.map(|character| if character.is_control() { '?' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIMARY: &str = r#"{"agent":"a1","name":"node1","agent_version":"9.9","role":"primary","reason":null,
        "draining":false,"system_identifier":"7300000000000000000","timeline":3,"lsn":"0/3000148","since":null,
        "time":null,"postmaster_started":1700000000.5,"slot":null,"application_name":null,"new":{"a":[1]},
        "standbys":[{"application_name":"node2","slot":"s","client_addr":null,"state":"streaming",
        "sync_state":"async","replayed":"0/3000148","new":1}]}"#;

    #[test]
    fn an_answer_is_read_with_what_later_releases_add() {
        let said = read(PRIMARY.as_bytes()).unwrap();
        assert_eq!(
            (said.agent.as_str(), said.name.as_str(), said.role),
            ("a1", "node1", Some(Role::Primary))
        );
        assert_eq!((said.timeline, said.lsn), (Some(3), Some(Lsn(0x300_0148))));
        assert_eq!(said.system_identifier, Some(7_300_000_000_000_000_000));
        assert_eq!(said.standbys.map(|standbys| standbys.len()), Some(1));
        let down = read(br#"{"agent":"a1","role":null,"reason":"connection-refused","timeline":7}"#).unwrap();
        assert_eq!((down.role, down.timeline, down.draining), (None, None, None));
    }

    #[test]
    fn what_no_agent_says_is_refused() {
        let with = |from: &str, to: &str| {
            assert!(PRIMARY.contains(from), "{from}");
            read(PRIMARY.replace(from, to).as_bytes())
        };
        for (from, to) in [
            (r#""role":"primary""#, r#""role":"Primary""#),
            (r#""role":"primary""#, r#""role":1"#),
            (r#""system_identifier":"7300000000000000000""#, r#""system_identifier":7300000000000000000"#),
            (r#""system_identifier":"7300000000000000000""#, r#""system_identifier":null"#),
            (r#""system_identifier":"7300000000000000000""#, r#""system_identifier":"-1""#),
            (r#""timeline":3"#, r#""timeline":null"#),
            (r#""timeline":3"#, r#""timeline":-3"#),
            (r#""lsn":"0/3000148""#, r#""lsn":"here""#),
            (r#""agent":"a1""#, r#""agent":"""#),
            (r#""agent":"a1","#, ""),
            (r#""agent":"a1","#, r#""agent":"a1","agent":"a2","#),
            (r#""reason":null"#, r#""reason":"<script>""#),
            (r#""draining":false"#, r#""draining":"no""#),
        ] {
            assert!(with(from, to).is_err(), "{to}");
        }
        for junk in ["", "null", "[]", "Primary", "{", "{}"] {
            assert!(read(junk.as_bytes()).is_err(), "{junk}");
        }
    }
}
