//! Which homes are switched on: units of systemd, services of xinetd. Only one may open the port.

use std::net::IpAddr;
use std::path::Path;

use super::Finding;
use super::root::Root;
use super::scripts::{MOVING, is_old_script};
use super::xinetd::{self, Attributes, Service};

/// Where the configuration files of instances are.
const INSTANCES: &str = "/etc/pgsqlchk/";

/// The name of the agent's unit, without its ending: `pgsqlchk`, or `pgsqlchk@15-main` for an instance's file.
pub fn unit_of(file: &str) -> String {
    let instance = file.strip_prefix(INSTANCES).and_then(|name| name.strip_suffix(".conf"));
    match instance.filter(|name| *name != "pgsqlchk" && !name.contains('/')) {
        Some(instance) => format!("pgsqlchk@{instance}"),
        None => "pgsqlchk".into(),
    }
}

/// A remedy for the one agent of a host, said of this instance.
pub fn for_instance(remedy: &str, file: &str) -> String {
    let unit = unit_of(file);
    let Some(instance) = unit.strip_prefix("pgsqlchk@") else { return remedy.to_owned() };
    let mut remedy = remedy
        .replace("/etc/pgsqlchk/pgsqlchk.conf", file)
        .replace("pgsqlchk.service", &format!("{unit}.service"))
        .replace("restart pgsqlchk", &format!("restart {unit}"))
        .replace("start pgsqlchk;", &format!("start {unit};"))
        .replace("-u pgsqlchk ", &format!("-u {unit} "))
        .replace("/run/pgsqlchk/drain", &format!("/run/pgsqlchk/{instance}/drain"));
    for action in ["check", "doctor", "drain", "undrain"] {
        remedy = remedy
            .replace(&format!("pgsqlchk {action}"), &format!("pgsqlchk {action} --instance {instance}"));
    }
    remedy
}

/// Units that open the port of checks. (`pgsqlchk-agent.socket` is for another one.)
fn units_of_checks(unit: &str) -> Vec<String> {
    let mut units = vec![format!("{unit}.service"), format!("{unit}.socket")];
    if unit == "pgsqlchk" {
        units.push("pgsqlchk-inetd.socket".into());
    }
    units
}

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

/// Looks at all of them. `unit` is the agent's, `ports` are those of checks, `peers` the addresses of other agents.
pub fn look(root: &Root, unit: &str, ports: &[u16], peers: &[IpAddr]) -> Homes {
    let units = enabled_units(root, unit);
    let services = agents_of_xinetd(root);
    let mut findings = vec![judge(root, &units, &services, ports)];
    for service in &services {
        findings.extend(judge_service(root, service, peers));
    }
    let of_checks = |service: &Service| service.port().is_none_or(|port| ports.contains(&port));
    let xinetd = services.iter().any(of_checks).then(|| "xinetd".to_owned());
    Homes { findings, home: units.first().cloned().or(xinetd), is_systemd: !units.is_empty() }
}

/// Those of [`units_of_checks`] that some target wants.
fn enabled_units(root: &Root, unit: &str) -> Vec<String> {
    let wanted = units_of_checks(unit);
    let mut units = Vec::new();
    for folder in ENABLED {
        let targets = root.names(folder).into_iter().filter(|name| name.ends_with(".wants"));
        for target in targets {
            let names = root.names(&format!("{folder}/{target}"));
            units.extend(names.into_iter().filter(|name| wanted.contains(name)));
        }
    }
    wanted.into_iter().filter(|unit| units.contains(unit)).collect()
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
    let homes: Vec<String> = units.iter().cloned().chain(named).chain(inetd(root, ports)).collect();
    match homes.len() {
        1 => Finding::ok(format_args!("home: {} is switched on", homes[0])),
        0 if !root.path("/etc/systemd/system").is_dir() => Finding::ok(format_args!(
            "home: no systemd here, and nothing in /etc/xinetd.d: whoever started the agent is its home"
        )),
        0 => Finding::warning(
            format_args!(
                "home: none is switched on, so that nobody listens after the next start of this host"
            ),
            format_args!("systemctl enable --now pgsqlchk.service"),
        ),
        _ => {
            let superfluous = match services.last() {
                Some(service) => format!("disable = yes in {}, then systemctl reload xinetd", service.file),
                None => format!("systemctl disable --now {}", units.first().map_or("", String::as_str)),
            };
            let what =
                format!("home: {} are switched on together, and both want the port", homes.join(" and "));
            Finding::problem(format_args!("{what}"), format_args!("keep one of them: {superfluous}"))
        }
    }
}

