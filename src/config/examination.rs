//! A configuration with what was read for it, and what was taken from where: for `pgsqlchk doctor`.

use std::path::Path;
use std::sync::Arc;

use super::libpq::{self, Given};
use super::{Config, Environment, build, layers};
use crate::cli::Arguments;
use crate::spelling;

/// What the administrator said, and what it comes to.
pub struct Examined {
    /// The configuration, or the one line that says why there is none.
    pub config: Result<Arc<Config>, String>,
    /// The configuration file, where there is one.
    pub file: Option<String>,
    /// Its settings: `line 3: timeout = 5s`.
    pub in_file: Vec<String>,
    /// Those of the command line.
    pub typed: Vec<String>,
    /// Where the parameters of the connection come from: `PGPORT = 5433`. Passwords are `***`.
    pub connection: Vec<String>,
}

/// Reads file and environment as the agent does, and remembers where each value stood. `home` is the agent's, where this
/// process has another.
pub fn examine(arguments: Arguments, home: Option<&Path>) -> Examined {
    let environment = || {
        let environment = Environment::system();
        let own = environment.home.clone();
        Environment { home: home.map(Path::to_owned).or(own), ..environment }
    };
    let (mine, environment) = (environment(), environment());
    let read = layers::read(&arguments, &environment);
    let (file, in_file) = match read.file {
        Some(settings) => (Some(read.path), settings),
        None => (None, Vec::new()),
    };
    // The last one counts, as it does in the layers; a bad one is the error below.
    let dsn = read.dsn.and_then(|(text, place)| Given::parse(&text, place).ok());
    let connection = libpq::told(dsn, &environment).unwrap_or_default();
    let config = build(arguments, &mine);
    let printable = |texts: Vec<String>| texts.iter().map(|text| spelling::printable(text)).collect();
    Examined {
        config: config.map(Arc::new),
        file,
        in_file: printable(in_file),
        typed: printable(read.typed),
        connection,
    }
}
