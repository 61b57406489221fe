//! `--mode drain` and `--mode undrain`: the administrator's switch, and what follows from it.

use crate::config::Config;
use crate::system::drain_file;

/// Creates the drain file. The line says what follows; `Err` says why that was not possible.
pub fn drain(config: &Config) -> Result<String, String> {
    let path = config.drain_file.display();
    let is_new = drain_file::create(&config.drain_file)
        .map_err(|error| format!("cannot create the drain file {path}: {error} (try it as root)"))?;
    let begun = if is_new { "draining" } else { "draining already" };
    Ok(format!(
        "{begun}: {path} exists; HAProxy gets 404 from now on: with http-check disable-on-404 it lets the sessions \
         finish and sends no new ones, without it the server goes down; an agent-check drains it; \
         --mode undrain ends it"
    ))
}

/// Removes the drain file. The line says what follows; `Err` says why that was not possible.
pub fn undrain(config: &Config) -> Result<String, String> {
    let path = config.drain_file.display();
    let was_there = drain_file::remove(&config.drain_file)
        .map_err(|error| format!("cannot remove the drain file {path}: {error} (try it as root)"))?;
    Ok(match was_there {
        true => {
            format!("draining no more: {path} is removed; HAProxy uses the server again with its next checks")
        }
        false => format!("not draining: there was no {path}"),
    })
}