/// Lines of inetd that start the agent for one of these ports (inetd.conf(5); names of services are not looked up).
fn inetd(root: &Root, ports: &[u16]) -> Vec<String> {
    let text = root.read("/etc/inetd.conf").unwrap_or_default();
    let is_ours = |line: &&str| {
        let port = line.split_whitespace().next().and_then(|word| word.rsplit(':').next()?.parse().ok());
        !line.starts_with('#') && line.contains("pgsqlchk") && port.is_some_and(|port| ports.contains(&port))
    };
    text.lines().filter(is_ours).map(|_| "inetd (/etc/inetd.conf)".to_owned()).collect()
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
        return vec![Finding::problem(format_args!("{what}"), format_args!("{remedy}"))];
    }
    if !Path::new(server).is_absolute() || !root.path(server).exists() && !Path::new(server).exists() {
        let what =
            format!("xinetd: service {} in {file} starts {server:?}, which there is not", service.name);
        let remedy =
            format!("server = /usr/bin/pgsqlchk (type -a pgsqlchk) in {file}, then systemctl reload xinetd");
        return vec![Finding::problem(format_args!("{what}"), format_args!("{remedy}"))];
    }
    xinetd::judge(service, peers)
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
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
        const INSTANCE: &str = "/etc/systemd/system/multi-user.target.wants/pgsqlchk@15-main.service";
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
            (
                "inetd",
                &[
                    ("/etc/systemd/system/x", ""),
                    (
                        "/etc/inetd.conf",
                        "23267 stream tcp nowait pgsqlchk /usr/bin/pgsqlchk pgsqlchk --mode xinetd\n",
                    ),
                ],
                Grade::Ok,
                None,
            ),
            ("instance", &[(WANTS, ""), (INSTANCE, "")], Grade::Ok, Some("pgsqlchk.service")),
            ("bare", &[("/etc/passwd", "")], Grade::Ok, None),
            (
                "ignored",
                &[(WANTS, ""), ("/etc/xinetd.d/pgsqlchk.dpkg-old", XINETD.1)],
                Grade::Ok,
                Some("pgsqlchk.service"),
            ),
        ] {
            let (path, root) = plant(name, files);
            let homes = look(&root, "pgsqlchk", &[23267], &[]);
            assert_eq!((homes.findings[0].grade, homes.home.as_deref()), (grade, home), "{name}");
            fs::remove_dir_all(path).unwrap();
        }
    }

    #[test]
    fn an_instance_has_a_unit_of_its_own() {
        for (file, unit) in [
            ("/etc/pgsqlchk/pgsqlchk.conf", "pgsqlchk"),
            ("/etc/pgsqlchk/15-main.conf", "pgsqlchk@15-main"),
            ("/srv/15-main.conf", "pgsqlchk"),
        ] {
            assert_eq!(unit_of(file), unit);
        }
        let remedy = "listen = x in /etc/pgsqlchk/pgsqlchk.conf, then systemctl restart pgsqlchk";
        assert_eq!(for_instance(remedy, "/etc/pgsqlchk/pgsqlchk.conf"), remedy);
        assert_eq!(
            for_instance(remedy, "/etc/pgsqlchk/15-main.conf"),
            "listen = x in /etc/pgsqlchk/15-main.conf, then systemctl restart pgsqlchk@15-main"
        );
        assert_eq!(
            for_instance("sudo pgsqlchk undrain", "/etc/pgsqlchk/15-main.conf"),
            "sudo pgsqlchk undrain --instance 15-main"
        );
        let (path, root) = plant(
            "instances",
            &[("/etc/systemd/system/multi-user.target.wants/pgsqlchk@15-main.service", "")],
        );
        let homes = look(&root, "pgsqlchk@15-main", &[23270], &[]);
        assert_eq!(homes.home.as_deref(), Some("pgsqlchk@15-main.service"));
        fs::remove_dir_all(path).unwrap();
    }
}
