//! Waiting for descriptors, time and signals in one call.
//!
//! [`wait`] is ppoll(2); [`BootTimer`], [`Signals`] and [`Event`] turn a deadline, a signal and a
//! wake-up into descriptors for it, so that a single-threaded program has exactly one place
//! where it sleeps.

mod event;
mod signals;
mod timer;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

pub use event::Event;
pub use signals::{Received, Signals};
pub use timer::BootTimer;

use crate::clock::boottime;

/// A wait, timer, signal or event descriptor that did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// ppoll(2) failed.
    #[error("can't wait on {count} descriptors")]
    Wait {
        /// How many were waited on.
        count: usize,
        /// The kernel's reason.
        source: Errno,
    },
    /// One of the descriptors is not open: a bug in the caller, never a state to wait out.
    #[error("descriptor {fd} is not open; it can't be waited on")]
    NotOpen {
        /// Its number.
        fd: i32,
    },
    /// A timer could not be made, set or read.
    #[error("can't {operation} a timer on the boot clock")]
    Timer {
        /// `create`, `set`, `stop` or `read`.
        operation: &'static str,
        /// The kernel's reason.
        source: Errno,
    },
    /// Signals could not be blocked, or their descriptor not made or read.
    #[error("can't {operation} signals by descriptor")]
    Signals {
        /// `block`, `receive` or `read`.
        operation: &'static str,
        /// The kernel's reason.
        source: Errno,
    },
    /// An eventfd could not be made, raised or cleared.
    #[error("can't {operation} an event descriptor")]
    Event {
        /// `create`, `raise` or `clear`.
        operation: &'static str,
        /// The kernel's reason.
        source: Errno,
    },
}

/// One descriptor to wait on, and what happened to it.
#[derive(Debug)]
pub struct Watch<'fd> {
    fd: BorrowedFd<'fd>,
    wanted: PollFlags,
    seen: PollFlags,
}

impl<'fd> Watch<'fd> {
    /// Waits until `fd` can be read, or its other end is closed.
    #[must_use]
    pub fn readable<F: AsFd + ?Sized>(fd: &'fd F) -> Self {
        Self::new(fd.as_fd(), PollFlags::POLLIN)
    }

    /// Waits until `fd` can be written, or its other end is closed.
    #[must_use]
    pub fn writable<F: AsFd + ?Sized>(fd: &'fd F) -> Self {
        Self::new(fd.as_fd(), PollFlags::POLLOUT)
    }

    /// Waits for an exceptional condition, which is how kernfs files (`cgroup.events`,
    /// `mountinfo`) say that they changed.
    #[must_use]
    pub fn changed<F: AsFd + ?Sized>(fd: &'fd F) -> Self {
        Self::new(fd.as_fd(), PollFlags::POLLPRI)
    }

    fn new(fd: BorrowedFd<'fd>, wanted: PollFlags) -> Self {
        Self {
            fd,
            wanted,
            seen: PollFlags::empty(),
        }
    }

    /// Whether anything at all happened.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.seen.is_empty()
    }

    /// Whether a read would not block: there is something to read, the end, or an error.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.seen
            .intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR)
    }

    /// Whether a write would not block: there is room, or an error.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.seen
            .intersects(PollFlags::POLLOUT | PollFlags::POLLERR)
    }

    /// Whether the other end is gone. There may still be something left to read.
    #[must_use]
    pub fn is_hung_up(&self) -> bool {
        self.seen
            .intersects(PollFlags::POLLHUP | PollFlags::POLLERR)
    }
}

/// Waits until at least one descriptor is ready or `timeout` is over; without one, for ever.
///
/// Returns how many are ready; 0 means that the time is over. Interruptions are waited out: the
/// time counts on the boot clock from the call.
///
/// # Errors
///
/// [`Error::NotOpen`] and [`Error::Wait`].
pub fn wait(watches: &mut [Watch<'_>], timeout: Option<Duration>) -> Result<usize, Error> {
    let mut fds: Vec<PollFd<'_>> = watches
        .iter()
        .map(|watch| PollFd::new(watch.fd, watch.wanted))
        .collect();
    let ready = wait_uninterrupted(&mut fds, timeout)?;
    for (watch, fd) in watches.iter_mut().zip(&fds) {
        watch.seen = fd.revents().unwrap_or(PollFlags::empty());
        if watch.seen.contains(PollFlags::POLLNVAL) {
            return Err(Error::NotOpen {
                fd: std::os::fd::AsRawFd::as_raw_fd(&watch.fd),
            });
        }
    }
    Ok(ready)
}

/// The kernel refuses times that do not fit into its clock; ten years are as good as for ever.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

fn wait_uninterrupted(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> Result<usize, Error> {
    let end = timeout.map(|timeout| boottime().saturating_add(timeout.min(LONGEST)));
    loop {
        let left = end.map(|end| TimeSpec::from(end.saturating_sub(boottime())));
        match ppoll(fds, left, None) {
            Ok(ready) => return Ok(usize::try_from(ready).unwrap_or(0)),
            Err(Errno::EINTR) => {}
            Err(source) => {
                return Err(Error::Wait {
                    count: fds.len(),
                    source,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_wait_ends_when_its_time_is_over() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let mut watches = [Watch::readable(&reader)];
        assert_eq!(
            wait(&mut watches, Some(Duration::from_millis(1))).unwrap(),
            0
        );
        assert!(!watches[0].is_ready());
    }

    #[test]
    fn bytes_and_the_end_of_a_pipe_are_told_apart() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"x").unwrap();
        let mut watches = [Watch::readable(&reader)];
        assert_eq!(wait(&mut watches, None).unwrap(), 1);
        assert!(watches[0].is_readable() && !watches[0].is_hung_up());
        drop(writer);
        wait(&mut watches, None).unwrap();
        assert!(watches[0].is_hung_up());
    }

    #[test]
    fn a_timeout_too_long_for_the_kernel_still_waits() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(writer);
        assert_eq!(
            wait(&mut [Watch::readable(&reader)], Some(Duration::MAX)).unwrap(),
            1
        );
    }
}
