//! tiny_http and the fixed pool of threads that answers.
//!
//! There is one receive loop, and the workers run it in turns: whoever has received a request leaves the loop to
//! the next one and answers. Handing each request over to another thread would cost every check a wake-up.

use std::io::{self, Write};
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tiny_http::{Method, Request, Server};

use super::service::Service;
use crate::reason::Reason;
use crate::reply::HttpReply;

/// A worker formats one reply and waits on a condition variable.
const WORKER_STACK_BYTES: usize = 128 * 1024;

/// Starts tiny_http on the sealed listener and `workers` threads, plus one for what is answered without
/// PostgreSQL: `/liveness` must not stand behind checks that wait for a frozen server.
pub(super) fn start(listener: UnixListener, workers: usize, service: &Arc<Service>) -> io::Result<()> {
    let server = Server::from_listener(listener, None).map_err(io::Error::other)?;
    let server = Arc::new(Mutex::new(server));
    for number in 0..=workers {
        let service = Arc::clone(service);
        let server = Arc::clone(&server);
        thread::Builder::new()
            .name(format!("worker {number}"))
            .stack_size(WORKER_STACK_BYTES)
            .spawn(move || run_worker(&service, &server))?;
    }
    Ok(())
}

fn run_worker(service: &Service, server: &Mutex<Server>) {
    loop {
        let received = server.lock().unwrap_or_else(PoisonError::into_inner).recv();
        // The one error that is expected says that tiny_http stopped accepting: the listener is sealed.
        if let Ok(request) = received {
            answer(service, request);
        }
    }
}

fn answer(service: &Service, request: Request) {
    let is_head = *request.method() == Method::Head;
    let reply = catch_unwind(AssertUnwindSafe(|| service.answer(&request)))
        .unwrap_or_else(|_| HttpReply::down(Reason::AgentOutOfResources));
    let mut writer = request.into_writer();
    // The gate takes every reply; if it is gone, so is the process.
    let _ = writer.write_all(&reply.to_bytes(is_head)).and_then(|()| writer.flush());
}
