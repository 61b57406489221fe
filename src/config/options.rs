//! What is made of the table of options: the fields, the help, the sample configuration.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use super::layers::Setting;
use super::libpq::Given;
use super::table::option_table;
use super::{
    Allow, Format, LogTarget, Mode, Options, PeerAddress, PoolerAddress, Protocol, peer, pooler, units,
};
use crate::spelling;
use crate::verdict::{Limits, Path, Standing, Tag};
#[cfg(test)]
use sample::Group;

/// What can be known about an option.
#[derive(Debug)]
pub struct OptionInfo {
    /// Its spelling, without the hyphens: the name in the configuration file.
    pub word: &'static str,
    /// Placeholder of its value in the help; empty for a switch.
    pub value: &'static str,
    /// Its meaning, with the limits.
    pub help: &'static str,
    /// What holds when it is not given.
    pub default: DefaultValue,
    /// How it takes effect; `None` for those that stand on the command line only.
    pub(super) effect: Option<Effect>,
}

/// How an option takes effect.
#[derive(Debug)]
pub(super) struct Effect {
    /// Parses the value and stores it.
    pub(super) store: fn(&mut Options, &Setting) -> Result<(), String>,
    /// Forgets what was stored: a list of a later layer replaces the earlier one.
    pub(super) clear: fn(&mut Options),
    /// Its paragraph in the sample configuration, which a test makes: the group, what is said beside the help, and the
    /// values of its lines.
    #[cfg(test)]
    sample: (Group, &'static str, &'static [&'static str]),
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

macro_rules! make_options {
    ($(
        $(#[doc = $doc:literal])+
        $visibility:vis $field:ident: $type:ty = $unset:expr, {
            word: $word:literal,
            value: $value:literal,
            help: $help:literal,
            default: $default:expr,
            sample: $sample:expr,
            store: $store:expr,
        }
    )+) => {
        /// Every option that can stand in the configuration file, in the order of the help.
        const SETTINGS: &[OptionInfo] = &[$(OptionInfo {
            word: $word,
            value: $value,
            help: $help,
            default: $default,
            effect: Some(Effect {
                store: |options, setting| {
                    let store: fn(&mut $type, &Setting) -> Result<(), String> = $store;
                    store(&mut options.$field, setting)
                },
                clear: |options| options.$field = $unset,
                #[cfg(test)]
                sample: $sample,
            }),
        },)+];
    };
}
option_table!(make_options);

/// Those that end the program, choose the file, or are about this one call.
const ON_THE_COMMAND_LINE_ONLY: &[OptionInfo] = &[
    OptionInfo {
        word: "config",
        value: "PATH",
        help: "configuration file; the default one may be absent",
        default: DefaultValue::Described(DEFAULT_FILE),
        effect: None,
    },
    OptionInfo {
        word: "instance",
        value: "NAME",
        help: "one of several instances on this host: its file is /etc/pgsqlchk/NAME.conf, which must be there, and its \
               drain file /run/pgsqlchk/NAME/drain",
        default: DefaultValue::Described("none"),
        effect: None,
    },
    OptionInfo {
        word: "haproxy",
        value: "",
        help: "pgsqlchk doctor ends with a haproxy.cfg for this cluster",
        default: DefaultValue::Nothing,
        effect: None,
    },
    OptionInfo {
        word: "wait",
        value: "DURATION",
        help: "pgsqlchk drain: then wait until no session is left, at most so long; without DURATION no limit",
        default: DefaultValue::Described("does not wait"),
        effect: None,
    },
    OptionInfo {
        word: "version",
        value: "",
        help: "print name and version, then exit (also -V)",
        default: DefaultValue::Nothing,
        effect: None,
    },
    OptionInfo {
        word: "help",
        value: "",
        help: "print this help, then exit (also -h)",
        default: DefaultValue::Nothing,
        effect: None,
    },
];

/// The configuration file that is read when `--config` is not given.
pub const DEFAULT_FILE: &str = "/etc/pgsqlchk/pgsqlchk.conf";

/// Every option, in the order of the help.
pub fn options() -> impl Iterator<Item = &'static OptionInfo> {
    SETTINGS.iter().chain(ON_THE_COMMAND_LINE_ONLY)
}

/// Those that can stand in the configuration file.
pub(crate) fn settings() -> &'static [OptionInfo] {
    SETTINGS
}

impl OptionInfo {
    /// The option of this word.
    pub fn find(word: &str) -> Option<&'static OptionInfo> {
        options().find(|option| option.word == word)
    }

    /// Whether it can be given several times; the help says so.
    pub fn is_repeatable(&self) -> bool {
        self.help.ends_with("; repeatable")
    }

    /// Whether it can stand in the configuration file.
    pub fn is_setting(&self) -> bool {
        self.effect.is_some()
    }
}

/// There is one entry for each word.
impl PartialEq for OptionInfo {
    fn eq(&self, other: &OptionInfo) -> bool {
        self.word == other.word
    }
}

impl Eq for OptionInfo {}

/// The text of `--help`: the words for actions, then one line per option.
pub fn help() -> String {
    let mut text = String::from(
        "Usage: pgsqlchk [OPTION]...\n       pgsqlchk ACTION [OPTION]...\n\
         Tells HAProxy over HTTP whether the PostgreSQL instance on this host is a primary or a standby.\n\n",
    );
    let _ = writeln!(text, "Actions, each the same as --mode with that word: {}\n", Mode::WORDS.join(", "));
    for OptionInfo { word, value, help, default, .. } in options() {
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

#[cfg(test)]
mod sample;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_has_one_line_per_option_with_its_default() {
        let help = help();
        for option in options() {
            let start = format!("  --{} ", option.word);
            let lines: Vec<&str> = help.lines().filter(|line| line.starts_with(&start)).collect();
            let [line] = lines[..] else { panic!("{} has {} lines", option.word, lines.len()) };
            assert!(line.contains(option.help), "{line}");
            if let DefaultValue::Value(default) | DefaultValue::Described(default) = option.default {
                assert!(line.ends_with(&format!(" (default: {default})")), "{line}");
            }
        }
    }
}
