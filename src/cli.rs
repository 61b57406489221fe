//! The command line: what was typed, as raw strings, and how the program ends before it has started. The only
//! user of argh.
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use argh::FromArgs;

use crate::config::options::{self, Name, OPTIONS};

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
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// `--config`, if given.
    pub config: Option<String>,
    /// The settings with their raw values, in the order of the table, repeated options in the order typed.
    pub settings: Vec<(Name, String)>,
}

/// The options as argh knows them. Values stay strings: the configuration layer parses them in one place,
/// for the file and the command line alike, and the help comes from [`OPTIONS`].
#[derive(FromArgs)]
#[argh(description = "pgsqlchk", help_triggers("--help"))]
struct Raw {
    #[argh(option, description = "see OPTIONS")]
    mode: Option<String>,
    #[argh(option, description = "see OPTIONS")]
    listen: Vec<String>,
    #[argh(option, description = "see OPTIONS")]
    agent_listen: Option<String>,
    #[argh(option, description = "see OPTIONS")]
    dsn: Option<String>,
    #[argh(option, description = "see OPTIONS")]
    timeout: Option<String>,
    #[argh(option, description = "see OPTIONS")]
    knock_interval: Option<String>,
    #[argh(option, description = "see OPTIONS")]
    login_interval: Option<String>,
    #[argh(option, description = "see OPTIONS")]
    workers: Option<String>,
    #[argh(option, description = "see OPTIONS")]
    max_connections: Option<String>,
    #[argh(option, description = "see OPTIONS")]
    allow: Vec<String>,
    #[argh(option, description = "see OPTIONS")]
    config: Option<String>,
    #[argh(option, description = "see OPTIONS")]
    protocol: Option<String>,
    #[argh(option, description = "see OPTIONS")]
    max_lag: Option<String>,
    #[argh(option, description = "see OPTIONS")]
    max_lag_time: Option<String>,
    #[argh(option, description = "see OPTIONS")]
    drain_file: Option<String>,
    #[argh(option, description = "see OPTIONS")]
    idle_exit: Option<String>,
    #[argh(option, description = "see OPTIONS")]
    log_level: Option<String>,
    #[argh(option, description = "see OPTIONS")]
    log_target: Option<String>,
    #[argh(option, description = "see OPTIONS")]
    target: Option<String>,
    #[argh(switch, description = "see OPTIONS")]
    version: bool,
}

