//! Towards peers, and towards the agent of another node in general: whom we believe, and which certificate we show.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ClientConnection};

use super::files;
use super::provider::provider;
use super::verifier::{Names, Trust, Verifier};
use crate::config::Options;

/// How peers are asked over TLS.
#[derive(Clone)]
pub struct PeerTls {
    client: Arc<ClientConfig>,
    /// What stood in the authorities' file and in our certificate's.
    contents: [u64; 2],
}

impl PeerTls {
    /// Reads what the options name; `None` where no peer is asked over TLS. `Err` is one line that names the file.
    pub fn for_options(options: &Options) -> Result<Option<PeerTls>, String> {
        if !options.peer.iter().any(|peer| peer.is_tls) {
            return Ok(None);
        }
        let of_ca = |why: String| format!("peer-ca: {why}");
        let authorities = match &options.peer_ca {
            Some(path) => files::certificates(path).map_err(of_ca)?,
            // Files of the system that cannot be read are none.
            None => rustls_native_certs::load_native_certs().certs,
        };
        let trust = Trust::new(authorities, None).map_err(of_ca)?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier::new(Some(trust), Names::Https)));
        let client = match (&options.tls_cert, &options.tls_key) {
            (Some(certificate), Some(key)) => {
                let identity = files::own_identity(certificate, key)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
            }
            _ => builder.with_no_client_auth(),
        };
        let contents = [&options.peer_ca, &options.tls_cert].map(|path| files::digest(path.as_deref()));
        Ok(Some(PeerTls { client: Arc::new(client), contents }))
    }

    /// The words of the options whose files held another thing.
    pub fn changes_since(&self, before: &PeerTls) -> Vec<&'static str> {
        let files = ["peer-ca", "tls-cert"].into_iter().zip(self.contents.iter().zip(&before.contents));
        files.filter(|(_, (now, before))| now != before).map(|(word, _)| word).collect()
    }

    /// A session with the agent of this host, which has to be who its certificate says.
    pub fn session(&self, host: &str) -> Result<ClientConnection, String> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host}: no name for TLS"))?;
        ClientConnection::new(Arc::clone(&self.client), name).map_err(|error| error.to_string())
    }
}

impl PartialEq for PeerTls {
    fn eq(&self, other: &PeerTls) -> bool {
        self.contents == other.contents
    }
}

impl fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerTls")
    }
}
