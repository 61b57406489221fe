//! In the clear.

use postgres::{Client, Config, NoTls};

use super::super::address::Address;
use super::super::startup::TimeLimits;
use super::NotOpened;
use crate::config::ConnectionSettings;

/// How one session is opened.
pub(crate) struct Channel;

impl Channel {
    pub(crate) fn to(_: &ConnectionSettings, _: &Address, _: TimeLimits) -> Channel {
        Channel
    }

    /// Opens it.
    pub(crate) fn open(&self, config: &Config) -> Result<Client, NotOpened> {
        Ok(config.connect(NoTls)?)
    }
}
