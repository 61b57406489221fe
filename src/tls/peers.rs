//! Towards peers, and towards the agent of another node in general: whom we believe, and which certificate we show.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::files;
use super::provider::provider;
use crate::config::Options;

/// How peers are asked over TLS.
#[derive(Clone)]
pub struct PeerTls {
    client: Arc<ClientConfig>,
    /// Of what was read: a reload finds other files of the same names.
    digest: u64,
}

impl PeerTls {
    /// Reads what the options name; `None` where no peer is asked over TLS. `Err` is one line that names the file.
    pub fn for_options(options: &Options) -> Result<Option<PeerTls>, String> {
        if !options.peer.iter().any(|peer| peer.is_tls) {
            return Ok(None);
        }
        let mut hasher = DefaultHasher::new();
        let authorities = match &options.peer_ca {
            Some(path) => {
                files::read(path)?.hash(&mut hasher);
                files::authorities(path).map_err(|why| format!("peer-ca: {why}"))?
            }
            None => system_authorities()?,
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities), provider())
            .build()
            .map_err(|error| format!("peer-ca: {error}"))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_webpki_verifier(verifier);
        let client = match (&options.tls_cert, &options.tls_key) {
            (Some(certificate), Some(key)) => {
                let identity = files::identity(certificate, key)?;
                files::read(certificate)?.hash(&mut hasher);
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Some(PeerTls { client: Arc::new(client), digest: hasher.finish() }))
    }

    /// A session with the agent of this host, which has to be who its certificate says.
    pub fn session(&self, host: &str) -> Result<ClientConnection, String> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host}: no name for TLS"))?;
        ClientConnection::new(Arc::clone(&self.client), name).map_err(|error| error.to_string())
    }
}

/// What this system trusts. Files of it that cannot be read are none.
fn system_authorities() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match roots.is_empty() {
        true => Err("this system names no authorities that it trusts: set peer-ca".into()),
        false => Ok(roots),
    }
}

impl PartialEq for PeerTls {
    fn eq(&self, other: &PeerTls) -> bool {
        self.digest == other.digest
    }
}

impl fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerTls")
    }
}
