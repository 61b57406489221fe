//! Who listens on the ports: from /proc/net/tcp to a socket, from the socket to a process and its unit.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::Finding;
use crate::config::Config;
use crate::gate::listener::DEFAULT_PORT;

/// That of HAProxy's agent-check in the files for systemd and xinetd.
pub const AGENT_PORT: u16 = 23268;

/// TCP_LISTEN in /proc/net/tcp.
const LISTENING: &str = "0A";

/// Who may hold the port: the agent, and those who start it for a check.
const EXPECTED: [&str; 4] = ["pgsqlchk", "systemd", "xinetd", "inetd"];

/// Who holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Which process; `None` where its descriptors may not be seen.
    pub process: Option<Process>,
    /// Whose socket it is.
    pub uid: u32,
}

/// A process that holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// The program's name.
    pub name: String,
    /// The unit of systemd that it is of.
    pub unit: Option<String>,
}

impl Holder {
    fn described(&self) -> String {
        match &self.process {
            Some(Process { pid, name, unit: Some(unit) }) => format!("{name} (process {pid}, {unit})"),
            Some(Process { pid, name, unit: None }) => format!("{name} (process {pid})"),
            None => format!("a process of user {} that only root may see", self.uid),
        }
    }

    fn is_stranger(&self) -> bool {
        self.process.as_ref().is_some_and(|process| !EXPECTED.contains(&process.name.as_str()))
    }
}

/// The ports that checks come to.
pub fn http_ports(config: Option<&Config>) -> Vec<u16> {
    let mut ports: Vec<u16> = config.iter().flat_map(|config| &config.listen).map(|it| it.port()).collect();
    ports.dedup();
    if ports.is_empty() { vec![DEFAULT_PORT] } else { ports }
}

/// Looks at all of them. `home` is what is enabled to open the port, if anything is.
pub fn look(config: Option<&Config>, home: Option<&str>, deadline: Instant) -> Vec<Finding> {
    let http = http_ports(config);
    let agent = config.and_then(|config| config.agent_listen).map(|address| address.port());
    let https = config.iter().flat_map(|config| &config.tls_listen).map(|address| address.port());
    let http: Vec<u16> = http.into_iter().chain(https).collect();
    let wanted: Vec<u16> = http.iter().copied().chain([agent.unwrap_or(AGENT_PORT)]).collect();
    let held = holders(Path::new("/proc"), &wanted, deadline);
    let of = |port: u16| -> Vec<&Holder> {
        held.iter().filter(|(held, _)| *held == port).map(|(_, holder)| holder).collect()
    };
    // Without a configuration nobody knows where the agent should listen.
    let is_known = |port: &&u16| config.is_some() || !of(**port).is_empty();
    let mut findings: Vec<Finding> =
        http.iter().filter(is_known).map(|port| judge(*port, &of(*port), home)).collect();
    match agent {
        Some(port) => findings.push(judge(port, &of(port), home)),
        // Nobody has asked for it here, so that nobody has to listen.
        None if !of(AGENT_PORT).is_empty() => findings.push(judge(AGENT_PORT, &of(AGENT_PORT), home)),
        None => {}
    }
    findings
}

fn judge(port: u16, holders: &[&Holder], home: Option<&str>) -> Finding {
    let mut names: Vec<String> = Vec::new();
    for name in holders.iter().map(|holder| holder.described()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let what = format!("port {port}: held by {}", names.join(" and "));
    if holders.is_empty() {
        let what = format!("port {port}: nobody listens there, so every HAProxy takes this node for down");
        let start = match home {
            Some("xinetd") => "systemctl restart xinetd; its log says why it does not listen".to_owned(),
            Some(unit) => {
                format!("systemctl restart {unit}; journalctl -u {unit} -n 20 says why it does not run")
            }
            None => "systemctl enable --now pgsqlchk.service".to_owned(),
        };
        return Finding::problem(format_args!("{what}"), format_args!("{start}"));
    }
    if let Some(Process { pid, unit, .. }) =
        holders.iter().find(|holder| holder.is_stranger()).and_then(|holder| holder.process.as_ref())
    {
        let stop = match unit {
            Some(unit) if unit.ends_with(".service") => format!("systemctl disable --now {unit}"),
            Some(_) | None => format!("stop it (kill {pid})"),
        };
        return Finding::problem(
            format_args!("{what}, which is not the agent"),
            format_args!(
                "{stop}, or give the agent another port: listen = [::]:PORT in /etc/pgsqlchk/pgsqlchk.conf"
            ),
        );
    }
    match names.len() {
        1 => Finding::ok(format_args!("{what}")),
        _ => Finding::warning(
            format_args!("{what}: checks reach now the one, now the other"),
            format_args!(
                "keep one of them: systemctl list-units 'pgsqlchk*' xinetd, then systemctl disable --now the other"
            ),
        ),
    }
}

/// By port. `proc` is where /proc is.
fn holders(proc: &Path, ports: &[u16], deadline: Instant) -> Vec<(u16, Holder)> {
    let mut sockets = Vec::new();
    for file in ["net/tcp", "net/tcp6"] {
        let text = fs::read_to_string(proc.join(file)).unwrap_or_default();
        let listening = text.lines().filter_map(listening_socket);
        sockets.extend(listening.filter(|socket| ports.contains(&socket.port)));
    }
    let mut found: Vec<(u64, Process)> = Vec::new();
    let entries = fs::read_dir(proc).into_iter().flatten();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        if Instant::now() >= deadline || found.len() == sockets.len() {
            break;
        }
        let links = fs::read_dir(proc.join(format!("{pid}/fd"))).into_iter().flatten().flatten();
        for link in links.filter_map(|entry| fs::read_link(entry.path()).ok()) {
            let inode = link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']'));
            let Some(inode) = inode.and_then(|inode| inode.parse::<u64>().ok()) else { continue };
            let is_known = found.iter().any(|(known, _)| *known == inode);
            if !is_known && sockets.iter().any(|socket| socket.inode == inode) {
                found.push((inode, describe(proc, pid)));
            }
        }
    }
    let held = sockets.into_iter().map(|Socket { port, uid, inode }| {
        let process = found.iter().find(|(known, _)| *known == inode).map(|(_, process)| process.clone());
        (port, Holder { process, uid })
    });
    held.collect()
}

