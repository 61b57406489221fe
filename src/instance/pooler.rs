//! The knock at a pooler: the same as that at the postmaster, for a pooler answers it before any login, too, and also while
//! it lets its clients wait.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Failure;
use super::address::{Address, look_up, try_in_order};
use super::knock::Knocker;
use crate::config::PoolerAddress;

/// Knocks at one pooler, again and again.
pub struct PoolerKnocker {
    address: PoolerAddress,
    timeout: Duration,
    knocker: Knocker,
}

impl PoolerKnocker {
    /// One that knocks for so long at most.
    pub fn new(address: PoolerAddress, timeout: Duration) -> PoolerKnocker {
        PoolerKnocker { address, timeout, knocker: Knocker::default() }
    }

    /// Knocks now, at one address after the other as clients do. Looking up a name blocks for as long as the resolver
    /// pleases.
    pub fn knock(&mut self) -> Result<(), Failure> {
        let addresses = self.resolve()?;
        let deadline = Instant::now() + self.timeout;
        try_in_order(addresses, deadline, |address, share| {
            self.knocker.knock_at_pooler(&address, share.until)
        })
    }

    fn resolve(&self) -> Result<Vec<Address>, Failure> {
        match &self.address {
            PoolerAddress::Unix(socket) => {
                Ok(vec![Address::Unix { directory: PathBuf::new(), socket: socket.clone() }])
            }
            PoolerAddress::Tcp(address) => {
                let ips = look_up(&address.host)?;
                Ok(ips.into_iter().map(|ip| Address::Tcp(SocketAddr::new(ip, address.port))).collect())
            }
        }
    }
}
