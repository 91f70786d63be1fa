//! Receiving a packet with its descriptors.
//!
//! nix's `recvmsg` gives up on a truncated control message without handing out the descriptors
//! that were installed, which would leak them at a hostile peer's wish; so this one is ours.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::{Error, MAX_FDS, own};

/// What arrived.
#[derive(Debug)]
pub struct Received {
    /// Length of the packet in the buffer; never 0.
    pub len: usize,
    /// Its descriptors, in the order in which they were sent; close-on-exec is set.
    pub fds: Vec<OwnedFd>,
}

/// Room for one control message of [`MAX_FDS`] descriptors, aligned as the kernel writes it.
#[repr(C)]
union Control {
    _align: libc::cmsghdr,
    bytes: [u8; CONTROL_LEN],
}

/// `CMSG_SPACE` of [`MAX_FDS`] descriptors. The padding never has room for a fifth: see the test.
// SAFETY: CMSG_SPACE only computes.
const CONTROL_LEN: usize =
    unsafe { libc::CMSG_SPACE((MAX_FDS * size_of::<RawFd>()) as u32) } as usize;

/// Receives one packet; none at the end of the connection.
///
/// A packet without bytes is what only a foreign program could send; it ends the connection too.
pub(super) fn packet(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    flags: i32,
) -> Result<Option<Received>, Error> {
    let limit = buffer.len();
    let mut control = Control {
        bytes: [0; CONTROL_LEN],
    };
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: limit,
    };
    // SAFETY: msghdr is plain data for which all zeroes is a valid value (no name, no parts).
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = CONTROL_LEN;
    let len = receive(socket, &mut header, flags)?;
    // Owned before anything can be refused, so that a refused packet leaks nothing.
    let fds = descriptors(&header);
    if header.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(Error::FdsTruncated);
    }
    if header.msg_flags & libc::MSG_TRUNC != 0 {
        return Err(Error::PacketTooLong { limit });
    }
    Ok((len > 0).then_some(Received { len, fds }))
}

fn receive(socket: BorrowedFd<'_>, header: &mut libc::msghdr, flags: i32) -> Result<usize, Error> {
    loop {
        // SAFETY: recvmsg(2) writes through `msg_iov` and `msg_control`; both point to live
        // memory of the length given beside them, and nothing else refers to it meanwhile.
        let len =
            unsafe { libc::recvmsg(socket.as_raw_fd(), header, flags | libc::MSG_CMSG_CLOEXEC) };
        match Errno::result(len) {
            Ok(len) => return Ok(len.unsigned_abs()),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(Error::WouldBlock),
            // The peer closed with unread packets of ours in its queue: an end like any other.
            Err(Errno::ECONNRESET) => return Ok(0),
            Err(source) => return Err(Error::Receive { source }),
        }
    }
}

/// Owns every descriptor that the kernel has installed for this packet.
fn descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR walk `msg_control` within `msg_controllen`, which
    // recvmsg(2) has set to what it wrote there.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: the macros return null or an aligned, whole cmsghdr inside the buffer.
    while let Some(message) = unsafe { next.as_ref() } {
        if message.cmsg_level == libc::SOL_SOCKET && message.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: CMSG_DATA of a header that lies in the buffer, whose cmsg_len bytes the
            // kernel has written.
            unsafe { own_rights(message, &mut fds) };
        }
        // SAFETY: as for CMSG_FIRSTHDR; `message` lies in this header's buffer.
        next = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    fds
}

/// # Safety
///
/// `message` is an `SCM_RIGHTS` message in a buffer that recvmsg(2) filled, `cmsg_len` bytes of
/// it are there, and its descriptors are not owned yet.
unsafe fn own_rights(message: &libc::cmsghdr, fds: &mut Vec<OwnedFd>) {
    // SAFETY: CMSG_LEN only computes.
    let head = unsafe { libc::CMSG_LEN(0) } as usize;
    let count = message.cmsg_len.saturating_sub(head) / size_of::<RawFd>();
    // SAFETY: the data follows the header inside the same buffer.
    let data = unsafe { libc::CMSG_DATA(message) }.cast::<RawFd>();
    for index in 0..count {
        // SAFETY: `index` is below the number of descriptors that the kernel wrote; it does not
        // promise their alignment.
        fds.push(own(unsafe { data.add(index).read_unaligned() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_buffer_has_no_room_for_a_fifth_descriptor() {
        // SAFETY: CMSG_LEN only computes.
        let five = unsafe { libc::CMSG_LEN(((MAX_FDS + 1) * size_of::<RawFd>()) as u32) } as usize;
        assert!(five > CONTROL_LEN);
    }
}
