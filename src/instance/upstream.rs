//! By which name the sender knows this standby. Pure.

use crate::config::{is_libpq_keyword, value_of};

/// Whatever is given besides: libpqwalreceiver.c gives this one itself, and so it stands in all that libpq says.
const FALLBACK: &str = "fallback_application_name";

/// The name where nobody has given one.
const WALRECEIVER: &str = "walreceiver";

/// The `application_name` of a connection, from `pg_stat_wal_receiver.conninfo`. That is what libpq makes of it; but once the
/// receiver has gone from one timeline to the next, as at each failover, it is `primary_conninfo` as it was written
/// (walreceiverfuncs.c, `RequestXLogStreaming`).
pub(super) fn application_name(conninfo: &str, cluster_name: Option<&str>) -> Option<String> {
    match value(conninfo, FALLBACK) {
        Some(fallback) => {
            // libpq, too, takes the second where the first is missing or empty.
            let names = [value(conninfo, "application_name"), Some(fallback)];
            names.into_iter().flatten().find(|name| !name.is_empty()).map(str::to_owned)
        }
        None => name_as_written(conninfo, cluster_name),
    }
}

/// `None` where the name may stand in a file that is not seen from here.
fn name_as_written(conninfo: &str, cluster_name: Option<&str>) -> Option<String> {
    if value_of(conninfo, "service")?.is_some() {
        return None;
    }
    let given = value_of(conninfo, "application_name")?;
    let names = [given.as_deref(), cluster_name, Some(WALRECEIVER)];
    names.into_iter().flatten().find(|name| !name.is_empty()).map(str::to_owned)
}

/// Values are not quoted there (libpqwalreceiver.c, `libpqrcv_get_conninfo`): one ends where the next keyword of libpq's
/// begins.
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
            (
                "user=postgres application_name=node2 fallback_application_name=a sslmode=prefer",
                Some("node2"),
            ),
            (
                "application_name=node 2 of=the=cluster fallback_application_name=a",
                Some("node 2 of=the=cluster"),
            ),
            ("user=a fallback_application_name=walreceiver sslmode=prefer", Some("walreceiver")),
            ("application_name= fallback_application_name=cluster a port=1", Some("cluster a")),
            ("user=application_name=x fallback_application_name=a", Some("a")),
        ];
        for (conninfo, expected) in table {
            assert_eq!(application_name(conninfo, Some("c")).as_deref(), expected, "{conninfo}");
        }
    }

    #[test]
    fn as_it_was_written_it_has_libpqs_quotes_and_no_fallback() {
        let table = [
            ("user=postgres application_name='node 2'", Some("c"), Some("node 2")),
            (r"application_name = 'it\'s' host=node1", Some("c"), Some("it's")),
            ("postgresql://node1/?application_name=node%202", Some("c"), Some("node 2")),
            ("host=node1 user=postgres", Some("c"), Some("c")),
            ("host=node1 application_name=''", Some("c"), Some("c")),
            ("host=node1", Some(""), Some("walreceiver")),
            // Before PostgreSQL 12.
            ("host=node1", None, Some("walreceiver")),
            ("service=upstream", Some("c"), None),
            ("host=node1 application_name='x", Some("c"), None),
        ];
        for (conninfo, cluster_name, expected) in table {
            assert_eq!(application_name(conninfo, cluster_name).as_deref(), expected, "{conninfo}");
        }
    }
}
