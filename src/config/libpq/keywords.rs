//! libpq's connection parameters and what this agent does with each.
//!
//! The list is that of the PostgreSQL manual, section 34.1.2, versions 10 to 18, with `oauth_ca_file` and `servicefile` of
//! 19. A connection string that psql takes is taken here too, unless leaving a parameter out would quietly weaken
//! what was asked for: then it is refused with the reason.

/// One connection parameter.
#[derive(Debug, PartialEq)]
pub struct Keyword {
    /// Its name.
    pub name: &'static str,
    /// The environment variable that stands in for it, where the agent reads one.
    pub variable: Option<&'static str>,
    /// What the agent does with it.
    pub rule: Rule,
}

/// What the agent does with a parameter.
#[derive(Debug, PartialEq)]
pub enum Rule {
    /// Follows it.
    Used,
    /// Takes it and does without: it has no meaning here or its loss harms nobody.
    Ignored,
    /// Goes on with the values `fine`, and with the values `refused` unless it is said why not; libpq knows no others.
    OneOf { fine: &'static [&'static str], refused: &'static [&'static str], why: Option<&'static str> },
    /// Refuses every value but these.
    Only { fine: &'static [&'static str], why: &'static str },
    /// Refuses this value; others are ignored.
    Not { refused: &'static str, why: &'static str },
}

/// Why `host`, `hostaddr` and `port` take no list.
pub const ONE_INSTANCE: &str = "one agent watches one instance: name the one on this host";

const NO_TLS: &str = "not in this build, install pgsqlchk-tls (or use the Unix socket, or sslmode=prefer on a trusted network)";
const NO_GSS: &str =
    "this build speaks no GSSAPI: use the Unix socket, or gssencmode=disable on a trusted network";
const NO_PEER_CHECK: &str = "the server's user is not verified by this agent: leave the parameter out, \
                             and let only the server's user write to the socket directory";
const NO_AUTH_CHOICE: &str = "this agent cannot limit the authentication method: leave the parameter out, \
                              and limit it in pg_hba.conf";
const OWN_ROLE: &str = "the agent reports the role whatever it is: leave the parameter out";
const NO_REPLICATION: &str = "the agent needs an ordinary session: leave the parameter out";

/// Whether this is the name of a parameter.
pub fn is_libpq_keyword(name: &str) -> bool {
    KEYWORDS.iter().any(|keyword| keyword.name == name)
}

/// Every keyword, alphabetically.
pub const KEYWORDS: &[Keyword] = &[
    used("application_name", Some("PGAPPNAME")),
    ignored("authtype"),
    of_tls("channel_binding", "PGCHANNELBINDING", &["disable", "prefer"], &["require"]),
    ignored("client_encoding"),
    used("connect_timeout", Some("PGCONNECT_TIMEOUT")),
    used("dbname", Some("PGDATABASE")),
    used("fallback_application_name", None),
    ignored("gssdelegation"),
    Keyword {
        rule: Rule::OneOf { fine: &["disable", "prefer"], refused: &["require"], why: Some(NO_GSS) },
        ..used("gssencmode", Some("PGGSSENCMODE"))
    },
    ignored("gsslib"),
    used("host", Some("PGHOST")),
    used("hostaddr", Some("PGHOSTADDR")),
    used("keepalives", None),
    used("keepalives_count", None),
    used("keepalives_idle", None),
    used("keepalives_interval", None),
    ignored("krbsrvname"),
    ignored("load_balance_hosts"),
    ignored("max_protocol_version"),
    ignored("min_protocol_version"),
    ignored("oauth_ca_file"),
    ignored("oauth_client_id"),
    ignored("oauth_client_secret"),
    ignored("oauth_issuer"),
    ignored("oauth_scope"),
    used("options", None),
    used("passfile", Some("PGPASSFILE")),
    used("password", Some("PGPASSWORD")),
    used("port", Some("PGPORT")),
    Keyword {
        rule: Rule::Only { fine: &["", "0", "false", "off", "no"], why: NO_REPLICATION },
        ..ignored("replication")
    },
    Keyword {
        rule: Rule::Only { fine: &[""], why: NO_AUTH_CHOICE },
        ..used("require_auth", Some("PGREQUIREAUTH"))
    },
    Keyword {
        rule: Rule::Only { fine: &[""], why: NO_PEER_CHECK },
        ..used("requirepeer", Some("PGREQUIREPEER"))
    },
    ignored("scram_client_key"),
    ignored("scram_server_key"),
    used("service", Some("PGSERVICE")),
    used("servicefile", Some("PGSERVICEFILE")),
    any_of_tls("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    any_of_tls("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    any_of_tls("sslcert", "PGSSLCERT"),
    of_tls("sslcertmode", "PGSSLCERTMODE", &["disable", "allow"], &["require"]),
    ignored("sslcompression"),
    any_of_tls("sslcrl", "PGSSLCRL"),
    any_of_tls("sslcrldir", "PGSSLCRLDIR"),
    any_of_tls("sslkey", "PGSSLKEY"),
    ignored("sslkeylogfile"),
    of_tls("sslmode", "PGSSLMODE", &["disable", "allow", "prefer"], &["require", "verify-ca", "verify-full"]),
    of_tls("sslnegotiation", "PGSSLNEGOTIATION", &["postgres"], &["direct"]),
    ignored("sslpassword"),
    root_of_tls(),
    any_of_tls("sslsni", "PGSSLSNI"),
    Keyword {
        rule: Rule::OneOf {
            fine: &["any"],
            refused: &["read-write", "read-only", "primary", "standby", "prefer-standby"],
            why: Some(OWN_ROLE),
        },
        ..ignored("target_session_attrs")
    },
    used("tcp_user_timeout", None),
    ignored("tty"),
    used("user", Some("PGUSER")),
];

/// The keyword of that name.
pub fn find(name: &str) -> Option<&'static Keyword> {
    KEYWORDS.iter().find(|keyword| keyword.name == name)
}

