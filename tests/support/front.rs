//! The agent behind each of its fronts, so that one table can be run over all of them.

use std::net::SocketAddr;

use super::Agent;
use super::inetd::Inetd;
use super::xinetd::{Service, Xinetd};

/// A way to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// It listens itself.
    Standalone,
    /// xinetd, `wait = no`.
    XinetdNoWait,
    /// xinetd, `wait = yes`.
    XinetdWait,
    /// openbsd-inetd, `nowait`.
    InetdNoWait,
    /// openbsd-inetd, `wait`.
    InetdWait,
    /// systemd's `Accept=yes`, as systemd-socket-activate does it.
    SystemdAccept,
    /// systemd's socket activation (`LISTEN_FDS`), as systemd-socket-activate does it.
    SystemdSocket,
}

/// A front that runs; ends when dropped.
pub enum Running {
    /// The agent itself.
    Agent(Agent),
    /// Under xinetd.
    Xinetd(Xinetd),
    /// Under another super-server.
    Inetd(Inetd),
}

impl Front {
    /// Starts the agent behind it, beside the server of this connection string.
    #[track_caller]
    pub fn start(self, dsn: &str) -> Running {
        self.start_with(&[("dsn", dsn)])
    }

    /// The same with these settings, by their names in the configuration file.
    #[track_caller]
    pub fn start_with(self, options: &[(&str, &str)]) -> Running {
        let settings: String = options.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        match self {
            Front::Standalone => Running::Agent(Agent::start_with(|command| {
                command.args(options.iter().map(|(name, value)| format!("--{name}={value}")));
            })),
            Front::XinetdNoWait => Running::Xinetd(Xinetd::start(Service::NoWait, &settings)),
            Front::XinetdWait => Running::Xinetd(Xinetd::start(Service::Wait, &settings)),
            Front::InetdNoWait => Running::Inetd(Inetd::openbsd("nowait", &settings)),
            Front::InetdWait => Running::Inetd(Inetd::openbsd("wait", &settings)),
            Front::SystemdSocket => Running::Inetd(Inetd::systemd(&[], "standalone", &settings)),
            Front::SystemdAccept => {
                Running::Inetd(Inetd::systemd(&["--inetd", "--accept"], "xinetd", &settings))
            }
        }
    }
}

impl Running {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        match self {
            Running::Agent(agent) => agent.addr(),
            Running::Xinetd(xinetd) => xinetd.addr(),
            Running::Inetd(inetd) => inetd.addr(),
        }
    }
}
