//! Connection strings: keyword/value form, PostgreSQL manual section 34.1.1.1; URIs are next door.
//!
//! Written here because the `postgres` crate's parser hides which keywords were given, knows few of libpq's,
//! and puts values into its errors. No error of ours shows any part of a connection string that could belong
//! to a password, and that is nearly all of it once a quote was forgotten.
use super::keywords::{self, Keyword};
use super::uri;
use crate::spelling::quote;

/// The parameters of a connection string in the order given; as in libpq, the last of a kind counts.
pub fn parse(text: &str) -> Result<Vec<(&'static Keyword, String)>, String> {
    let pairs = match uri::without_scheme(text) {
        Some(rest) => uri::parse(rest)?,
        None => key_values(text)?,
    };
    let may_hold_password = text.contains("password") || text.contains('@');
    pairs
        .into_iter()
        .enumerate()
        .map(|(index, (name, value))| {
            // The spelling of PostgreSQL before 8.0, which libpq still translates.
            let (name, value) = match name.as_str() {
                "requiressl" if value.starts_with('1') => ("sslmode", "require".to_owned()),
                "requiressl" => ("sslmode", "prefer".to_owned()),
                name => (name, value),
            };
            match keywords::find(name) {
                Some(_) if value.contains('\0') => Err(format!("{name}: the value contains a NUL character")),
                Some(keyword) => Ok((keyword, value)),
                None if may_hold_password => Err(format!(
                    "parameter {} is not a connection option (not shown, it may be part of a password; values \
                     with spaces need single quotes)",
                    index + 1
                )),
                None => Err(format!("invalid connection option {}", quote(name))),
            }
        })
        .collect()
}

/// What a connection string gives for a keyword: the inner `None` where nothing. The outer one: it is no connection string.
pub fn value_of(text: &str, keyword: &str) -> Option<Option<String>> {
    let given = parse(text).ok()?.into_iter().rev().find(|(given, _)| given.name == keyword);
    Some(given.map(|(_, value)| value))
}

/// `name = value` pairs: white space around `=`, values in single quotes, backslash before any character.
fn key_values(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let number = pairs.len() + 1;
        let name_end = rest.find(|character| character == '=' || is_space(character)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(name_end);
        let after = after.trim_start_matches(is_space).strip_prefix('=').ok_or_else(|| {
            format!(
                "missing \"=\" after the name of parameter {number} (values with spaces need single quotes)"
            )
        })?;
        let (value, after) = value(after.trim_start_matches(is_space))
            .ok_or_else(|| format!("unterminated quoted string in parameter {number}"))?;
        pairs.push((name.to_owned(), value));
        rest = after.trim_start_matches(is_space);
    }
    Ok(pairs)
}

/// The value at the start of `text` and what follows it; `None` where the closing quote is missing.
fn value(text: &str) -> Option<(String, &str)> {
    let (quoted, text) = match text.strip_prefix('\'') {
        Some(inner) => (true, inner),
        None => (false, text),
    };
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            // A backslash at the very end stands for nothing.
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Some((value, &text[at + 1..])),
            space if !quoted && is_space(space) => return Some((value, &text[at..])),
            other => value.push(other),
        }
    }
    (!quoted).then_some((value, ""))
}

/// C's `isspace`.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Result<Vec<(&str, String)>, String> {
        Ok(parse(text)?.into_iter().map(|(keyword, value)| (keyword.name, value)).collect())
    }

    #[test]
    fn keyword_value_strings_follow_libpq() {
        for (text, expected) in [
            ("", &[][..]),
            (" \t\n", &[]),
            ("host=/run/postgresql user=x", &[("host", "/run/postgresql"), ("user", "x")]),
            ("  host = h\tport\n=\n5433 ", &[("host", "h"), ("port", "5433")]),
            ("user='a b' dbname=c", &[("user", "a b"), ("dbname", "c")]),
            (r"user='it\'s' password='\\'", &[("user", "it's"), ("password", r"\")]),
            (r"user=it\'s\ me", &[("user", "it's me")]),
            (r"user=a\\b\c", &[("user", r"a\bc")]),
            (r"user=a\", &[("user", "a")]),
            ("user='' dbname=x", &[("user", ""), ("dbname", "x")]),
            ("user=", &[("user", "")]),
            ("port='1'user=x", &[("port", "1"), ("user", "x")]),
            ("user=a'b'", &[("user", "a'b'")]),
            ("options=-c\\ a=b", &[("options", "-c a=b")]),
            ("password=a=b", &[("password", "a=b")]),
            // An unquoted empty value takes the next word: libpq skips the white space after "=".
            ("user= dbname=x", &[("user", "dbname=x")]),
            ("port=1 port=2", &[("port", "1"), ("port", "2")]),
            ("requiressl=1", &[("sslmode", "require")]),
            ("requiressl=0", &[("sslmode", "prefer")]),
            ("user='é'", &[("user", "é")]),
        ] {
            let expected = expected.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
            assert_eq!(pairs(text), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn errors_say_which_parameter_and_show_no_value() {
        let unshown = "parameter 2 is not a connection option (not shown, it may be part of a password; values with \
                       spaces need single quotes)";
        let missing = |number: u8| {
            format!(
                "missing \"=\" after the name of parameter {number} (values with spaces need single quotes)"
            )
        };
        for (text, expected) in [
            ("foo=x", "invalid connection option \"foo\"".to_owned()),
            ("=x", "invalid connection option \"\"".into()),
            ("Host=x", "invalid connection option \"Host\"".into()),
            ("mydb", missing(1)),
            ("host", missing(1)),
            ("password=my s3cret", missing(2)),
            ("password=my s3c=ret", unshown.into()),
            ("user='x", "unterminated quoted string in parameter 1".into()),
            ("host=h password='s3cret\\'", "unterminated quoted string in parameter 2".into()),
            ("user='a\0b'", "user: the value contains a NUL character".into()),
        ] {
            assert_eq!(pairs(text), Err(expected), "{text:?}");
        }
    }
}
