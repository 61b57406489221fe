//! By which name the sender knows this standby. Pure.

use crate::config::is_libpq_keyword;

/// The `application_name` of a connection, from `pg_stat_wal_receiver.conninfo`. Values are not quoted there
/// (libpqwalreceiver.c, `libpqrcv_get_conninfo`): one ends where the next keyword of libpq's begins.
pub(super) fn application_name(conninfo: &str) -> Option<String> {
    // libpq, too, takes the second where the first is missing or empty.
    let values = ["application_name", "fallback_application_name"].map(|keyword| value(conninfo, keyword));
    values.into_iter().flatten().find(|name| !name.is_empty()).map(str::to_owned)
}

fn value<'a>(conninfo: &'a str, keyword: &str) -> Option<&'a str> {
    let starts = std::iter::once(0).chain(conninfo.match_indices(' ').map(|(space, _)| space + 1));
    let mut values = starts.filter_map(|start| conninfo[start..].strip_prefix(keyword)?.strip_prefix('='));
    let rest = values.next()?;
    let mut spaces = rest.match_indices(' ').map(|(space, _)| space);
    let end = spaces.find(|space| {
        let next = rest[space + 1..].split_once('=');
        next.is_some_and(|(word, _)| is_libpq_keyword(word))
    });
    Some(&rest[..end.unwrap_or(rest.len())])
}

#[cfg(test)]
mod tests {
    use super::application_name;

    #[test]
    fn the_name_ends_where_the_next_keyword_begins() {
        let table = [
            ("user=postgres application_name=node2 sslmode=prefer", Some("node2")),
            ("application_name=node 2 of=the=cluster", Some("node 2 of=the=cluster")),
            ("user=a fallback_application_name=walreceiver sslmode=prefer", Some("walreceiver")),
            ("application_name= fallback_application_name=cluster a port=1", Some("cluster a")),
            ("user=application_name=x", None),
            ("user=postgres host=node1", None),
            ("", None),
        ];
        for (conninfo, expected) in table {
            assert_eq!(application_name(conninfo).as_deref(), expected, "{conninfo}");
        }
    }
}
