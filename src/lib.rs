//! pgsqlchk tells whoever asks over HTTP what the PostgreSQL instance on this host is right now.
//!
//! Data flows one way, and imports go downwards only:
//!
//! ```text
//! front     the ways of running: standalone, under xinetd, once
//! doctor    what can be wrong on a node, and what to do about it
//! gate      the public door, and tiny_http with its workers behind it
//! wire      from bytes to a question                       (pure)
//! reply     how it is said                                 (pure)
//! verdict   what is asked, and what an observation means   (pure)
//! peers     what other agents say, and what sticks of it
//! work      whether a client can work here: poolers answer, commits come back
//! circle    those who are asked on threads of their own, and who waits for them
//! monitor   one shared probe, everybody's own deadline
//! agent_over_http   what a running agent says, for who runs beside it
//! instance  the session and the knock at the postmaster
//! config    what the administrator said
//! tls       certificates and keys, and the cryptography (only in the flavour that has it)
//! system    what the operating system hands over, and how it is told things back
//! ```
//!
//! The tally stands beside them: gate and monitor count there, and `/metrics` reads it. So do the balancers: the gate tells
//! them what HAProxy says of this server, and documents show it. `panics` says for every thread what a panic there costs.

pub mod agent_over_http;
pub mod balancers;
pub mod circle;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod front;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
pub mod instance;
pub mod logging;
pub mod monitor;
pub mod panics;
pub mod peers;
pub mod reason;
pub mod reply;
pub mod spelling;
pub mod system;
pub mod tally;
pub mod tls;
pub mod verdict;
mod wire;
pub mod work;

use std::ffi::OsString;
use std::process::ExitCode;

use cli::Exit;
use config::{Config, Mode};
use system::syslog::Syslog;
use system::{inherited, memory, stdio};

/// Runs the program with its arguments, the program's name first, and says how to exit: 0 after a clean stop, 1
/// where it could not start or go on, 3 for bad usage or configuration. `pgsqlchk check`, `cluster` and `doctor` have codes
/// of their own, and `pgsqlchk drain --wait` ends with 1 where sessions are left.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    // Before anything can print: what is printed here would stand ahead of the reply.
    let shared_socket = stdio::claim_shared_socket();
    memory::limit();
    let arguments: Vec<OsString> = arguments.collect();
    // Whoever started it as a plugin reads standard output, whatever else was wrong with its usage.
    let is_plugin = arguments.windows(2).any(|pair| pair[0] == "--format" && pair[1] == "nagios")
        || arguments.iter().any(|argument| argument == "--format=nagios");
    let arguments = cli::parse(arguments.into_iter());
    if let Ok(typed) = &arguments
        && typed.asks_for("doctor")
        && shared_socket.is_none()
    {
        // A mistake in the configuration is one of the things it looks for.
        return front::run_doctor(typed).report();
    }
    let config = match arguments.and_then(Config::load) {
        Ok(config) => config,
        Err(exit) if is_plugin && !exit.on_stdout => {
            return Exit { text: front::unknown_to_nagios(&exit.text), on_stdout: true, code: 3 }.report();
        }
        Err(exit) => {
            let code = refuse(&exit, shared_socket.is_some());
            if !exit.on_stdout {
                front::hold_port(&exit.text);
            }
            return code;
        }
    };
    match (config.mode, shared_socket) {
        (Mode::Xinetd, socket) => match socket.or_else(stdio::claim_stdin_socket) {
            Some(socket) => serve(config, |config| {
                // Standard error is /dev/null by now: where the log goes, this goes.
                front::run_xinetd(config, socket)
                    .inspect_err(|what| log::error!(target: "pgsqlchk", "{what}"))
            }),
            None => Exit::bad_usage(front::HOW_TO_RUN).report(),
        },
        (
            Mode::Standalone | Mode::Check | Mode::Drain | Mode::Undrain | Mode::Cluster | Mode::Doctor,
            Some(_),
        ) => {
            let what =
                "standard input and error are one socket: under xinetd or inetd it takes --mode xinetd";
            refuse(&Exit::bad_usage(what), true)
        }
        (Mode::Standalone, None) => match inherited::take() {
            Ok(sockets) => match front::refuse_unspeakable(&config, &sockets) {
                Ok(()) => serve(config, |config| front::run_standalone(config, sockets)),
                Err(what) => {
                    let exit = Exit::bad_usage(what);
                    let code = exit.report();
                    front::hold(&exit.text, sockets);
                    code
                }
            },
            // Starting it again would not make it better, so this counts as bad configuration.
            Err(what) => Exit::bad_usage(what).report(),
        },
        (Mode::Check, None) => {
            let (line, code) = front::run_check(config);
            Exit { text: line, on_stdout: true, code }.report()
        }
        (Mode::Cluster, None) if config.peer.is_empty() => Exit::bad_usage(front::HOW_TO_ASK).report(),
        (Mode::Cluster, None) => {
            let (table, code) = front::run_cluster(config);
            Exit { text: table, on_stdout: true, code }.report()
        }
        // The configuration file says so, which is one of the things to look at.
        (Mode::Doctor, None) => {
            Exit::bad_usage("doctor is said on the command line: pgsqlchk doctor").report()
        }
        (Mode::Drain, None) => match config.wait {
            None => tell(front::drain(&config)),
            Some(wait) => match front::run_drain_and_wait(&config, wait) {
                Ok(code) => ExitCode::from(code),
                Err(what) => Exit::could_not_start(what).report(),
            },
        },
        (Mode::Undrain, None) => tell(front::undrain(&config)),
    }
}

fn serve(config: Config, front: impl FnOnce(Config) -> Result<(), String>) -> ExitCode {
    let result = logging::start(config.log_level, config.log_target()).and_then(|()| front(config));
    logging::flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => Exit::could_not_start(what).report(),
    }
}

/// A line on stdout, or why there is none.
fn tell(result: Result<String, String>) -> ExitCode {
    match result {
        Ok(text) => Exit { text, on_stdout: true, code: 0 }.report(),
        Err(what) => Exit::could_not_start(what).report(),
    }
}

/// Says why nothing was started: on stderr, or in the syslog where stderr is the client's socket.
fn refuse(exit: &Exit, is_stderr_taken: bool) -> ExitCode {
    if is_stderr_taken && !exit.on_stdout {
        let _ = Syslog::open().and_then(|mut syslog| syslog.send(log::Level::Error, exit.cause()));
    }
    exit.report()
}