fn describe(proc: &Path, pid: u32) -> Process {
    let read = |name: &str| fs::read_to_string(proc.join(format!("{pid}/{name}"))).unwrap_or_default();
    Process { pid, name: read("comm").trim_end().to_owned(), unit: unit_of(&read("cgroup")) }
}

/// The last part of the path that is a unit (cgroups(7), systemd's layout).
fn unit_of(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers) = (fields.next()?, fields.next()?);
        (number == "0" || controllers == "name=systemd").then(|| fields.next())?
    })?;
    let is_unit = |part: &&str| [".service", ".scope"].iter().any(|kind| part.ends_with(kind));
    path.rsplit('/').find(is_unit).map(str::to_owned)
}

struct Socket {
    port: u16,
    uid: u32,
    inode: u64,
}

/// A line of /proc/net/tcp, where it is of a listening socket (proc_net_tcp(5)).
fn listening_socket(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, local, _, state, _, _, _, uid, _, inode, ..] = fields[..] else { return None };
    let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
    (state == LISTENING).then_some(Socket { port, uid: uid.parse().ok()?, inode: inode.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn holder(name: &str, unit: Option<&str>) -> Holder {
        let process = Process { pid: 7, name: name.into(), unit: unit.map(str::to_owned) };
        Holder { process: Some(process), uid: 0 }
    }

    #[test]
    fn a_port_is_followed_to_the_unit_of_its_process() {
        let proc = std::env::temp_dir().join(format!("pgsqlchk-proc-{}", std::process::id()));
        for folder in ["net", "7/fd", "8/fd", "self"] {
            fs::create_dir_all(proc.join(folder)).unwrap();
        }
        let rest = "00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 100 0";
        let line = |port: &str, state: &str| format!("   0: 00000000:{port} 00000000:0000 {state} {rest}\n");
        fs::write(proc.join("net/tcp"), format!("  sl  local_address ...\n{}", line("5AE3", "0A"))).unwrap();
        fs::write(proc.join("net/tcp6"), line("5AE4", "01")).unwrap();
        symlink("socket:[99]", proc.join("7/fd/0")).unwrap();
        symlink("socket:[4711]", proc.join("8/fd/3")).unwrap();
        fs::write(proc.join("8/comm"), "nginx\n").unwrap();
        fs::write(proc.join("8/cgroup"), "0::/system.slice/nginx.service\n").unwrap();
        let later = Instant::now() + std::time::Duration::from_secs(60);
        let held = holders(&proc, &[23267, 23268], later);
        let nginx = Process { pid: 8, name: "nginx".into(), unit: Some("nginx.service".into()) };
        let expected = [(23267, Holder { process: Some(nginx), uid: 1000 })];
        assert_eq!(held, expected);
        fs::remove_file(proc.join("8/fd/3")).unwrap();
        assert_eq!(holders(&proc, &[23267], later), [(23267, Holder { process: None, uid: 1000 })]);
        fs::remove_dir_all(proc).unwrap();
    }

    #[test]
    fn units_are_found_in_both_layouts() {
        for (cgroup, expected) in [
            ("0::/system.slice/pgsqlchk.service\n", Some("pgsqlchk.service")),
            ("12:cpu:/x.service\n1:name=systemd:/system.slice/xinetd.service\n", Some("xinetd.service")),
            ("0::/user.slice/user-0.slice/session-1.scope\n", Some("session-1.scope")),
            ("0::/\n", None),
            ("", None),
        ] {
            assert_eq!(unit_of(cgroup).as_deref(), expected, "{cgroup}");
        }
    }

    #[test]
    fn whoever_is_not_the_agent_is_a_problem_and_two_are_a_warning() {
        use super::super::Grade;
        let judged =
            |holders: &[Holder]| judge(23267, &holders.iter().collect::<Vec<_>>(), Some("pgsqlchk.service"));
        let agent = holder("pgsqlchk", Some("pgsqlchk.service"));
        assert_eq!(judged(&[agent.clone(), agent.clone()]).grade, Grade::Ok);
        assert_eq!(judged(&[Holder { process: None, uid: 7 }]).grade, Grade::Ok);
        assert_eq!(judged(&[agent, holder("xinetd", None)]).grade, Grade::Warning);
        let nginx = judged(&[holder("nginx", Some("nginx.service"))]);
        assert!(nginx.remedy.starts_with("systemctl disable --now nginx.service"), "{nginx}");
        assert!(judged(&[holder("nc", Some("session-1.scope"))]).remedy.starts_with("stop it (kill 7)"));
        assert!(judged(&[]).remedy.contains("pgsqlchk.service"));
    }
}
