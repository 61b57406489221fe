//! Connection URIs, PostgreSQL manual section 34.1.1.2:
//! `postgresql://[user[:password]@][host][:port][/dbname][?keyword=value&...]`.
use super::keywords::ONE_INSTANCE;

/// What follows `postgres://` or `postgresql://`; `None` where `text` is not a URI.
pub fn without_scheme(text: &str) -> Option<&str> {
    text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"))
}

/// The parameters in a URI whose scheme has been taken off. An empty component counts as not given, so that
/// the service file and the environment can fill it in.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    // As in libpq, a slash ends the search for user and password: one in a password is written %2F.
    let (credentials, text) = match text.find(['@', '/']) {
        Some(at) if text[at..].starts_with('@') => (&text[..at], &text[at + 1..]),
        Some(_) | None => ("", text),
    };
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let (host, text) = host(text)?;
    let (port, text) = match text.strip_prefix(':') {
        Some(text) => text.split_at(text.find(['/', '?', ',']).unwrap_or(text.len())),
        None => ("", text),
    };
    if text.starts_with(',') {
        return Err(format!("the URI names several hosts: {ONE_INSTANCE}"));
    }
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let database = path.strip_prefix('/').unwrap_or(path);
    for (name, value) in
        [("user", user), ("password", password), ("host", host), ("port", port), ("dbname", database)]
    {
        if !value.is_empty() {
            pairs.push((name.to_owned(), decode(value).map_err(|why| format!("{name}: {why}"))?));
        }
    }
    parameters(query, &mut pairs)?;
    Ok(pairs)
}

/// The host at the start of `text`, an IPv6 address without its brackets, and what follows it.
fn host(text: &str) -> Result<(&str, &str), String> {
    let Some(text) = text.strip_prefix('[') else {
        return Ok(text.split_at(text.find([':', '/', '?', ',']).unwrap_or(text.len())));
    };
    let (address, rest) = text.split_once(']').ok_or("the URI lacks the \"]\" after the IPv6 address")?;
    if address.is_empty() {
        return Err("the IPv6 address in the URI is empty".into());
    }
    match rest.chars().next() {
        None | Some(':' | '/' | '?' | ',') => Ok((address, rest)),
        Some(_) => Err("unexpected character after \"]\" in the URI (expected \":\" or \"/\")".into()),
    }
}

/// `keyword=value&keyword=value`; one trailing `&` is allowed, as in libpq.
fn parameters(query: &str, pairs: &mut Vec<(String, String)>) -> Result<(), String> {
    if query.is_empty() {
        return Ok(());
    }
    for (index, parameter) in query.strip_suffix('&').unwrap_or(query).split('&').enumerate() {
        let problem = |what: &str| format!("query parameter {}: {what}", index + 1);
        let (name, value) = parameter.split_once('=').ok_or_else(|| problem("missing \"=\""))?;
        if value.contains('=') {
            return Err(problem("extra \"=\" (inside a value it is written %3D)"));
        }
        let (name, value) = (decode(name).map_err(problem)?, decode(value).map_err(problem)?);
        // JDBC's spelling.
        match (name.as_str(), value.as_str()) {
            ("ssl", "true") => pairs.push(("sslmode".into(), "require".into())),
            _ => pairs.push((name, value)),
        }
    }
    Ok(())
}

