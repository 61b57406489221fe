//! Host names to addresses. A look-up blocks for as long as the resolver pleases: call it on a thread of its own.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};

use crate::config::HostPort;

/// Addresses of a name that are looked at.
const MAX_ADDRESSES: usize = 8;

/// The addresses of a host with its port, each once.
pub(super) fn addresses(place: &HostPort) -> Result<Vec<SocketAddr>, String> {
    let found = (place.host.as_str(), place.port).to_socket_addrs();
    let found = found.map_err(|error| format!("the name cannot be looked up: {error}"))?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found.take(MAX_ADDRESSES) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    match addresses.is_empty() {
        true => Err("the name has no address".into()),
        false => Ok(addresses),
    }
}

/// Whether it is one of this host: only those can be bound.
pub(super) fn is_of_this_host(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// Whether a list of addresses and blocks as xinetd has it lets this address in; `None` where it names what cannot be
/// judged here (xinetd.conf(5), only_from).
pub(super) fn is_listed(list: &str, address: IpAddr) -> Option<bool> {
    let address = address.to_canonical();
    let mut is_listed = false;
    for word in list.split_whitespace() {
        is_listed |= match (word.parse::<IpAddr>(), word.parse::<ipnet::IpNet>()) {
            // Zeros at the end stand for anything: 192.0.2.0 is 192.0.2.0/24.
            (Ok(IpAddr::V4(listed)), _) => {
                let zeros = listed.octets().iter().rev().take_while(|octet| **octet == 0).count();
                match address {
                    IpAddr::V4(address) => address.octets()[..4 - zeros] == listed.octets()[..4 - zeros],
                    IpAddr::V6(_) => false,
                }
            }
            (Ok(listed), _) => listed == address,
            (Err(_), Ok(block)) => block.contains(&address),
            (Err(_), Err(_)) => return None,
        };
    }
    Some(is_listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_xinetd_reads_them() {
        let address = IpAddr::from([192, 0, 2, 7]);
        for (list, expected) in [
            ("192.0.2.7", Some(true)),
            ("192.0.2.8", Some(false)),
            ("192.0.2.0", Some(true)),
            ("192.0.3.0", Some(false)),
            ("0.0.0.0", Some(true)),
            ("192.0.2.0/28 ::1", Some(true)),
            ("::1", Some(false)),
            ("192.0.2.7 node1", None),
            ("192.0.2.{7,8}", None),
            ("", Some(false)),
        ] {
            assert_eq!(is_listed(list, address), expected, "{list}");
        }
    }

    #[test]
    fn loopback_is_of_this_host_and_a_documentation_address_is_not() {
        assert!(is_of_this_host([127, 0, 0, 1].into()) && !is_of_this_host([192, 0, 2, 7].into()));
    }
}
