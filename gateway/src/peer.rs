//! Who is at the other end: the address a connection came from, or the one a trusted proxy names.
//!
//! It must not decide anything about requests. The surprising thing: what a proxy says is used for one purpose, to tell
//! strangers apart before they are believed; the URL that was signed never comes from it. A trusted proxy that names
//! nobody speaks for everybody, so there is no peer to count at all.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use hyper::HeaderMap;
use rustls::pki_types::CertificateDer;

/// Longest `X-Forwarded-For` looked at, in addresses from the right.
const HOPS: usize = 16;

/// Addresses with a common prefix, like `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Text that is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address, or an address and a prefix length like 10.0.0.0/8")]
pub struct InvalidNetwork;

impl Network {
    /// The loopback of both families: proxies and tunnels of this machine.
    pub const LOOPBACK: [Self; 2] = [
        Self { address: IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 0)), bits: 8 },
        Self { address: IpAddr::V6(Ipv6Addr::LOCALHOST), bits: 128 },
    ];

    /// Whether `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                prefix(u128::from(a.to_bits()) << 96, self.bits) == prefix(u128::from(b.to_bits()) << 96, self.bits)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => prefix(a.to_bits(), self.bits) == prefix(b.to_bits(), self.bits),
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork)?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|b| b.is_ascii_digit()) => bits.parse().map_err(|_| InvalidNetwork)?,
            Some(_) => return Err(InvalidNetwork),
            None => all,
        };
        if bits > all { Err(InvalidNetwork) } else { Ok(Self { address, bits }) }
    }
}

/// The first `bits` bits.
fn prefix(address: u128, bits: u8) -> u128 {
    address.checked_shr(128 - u32::from(bits)).unwrap_or(0)
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Where it came from.
    pub address: IpAddr,
    /// The certificates it showed, its own first.
    pub certificates: Arc<[CertificateDer<'static>]>,
}

/// Whether `address` is a trusted proxy.
pub(crate) fn is_trusted(address: IpAddr, trusted: &[Network]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|network| network.contains(address))
}

/// The address to count failures by: the connection's own, or behind trusted proxies the last one that is none of them.
pub(crate) fn stranger(connected: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> Option<IpAddr> {
    if !is_trusted(connected, trusted) {
        return Some(counted(connected));
    }
    let lines: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok()).collect();
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(',')).take(HOPS);
    for hop in hops {
        let address: IpAddr = hop.trim().parse().ok()?;
        if !is_trusted(address, trusted) {
            return Some(counted(address));
        }
    }
    None
}

/// One household of addresses: a whole IPv6 network of 64 bits belongs to one customer.
pub(crate) fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_is_an_address_with_a_prefix() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.168.1.7", "192.168.1.7", "192.168.1.8"),
            ("0.0.0.0/0", "8.8.8.8", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::/0", "::1", "1.1.1.1"),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert!(parsed.contains(ip(inside)) && !parsed.contains(ip(outside)), "{network}");
        }
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/+8", "localhost"] {
            assert_eq!(bad.parse::<Network>(), Err(InvalidNetwork), "{bad}");
        }
    }

    #[test]
    fn only_a_trusted_proxy_may_name_the_stranger() {
        let trusted = ["127.0.0.0/8".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
        let headers = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            headers
        };
        for (connected, lines, expected) in [
            ("203.0.113.9", &["1.1.1.1"][..], Some("203.0.113.9")),
            ("127.0.0.1", &["1.1.1.1"], Some("1.1.1.1")),
            // What stands further left was written by the stranger.
            ("127.0.0.1", &["6.6.6.6, 1.1.1.1, 10.2.3.4"], Some("1.1.1.1")),
            ("127.0.0.1", &["6.6.6.6", "1.1.1.1"], Some("1.1.1.1")),
            ("127.0.0.1", &["1.1.1.1, nonsense"], None),
            ("127.0.0.1", &["10.0.0.1"], None),
            ("127.0.0.1", &[], None),
            ("2001:db8:1:2:3:4:5:6", &[], Some("2001:db8:1:2::")),
            ("::ffff:203.0.113.9", &[], Some("203.0.113.9")),
        ] {
            assert_eq!(stranger(ip(connected), &headers(lines), &trusted), expected.map(ip), "{connected} {lines:?}");
        }
    }
}
