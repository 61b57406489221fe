//! The same connection settings handed to the real psql and to the agent: both must arrive at the same socket
//! with the same role, database, options and password, or both must refuse.
//!
//! They arrive at a witness: a server that asks for the password in clear text, notes everything, and fails the
//! login. So libpq itself says what its conventions are, not a second reading of its manual.
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;

use support::folder::Folder;
use support::postgresql::{program_path, without_pg_variables};
use support::process::wait_for_exit;
use support::{Agent, agent, secs};

mod support;

const PASSWORD: &str = "s3cret";

/// What a client said of itself.
#[derive(Debug, PartialEq, Eq)]
struct Login {
    /// `tcp` or `unix`.
    through: &'static str,
    user: String,
    database: String,
    application_name: String,
    options: String,
    /// `None`: it hung up when asked.
    password: Option<String>,
}

/// A login that both programs must make: the connection string, the variables, the files in the home folder.
/// `PORT`, `DIR` and `HOME` are replaced by the witness's and the home folder.
type Case = (&'static str, &'static [(&'static str, &'static str)]);

const BASE: (&str, &str) = ("PGHOST", "DIR");
const PORT: (&str, &str) = ("PGPORT", "PORT");
const DATABASE: (&str, &str) = ("PGDATABASE", "vdb");
const USER: (&str, &str) = ("PGUSER", "vuser");

const LOGINS: &[Case] = &[
    // Keyword/value strings.
    ("host=DIR port=PORT user=u dbname=d", &[]),
    (" host = DIR\tport\n=\nPORT user='u' dbname='d' ", &[]),
    (r"host='DIR' port='PORT'user='it\'s \\ me' dbname=a\ b", &[]),
    ("host=127.0.0.1 port=+PORT user=u dbname=d connect_timeout=5 keepalives=0 keepalives_idle=7", &[]),
    ("hostaddr=127.0.0.1 port=' PORT ' user=u dbname=d tcp_user_timeout=5000", &[]),
    ("host=DIR hostaddr=127.0.0.1 port=PORT user=u dbname=d", &[]),
    ("host=nowhere.invalid hostaddr=127.0.0.1 port=PORT user=u dbname=d", &[]),
    ("host=DIR port=1 user=v dbname=d port=PORT user=u", &[]),
    ("host=DIR port=PORT user= dbname=d user=u dbname=d", &[]),
    ("host=DIR port=PORT user=u dbname=d options='-c geqo=off' application_name=a", &[]),
    ("host=DIR port=PORT user=u dbname=d requiressl=0", &[]),
    ("host=DIR port=PORT user=u dbname=d application_name=''", &[]),
    (
        "host=DIR port=PORT user=u dbname=d sslmode=prefer gssencmode=disable sslrootcert=/x sslcompression=0",
        &[],
    ),
    ("host=DIR port=PORT user=u dbname=d target_session_attrs=any channel_binding=disable krbsrvname=x", &[]),
    // URIs.
    ("postgres://u@127.0.0.1:PORT/d", &[]),
    ("postgresql://u:s3cret@127.0.0.1:PORT/d?application_name=a%20b&options=-c%20geqo%3Doff&", &[]),
    ("postgresql:///d?host=DIR&port=PORT&user=u", &[]),
    ("postgresql://u:p%40%2F%3A%25@:PORT/d?host=DIR", &[]),
    ("postgres://u%40x:a:b?c@127.0.0.1:PORT/d%2Fe", &[]),
    ("postgres://u:@127.0.0.1:PORT/d?connect_timeout=5", &[("PGPASSWORD", "s3cret")]),
    ("postgres://127.0.0.1:PORT", &[DATABASE, USER]),
    ("postgres://127.0.0.1:PORT/?", &[DATABASE, USER]),
    ("postgres://@/", &[BASE, PORT, DATABASE, USER]),
    // Variables, also empty ones.
    (
        "",
        &[
            BASE,
            PORT,
            DATABASE,
            USER,
            ("PGAPPNAME", "a"),
            ("PGCONNECT_TIMEOUT", "5"),
            ("PGSSLMODE", "disable"),
        ],
    ),
    ("", &[("PGHOSTADDR", "127.0.0.1"), PORT, DATABASE, USER]),
    ("dbname=d", &[BASE, PORT, DATABASE, USER]),
    ("dbname=d", &[BASE, PORT, ("PGUSER", ""), ("PGHOSTADDR", ""), ("PGPASSWORD", ""), ("PGAPPNAME", "")]),
    // Passwords and passfiles; the default passfile is HOME/.pgpass.
    ("host=DIR port=PORT user=u dbname=d password=s3cret", &[("PGPASSWORD", "other")]),
    ("host=DIR port=PORT user=u dbname=d password=''", &[("PGPASSWORD", "other")]),
    ("host=DIR port=PORT user=u dbname=d", &[("PGPASSWORD", "s3cret")]),
    ("host=DIR port=PORT user=passuser dbname=d", &[]),
    ("host=127.0.0.1 port=PORT user=passuser dbname=d", &[]),
    ("host=localhost hostaddr=127.0.0.1 port=PORT user=passuser dbname=d", &[]),
    ("hostaddr=127.0.0.1 port=PORT user=passuser dbname=other", &[]),
    (r"host=DIR port=PORT user='col:on\\slash' dbname=d", &[]),
    ("host=DIR port=PORT user=passuser dbname=d", &[("PGPASSFILE", "HOME/second")]),
    ("host=DIR port=PORT user=passuser dbname=d passfile=HOME/second", &[("PGPASSFILE", "/nowhere")]),
    ("host=DIR port=PORT user=passuser dbname=d", &[("PGPASSFILE", "HOME/open")]),
    ("host=DIR port=PORT user=passuser dbname=d", &[("PGPASSFILE", "HOME")]),
    ("host=DIR port=PORT user=passuser dbname=d", &[("PGPASSFILE", "HOME/nowhere")]),
    ("host=DIR port=PORT user=passuser dbname=d", &[("PGPASSFILE", "")]),
    // Services.
    ("service=one", &[]),
    ("service=one user=u", &[DATABASE, USER, ("PGAPPNAME", "a")]),
    ("service=two", &[("PGSERVICE", "one"), USER]),
    ("", &[("PGSERVICE", "one"), ("PGHOST", "/nowhere")]),
    ("postgres:///?service=one", &[]),
    ("service=system", &[("PGSYSCONFDIR", "HOME/sysconf")]),
    ("service=one", &[("PGSERVICEFILE", "HOME/services"), ("PGSYSCONFDIR", "HOME/sysconf")]),
];

