//! The configuration file: lines of `name = value`.
//!
//! `#` starts a comment at the start of a line or after white space. A value may stand in double or single
//! quotes, which keep white space and `#` inside it; inside them a doubled quote stands for one, as in
//! `postgresql.conf`. Repeatable options repeat the line.
use super::options::OptionInfo;
use super::suggestion;
use crate::spelling::quote;

/// One line's setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1.
    pub number: usize,
    /// The option.
    pub option: &'static OptionInfo,
    /// The value without its quotes, not yet validated.
    pub value: String,
}

/// Reads the file's text; an error starts with the number of its line, `12: <why>`.
pub fn parse(text: &str) -> Result<Vec<Line>, String> {
    let mut settings: Vec<Line> = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let error = |why: String| format!("{number}: {why}");
        // Nothing of the line is shown: it may be the rest of a connection string that was broken in two.
        let (word, value) = line.split_once('=').ok_or_else(|| error("expected name = value".into()))?;
        let word = word.trim_end();
        let option = OptionInfo::find(word).ok_or_else(|| {
            error(format!("unknown option {}{}", quote(word), suggestion::option(word, "")))
        })?;
        if !option.is_setting() {
            return Err(error(format!("{word} stands on the command line only")));
        }
        if let Some(first) =
            settings.iter().find(|setting| setting.option == option && !option.is_repeatable())
        {
            return Err(error(format!("{word} is already set in line {}", first.number)));
        }
        let value = unquote(value.trim_start()).map_err(|why| error(format!("{word}: {why}")))?;
        settings.push(Line { number, option, value });
    }
    Ok(settings)
}

/// The value without quotes and comment.
fn unquote(text: &str) -> Result<String, &'static str> {
    let Some(quote) = text.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
        return Ok(without_comment(text).to_owned());
    };
    let mut value = String::new();
    let mut rest = &text[1..];
    loop {
        let (part, after) = rest.split_once(quote).ok_or("the closing quote is missing")?;
        value.push_str(part);
        match after.strip_prefix(quote) {
            Some(after) => {
                value.push(quote);
                rest = after;
            }
            None if without_comment(after).is_empty() => return Ok(value),
            None => return Err("there is text after the closing quote"),
        }
    }
}

fn without_comment(text: &str) -> &str {
    let mut after_space = true;
    for (at, character) in text.char_indices() {
        if character == '#' && after_space {
            return text[..at].trim_end();
        }
        after_space = character.is_whitespace();
    }
    text.trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_names_and_values() {
        for (line, name, value) in [
            ("timeout = 2s", "timeout", "2s"),
            ("timeout=2s", "timeout", "2s"),
            ("\t timeout \t=\t 2s \t", "timeout", "2s"),
            ("timeout = 2s # why", "timeout", "2s"),
            ("timeout = 2s# why", "timeout", "2s# why"),
            ("timeout = \"2s\"", "timeout", "2s"),
            ("timeout = '2s' # why", "timeout", "2s"),
            ("timeout = \"2s\"# why", "timeout", "2s"),
            ("timeout =", "timeout", ""),
            ("timeout = # none", "timeout", ""),
            ("dsn = host=/run/postgresql user=x", "dsn", "host=/run/postgresql user=x"),
            ("dsn = user='a b' password='p#q'", "dsn", "user='a b' password='p#q'"),
            ("dsn = \"password='p # q' user=x\"", "dsn", "password='p # q' user=x"),
            ("dsn = 'user=''a b'''", "dsn", "user='a b'"),
            ("dsn = \"user=a\"\"b\"", "dsn", "user=a\"b"),
            (
                "dsn = postgres://u:p%40@h/?application_name=x",
                "dsn",
                "postgres://u:p%40@h/?application_name=x",
            ),
            ("dsn = \"\"", "dsn", ""),
        ] {
            let option = OptionInfo::find(name).unwrap();
            assert_eq!(parse(line), Ok(vec![Line { number: 1, option, value: value.into() }]), "{line}");
        }
    }

    #[test]
    fn comments_and_empty_lines_count_as_lines() {
        let lines = parse("\u{feff}# c\r\n\r\n  # c\nlisten = a\r\nlisten = b").unwrap();
        let listen = |number, value: &str| Line {
            number,
            option: OptionInfo::find("listen").unwrap(),
            value: value.into(),
        };
        assert_eq!(lines, [listen(4, "a"), listen(5, "b")]);
        assert_eq!(parse(""), Ok(vec![]));
    }

    #[test]
    fn bad_lines_are_named_and_values_not_shown() {
        for (text, expected) in [
            ("\n\nfoo = s3cret", "3: unknown option \"foo\""),
            ("Timeout = 2s", "1: unknown option \"Timeout\"; did you mean timeout?"),
            ("--timeout = 2s", "1: unknown option \"--timeout\"; did you mean timeout?"),
            ("= s3cret", "1: unknown option \"\""),
            ("password s3cret", "1: expected name = value"),
            ("[section]", "1: expected name = value"),
            ("config = x", "1: config stands on the command line only"),
            ("help = x", "1: help stands on the command line only"),
            ("timeout = 2s\n#\ntimeout = 2s", "3: timeout is already set in line 1"),
            ("dsn = \"password=s3cret", "1: dsn: the closing quote is missing"),
            ("dsn = 'password='s3cret''", "1: dsn: there is text after the closing quote"),
        ] {
            assert_eq!(parse(text), Err(expected.into()), "{text:?}");
        }
    }
}
