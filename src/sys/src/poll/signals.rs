//! Signals as a descriptor.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, Uid};

use super::Error;

/// Receives chosen signals, which no longer interrupt or end the process.
///
/// They stay blocked after it is dropped, and in every child:
/// [`crate::process::Launch::exec`] unblocks them for the program that it starts.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
}

/// One signal, and who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Which one.
    pub signal: Signal,
    /// The sender as seen from this pid namespace; 0 when it is the kernel or lies outside.
    pub sender: Pid,
    /// The sender's user.
    pub uid: Uid,
}

impl Signals {
    /// What a program of robotd listens to: the end of a child, and the ways to be told to end.
    ///
    /// # Errors
    ///
    /// [`Error::Signals`].
    pub fn of_a_program() -> Result<Self, Error> {
        Self::new(&[
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGCHLD,
        ])
    }

    /// Blocks `signals` in the calling thread and receives them here.
    ///
    /// Call it before other threads are started, so that they inherit the mask.
    ///
    /// # Errors
    ///
    /// [`Error::Signals`].
    pub fn new(signals: &[Signal]) -> Result<Self, Error> {
        let set: SigSet = signals.iter().copied().collect();
        set.thread_block().map_err(|source| Error::Signals {
            operation: "block",
            source,
        })?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(|source| Error::Signals {
                operation: "receive",
                source,
            })?;
        Ok(Self { fd })
    }

    /// The next signal, or none when all are read. Equal signals that came together are one.
    ///
    /// # Errors
    ///
    /// [`Error::Signals`].
    pub fn take(&self) -> Result<Option<Received>, Error> {
        loop {
            match self.fd.read_signal() {
                Ok(None) => return Ok(None),
                Ok(Some(info)) => return received(&info).map(Some),
                Err(Errno::EINTR) => {}
                Err(source) => {
                    return Err(Error::Signals {
                        operation: "read",
                        source,
                    });
                }
            }
        }
    }
}

fn received(info: &nix::sys::signalfd::siginfo) -> Result<Received, Error> {
    let signal = i32::try_from(info.ssi_signo)
        .map_err(|_| Errno::EINVAL)
        .and_then(Signal::try_from);
    Ok(Received {
        signal: signal.map_err(|source| Error::Signals {
            operation: "read",
            source,
        })?,
        sender: Pid::from_raw(i32::try_from(info.ssi_pid).unwrap_or(0)),
        uid: Uid::from_raw(info.ssi_uid),
    })
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_to_this_thread_is_read_with_its_sender() {
        let signals = Signals::new(&[Signal::SIGUSR1]).unwrap();
        assert_eq!(signals.take().unwrap(), None);
        nix::sys::signal::raise(Signal::SIGUSR1).unwrap();
        let received = signals.take().unwrap().unwrap();
        assert_eq!(
            (received.signal, received.sender),
            (Signal::SIGUSR1, Pid::this())
        );
        assert_eq!(signals.take().unwrap(), None);
    }
}
