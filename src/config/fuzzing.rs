//! What has to hold for whatever stands in connection strings and files.

use std::io::ErrorKind;
use std::path::Path;

use super::libpq::passfile::{self, Login};
use super::libpq::{self, Environment, Given, Keyword, conninfo, service, uri};
use super::{Config, Endpoint, build, file, units};
use crate::cli::Arguments;
use crate::fuzzing::wire::assert_one_line;

/// Stands where the fuzzer writes `$`; no error may show it.
const PASSWORD: &str = "s3cretPassw0rd";

/// A connection string of either form.
pub(crate) fn conninfo(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    assert_any_value(text);
    let parameters = match conninfo::parse(text) {
        Ok(parameters) => parameters,
        Err(why) => {
            assert_one_line(&why);
            return assert_secret(text);
        }
    };
    let spelled = parameters.iter().map(|(keyword, value)| {
        assert!(!value.contains('\0'), "{}", keyword.name);
        spell(keyword.name, value)
    });
    let spelled = spelled.collect::<Vec<_>>().join(" ");
    let plain = |parsed: &[(&Keyword, String)]| {
        parsed.iter().map(|(keyword, value)| (keyword.name, value.clone())).collect::<Vec<_>>()
    };
    let again = conninfo::parse(&spelled).expect("what was understood can be said again");
    assert_eq!(plain(&again), plain(&parameters), "{spelled:?}");

    let given = Given::parse(text, "--dsn".into()).expect("it has been parsed");
    match libpq::resolve(Some(given), &environment("")) {
        Ok(settings) => {
            assert_ne!(settings.port, 0);
            assert!(!settings.user.is_empty() && !settings.database.is_empty());
            if let Endpoint::UnixDirectory(directory) = &settings.endpoint {
                let socket = directory.join(format!(".s.PGSQL.{}", settings.port));
                assert!(socket.as_os_str().len() <= 108, "{socket:?}");
            }
        }
        // Paths are shown as they are here, and made printable with the whole line.
        Err(why) => assert!(!why.is_empty()),
    }
    assert_secret(text);
}

/// Every value but one with a NUL can be said, in both forms.
fn assert_any_value(value: &str) {
    let escaped: String = value.chars().flat_map(|character| ['\\', character]).collect();
    let encoded: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let mut spellings = vec![spell("user", value)];
    if !value.is_empty() {
        spellings.extend([format!("user={escaped} "), format!("postgres://{encoded}@/")]);
    }
    for spelled in spellings {
        match conninfo::parse(&spelled) {
            Ok(parsed) => {
                assert_eq!(parsed.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>(), [value])
            }
            Err(why) => assert!(value.contains('\0'), "{spelled:?}: {why}"),
        }
    }
}

