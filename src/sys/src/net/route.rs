//! Routes: making one in a job's namespace, asking about them outside.

use std::net::IpAddr;

use nix::sys::socket::SockProtocol;

use super::Error;
use super::netlink::{ACK, CREATE, EXCLUSIVE, Message, Netlink, REQUEST};

/// linux/rtnetlink.h
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const TABLE_LOCAL: u8 = 255;
const BY_ADMINISTRATOR: u8 = 4;
const SCOPE_HOST: u8 = 254;
const UNICAST: u8 = 1;
const LOCAL: u8 = 2;

/// lo is the first interface of every namespace.
const LOOPBACK: u32 = 1;

/// Gives every address in the world to this network namespace: a connection to it gets as far as the
/// rules of the namespace and no further, as there is no other interface. Not to be called in the
/// host's. `false` where the kernel has no IPv6.
///
/// # Errors
///
/// [`Error::Socket`] and [`Error::Request`].
pub fn route_all_to_self() -> Result<bool, Error> {
    let netlink = Netlink::open(SockProtocol::NetlinkRoute, "routes")?;
    add(&netlink, libc::AF_INET)?;
    match add(&netlink, libc::AF_INET6) {
        Ok(()) => Ok(true),
        // Off at boot, or off for all interfaces.
        Err(Error::Request {
            source:
                nix::errno::Errno::EAFNOSUPPORT
                | nix::errno::Errno::EOPNOTSUPP
                | nix::errno::Errno::EACCES
                | nix::errno::Errno::ENODEV
                | nix::errno::Errno::EINVAL,
            ..
        }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn add(netlink: &Netlink, family: i32) -> Result<(), Error> {
    let family = u8::try_from(family).unwrap_or_default();
    // rtmsg: family, bits of destination, source, tos, table, protocol, scope, type, flags.
    let fixed = [
        family,
        0,
        0,
        0,
        TABLE_LOCAL,
        BY_ADMINISTRATOR,
        SCOPE_HOST,
        LOCAL,
        0,
        0,
        0,
        0,
    ];
    let request = Message::new(RTM_NEWROUTE, REQUEST | ACK | CREATE | EXCLUSIVE, &fixed)
        .attribute(RTA_OIF, &LOOPBACK.to_ne_bytes())
        .finish();
    netlink
        .ask(&request, "route all addresses to the job itself")
        .map(drop)
}

/// Where packets to an address would go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leads {
    /// To another host.
    Outside,
    /// To this one: the address is its own, or reaches everybody on its link.
    Here,
    /// There is no way.
    Nowhere,
}

/// The routes of the caller's namespace.
#[derive(Debug)]
pub struct Routes(Netlink);

impl Routes {
    /// Opens a conversation about them.
    ///
    /// # Errors
    ///
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        Netlink::open(SockProtocol::NetlinkRoute, "routes").map(Self)
    }

    /// Where packets to `address` would go now.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] when the kernel does not say, [`Error::Answer`].
    pub fn lead(&self, address: IpAddr) -> Result<Leads, Error> {
        const OPERATION: &str = "look up a route";
        let (family, bytes) = match address {
            IpAddr::V4(own) => (libc::AF_INET, own.octets().to_vec()),
            IpAddr::V6(own) => (libc::AF_INET6, own.octets().to_vec()),
        };
        let family = u8::try_from(family).unwrap_or_default();
        let bits = u8::try_from(bytes.len() * 8).unwrap_or_default();
        let fixed = [family, bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let request = Message::new(RTM_GETROUTE, REQUEST, &fixed)
            .attribute(RTA_DST, &bytes)
            .finish();
        use nix::errno::Errno;
        match self.0.ask(&request, OPERATION) {
            Ok(answer) => match answer.get(7) {
                Some(&UNICAST) => Ok(Leads::Outside),
                // Blackhole, unreachable and prohibit are told as errors, mostly.
                Some(6..=9) => Ok(Leads::Nowhere),
                Some(_) => Ok(Leads::Here),
                None => Err(Error::Answer {
                    operation: OPERATION,
                }),
            },
            Err(Error::Request {
                source:
                    Errno::ENETUNREACH
                    | Errno::EHOSTUNREACH
                    | Errno::EACCES
                    | Errno::EINVAL
                    | Errno::EAFNOSUPPORT
                    | Errno::EOPNOTSUPP,
                ..
            }) => Ok(Leads::Nowhere),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loopback_address_leads_here_and_one_without_a_route_nowhere() {
        let routes = Routes::open().unwrap();
        for here in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            assert_ne!(
                routes.lead(here.parse().unwrap()).unwrap(),
                Leads::Outside,
                "{here}"
            );
        }
        for _ in 0..1_000 {
            assert_eq!(
                routes.lead("127.0.0.1".parse().unwrap()).unwrap(),
                Leads::Here
            );
        }
    }
}
