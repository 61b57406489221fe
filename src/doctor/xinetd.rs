//! xinetd's files: which services start the agent or its predecessor, and what becomes of checks there (xinetd.conf(5)).
//! Judged purely from what was read.

use std::net::IpAddr;

use super::{Finding, resolve};

/// What a check needs at least: HAProxy hosts ask from several connections at the same time, and a process counts until
/// xinetd has seen its end.
const MIN_PER_SOURCE: u64 = 20;
const MIN_INSTANCES: u64 = 30;
const MIN_RATE: u64 = 200;
/// A port that stays closed for longer is down for HAProxy.
const MAX_CLOSED_S: u64 = 2;

/// Attributes with their names; of two the later counts.
pub(super) type Attributes = Vec<(String, String)>;

/// A service that is switched on.
#[derive(Debug)]
pub(super) struct Service {
    /// Where it stands.
    pub(super) file: String,
    /// Its name.
    pub(super) name: String,
    attributes: Attributes,
}

impl Service {
    /// An attribute, in one line.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        get(&self.attributes, name)
    }

    /// Its port, where it names one.
    pub(super) fn port(&self) -> Option<u16> {
        self.get("port")?.parse().ok()
    }

    /// Whether connections are left to the server.
    pub(super) fn waits(&self) -> bool {
        self.get("wait") == Some("yes")
    }
}

fn get<'a>(attributes: &'a Attributes, name: &str) -> Option<&'a str> {
    attributes.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// The services of a file that are switched on, over the defaults. A later `defaults` counts for those after it.
pub(super) fn services(file: &str, text: &str, defaults: &mut Attributes) -> Vec<Service> {
    let mut services = Vec::new();
    let mut section: Option<(String, Attributes)> = None;
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (&mut section, words.as_slice()) {
            (_, []) => {}
            (_, [first, ..]) if first.starts_with('#') => {}
            (None, ["service", name, ..]) => section = Some(((*name).to_owned(), Attributes::new())),
            (None, ["defaults", ..]) => section = Some((String::new(), Attributes::new())),
            (Some(_), ["}", ..]) => match section.take() {
                Some((name, attributes)) if name.is_empty() => *defaults = attributes,
                Some((name, own)) => {
                    let mut attributes = defaults.clone();
                    attributes.extend(own);
                    let is_disabled = get(&attributes, "disable") == Some("yes");
                    if !is_disabled {
                        services.push(Service { file: file.to_owned(), name, attributes });
                    }
                }
                None => {}
            },
            (Some((_, attributes)), _) => {
                let Some((name, value)) = line.split_once('=') else { continue };
                let (name, is_more) = match name.trim_end().strip_suffix('+') {
                    Some(name) => (name.trim_end(), true),
                    None => (name.trim_end(), false),
                };
                let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
                let before = get(attributes, name).filter(|_| is_more);
                let value = before.map(|before| format!("{before} {value}")).unwrap_or(value);
                attributes.push((name.to_owned(), value));
            }
            (None, _) => {}
        }
    }
    services
}

/// What its attributes do to checks. `peers` are the addresses of other agents.
pub(super) fn judge(service: &Service, peers: &[IpAddr]) -> Vec<Finding> {
    let Service { file, name, .. } = service;
    let place = format!("xinetd: service {name} in {file}");
    let mend = |line: &str| format!("{line} in {file}, then systemctl reload xinetd");
    let mut findings = Vec::new();
    let server = service.get("server").unwrap_or("no server");
    let is_agent = server.rsplit('/').next() == Some("pgsqlchk");
    let arguments = service.get("server_args").unwrap_or_default();
    if is_agent && !arguments.contains("xinetd") {
        let what = format!(
            "{place} starts {server} without --mode xinetd: it opens a port of its own and answers nothing"
        );
        findings.push(Finding::problem(
            format_args!("{what}"),
            format_args!("{}", mend("server_args = --mode xinetd")),
        ));
    }
    if !service.waits() {
        let cps = service.get("cps").unwrap_or("50 10");
        let (rate, closed) = cps.split_once(' ').unwrap_or((cps, "10"));
        let is_tight = |text: &str, least: u64| text.parse().is_ok_and(|number: u64| number < least);
        if is_tight(rate, MIN_RATE) || closed.parse().is_ok_and(|number: u64| number > MAX_CLOSED_S) {
            let what = format!(
                "{place}: with cps = {cps} the port is closed for {closed} s after {rate} connections in a second, and \
                 every HAProxy takes this node for down"
            );
            findings.push(Finding::warning(format_args!("{what}"), format_args!("{}", mend("cps = 1000 1"))));
        }
        for (attribute, least, enough) in
            [("instances", MIN_INSTANCES, 60), ("per_source", MIN_PER_SOURCE, 50)]
        {
            if let Some(value) = service.get(attribute).filter(|value| is_tight(value, least)) {
                let what = format!(
                    "{place}: with {attribute} = {value} a check that comes while so many run gets no answer"
                );
                findings.push(Finding::warning(
                    format_args!("{what}"),
                    format_args!("{}", mend(&format!("{attribute} = {enough}"))),
                ));
            }
        }
    }
    if let Some(list) = service.get("only_from") {
        findings.extend(judge_only_from(service, &place, list, peers));
    }
    if findings.is_empty() {
        let wait = if service.waits() { "yes" } else { "no" };
        findings.push(Finding::ok(format_args!("{place} starts {server} {arguments} (wait = {wait})")));
    }
    findings
}

