//! Replies by path and code.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::verdict::Path;

/// Every code that a reply can have.
const CODES: [u16; 9] = [200, 206, 400, 404, 405, 408, 413, 431, 503];

/// The label of requests that ask for nothing we know, whatever they ask for.
const OTHER: &str = "other";

/// All paths, and then the others.
const ROWS: usize = Path::ALL.len() + 1;

/// Replies given.
#[derive(Default)]
pub struct Requests([[AtomicU64; CODES.len()]; ROWS]);

/// How many replies were given.
pub struct RequestCounts([[u64; CODES.len()]; ROWS]);

impl Requests {
    /// A request got its reply. `path` is `None` where it asked for nothing we know; what is asked over the
    /// agent-check counts with the code that HTTP would have had for it.
    pub fn count(&self, path: Option<Path>, code: u16) {
        let row = path.map_or(Path::ALL.len(), |path| path as usize);
        let column = CODES.iter().position(|known| *known == code);
        debug_assert!(column.is_some(), "code {code} is not counted");
        if let Some(column) = column {
            self.0[row][column].fetch_add(1, Relaxed);
        }
    }

    pub(super) fn counts(&self) -> RequestCounts {
        RequestCounts(self.0.each_ref().map(|row| row.each_ref().map(|cell| cell.load(Relaxed))))
    }
}

impl RequestCounts {
    /// Path, code and count: of every pair that can occur, so that a series is there before its first event and
    /// none is added later.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u16, u64)> {
        let paths = Path::ALL.map(Some).into_iter().chain([None]);
        paths.zip(&self.0).flat_map(|(path, row)| {
            let name = path.map_or(OTHER, Path::name);
            let cells = CODES.into_iter().zip(row);
            cells
                .filter(move |(code, count)| **count > 0 || can_answer(path, *code))
                .map(move |(code, count)| (name, code, *count))
        })
    }
}

/// Whether this code is to be expected from that path.
fn can_answer(path: Option<Path>, code: u16) -> bool {
    match path {
        Some(Path::Contract) => matches!(code, 200 | 206 | 404 | 503),
        Some(path) if path.is_document() || path == Path::Liveness => code == 200,
        // 404 of `/health` and `/readiness`: over the agent-check.
        Some(_) => matches!(code, 200 | 404 | 503),
        None => !matches!(code, 200 | 206 | 503),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_has_its_own_counter_and_all_that_can_occur_are_there_from_the_start() {
        let requests = Requests::default();
        let before: Vec<_> = requests.counts().iter().collect();
        let expected = before.iter().map(|(path, code, _)| (*path, *code, 1)).collect::<Vec<_>>();
        for path in Path::ALL.map(Some).into_iter().chain([None]) {
            for code in CODES.into_iter().filter(|code| can_answer(path, *code)) {
                requests.count(path, code);
            }
        }
        assert_eq!(requests.counts().iter().collect::<Vec<_>>(), expected);
        assert!(before.contains(&("/", 206, 0)) && before.contains(&("other", 431, 0)), "{before:?}");
    }

    #[test]
    fn what_was_not_expected_is_counted_all_the_same() {
        let requests = Requests::default();
        requests.count(Some(Path::Liveness), 503);
        assert!(requests.counts().iter().any(|row| row == ("/liveness", 503, 1)));
    }

    /// The counters are found by a path's place in the enum, and named by its place in the list.
    #[test]
    fn the_list_of_paths_has_the_order_of_the_enum() {
        for (place, path) in Path::ALL.into_iter().enumerate() {
            assert_eq!(path as usize, place, "{path:?}");
        }
    }
}
