//! Connection service files, PostgreSQL manual section 34.17: named groups of connection parameters.
use std::path::{Path, PathBuf};

use super::environment::{Environment, cause};
use super::keywords::{self, Keyword};
use crate::spelling::quote;

/// Where Debian's libpq, and so ours, looks for the system-wide file; PGSYSCONFDIR replaces it.
const SYSTEM_DIRECTORY: &str = "/etc/postgresql-common";
/// libpq's limit, without the newline.
const MAX_LINE_BYTES: usize = 1021;

/// One parameter of a service, with the place where it was read.
pub struct Entry {
    /// Which parameter.
    pub keyword: &'static Keyword,
    /// Its value.
    pub value: String,
    /// `<path>:<line>`
    pub place: String,
}

/// Looks up a service: in `file` where one was named, else in `~/.pg_service.conf`; then in the system's file.
pub fn look_up(service: &str, file: Option<&str>, environment: &Environment) -> Result<Vec<Entry>, String> {
    let own = file.map(PathBuf::from).or_else(|| Some(environment.home.as_ref()?.join(".pg_service.conf")));
    let system = environment.variable("PGSYSCONFDIR")?.unwrap_or(SYSTEM_DIRECTORY);
    let system = Path::new(system).join("pg_service.conf");
    for path in own.iter().chain([&system]) {
        match (environment.read)(path) {
            Ok(text) => {
                if let Some(entries) = parse(&text, service, path)? {
                    return Ok(entries);
                }
            }
            // Only a file that was asked for by name must be there; a unit's ProtectHome= hides the home directory.
            Err(_) if path.to_str() != file => {}
            Err(error) => {
                return Err(format!("cannot read the service file {}: {}", path.display(), cause(&error)));
            }
        }
    }
    let own = own.map_or(String::new(), |own| format!("{} or ", own.display()));
    Err(format!("service {} was not found in {own}{}", quote(service), system.display()))
}

/// The entries of the first group named `service`; `None` where there is no such group.
pub(in crate::config) fn parse(text: &str, service: &str, path: &Path) -> Result<Option<Vec<Entry>>, String> {
    let mut group: Option<Vec<Entry>> = None;
    for (index, line) in text.split('\n').enumerate() {
        let place = format!("{}:{}", path.display(), index + 1);
        if line.len() > MAX_LINE_BYTES {
            return Err(format!("{place}: the line is too long (at most {MAX_LINE_BYTES} bytes)"));
        }
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            if group.is_some() {
                break;
            }
            // libpq cares for nothing after the bracket.
            let named = header.strip_prefix(service).is_some_and(|rest| rest.starts_with(']'));
            group = named.then(Vec::new);
        } else if let Some(entries) = &mut group {
            // White space around "=" belongs to name and value, as in libpq.
            let (name, value) =
                line.split_once('=').ok_or_else(|| format!("{place}: expected name=value"))?;
            let keyword = match keywords::find(name) {
                Some(keyword) if matches!(name, "service" | "servicefile") => {
                    return Err(format!("{place}: {} cannot stand inside a service", keyword.name));
                }
                Some(keyword) => keyword,
                None => {
                    let hint = if name.ends_with(' ') { " (no spaces around \"=\" here)" } else { "" };
                    return Err(format!("{place}: invalid connection option {}{hint}", quote(name)));
                }
            };
            if value.contains('\0') {
                return Err(format!("{place}: {name}: the value contains a NUL character"));
            }
            entries.push(Entry { keyword, value: value.to_owned(), place });
        }
    }
    Ok(group)
}

#[cfg(test)]
mod tests {
    use super::super::environment::tests::environment;
    use super::*;

    const OWN: &str = "/home/ops/.pg_service.conf";
    const SYSTEM: &str = "/etc/postgresql-common/pg_service.conf";

    fn found(service: &str, file: Option<&str>, environment: &Environment) -> Result<String, String> {
        let entries = look_up(service, file, environment)?;
        let words =
            entries.iter().map(|entry| format!("{}={}@{}", entry.keyword.name, entry.value, entry.place));
        Ok(words.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn groups_follow_libpq() {
        let text = "port=9\n# comment\n[a]\n host=h \r\n\n  # c\nport=1\nport=2\n[b]x\nuser= x\n[a]\nport=3\n[empty]";
        let environment = environment(&[], &[(OWN, text)]);
        for (service, expected) in [
            ("a", format!("host=h@{OWN}:4 port=1@{OWN}:7 port=2@{OWN}:8")),
            ("b", format!("user= x@{OWN}:10")),
            ("empty", String::new()),
        ] {
            assert_eq!(found(service, None, &environment), Ok(expected), "{service}");
        }
        assert_eq!(
            found("A", None, &environment),
            Err(format!("service \"A\" was not found in {OWN} or {SYSTEM}"))
        );
    }

    #[test]
    fn files_are_tried_in_libpqs_order() {
        let files = [
            (OWN, "[a]\nport=1"),
            (SYSTEM, "[a]\nport=2\n[s]\nport=3"),
            ("/x/pg_service.conf", "[s]\nport=4"),
        ];
        let plain = environment(&[], &files);
        assert_eq!(found("a", None, &plain), Ok(format!("port=1@{OWN}:2")));
        assert_eq!(found("s", None, &plain), Ok(format!("port=3@{SYSTEM}:4")));
        assert_eq!(found("s", Some("/x/pg_service.conf"), &plain), Ok("port=4@/x/pg_service.conf:2".into()));
        assert_eq!(found("a", Some("/x/pg_service.conf"), &plain), Ok(format!("port=2@{SYSTEM}:2")));
        assert_eq!(
            found("a", Some("/nowhere"), &plain),
            Err("cannot read the service file /nowhere: no such file".into())
        );
        let moved = environment(&[("PGSYSCONFDIR", "/x")], &files);
        assert_eq!(found("s", None, &moved), Ok("port=4@/x/pg_service.conf:2".into()));
        let homeless = Environment { home: None, ..environment(&[], &files) };
        assert_eq!(found("a", None, &homeless), Ok(format!("port=2@{SYSTEM}:2")));
    }

    #[test]
    fn bad_lines_are_named() {
        for (line, expected) in [
            ("nonsense".to_owned(), "expected name=value".to_owned()),
            ("foo=x".into(), "invalid connection option \"foo\"".into()),
            ("host = h".into(), "invalid connection option \"host \" (no spaces around \"=\" here)".into()),
            ("service=b".into(), "service cannot stand inside a service".into()),
            ("servicefile=/x".into(), "servicefile cannot stand inside a service".into()),
            (format!("host={}", "h".repeat(1100)), "the line is too long (at most 1021 bytes)".into()),
        ] {
            let environment = environment(&[], &[(OWN, &format!("[a]\nport=1\n{line}\n"))]);
            assert_eq!(found("a", None, &environment), Err(format!("{OWN}:3: {expected}")), "{line}");
        }
    }
}
