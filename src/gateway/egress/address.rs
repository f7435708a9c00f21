//! Which addresses are no part of the public Internet, and what they are instead.
//! A table; whether somebody may go there all the same is the policy's business.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::Serialize;

/// What an address is that nobody reaches by accident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Special {
    /// The host itself.
    Loopback,
    /// No address at all, or "this network".
    Unspecified,
    /// The link's own, among them the metadata services of clouds.
    LinkLocal,
    /// Private networks (RFC 1918).
    Private,
    /// Between a provider and its customers (RFC 6598); also Tailscale's.
    Shared,
    /// Private networks of IPv6 (RFC 4193), and their forerunners.
    UniqueLocal,
    /// Stands for an IPv4 address: mapped, compatible, translated, NAT64, 6to4, Teredo.
    Translated,
    /// For many receivers.
    Multicast,
    /// For documentation, benchmarks, protocols, or nobody yet.
    Reserved,
    /// One of this host's own, public though it may be.
    Host,
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "a loopback address",
            Self::Unspecified => "no address",
            Self::LinkLocal => "a link-local address, where clouds keep their metadata",
            Self::Private => "a private address",
            Self::Shared => "an address shared by a provider's customers",
            Self::UniqueLocal => "a private address of IPv6",
            Self::Translated => "an IPv6 address that stands for an IPv4 one",
            Self::Multicast => "a multicast address",
            Self::Reserved => "a reserved address",
            Self::Host => "an address of this host",
        })
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// IANA's IPv4 special-purpose address registry; the first that fits counts.
const SPECIAL_V4: &[(Ipv4Net, Special)] = &[
    (v4(0, 0, 0, 0, 8), Special::Unspecified),
    (v4(10, 0, 0, 0, 8), Special::Private),
    (v4(100, 64, 0, 0, 10), Special::Shared),
    (v4(127, 0, 0, 0, 8), Special::Loopback),
    (v4(169, 254, 0, 0, 16), Special::LinkLocal),
    (v4(172, 16, 0, 0, 12), Special::Private),
    (v4(192, 0, 0, 0, 24), Special::Reserved),
    (v4(192, 0, 2, 0, 24), Special::Reserved),
    (v4(192, 88, 99, 0, 24), Special::Translated),
    (v4(192, 168, 0, 0, 16), Special::Private),
    (v4(198, 18, 0, 0, 15), Special::Reserved),
    (v4(198, 51, 100, 0, 24), Special::Reserved),
    (v4(203, 0, 113, 0, 24), Special::Reserved),
    (v4(224, 0, 0, 0, 4), Special::Multicast),
    (v4(240, 0, 0, 0, 4), Special::Reserved),
];

/// What is public of IPv6 today (IANA's IPv6 global unicast assignments).
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

/// What is not public inside of [`GLOBAL_V6`], and what the rest is called; the first that fits counts.
const SPECIAL_V6: &[(Ipv6Net, Special)] = &[
    // Teredo.
    (v6(0x2001, 0, 0, 32), Special::Translated),
    // Protocol assignments: benchmarks, ORCHID and others.
    (v6(0x2001, 0, 0, 23), Special::Reserved),
    (v6(0x2001, 0xdb8, 0, 32), Special::Reserved),
    // 6to4.
    (v6(0x2002, 0, 0, 16), Special::Translated),
    // Documentation (RFC 9637).
    (v6(0x3fff, 0, 0, 20), Special::Reserved),
    // NAT64, well-known and local (RFC 6052, RFC 8215).
    (v6(0x64, 0xff9b, 0, 96), Special::Translated),
    (v6(0x64, 0xff9b, 1, 48), Special::Translated),
    (v6(0xfc00, 0, 0, 7), Special::UniqueLocal),
    (v6(0xfe80, 0, 0, 10), Special::LinkLocal),
    // Site-local, given up by RFC 3879 and still in use.
    (v6(0xfec0, 0, 0, 10), Special::UniqueLocal),
    (v6(0xff00, 0, 0, 8), Special::Multicast),
];