const fn used(name: &'static str, variable: Option<&'static str>) -> Keyword {
    Keyword { name, variable, rule: Rule::Used }
}

/// One about TLS that has so many values; without TLS some of them are as good as nothing said.
const fn of_tls(
    name: &'static str,
    variable: &'static str,
    fine: &'static [&'static str],
    refused: &'static [&'static str],
) -> Keyword {
    let why = if cfg!(feature = "tls") { None } else { Some(NO_TLS) };
    Keyword { name, variable: Some(variable), rule: Rule::OneOf { fine, refused, why } }
}

/// One about TLS that has any value, which without TLS means nothing.
const fn any_of_tls(name: &'static str, variable: &'static str) -> Keyword {
    if cfg!(feature = "tls") { used(name, Some(variable)) } else { ignored(name) }
}

/// Alone, `system` means sslmode=verify-full.
const fn root_of_tls() -> Keyword {
    let keyword = used("sslrootcert", Some("PGSSLROOTCERT"));
    let refused = Rule::Not { refused: "system", why: NO_TLS };
    if cfg!(feature = "tls") { keyword } else { Keyword { rule: refused, ..keyword } }
}

const fn ignored(name: &'static str) -> Keyword {
    Keyword { name, variable: None, rule: Rule::Ignored }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_are_the_documented_ones() {
        let mut variables: Vec<&str> = KEYWORDS.iter().filter_map(|keyword| keyword.variable).collect();
        // Those that mean nothing without TLS are read where it is spoken.
        let of_tls = [
            "PGSSLCERT",
            "PGSSLCRL",
            "PGSSLCRLDIR",
            "PGSSLKEY",
            "PGSSLMAXPROTOCOLVERSION",
            "PGSSLMINPROTOCOLVERSION",
            "PGSSLSNI",
        ];
        let (about_tls, others): (Vec<&str>, Vec<&str>) =
            variables.iter().partition(|variable| of_tls.contains(variable));
        assert_eq!(about_tls.len(), if cfg!(feature = "tls") { of_tls.len() } else { 0 });
        variables = others;
        variables.sort_unstable();
        assert_eq!(
            variables.join(" "),
            "PGAPPNAME PGCHANNELBINDING PGCONNECT_TIMEOUT PGDATABASE PGGSSENCMODE PGHOST PGHOSTADDR PGPASSFILE PGPASSWORD \
             PGPORT PGREQUIREAUTH PGREQUIREPEER PGSERVICE PGSERVICEFILE PGSSLCERTMODE PGSSLMODE PGSSLNEGOTIATION PGSSLROOTCERT PGUSER"
        );
    }

    #[test]
    fn no_keyword_stands_twice() {
        assert!(KEYWORDS.windows(2).all(|pair| pair[0].name < pair[1].name), "not in alphabetical order");
    }
}
