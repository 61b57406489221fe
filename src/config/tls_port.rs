//! What has to fit together where HTTPS is spoken, and the files that it takes.

use std::net::SocketAddr;

use super::{Mode, Options};
use crate::tls::{Door, Files};

/// Reads the files, where the agent is to run with them or somebody wants to know what is wrong.
pub(super) fn read(options: &Options) -> Result<Option<Door>, String> {
    refuse_contradictions(options)?;
    let (Some(certificate), Some(key)) = (&options.tls_cert, &options.tls_key) else { return Ok(None) };
    if !matches!(options.mode, Mode::Standalone | Mode::Doctor) {
        return Ok(None);
    }
    let client_authorities = options.tls_client_ca.as_deref();
    Door::read(&Files { certificate, key, client_authorities }).map(Some)
}

fn refuse_contradictions(options: &Options) -> Result<(), String> {
    match (&options.tls_cert, &options.tls_key) {
        (Some(_), None) => return Err("tls-cert goes with tls-key, which is not given".into()),
        (None, Some(_)) => return Err("tls-key goes with tls-cert, which is not given".into()),
        (None, None) if !options.tls_listen.is_empty() => {
            return Err("tls-listen takes tls-cert and tls-key, which are not given".into());
        }
        (None, None) if options.tls_client_ca.is_some() => {
            return Err("tls-client-ca is about the port of tls-listen, which is not given".into());
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
    let taken = |address: &SocketAddr| {
        let listen = options.listen.contains(address).then_some("listen");
        listen.or((options.agent_listen == Some(*address)).then_some("agent-listen"))
    };
    // Port 0 is a different free port every time.
    let both = options.tls_listen.iter().filter(|address| address.port() != 0);
    match both.filter_map(|address| Some((address, taken(address)?))).next() {
        None => Ok(()),
        Some((address, other)) => {
            Err(format!("tls-listen and {other} are both {address}: each needs an address of its own"))
        }
    }
}
