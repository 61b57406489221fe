//! SIGTERM and SIGINT as something that `poll` can wait for, and SIGHUP as something that a thread can.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::gate::Stop;

/// Takes both signals over from their default, which would end the process at once. The request to stop has the name of
/// the signal that came last.
pub(super) fn watch() -> io::Result<Stop> {
    let (readable, writer) = UnixStream::pair()?;
    let number = Arc::new(AtomicUsize::new(0));
    for (signal, value) in [(SIGTERM, SIGTERM as usize), (SIGINT, SIGINT as usize)] {
        // In this order the number is there before the socket can be read.
        signal_hook::flag::register_usize(signal, Arc::clone(&number), value)?;
        signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
    }
    let name = move || if number.load(Ordering::SeqCst) == SIGINT as usize { "SIGINT" } else { "SIGTERM" };
    Ok(Stop { readable, name: Box::new(name) })
}

/// Takes SIGHUP over from its default, which would end the process. Each brings a byte to be read; those that come faster
/// than they are read are one.
pub(super) fn watch_reload() -> io::Result<UnixStream> {
    let (readable, writer) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGHUP, writer)?;
    Ok(readable)
}
