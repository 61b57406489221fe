//! What somebody may have meant who typed a name that there is not.

use super::is_libpq_keyword;
use super::options::options;

/// Letters that may be wrong, missing, too many or out of order.
const MAX_SLIPS: usize = 2;

/// `; did you mean timeout?`, or nothing. `prefix` goes ahead of the name, as where it was typed.
pub fn option(typed: &str, prefix: &str) -> String {
    let normal = normal(typed);
    if let Some(word) = nearest(&normal, options().map(|option| option.word)) {
        return format!("; did you mean {prefix}{word}?");
    }
    match is_libpq_keyword(&normal.replace('-', "_")) {
        true if prefix.is_empty() => format!("; it belongs into dsn ({})", in_dsn(&normal)),
        true => format!("; it belongs into --dsn ({})", in_dsn(&normal)),
        false => String::new(),
    }
}

/// `; did you mean check?`, or nothing.
pub fn action(typed: &str, known: &[&'static str]) -> String {
    let normal = normal(typed);
    if normal == "help" || normal == "version" {
        return format!("; did you mean --{normal}?");
    }
    nearest(&normal, known.iter().copied()).map(|word| format!("; did you mean {word}?")).unwrap_or_default()
}

/// An example that holds nothing of what was typed.
fn in_dsn(keyword: &str) -> &'static str {
    match keyword {
        "port" => "dsn = port=5433",
        _ => "dsn = host=/run/postgresql port=5432",
    }
}

fn normal(typed: &str) -> String {
    typed.trim_start_matches('-').to_ascii_lowercase().replace('_', "-")
}

fn nearest(typed: &str, words: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    // Of three letters two are too many.
    let limit = MAX_SLIPS.min(typed.chars().count() / 3);
    let near = words.map(|word| (slips(typed, word), word)).filter(|(slips, _)| *slips <= limit);
    near.min_by_key(|(slips, _)| *slips).map(|(_, word)| word)
}

/// How many letters have to be changed, added, left out or swapped with their neighbour (optimal string alignment).
fn slips(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().take(64).collect(), to.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for row in 1..=from.len() {
        let mut next = vec![row];
        for column in 1..=to.len() {
            let is_same = from[row - 1] == to[column - 1];
            let mut best = (rows[row - 1][column] + 1)
                .min(next[column - 1] + 1)
                .min(rows[row - 1][column - 1] + usize::from(!is_same));
            let is_swapped =
                row > 1 && column > 1 && from[row - 1] == to[column - 2] && from[row - 2] == to[column - 1];
            if is_swapped {
                best = best.min(rows[row - 2][column - 2] + 1);
            }
            next.push(best);
        }
        rows.push(next);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger_are_understood() {
        for (typed, meant) in [
            ("--listne", "; did you mean --listen?"),
            ("--max_lag", "; did you mean --max-lag?"),
            ("--Timeout", "; did you mean --timeout?"),
            ("--dns", "; did you mean --dsn?"),
            ("--port", "; it belongs into --dsn (dsn = port=5433)"),
            ("--application-name", "; it belongs into --dsn (dsn = host=/run/postgresql port=5432)"),
            ("--connect_timeout", "; it belongs into --dsn (dsn = host=/run/postgresql port=5432)"),
            ("--bogus", ""),
            ("--x", ""),
            ("--", ""),
            (&"-".repeat(100), ""),
            (&"x".repeat(100_000), ""),
        ] {
            assert_eq!(option(typed, "--"), meant, "{typed:.20}");
        }
        assert_eq!(option("max_lag", ""), "; did you mean max-lag?");
        assert_eq!(option("host", ""), "; it belongs into dsn (dsn = host=/run/postgresql port=5432)");
        let known = ["standalone", "xinetd", "check", "drain", "undrain", "cluster", "doctor"];
        for (typed, meant) in [
            ("chekc", "; did you mean check?"),
            ("help", "; did you mean --help?"),
            ("status", ""),
            ("s3cret", ""),
            ("undrian", "; did you mean undrain?"),
        ] {
            assert_eq!(action(typed, &known), meant, "{typed}");
        }
    }
}
