//! A wake-up as a descriptor.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::Error;

/// A flag that another thread or process raises and [`super::wait`] sees.
#[derive(Debug)]
pub struct Event {
    fd: EventFd,
}

impl Event {
    /// A flag that is down.
    ///
    /// # Errors
    ///
    /// [`Error::Event`] when the process has no descriptor left.
    pub fn new() -> Result<Self, Error> {
        let fd = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(
            |source| Error::Event {
                operation: "create",
                source,
            },
        )?;
        Ok(Self { fd })
    }

    /// Raises the flag; raising it again changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Event`].
    pub fn raise(&self) -> Result<(), Error> {
        match self.fd.write(1) {
            // EAGAIN: raised 2^64 - 2 times and still not taken.
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(source) => Err(Error::Event {
                operation: "raise",
                source,
            }),
        }
    }

    /// Whether the flag was up; it is down afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::Event`].
    pub fn take(&self) -> Result<bool, Error> {
        match self.fd.read() {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN) => Ok(false),
            Err(source) => Err(Error::Event {
                operation: "clear",
                source,
            }),
        }
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_raised_twice_is_taken_once() {
        let event = Event::new().unwrap();
        assert!(!event.take().unwrap());
        event.raise().unwrap();
        event.raise().unwrap();
        assert!(event.take().unwrap());
        assert!(!event.take().unwrap());
    }
}
