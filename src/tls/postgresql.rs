//! TLS for a session with PostgreSQL: what libpq's `initialize_SSL` (fe-secure-openssl.c) makes of the parameters, as a connector
//! of the `postgres` crate. The files are read for each login, as libpq reads them for each connection.

use std::fs;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use postgres::Socket;
use postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};
use ring::digest::{self, SHA256, SHA384, SHA512};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate::{self, Hash};
use super::files;
use super::provider::provider;
use super::verifier::{Names, Trust, Verifier, words};
use crate::config::{Authorities, Choice, Encryption, SslMode};

/// The protocol's registered name, which `sslnegotiation=direct` asks for (PostgreSQL manual, section 54.2.11).
const ALPN: &[u8] = b"postgresql";

/// Files of a directory of revocation lists that are read.
const MAX_LISTS: usize = 256;

/// Why there is no TLS; one line.
#[derive(Debug)]
pub struct TlsError(pub String);

impl std::fmt::Display for TlsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

/// Speaks TLS with one server, once. What is wrong with our own files counts when it comes to that, as in libpq.
#[derive(Clone)]
pub struct Connector {
    ready: Result<Arc<Ready>, String>,
    has_begun: Arc<AtomicBool>,
}

struct Ready {
    client: Arc<ClientConfig>,
    name: ServerName<'static>,
    limit: Duration,
    /// Whether the server has asked for a certificate.
    was_asked: Arc<AtomicBool>,
    has_to_be_asked: bool,
}

impl Connector {
    /// As the parameters say, with the server at this address; a handshake may take so long.
    pub fn new(encryption: &Encryption, address: IpAddr, limit: Duration) -> Connector {
        let ready = prepare(encryption, address, limit).map(Arc::new);
        Connector { ready, has_begun: Arc::default() }
    }

    /// One that is never used.
    pub fn none() -> Connector {
        Connector { ready: Err("no TLS".into()), has_begun: Arc::default() }
    }

    /// Whether the server wanted to speak TLS.
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }
}

fn prepare(encryption: &Encryption, address: IpAddr, limit: Duration) -> Result<Ready, String> {
    let trust = trust(encryption)?;
    let names = match (encryption.mode, &encryption.host) {
        (SslMode::VerifyFull, None) => {
            return Err("sslmode=verify-full needs the host's name: hostaddr alone says none".into());
        }
        (SslMode::VerifyFull, Some(host)) => Names::Libpq(host.clone()),
        _ => Names::Any,
    };
    let was_asked = Arc::new(AtomicBool::new(false));
    let ours = Ours { identity: identity(encryption)?, was_asked: Arc::clone(&was_asked) };
    let versions: &[_] = match encryption.versions {
        [true, true] => &[&TLS13, &TLS12],
        [true, false] => &[&TLS12],
        [false, _] => &[&TLS13],
    };
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier::new(trust, names)))
        .with_client_cert_resolver(Arc::new(ours));
    if encryption.is_direct {
        client.alpn_protocols = vec![ALPN.to_vec()];
    }
    let name = encryption.host.as_ref().and_then(|host| ServerName::try_from(host.clone()).ok());
    client.enable_sni = encryption.says_host && name.is_some();
    Ok(Ready {
        client: Arc::new(client),
        name: name.unwrap_or_else(|| address.into()),
        limit,
        was_asked,
        has_to_be_asked: encryption.certificate_mode == Choice::Require,
    })
}

/// Whom to believe; everybody where no authorities are there and none are needed.
fn trust(encryption: &Encryption) -> Result<Option<Trust>, String> {
    let is_needed = encryption.mode >= SslMode::VerifyCa;
    let certificates = match &encryption.authorities {
        Authorities::System => {
            let certificates = rustls_native_certs::load_native_certs().certs;
            if certificates.is_empty() {
                return Err("sslrootcert=system: this system names no authorities that it trusts".into());
            }
            certificates
        }
        Authorities::File(path) if path.exists() => files::certificates(path)?,
        Authorities::File(path) if is_needed => {
            return Err(format!(
                "root certificate file {} does not exist: provide it, or change sslmode, or sslrootcert=system",
                path.display()
            ));
        }
        Authorities::Nobody if is_needed => {
            return Err("no root certificate file: set sslrootcert, for there is no home directory".into());
        }
        Authorities::File(_) | Authorities::Nobody => return Ok(None),
    };
    let place = |why| match &encryption.authorities {
        Authorities::File(path) => format!("{}: {why}", path.display()),
        Authorities::System | Authorities::Nobody => why,
    };
    Trust::new(certificates, revocation_lists(encryption)?).map(Some).map_err(place)
}