fn judge_only_from(service: &Service, place: &str, list: &str, peers: &[IpAddr]) -> Option<Finding> {
    let file = &service.file;
    if service.waits() {
        let what =
            format!("{place}: only_from together with wait = yes makes xinetd spin, for it knows no address");
        let remedy = format!(
            "take only_from out of {file}, then systemctl reload xinetd; allow = {list} in pgsqlchk.conf does it"
        );
        return Some(Finding::problem(format_args!("{what}"), format_args!("{remedy}")));
    }
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let shut_out = peers.iter().find(|peer| resolve::is_listed(list, **peer) == Some(false));
    match shut_out {
        Some(peer) => Some(Finding::problem(
            format_args!("{place}: only_from = {list} shuts out the peer {peer}"),
            format_args!("only_from += {peer} in {file}, then systemctl reload xinetd"),
        )),
        None if resolve::is_listed(list, loopback) == Some(false) => Some(Finding::warning(
            format_args!(
                "{place}: only_from = {list} shuts out this host itself, so that nothing here can ask"
            ),
            format_args!("only_from += 127.0.0.1 in {file}, then systemctl reload xinetd"),
        )),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Service {
        let mut defaults = Attributes::new();
        services("/etc/xinetd.d/pgsqlchk", text, &mut defaults).swap_remove(0)
    }

    #[test]
    fn files_are_read_with_their_defaults() {
        let mut defaults = Attributes::new();
        let text = "# c\ndefaults\n{\n instances = 60\n cps = 25 30\n}\nincludedir /etc/xinetd.d\n";
        assert!(services("/etc/xinetd.conf", text, &mut defaults).is_empty());
        let text = "service a\n{\n disable = yes\n}\nservice b\n{\n\tport\t= 1\n cps = 1000  1\n only_from = a\n \
                    only_from += b # c\n}\n";
        let services = services("/f", text, &mut defaults);
        let [service] = &services[..] else { panic!("{services:?}") };
        assert_eq!((service.name.as_str(), service.port(), service.waits()), ("b", Some(1), false));
        assert_eq!((service.get("instances"), service.get("cps")), (Some("60"), Some("1000 1")));
        assert_eq!(service.get("only_from"), Some("a b # c"));
    }

    #[test]
    fn the_files_of_this_project_are_fine() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/xinetd/");
        for name in ["pgsqlchk", "pgsqlchk-wait", "pgsqlchk-agent", "pgsqlchk-15-second"] {
            let text = std::fs::read_to_string(format!("{folder}{name}")).unwrap();
            let mut defaults = Attributes::new();
            let switched_off = text.replace("disable         = no", "disable = yes");
            assert!(services(name, &switched_off, &mut defaults).is_empty(), "{name} is switched off");
            let services = services(name, &text, &mut defaults);
            let findings: Vec<Finding> = services.iter().flat_map(|service| judge(service, &[])).collect();
            let [finding] = &findings[..] else { panic!("{name}: {findings:?}") };
            assert_eq!(finding.grade, super::super::Grade::Ok, "{finding}");
        }
    }

    #[test]
    fn what_xinetd_does_when_nothing_is_said_is_judged_too() {
        let service = only("service p\n{\n server = /usr/bin/pgsqlchk\n server_args = --mode xinetd\n}\n");
        let findings = judge(&service, &[]);
        assert!(findings.iter().any(|finding| finding.what.contains("cps = 50 10")), "{findings:?}");
    }
}
