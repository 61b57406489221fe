//! How little the agent needs: no privilege of the operating system, no environment, nothing that it could write, and in
//! PostgreSQL a role that may log in. (In its systemd unit: `tests/system`.)

mod support;

use std::fs;

use support::folder::Folder;
use support::postgresql::copy_program;
use support::{Agent, Cluster, eventually, secs, wire};

/// `nobody`, as whom root tries it.
const NOBODY: &str = "65534";

/// A role of its own that may do nothing but log in, where not even PUBLIC may do anything that a server can live
/// without.
fn make_role(primary: &Cluster) {
    primary.psql("CREATE ROLE least LOGIN");
    for sql in [
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        "REVOKE ALL ON DATABASE postgres FROM PUBLIC",
        "GRANT CONNECT ON DATABASE postgres TO least",
        "REVOKE ALL ON ALL TABLES IN SCHEMA information_schema FROM PUBLIC",
    ] {
        primary.psql(sql);
    }
}

fn dsn_of(cluster: &Cluster) -> String {
    let socket = cluster.socket_dir().display().to_string();
    format!("host={socket} port={} user=least dbname=postgres", cluster.port())
}

#[test]
fn the_role_needs_nothing_but_login() {
    let primary = Cluster::primary();
    make_role(&primary);
    let standby = Cluster::standby_of(&primary);
    let (on_primary, on_standby) =
        (Agent::start(&["--dsn", &dsn_of(&primary)]), Agent::start(&["--dsn", &dsn_of(&standby)]));
    for (path, primary_says, standby_says) in [
        ("/", "200 Primary", "206 Standby"),
        ("/read-write", "200 Primary", "503 in-recovery"),
        ("/replica", "503 not-in-recovery", "200 Standby"),
        ("/read-only?lag=16MB&lag_time=10min", "200 Primary", "200 Standby"),
        ("/status", "200 OK", "200 OK"),
        ("/metrics", "200 OK", "200 OK"),
    ] {
        let says = |agent: &Agent, line: &str| agent.get(path).line() == line;
        eventually(secs(20), &format!("{path} on the primary"), || says(&on_primary, primary_says));
        eventually(secs(20), &format!("{path} on the standby"), || says(&on_standby, standby_says));
    }
    let rights = "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls \
                  FROM pg_roles WHERE rolname = 'least'";
    assert_eq!(primary.psql(rights), "f");
    assert_eq!(primary.psql("SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = 'least'"), "0");
}

/// Root drops everything first; everybody else has nothing to drop. The agent's own copy lies where nobody may write.
#[test]
fn no_capability_no_environment_and_nothing_open_for_writing() {
    let primary = Cluster::primary();
    make_role(&primary);
    let folder = Folder::new("privileges");
    let copy = folder.path().join("pgsqlchk");
    copy_program(env!("CARGO_BIN_EXE_pgsqlchk"), &copy);
    let exec = format!("exec {} \"$@\"", copy.display());
    let drop_user = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--bounding-set=-all"];
    let mut wrapper = vec!["setpriv", "--no-new-privs", "--inh-caps=-all"];
    if rustix::process::geteuid().is_root() {
        wrapper.extend(drop_user);
    }
    // The last `env -i` leaves the agent nothing, not even PATH and HOME.
    let exec = exec.replace("exec ", "exec env -i ");
    wrapper.extend(["sh", "-c", &exec]);
    let dsn = dsn_of(&primary);
    let mut agent = Agent::start_under(&wrapper, |command| {
        command.args(["--dsn", &dsn, "--agent-listen", "127.0.0.1:0"]);
    });
    for path in ["/", "/status", "/metrics", "/replica"] {
        assert_ne!(agent.get(path).status, 0, "{path}");
    }
    assert_eq!(agent.get("/").line(), "200 Primary");
    assert_eq!(wire::talk(agent.agent_check_addr(), "/primary\n").text(), "up ready 100%\n");

    let pid = agent.pid();
    let environment = fs::read(format!("/proc/{pid}/environ")).expect("its environment");
    assert_eq!(String::from_utf8_lossy(&environment), "");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    for line in ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(&format!("\n{line}\n")), "{line}: {status}");
    }
    assert_eq!(files_open_for_writing(pid), Vec::<String>::new());
    assert_eq!(agent.terminate().code(), Some(0));
}

/// Files with a name that could be written to; sockets, pipes, and the likes of epoll have none, and /dev/null keeps
/// nothing.
fn files_open_for_writing(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").flatten();
    let named = entries.filter_map(|entry| {
        let name = fs::read_link(entry.path()).ok()?.display().to_string();
        (name.starts_with('/') && name != "/dev/null").then_some((entry.file_name(), name))
    });
    let is_writable = |number: &std::ffi::OsStr| {
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", number.display())).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("0").trim();
        u32::from_str_radix(flags, 8).is_ok_and(|flags| flags & 0o3 != 0)
    };
    named.filter(|(number, _)| is_writable(number)).map(|(_, name)| name).collect()
}
