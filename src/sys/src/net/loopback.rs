//! The loopback interface of a new namespace.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::Error;

/// Brings `lo` up in the network namespace of the calling process, where a new one has it down;
/// programs that talk to themselves over 127.0.0.1 need it.
///
/// # Errors
///
/// [`Error::Socket`] and [`Error::Loopback`].
pub fn loopback_up() -> Result<(), Error> {
    let any = socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(|source| Error::Socket {
        kind: "loopback",
        source,
    })?;
    raise(&any).map_err(|source| Error::Loopback { source })
}

fn raise(socket: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: ifreq is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *place = *byte as libc::c_char;
    }
    // SAFETY: SIOCGIFFLAGS reads the name, which ends in zeroes, and writes the flags into an
    // ifreq that lives over the call.
    Errno::result(unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCGIFFLAGS as _,
            &raw mut request,
        )
    })?;
    // SAFETY: the union was zeroed and its flags written by the call above; all its members are
    // plain data.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
    // SAFETY: SIOCSIFFLAGS reads name and flags of an ifreq that lives over the call.
    Errno::result(unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw mut request,
        )
    })
    .map(drop)
}
