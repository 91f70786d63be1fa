//! Packets that the rules of a namespace refused, as the kernel's log hands them to a socket
//! (nfnetlink_log).

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use nix::sys::socket::SockProtocol;

use super::Error;
use super::netlink::{ACK, Message, Netlink, REQUEST, attributes, messages};

/// linux/netfilter/nfnetlink.h and nfnetlink_log.h
const CONFIGURE: u16 = 4 << 8 | 1;
const PACKET: u16 = 4 << 8;
const CFG_CMD: u16 = 1;
const CFG_MODE: u16 = 2;
const CMD_BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
const PAYLOAD: u16 = 9;
/// nfgenmsg: family, version, group.
const FIXED: usize = 4;
/// Enough for both headers.
const COPIED: u32 = 128;

/// A socket on which the kernel tells of packets logged to a group.
#[derive(Debug)]
pub struct RefusedPackets;

impl RefusedPackets {
    /// Opens it for the caller's network namespace; needs `CAP_NET_ADMIN` over it. Whoever holds it
    /// afterwards needs nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Socket`] and [`Error::Request`].
    pub fn open(group: u16) -> Result<OwnedFd, Error> {
        const OPERATION: &str = "hear of refused packets";
        let netlink = Netlink::open(SockProtocol::NetlinkNetFilter, "refused packets")?;
        let [high, low] = group.to_be_bytes();
        let fixed = [0, 0, high, low];
        let bind = Message::new(CONFIGURE, REQUEST | ACK, &fixed).attribute(CFG_CMD, &[CMD_BIND]);
        netlink.ask(&bind.finish(), OPERATION)?;
        let mut mode = COPIED.to_be_bytes().to_vec();
        mode.extend([COPY_PACKET, 0]);
        let mode = Message::new(CONFIGURE, REQUEST | ACK, &fixed).attribute(CFG_MODE, &mode);
        netlink.ask(&mode.finish(), OPERATION)?;
        Ok(netlink.into_fd())
    }
}

/// A packet that went nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Number of its protocol: 17 is UDP.
    pub protocol: u8,
    /// To whom it was addressed.
    pub to: IpAddr,
    /// At which port, where the protocol has them.
    pub port: Option<u16>,
}

/// The packets of one read of the socket. What can't be understood is left out: a bot writes these
/// bytes.
pub fn parse_refused(datagram: &[u8]) -> Vec<Refused> {
    let of_log = messages(datagram).filter(|(kind, _)| *kind == PACKET);
    let bodies = of_log.filter_map(|(_, body)| body.get(FIXED..));
    bodies
        .filter_map(|body| attributes(body).find(|(kind, _)| *kind == PAYLOAD))
        .filter_map(|(_, payload)| packet(payload))
        .collect()
}

fn packet(bytes: &[u8]) -> Option<Refused> {
    let (protocol, to, rest) = match bytes.first()? >> 4 {
        4 => {
            let to: [u8; 4] = bytes.get(16..20)?.try_into().ok()?;
            let length = usize::from(bytes[0] & 0xf) * 4;
            (*bytes.get(9)?, IpAddr::from(to), bytes.get(length..))
        }
        6 => {
            let to: [u8; 16] = bytes.get(24..40)?.try_into().ok()?;
            (*bytes.get(6)?, IpAddr::from(to), bytes.get(40..))
        }
        _ => return None,
    };
    // TCP, UDP, DCCP, SCTP, UDP-Lite: source port, destination port.
    let ported = matches!(protocol, 6 | 17 | 33 | 132 | 136);
    let port = rest
        .filter(|_| ported)
        .and_then(|rest| rest.get(2..4)?.try_into().ok())
        .map(u16::from_be_bytes);
    Some(Refused { protocol, to, port })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn logged(payload: &[u8]) -> Vec<u8> {
        Message::new(PACKET, 0, &[2, 0, 0, 1])
            .attribute(PAYLOAD, payload)
            .finish()
    }

    #[test]
    fn protocol_address_and_port_of_a_packet_are_found() {
        let mut four = vec![
            0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 1, 2, 3, 4, 8, 8, 8, 8,
        ];
        four.extend([0x10, 0, 1, 187, 0, 9, 0, 0, b'q']);
        let mut six = vec![0x60, 0, 0, 0, 0, 8, 58, 64];
        six.extend([0; 16]);
        six.extend([
            0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 128, 0, 0, 0,
        ]);
        let both = [logged(&four), logged(&six)].concat();
        let expected = [
            Refused {
                protocol: 17,
                to: "8.8.8.8".parse().unwrap(),
                port: Some(443),
            },
            Refused {
                protocol: 58,
                to: "2001:db8::7".parse().unwrap(),
                port: None,
            },
        ];
        assert_eq!(parse_refused(&both), expected);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_refused(&bytes);
            let _ = parse_refused(&logged(&bytes));
        }
    }
}
