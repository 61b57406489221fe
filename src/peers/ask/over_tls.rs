//! Over TCP, with TLS where the peer is named so. (The HTTP client's own TLS would bring another judge of certificates than the
//! rest of the agent has.)

use std::fmt;
use std::io::{self, Read, Write};

use rustls::{ClientConnection, StreamOwned};
use ureq::config::Config;
use ureq::unversioned::resolver::Resolver;
use ureq::unversioned::transport::time::{Duration, Instant};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, TcpConnector, Transport,
    TransportAdapter,
};

use crate::tls::PeerTls;
use crate::tls::verifier::words;

/// Who asks over it.
pub(super) fn agent(config: Config, resolver: impl Resolver, tls: Option<&PeerTls>) -> ureq::Agent {
    let over_tls = OverTls(tls.cloned());
    ureq::Agent::with_parts(config, ().chain(TcpConnector::default()).chain(over_tls), resolver)
}

/// Lays TLS over a connection to an `https` address.
#[derive(Debug)]
struct OverTls(Option<PeerTls>);

impl<In: Transport> Connector<In> for OverTls {
    type Out = Either<In, Encrypted>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        let (Some(tls), true) = (&self.0, details.needs_tls()) else {
            return Ok(Some(Either::A(transport)));
        };
        let host = details.uri.host().unwrap_or_default();
        let mut session = tls.session(host).map_err(io::Error::other)?;
        let mut socket = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        socket.set_timeout(rest_of(details));
        while session.is_handshaking() {
            session.complete_io(&mut socket).map_err(without_preface)?;
        }
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(Encrypted { stream: StreamOwned::new(session, socket), buffers })))
    }
}

/// What is not believed says so by itself.
fn without_preface(error: io::Error) -> io::Error {
    words(&error).map_or(error, io::Error::other)
}

/// What connecting has left of the time for it.
fn rest_of(details: &ConnectionDetails) -> NextTimeout {
    let after = match (details.timeout.after, (details.current_time)(), details.now) {
        (Duration::Exact(all), Instant::Exact(now), Instant::Exact(begun)) => {
            Duration::Exact(all.saturating_sub(now.saturating_duration_since(begun)))
        }
        (all, _, _) => all,
    };
    NextTimeout { after, ..details.timeout }
}

/// A connection with TLS over it.
struct Encrypted {
    stream: StreamOwned<ClientConnection, TransportAdapter>,
    buffers: LazyBuffers,
}

impl fmt::Debug for Encrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encrypted")
    }
}

impl Transport for Encrypted {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(self.stream.flush()?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let count = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
