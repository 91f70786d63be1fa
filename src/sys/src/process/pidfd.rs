//! A process that can't be mistaken for another.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use libc::{c_int, c_long};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::{Error, Exit, wait};
use crate::poll::{self, Watch};

/// A process and its pidfd: a signal or a wait through it never reaches another process that got
/// the same id later. The descriptor becomes readable when the process ends.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: OwnedFd,
}

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The process has it.
    Sent,
    /// The process had ended and been waited for.
    AlreadyGone,
}

impl Process {
    /// Opens the process that has this id now. Who needs to know that it is still the one that
    /// was meant compares [`super::start_time`] afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::Open`], with `ESRCH` when there is none.
    pub fn open(pid: Pid) -> Result<Self, Error> {
        // SAFETY: pidfd_open(2) takes an id and flags by value and touches no memory.
        let fd: c_long = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        let fd = Errno::result(fd).map_err(|source| Error::Open { pid, source })?;
        // SAFETY: the kernel has just made this descriptor (close-on-exec) for us alone.
        let pidfd = unsafe { OwnedFd::from_raw_fd(fd as c_int) };
        Ok(Self { pid, pidfd })
    }

    /// A process whose pidfd came from elsewhere: a socket's peer, another program of ours.
    #[must_use]
    pub fn from_parts(pid: Pid, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd }
    }

    /// Its id, for messages and /proc. After its end the number may belong to another.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal to this very process.
    ///
    /// # Errors
    ///
    /// [`Error::Send`].
    pub fn send(&self, signal: Signal) -> Result<Delivery, Error> {
        // SAFETY: pidfd_send_signal(2) reads a siginfo only if the pointer is not null.
        let outcome: c_long = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                signal as c_int,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match Errno::result(outcome) {
            Ok(_) => Ok(Delivery::Sent),
            Err(Errno::ESRCH) => Ok(Delivery::AlreadyGone),
            Err(source) => Err(Error::Send {
                pid: self.pid,
                signal,
                source,
            }),
        }
    }

    /// Waits until it has ended; it must be a child of this process.
    ///
    /// # Errors
    ///
    /// [`Error::Wait`]; `ECHILD` also when it was waited for already.
    pub fn wait(&self) -> Result<Exit, Error> {
        match wait::by_pidfd(self.pidfd.as_fd(), 0) {
            Ok(Some(exit)) => Ok(exit),
            Ok(None) => Err(self.wait_error(Errno::EAGAIN)),
            Err(source) => Err(self.wait_error(source)),
        }
    }

    /// How it ended, if it has; it must be a child of this process.
    ///
    /// # Errors
    ///
    /// [`Error::Wait`].
    pub fn try_wait(&self) -> Result<Option<Exit>, Error> {
        wait::by_pidfd(self.pidfd.as_fd(), libc::WNOHANG).map_err(|source| self.wait_error(source))
    }

    /// How it ended, if it does within `timeout`; it must be a child of this process.
    ///
    /// # Errors
    ///
    /// [`Error::Wait`] and [`Error::Poll`].
    pub fn wait_within(&self, timeout: Duration) -> Result<Option<Exit>, Error> {
        if self.ended_within(timeout)? {
            self.try_wait()
        } else {
            Ok(None)
        }
    }

    /// Whether it has ended, or does within `timeout`. It need not be a child.
    ///
    /// # Errors
    ///
    /// [`Error::Poll`].
    pub fn ended_within(&self, timeout: Duration) -> Result<bool, Error> {
        poll::wait(&mut [Watch::readable(self)], Some(timeout))
            .map(|ready| ready > 0)
            .map_err(|source| Error::Poll {
                pid: self.pid,
                source,
            })
    }

    fn wait_error(&self, source: Errno) -> Error {
        Error::Wait {
            pid: self.pid,
            source,
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_signal_ends_the_opened_process_and_a_later_one_finds_it_gone() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::open(Pid::from_raw(child.id() as i32)).unwrap();
        assert!(!process.ended_within(Duration::ZERO).unwrap());
        assert_eq!(process.send(Signal::SIGKILL).unwrap(), Delivery::Sent);
        assert!(process.ended_within(Duration::from_secs(10)).unwrap());
        child.wait().unwrap();
        assert_eq!(
            process.send(Signal::SIGKILL).unwrap(),
            Delivery::AlreadyGone
        );
    }

    #[test]
    fn no_process_has_an_id_above_the_kernels_bound() {
        let outcome = Process::open(Pid::from_raw(i32::MAX));
        assert!(
            matches!(
                outcome,
                Err(Error::Open {
                    source: Errno::ESRCH,
                    ..
                })
            ),
            "{outcome:?}"
        );
    }
}
