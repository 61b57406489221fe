//! The password file, PostgreSQL manual section 34.16: lines of `host:port:database:user:password`.
//!
//! It is read at every login and never kept, so a rotated password is picked up without a restart.
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::environment::cause;
use super::secret::Secret;

/// No password file is longer than this.
const MAX_BYTES: u64 = 1024 * 1024;

/// A passfile that had to be ignored; its `Display` is one line for the log, and shows no content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassfileProblem {
    what: String,
    is_too_open: bool,
    is_denied: bool,
}

impl PassfileProblem {
    /// Whether others may read the file, and that is all.
    pub fn is_too_open(&self) -> bool {
        self.is_too_open
    }

    /// Whether this user may not read it: somebody else has made it.
    pub fn is_denied(&self) -> bool {
        self.is_denied
    }
}

impl fmt::Display for PassfileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// What a line of the file must match.
pub struct Login<'a> {
    /// The names that the host field may have.
    pub hosts: &'a [&'a str],
    /// The port field.
    pub port: &'a str,
    /// The database field.
    pub database: &'a str,
    /// The user field.
    pub user: &'a str,
}

/// The password of the first line that matches. A missing file is no problem; one that is not a regular file
/// or that group or world can access is ignored, as libpq does, and that is worth a warning.
pub fn look_up(path: &Path, login: &Login<'_>) -> Result<Option<Secret>, PassfileProblem> {
    let ignored = |why: &str| {
        let what = format!("passfile {} is ignored: {why}", path.display());
        PassfileProblem { what, is_too_open: false, is_denied: false }
    };
    // Looked at before it is opened: opening a FIFO would wait for a writer.
    let Ok(metadata) = fs::metadata(path) else {
        // As libpq: the home directory may well be hidden from a service, and that is no news.
        return Ok(None);
    };
    if !metadata.is_file() {
        return Err(ignored("it is not a regular file"));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        let why = "it has group or world access; its permissions should be u=rw (0600) or less";
        return Err(PassfileProblem { is_too_open: true, ..ignored(why) });
    }
    let mut content = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut content)).map_err(
        |error| {
            let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
            PassfileProblem { is_denied, ..ignored(&cause(&error)) }
        },
    )?;
    if content.len() as u64 > MAX_BYTES {
        return Err(ignored("it is larger than 1 MiB"));
    }
    Ok(search(&content, login))
}

pub(in crate::config) fn search(content: &[u8], login: &Login<'_>) -> Option<Secret> {
    let lines = content.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines
        .filter(|line| !line.starts_with(b"#"))
        .find_map(|line| {
            let rest = login.hosts.iter().find_map(|host| after_field(line, host))?;
            let rest = after_field(rest, login.port)?;
            let rest = after_field(rest, login.database)?;
            let rest = after_field(rest, login.user)?;
            Some(password(rest))
        })
        // An empty password is none, but the search ends here all the same.
        .filter(|password| !password.is_empty())
        .map(Secret::new)
}

/// What follows the first field of `line` if that field is `*` or, its escapes undone, equals `wanted`. As in
/// libpq, a colon that `wanted` has too needs no backslash: `::1:5432:...` works.
fn after_field<'a>(line: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    if let Some(rest) = line.strip_prefix(b"*:") {
        return Some(rest);
    }
    let mut rest = line;
    for wanted in wanted.bytes() {
        rest = match rest {
            // The byte after a backslash is taken as it is.
            [b'\\', escaped, rest @ ..] if *escaped == wanted => rest,
            [byte, rest @ ..] if *byte == wanted && wanted != b'\\' => rest,
            _ => return None,
        };
    }
    rest.strip_prefix(b":")
}