/// What both must refuse; psql before it connects, the agent with exit code 3.
const REFUSALS: &[Case] = &[
    ("host=DIR port", &[]),
    ("host=DIR port=PORT user='u", &[]),
    ("host=DIR port=PORT foo=1", &[]),
    ("host=DIR port=0", &[]),
    ("host=DIR port=65536", &[]),
    ("host=DIR port=1x", &[]),
    ("host=DIR port=PORT sslmode=on", &[]),
    ("host=DIR port=PORT sslmode=''", &[]),
    ("host=DIR port=PORT gssencmode=''", &[]),
    ("host=DIR port=PORT channel_binding=maybe", &[]),
    ("host=DIR port=PORT target_session_attrs=''", &[]),
    ("host=127.0.0.1 port=PORT connect_timeout=5s", &[]),
    ("host=127.0.0.1 port=PORT keepalives=yes", &[]),
    ("host=127.0.0.1 port=PORT keepalives_idle=''", &[]),
    ("host=127.0.0.1 port=PORT tcp_user_timeout=5s", &[]),
    ("hostaddr=localhost port=PORT", &[]),
    ("host=DIR/0123456789012345678901234567890123456789012345678901234567890123456789 port=PORT", &[]),
    ("postgres://[::1", &[]),
    ("postgres://[]:PORT/", &[]),
    ("postgres://[::1]x/", &[]),
    ("postgres://127.0.0.1:PORT/%zz", &[]),
    ("postgres://127.0.0.1:PORT/%00", &[]),
    ("postgres://127.0.0.1:PORT/?user", &[]),
    ("postgres://127.0.0.1:PORT/?user=a=b", &[]),
    ("postgres://127.0.0.1:PORT/?&user=u", &[]),
    ("postgres://127.0.0.1:PORT/?ssl=false", &[]),
    ("user=u", &[("PGPORT", "x"), BASE]),
    ("user=u", &[("PGSSLMODE", ""), BASE, PORT]),
    ("user=u host=127.0.0.1", &[("PGCONNECT_TIMEOUT", ""), PORT]),
    ("user=u", &[("PGSERVICE", ""), BASE, PORT]),
    ("service=nowhere", &[BASE, PORT]),
    ("service=one", &[("PGSERVICEFILE", "HOME/nowhere"), BASE, PORT]),
    ("service=nested", &[BASE, PORT]),
    ("service=spaced", &[BASE, PORT]),
];

