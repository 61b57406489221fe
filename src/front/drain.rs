//! `pgsqlchk drain` and `pgsqlchk undrain`: the administrator's switch, and what follows from it.

mod progress;
pub(super) mod wait;

use std::io::{self, ErrorKind};

use crate::config::Config;
use crate::system::drain_file;

/// Empty after a reboot (file-hierarchy(7)).
const VOLATILE: &str = "/run";

/// Creates the drain file. The line says what follows; `Err` says why that was not possible.
pub fn drain(config: &Config) -> Result<String, String> {
    let path = shown(config);
    let is_new = drain_file::create(&config.drain_file)
        .map_err(|error| format!("cannot create the drain file {path}: {}", cause(&error)))?;
    let begun = if is_new { "draining" } else { "draining already" };
    let reboot = if config.drain_file.starts_with(VOLATILE) { ", and so does a reboot" } else { "" };
    Ok(format!(
        "{begun}: {path} exists, and HAProxy's checks get 404 draining; with http-check disable-on-404 open sessions \
         go on and new ones go elsewhere, without it the server goes down; an agent-check drains the server; \
         pgsqlchk undrain ends it{reboot}"
    ))
}

/// Removes the drain file. The line says what follows; `Err` says why that was not possible.
pub fn undrain(config: &Config) -> Result<String, String> {
    let path = shown(config);
    let was_there = drain_file::remove(&config.drain_file)
        .map_err(|error| format!("cannot remove the drain file {path}: {}", cause(&error)))?;
    Ok(match was_there {
        true => format!(
            "draining no more: {path} is removed; HAProxy's checks get the role again, and the server new sessions as \
             soon as they pass"
        ),
        false => format!("not draining: there was no {path}"),
    })
}

/// The path on one line, whatever stands in it.
fn shown(config: &Config) -> String {
    config.drain_file.display().to_string().replace(char::is_control, "?")
}

/// The cause, and the way out where it is known.
fn cause(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => "permission denied (try it as root)".into(),
        ErrorKind::IsADirectory => "it is a folder (remove it with rmdir)".into(),
        ErrorKind::NotADirectory => "what should be its folder is none (see --drain-file)".into(),
        _ => error.to_string(),
    }
}
