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
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate::{self, Hash};
use super::files;
use super::provider::provider;
use super::verifier::{Names, Trust, Verifier, words};
use crate::config::{Authorities, Choice, Encryption, SslMode};
use crate::instance::SSL_REQUEST;

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

/// Speaks TLS with one server, once. Our own files are read, and what is wrong with them counts, when it comes to that, as in
/// libpq.
///
/// It asks for TLS itself, where the driver would wait for the answer for ever: the driver is told to begin with TLS at once.
#[derive(Clone)]
pub struct Connector {
    /// `None` where it never comes to that.
    wanted: Option<Arc<Wanted>>,
    progress: Arc<Progress>,
}

struct Wanted {
    encryption: Encryption,
    address: IpAddr,
    limit: Duration,
    may_do_without: bool,
}

/// How far it has come.
#[derive(Debug, Default)]
struct Progress {
    has_begun: AtomicBool,
    has_shown_certificate: AtomicBool,
}

impl Connector {
    /// As the parameters say, with the server at this address; from asking for TLS to the end of the handshake may take so long.
    /// A server that speaks none may be spoken to in the clear, or is refused.
    pub fn new(encryption: &Encryption, address: IpAddr, limit: Duration, may_do_without: bool) -> Connector {
        let wanted = Wanted { encryption: encryption.clone(), address, limit, may_do_without };
        Connector { wanted: Some(Arc::new(wanted)), progress: Arc::default() }
    }

    /// One that is never used.
    pub fn none() -> Connector {
        Connector { wanted: None, progress: Arc::default() }
    }

    /// Whether the server wanted to speak TLS.
    pub fn has_begun(&self) -> bool {
        self.progress.has_begun.load(Ordering::Relaxed)
    }

    /// Whether the server has asked for a certificate and got ours.
    pub fn has_shown_certificate(&self) -> bool {
        self.progress.has_shown_certificate.load(Ordering::Relaxed)
    }
}

impl Wanted {
    async fn speak(&self, mut socket: Socket, progress: &Arc<Progress>) -> Result<Stream, Trouble> {
        let asks_first = !self.encryption.is_direct;
        if asks_first {
            socket.write_all(&SSL_REQUEST).await?;
            let mut answer = [0];
            socket.read_exact(&mut answer).await?;
            match answer {
                [b'S'] => {}
                [b'N'] if self.may_do_without => return Ok(Stream::Plain(socket)),
                [b'N'] => {
                    let what = "the server does not speak TLS (ssl = off), and sslmode wants it";
                    return Err(TlsError(what.into()).into());
                }
                [other] => {
                    let what = format!("the server answers whether it speaks TLS with the byte {other:#04x}");
                    return Err(TlsError(what).into());
                }
            }
        }
        progress.has_begun.store(true, Ordering::Relaxed);
        let (client, name) = prepare(&self.encryption, self.address, progress).map_err(TlsError)?;
        let handshake = TlsConnector::from(Arc::new(client)).connect(name, socket);
        let stream = handshake.await.map_err(|error| TlsError(told(&error)))?;
        // Where TLS was not asked for, something else may listen (libpq's `open_client_SSL`).
        if !asks_first && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
            let what =
                "the server has not agreed on PostgreSQL's protocol (sslnegotiation=direct wants ALPN)";
            return Err(TlsError(what.into()).into());
        }
        Ok(Stream::Tls(Box::new(stream)))
    }
}

/// A [`TlsError`], or what the system says.
type Trouble = Box<dyn std::error::Error + Send + Sync>;

fn prepare(
    encryption: &Encryption,
    address: IpAddr,
    progress: &Arc<Progress>,
) -> Result<(ClientConfig, ServerName<'static>), String> {
    let trust = trust(encryption)?;
    let names = match (encryption.mode, &encryption.host) {
        (SslMode::VerifyFull, None) => {
            return Err("sslmode=verify-full needs the host's name: hostaddr alone says none".into());
        }
        (SslMode::VerifyFull, Some(host)) => Names::Libpq(host.clone()),
        _ => Names::Any,
    };
    let ours = Ours { identity: identity(encryption)?, progress: Arc::clone(progress) };
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
    Ok((client, name.unwrap_or_else(|| address.into())))
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

/// Those that are there; `None` where nobody is to look. A folder is looked at for each authority, however empty it is, and
/// beside this system's own authorities nobody looks at any.
fn revocation_lists(
    encryption: &Encryption,
) -> Result<Option<Vec<CertificateRevocationListDer<'static>>>, String> {
    let file = encryption.revocation_list.as_ref().filter(|file| file.exists());
    let is_of_system = matches!(encryption.authorities, Authorities::System);
    if is_of_system || (file.is_none() && encryption.revocation_lists.is_none()) {
        return Ok(None);
    }
    let mut lists = Vec::new();
    if let Some(file) = file {
        lists.extend(files::revocation_lists(file)?);
    }
    let Some(folder) = &encryption.revocation_lists else { return Ok(Some(lists)) };
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
    Ok(Some(lists))
}

/// Our certificate, where it is there.
fn identity(encryption: &Encryption) -> Result<Option<Arc<CertifiedKey>>, String> {
    let certificate = match &encryption.certificate {
        Some(path) if encryption.certificate_mode != Choice::Disable => path,
        Some(_) | None => return Ok(None),
    };
    match certificate.metadata() {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(format!("cannot look at certificate {}: {error}", certificate.display())),
    }
    let Some(key) = &encryption.key else {
        return Err(format!("certificate {} has no key: set sslkey", certificate.display()));
    };
    if !key.exists() {
        return Err(format!("certificate present, but not private key file {}", key.display()));
    }
    files::refuse_shared_key(key)?;
    files::identity(certificate, key).map(Some)
}

/// What we show of ourselves where we are asked to.
#[derive(Debug)]
struct Ours {
    identity: Option<Arc<CertifiedKey>>,
    progress: Arc<Progress>,
}

impl ResolvesClientCert for Ours {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.progress.has_shown_certificate.store(self.identity.is_some(), Ordering::Relaxed);
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
    type Error = Trouble;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, Trouble>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let Some(wanted) = &self.wanted else { return Err(TlsError("no TLS".into()).into()) };
            let limit = wanted.limit;
            tokio::time::timeout(limit, wanted.speak(socket, &self.progress)).await.unwrap_or_else(|_| {
                Err(TlsError(format!("the TLS handshake has not ended after {limit:?}")).into())
            })
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
pub enum Stream {
    /// Over TLS.
    Tls(Box<TlsStream<Socket>>),
    /// In the clear, as the server wanted it.
    Plain(Socket),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = match self.get_mut() {
            Stream::Tls(stream) => stream,
            Stream::Plain(socket) => return Pin::new(socket).poll_read(context, buffer),
        };
        match Pin::new(stream).poll_read(context, buffer) {
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
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
            Stream::Plain(socket) => Pin::new(socket).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Plain(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }
}

impl postgres::tls::TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        let Stream::Tls(stream) = self else { return ChannelBinding::none() };
        let (_, session) = stream.get_ref();
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
