//! Which addresses the program may call on somebody's word. Pure: an address in, a verdict out.
//!
//! It must not know names, sockets or subscribers. The surprising thing is IPv6: only what is global unicast is looked at
//! further, and everything that carries an IPv4 address inside is refused, because what stands at the other end of a
//! translator cannot be seen from here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is not called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// `0.0.0.0/8`, `::`.
    Unspecified,
    /// This machine.
    Loopback,
    /// A private network.
    Private,
    /// Only this link; the usual place of a cloud's metadata service.
    LinkLocal,
    /// Behind a carrier's translation.
    Shared,
    /// Many machines at once.
    Multicast,
    /// For documents.
    Documentation,
    /// A cloud's service for its own machines, on an address that looks public.
    Metadata,
    /// An IPv4 address in IPv6 clothes.
    Embedded,
    /// Set aside for something else.
    Reserved,
}

impl Forbidden {
    /// The name in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "an unspecified",
            Self::Loopback => "a loopback",
            Self::Private => "a private",
            Self::LinkLocal => "a link-local",
            Self::Shared => "a carrier's shared",
            Self::Multicast => "a multicast",
            Self::Documentation => "a documentation",
            Self::Metadata => "a cloud metadata",
            Self::Embedded => "an embedded IPv4",
            Self::Reserved => "a reserved",
        }
    }
}

/// Why `ip` is not called; `None` when it may be.
pub const fn forbidden(ip: IpAddr) -> Option<Forbidden> {
    match ip {
        IpAddr::V4(ip) => forbidden_v4(ip),
        IpAddr::V6(ip) => forbidden_v6(ip),
    }
}

/// The special ranges of RFC 6890 and its successors, and Azure's metadata address (168.63.129.16 in Microsoft's
/// "What is IP address 168.63.129.16?").
const fn forbidden_v4(ip: Ipv4Addr) -> Option<Forbidden> {
    Some(match ip.octets() {
        [0, ..] => Forbidden::Unspecified,
        [127, ..] => Forbidden::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Forbidden::Private,
        [169, 254, ..] => Forbidden::LinkLocal,
        [100, 64..=127, ..] => Forbidden::Shared,
        [224..=239, ..] => Forbidden::Multicast,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Forbidden::Documentation,
        [168, 63, 129, 16] => Forbidden::Metadata,
        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18..=19, ..] | [240..=255, ..] => Forbidden::Reserved,
        _ => return None,
    })
}

/// The special ranges of the IANA IPv6 registry. Outside `2000::/3` nothing is global unicast.
const fn forbidden_v6(ip: Ipv6Addr) -> Option<Forbidden> {
    Some(match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Forbidden::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Forbidden::Loopback,
        // Compatible, mapped, translated, and both NAT64 prefixes.
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, ..] => Forbidden::Embedded,
        // Teredo and 6to4.
        [0x2001, 0, ..] | [0x2002, ..] => Forbidden::Embedded,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Forbidden::Private,
        [0xfe80..=0xfebf, ..] => Forbidden::LinkLocal,
        [0xff00..=0xffff, ..] => Forbidden::Multicast,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Forbidden::Documentation,
        [0x2001, 0..=0x1ff, ..] => Forbidden::Reserved,
        [0x2000..=0x3fff, ..] => return None,
        _ => Forbidden::Reserved,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Forbidden> {
        forbidden(text.parse().unwrap())
    }

    #[test]
    fn what_is_not_public_is_named() {
        let table = [
            ("0.0.0.0", Forbidden::Unspecified),
            ("0.1.2.3", Forbidden::Unspecified),
            ("127.0.0.1", Forbidden::Loopback),
            ("127.255.255.254", Forbidden::Loopback),
            ("10.0.0.1", Forbidden::Private),
            ("172.16.0.1", Forbidden::Private),
            ("172.31.255.255", Forbidden::Private),
            ("192.168.1.1", Forbidden::Private),
            ("169.254.169.254", Forbidden::LinkLocal),
            ("169.254.170.2", Forbidden::LinkLocal),
            ("100.64.0.1", Forbidden::Shared),
            ("100.100.100.200", Forbidden::Shared),
            ("100.127.255.255", Forbidden::Shared),
            ("224.0.0.1", Forbidden::Multicast),
            ("239.255.255.255", Forbidden::Multicast),
            ("192.0.2.1", Forbidden::Documentation),
            ("198.51.100.7", Forbidden::Documentation),
            ("203.0.113.9", Forbidden::Documentation),
            ("168.63.129.16", Forbidden::Metadata),
            ("192.0.0.192", Forbidden::Reserved),
            ("192.88.99.1", Forbidden::Reserved),
            ("198.18.0.1", Forbidden::Reserved),
            ("240.0.0.1", Forbidden::Reserved),
            ("255.255.255.255", Forbidden::Reserved),
            ("::", Forbidden::Unspecified),
            ("::1", Forbidden::Loopback),
            ("::ffff:127.0.0.1", Forbidden::Embedded),
            ("::ffff:93.184.216.34", Forbidden::Embedded),
            ("::127.0.0.1", Forbidden::Embedded),
            ("::ffff:0:10.0.0.1", Forbidden::Embedded),
            ("64:ff9b::a9fe:a9fe", Forbidden::Embedded),
            ("64:ff9b:1::1", Forbidden::Embedded),
            ("2002:7f00:1::", Forbidden::Embedded),
            ("2001::1", Forbidden::Embedded),
            ("fd00:ec2::254", Forbidden::Private),
            ("fc00::1", Forbidden::Private),
            ("fec0::1", Forbidden::Private),
            ("fe80::1", Forbidden::LinkLocal),
            ("febf::1", Forbidden::LinkLocal),
            ("ff02::1", Forbidden::Multicast),
            ("2001:db8::1", Forbidden::Documentation),
            ("3fff:fff::1", Forbidden::Documentation),
            ("2001:2::1", Forbidden::Reserved),
            ("2001:20::1", Forbidden::Reserved),
            ("100::1", Forbidden::Reserved),
            ("5f00::1", Forbidden::Reserved),
            ("4000::1", Forbidden::Reserved),
            ("::2:0:0:0", Forbidden::Reserved),
        ];
        for (address, expected) in table {
            assert_eq!(of(address), Some(expected), "{address}");
        }
    }

    #[test]
    fn neighbours_of_the_ranges_are_public() {
        let table = [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "126.255.255.255",
            "128.0.0.1",
            "168.63.129.15",
            "169.253.255.255",
            "169.255.0.1",
            "172.15.255.255",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.255.255",
            "192.169.0.1",
            "198.17.255.255",
            "198.20.0.1",
            "223.255.255.255",
            "2000::1",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700:4700::1111",
            "3ffe::1",
            "3fff:1000::1",
        ];
        for address in table {
            assert_eq!(of(address), None, "{address}");
        }
    }
}
