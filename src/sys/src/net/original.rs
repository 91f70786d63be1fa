//! Where a redirected connection was going.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, sockopt};

use super::Error;

/// What the program of the job called connect(2) with. `local` is the accepted socket's own address;
/// its family decides which option has the answer.
///
/// # Errors
///
/// [`Error::NotRedirected`] for a connection that was made to this very socket.
pub fn original_destination(socket: &impl AsFd, local: SocketAddr) -> Result<SocketAddr, Error> {
    let failed = |source| Error::NotRedirected { source };
    if local.is_ipv4() {
        let found = getsockopt(socket, sockopt::OriginalDst).map_err(failed)?;
        let address = Ipv4Addr::from_bits(u32::from_be(found.sin_addr.s_addr));
        return Ok((IpAddr::V4(address), u16::from_be(found.sin_port)).into());
    }
    let found = getsockopt(socket, sockopt::Ip6tOriginalDst).map_err(failed)?;
    let address = Ipv6Addr::from(found.sin6_addr.s6_addr);
    Ok((IpAddr::V6(address), u16::from_be(found.sin6_port)).into())
}
