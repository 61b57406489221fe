//! An agent with a port of HTTPS, and who speaks TLS with it: the real openssl and curl, and rustls where a test wants to
//! misbehave.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use pgsqlchk::tls::{files, provider::provider};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::certificates::{Authority, Issued, Wish};
use super::process::wait_for_exit;
use super::wire::PATIENCE;
use super::{Agent, secs};

/// Who issues certificates, to the agent and to its clients.
pub struct Trust {
    pub servers: Authority,
    pub clients: Authority,
    pub server: Issued,
    pub client: Issued,
}

/// A connection that speaks TLS.
pub type Talk = StreamOwned<ClientConnection, TcpStream>;

impl Trust {
    pub fn new() -> Trust {
        let (servers, clients) =
            (Authority::new("authority of servers"), Authority::new("authority of clients"));
        let (server, client) = (servers.issue(Wish::local("node1")), clients.issue(Wish::local("haproxy")));
        Trust { servers, clients, server, client }
    }

    /// The agent's options for a port of HTTPS.
    pub fn options(&self) -> Vec<String> {
        let path = |path: &std::path::Path| path.display().to_string();
        let [certificate, key] = [path(&self.server.certificate), path(&self.server.key)];
        let options = ["--tls-listen", "127.0.0.1:0", "--tls-cert", &certificate, "--tls-key", &key];
        options.map(str::to_owned).to_vec()
    }

    /// Those that make clients show a certificate.
    pub fn mutual(&self) -> Vec<String> {
        [self.options(), vec!["--tls-client-ca".into(), self.clients.certificate().display().to_string()]]
            .concat()
    }

    /// Starts an agent with such options and others.
    #[track_caller]
    pub fn agent(options: &[String], others: &[&str]) -> Agent {
        Agent::start_with(|command| {
            command.args(options).args(others);
        })
    }

    /// What rustls needs to trust the agent; without a certificate of its own.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        let roots = files::authorities(&self.servers.certificate()).expect("the authority");
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

/// Where an agent speaks HTTPS; waits until its log says so.
#[track_caller]
pub fn tls_addr(agent: &Agent) -> SocketAddr {
    agent.addr_of("TLS")
}

/// Begins a handshake, and goes no further than to what reading or writing needs.
pub fn talk(config: &Arc<ClientConfig>, address: SocketAddr) -> io::Result<Talk> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, stream))
}

/// One request, and everything that comes back until the server has said that nothing more follows.
pub fn exchange(config: &Arc<ClientConfig>, address: SocketAddr, request: &[u8]) -> io::Result<String> {
    let mut talk = talk(config, address)?;
    talk.write_all(request)?;
    let mut received = Vec::new();
    // An end without close_notify is an error here.
    talk.read_to_end(&mut received)?;
    Ok(String::from_utf8_lossy(&received).into_owned())
}

/// The first bytes of a handshake, as they go over the wire.
pub fn hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut connection = ClientConnection::new(Arc::clone(config), name).expect("a client");
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).expect("to a vector");
    }
    bytes
}

/// `openssl s_client` with this on its standard input: all it says.
#[track_caller]
pub fn s_client(address: SocketAddr, options: &[&str], input: &str) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address.to_string(), "-ign_eof"]).args(options);
    said(&run_with(command, input))
}

/// curl at `https://localhost`: its exit code, and all it says.
#[track_caller]
pub fn curl(address: SocketAddr, path: &str, options: &[&str]) -> (i32, String) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "10"]).args(options);
    command.arg(format!("https://localhost:{}{path}", address.port()));
    let output = run_with(command, "");
    (output.status.code().unwrap_or(-1), said(&output))
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

#[track_caller]
fn run_with(mut command: Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // One whose handshake is refused may have ended by now.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    // Less than a pipe holds, so that it need not be read meanwhile.
    if wait_for_exit(&mut child, secs(15)).is_none() {
        let _ = child.kill();
        panic!("{command:?} does not end: {}", said(&child.wait_with_output().expect("its output")));
    }
    child.wait_with_output().expect("its output")
}

/// Reads what is left, however the connection ends.
pub fn rest(talk: &mut Talk) -> String {
    let mut received = Vec::new();
    let _ = talk.read_to_end(&mut received);
    String::from_utf8_lossy(&received).into_owned()
}
