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
    /// The agent itself, at the address of its agent-check.
    AgentCheck(Agent),
    /// Under xinetd.
    Xinetd(Xinetd),
    /// Under another super-server.
    Inetd(Inetd),
}

impl Front {
    /// All of them.
    pub const ALL: [Front; 7] = [
        Front::Standalone,
        Front::XinetdNoWait,
        Front::XinetdWait,
        Front::InetdNoWait,
        Front::InetdWait,
        Front::SystemdAccept,
        Front::SystemdSocket,
    ];

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

impl Front {
    /// The same for HAProxy's agent-check. `settings` stands in the agent's configuration file.
    #[track_caller]
    pub fn start_agent_check(self, settings: &str) -> Running {
        let protocol = format!("protocol = agent\n{settings}");
        match self {
            Front::Standalone => {
                let options = settings.lines().filter_map(|line| line.split_once(" = "));
                let options = options.map(|(name, value)| format!("--{name}={value}"));
                Running::AgentCheck(Agent::start_with(|command| {
                    command.args(["--agent-listen", "127.0.0.1:0"]).args(options);
                }))
            }
            // The file for it says what is spoken.
            Front::XinetdNoWait => Running::Xinetd(Xinetd::start(Service::Agent, settings)),
            Front::XinetdWait => Running::Xinetd(Xinetd::start(Service::Wait, &protocol)),
            Front::InetdNoWait => Running::Inetd(Inetd::openbsd("nowait", &protocol)),
            Front::InetdWait => Running::Inetd(Inetd::openbsd("wait", &protocol)),
            // The socket's name says what is spoken.
            Front::SystemdSocket => {
                Running::Inetd(Inetd::systemd(&["--fdname=agent"], "standalone", settings))
            }
            Front::SystemdAccept => {
                Running::Inetd(Inetd::systemd(&["--inetd", "--accept"], "xinetd", &protocol))
            }
        }
    }
}

impl Running {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        match self {
            Running::Agent(agent) => agent.addr(),
            Running::AgentCheck(agent) => agent.agent_check_addr(),
            Running::Xinetd(xinetd) => xinetd.addr(),
            Running::Inetd(inetd) => inetd.addr(),
        }
    }
}
