//! A name server that knows one address, and can fall silent.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::network::{BALANCER, shell};
use crate::support::folder::Folder;
use crate::support::millis;

/// The port of every name server.
const PORT: u16 = 53;
/// Header and question, at most (RFC 1035, section 2.3.4).
const MAX_MESSAGE: usize = 512;
const HEADER: usize = 12;

/// Answers every question for an IPv4 address with the same one. Ends when dropped.
pub struct NameServer {
    is_silent: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _folder: Folder,
}

impl NameServer {
    /// From now on every process in this mount namespace asks this server, which names this address.
    pub fn start(address: Ipv4Addr) -> NameServer {
        let folder = Folder::new("names");
        // A look-up that gets no answer ends after two seconds, so that hanging ones do not outlive a fault for long.
        let text = format!("nameserver {BALANCER}\noptions timeout:1 attempts:2\n");
        let file = folder.write("resolv.conf", &text);
        shell(&format!("mount --bind {} /etc/resolv.conf", file.display()));
        let socket = UdpSocket::bind((BALANCER, PORT)).expect("bind the name server");
        socket.set_read_timeout(Some(millis(100))).expect("set a timeout");
        let (is_silent, is_over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (silent, over) = (Arc::clone(&is_silent), Arc::clone(&is_over));
        let thread = thread::spawn(move || {
            let mut message = [0; MAX_MESSAGE];
            while !over.load(Ordering::Relaxed) {
                let Ok((length, peer)) = socket.recv_from(&mut message) else { continue };
                if let Some(answer) = answer(&message[..length], address)
                    && !silent.load(Ordering::Relaxed)
                {
                    let _ = socket.send_to(&answer, peer);
                }
            }
        });
        NameServer { is_silent, is_over, thread: Some(thread), _folder: folder }
    }

    /// Answers no more, or again.
    pub fn set_silent(&self, is_silent: bool) {
        self.is_silent.store(is_silent, Ordering::Relaxed);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
        shell("umount -l /etc/resolv.conf");
    }
}

/// RFC 1035, section 4.1: the question again, and for an IPv4 address one record.
fn answer(question: &[u8], address: Ipv4Addr) -> Option<Vec<u8>> {
    let name_end = HEADER + question.get(HEADER..)?.iter().position(|byte| *byte == 0)? + 1;
    let asked = question.get(HEADER..name_end + 4)?;
    let is_for_ipv4 = asked[asked.len() - 4..asked.len() - 2] == [0, 1];
    let mut message = question[..2].to_vec();
    // A response, recursion available; one question, one answer or none.
    message.extend([0x81, 0x80, 0, 1, 0, u8::from(is_for_ipv4), 0, 0, 0, 0]);
    message.extend(asked);
    if is_for_ipv4 {
        // The name of the question, type A, class IN, not to be kept, four bytes.
        message.extend([0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        message.extend(address.octets());
    }
    Some(message)
}
