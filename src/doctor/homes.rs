//! Which homes are switched on: units of systemd, services of xinetd. Only one may open the port.

use std::net::IpAddr;
use std::path::Path;

use super::root::Root;
use super::scripts::{MOVING, is_old_script};
use super::xinetd::{self, Attributes, Service};
use super::{Finding, Grade};

/// Units that open the port of checks. (`pgsqlchk-agent.socket` is for another port, and instances have ports of their own.)
const UNITS: [&str; 3] = ["pgsqlchk.service", "pgsqlchk.socket", "pgsqlchk-inetd.socket"];

/// Where `systemctl enable` puts its links.
const ENABLED: [&str; 2] = ["/etc/systemd/system", "/usr/lib/systemd/system"];

/// What was found.
pub struct Homes {
    /// One line each.
    pub findings: Vec<Finding>,
    /// What opens the port: a unit, or `xinetd`.
    pub home: Option<String>,
    /// Units of systemd are switched on, whose service sees neither /tmp nor /home.
    pub is_systemd: bool,
}

/// Looks at all of them. `ports` are those of checks, `peers` the addresses of other agents.
pub fn look(root: &Root, ports: &[u16], peers: &[IpAddr]) -> Homes {
    let units = enabled_units(root);
    let services = agents_of_xinetd(root);
    let mut findings = vec![judge(root, &units, &services, ports)];
    for service in &services {
        findings.extend(judge_service(root, service, peers));
    }
    let xinetd = (!services.is_empty()).then(|| "xinetd".to_owned());
    Homes { findings, home: units.first().cloned().or(xinetd), is_systemd: !units.is_empty() }
}

/// Those of [`UNITS`] that some target wants.
fn enabled_units(root: &Root) -> Vec<String> {
    let mut units = Vec::new();
    for folder in ENABLED {
        let targets = root.names(folder).into_iter().filter(|name| name.ends_with(".wants"));
        for target in targets {
            let names = root.names(&format!("{folder}/{target}"));
            units.extend(names.into_iter().filter(|name| UNITS.contains(&name.as_str())));
        }
    }
    units.sort();
    units.dedup();
    units
}

/// Services that are switched on and start the agent, or a script like it.
fn agents_of_xinetd(root: &Root) -> Vec<Service> {
    let mut defaults = Attributes::new();
    let main = root.read("/etc/xinetd.conf").unwrap_or_default();
    let mut services = xinetd::services("/etc/xinetd.conf", &main, &mut defaults);
    // xinetd passes over such names itself (xinetd.conf(5), includedir).
    let names = root.names("/etc/xinetd.d").into_iter().filter(|name| !name.contains(['.', '~']));
    for name in names {
        let file = format!("/etc/xinetd.d/{name}");
        let text = root.read(&file).unwrap_or_default();
        services.extend(xinetd::services(&file, &text, &mut defaults));
    }
    services.retain(|service| {
        let server = service.get("server").unwrap_or_default();
        let is_named = |text: &str| text.split(['/', ' ']).any(|part| part.starts_with("pgsqlchk"));
        is_named(server)
            || is_named(service.get("server_args").unwrap_or_default())
            || is_old_script(&root.path(server))
    });
    services
}

fn judge(root: &Root, units: &[String], services: &[Service], ports: &[u16]) -> Finding {
    let of_checks = |service: &&Service| service.port().is_none_or(|port| ports.contains(&port));
    let services: Vec<&Service> = services.iter().filter(of_checks).collect();
    let named = services.iter().map(|service| format!("xinetd ({})", service.file));
    let homes: Vec<String> = units.iter().cloned().chain(named).collect();
    match homes.len() {
        1 => Finding::ok(format!("home: {} is switched on", homes[0])),
        0 if !root.path("/etc/systemd/system").is_dir() => Finding::ok(
            "home: no systemd here, and nothing in /etc/xinetd.d: whoever started the agent is its home",
        ),
        0 => Finding::warning(
            "home: none is switched on, so that nobody listens after the next start of this host",
            "systemctl enable --now pgsqlchk.service",
        ),
        _ => {
            let superfluous = match services.last() {
                Some(service) => format!("disable = yes in {}, then systemctl reload xinetd", service.file),
                None => format!("systemctl disable --now {}", units.first().map_or("", String::as_str)),
            };
            let what =
                format!("home: {} are switched on together, and both want the port", homes.join(" and "));
            Finding::problem(what, format!("keep one of them: {superfluous}"))
        }
    }
}

fn judge_service(root: &Root, service: &Service, peers: &[IpAddr]) -> Vec<Finding> {
    let server = service.get("server").unwrap_or_default();
    let file = &service.file;
    if is_old_script(&root.path(server)) {
        let what = format!("old script: xinetd answers checks with {server} ({file}), not with pgsqlchk");
        let remedy = format!(
            "mv {file} /root/, put the package's service file in its place with disable = no, systemctl reload xinetd, \
             curl -i http://localhost:23267/ ({MOVING})"
        );
        return vec![Finding::problem(what, remedy)];
    }
    if !Path::new(server).is_absolute() || !root.path(server).exists() && !Path::new(server).exists() {
        let what =
            format!("xinetd: service {} in {file} starts {server:?}, which there is not", service.name);
        let remedy =
            format!("server = /usr/bin/pgsqlchk (type -a pgsqlchk) in {file}, then systemctl reload xinetd");
        return vec![Finding::problem(what, remedy)];
    }
    let mut findings = xinetd::judge(service, peers);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.grade));
    debug_assert!(findings.iter().all(|finding| (finding.grade == Grade::Ok) == finding.remedy.is_empty()));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn plant(name: &str, files: &[(&str, &str)]) -> (std::path::PathBuf, Root) {
        let path = std::env::temp_dir().join(format!("pgsqlchk-homes-{name}-{}", std::process::id()));
        for (file, text) in files {
            let file = path.join(file.trim_start_matches('/'));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let root = Root::at(&path);
        (path, root)
    }

    #[test]
    fn one_home_is_right_and_two_are_not() {
        const WANTS: &str = "/etc/systemd/system/multi-user.target.wants/pgsqlchk.service";
        const SOCKET: &str = "/etc/systemd/system/sockets.target.wants/pgsqlchk.socket";
        const XINETD: (&str, &str) = (
            "/etc/xinetd.d/pgsqlchk",
            "service pgsqlchk\n{\n port = 23267\n server = /usr/bin/pgsqlchk\n server_args = xinetd\n}\n",
        );
        for (name, files, grade, home) in [
            ("service", &[(WANTS, "")][..], Grade::Ok, Some("pgsqlchk.service")),
            ("both", &[(WANTS, ""), (SOCKET, "")], Grade::Problem, Some("pgsqlchk.service")),
            ("xinetd", &[XINETD, ("/etc/systemd/system/x", "")], Grade::Ok, Some("xinetd")),
            ("mixed", &[(SOCKET, ""), XINETD], Grade::Problem, Some("pgsqlchk.socket")),
            ("none", &[("/etc/systemd/system/x", "")], Grade::Warning, None),
            ("bare", &[("/etc/passwd", "")], Grade::Ok, None),
            (
                "ignored",
                &[(WANTS, ""), ("/etc/xinetd.d/pgsqlchk.dpkg-old", XINETD.1)],
                Grade::Ok,
                Some("pgsqlchk.service"),
            ),
        ] {
            let (path, root) = plant(name, files);
            let homes = look(&root, &[23267], &[]);
            assert_eq!((homes.findings[0].grade, homes.home.as_deref()), (grade, home), "{name}");
            fs::remove_dir_all(path).unwrap();
        }
    }
}
