//! `--allow`: which clients may ask.
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

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

    /// Adds a block in CIDR notation, or a single address.
    pub(super) fn add(&mut self, text: &str) -> Result<(), String> {
        let block = text.parse::<IpNet>().ok().or_else(|| Some(IpNet::from(text.parse::<IpAddr>().ok()?)));
        let block =
            block.ok_or("expected an address or a CIDR block (192.0.2.7, 192.0.2.0/24, 2001:db8::/32)")?;
        self.blocks.push(canonical(block));
        Ok(())
    }
}

/// `::ffff:192.0.2.0/120` as `192.0.2.0/24`: peers are compared in that form.
fn canonical(block: IpNet) -> IpNet {
    let IpNet::V6(v6) = block else { return block };
    let (Some(address), Some(length)) = (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) else {
        return block;
    };
    Ipv4Net::new(address, length).map_or(block, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_permit_their_addresses_only() {
        for (blocks, peer, permitted) in [
            (&[][..], "203.0.113.9", true),
            (&["192.0.2.0/24"], "192.0.2.255", true),
            (&["192.0.2.0/24"], "192.0.3.0", false),
            (&["192.0.2.77/24"], "192.0.2.1", true),
            (&["192.0.2.0/24"], "::ffff:192.0.2.1", true),
            (&["192.0.2.0/24"], "::ffff:192.0.3.1", false),
            (&["::ffff:192.0.2.0/120"], "192.0.2.1", true),
            (&["::ffff:192.0.2.0/120"], "192.0.3.1", false),
            (&["::ffff:192.0.2.7"], "::ffff:192.0.2.7", true),
            (&["192.0.2.7"], "192.0.2.7", true),
            (&["192.0.2.7"], "192.0.2.8", false),
            (&["2001:db8::/32"], "2001:db8:1::1", true),
            (&["2001:db8::/32"], "2001:db9::1", false),
            (&["2001:db8::1"], "192.0.2.7", false),
            (&["192.0.2.7", "::1"], "::1", true),
            (&["0.0.0.0/0"], "::ffff:203.0.113.9", true),
            (&["0.0.0.0/0"], "2001:db8::1", false),
        ] {
            let mut allow = Allow::default();
            blocks.iter().for_each(|block| allow.add(block).unwrap());
            assert_eq!(allow.permits(peer.parse().unwrap()), permitted, "{blocks:?} {peer}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "localhost",
            "all",
            "192.0.2.0/33",
            "192.0.2.0/255.255.255.0",
            "192.0.2",
            "::1/129",
            "1.2.3.4:80",
        ] {
            assert!(Allow::default().add(text).is_err(), "{text:?}");
        }
    }
}
