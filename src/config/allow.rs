//! `--allow`: which clients may ask.
use std::net::IpAddr;

use ipnet::IpNet;

/// The address blocks that may ask; an empty list lets everyone in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allow {
    blocks: Vec<IpNet>,
}

impl Allow {
    /// Whether a client at `peer` may ask. An IPv4 client of a dual-stack listener, which is seen as
    /// `::ffff:192.0.2.1`, counts as the IPv4 address that it is.
    pub fn permits(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.blocks.is_empty() || self.blocks.iter().any(|block| block.contains(&peer))
    }
}