/// Parses the command line; `arguments` starts with the program's name.
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Arguments, Exit> {
    let mut words = Vec::new();
    for (position, argument) in arguments.enumerate().skip(1) {
        let word = argument
            .into_string()
            .map_err(|_| Exit::bad_usage(format!("argument {position} is not UTF-8 text")))?;
        // argh wants the value as a word of its own; no value of ours starts with two hyphens.
        match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => words.extend([name.into(), value.into()]),
            Some(_) | None => words.push(word),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let raw = Raw::from_args(&["pgsqlchk"], &words).map_err(explain)?;
    if raw.version {
        return Err(Exit::success(format!("pgsqlchk {}", env!("CARGO_PKG_VERSION"))));
    }
    let single = [
        (Name::Mode, raw.mode),
        (Name::AgentListen, raw.agent_listen),
        (Name::Dsn, raw.dsn),
        (Name::Timeout, raw.timeout),
        (Name::KnockInterval, raw.knock_interval),
        (Name::LoginInterval, raw.login_interval),
        (Name::Workers, raw.workers),
        (Name::MaxConnections, raw.max_connections),
        (Name::MaxLag, raw.max_lag),
        (Name::MaxLagTime, raw.max_lag_time),
        (Name::Protocol, raw.protocol),
        (Name::DrainFile, raw.drain_file),
        (Name::IdleExit, raw.idle_exit),
        (Name::LogLevel, raw.log_level),
        (Name::LogTarget, raw.log_target),
        (Name::Target, raw.target),
    ];
    let listen = raw.listen.into_iter().map(|value| (Name::Listen, value));
    let allow = raw.allow.into_iter().map(|value| (Name::Allow, value));
    let single = single.into_iter().filter_map(|(name, value)| Some((name, value?)));
    Ok(Arguments { config: raw.config, settings: single.chain(listen).chain(allow).collect() })
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
            true => format!("unknown option {}", options::quote(word)),
            // Not shown: it may be the rest of a connection string that was not quoted.
            false => "an argument that is not an option; a value with spaces needs quotes".into(),
        }
    } else if let Some(name) = message.strip_prefix("No value provided for option ") {
        format!("option {} needs a value", name.trim_matches(['\'', '.']))
    } else if let Some(rest) = message.strip_prefix("Error parsing option '") {
        // Strings always parse, so the only error left to argh is a second value.
        let name = OPTIONS.iter().map(|option| option.word).find(|word| {
            rest.strip_prefix("--")
                .and_then(|rest| rest.strip_prefix(word))
                .is_some_and(|r| r.starts_with('\''))
        });
        format!("option --{} is given twice", name.unwrap_or_default())
    } else {
        "bad usage".into()
    };
    Exit::bad_usage(format!("{what} (try 'pgsqlchk --help')"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(words: &[&str]) -> Result<Arguments, Exit> {
        parse(std::iter::once("pgsqlchk").chain(words.iter().copied()).map(OsString::from))
    }

    #[test]
    fn values_may_follow_a_space_or_an_equals_sign() {
        for words in [
            &["--timeout", "3s", "--listen", "a", "--listen", "b"][..],
            &["--listen=a", "--timeout=3s", "--listen=b"],
        ] {
            let settings = typed(words).unwrap().settings;
            let expected = [(Name::Timeout, "3s"), (Name::Listen, "a"), (Name::Listen, "b")];
            assert_eq!(settings, expected.map(|(name, value)| (name, value.to_owned())));
        }
        let dsn = typed(&["--dsn=host=/run user=x"]).unwrap().settings;
        assert_eq!(dsn, [(Name::Dsn, "host=/run user=x".to_owned())], "only the first equals sign splits");
        assert_eq!(typed(&["--config=/x"]).unwrap().config.as_deref(), Some("/x"));
    }

    #[test]
    fn bad_usage_is_one_line_that_names_the_option_and_never_a_value() {
        for (words, expected) in [
            (&["--bogus"][..], "unknown option \"--bogus\""),
            (&["--bogus=s3cret"], "unknown option \"--bogus\""),
            (&["--dns=postgres://u:s3cret@h/"], "unknown option \"--dns\""),
            (&["--timeout"], "option --timeout needs a value"),
            (&["--dsn", "s3cret", "--dsn", "s3cret"], "option --dsn is given twice"),
            (&["--dsn=it's'", "--dsn=s3cret\n's3cret"], "option --dsn is given twice"),
            (&["--timeout=1s", "--timeout=1s"], "option --timeout is given twice"),
            (&["s3cret"], "an argument that is not an option; a value with spaces needs quotes"),
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
        let version = typed(&["--version"]).unwrap_err();
        assert_eq!(version, Exit { text: "pgsqlchk 0.1.0".into(), on_stdout: true, code: 0 });
        let help = typed(&["--timeout", "1s", "--help"]).unwrap_err();
        assert_eq!(help, Exit { text: options::help(), on_stdout: true, code: 0 });
    }

    #[test]
    fn the_table_and_argh_know_the_same_options() {
        let argh_help = Raw::from_args(&["pgsqlchk"], &["--help"]).err().unwrap().output;
        let mut known: Vec<&str> = argh_help
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("--"))
            .map(|line| line.split([' ', ',']).next().unwrap())
            .collect();
        let mut listed: Vec<&str> = OPTIONS.iter().map(|option| option.word).collect();
        known.sort_unstable();
        listed.sort_unstable();
        assert_eq!(known, listed);
    }
}
