//! How a session with PostgreSQL is encrypted: libpq's `ssl*` parameters (PostgreSQL manual, sections 34.1.2 and 34.19), as its
//! `pqConnectOptions2` in fe-connect.c brings them together.

use std::path::PathBuf;

use super::environment::Environment;
use super::resolve::{Parameter, Parameters};

/// Whether and when TLS is spoken, and what has to be verified (`sslmode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Where the server refuses a session in the clear.
    Allow,
    /// Unless that fails; libpq's default.
    Prefer,
    /// In any case.
    Require,
    /// And the server's certificate has to come from an authority we know.
    VerifyCa,
    /// And be for the host that was named.
    VerifyFull,
}

impl SslMode {
    const ALL: [(&str, SslMode); 6] = [
        ("disable", SslMode::Disable),
        ("allow", SslMode::Allow),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ];
}

/// How much of a choice there is (`channel_binding`, `sslcertmode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Never.
    Disable,
    /// Where the other side can, or asks.
    Prefer,
    /// Or nothing at all.
    Require,
}

/// Whose certificates are believed (`sslrootcert`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorities {
    /// Those in this file, if it is there: with `sslmode` up to `require` it need not be.
    File(PathBuf),
    /// Those that this system trusts.
    System,
    /// Nobody's: no file was named, and there is no home directory.
    Nobody,
}

/// The parameters, each with its default applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// `sslmode`.
    pub mode: SslMode,
    /// `sslrootcert`; default `~/.postgresql/root.crt`.
    pub authorities: Authorities,
    /// `sslcert`; default `~/.postgresql/postgresql.crt`. It need not be there.
    pub certificate: Option<PathBuf>,
    /// `sslkey`; default `~/.postgresql/postgresql.key`. It has to be where the certificate is.
    pub key: Option<PathBuf>,
    /// `sslcertmode`.
    pub certificate_mode: Choice,
    /// `sslcrl`; default `~/.postgresql/root.crl`, unless `sslcrldir` is given. It need not be there.
    pub revocation_list: Option<PathBuf>,
    /// `sslcrldir`: a directory of such lists.
    pub revocation_lists: Option<PathBuf>,
    /// `sslnegotiation=direct`: TLS from the first byte.
    pub is_direct: bool,
    /// `sslsni`: the server is told which host is meant.
    pub says_host: bool,
    /// Whether TLS 1.2 and TLS 1.3 may be spoken (`ssl_min_protocol_version`, `ssl_max_protocol_version`).
    pub versions: [bool; 2],
    /// `channel_binding`, with SCRAM.
    pub channel_binding: Choice,
    /// The host that was named, whose certificate `verify-full` wants.
    pub host: Option<String>,
}

impl Encryption {
    /// What holds where nothing was said and nobody is home.
    pub fn unsaid() -> Encryption {
        Encryption {
            mode: SslMode::Prefer,
            authorities: Authorities::Nobody,
            certificate: None,
            key: None,
            certificate_mode: Choice::Prefer,
            revocation_list: None,
            revocation_lists: None,
            is_direct: false,
            says_host: true,
            versions: [true; 2],
            channel_binding: Choice::Prefer,
            host: None,
        }
    }

    pub(super) fn of(parameters: &Parameters, environment: &Environment) -> Result<Encryption, String> {
        let at_home = |name: &str| Some(environment.home.as_ref()?.join(".postgresql").join(name));
        let file = |keyword: &str| parameters.text(keyword).map(PathBuf::from);
        let authorities = match parameters.text("sslrootcert") {
            Some(word) if word == "system" => Authorities::System,
            Some(path) => Authorities::File(path.into()),
            None => at_home("root.crt").map_or(Authorities::Nobody, Authorities::File),
        };
        let mode = mode(parameters, &authorities)?;
        let is_direct = parameters.text("sslnegotiation").is_some_and(|word| word == "direct");
        if let Some(given) =
            parameters.given("sslnegotiation").filter(|_| is_direct && mode < SslMode::Require)
        {
            return Err(given.refused(&format!(
                "weak sslmode {} may not be used with it (use require, verify-ca or verify-full)",
                word_of(mode)
            )));
        }
        if let Some(password) = parameters.non_empty("sslpassword") {
            return Err(password.refused(
                "a key with a password cannot be read here: openssl pkey writes one without, for the agent's user alone",
            ));
        }
        let revocation_lists = file("sslcrldir");
        let default_list = || at_home("root.crl").filter(|_| revocation_lists.is_none());
        Ok(Encryption {
            mode,
            authorities,
            certificate: file("sslcert").or_else(|| at_home("postgresql.crt")),
            key: file("sslkey").or_else(|| at_home("postgresql.key")),
            certificate_mode: choice(parameters, "sslcertmode"),
            revocation_list: file("sslcrl").or_else(default_list),
            revocation_lists,
            is_direct,
            says_host: parameters.text("sslsni").is_none_or(|value| value != "0"),
            versions: versions(parameters)?,
            channel_binding: choice(parameters, "channel_binding"),
            host: parameters.text("host").filter(|host| !host.starts_with('/')),
        })
    }

    /// Whether TLS may be spoken at all.
    pub fn is_wanted(&self) -> bool {
        self.mode != SslMode::Disable
    }
}

fn mode(parameters: &Parameters, authorities: &Authorities) -> Result<SslMode, String> {
    let given = parameters.given("sslmode");
    let named = given.and_then(|given| SslMode::ALL.iter().find(|(word, _)| *word == given.value));
    match (named, authorities) {
        (None, Authorities::System) => Ok(SslMode::VerifyFull),
        (None, _) => Ok(SslMode::Prefer),
        (Some((word, mode)), Authorities::System) if *mode < SslMode::VerifyFull => {
            let what = format!("weak sslmode {word} may not be used with it (use verify-full)");
            Err(parameters.given("sslrootcert").map_or_else(|| what.clone(), |given| given.refused(&what)))
        }
        (Some((_, mode)), _) => Ok(*mode),
    }
}

/// The word of a mode.
fn word_of(mode: SslMode) -> &'static str {
    SslMode::ALL.iter().find(|(_, other)| *other == mode).map_or("", |(word, _)| word)
}

/// The keyword's rule has seen to it that it is one of three.
fn choice(parameters: &Parameters, keyword: &str) -> Choice {
    match parameters.text(keyword).as_deref() {
        Some("disable") => Choice::Disable,
        Some("require") => Choice::Require,
        Some(_) | None => Choice::Prefer,
    }
}

/// TLS before 1.2 is spoken by nobody here: as a lower limit it is 1.2, as an upper one a contradiction.
fn versions(parameters: &Parameters) -> Result<[bool; 2], String> {
    let number = |keyword: &str| -> Result<Option<(&Parameter, usize)>, String> {
        let Some(given) = parameters.non_empty(keyword) else { return Ok(None) };
        let known = ["tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3"];
        let found = known.iter().position(|name| given.value.eq_ignore_ascii_case(name));
        found
            .map(|number| Some((given, number)))
            .ok_or_else(|| given.error("is not one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3"))
    };
    let (least, most) = (number("ssl_min_protocol_version")?, number("ssl_max_protocol_version")?);
    let lowest = least.map_or(2, |(_, number)| number);
    match most {
        Some((given, number)) if number < lowest => {
            Err(given.refused("it is below ssl_min_protocol_version (by default TLSv1.2)"))
        }
        Some((given, number)) if number < 2 => {
            Err(given.refused("nothing below TLSv1.2 is spoken here: leave it out"))
        }
        most => Ok([lowest <= 2, most.is_none_or(|(_, number)| number == 3)]),
    }
}
