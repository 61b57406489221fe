//! Whom we believe to be the server that we want, PostgreSQL or the agent of a peer. Of PostgreSQL by libpq's rules: where there are authorities, the certificate has to come from one of
//! them and must not be on their revocation lists, whatever `sslmode` says; its name counts with `verify-full` only
//! (PostgreSQL manual, section 34.19.1; `initialize_SSL` in fe-secure-openssl.c).
//!
//! rustls's own judge is not asked for names, as it knows no common name, and not for a server's certificate that is itself
//! among the authorities: the manual's quick way to a certificate makes one (section 18.9.5), and that judge would refuse it.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use time::OffsetDateTime;
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage,
    OwnedCertRevocationList, RevocationOptionsBuilder,
};

use super::certificate::{self, Certificate};
use super::provider::provider;

/// Who judges the server's certificate.
#[derive(Debug)]
pub struct Verifier {
    trust: Option<Trust>,
    names: Names,
}

/// For whom the certificate has to be.
#[derive(Debug)]
pub enum Names {
    /// For anybody.
    Any,
    /// For this host, by libpq's rules.
    Libpq(String),
    /// For the host that is asked, by those of HTTPS: a common name is none (RFC 9110, section 4.3.4).
    Https,
}

/// Those who are believed.
#[derive(Debug)]
pub struct Trust {
    roots: RootCertStore,
    /// The same as they were read.
    certificates: Vec<CertificateDer<'static>>,
    /// What they have revoked; empty: nobody looks.
    lists: Vec<CertRevocationList<'static>>,
}

impl Trust {
    /// Of these authorities and their lists. `Err` says which part of them cannot be used.
    pub fn new(
        certificates: Vec<CertificateDer<'static>>,
        lists: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<Trust, String> {
        let mut roots = RootCertStore::empty();
        // Of many, some may be of a kind that is not known here.
        let (known, _) = roots.add_parsable_certificates(certificates.iter().cloned());
        if known == 0 {
            return Err("none of its certificates can be used as an authority".into());
        }
        let list = |list: CertificateRevocationListDer| {
            let list = BorrowedCertRevocationList::from_der(&list)
                .and_then(|list| list.to_owned())
                .map(|list: OwnedCertRevocationList| list.into());
            list.map_err(|error| {
                format!("a revocation list that cannot be used ({error}): it has to be of version 2")
            })
        };
        let lists = lists.into_iter().map(list).collect::<Result<_, _>>()?;
        Ok(Trust { roots, certificates, lists })
    }

    fn judge(
        &self,
        shown: &CertificateDer,
        between: &[CertificateDer],
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        let is_among_them = self.certificates.iter().any(|known| known.as_ref() == shown.as_ref());
        if is_among_them && self.lists.is_empty() {
            let known = certificate::read(shown).ok_or(webpki::Error::BadDer)?;
            return match now.as_secs() {
                now if now < known.not_before => {
                    Err(webpki::Error::CertNotValidYet { time: at(now), not_before: at(known.not_before) })
                }
                now if now > known.not_after => {
                    Err(webpki::Error::CertExpired { time: at(now), not_after: at(known.not_after) })
                }
                _ => Ok(()),
            };
        }
        let lists: Vec<&CertRevocationList> = self.lists.iter().collect();
        // As OpenSSL does: the whole chain, a list for each issuer, and none that is out of date.
        let revocation = RevocationOptionsBuilder::new(&lists)
            .ok()
            .map(|options| options.with_expiration_policy(ExpirationPolicy::Enforce).build());
        let certificate = EndEntityCert::try_from(shown)?;
        let algorithms = provider().signature_verification_algorithms.all;
        certificate
            .verify_for_usage(
                algorithms,
                &self.roots.roots,
                between,
                now,
                KeyUsage::server_auth(),
                revocation,
                None,
            )
            .map(drop)
    }
}

impl Verifier {
    /// One that believes those in `trust`, or everybody.
    pub fn new(trust: Option<Trust>, names: Names) -> Verifier {
        Verifier { trust, names }
    }

    fn judge(
        &self,
        shown: &CertificateDer,
        between: &[CertificateDer],
        asked: &ServerName,
        now: UnixTime,
    ) -> Result<(), String> {
        let Some(trust) = &self.trust else { return Ok(()) };
        let read = certificate::read(shown).unwrap_or_default();
        trust.judge(shown, between, now).map_err(|error| in_words(&read, &error))?;
        let asked = asked.to_str();
        let (host, is_right) = match &self.names {
            Names::Any => return Ok(()),
            Names::Libpq(host) => (host.as_str(), read.is_for(host)),
            Names::Https => (asked.as_ref(), read.is_named(&asked)),
        };
        match is_right {
            true => Ok(()),
            false => Err(format!("{} is for {}, and not for {host}", read.described(), read.all_names())),
        }
    }
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

/// Which certificate, why, and where that is the reason, since or until when.
fn in_words(certificate: &Certificate, error: &webpki::Error) -> String {
    use webpki::Error;
    let whose = certificate.described();
    match error {
        Error::CertExpired { not_after, .. } => {
            format!("{whose} has expired: it was valid until {}", day(*not_after))
        }
        Error::CertNotValidYet { not_before, .. } => {
            format!("{whose} is not valid yet: it will be from {} on", day(*not_before))
        }
        Error::CertRevoked => format!("{whose} was revoked"),
        Error::CrlExpired { next_update, .. } => {
            format!("the revocation list has expired: it was good until {}", day(*next_update))
        }
        Error::UnknownRevocationStatus => {
            format!("{whose} cannot be looked up: there is no revocation list of its issuer")
        }
        Error::UnknownIssuer => {
            format!("{whose} comes from none of the authorities that are believed")
        }
        Error::UnsupportedCertVersion => {
            format!("{whose} is of X.509's version 1, which is not read here: make one with extensions")
        }
        error => format!("{whose} is not believed: {error}"),
    }
}

fn day(time: UnixTime) -> String {
    let time =
        i64::try_from(time.as_secs()).ok().and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok());
    time.map_or_else(String::new, |time| {
        format!(
            "{:04}-{:02}-{:02} {:02}:{:02} UTC",
            time.year(),
            u8::from(time.month()),
            time.day(),
            time.hour(),
            time.minute()
        )
    })
}

/// A line about a certificate, on its way through rustls.
#[derive(Debug)]
pub struct NotBelieved(String);

impl fmt::Display for NotBelieved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotBelieved {}

/// What rustls says went wrong, without the words that it puts ahead of ours; `None` where it was not rustls.
pub fn words(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(ours))) => ours.to_string(),
        error => error.to_string(),
    })
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer,
        between: &[CertificateDer],
        asked: &ServerName,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(shown, between, asked, now).map_err(|why| {
            let why = CertificateError::Other(OtherError(Arc::new(NotBelieved(why))));
            rustls::Error::InvalidCertificate(why)
        })?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
