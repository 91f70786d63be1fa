//! What kind of place an address is: what no rule can grant, what only a rule that means it can,
//! and the rest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::rules::Network;

/// How an address is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reached when a rule allows it.
    Public,
    /// Inside somebody's network: reached when a rule names that very network.
    Private,
    /// The host itself, its link, groups, and what hands out credentials of the machine: never.
    Never,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Network {
    Network {
        address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        prefix,
    }
}

const fn v6(parts: [u16; 8], prefix: u8) -> Network {
    let [a, b, c, d, e, f, g, h] = parts;
    Network {
        address: IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)),
        prefix,
    }
}

/// "This host", loopback, link-local (with the metadata service of most clouds), groups, broadcast;
/// then metadata services elsewhere.
const NEVER: [Network; 14] = [
    v4(0, 0, 0, 0, 8),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(224, 0, 0, 0, 3),
    // Unspecified and loopback, and the IPv4-compatible addresses that nobody uses any more.
    v6([0; 8], 96),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
    // Alibaba's, Azure's, Oracle's, AWS's over IPv6, Google's over IPv6.
    v4(100, 100, 100, 200, 32),
    v4(168, 63, 129, 16, 32),
    v4(192, 0, 0, 192, 32),
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32),
    v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0], 32),
    // Site-local, given up by RFC 3879; IPv4-translated, RFC 2765.
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10),
    v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96),
];

/// Private use, shared by carriers, protocol assignments, documentation, benchmarks, unique local.
const PRIVATE: [Network; 14] = [
    v4(10, 0, 0, 0, 8),
    v4(172, 16, 0, 0, 12),
    v4(192, 168, 0, 0, 16),
    v4(100, 64, 0, 0, 10),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
    v6([0x0100, 0, 0, 0, 0, 0, 0, 0], 8),
];

/// What kind an address is. One that carries an IPv4 address inside is what that one is.
#[must_use]
pub fn kind_of(address: IpAddr) -> Kind {
    let of_list = |list: &[Network]| list.iter().any(|network| network.contains(address));
    let inner = embedded(address).map(|inner| match kind_of(IpAddr::V4(inner)) {
        // A translator or tunnel stands in between: whose is it?
        Kind::Public => Kind::Private,
        kind => kind,
    });
    match inner {
        _ if of_list(&NEVER) => Kind::Never,
        Some(kind) => kind,
        None if of_list(&PRIVATE) => Kind::Private,
        None => Kind::Public,
    }
}

/// Whether nothing of this network is ever reached.
pub(super) fn is_never(network: &Network) -> bool {
    NEVER.iter().any(|never| never.covers(network))
}

/// The IPv4 address to which a translator or tunnel would lead: NAT64 (RFC 6052, RFC 8215), 6to4,
/// Teredo, ISATAP.
#[must_use]
pub fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    let bytes = address.octets();
    let at = |place: usize| {
        Ipv4Addr::new(
            bytes[place],
            bytes[place + 1],
            bytes[place + 2],
            bytes[place + 3],
        )
    };
    let parts = address.segments();
    match parts {
        [0x64, 0xff9b, ..] => Some(at(12)),
        [0x2002, ..] => Some(at(2)),
        [0x2001, 0, ..] => Some(Ipv4Addr::from_bits(!at(12).to_bits())),
        [.., 0 | 0x200, 0x5efe, _, _] => Some(at(12)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Kind {
        kind_of(text.parse().unwrap())
    }

    #[test]
    fn the_host_its_link_groups_and_metadata_are_never_reached() {
        let never = [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "169.254.0.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd20:ce::254",
            "fec0::1",
            // Carried inside.
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2001:0:1:2:3:4:5601:5601",
            "2001:db9::5efe:7f00:1",
            "::ffff:0:127.0.0.1",
        ];
        for text in never {
            assert_eq!(kind(text), Kind::Never, "{text}");
        }
    }

    #[test]
    fn private_networks_are_told_from_the_rest_of_the_world() {
        for text in [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "192.0.2.1",
            "fc00::1",
            "fdff::1",
            "2001:db8::1",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "64:ff9b::a00:1",
        ] {
            assert_eq!(kind(text), Kind::Private, "{text}");
        }
        for text in [
            "8.8.8.8",
            "172.15.255.255",
            "172.32.0.1",
            "192.169.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00::1",
            "100.128.0.1",
        ] {
            assert_eq!(kind(text), Kind::Public, "{text}");
        }
    }
}
