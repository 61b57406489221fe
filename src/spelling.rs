//! How PostgreSQL spells durations and sizes (PostgreSQL manual, section 20.1.1, "Parameter Names and Values"), as the
//! command line, the configuration file and query parameters do; and names.

use std::time::Duration;

/// Whole numbers with the units of `postgresql.conf` (PostgreSQL manual, section 20.1.1). Unlike there, a bare
/// number is an error: nobody remembers which unit it would have.
pub fn duration(value: &str) -> Result<Duration, String> {
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = value.split_at(digits);
    let unit = unit.trim_ascii_start();
    if number.is_empty() || !unit.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err("expected a whole number and a unit (2s, 500ms)".into());
    }
    let microseconds: u64 = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "min" => 60 * 1_000_000,
        "h" => 3_600 * 1_000_000,
        "d" => 24 * 3_600 * 1_000_000,
        "" if number.bytes().all(|digit| digit == b'0') => 0,
        "" => return Err("a duration needs a unit (2s, 500ms)".into()),
        _ => return Err(format!("unknown unit {unit}, expected us, ms, s, min, h or d")),
    };
    let microseconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(microseconds));
    microseconds.map(Duration::from_micros).ok_or_else(|| "the number is too large".into())
}

/// A size in bytes: numbers with the units of `postgresql.conf`, which are powers of 1024; without a unit it is bytes. A
/// fraction of a byte does not count.
pub fn size(value: &str) -> Result<u64, String> {
    let is_number = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let (number, unit) = value.split_at(value.bytes().take_while(|byte| is_number(byte)).count());
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let unit = unit.trim_ascii_start();
    let is_empty = whole.is_empty() || fraction.is_empty();
    if is_empty || fraction.contains('.') || !unit.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err("expected a number and a unit (16MB; B, kB, MB, GB, TB)".into());
    }
    let shift = match unit {
        "" | "B" => 0,
        "kB" => 10,
        "MB" => 20,
        "GB" => 30,
        "TB" => 40,
        _ => return Err(format!("unknown unit {unit}, expected B, kB, MB, GB or TB")),
    };
    let bytes = whole.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes
        .and_then(|bytes| bytes.checked_add(fraction_of(fraction, 1 << shift)))
        .ok_or_else(|| "the number is too large".into())
}

/// `0.fraction` of `unit`; digits that are too many to count do not.
fn fraction_of(fraction: &str, unit: u64) -> u64 {
    const COUNTED: usize = 18;
    let digits = &fraction[..fraction.len().min(COUNTED)];
    let parts = digits.parse::<u128>().unwrap_or(0) * u128::from(unit);
    let places = u32::try_from(digits.len()).unwrap_or(0);
    u64::try_from(parts / 10_u128.pow(places)).unwrap_or(0)
}

/// A name as SQL reads it, in quotes where it needs them.
pub fn identifier(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_lowercase() || c == '_';
    match !name.is_empty() && name.chars().all(is_plain) {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

/// A value as errors show it: in double quotes, control characters escaped, cut after 60 characters.
pub fn quote(value: &str) -> String {
    const SHOWN: usize = 60;
    let end = value.char_indices().nth(SHOWN).map(|(end, _)| end);
    match end {
        Some(end) => format!("\"{}...\"", printable(&value[..end])),
        None => format!("\"{}\"", printable(value)),
    }
}

/// The text with its control characters escaped, line feeds among them.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_postgresqls_units() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("2s", 2_000),
            ("2 s", 2_000),
            ("1min", 60_000),
            ("1h", 3_600_000),
            ("10000us", 10),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(duration("1d"), Ok(Duration::from_secs(86_400)));
        for (text, error) in [
            ("2", "a duration needs a unit (2s, 500ms)"),
            ("", "expected a whole number and a unit (2s, 500ms)"),
            ("s", "expected a whole number and a unit (2s, 500ms)"),
            ("1.5s", "expected a whole number and a unit (2s, 500ms)"),
            ("-1s", "expected a whole number and a unit (2s, 500ms)"),
            ("two seconds", "expected a whole number and a unit (2s, 500ms)"),
            ("2sec", "unknown unit sec, expected us, ms, s, min, h or d"),
            ("2S", "unknown unit S, expected us, ms, s, min, h or d"),
            ("99999999999999999999s", "the number is too large"),
            ("18446744073709551615s", "the number is too large"),
        ] {
            assert_eq!(duration(text), Err(error.into()), "{text:?}");
        }
    }

    #[test]
    fn sizes_have_postgresqls_units() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("5B", 5),
            ("1kB", 1024),
            ("16MB", 16 << 20),
            ("2 GB", 2 << 30),
            ("1TB", 1 << 40),
            ("1.5GB", 3 << 29),
            ("0.5 kB", 512),
            ("0.0009kB", 0),
            ("1.9", 1),
            ("1.0000000000000000000000001MB", 1 << 20),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (text, error) in [
            ("", "expected a number and a unit (16MB; B, kB, MB, GB, TB)"),
            ("MB", "expected a number and a unit (16MB; B, kB, MB, GB, TB)"),
            ("-1MB", "expected a number and a unit (16MB; B, kB, MB, GB, TB)"),
            (".5MB", "expected a number and a unit (16MB; B, kB, MB, GB, TB)"),
            ("1.MB", "expected a number and a unit (16MB; B, kB, MB, GB, TB)"),
            ("1.5.1MB", "expected a number and a unit (16MB; B, kB, MB, GB, TB)"),
            ("16mb", "unknown unit mb, expected B, kB, MB, GB or TB"),
            ("16KB", "unknown unit KB, expected B, kB, MB, GB or TB"),
            ("99999999TB", "the number is too large"),
            ("18446744073709551616", "the number is too large"),
        ] {
            assert_eq!(size(text), Err(error.into()), "{text:?}");
        }
    }

    #[test]
    fn quoted_values_are_short_and_stay_on_one_line() {
        assert_eq!(quote("a b"), "\"a b\"");
        assert_eq!(quote("a\nb\u{7}"), "\"a\\nb\\u{7}\"");
        assert_eq!(quote(&"x".repeat(60)), format!("\"{}\"", "x".repeat(60)));
        assert_eq!(quote(&"x".repeat(61)), format!("\"{}...\"", "x".repeat(60)));
    }
}
