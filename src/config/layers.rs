//! What was said where: defaults, overridden by the file, overridden by the command line.

use std::fmt;
use std::path::Path;

use super::libpq::{Environment, cause};
use super::options::{DEFAULT_FILE, DefaultValue, OptionInfo, settings};
use super::{Options, file, named_instance};
use crate::cli::Arguments;
use crate::spelling::quote;

/// Where a value was given.
#[derive(Debug, Clone)]
enum Origin {
    Default,
    File { path: String, line: usize },
    CommandLine,
}

/// A value with the place where it was given.
pub(super) struct Setting {
    option: &'static OptionInfo,
    /// As it was given.
    pub(super) value: String,
    origin: Origin,
}

impl Setting {
    /// Parses the value and stores it; the error shows it, so this is not for values that hold a password.
    pub(super) fn store<T>(
        &self,
        field: &mut T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<(), String> {
        *field = parse(&self.value).map_err(|why| self.refuse(&why))?;
        Ok(())
    }

    /// Parses the value and adds it to those before it.
    pub(super) fn add<T>(
        &self,
        field: &mut T,
        add: impl FnOnce(&mut T, &str) -> Result<(), String>,
    ) -> Result<(), String> {
        add(field, &self.value).map_err(|why| self.refuse(&why))
    }

    fn refuse(&self, why: &str) -> String {
        match self.origin {
            Origin::CommandLine => format!("{self} {}: {why}", quote(&self.value)),
            Origin::Default | Origin::File { .. } => format!("{self} = {}: {why}", quote(&self.value)),
        }
    }
}

/// The place, as errors begin: `--timeout`, `pgsqlchk.conf:12: timeout`.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.option.word;
        match &self.origin {
            Origin::Default => write!(f, "default of {word}"),
            Origin::File { path, line } => write!(f, "{path}:{line}: {word}"),
            Origin::CommandLine => write!(f, "--{word}"),
        }
    }
}

/// Lays defaults, file and command line over a configuration in which nothing was said yet.
pub(super) fn apply_all(
    options: &mut Options,
    arguments: Arguments,
    environment: &Environment,
) -> Result<(), String> {
    apply(options, &defaults())?;
    let file = match arguments.instance {
        Some(name) => {
            let files = named_instance::files(&name)?;
            options.drain_file = files.drain;
            Some(files.config)
        }
        None => arguments.config,
    };
    apply(options, &from_file(file.as_deref(), environment)?)?;
    let typed = arguments.settings.into_iter();
    let typed = typed.map(|(option, value)| Setting { option, value, origin: Origin::CommandLine });
    apply(options, &typed.collect::<Vec<_>>())
}

/// Lays `layer` over what is there. Every value is parsed, also one that a later layer overrides: a bad line in the
/// file is better found now than on the day the option is taken off the command line.
fn apply(options: &mut Options, layer: &[Setting]) -> Result<(), String> {
    let effects = |setting: &Setting| setting.option.effect.as_ref();
    for effect in layer.iter().filter_map(effects) {
        (effect.clear)(options);
    }
    layer.iter().try_for_each(|setting| match effects(setting) {
        Some(effect) => (effect.store)(options, setting),
        None => Ok(()),
    })
}

/// The defaults that the help shows.
fn defaults() -> Vec<Setting> {
    let default = |option: &'static OptionInfo| match option.default {
        DefaultValue::Value(value) => {
            Some(Setting { option, value: value.to_owned(), origin: Origin::Default })
        }
        DefaultValue::Described(_) | DefaultValue::Nothing => None,
    };
    settings().iter().filter_map(default).collect()
}

/// What was said, in words; the connection string apart, for it may hold a password.
pub(super) struct Read {
    /// The configuration file.
    pub(super) path: String,
    /// `line 3: timeout = 5s`; `None` where there is no file, or it cannot be read.
    pub(super) file: Option<Vec<String>>,
    /// `--timeout 5s`
    pub(super) typed: Vec<String>,
    /// The connection string that counts, with its place.
    pub(super) dsn: Option<(String, String)>,
}

/// Says what file and command line hold, without judging it.
pub(super) fn read(arguments: &Arguments, environment: &Environment) -> Read {
    const DSN: &str = "dsn";
    let path = super::file_named_by(arguments);
    let text = (environment.read)(Path::new(&path)).ok();
    let lines = text.and_then(|text| file::parse(&text).ok());
    let typed = || arguments.settings.iter().filter(|(option, _)| option.word != "mode");
    let dsn_in_file = lines.iter().flatten().find(|line| line.option.word == DSN);
    let dsn_in_file = dsn_in_file.map(|line| (line.value.clone(), format!("{path}:{}: {DSN}", line.number)));
    let dsn_typed = typed().find(|(option, _)| option.word == DSN);
    let dsn_typed = dsn_typed.map(|(_, value)| (value.clone(), format!("--{DSN}")));
    let shown = |word: &str, value: &str| match word {
        DSN => "(see connection)".to_owned(),
        // Somebody may have given a peer a password, which is refused.
        _ if value.contains('@') => "***".to_owned(),
        _ => value.to_owned(),
    };
    let in_words = |line: &file::Line| {
        let word = line.option.word;
        format!("line {}: {word} = {}", line.number, shown(word, &line.value))
    };
    Read {
        file: lines.as_ref().map(|lines| lines.iter().map(in_words).collect()),
        path,
        typed: typed()
            .map(|(option, value)| format!("--{} {}", option.word, shown(option.word, value)))
            .collect(),
        dsn: dsn_typed.or(dsn_in_file),
    }
}

/// The settings of the configuration file; the default one may be absent.
fn from_file(named: Option<&str>, environment: &Environment) -> Result<Vec<Setting>, String> {
    let path = named.unwrap_or(DEFAULT_FILE);
    let text = match (environment.read)(Path::new(path)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(format!("cannot read the configuration file {path}: {}", cause(&error))),
    };
    let lines = file::parse(&text).map_err(|why| format!("{path}:{why}"))?;
    let setting = |line: file::Line| Setting {
        option: line.option,
        value: line.value,
        origin: Origin::File { path: path.to_owned(), line: line.number },
    };
    Ok(lines.into_iter().map(setting).collect())
}
