//! What a node sees of those that receive WAL from it.

use serde::{Deserialize, Serialize};

use super::Lsn;

/// So many are looked at; PostgreSQL itself lets in 10 unless `max_wal_senders` says otherwise.
pub const MAX_STANDBYS: usize = 24;

/// The longest name in PostgreSQL (`NAMEDATALEN`); an address is shorter.
pub const MAX_NAME_BYTES: usize = 63;

/// A WAL sender, as `pg_stat_replication` shows it to `pg_monitor` (PostgreSQL manual, section 27.2.4). So it stands on
/// `/node`, too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AttachedStandby {
    /// `application_name`; several may have the same.
    pub application_name: Option<String>,
    /// The physical replication slot that it uses, if it uses one: `pg_replication_slots.slot_name`.
    pub slot: Option<String>,
    /// Where it comes from; `None` through a Unix socket.
    pub client_addr: Option<String>,
    /// `state`: `startup`, `catchup`, `streaming`, `backup` or `stopping`.
    pub state: Option<String>,
    /// `sync_state`: `async`, `potential`, `sync` or `quorum`.
    pub sync_state: Option<String>,
    /// `replay_lsn`: what it has said that it has replayed.
    pub replayed: Option<Lsn>,
}

impl AttachedStandby {
    /// The same with its texts cut to what PostgreSQL could have said, on one line.
    pub fn cut(self) -> AttachedStandby {
        AttachedStandby {
            application_name: self.application_name.map(cut_name),
            slot: self.slot.map(cut_name),
            client_addr: self.client_addr.map(cut_name),
            state: self.state.map(cut_name),
            sync_state: self.sync_state.map(cut_name),
            replayed: self.replayed,
        }
    }
}

fn cut_name(text: String) -> String {
    let mut end = text.len().min(MAX_NAME_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace(char::is_control, "?")
}

/// One column: all of them as JSON, an empty list where there is none. Those that a commit waits for come first. Base
/// backups and `pg_receivewal` are among them; logical replication is not. What stands behind `pg_stat_replication` and
/// `pg_replication_slots` is asked itself: a session that has not prepared the question, as each new one and one through a
/// pooler, answers in less than half the time; one that has, as soon either way.
pub(super) const STANDBYS: &str = ", (SELECT coalesce(pg_catalog.jsonb_agg(s), '[]')::pg_catalog.text FROM \
     (SELECT a.application_name, l.slot_name AS slot, pg_catalog.host(a.client_addr) AS client_addr, \
     w.state, w.sync_state, w.replay_lsn AS replayed FROM pg_catalog.pg_stat_get_wal_senders() AS w \
     CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(w.pid) AS a \
     LEFT JOIN pg_catalog.pg_get_replication_slots() AS l ON l.active_pid = w.pid \
     WHERE l.slot_type IS DISTINCT FROM 'logical' \
     ORDER BY w.sync_priority = 0, w.pid LIMIT 24) AS s)";

/// Reads the column. The inner `None`: the role may not see them all. The outer one: that is no answer to this question.
pub(super) fn read(text: &str) -> Option<Option<Vec<AttachedStandby>>> {
    let rows: Vec<AttachedStandby> = serde_json::from_str(text).ok()?;
    if rows.len() > MAX_STANDBYS {
        return None;
    }
    let is_visible = rows.iter().all(|row| row.state.is_some());
    Some(is_visible.then(|| rows.into_iter().map(AttachedStandby::cut).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_that_of_the_question() {
        assert!(STANDBYS.contains(&format!("LIMIT {MAX_STANDBYS}")));
        let rows = |count| format!("[{}]", vec![r#"{"state":"streaming"}"#; count].join(","));
        assert!(read(&rows(MAX_STANDBYS)).is_some());
        assert_eq!(read(&rows(MAX_STANDBYS + 1)), None);
    }

    #[test]
    fn what_is_hidden_is_not_known_and_what_is_no_list_is_no_answer() {
        let row = r#"{"slot":null,"state":"streaming","replayed":"0/3000148","sync_state":"async",
            "client_addr":"192.0.2.12","application_name":"node2"}"#;
        let seen = AttachedStandby {
            application_name: Some("node2".into()),
            slot: None,
            client_addr: Some("192.0.2.12".into()),
            state: Some("streaming".into()),
            sync_state: Some("async".into()),
            replayed: Some(Lsn(0x300_0148)),
        };
        assert_eq!(read(&format!("[{row}]")), Some(Some(vec![seen])));
        assert_eq!(read("[]"), Some(Some(Vec::new())));
        assert_eq!(read(&format!("[{row},{{\"state\":null}}]")), Some(None));
        for text in ["", "null", "{}", "[1]", r#"[{"state":"streaming","replayed":"here"}]"#] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn no_text_is_longer_than_a_name() {
        let name = Some(format!("{}\n\u{e4}\u{e4}", "x".repeat(60)));
        let cut = AttachedStandby { application_name: name, ..AttachedStandby::default() }.cut();
        assert_eq!(cut.application_name, Some(format!("{}?\u{e4}", "x".repeat(60))));
    }
}
