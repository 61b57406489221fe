//! Amounts as people say them, and text that is safe inside HTML.

/// `0 B`, `512 B`, `4.2 kB`, `160 MB`: with PostgreSQL's units, which are powers of 1024.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64;
    let mut name = "B";
    for unit in UNITS {
        if amount < 1023.5 {
            break;
        }
        amount /= 1024.0;
        name = unit;
    }
    format!("{} {name}", rounded(amount))
}

/// `0 s`, `340 ms`, `4.2 s`, `12 min 5 s`, `3 h 12 min`, `2 d 4 h`.
pub(super) fn duration(seconds: f64) -> String {
    if seconds == 0.0 {
        return "0 s".into();
    }
    if seconds < 0.9995 {
        return format!("{} ms", rounded(seconds * 1000.0));
    }
    if seconds < 59.5 {
        return format!("{} s", rounded(seconds));
    }
    // Saturates, as `as` does.
    let whole = seconds.round() as u64;
    let (large, large_unit, small, small_unit) = match whole {
        0..3600 => (whole / 60, "min", whole % 60, "s"),
        3600..86_400 => (whole / 3600, "h", whole % 3600 / 60, "min"),
        _ => (whole / 86_400, "d", whole % 86_400 / 3600, "h"),
    };
    match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    }
}

/// Two digits are enough; a trailing zero is none.
fn rounded(amount: f64) -> String {
    let text = if amount < 9.95 { format!("{amount:.1}") } else { format!("{amount:.0}") };
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// For text and for attributes in quotes.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // They would change how the rest reads, or cannot stand in HTML at all.
            _ if character.is_control() || is_bidirectional_control(character) => safe.push('\u{fffd}'),
            _ => safe.push(character),
        }
    }
    safe
}

fn is_bidirectional_control(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_postgresqls_units() {
        for (amount, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 kB"),
            (4300, "4.2 kB"),
            (1_048_575, "1 MB"),
            (16 << 20, "16 MB"),
            (5 << 40, "5 TB"),
            (u64::MAX, "16 EB"),
        ] {
            assert_eq!(bytes(amount), expected);
        }
    }

    #[test]
    fn durations_have_two_units_at_most() {
        for (seconds, expected) in [
            (0.0, "0 s"),
            (0.000_21, "0.2 ms"),
            (0.34, "340 ms"),
            (0.9996, "1 s"),
            (4.24, "4.2 s"),
            (45.0, "45 s"),
            (59.7, "1 min"),
            (725.0, "12 min 5 s"),
            (7200.0, "2 h"),
            (11_520.0, "3 h 12 min"),
            (187_200.0, "2 d 4 h"),
            (f64::MAX, "213503982334601 d 7 h"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }

    #[test]
    fn text_from_the_server_cannot_become_markup() {
        assert_eq!(escape("<b a=\"1\" c='&'>"), "&lt;b a=&quot;1&quot; c=&#39;&amp;&#39;&gt;");
        assert_eq!(escape("a\u{202e}b\0\n"), "a\u{fffd}b\u{fffd}\u{fffd}");
        assert_eq!(escape("Zürich 9.6 (Debian)"), "Zürich 9.6 (Debian)");
    }
}
