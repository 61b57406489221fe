//! The command line: what was typed, as raw strings, and how the program ends before it has started. The only
//! user of argh.
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use argh::FromArgs;

use crate::config::Mode;
use crate::config::options::{self, OptionInfo};
use crate::config::suggestion;
use crate::config::table::option_table;
use crate::spelling::{self, quote};

/// What `--version` says: which flavour this is, too.
const VERSION: &str = if cfg!(feature = "tls") {
    concat!("pgsqlchk ", env!("CARGO_PKG_VERSION"), " (with TLS)")
} else {
    concat!("pgsqlchk ", env!("CARGO_PKG_VERSION"))
};

/// Why the program ends before it serves anybody: what to print, where, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// What to print, without the final newline; on stderr always a single line.
    pub text: String,
    /// Whether `text` belongs on stdout (`--help`, `--version`) rather than on stderr.
    pub on_stdout: bool,
    /// The process's exit code: 0 after `--help` and `--version`, 3 for bad usage or configuration, 1 when
    /// it could not start.
    pub code: u8,
}

impl Exit {
    /// Bad usage or configuration: exit code 3, as `pg_isready` has it.
    pub fn bad_usage(what: impl AsRef<str>) -> Exit {
        Exit { text: one_line(what.as_ref()), on_stdout: false, code: 3 }
    }

    /// The configuration is fine but the program could not start: exit code 1.
    pub fn could_not_start(what: impl AsRef<str>) -> Exit {
        Exit { text: one_line(what.as_ref()), on_stdout: false, code: 1 }
    }

    /// Prints the text and returns the exit code. A reader that has gone away (`--help | head -1`) is no
    /// reason to fail.
    pub fn report(&self) -> ExitCode {
        let _ = match self.on_stdout {
            true => writeln!(io::stdout(), "{}", self.text),
            false => writeln!(io::stderr(), "{}", self.text),
        };
        ExitCode::from(self.code)
    }

    /// The text without the program's name, for the log.
    pub fn cause(&self) -> &str {
        self.text.strip_prefix("pgsqlchk: ").unwrap_or(&self.text)
    }

    fn success(text: String) -> Exit {
        Exit { text, on_stdout: true, code: 0 }
    }
}