/// What `address` is, if it is not public.
pub fn special(address: IpAddr) -> Option<Special> {
    match address {
        IpAddr::V4(address) => SPECIAL_V4
            .iter()
            .find(|(network, _)| network.contains(&address))
            .map(|(_, special)| *special),
        IpAddr::V6(address) => special_v6(address),
    }
}

fn special_v6(address: Ipv6Addr) -> Option<Special> {
    match address {
        Ipv6Addr::LOCALHOST => return Some(Special::Loopback),
        Ipv6Addr::UNSPECIFIED => return Some(Special::Unspecified),
        _ => {}
    }
    // `::a.b.c.d`, `::ffff:a.b.c.d`, `::ffff:0:a.b.c.d`.
    let [a, b, c, d, ..] = address.segments();
    if (a, b, c, d) == (0, 0, 0, 0) {
        return Some(Special::Translated);
    }
    let known = SPECIAL_V6
        .iter()
        .find(|(network, _)| network.contains(&address))
        .map(|(_, special)| *special);
    known.or((!GLOBAL_V6.contains(&address)).then_some(Special::Reserved))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("1.1.1.1", None)]
    #[case("9.255.255.255", None)]
    #[case("11.0.0.0", None)]
    #[case("100.63.255.255", None)]
    #[case("100.128.0.0", None)]
    #[case("172.15.255.255", None)]
    #[case("172.32.0.0", None)]
    #[case("198.17.255.255", None)]
    #[case("198.20.0.0", None)]
    #[case("223.255.255.255", None)]
    #[case("0.0.0.0", Some(Special::Unspecified))]
    #[case("10.0.0.1", Some(Special::Private))]
    #[case("100.100.100.200", Some(Special::Shared))]
    #[case("127.0.0.53", Some(Special::Loopback))]
    #[case("169.254.169.254", Some(Special::LinkLocal))]
    #[case("172.31.255.255", Some(Special::Private))]
    #[case("192.0.0.192", Some(Special::Reserved))]
    #[case("192.168.1.1", Some(Special::Private))]
    #[case("198.19.0.1", Some(Special::Reserved))]
    #[case("224.0.0.1", Some(Special::Multicast))]
    #[case("255.255.255.255", Some(Special::Reserved))]
    #[case("2606:4700:4700::1111", None)]
    #[case("2a01:4f8::1", None)]
    #[case("2001:200::1", None)]
    #[case("::1", Some(Special::Loopback))]
    #[case("::", Some(Special::Unspecified))]
    #[case("::127.0.0.1", Some(Special::Translated))]
    #[case("::ffff:169.254.169.254", Some(Special::Translated))]
    #[case("::ffff:0:127.0.0.1", Some(Special::Translated))]
    #[case("64:ff9b::a9fe:a9fe", Some(Special::Translated))]
    #[case("64:ff9b:1::1", Some(Special::Translated))]
    #[case("2002:a9fe:a9fe::1", Some(Special::Translated))]
    #[case("2001::1", Some(Special::Translated))]
    #[case("2001:db8::1", Some(Special::Reserved))]
    #[case("100::1", Some(Special::Reserved))]
    #[case("5f00::1", Some(Special::Reserved))]
    #[case("fd00:ec2::254", Some(Special::UniqueLocal))]
    #[case("fe80::1", Some(Special::LinkLocal))]
    #[case("fec0::1", Some(Special::UniqueLocal))]
    #[case("ff02::1", Some(Special::Multicast))]
    fn known(#[case] address: IpAddr, #[case] expected: Option<Special>) {
        assert_eq!(special(address), expected);
    }

    proptest! {
        #[test]
        fn no_ipv6_spelling_of_an_ipv4_address_is_public(address in any::<u32>()) {
            let [a, b, c, d] = address.to_be_bytes();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            for segments in [
                [0, 0, 0, 0, 0, 0, high, low],
                [0, 0, 0, 0, 0, 0xffff, high, low],
                [0, 0, 0, 0, 0xffff, 0, high, low],
                [0x64, 0xff9b, 0, 0, 0, 0, high, low],
                [0x2002, high, low, 0, 0, 0, 0, 1],
            ] {
                let address = Ipv6Addr::from(segments);
                prop_assert!(special(address.into()).is_some(), "{address}");
            }
        }
    }
}
