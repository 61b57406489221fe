//! What has to hold for whatever a server answers.

use super::{Needs, Recovery, Sighting, doubt, query};

/// Between the columns, and in place of one: bytes that text never holds.
const SEPARATOR: u8 = 0xff;
const NULL: &[u8] = &[0xfe];

/// Reads a row: the first byte says what is needed, the rest is the columns. Its highest bit: it is the answer to the
/// second query.
pub(crate) fn row(bytes: &[u8]) -> Option<Sighting> {
    let (first, rest) = bytes.split_first()?;
    let bit = |place: u8| first >> place & 1 == 1;
    let needs = Needs {
        standbys: bit(3) && bit(4),
        writability: bit(0),
        timeline: bit(1),
        replication: bit(2),
        server: bit(3),
        position: bit(3),
        sender: bit(4),
        names: bit(4),
        recovery: bit(5),
        replay_delay: bit(6),
        ..Needs::default()
    };
    let columns: Vec<Option<String>> = rest
        .split(|byte| *byte == SEPARATOR)
        .map(|column| (column != NULL).then(|| String::from_utf8_lossy(column).into_owned()))
        .collect();
    if bit(7) {
        return doubt(columns.iter().map(Option::as_deref), needs);
    }
    let sighting = query::read(columns.iter().map(Option::as_deref), needs)?;
    let asked = [
        (needs.writability, 1),
        (needs.timeline, 1),
        (needs.replication, 9),
        (needs.replication && needs.sender, 5),
        (needs.recovery, 1),
        (needs.recovery && !needs.replication, 1),
        (needs.recovery && needs.replay_delay, 1),
        (needs.server, 4),
        (needs.standbys, 1),
    ];
    let asked: usize = asked.iter().filter(|(is_asked, _)| *is_asked).map(|(_, count)| count).sum();
    assert_eq!(columns.len(), 1 + asked, "one column for each question");
    let column = |index: usize| columns.get(index).and_then(Option::as_deref);
    assert!(matches!(column(0), Some("t" | "f")), "a role is what was said, or none");
    assert_eq!(sighting.role == super::Role::Standby, column(0) == Some("t"));
    assert_eq!(
        sighting.read_only_default.is_some(),
        needs.writability,
        "nothing is missing, nothing is made up"
    );
    assert_eq!(sighting.timeline.is_some(), needs.timeline);
    assert_eq!(sighting.server.is_some(), needs.server);
    assert_eq!(sighting.recovery.is_some(), needs.recovery && sighting.role == super::Role::Standby);
    assert_eq!(sighting.replication.is_some(), needs.replication && sighting.role == super::Role::Standby);
    Some(sighting)
}

/// What was known stays, and nothing is made up.
fn doubt<'a>(columns: impl Iterator<Item = Option<&'a str>>, needs: Needs) -> Option<Sighting> {
    let known = Recovery { is_paused: true, ..Recovery::default() };
    let recovery = doubt::end(columns, known, needs)?;
    assert!(recovery.is_paused && !recovery.sources.has_receiver);
    assert!(recovery.delay.is_none() || needs.replay_delay);
    Some(Sighting { recovery: Some(recovery), ..Sighting::of_role(super::Role::Standby) })
}

#[cfg(test)]
mod tests {
    use super::row;

    /// Seeds that are refused at their first column lead the fuzzer nowhere: so it was when the columns changed places.
    #[test]
    fn seeds_of_every_need_are_read() {
        let standby: &[u8] = include_bytes!("../../fuzz/corpus/row/everything");
        let primary: &[u8] = include_bytes!("../../fuzz/corpus/row/primary-everything");
        let lag: &[u8] = include_bytes!("../../fuzz/corpus/row/lag");
        let recovery: &[u8] = include_bytes!("../../fuzz/corpus/row/recovery");
        let restore: &[u8] = include_bytes!("../../fuzz/corpus/row/restore");
        for seed in [standby, primary, lag, recovery, restore] {
            assert!(row(seed).is_some(), "{}", seed.escape_ascii());
        }
    }
}