#[test]
fn psql_and_the_agent_log_in_alike() {
    for case in LOGINS {
        let scene = Scene::new();
        let theirs = scene.psql(case).unwrap_or_else(|why| panic!("{case:?}: psql did not log in: {why}"));
        let theirs = without_own_defaults(theirs, "psql", None);
        let agent = Agent::start_with(|command| {
            *command = agent::command();
            command.args(["--config=/dev/null", "--listen=127.0.0.1:0", "--log-level=debug"]);
            scene.settle(command.arg("--dsn").arg(scene.fill(case.0)), case);
        });
        let reply = agent.get("/");
        let login = scene.login().unwrap_or_else(|why| panic!("{case:?}: {} {why}", reply.line()));
        assert_eq!(without_own_defaults(login, "pgsqlchk", Some("postgres")), theirs, "{case:?}");
        assert_eq!(reply.line(), "503 authentication-failed", "{case:?}");
        let log = agent.log();
        assert!(!log.contains(PASSWORD), "{case:?}: {log}");
    }
}

#[test]
fn psql_and_the_agent_refuse_alike() {
    for case in REFUSALS {
        let scene = Scene::new();
        match scene.psql(case) {
            Ok(login) => panic!("{case:?}: psql logs in: {login:?}"),
            // A server that is merely absent would be no refusal of the settings.
            Err(why) => assert!(!why.contains("Is the server running"), "{case:?}: {why}"),
        }
        let mut command = agent::command();
        command.args(["--config=/dev/null", "--listen=127.0.0.1:0", "--dsn"]).arg(scene.fill(case.0));
        scene.settle(&mut command, case);
        let (code, stderr) = finish(&mut command);
        assert_eq!(code, Some(3), "{case:?}: {stderr}");
        assert_eq!(
            (stderr.starts_with("pgsqlchk: "), stderr.lines().count()),
            (true, 1),
            "{case:?}: {stderr}"
        );
    }
}

/// The two programs have different default names and, by design, different default databases.
fn without_own_defaults(mut login: Login, name: &str, database: Option<&str>) -> Login {
    if login.application_name == name {
        login.application_name = "default".into();
    }
    if login.database == database.unwrap_or(&login.user) {
        login.database = "default".into();
    }
    // What a session of the agent's own comes with, after what the administrator gave.
    if let Some((given, _)) = login.options.split_once(" -c pgsqlchk.session=1 ") {
        login.options = given.to_owned();
    }
    login
}

/// A witness and a home folder with a passfile and services.
struct Scene {
    home: Folder,
    port: u16,
    logins: Receiver<Login>,
}

impl Scene {
    fn new() -> Scene {
        let home = Folder::new("libpq");
        let (sender, logins) = channel();
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
        let port = tcp.local_addr().expect("its address").port();
        let unix = UnixListener::bind(home.path().join(format!(".s.PGSQL.{port}"))).expect("listen");
        // These threads end with the test program.
        let unix_sender = sender.clone();
        thread::spawn(move || tcp.incoming().flatten().for_each(|client| witness_tcp(client, &sender)));
        thread::spawn(move || {
            unix.incoming().flatten().for_each(|client| witness_unix(client, &unix_sender))
        });

        let scene = Scene { home, port, logins };
        scene.private("second", "*:*:*:*:from the second file\n");
        scene.private("open", "*:*:*:*:s3cret\n");
        let open = Permissions::from_mode(0o640);
        fs::set_permissions(scene.home.path().join("open"), open).expect("set the mode");
        scene.private(
            ".pgpass",
            "# *:*:*:passuser:commented\n\
             elsewhere:*:*:passuser:wrong host\n\
             *:1:*:passuser:wrong port\n\
             DIR:PORT:d:passuser:by directory: and so on\r\n\
             localhost:*:*:passuser:by name\n\
             127.0.0.1:PORT:d:passuser:by\\:ad\\\\dress\n\
             *:*:d:col\\:on\\\\slash:escaped\n\
             127.0.0.1:*:*:passuser:s3cret\n",
        );
        let one = "host=DIR\nport=PORT\nport=1\nuser=suser\ndbname=sdb\nconnect_timeout=5\n";
        let services = format!(
            "# services\n[other]\nhost=/nowhere\n\n[one]\n{one}[two]x\n\thost=DIR \n port=PORT\ndbname=\n\
             [nested]\nservice=one\n[spaced]\nhost = DIR\n"
        );
        scene.private(".pg_service.conf", &services);
        scene.private("services", &services.replace("sdb", "sdb2"));
        fs::create_dir(scene.home.path().join("sysconf")).expect("create a folder");
        scene.private("sysconf/pg_service.conf", &format!("[system]\n{one}"));
        scene
    }

