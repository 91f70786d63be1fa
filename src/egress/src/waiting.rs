//! Waiting for descriptors that tokio has no type for.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// An owned descriptor: the same one for its whole life.
#[derive(Debug)]
pub(crate) struct Owned(OwnedFd);

impl AsRawFd for Owned {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Makes a descriptor one that can be waited for.
#[expect(
    deprecated,
    reason = "its successor is unsafe, which only `sys` may be; what it demands holds: `Owned` owns its \
              descriptor, keeps it open and names the same one for its whole life"
)]
pub(crate) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<Owned>> {
    AsyncFd::with_interest(Owned(fd), Interest::READABLE)
}