fn spell(name: &str, value: &str) -> String {
    format!("{name} = '{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A password in place of every `$` is shown by no error and no `Debug`, once there is anything that says that there
/// is a password.
fn assert_secret(text: &str) {
    let text = text.replace('$', PASSWORD);
    // Names of files and services are shown.
    let says_so =
        text.contains("password=") || uri::without_scheme(&text).is_some_and(|rest| rest.contains('@'));
    if !says_so || ["service", "passfile"].iter().any(|word| text.contains(word)) {
        return;
    }
    match Given::parse(&text, "--dsn".into()) {
        Err(why) => assert!(!why.contains(PASSWORD), "{why}"),
        Ok(given) => match libpq::resolve(Some(given), &environment("")) {
            Err(why) => assert!(!why.contains(PASSWORD), "{why}"),
            Ok(settings) => assert!(!format!("{:?}", settings.password).contains(PASSWORD)),
        },
    }
}

/// A password file, against a second reader that is simpler and slower.
pub(crate) fn passfile(bytes: &[u8]) {
    let login =
        Login { hosts: &["localhost", "/run/postgresql"], port: "5432", database: "postgres", user: "u" };
    let expected = bytes.split(|byte| *byte == b'\n').find_map(|line| password_of(line, &login));
    let found = passfile::search(bytes, &login).map(|secret| secret.reveal().to_vec());
    assert_eq!(found, expected.filter(|password| !password.is_empty()));
}

/// Splits first and compares then. The login holds neither colons nor backslashes, so that no rule is left out.
fn password_of(line: &[u8], login: &Login<'_>) -> Option<Vec<u8>> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.first() == Some(&b'#') {
        return None;
    }
    // Every byte with whether it was escaped.
    let mut plain: Vec<(u8, bool)> = Vec::new();
    for byte in line {
        match plain.last_mut() {
            Some(last) if *last == (b'\\', false) => *last = (*byte, true),
            _ => plain.push((*byte, false)),
        }
    }
    let mut fields = plain.splitn(5, |byte| *byte == (b':', false));
    for wanted in [login.hosts, &[login.port], &[login.database], &[login.user]] {
        let field = fields.next()?;
        let text: Vec<u8> = field.iter().map(|(byte, _)| *byte).collect();
        if field != [(b'*', false)] && !wanted.iter().any(|wanted| wanted.as_bytes() == text) {
            return None;
        }
    }
    let password = fields.next()?.split(|byte| *byte == (b':', false)).next()?;
    Some(password.iter().map(|(byte, _)| *byte).collect())
}

/// A service file that holds, or should hold, the service `svc`.
pub(crate) fn service(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lines: Vec<&str> = text.split('\n').collect();
    match service::parse(text, "svc", Path::new("f")) {
        Err(why) => assert_one_line(&why),
        Ok(None) => assert!(!lines.iter().any(|line| line.trim_ascii().starts_with("[svc]")), "it is there"),
        Ok(Some(entries)) => {
            let mut last = 0;
            for entry in entries {
                let number: usize = entry.place.strip_prefix("f:").expect("a place").parse().expect("a line");
                assert!(last < number, "line after line");
                last = number;
                let expected = format!("{}={}", entry.keyword.name, entry.value);
                assert_eq!(lines[number - 1].trim_ascii(), expected);
                assert!(!matches!(entry.keyword.name, "service" | "servicefile"), "no service in a service");
            }
        }
    }
}

/// The configuration file, and all that is made of it.
pub(crate) fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if !text.contains(['\n', '\r']) {
        for (quote, doubled) in [('"', "\"\""), ('\'', "''")] {
            let line = format!("dsn = {quote}{}{quote} # why", text.replace(quote, doubled));
            let values =
                file::parse(&line).map(|lines| lines.into_iter().map(|line| line.value).collect::<Vec<_>>());
            assert_eq!(values, Ok(vec![text.to_owned()]), "every value can be said");
        }
    }
    match file::parse(text) {
        Err(why) => assert_one_line(&why),
        Ok(lines) => {
            let spelled = lines
                .iter()
                .map(|line| format!("{} = \"{}\"\n", line.option.word, line.value.replace('"', "\"\"")));
            let again =
                file::parse(&spelled.collect::<String>()).expect("what was understood can be said again");
            assert_eq!(again.len(), lines.len());
            for (one, other) in again.iter().zip(&lines) {
                assert_eq!((one.option, &one.value), (other.option, &other.value));
            }
            assert!(lines.iter().all(|line| line.option.is_setting()));
        }
    }
    let arguments = Arguments {
        config: Some("f".into()),
        instance: None,
        haproxy: false,
        settings: Vec::new(),
        wait: None,
    };
    match build(arguments, &environment(text)) {
        Err(why) => assert_one_line(&why),
        Ok(config) => assert_within_bounds(&config),
    }
}

fn assert_within_bounds(config: &Config) {
    assert!(units::TIMEOUT.contains(&config.timeout));
    assert!(config.knock_interval.is_zero() || units::KNOCK_INTERVAL.contains(&config.knock_interval));
    assert!(units::IDLE_EXIT.contains(&config.idle_exit));
    assert!(units::WORKERS.contains(&config.workers));
    assert!(units::MAX_CONNECTIONS.contains(&config.max_connections));
    assert!(config.drain_file.is_absolute());
}

/// No variables, and one file: `f`.
fn environment(text: &str) -> Environment {
    let text = text.to_owned();
    Environment {
        variables: Default::default(),
        home: None,
        user: || Some("ops".into()),
        read: Box::new(move |path| match path.to_str() {
            Some("f") => Ok(text.clone()),
            _ => Err(ErrorKind::NotFound.into()),
        }),
    }
}