    fn private(&self, name: &str, content: &str) {
        let path = self.home.write(name, &self.fill(content));
        fs::set_permissions(path, Permissions::from_mode(0o600)).expect("set the mode");
    }

    fn fill(&self, text: &str) -> String {
        let home = self.home.path().to_str().expect("a path of ASCII");
        text.replace("PORT", &self.port.to_string()).replace("DIR", home).replace("HOME", home)
    }

    fn settle(&self, command: &mut Command, case: &Case) {
        command
            .env("HOME", self.home.path())
            .envs(case.1.iter().map(|(name, value)| (name, self.fill(value))));
    }

    /// What psql says to the witness; `Err`: its complaint, if it says nothing.
    fn psql(&self, case: &Case) -> Result<Login, String> {
        let mut command = Command::new(program_path("psql"));
        without_pg_variables(&mut command);
        command.args(["-X", "-w", "-c", "SELECT 1"]).env("LC_ALL", "C");
        // psql would take an empty string for the database's name.
        if !case.0.is_empty() {
            command.arg("-d").arg(self.fill(case.0));
        }
        self.settle(&mut command, case);
        let (_, stderr) = finish(&mut command);
        let reached = ["password authentication failed", "no password supplied"];
        match reached.iter().any(|words| stderr.contains(words)) {
            true => self.login(),
            false => Err(stderr),
        }
    }

    fn login(&self) -> Result<Login, String> {
        self.logins.recv_timeout(secs(10)).map_err(|error: RecvTimeoutError| error.to_string())
    }
}

fn finish(command: &mut Command) -> (Option<i32>, String) {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let ended = wait_for_exit(&mut child, secs(20));
    if ended.is_none() {
        child.kill().expect("kill the program");
    }
    let output = child.wait_with_output().expect("collect the output");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(ended.is_some(), "{command:?} goes on: {stderr}");
    (output.status.code(), stderr)
}

fn witness_tcp(client: TcpStream, logins: &Sender<Login>) {
    client.set_read_timeout(Some(secs(10))).expect("set a limit");
    let _ = witness(client, "tcp", logins);
}

fn witness_unix(client: UnixStream, logins: &Sender<Login>) {
    client.set_read_timeout(Some(secs(10))).expect("set a limit");
    let _ = witness(client, "unix", logins);
}

/// Sees one client through its login, PostgreSQL manual section 55.2.1. One that only knocks is not noted.
fn witness(mut client: impl Read + Write, through: &'static str, logins: &Sender<Login>) -> io::Result<()> {
    const PROTOCOL_3_0: [u8; 4] = 196_608_u32.to_be_bytes();
    let mut packet = read_packet(&mut client)?;
    // SSLRequest and GSSENCRequest come first, in this order or the other.
    for _ in 0..2 {
        if packet.starts_with(&PROTOCOL_3_0) {
            break;
        }
        client.write_all(b"N")?;
        packet = read_packet(&mut client)?;
    }
    let text = String::from_utf8_lossy(&packet[4..]).into_owned();
    let words: Vec<&str> = text.trim_end_matches('\0').split('\0').collect();
    let parameters: BTreeMap<&str, &str> =
        words.chunks(2).map(|pair| (pair[0], pair.get(1).copied().unwrap_or_default())).collect();
    let parameter = |name: &str| parameters.get(name).copied().unwrap_or_default().to_owned();

    client.write_all(b"R\0\0\0\x08\0\0\0\x03")?;
    let mut kind = [0];
    let password = match client.read(&mut kind) {
        Ok(1) => Some(String::from_utf8_lossy(&read_packet(&mut client)?).trim_end_matches('\0').to_owned()),
        Ok(_) | Err(_) => None,
    };
    // The login's message quotes nothing: what the agent logs of a password would be its own doing.
    let fields = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed\0\0";
    let length = u32::try_from(fields.len() + 4).expect("a short message").to_be_bytes();
    let _ = client.write_all(&[b"E", &length[..], fields].concat());
    let login = Login {
        through,
        user: parameter("user"),
        database: parameter("database"),
        application_name: parameter("application_name"),
        options: parameter("options"),
        password,
    };
    logins.send(login).map_err(io::Error::other)
}

/// A packet without its length.
fn read_packet(client: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let mut packet = vec![0; (u32::from_be_bytes(length) as usize).clamp(8, 10_000) - 4];
    client.read_exact(&mut packet)?;
    Ok(packet)
}
