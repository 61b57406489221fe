//! What the configuration takes from outside: environment variables, home directory, user name, files.
//! Gathered in one value, so that everything above it can be tested without touching the process.
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::system::agent_user::{self, AgentUser};

/// No configuration or service file is longer than this; a mistaken `--config /dev/zero` must not fill memory.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The outside world, as far as the configuration sees it.
pub struct Environment {
    /// The `PG*` variables and nothing else.
    pub variables: BTreeMap<String, OsString>,
    /// `HOME`, or the home directory of the effective user.
    pub home: Option<PathBuf>,
    /// The name of the effective user; asked only when no role is given, as the answer may come from LDAP.
    pub user: fn() -> Option<String>,
    /// Reads a text file of at most [`MAX_FILE_BYTES`].
    pub read: ReadText,
}

/// Path to text.
pub type ReadText = Box<dyn Fn(&Path) -> io::Result<String>>;

impl Environment {
    /// The real one.
    pub fn system() -> Environment {
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Environment {
            variables: variables.filter(|(name, _)| name.starts_with("PG")).collect(),
            home: std::env::home_dir().filter(|home| !home.as_os_str().is_empty()),
            user: || whoami::username().ok(),
            read: Box::new(read_text),
        }
    }

    /// As the agent's user has it, for root, who would have to log in as somebody else.
    pub fn of_agent() -> Environment {
        let environment = Environment::system();
        match AgentUser::for_root() {
            Some(agent) => {
                Environment { home: Some(agent.home), user: || Some(agent_user::NAME.into()), ..environment }
            }
            None => environment,
        }
    }

    /// The variable's value, empty or not, as libpq makes a difference between empty and unset.
    pub fn variable(&self, name: &str) -> Result<Option<&str>, String> {
        let Some(value) = self.variables.get(name) else { return Ok(None) };
        value.to_str().map(Some).ok_or_else(|| format!("{name}: the value is not UTF-8 text"))
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::new(ErrorKind::FileTooLarge, "larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        io::Error::new(ErrorKind::InvalidData, format!("line {line} is not UTF-8 text"))
    })
}

/// Why a file could not be read, in words (`io::Error` adds "(os error 2)").
pub fn cause(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file".into(),
        ErrorKind::PermissionDenied => "permission denied".into(),
        ErrorKind::IsADirectory => "is a directory".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// An environment of the given variables and files, with the home directory `/home/ops` and the user `ops`.
    pub fn environment(variables: &[(&str, &str)], files: &[(&str, &str)]) -> Environment {
        let files: BTreeMap<PathBuf, String> =
            files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        Environment {
            variables: variables.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect(),
            home: Some("/home/ops".into()),
            user: || Some("ops".into()),
            read: Box::new(move |path| files.get(path).cloned().ok_or_else(|| ErrorKind::NotFound.into())),
        }
    }

    #[test]
    fn files_that_cannot_be_configuration_are_refused_with_a_cause() {
        for (path, expected) in [
            ("/nonexistent/file", "no such file"),
            ("/", "is a directory"),
            ("/dev/zero", "larger than 1 MiB"),
            ("/proc/self/exe", "larger than 1 MiB"),
        ] {
            assert_eq!(cause(&read_text(Path::new(path)).unwrap_err()), expected, "{path}");
        }
        assert_eq!(read_text(Path::new("/dev/null")).unwrap(), "");
    }
}