/// The last field, which ends at a bare colon or at the end of the line.
fn password(field: &[u8]) -> Vec<u8> {
    let mut password = Vec::new();
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b':' => break,
            // A backslash at the very end stands for itself.
            b'\\' => password.push(*bytes.next().unwrap_or(byte)),
            _ => password.push(*byte),
        }
    }
    password
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const LOGIN: Login =
        Login { hosts: &["db.example", "localhost"], port: "5432", database: "postgres", user: "ops" };

    fn found(content: &str, login: &Login<'_>) -> Option<String> {
        search(content.as_bytes(), login).map(|secret| String::from_utf8(secret.reveal().to_vec()).unwrap())
    }

    #[test]
    fn lines_match_as_in_libpq() {
        for (content, expected) in [
            ("db.example:5432:postgres:ops:pw", Some("pw")),
            ("localhost:5432:postgres:ops:pw\n", Some("pw")),
            ("*:*:*:*:pw\r\n", Some("pw")),
            ("*:5432:*:ops:first\n*:*:*:*:second", Some("first")),
            ("other:*:*:*:first\n*:*:*:*:second", Some("second")),
            ("#*:*:*:*:commented\n\n*:*:*:*:pw", Some("pw")),
            ("*:*:*:*:pw:trailing", Some("pw")),
            (r"*:*:*:*:a\:b\\c\d", Some(r"a:b\cd")),
            (r"*:*:*:*:a\", Some(r"a\")),
            ("*:*:*:*:\n*:*:*:*:pw", None),
            ("*:*:*:*: spaces ", Some(" spaces ")),
            ("*:*:*:*", None),
            ("db.example:5433:postgres:ops:pw", None),
            ("db.exampl:5432:postgres:ops:pw", None),
            ("db.example2:5432:postgres:ops:pw", None),
            ("*:*:post*:ops:pw", None),
            ("DB.EXAMPLE:5432:postgres:ops:pw", None),
            (" *:*:*:*:pw", None),
            ("", None),
        ] {
            assert_eq!(found(content, &LOGIN).as_deref(), expected, "{content:?}");
        }
    }

    #[test]
    fn fields_are_escaped() {
        let login = Login { hosts: &["::1"], port: "5432", database: r"a\b", user: "*" };
        assert_eq!(found(r"\:\:1:5432:a\\b:\*:pw", &login).as_deref(), Some("pw"));
        assert_eq!(found(r"\:\:1:5432:a\b:*:pw", &login), None);
        assert_eq!(found(r"::1:5432:a\\b:*:pw", &login).as_deref(), Some("pw"));
        assert_eq!(found(r"*:5432:a\\b:*:pw", &login).as_deref(), Some("pw"));
    }

    /// A file in a directory of its own, removed with it.
    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str, content: &[u8], mode: u32) -> Temporary {
            let directory = std::env::temp_dir().join(format!("pgsqlchk-{name}-{}", std::process::id()));
            fs::create_dir(&directory).unwrap();
            let file = Temporary(directory);
            fs::write(file.path(), content).unwrap();
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            file
        }

        fn path(&self) -> PathBuf {
            self.0.join("pgpass")
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn only_a_private_regular_file_counts() {
        for (mode, private) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o610, false)]
        {
            let file = Temporary::new(&format!("mode-{mode:o}"), b"*:*:*:*:pw", mode);
            let expected = match private {
                true => Ok(Some(Secret::new(b"pw".to_vec()))),
                false => Err(format!(
                    "passfile {} is ignored: it has group or world access; its permissions should be u=rw (0600) or \
                     less",
                    file.path().display()
                )),
            };
            let found = look_up(&file.path(), &LOGIN);
            assert!(private || found.as_ref().is_err_and(PassfileProblem::is_too_open), "{mode:o}");
            assert_eq!(found.map_err(|problem| problem.to_string()), expected, "{mode:o}");
        }
        let directory = look_up(Path::new("/tmp"), &LOGIN).unwrap_err();
        assert_eq!(directory.to_string(), "passfile /tmp is ignored: it is not a regular file");
        assert!(!directory.is_too_open(), "chmod would not help");
        assert_eq!(
            look_up(Path::new("/dev/null"), &LOGIN).unwrap_err().to_string(),
            "passfile /dev/null is ignored: it is not a regular file"
        );
        for missing in ["/nonexistent/pgpass", "/dev/null/pgpass"] {
            assert_eq!(look_up(Path::new(missing), &LOGIN), Ok(None));
        }
    }

    #[test]
    fn the_file_is_bounded_and_need_not_be_text() {
        let large = Temporary::new("large", &vec![b'x'; MAX_BYTES as usize + 1], 0o600);
        let problem = look_up(&large.path(), &LOGIN).unwrap_err().to_string();
        assert!(problem.ends_with("it is larger than 1 MiB"), "{problem}");
        let latin = Temporary::new("latin", b"*:*:*:*:p\xe4ss", 0o600);
        assert_eq!(look_up(&latin.path(), &LOGIN), Ok(Some(Secret::new(b"p\xe4ss".to_vec()))));
    }
}