/// Replaces `%xy` by the byte it stands for.
fn decode(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) =
            digit().zip(digit()).ok_or("\"%\" needs two hexadecimal digits (\"%\" itself is %25)")?;
        match u8::try_from(high * 16 + low) {
            Ok(0) | Err(_) => return Err("%00 is not allowed"),
            Ok(byte) => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| "the percent-encoded bytes are not UTF-8 text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_follow_libpq() {
        for (text, expected) in [
            ("", &[][..]),
            ("localhost", &[("host", "localhost")]),
            ("h:5433/db", &[("host", "h"), ("port", "5433"), ("dbname", "db")]),
            ("u@h", &[("user", "u"), ("host", "h")]),
            (
                "u:p@h/db?connect_timeout=3&application_name=a",
                &[
                    ("user", "u"),
                    ("password", "p"),
                    ("host", "h"),
                    ("dbname", "db"),
                    ("connect_timeout", "3"),
                    ("application_name", "a"),
                ],
            ),
            (":p@h", &[("password", "p"), ("host", "h")]),
            ("u:@h", &[("user", "u"), ("host", "h")]),
            ("@", &[]),
            ("u:p:q@h", &[("user", "u"), ("password", "p:q"), ("host", "h")]),
            ("u:p?q@h", &[("user", "u"), ("password", "p?q"), ("host", "h")]),
            ("u%40x:p%2F%25@h", &[("user", "u@x"), ("password", "p/%"), ("host", "h")]),
            ("[::1]:5433/db", &[("host", "::1"), ("port", "5433"), ("dbname", "db")]),
            ("[2001:db8::1234]", &[("host", "2001:db8::1234")]),
            ("[::1]?port=1", &[("host", "::1"), ("port", "1")]),
            (
                "%2Frun%2Fpostgresql:5433/db",
                &[("host", "/run/postgresql"), ("port", "5433"), ("dbname", "db")],
            ),
            ("%2frun/db", &[("host", "/run"), ("dbname", "db")]),
            ("/db?host=/run&port=1", &[("dbname", "db"), ("host", "/run"), ("port", "1")]),
            ("///db", &[("dbname", "//db")]),
            ("h:/x?port=1", &[("host", "h"), ("dbname", "x"), ("port", "1")]),
            ("h/", &[("host", "h")]),
            ("h?", &[("host", "h")]),
            ("h?port=1&", &[("host", "h"), ("port", "1")]),
            ("?user=a%20b%26c%3Dd", &[("user", "a b&c=d")]),
            ("?user=", &[("user", "")]),
            ("?ssl=true", &[("sslmode", "require")]),
            ("?ssl=false", &[("ssl", "false")]),
            ("?user=a?b", &[("user", "a?b")]),
            ("%C3%A9@", &[("user", "é")]),
        ] {
            let expected =
                expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            assert_eq!(parse(text), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn malformed_uris_are_refused_without_showing_them() {
        for (text, expected) in [
            ("a,b", "the URI names several hosts: one agent watches one instance: name the one on this host"),
            (
                "a:1,b:2/x",
                "the URI names several hosts: one agent watches one instance: name the one on this host",
            ),
            ("[::1", "the URI lacks the \"]\" after the IPv6 address"),
            ("[]", "the IPv6 address in the URI is empty"),
            ("[::1]x:1/", "unexpected character after \"]\" in the URI (expected \":\" or \"/\")"),
            ("u:p%@h", "password: \"%\" needs two hexadecimal digits (\"%\" itself is %25)"),
            ("u:p%2x@h", "password: \"%\" needs two hexadecimal digits (\"%\" itself is %25)"),
            ("h/a%00b", "dbname: %00 is not allowed"),
            ("%ff@h", "user: the percent-encoded bytes are not UTF-8 text"),
            ("h?port", "query parameter 1: missing \"=\""),
            ("h?&port=1", "query parameter 1: missing \"=\""),
            ("h?port=1&&user=x", "query parameter 2: missing \"=\""),
            ("h?options=-ca=b", "query parameter 1: extra \"=\" (inside a value it is written %3D)"),
            ("h?user=%4", "query parameter 1: \"%\" needs two hexadecimal digits (\"%\" itself is %25)"),
        ] {
            assert_eq!(parse(text), Err(expected.into()), "{text:?}");
        }
        assert_eq!(without_scheme("postgres://x"), Some("x"));
        assert_eq!(without_scheme("postgresql://x"), Some("x"));
        assert_eq!(without_scheme("POSTGRES://x"), None);
    }
}
