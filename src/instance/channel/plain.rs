//! In the clear.

use postgres::{Client, Config, Error, NoTls};

use super::super::address::Address;
use super::super::startup::TimeLimits;
use crate::config::ConnectionSettings;

/// How one session is opened.
pub(crate) struct Channel;

impl Channel {
    pub(crate) fn to(_: &ConnectionSettings, _: &Address, _: TimeLimits) -> Channel {
        Channel
    }

    /// Opens it.
    pub(crate) fn open(&self, config: &Config) -> Result<Client, Error> {
        config.connect(NoTls)
    }
}
