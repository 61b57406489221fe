//! A fake PostgreSQL that speaks the protocol just as far as its script says, and junk from there on.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::folder::Folder;
use super::impostor::hold;
use super::{millis, secs};

/// What the fake does next on a connection.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends them again and again, so many bytes at most, as fast as they are taken.
    Flood(Vec<u8>, usize),
    /// Sends numbered copies: the message is made from its number.
    FloodOf(fn(u64) -> Vec<u8>, usize),
    /// Sends them again and again, a byte every 50 ms.
    Drip(Vec<u8>),
    /// Reads a query of the client's.
    AwaitQuery,
    /// Says nothing more, and keeps the connection open.
    Silence,
    /// Closes the connection.
    Close,
}

/// What the fake says.
#[derive(Clone, Debug)]
pub struct Script {
    /// To whoever knocks; closes then.
    pub knock: Vec<Act>,
    /// To whoever logs in; closes then.
    pub session: Vec<Act>,
}

/// Listens in a folder of its own as `.s.PGSQL.5432`. Dropped, or replaced, it closes everything.
pub struct Junk {
    folder: Folder,
    is_over: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<UnixStream>>>,
}

impl Junk {
    pub fn start(script: Script) -> Junk {
        let folder = Folder::new("junk");
        let listener = UnixListener::bind(socket(folder.path())).expect("listen");
        let is_over = Arc::new(AtomicBool::new(false));
        let open = Arc::new(Mutex::new(Vec::new()));
        let junk = Junk { folder, is_over: Arc::clone(&is_over), open: Arc::clone(&open) };
        thread::spawn(move || {
            // Ends with the test program.
            for stream in listener.incoming().flatten() {
                if is_over.load(Ordering::Relaxed) {
                    continue;
                }
                if let Ok(handle) = stream.try_clone() {
                    open.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
                }
                let (script, is_over) = (script.clone(), Arc::clone(&is_over));
                thread::spawn(move || serve(stream, &script, &is_over));
            }
        });
        junk
    }

    /// How the agent gets there.
    pub fn dsn(&self) -> String {
        format!("host={} port=5432 user=postgres dbname=postgres", self.folder.path().display())
    }

    /// Ends the fake and puts a real server in its place.
    pub fn replace_by(&self, real: &Path) {
        let aside = self.folder.path().join("real");
        symlink(real, &aside).expect("a link to the real one");
        fs::rename(aside, socket(self.folder.path())).expect("put it in the place of the fake's");
        self.end();
    }

    fn end(&self) {
        if self.is_over.swap(true, Ordering::Relaxed) {
            return;
        }
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Drop for Junk {
    fn drop(&mut self) {
        self.end();
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join(".s.PGSQL.5432")
}

fn serve(mut stream: UnixStream, script: &Script, is_over: &AtomicBool) {
    let _ = follow(&mut stream, script, is_over);
    // Closed also for the handle that is kept to end it.
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

fn follow(stream: &mut UnixStream, script: &Script, is_over: &AtomicBool) -> io::Result<()> {
    let mut head = [0; 8];
    stream.read_exact(&mut head)?;
    let code = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    // SSLRequest and GSSENCRequest.
    let is_knock = (80_877_103..=80_877_104).contains(&code);
    if !is_knock {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        stream.read_exact(&mut vec![0; length.saturating_sub(8)])?;
    }
    for act in if is_knock { &script.knock } else { &script.session } {
        match act {
            Act::Send(bytes) => stream.write_all(bytes)?,
            Act::Flood(bytes, limit) => {
                let chunk = bytes.repeat(65_536 / bytes.len() + 1);
                for _ in 0..limit / chunk.len() {
                    stream.write_all(&chunk)?;
                }
            }
            Act::FloodOf(message, limit) => {
                let (mut sent, mut number) = (0, 0);
                while sent < *limit {
                    let chunk: Vec<u8> = (number..number + 1000).flat_map(message).collect();
                    stream.write_all(&chunk)?;
                    (sent, number) = (sent + chunk.len(), number + 1000);
                }
            }
            Act::Drip(bytes) => {
                for byte in bytes.iter().cycle().take_while(|_| !is_over.load(Ordering::Relaxed)) {
                    stream.write_all(&[*byte])?;
                    thread::sleep(millis(50));
                }
            }
            Act::AwaitQuery => {
                let mut head = [0; 5];
                stream.read_exact(&mut head)?;
                let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                stream.read_exact(&mut vec![0; length.saturating_sub(4)])?;
            }
            Act::Silence => {
                let _ = stream.set_read_timeout(Some(secs(60)));
                hold(&mut *stream);
            }
            Act::Close => return Ok(()),
        }
    }
    Ok(())
}

/// A message: its tag, its length, its body (PostgreSQL manual, "Message Formats").
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a short message");
    [&[tag], length.to_be_bytes().as_slice(), body].concat()
}

/// AuthenticationOk and ReadyForQuery.
pub fn welcome() -> Vec<u8> {
    [message(b'R', &[0; 4]), message(b'Z', b"I")].concat()
}

/// The answer to the two settings of a new session.
pub fn settings_done() -> Vec<u8> {
    [message(b'C', b"SET\0"), message(b'C', b"SET\0"), message(b'Z', b"I")].concat()
}

/// RowDescription of so many text columns.
pub fn columns(count: u16) -> Vec<u8> {
    let mut body = count.to_be_bytes().to_vec();
    for _ in 0..count {
        body.extend_from_slice(b"column\0");
        body.extend_from_slice(&[0; 18]);
    }
    message(b'T', &body)
}

/// DataRow with these columns; `None` is NULL.
pub fn data_row(columns: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = u16::try_from(columns.len()).expect("few columns").to_be_bytes().to_vec();
    for column in columns {
        match column {
            Some(value) => {
                body.extend_from_slice(&u32::try_from(value.len()).expect("short").to_be_bytes());
                body.extend_from_slice(value);
            }
            None => body.extend_from_slice(&[0xff; 4]),
        }
    }
    message(b'D', &body)
}

/// CommandComplete and ReadyForQuery.
pub fn done() -> Vec<u8> {
    [message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat()
}
