//! Whom we believe to be the server that we want, PostgreSQL or the agent of a peer. Of PostgreSQL by libpq's rules: where
//! there are authorities, the certificate has to come from one of them and must not be on their revocation lists, whatever
//! `sslmode` says; its name counts with `verify-full` only (PostgreSQL manual, section 34.19.1; `initialize_SSL` in
//! fe-secure-openssl.c).
//!
//! Chains and signatures are webpki's to judge, which believes whatever it is told to. That chains end in an authority, and
//! that this one issues itself and has not expired, is OpenSSL's rule, and told here (openssl-verification-options(1), "Trust
//! Anchors"). webpki is not asked for names, as it knows no common name, and not for a server's certificate that is itself the
//! root: the manual's quick way to a certificate makes one (section 18.9.5), and webpki would refuse it.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::TrustAnchor;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};
use time::OffsetDateTime;
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage,
    OwnedCertRevocationList, RevocationOptionsBuilder, VerifiedPath, anchor_from_trusted_cert,
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
    /// Certificates that issue themselves.
    roots: Vec<Root>,
    /// What webpki knows them by.
    anchors: Vec<TrustAnchor<'static>>,
    /// Certificates that others have issued: good for the way to a root only.
    between: Vec<CertificateDer<'static>>,
    /// What was revoked; `None`: nobody looks.
    lists: Option<Vec<CertRevocationList<'static>>>,
}

#[derive(Debug)]
struct Root {
    itself: CertificateDer<'static>,
    read: Certificate,
    /// Which of the anchors it is.
    anchor: Option<usize>,
}

impl Trust {
    /// Of these certificates, and with revocation lists of all authorities, or without any. `Err` says which part of them
    /// cannot be used.
    pub fn new(
        certificates: Vec<CertificateDer<'static>>,
        lists: Option<Vec<CertificateRevocationListDer<'static>>>,
    ) -> Result<Trust, String> {
        let (mut roots, mut anchors, mut between) = (Vec::new(), Vec::new(), Vec::new());
        for itself in certificates {
            // Of many, some may be of a kind that is not known here.
            match certificate::read(&itself) {
                Some(read) if read.issues_itself => {
                    let anchor = anchor_from_trusted_cert(&itself).ok().map(|anchor| anchor.to_owned());
                    let index = anchor.is_some().then_some(anchors.len());
                    anchors.extend(anchor);
                    roots.push(Root { itself, read, anchor: index });
                }
                Some(_) => between.push(itself),
                None => {}
            }
        }
        if roots.is_empty() {
            return Err("none of its certificates is that of an authority that issues itself".into());
        }
        let list = |list: CertificateRevocationListDer| {
            let list = BorrowedCertRevocationList::from_der(&list)
                .and_then(|list| list.to_owned())
                .map(|list: OwnedCertRevocationList| list.into());
            list.map_err(|error| {
                format!("a revocation list that cannot be used ({error}): it has to be of version 2")
            })
        };
        let lists = lists.map(|lists| lists.into_iter().map(list).collect()).transpose()?;
        Ok(Trust { roots, anchors, between, lists })
    }

    fn judge(
        &self,
        shown: &CertificateDer,
        between: &[CertificateDer],
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        let itself = self.roots.iter().find(|root| root.itself.as_ref() == shown.as_ref());
        if let Some(root) = itself.filter(|_| self.lists.is_none()) {
            return root.is_valid(now);
        }
        let lists: Vec<&CertRevocationList> = self.lists.iter().flatten().collect();
        // As OpenSSL does: the whole chain, a list for each issuer, and none that is out of date.
        let revocation = RevocationOptionsBuilder::new(&lists)
            .ok()
            .map(|options| options.with_expiration_policy(ExpirationPolicy::Enforce).build());
        let between: Vec<CertificateDer> = self.between.iter().chain(between).cloned().collect();
        let certificate = EndEntityCert::try_from(shown)?;
        let ends_well = |path: &VerifiedPath| self.is_end_valid(path, now);
        certificate.verify_for_usage(
            provider().signature_verification_algorithms.all,
            &self.anchors,
            &between,
            now,
            KeyUsage::server_auth(),
            revocation,
            Some(&ends_well),
        )?;
        match &self.lists {
            Some(lists) if lists.is_empty() => Err(webpki::Error::UnknownRevocationStatus),
            Some(_) | None => Ok(()),
        }
    }

    /// A root that may issue others, and is valid. One that was renewed with the same key stands there twice, and webpki
    /// says no more than which key it was.
    fn is_end_valid(&self, path: &VerifiedPath, now: UnixTime) -> Result<(), webpki::Error> {
        let is_it = |root: &&Root| root.anchor.is_some_and(|index| self.anchors[index] == *path.anchor());
        let mut outcome = Err(webpki::Error::UnknownIssuer);
        for root in self.roots.iter().filter(|root| root.read.is_authority).filter(is_it) {
            outcome = root.is_valid(now);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }
}

impl Root {
    fn is_valid(&self, now: UnixTime) -> Result<(), webpki::Error> {
        let (not_before, not_after) = (at(self.read.not_before), at(self.read.not_after));
        match now.as_secs() {
            seconds if seconds < self.read.not_before => {
                Err(webpki::Error::CertNotValidYet { time: now, not_before })
            }
            seconds if seconds > self.read.not_after => {
                Err(webpki::Error::CertExpired { time: now, not_after })
            }
            _ => Ok(()),
        }
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
    let whose_time = |time: UnixTime, of_certificate| match time.as_secs() == of_certificate {
        true => whose.clone(),
        false => format!("an authority above {whose}"),
    };
    match error {
        Error::CertExpired { not_after, .. } => {
            let whose = whose_time(*not_after, certificate.not_after);
            format!("{whose} has expired: it was valid until {}", day(*not_after))
        }
        Error::CertNotValidYet { not_before, .. } => {
            let whose = whose_time(*not_before, certificate.not_before);
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