/// `pgsqlchk: <what>`, with control characters escaped: a newline in a value must not make a second line.
fn one_line(what: &str) -> String {
    let mut line = String::from("pgsqlchk: ");
    for character in what.chars() {
        match character.is_control() {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
    line
}

/// What was typed, not yet validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// `--config`, if given.
    pub config: Option<String>,
    /// `--instance`, if given; without `config` then.
    pub instance: Option<String>,
    /// `--haproxy`.
    pub haproxy: bool,
    /// The settings with their raw values, in the order of the table, repeated options in the order typed.
    pub settings: Vec<(&'static OptionInfo, String)>,
    /// `--wait`, if given.
    pub wait: Option<Wait>,
}

/// How long `pgsqlchk drain --wait` waits for sessions to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// As long as it takes.
    Unlimited,
    /// At most so long.
    AtMost(Duration),
}

macro_rules! make_raw {
    ($(
        $(#[doc = $doc:literal])+
        $visibility:vis $field:ident: $type:ty = $unset:expr, { word: $word:literal, $($entry:tt)* }
    )+) => {
        /// The options as argh knows them. Values stay strings: the configuration layer parses them in one place,
        /// for the file and the command line alike, and the help comes from the table.
        #[derive(FromArgs)]
        #[argh(description = "pgsqlchk", help_triggers("--help", "-h"))]
        struct Raw {
            $(
                #[argh(option, description = "see the table")]
                $field: Vec<String>,
            )+
            #[argh(option, description = "see the table")]
            config: Vec<String>,
            #[argh(option, description = "see the table")]
            instance: Vec<String>,
            #[argh(switch, description = "see the table")]
            haproxy: bool,
            #[argh(option, description = "see the table")]
            wait: Vec<String>,
            #[argh(switch, short = 'V', description = "see the table")]
            version: bool,
        }

        impl Raw {
            /// The settings, in the order of the table, with their values in the order typed.
            fn settings(self) -> Vec<(&'static str, Vec<String>)> {
                vec![$(($word, self.$field),)+]
            }
        }
    };
}
option_table!(make_raw);

impl Arguments {
    /// Whether this action was typed, as a word or with `--mode`.
    pub fn asks_for(&self, action: &str) -> bool {
        self.settings.iter().any(|(option, value)| option.word == "mode" && value == action)
    }
}

/// Parses the command line; `arguments` starts with the program's name.
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Arguments, Exit> {
    let mut typed = Vec::new();
    for (position, argument) in arguments.enumerate().skip(1) {
        let word = argument
            .into_string()
            .map_err(|_| Exit::bad_usage(format!("argument {position} is not UTF-8 text")))?;
        typed.push(word);
    }
    say_no_limit(&mut typed);
    let mut words = Vec::new();
    for word in typed {
        // argh wants the value as a word of its own; no value of ours starts with two hyphens.
        match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => words.extend([name.into(), value.into()]),
            Some(_) | None => words.push(word),
        }
    }
    let action = take_action(&mut words)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut raw = Raw::from_args(&["pgsqlchk"], &words).map_err(explain)?;
    if raw.version {
        return Err(Exit::success(VERSION.into()));
    }
    raw.mode.extend(action);
    let config = single("config", std::mem::take(&mut raw.config))?;
    let instance = single("instance", std::mem::take(&mut raw.instance))?;
    if config.is_some() && instance.is_some() {
        return Err(bad_usage("--instance names a configuration file already, so there can be no --config"));
    }
    let haproxy = raw.haproxy;
    let wait = single("wait", std::mem::take(&mut raw.wait))?.map(|value| read_wait(&value)).transpose()?;
    let mut settings = Vec::new();
    for (word, values) in raw.settings() {
        let Some(option) = OptionInfo::find(word) else { continue };
        if option.is_repeatable() {
            settings.extend(values.into_iter().map(|value| (option, value)));
        } else if let Some(value) = single(word, values)? {
            settings.push((option, value));
        }
    }
    Ok(Arguments { config, instance, haproxy, settings, wait })
}

/// The value of a `--wait` that has none: argh wants one.
const NO_LIMIT: &str = "no limit";

/// What follows `--wait` is its value only where it begins like a duration.
fn say_no_limit(words: &mut Vec<String>) {
    let has_value = |words: &[String], place: usize| {
        let next = words.get(place + 1);
        next.is_some_and(|next| next.is_empty() || next.starts_with(|first: char| first.is_ascii_digit()))
    };
    let places = (0..words.len()).filter(|place| words[*place] == "--wait" && !has_value(words, *place));
    for place in places.collect::<Vec<_>>().into_iter().rev() {
        words.insert(place + 1, NO_LIMIT.into());
    }
}

fn read_wait(value: &str) -> Result<Wait, Exit> {
    match value {
        NO_LIMIT => Ok(Wait::Unlimited),
        _ => spelling::duration(value)
            .map(Wait::AtMost)
            .map_err(|why| bad_usage(&format!("--wait {}: {why}", quote(value)))),
    }
}

/// The first word, where it is no option: it says what to do, and means the same as a `--mode` with it.
fn take_action(words: &mut Vec<String>) -> Result<Option<String>, Exit> {
    match words.first() {
        Some(first) if !first.starts_with('-') => {
            if !Mode::WORDS.contains(&first.as_str()) {
                // Not shown: it may be the rest of a connection string that was not quoted.
                let known = Mode::WORDS.join(", ");
                let meant = suggestion::action(first, &Mode::WORDS);
                return Err(bad_usage(&format!("the first word is none of {known}{meant}")));
            }
            Ok(Some(words.remove(0)))
        }
        Some(_) | None => Ok(None),
    }
}

fn single(word: &str, values: Vec<String>) -> Result<Option<String>, Exit> {
    let mut values = values.into_iter();
    let first = values.next();
    match values.next() {
        Some(_) => Err(bad_usage(&format!("option --{word} is given twice"))),
        None => Ok(first),
    }
}

fn bad_usage(what: &str) -> Exit {
    Exit::bad_usage(format!("{what} (try 'pgsqlchk --help')"))
}

/// Turns argh's early exit into ours. Of argh's message only the option's name is taken: the rest may hold a
/// value, and a value may hold a password.
fn explain(early: argh::EarlyExit) -> Exit {
    if early.status.is_ok() {
        return Exit::success(options::help());
    }
    let message = early.output.trim_end();
    let what = if let Some(word) = message.strip_prefix("Unrecognized argument: ") {
        match word.starts_with("--") {
            true => format!("unknown option {}{}", quote(word), suggestion::option(word, "--")),
            // Not shown: it may be the rest of a connection string that was not quoted.
            false => "an argument that is not an option; a value with spaces needs quotes".into(),
        }
    } else if let Some(name) = message.strip_prefix("No value provided for option ") {
        format!("option {} needs a value", name.trim_matches(['\'', '.']))
    } else {
        "bad usage".into()
    };
    bad_usage(&what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(words: &[&str]) -> Result<Arguments, Exit> {
        parse(std::iter::once("pgsqlchk").chain(words.iter().copied()).map(OsString::from))
    }

    fn plain<'a>(settings: &'a [(&'static OptionInfo, String)]) -> Vec<(&'static str, &'a str)> {
        settings.iter().map(|(option, value)| (option.word, value.as_str())).collect()
    }

    #[test]
    fn values_may_follow_a_space_or_an_equals_sign() {
        for words in [
            &["--timeout", "3s", "--listen", "a", "--listen", "b"][..],
            &["--listen=a", "--timeout=3s", "--listen=b"],
        ] {
            let settings = typed(words).unwrap().settings;
            let expected = [("listen", "a"), ("listen", "b"), ("timeout", "3s")];
            assert_eq!(plain(&settings), expected);
        }
        let dsn = typed(&["--dsn=host=/run user=x"]).unwrap().settings;
        assert_eq!(plain(&dsn), [("dsn", "host=/run user=x")], "only the first equals sign splits");
        assert_eq!(typed(&["--config=/x"]).unwrap().config.as_deref(), Some("/x"));
    }

    #[test]
    fn bad_usage_is_one_line_that_names_the_option_and_never_a_value() {
        for (words, expected) in [
            (&["--bogus"][..], "unknown option \"--bogus\""),
            (&["--bogus=s3cret"], "unknown option \"--bogus\""),
            (&["--dns=postgres://u:s3cret@h/"], "unknown option \"--dns\"; did you mean --dsn?"),
            (&["--timeout"], "option --timeout needs a value"),
            (&["--instance=a", "--instance=a"], "option --instance is given twice"),
            (
                &["--instance=a", "--config=/b"],
                "--instance names a configuration file already, so there can be no --config",
            ),
            (&["--dsn", "s3cret", "--dsn", "s3cret"], "option --dsn is given twice"),
            (&["--dsn=it's'", "--dsn=s3cret\n's3cret"], "option --dsn is given twice"),
            (&["--timeout=1s", "--timeout=1s"], "option --timeout is given twice"),
            (
                &["s3cret"],
                "the first word is none of standalone, xinetd, check, drain, undrain, cluster, doctor",
            ),
            (&["check", "s3cret"], "an argument that is not an option; a value with spaces needs quotes"),
            (&["check", "--mode=drain"], "option --mode is given twice"),
            (&["--", "s3cret"], "an argument that is not an option; a value with spaces needs quotes"),
            (&["-ps3cret"], "an argument that is not an option; a value with spaces needs quotes"),
            (&["--version=s3cret"], "an argument that is not an option; a value with spaces needs quotes"),
            (&["--help", "--s3cret"], "bad usage"),
            (&["--a\nb"], "unknown option \"--a\\nb\""),
        ] {
            let expected = format!("pgsqlchk: {expected} (try 'pgsqlchk --help')");
            let exit = Exit { text: expected, on_stdout: false, code: 3 };
            assert_eq!(typed(words), Err(exit), "{words:?}");
        }
    }

    #[test]
    fn an_argument_that_is_not_utf_8_is_named_by_its_position() {
        use std::os::unix::ffi::OsStringExt;
        let words = ["pgsqlchk".into(), "--dsn".into(), OsString::from_vec(vec![b'x', 0xff])];
        assert_eq!(parse(words.into_iter()).unwrap_err().text, "pgsqlchk: argument 2 is not UTF-8 text");
    }

    #[test]
    fn version_and_help_go_to_stdout() {
        for word in ["--version", "-V"] {
            let version = typed(&[word]).unwrap_err();
            assert_eq!(version, Exit { text: VERSION.into(), on_stdout: true, code: 0 });
        }
        for word in ["--help", "-h"] {
            let help = typed(&["--timeout", "1s", word]).unwrap_err();
            assert_eq!(help, Exit { text: options::help(), on_stdout: true, code: 0 });
        }
    }

    #[test]
    fn wait_takes_a_duration_or_none() {
        let wait = |words: &[&str]| typed(words).map(|arguments| arguments.wait);
        let minutes = |minutes: u64| Ok(Some(Wait::AtMost(Duration::from_secs(60 * minutes))));
        for (words, expected) in [
            (&["drain"][..], Ok(None)),
            (&["drain", "--wait"], Ok(Some(Wait::Unlimited))),
            (&["drain", "--wait", "--timeout", "1s"], Ok(Some(Wait::Unlimited))),
            (&["drain", "--wait", "5min"], minutes(5)),
            (&["drain", "--wait=5min"], minutes(5)),
            (&["--mode=drain", "--wait", "5min", "--timeout=1s"], minutes(5)),
            (&["drain", "--wait", "0"], minutes(0)),
        ] {
            assert_eq!(wait(words), expected, "{words:?}");
        }
        for (words, expected) in [
            (&["drain", "--wait", "5"][..], "--wait \"5\": a duration needs a unit (2s, 500ms)"),
            (&["drain", "--wait=5"], "--wait \"5\": a duration needs a unit (2s, 500ms)"),
            (&["drain", "--wait="], "--wait \"\": expected a whole number and a unit (2s, 500ms)"),
            (&["drain", "--wait=long"], "--wait \"long\": expected a whole number and a unit (2s, 500ms)"),
            (
                &["drain", "--wait", "long"],
                "an argument that is not an option; a value with spaces needs quotes",
            ),
            (&["drain", "--wait", "--wait", "5min"], "option --wait is given twice"),
            (&["drain", "--wiat"], "unknown option \"--wiat\"; did you mean --wait?"),
        ] {
            let expected = format!("pgsqlchk: {expected} (try 'pgsqlchk --help')");
            assert_eq!(wait(words).map_err(|exit| (exit.code, exit.text)), Err((3, expected)), "{words:?}");
        }
    }

    #[test]
    fn a_word_for_an_action_is_a_mode() {
        for word in Mode::WORDS {
            let settings = typed(&[word, "--timeout=1s"]).unwrap().settings;
            assert_eq!(plain(&settings), [("mode", word), ("timeout", "1s")]);
        }
    }

    #[test]
    fn the_table_and_argh_know_the_same_options() {
        let argh_help = Raw::from_args(&["pgsqlchk"], &["--help"]).err().unwrap().output;
        let mut known: Vec<&str> = argh_help
            .lines()
            .filter_map(|line| line.trim_start().trim_start_matches("-V, ").strip_prefix("--"))
            .map(|line| line.split([' ', ',']).next().unwrap())
            .collect();
        let mut listed: Vec<&str> = options::options().map(|option| option.word).collect();
        known.sort_unstable();
        listed.sort_unstable();
        assert_eq!(known, listed);
    }
}
