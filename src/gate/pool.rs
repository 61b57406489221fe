//! tiny_http and the fixed pool of threads that answers.
//!
//! There is one receive loop, and the workers run it in turns: whoever has received a request leaves the loop, does the
//! probe, and comes back (see [`super::roster`]). Handing each request over to another thread would cost every check a
//! wake-up.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use tiny_http::Server;

use super::roster::Roster;
use super::service::Service;
use crate::monitor::{MAX_HANGING, RUNNER_STACK_BYTES};
use crate::system::threads;

/// Starts tiny_http on the sealed listener, and the pool. Beside the `workers` there are as many threads as can
/// hang in a frozen server, so that all of `workers` are always left to answer.
pub(crate) fn start(
    listener: UnixListener,
    workers: usize,
    service: &Arc<Service>,
    roster: &Arc<Roster>,
) -> io::Result<()> {
    let server = Server::from_listener(listener, None).map_err(io::Error::other)?;
    let server = Arc::new(server);
    for number in 0..workers + MAX_HANGING {
        let (service, server, roster) = (Arc::clone(service), Arc::clone(&server), Arc::clone(roster));
        let work = move || run_worker(&service, &server, &roster);
        threads::spawn(format!("worker {number}"), RUNNER_STACK_BYTES, work)?;
    }
    Ok(())
}

fn run_worker(service: &Service, server: &Server, roster: &Roster) {
    loop {
        receive(service, server, roster);
        service.run();
    }
}

/// Taking the request belongs to receiving it: both happen in tiny_http's order (see [`Service::take`]).
fn receive(service: &Service, server: &Server, roster: &Roster) {
    let turn = roster.turn();
    // The one error that is expected says that tiny_http stopped accepting: the listener is sealed.
    if let Ok(request) = server.recv() {
        turn.received();
        service.take(request);
    }
}
