//! tiny_http and the fixed pool of threads that answers.
//!
//! There is one receive loop, and the workers run it in turns: whoever has received a request leaves the loop to
//! the next one and does the probe. Handing each request over to another thread would cost every check a wake-up.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tiny_http::Server;

use super::service::Service;
use crate::monitor::{MAX_HANGING, RUNNER_STACK_BYTES};

/// Starts tiny_http on the sealed listener, and the pool. Beside the `workers` there are as many threads as can
/// hang in a frozen server, so that all of `workers` are always left to answer.
pub(super) fn start(listener: UnixListener, workers: usize, service: &Arc<Service>) -> io::Result<()> {
    let server = Server::from_listener(listener, None).map_err(io::Error::other)?;
    let server = Arc::new(Mutex::new(server));
    for number in 0..workers + MAX_HANGING {
        let service = Arc::clone(service);
        let server = Arc::clone(&server);
        thread::Builder::new()
            .name(format!("worker {number}"))
            .stack_size(RUNNER_STACK_BYTES)
            .spawn(move || run_worker(&service, &server))?;
    }
    Ok(())
}

fn run_worker(service: &Service, server: &Mutex<Server>) {
    loop {
        receive(service, server);
        service.run();
    }
}

/// Taking the request belongs to receiving it: both happen in tiny_http's order (see [`Service::take`]).
fn receive(service: &Service, server: &Mutex<Server>) {
    let server = server.lock().unwrap_or_else(PoisonError::into_inner);
    // The one error that is expected says that tiny_http stopped accepting: the listener is sealed.
    if let Ok(request) = server.recv() {
        service.take(request);
    }
}
