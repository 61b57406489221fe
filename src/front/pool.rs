//! tiny_http and the threads around it: one receive loop, and the fixed pool that answers.

use std::io::{self, Write};
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
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
    let (sender, receiver) = channel();
    let receiver = Arc::new(Mutex::new(receiver));
    for number in 0..=workers {
        let service = Arc::clone(service);
        let receiver = Arc::clone(&receiver);
        thread::Builder::new()
            .name(format!("worker {number}"))
            .stack_size(WORKER_STACK_BYTES)
            .spawn(move || run_worker(&service, &receiver))?;
    }
    let server = Server::from_listener(listener, None).map_err(io::Error::other)?;
    thread::Builder::new()
        .name("receive".into())
        .stack_size(WORKER_STACK_BYTES)
        .spawn(move || receive(&server, &sender))?;
    Ok(())
}

/// The gate sends at most one request per worker at a time, so the channel never holds more than that.
fn receive(server: &Server, workers: &Sender<Request>) {
    loop {
        // The one error that is expected here says that tiny_http stopped accepting: the listener is sealed.
        if let Ok(request) = server.recv()
            && workers.send(request).is_err()
        {
            return;
        }
    }
}

fn run_worker(service: &Service, requests: &Mutex<Receiver<Request>>) {
    loop {
        let received = requests.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(request) = received else { return };
        let is_head = *request.method() == Method::Head;
        let reply = catch_unwind(AssertUnwindSafe(|| service.answer(&request)))
            .unwrap_or_else(|_| HttpReply::down(Reason::AgentOutOfResources));
        let mut writer = request.into_writer();
        // The gate takes every reply; if it is gone, so is the process.
        let _ = writer.write_all(&reply.to_bytes(is_head)).and_then(|()| writer.flush());
    }
}
