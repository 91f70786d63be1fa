//! Who is at the other end.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Gid, Pid, Uid};

use super::{Error, own};

/// The peer as the kernel saw it when the connection was made (`SO_PEERCRED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Its process in this pid namespace; 0 when it lies outside.
    pub pid: Pid,
    /// Its effective user.
    pub uid: Uid,
    /// Its effective group.
    pub gid: Gid,
}

pub(super) fn credentials(socket: BorrowedFd<'_>) -> Result<PeerCredentials, Error> {
    let peer =
        getsockopt(&socket, sockopt::PeerCredentials).map_err(|source| Error::Peer { source })?;
    Ok(PeerCredentials {
        pid: Pid::from_raw(peer.pid()),
        uid: Uid::from_raw(peer.uid()),
        gid: Gid::from_raw(peer.gid()),
    })
}

pub(super) fn pidfd(socket: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Error> {
    match int_option(socket, libc::SO_PEERPIDFD) {
        Ok(fd) => Ok(Some(own(fd))),
        // ENOPROTOOPT: a kernel before 6.5. ESRCH, EINVAL, ENODATA: the peer is gone, in the
        // words of different kernels.
        Err(Errno::ENOPROTOOPT | Errno::ESRCH | Errno::EINVAL | Errno::ENODATA) => Ok(None),
        Err(source) => Err(Error::Peer { source }),
    }
}

/// The address family of a socket.
pub(super) fn domain(socket: BorrowedFd<'_>) -> Result<i32, Errno> {
    int_option(socket, libc::SO_DOMAIN)
}

fn int_option(socket: BorrowedFd<'_>, option: i32) -> Result<i32, Errno> {
    let mut value: i32 = -1;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: getsockopt(2) writes at most `len` bytes to `value`, which has that size; both
    // options are integers.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    Errno::result(outcome).map(|_| value)
}
