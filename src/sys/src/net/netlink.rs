//! The few netlink messages that are needed, built and read as bytes: every length comes from the
//! kernel and is checked all the same.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};

use super::Error;

/// linux/netlink.h
const NLMSG_ERROR: u16 = 2;
pub(super) const REQUEST: u16 = 0x1;
pub(super) const ACK: u16 = 0x4;
pub(super) const CREATE: u16 = 0x400;
pub(super) const EXCLUSIVE: u16 = 0x200;

const HEADER: usize = 16;

/// A conversation with the kernel in the caller's network namespace.
#[derive(Debug)]
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    pub(super) fn open(protocol: SockProtocol, kind: &'static str) -> Result<Self, Error> {
        let failed = |source| Error::Socket { kind, source };
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).map_err(failed)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(failed)?;
        Ok(Self(fd))
    }

    /// Sends one request and returns the first message of the answer, header and all. The kernel has
    /// answered when send(2) returns, so nothing waits here.
    pub(super) fn ask(&self, request: &[u8], operation: &'static str) -> Result<Vec<u8>, Error> {
        let failed = |source| Error::Request { operation, source };
        send(self.0.as_raw_fd(), request, MsgFlags::empty()).map_err(failed)?;
        let mut buffer = vec![0; 8192];
        let got = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).map_err(failed)?;
        buffer.truncate(got);
        let unknown = || Error::Answer { operation };
        let (kind, message) = messages(&buffer).next().ok_or_else(unknown)?;
        if kind == NLMSG_ERROR {
            let code = message.get(..4).and_then(|code| code.try_into().ok());
            return match code.map(i32::from_ne_bytes) {
                Some(0) => Ok(Vec::new()),
                Some(code) => Err(failed(Errno::from_raw(-code))),
                None => Err(unknown()),
            };
        }
        Ok(message.to_vec())
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A request under construction.
pub(super) struct Message(Vec<u8>);

impl Message {
    /// Header, then the family's own fixed part.
    pub(super) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(fixed);
        Self(bytes)
    }

    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        // No value of ours is longer than an address.
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

/// The messages of one datagram: type, and what follows the header.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
        let length = usize::try_from(u32::from_ne_bytes(length)).ok()?;
        let kind: [u8; 2] = bytes.get(4..6)?.try_into().ok()?;
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes(kind), body))
    })
}

/// The attributes of a message after its fixed part: type and value.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length: [u8; 2] = bytes.get(..2)?.try_into().ok()?;
        let length = usize::from(u16::from_ne_bytes(length));
        let kind: [u8; 2] = bytes.get(2..4)?.try_into().ok()?;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The two highest bits are flags.
        Some((u16::from_ne_bytes(kind) & 0x3fff, value))
    })
}
