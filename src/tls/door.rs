//! What HTTPS clients are met with: our certificate, and whose certificates they have to show.
//!
//! TLS 1.2 and 1.3, without early data, which could be replayed, and without renegotiation, which rustls does not have.
//! The protocol is HTTP/1.1 whatever a client offers (ALPN): none is chosen, and none is needed.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;

use super::files;
use super::provider::provider;

/// Sessions that can be taken up again. A checker needs one; with what they hold 256 of them are some 100 KiB.
const MAX_SESSIONS: usize = 256;

/// For each handshake. Its client asks once, and comes back with the ticket of the last time.
const TICKETS: usize = 1;

/// The files from which it is made.
pub struct Files<'a> {
    /// Our certificate, with those between it and its authority.
    pub certificate: &'a Path,
    /// Its key.
    pub key: &'a Path,
    /// Whose certificates clients have to show, if any.
    pub client_authorities: Option<&'a Path>,
}

/// Everything a handshake needs.
#[derive(Clone)]
pub struct Door {
    config: Arc<ServerConfig>,
    /// What stood in certificate, key and authorities.
    contents: [u64; 3],
}

impl Door {
    /// Reads the files. An error is one line that names the option and the file.
    pub fn read(files: &Files<'_>) -> Result<Door, String> {
        let identity = files::own_identity(files.certificate, files.key)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| error.to_string())?;
        let builder = match files.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = files::authorities(path).map_err(|why| format!("tls-client-ca: {why}"))?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
                builder.with_client_cert_verifier(
                    verifier.map_err(|error| format!("tls-client-ca: {}: {error}", path.display()))?,
                )
            }
        };
        let certificate = SingleCertAndKey::from(identity);
        let mut config = builder.with_cert_resolver(Arc::new(certificate));
        // A session that is taken up again shows no certificate again: one that has expired since would be good for ever.
        config.session_storage = match files.client_authorities {
            None => ServerSessionMemoryCache::new(MAX_SESSIONS),
            Some(_) => Arc::new(NoServerSessionStorage {}),
        };
        config.send_tls13_tickets = if files.client_authorities.is_none() { TICKETS } else { 0 };
        let contents = [Some(files.certificate), Some(files.key), files.client_authorities];
        Ok(Door { config: Arc::new(config), contents: contents.map(files::digest) })
    }

    /// For a new connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// The words of the options whose files held another thing.
    pub fn changes_since(&self, before: &Door) -> Vec<&'static str> {
        let words = ["tls-cert", "tls-key", "tls-client-ca"].into_iter();
        let contents = self.contents.into_iter().zip(before.contents);
        words.zip(contents).filter(|(_, (now, before))| now != before).map(|(word, _)| word).collect()
    }
}

/// Nothing of keys.
impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Door")
    }
}
