//! What a certificate says of itself: whose it is, for which names and until when, and how it was signed. rustls judges
//! chains and signatures and tells none of that; libpq's rules and lines for people need it. Pure, and for bytes of anybody's
//! making: everything read lies within what contains it (RFC 5280, section 4.1; X.690 for the encoding).

use std::net::IpAddr;

/// A certificate's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The first common name of its subject.
    pub common_name: Option<String>,
    /// The names in `subjectAltName`, in their order.
    pub names: Vec<Name>,
    /// From when on it is valid, in seconds since 1970.
    pub not_before: u64,
    /// Until when.
    pub not_after: u64,
    /// With which hash it was signed, where that is said.
    pub signature_hash: Option<Hash>,
    /// Whether its issuer is its subject. Nobody has looked whether its signature is its own.
    pub issues_itself: bool,
    /// Whether it may issue others, by OpenSSL's reading (`X509_check_ca` in v3_purp.c).
    pub is_authority: bool,
}

/// One of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A host, perhaps with a wildcard.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

/// A hash of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256, or an older one in whose place it is used (RFC 5929, section 4.1).
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const BITS: u8 = 0x03;
const OCTETS: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]` to `[3]`, constructed.
const FIELD: [u8; 4] = [0xa0, 0xa1, 0xa2, 0xa3];
/// `dNSName` and `iPAddress` of a GeneralName (RFC 5280, section 4.2.1.6).
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
/// `keyCertSign` in the first byte of a KeyUsage (RFC 5280, section 4.2.1.3).
const MAY_SIGN_CERTIFICATES: u8 = 0x04;
/// 1.2.840.113549.1.1, what is signed with RSA, and its number for PSS.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
const PSS: u8 = 10;
/// 1.2.840.10045.4.3, ECDSA with SHA-2.
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
/// 2.16.840.1.101.3.4.2, the hashes of SHA-2.
const SHA_2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

/// Reads a certificate in DER; `None` where it is none.
pub fn read(bytes: &[u8]) -> Option<Certificate> {
    let mut whole = Reader(bytes).enter(SEQUENCE)?;
    let mut body = whole.enter(SEQUENCE)?;
    let signature_hash = whole.enter(SEQUENCE).and_then(hash_of);
    let is_version_1 = body.0.first() != Some(&FIELD[0]);
    body.skip_if(FIELD[0])?;
    // Serial number, and the signature's algorithm once more.
    for _ in 0..2 {
        body.next()?;
    }
    let issuer = body.enter(SEQUENCE)?;
    let mut validity = body.enter(SEQUENCE)?;
    let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
    let subject = body.enter(SEQUENCE)?;
    // The key, and two numbers that nobody uses.
    body.next()?;
    body.skip_if(FIELD[1] & !0x20)?;
    body.skip_if(FIELD[2] & !0x20)?;
    let extensions = match body.next() {
        Some((tag, extensions)) if tag == FIELD[3] => extensions_of(Reader(extensions).enter(SEQUENCE)?)?,
        Some(_) | None => Extensions::default(),
    };
    let is_authority = match (extensions.may_sign, extensions.is_authority) {
        (Some(false), _) => false,
        (_, Some(is_authority)) => is_authority,
        (Some(true), None) => true,
        (None, None) => is_version_1,
    };
    Some(Certificate {
        common_name: common_name(subject),
        names: extensions.names,
        not_before,
        not_after,
        signature_hash,
        issues_itself: issuer.0 == subject.0,
        is_authority,
    })
}

/// A sequence of elements, each a tag and what it contains.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next element. Lengths take up to three bytes here: no certificate is longer than 16 MiB.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }

    /// What the next element contains, which has to be of this kind.
    fn enter(&mut self, tag: u8) -> Option<Reader<'a>> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| Reader(content))
    }

    /// Passes over the next element if it is of this kind.
    fn skip_if(&mut self, tag: u8) -> Option<()> {
        if self.0.first() == Some(&tag) {
            self.next()?;
        }
        Some(())
    }
}

fn common_name(mut subject: Reader) -> Option<String> {
    while let Some(mut set) = subject.enter(SET) {
        while let Some(mut attribute) = set.enter(SEQUENCE) {
            if attribute.enter(OBJECT)?.0 == COMMON_NAME {
                let (_, value) = attribute.next()?;
                // A zero byte would end the name for some readers, and not for others.
                return String::from_utf8(value.to_vec()).ok().filter(|name| !name.contains('\0'));
            }
        }
    }
    None
}

/// What is read of the extensions; `None` where one is not there.
#[derive(Default)]
struct Extensions {
    names: Vec<Name>,
    is_authority: Option<bool>,
    may_sign: Option<bool>,
}

fn extensions_of(mut all: Reader) -> Option<Extensions> {
    let mut found = Extensions::default();
    while let Some(mut extension) = all.enter(SEQUENCE) {
        let object = extension.enter(OBJECT)?.0;
        // Whether it is critical.
        extension.skip_if(BOOLEAN)?;
        let mut value = extension.enter(OCTETS)?;
        match object {
            SUBJECT_ALT_NAME => found.names = names(value.enter(SEQUENCE)?)?,
            BASIC_CONSTRAINTS => {
                let first = value.enter(SEQUENCE)?.next();
                found.is_authority = Some(first.is_some_and(|(tag, is)| tag == BOOLEAN && is != [0]));
            }
            KEY_USAGE => {
                let bits = value.enter(BITS)?.0;
                // Ahead of them stands how many of the last byte do not count.
                found.may_sign = Some(bits.get(1).is_some_and(|bits| bits & MAY_SIGN_CERTIFICATES != 0));
            }
            _ => {}
        }
    }
    Some(found)
}

fn names(mut all: Reader) -> Option<Vec<Name>> {
    let mut names = Vec::new();
    while let Some((tag, value)) = all.next() {
        match (tag, value.len()) {
            (DNS_NAME, _) => {
                let name = String::from_utf8(value.to_vec()).ok();
                names.extend(name.filter(|name| !name.contains('\0')).map(Name::Dns));
            }
            (IP_ADDRESS, 4) => names.push(Name::Ip(<[u8; 4]>::try_from(value).ok()?.into())),
            (IP_ADDRESS, 16) => names.push(Name::Ip(<[u8; 16]>::try_from(value).ok()?.into())),
            _ => {}
        }
    }
    Some(names)
}

fn hash_of(mut algorithm: Reader) -> Option<Hash> {
    let object = algorithm.enter(OBJECT)?.0;
    let (number, family) = object.split_last()?;
    match (family, *number) {
        (RSA, 4 | 5 | 11) | (ECDSA, 2) => Some(Hash::Sha256),
        (RSA, 12) | (ECDSA, 3) => Some(Hash::Sha384),
        (RSA, 13) | (ECDSA, 4) => Some(Hash::Sha512),
        // SHA-1, unless the parameters name another one.
        (RSA, PSS) => match algorithm.enter(SEQUENCE)?.enter(FIELD[0]) {
            Some(mut hash) => {
                let object = hash.enter(SEQUENCE)?.enter(OBJECT)?.0;
                match object.split_last()? {
                    (1, SHA_2) => Some(Hash::Sha256),
                    (2, SHA_2) => Some(Hash::Sha384),
                    (3, SHA_2) => Some(Hash::Sha512),
                    _ => None,
                }
            }
            None => Some(Hash::Sha256),
        },
        _ => None,
    }
}

/// `YYMMDDHHMMSSZ` until 2049, `YYYYMMDDHHMMSSZ` from then on (RFC 5280, section 4.1.2.5).
fn time((tag, text): (u8, &[u8])) -> Option<u64> {
    let text = text.strip_suffix(b"Z").filter(|text| text.iter().all(u8::is_ascii_digit))?;
    let pair = |at: usize| {
        let pair = text.get(at..at + 2)?;
        Some(u64::from(pair[0] - b'0') * 10 + u64::from(pair[1] - b'0'))
    };
    let (year, rest) = match (tag, text.len()) {
        (UTC_TIME, 12) => (pair(0).map(|year| if year < 50 { 2000 + year } else { 1900 + year })?, 2),
        (GENERALIZED_TIME, 14) => (pair(0)? * 100 + pair(2)?, 4),
        _ => return None,
    };
    let (month, day) = (pair(rest)?, pair(rest + 2)?);
    let (hour, minute, second) = (pair(rest + 4)?, pair(rest + 6)?, pair(rest + 8)?);
    let date = time::Date::from_calendar_date(
        i32::try_from(year).ok()?,
        time::Month::try_from(u8::try_from(month).ok()?).ok()?,
        u8::try_from(day).ok()?,
    );
    let clock = time::Time::from_hms(
        u8::try_from(hour).ok()?,
        u8::try_from(minute).ok()?,
        u8::try_from(second).ok()?,
    );
    // What lies before 1970 has passed.
    Some(u64::try_from(date.ok()?.with_time(clock.ok()?).assume_utc().unix_timestamp()).unwrap_or(0))
}

impl Certificate {
    /// Whether it is for this host by libpq's rules (fe-secure-common.c, fe-secure-openssl.c, PostgreSQL 15 and later): one of
    /// the names in `subjectAltName`, or, where none of them is of the host's kind, the common name. A wildcard stands
    /// for the leftmost label, and for all of it.
    pub fn is_for(&self, host: &str) -> bool {
        let is_ip = host.parse::<IpAddr>().is_ok();
        let is_of_its_kind = |name: &Name| matches!(name, Name::Ip(_)) == is_ip;
        if self.is_named(host) {
            return true;
        }
        let common_name = self.common_name.as_ref().filter(|_| !self.names.iter().any(is_of_its_kind));
        common_name.is_some_and(|name| is_matched(name, host))
    }

    /// Whether one of the names in `subjectAltName` is this host's.
    pub fn is_named(&self, host: &str) -> bool {
        let ip = host.parse::<IpAddr>().ok();
        self.names.iter().any(|name| match name {
            Name::Dns(name) => is_matched(name, host),
            Name::Ip(address) => ip == Some(*address),
        })
    }

    /// Its names, for people.
    pub fn described(&self) -> String {
        match &self.common_name {
            Some(name) => format!("the certificate of \"{name}\""),
            None => "the certificate".to_owned(),
        }
    }

    /// All names that it is for, for people.
    pub fn all_names(&self) -> String {
        let name = |name: &Name| match name {
            Name::Dns(name) => name.clone(),
            Name::Ip(address) => address.to_string(),
        };
        match self.names.is_empty() {
            true => self.common_name.clone().unwrap_or_else(|| "nobody".into()),
            false => self.names.iter().map(name).collect::<Vec<_>>().join(", "),
        }
    }
}

fn is_matched(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    // `*.example.com`, for hosts with as many labels; an address has none.
    let Some(domain) = pattern.strip_prefix('*').filter(|rest| rest.len() > 1 && rest.starts_with('.'))
    else {
        return false;
    };
    let label = host.len().checked_sub(domain.len()).map(|at| host.split_at_checked(at));
    label.flatten().is_some_and(|(label, rest)| {
        !label.is_empty() && !label.contains('.') && rest.eq_ignore_ascii_case(domain)
    })
}

/// Whatever the bytes are: it ends, and no name could be read as two.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let Some(certificate) = read(bytes) else { return };
    let names = certificate.names.iter().filter_map(|name| match name {
        Name::Dns(name) => Some(name),
        Name::Ip(_) => None,
    });
    let names: Vec<&String> = names.chain(&certificate.common_name).collect();
    assert!(names.iter().all(|name| !name.contains('\0')));
    for host in ["db.example", "a.b.example", "192.0.2.1", "2001:db8::1", ""] {
        assert!(certificate.is_for(host) || !certificate.is_named(host), "a name of HTTPS is one of libpq");
    }
    for name in names.iter().filter(|name| !name.contains('*')) {
        assert!(certificate.is_for(name) || certificate.common_name.as_ref() == Some(name));
    }
    assert!(certificate.described().len() + certificate.all_names().len() < 64 * 1024 + 20 * bytes.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(common_name: &str, names: &[Name]) -> Certificate {
        Certificate { common_name: Some(common_name.into()), names: names.to_vec(), ..Certificate::default() }
    }

    fn dns(name: &str) -> Name {
        Name::Dns(name.into())
    }

    #[test]
    fn names_are_matched_as_libpq_matches_them() {
        let ip = |text: &str| Name::Ip(text.parse().unwrap());
        for (certificate, host, expected) in [
            (with("db.example", &[]), "db.example", true),
            (with("db.example", &[]), "DB.Example", true),
            (with("db.example", &[dns("other")]), "db.example", false),
            (with("db.example", &[ip("192.0.2.1")]), "db.example", true),
            (with("192.0.2.1", &[]), "192.0.2.1", true),
            (with("192.0.2.1", &[dns("db")]), "192.0.2.1", true),
            (with("192.0.2.1", &[ip("192.0.2.2")]), "192.0.2.1", false),
            (with("x", &[dns("192.0.2.1")]), "192.0.2.1", true),
            (with("x", &[ip("192.0.2.1")]), "192.0.2.1", true),
            (with("x", &[ip("2001:db8::1")]), "2001:DB8:0::1", true),
            (with("x", &[dns("*.example")]), "db.example", true),
            (with("x", &[dns("*.example")]), "a.db.example", false),
            (with("x", &[dns("*.example")]), ".example", false),
            (with("x", &[dns("*.example")]), "example", false),
            (with("x", &[dns("d*.example")]), "db.example", false),
            (with("x", &[dns("*")]), "db", false),
            (with("x", &[dns("*.")]), "db.", false),
            (with("x", &[dns("*.0.2.1")]), "192.0.2.1", true),
        ] {
            assert_eq!(certificate.is_for(host), expected, "{certificate:?} {host}");
        }
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for (tag, text, expected) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (UTC_TIME, "500101000000Z", Some(0)),
            (UTC_TIME, "20500101000000Z", None),
            (UTC_TIME, "7001010000Z", None),
            (UTC_TIME, "701301000000Z", None),
            (UTC_TIME, "700101000000+0100", None),
        ] {
            assert_eq!(time((tag, text.as_bytes())), expected, "{text}");
        }
    }

    #[test]
    fn what_openssl_makes_is_read() {
        let seed = |name: &str| {
            let path = format!("{}/fuzz/corpus/certificate/{name}", env!("CARGO_MANIFEST_DIR"));
            read(&std::fs::read(path).unwrap()).unwrap()
        };
        let names = seed("names");
        assert_eq!(names.all_names(), "db.example, *.b.example, 192.0.2.1, 2001:db8::1");
        assert_eq!(
            (names.common_name.as_deref(), names.signature_hash),
            (Some("db.example"), Some(Hash::Sha256))
        );
        assert_eq!(names.not_after - names.not_before, 20_000 * 86_400, "past 2049, in another form");
        let plain = seed("common-name");
        assert_eq!((plain.names.len(), plain.signature_hash), (0, Some(Hash::Sha384)));
        assert_eq!(seed("pss").signature_hash, Some(Hash::Sha512));
        assert!(plain.issues_itself && plain.is_authority);
        let issued = seed("issued");
        assert_eq!(issued.all_names(), "leaf.example");
        assert!(!issued.issues_itself && !issued.is_authority);
    }

    #[test]
    fn who_may_issue_others_is_read_as_openssl_reads_it() {
        let basic = |content: &[u8]| [&[0x30, content.len() as u8], content].concat();
        let (is_ca, is_none) = (basic(b"\x01\x01\xff"), basic(b""));
        let (signs, does_not) = (b"\x03\x02\x02\x04".to_vec(), b"\x03\x02\x07\x80".to_vec());
        for (constraints, usage, expected) in [
            (Some(&is_ca), None, (Some(true), None)),
            (Some(&is_none), Some(&signs), (Some(false), Some(true))),
            (None, Some(&does_not), (None, Some(false))),
            (None, None, (None, None)),
        ] {
            let extension = |object: &[u8], value: &Vec<u8>| {
                let object = [&[OBJECT, object.len() as u8], object].concat();
                basic(&[object, vec![OCTETS, value.len() as u8], value.clone()].concat())
            };
            let extensions = [
                constraints.map(|value| extension(BASIC_CONSTRAINTS, value)),
                usage.map(|value| extension(KEY_USAGE, value)),
            ];
            let bytes: Vec<u8> = extensions.into_iter().flatten().flatten().collect();
            let found = extensions_of(Reader(&bytes)).unwrap();
            assert_eq!((found.is_authority, found.may_sign), expected);
        }
    }

    #[test]
    fn what_is_no_certificate_is_none() {
        for bytes in [
            &b""[..],
            b"\x30",
            b"\x30\x80",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x30\x03\x30\x05\x00",
            &[0x30; 64],
        ] {
            assert_eq!(read(bytes), None, "{bytes:?}");
        }
    }
}