/// Those that are there.
fn revocation_lists(encryption: &Encryption) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let mut lists = Vec::new();
    if let Some(file) = encryption.revocation_list.as_ref().filter(|file| file.exists()) {
        lists.extend(files::revocation_lists(file)?);
    }
    let Some(folder) = &encryption.revocation_lists else { return Ok(lists) };
    let cannot_read = |error: io::Error| format!("cannot read sslcrldir {}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(cannot_read)?.take(MAX_LISTS) {
        let path = entry.map_err(cannot_read)?.path();
        // `openssl rehash` names them by their issuers: 1a2b3c4d.r0
        let is_list = path.extension().and_then(|end| end.to_str()).is_some_and(|end| {
            end.strip_prefix('r').is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        });
        if is_list {
            lists.extend(files::revocation_lists(&path)?);
        }
    }
    Ok(lists)
}

/// Our certificate, where it is there.
fn identity(encryption: &Encryption) -> Result<Option<Arc<CertifiedKey>>, String> {
    let certificate = match &encryption.certificate {
        Some(path) if encryption.certificate_mode != Choice::Disable && path.exists() => path,
        _ => return Ok(None),
    };
    let Some(key) = &encryption.key else {
        return Err(format!("certificate {} has no key: set sslkey", certificate.display()));
    };
    if !key.exists() {
        return Err(format!("certificate present, but not private key file {}", key.display()));
    }
    files::refuse_shared_key(key)?;
    files::identity(certificate, key).map(Some)
}

/// What we show of ourselves, and whether we were asked to.
#[derive(Debug)]
struct Ours {
    identity: Option<Arc<CertifiedKey>>,
    was_asked: Arc<AtomicBool>,
}

impl ResolvesClientCert for Ours {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.was_asked.store(true, Ordering::Relaxed);
        self.identity.clone()
    }

    fn has_certs(&self) -> bool {
        self.identity.is_some()
    }
}

impl MakeTlsConnect<Socket> for Connector {
    type Stream = Stream;
    type TlsConnect = Connector;
    type Error = TlsError;

    fn make_tls_connect(&mut self, _: &str) -> Result<Connector, TlsError> {
        Ok(self.clone())
    }
}

impl TlsConnect<Socket> for Connector {
    type Stream = Stream;
    type Error = TlsError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, TlsError>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            self.has_begun.store(true, Ordering::Relaxed);
            let ready = self.ready.map_err(TlsError)?;
            let handshake = TlsConnector::from(Arc::clone(&ready.client)).connect(ready.name.clone(), socket);
            let stream = match tokio::time::timeout(ready.limit, handshake).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return Err(TlsError(told(&error))),
                Err(_) => {
                    return Err(TlsError(format!("the TLS handshake has not ended after {:?}", ready.limit)));
                }
            };
            if ready.has_to_be_asked && !ready.was_asked.load(Ordering::Relaxed) {
                return Err(TlsError(
                    "the server did not request a certificate (sslcertmode=require)".into(),
                ));
            }
            Ok(Stream(stream))
        })
    }
}

fn told(error: &io::Error) -> String {
    match words(error) {
        Some(words) => words,
        None if error.kind() == ErrorKind::UnexpectedEof => {
            "the server ended the connection during the TLS handshake".into()
        }
        None => format!("TLS handshake: {error}"),
    }
}

/// A session's bytes.
pub struct Stream(TlsStream<Socket>);

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(context, buffer) {
            // A server that was killed says no farewell. What it said before was whole messages, or none.
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            // TLS 1.3 tells a client last that its certificate is not believed.
            Poll::Ready(Err(error)) => Poll::Ready(Err(match words(&error) {
                Some(words) => io::Error::other(TlsError(words)),
                None => error,
            })),
            other => other,
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl postgres::tls::TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        let (_, session) = self.0.get_ref();
        let shown = session.peer_certificates().and_then(|chain| chain.first());
        shown.and_then(end_point).map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

/// What binds a login to this connection: the hash of the server's certificate (RFC 5929, section 4.1).
fn end_point(certificate: &CertificateDer) -> Option<Vec<u8>> {
    let algorithm = match certificate::read(certificate)?.signature_hash? {
        Hash::Sha256 => &SHA256,
        Hash::Sha384 => &SHA384,
        Hash::Sha512 => &SHA512,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}
