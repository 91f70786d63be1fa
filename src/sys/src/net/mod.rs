//! The network namespace of a job.
//!
//! * [`loopback_up`], [`route_all_to_self`]: made by init while it is root: whatever a program of the
//!   job connects to is this namespace itself, where rules redirect it
//! * [`original_destination`]: where a redirected connection was going
//! * [`Refused`]: packets that the namespace's rules refused, as the kernel logs them
//! * [`Routes`]: whether an address is outside, on this host, or nowhere

mod loopback;
mod netlink;
mod original;
mod refused;
mod route;

use nix::errno::Errno;

pub use loopback::loopback_up;
pub use original::original_destination;
pub use refused::{Refused, RefusedPackets, parse_refused};
pub use route::{Leads, Routes, route_all_to_self};

/// A step in the making of a network, or a question about it, failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket to ask on could be made.
    #[error("can't make a socket for {kind}")]
    Socket {
        /// What it was for.
        kind: &'static str,
        /// The kernel's reason.
        source: Errno,
    },
    /// The state of loopback could not be read or set.
    #[error("can't bring the interface lo up")]
    Loopback {
        /// The kernel's reason; `EPERM` without `CAP_NET_ADMIN` over the namespace.
        source: Errno,
    },
    /// The kernel refused a request.
    #[error("the kernel refused to {operation}")]
    Request {
        /// What was asked for.
        operation: &'static str,
        /// Its reason.
        source: Errno,
    },
    /// The kernel's answer is none that this program knows.
    #[error("the kernel's answer to {operation:?} is not understood")]
    Answer {
        /// What was asked for.
        operation: &'static str,
    },
    /// The connection was not redirected.
    #[error("a connection was not redirected: it has no original destination")]
    NotRedirected {
        /// The kernel's reason.
        source: Errno,
    },
}
