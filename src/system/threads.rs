//! Threads are started in one way, and what they do is boxed: each kind of closure would bring its own copy of what starts
//! a thread, two kilobytes of the program.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a thread of this name (fifteen bytes of it are seen outside), with a stack of so many bytes. Fails where the system
/// has no thread to give.
pub fn spawn(
    name: impl Into<String>,
    stack_bytes: usize,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    start(name.into(), stack_bytes, Box::new(work))
}

#[inline(never)]
fn start(name: String, stack_bytes: usize, work: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name).stack_size(stack_bytes).spawn(work)
}
