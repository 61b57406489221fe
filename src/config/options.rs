//! The table of options: the one place that knows their names, defaults and help.
use std::fmt;
use std::fmt::Write;

/// An option, independent of where it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// `--mode`
    Mode,
    /// `--listen`
    Listen,
    /// `--agent-listen`
    AgentListen,
    /// `--dsn`
    Dsn,
    /// `--timeout`
    Timeout,
    /// `--knock-interval`
    KnockInterval,
    /// `--login-interval`
    LoginInterval,
    /// `--workers`
    Workers,
    /// `--max-connections`
    MaxConnections,
    /// `--allow`
    Allow,
    /// `--max-lag`
    MaxLag,
    /// `--max-lag-time`
    MaxLagTime,
    /// `--protocol`
    Protocol,
    /// `--idle-exit`
    IdleExit,
    /// `--drain-file`
    DrainFile,
    /// `--log-level`
    LogLevel,
    /// `--log-target`
    LogTarget,
    /// `--target`
    Target,
    /// `--config`
    Config,
    /// `--version`
    Version,
    /// `--help`
    Help,
}

/// What a user can know about an option.
#[derive(Debug)]
pub struct OptionInfo {
    /// Which one it is.
    pub name: Name,
    /// Its spelling, without the hyphens: the name in the configuration file.
    pub word: &'static str,
    /// Placeholder of its value in the help; empty for a switch.
    pub value: &'static str,
    /// Its meaning, with the limits.
    pub help: &'static str,
    /// What holds when it is not given.
    pub default: DefaultValue,
    /// Whether it can be given several times.
    pub repeatable: bool,
    /// Whether it can stand in the configuration file.
    pub in_file: bool,
}

