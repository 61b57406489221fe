//! Which instance this is, among others. Pure.

/// What tells an instance from all others, whoever asks it and over whichever address.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Identity {
    /// The same for a primary and all its standbys.
    pub system_identifier: u64,
    /// When its postmaster started, in seconds since 1970, as the server spells it.
    pub postmaster_started_unix_s: f64,
    /// Of a primary; it changes only with a promotion.
    pub primary_timeline: Option<u32>,
}

/// The question, for those who compare nodes. The name of a WAL file begins with its timeline in hexadecimal.
pub(super) const TEXT: &str = "SELECT system_identifier, extract(epoch FROM pg_catalog.pg_postmaster_start_time()), \
     CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN \
     pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) END \
     FROM pg_catalog.pg_control_system()";

/// Reads the answer; `column` gives the text of a column.
pub(super) fn read<'a>(column: impl Fn(usize) -> Option<&'a str>) -> Option<Identity> {
    let primary_timeline = match column(2) {
        Some(text) => Some(u32::from_str_radix(text, 16).ok()?),
        None => None,
    };
    Some(Identity {
        system_identifier: column(0)?.parse().ok()?,
        postmaster_started_unix_s: column(1)?.parse().ok()?,
        primary_timeline,
    })
}

#[cfg(test)]
mod tests {
    use super::{Identity, read};

    #[test]
    fn an_answer_is_read_whole_or_not_at_all() {
        let of = |row: [Option<&'static str>; 3]| read(move |column| row[column]);
        let primary = [Some("7300000000000000000"), Some("1700000000.123456"), Some("0000000A")];
        let expected = Identity {
            system_identifier: 7_300_000_000_000_000_000,
            postmaster_started_unix_s: 1_700_000_000.123_456,
            primary_timeline: Some(10),
        };
        assert_eq!(of(primary), Some(expected));
        assert_eq!(of([primary[0], primary[1], None]).map(|it| it.primary_timeline), Some(None));
        assert_eq!(of([None, primary[1], None]), None);
        assert_eq!(of([primary[0], Some("soon"), None]), None);
        assert_eq!(of([primary[0], primary[1], Some("")]), None);
    }
}
