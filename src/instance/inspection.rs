//! One knock, one login and one question, for `pgsqlchk doctor`. The question is asked in a read-only transaction.

use std::time::{Duration, Instant};

use super::address::{Address, try_in_order};
use super::knock::Knocker;
use super::session::Session;
use super::startup::TimeLimits;
use super::{Failure, Stage, StageCell};
use crate::config::ConnectionSettings;

/// What was seen.
pub struct Inspected {
    /// Where the server was found.
    pub place: String,
    /// The answer's row, as text; no value is `None`.
    pub row: Vec<Option<String>>,
}

/// Knocks, logs in and asks. The knock ends by `knock_until`; everything else may block as long as the server or a resolver
/// pleases, and `stage` says meanwhile what it waits for.
pub fn inspect(
    settings: &ConnectionSettings,
    question: &str,
    knock_until: Instant,
    statement_limit: Duration,
    stage: &StageCell,
) -> Result<Inspected, Failure> {
    stage.enter(Stage::Resolving);
    let addresses = Address::resolve(settings)?;
    // A passfile that cannot be read is the advice's to name, once the server wants a password.
    let password = settings.look_up_password().ok().flatten();
    let (address, mut session) = try_in_order(addresses, knock_until, |address, share| {
        Knocker::for_settings(settings).knock(&address, share.until.min(knock_until), stage)?;
        stage.enter(Stage::LoggingIn);
        let limits = TimeLimits { connect: statement_limit, statement: statement_limit };
        let session = Session::open_for_one_look(settings, &address, password.clone(), limits)?;
        Ok((address, session))
    })?;
    stage.enter(Stage::Querying);
    let row = session.ask_row(question);
    let place = address.to_string();
    // Closing the session waits for the server, and the process ends anyway.
    std::mem::forget(session);
    Ok(Inspected { place, row: row? })
}