/// What holds when an option is not given.
#[derive(Debug, Clone, Copy)]
pub enum DefaultValue {
    /// This value, parsed like a given one, so that the help cannot disagree with the program.
    Value(&'static str),
    /// Something that no single value says; the text is for the help.
    Described(&'static str),
    /// Nothing.
    Nothing,
}

/// Every option of this release, in the order of the help.
pub const OPTIONS: [OptionInfo; 21] = [
    setting(
        Name::Mode,
        "mode",
        "MODE",
        "how it runs: standalone, xinetd (on the socket it is given) or check (once, for scripts); drain and \
         undrain switch the drain file",
        DefaultValue::Value("standalone"),
    ),
    OptionInfo {
        repeatable: true,
        ..setting(
            Name::Listen,
            "listen",
            "ADDR:PORT",
            "HTTP address to listen on, numeric; repeatable",
            DefaultValue::Described("[::]:23267, or 0.0.0.0:23267 where IPv6 is off"),
        )
    },
    setting(
        Name::AgentListen,
        "agent-listen",
        "ADDR:PORT",
        "address for HAProxy's agent-check, numeric",
        DefaultValue::Described("none"),
    ),
    setting(
        Name::Dsn,
        "dsn",
        "CONNINFO",
        "how to reach PostgreSQL: libpq keyword/value string or URI",
        DefaultValue::Described("libpq's PG* variables, then the local socket"),
    ),
    setting(
        Name::Timeout,
        "timeout",
        "DURATION",
        "deadline of one check, connecting included, 10ms to 60s",
        DefaultValue::Value("2s"),
    ),
    setting(
        Name::KnockInterval,
        "knock-interval",
        "DURATION",
        "how long one knock at the postmaster is good for, 10ms to 1h; 0 turns it off",
        DefaultValue::Value("1s"),
    ),
    setting(
        Name::LoginInterval,
        "login-interval",
        "DURATION",
        "how old the session may get before a fresh login replaces it, 500ms to 1h; 0 turns it off",
        DefaultValue::Value("2s"),
    ),
    setting(Name::Workers, "workers", "N", "threads that answer, 1 to 64", DefaultValue::Value("4")),
    setting(
        Name::MaxConnections,
        "max-connections",
        "N",
        "clients served at once, 1 to 10000",
        DefaultValue::Value("128"),
    ),
    OptionInfo {
        repeatable: true,
        ..setting(
            Name::Allow,
            "allow",
            "CIDR",
            "address or block of addresses that may ask; repeatable",
            DefaultValue::Described("everyone"),
        )
    },
    setting(
        Name::MaxLag,
        "max-lag",
        "SIZE",
        "how far a standby may lag in bytes of WAL (16MB) and still hold",
        DefaultValue::Described("no limit"),
    ),
    setting(
        Name::MaxLagTime,
        "max-lag-time",
        "DURATION",
        "how far a standby may lag in time and still hold",
        DefaultValue::Described("no limit"),
    ),
    setting(
        Name::Protocol,
        "protocol",
        "NAME",
        "what --mode xinetd speaks: http or agent (HAProxy's agent-check)",
        DefaultValue::Value("http"),
    ),
    setting(
        Name::IdleExit,
        "idle-exit",
        "DURATION",
        "xinetd mode on a listening socket (wait = yes): exit after this long without a request, 1s to 1d",
        DefaultValue::Value("60s"),
    ),
    setting(
        Name::DrainFile,
        "drain-file",
        "PATH",
        "while this file exists, the node drains",
        DefaultValue::Value("/run/pgsqlchk/drain"),
    ),
    setting(Name::LogLevel, "log-level", "LEVEL", "error, warn, info or debug", DefaultValue::Value("info")),
    setting(
        Name::LogTarget,
        "log-target",
        "TARGET",
        "stderr, syslog or none",
        DefaultValue::Described("stderr; syslog in xinetd mode"),
    ),
    setting(
        Name::Target,
        "target",
        "PATH",
        "what --mode check asks, as an HTTP path",
        DefaultValue::Value("/"),
    ),
    OptionInfo {
        in_file: false,
        ..setting(
            Name::Config,
            "config",
            "PATH",
            "configuration file; the default one may be absent",
            DefaultValue::Described(DEFAULT_FILE),
        )
    },
    OptionInfo {
        in_file: false,
        ..setting(Name::Version, "version", "", "print name and version, then exit", DefaultValue::Nothing)
    },
    OptionInfo {
        in_file: false,
        ..setting(Name::Help, "help", "", "print this help, then exit", DefaultValue::Nothing)
    },
];

/// The configuration file that is read when `--config` is not given.
pub const DEFAULT_FILE: &str = "/etc/pgsqlchk/pgsqlchk.conf";

const fn setting(
    name: Name,
    word: &'static str,
    value: &'static str,
    help: &'static str,
    default: DefaultValue,
) -> OptionInfo {
    OptionInfo { name, word, value, help, default, repeatable: false, in_file: true }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let option = OPTIONS.iter().find(|option| option.name == *self);
        f.write_str(option.map_or("", |option| option.word))
    }
}

/// The text of `--help`: one line per option.
pub fn help() -> String {
    let mut text = String::from(
        "Usage: pgsqlchk [OPTION]...\n\
         Tells HAProxy over HTTP whether the PostgreSQL instance on this host is a primary or a standby.\n\n",
    );
    for OptionInfo { word, value, help, default, .. } in &OPTIONS {
        let left = format!("--{word} {value}");
        let _ = match default {
            DefaultValue::Value(default) | DefaultValue::Described(default) => {
                writeln!(text, "  {left:<27}{help} (default: {default})")
            }
            DefaultValue::Nothing => writeln!(text, "  {left:<27}{help}"),
        };
    }
    text.push_str(
        "\nOptions can also stand in the configuration file, one `name = value` per line; the command line wins.\n\
         Durations need a unit: us, ms, s, min, h or d. Sizes have B, kB, MB, GB or TB; plain digits are bytes.",
    );
    text
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
    fn help_has_one_line_per_option_with_its_default() {
        let help = help();
        for option in &OPTIONS {
            let start = format!("  --{} ", option.word);
            let lines: Vec<&str> = help.lines().filter(|line| line.starts_with(&start)).collect();
            let [line] = lines[..] else { panic!("{} has {} lines", option.word, lines.len()) };
            assert!(line.contains(option.help), "{line}");
            if let DefaultValue::Value(default) | DefaultValue::Described(default) = option.default {
                assert!(line.ends_with(&format!(" (default: {default})")), "{line}");
            }
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
