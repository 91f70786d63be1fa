//! A deadline as a descriptor.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::Error;

/// A one-shot timer on `CLOCK_BOOTTIME`: readable once its deadline is over, also when the
/// machine slept through it.
#[derive(Debug)]
pub struct BootTimer {
    timer: TimerFd,
}

impl BootTimer {
    /// A timer that is not set.
    ///
    /// # Errors
    ///
    /// [`Error::Timer`] when the process has no descriptor left.
    pub fn new() -> Result<Self, Error> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer =
            TimerFd::new(ClockId::CLOCK_BOOTTIME, flags).map_err(|source| Error::Timer {
                operation: "create",
                source,
            })?;
        Ok(Self { timer })
    }

    /// Sets the deadline as a reading of [`crate::clock::boottime`]; one that is over fires at
    /// once. An earlier deadline is forgotten.
    ///
    /// # Errors
    ///
    /// [`Error::Timer`] for a time that the kernel can't hold (290 years).
    pub fn set_at(&self, deadline: Duration) -> Result<(), Error> {
        // A deadline of zero would stop the timer instead.
        let deadline = TimeSpec::from(deadline.max(Duration::from_nanos(1)));
        self.timer
            .set(
                Expiration::OneShot(deadline),
                TimerSetTimeFlags::TFD_TIMER_ABSTIME,
            )
            .map_err(|source| Error::Timer {
                operation: "set",
                source,
            })
    }

    /// Stops the timer: it is not readable until it is set again.
    ///
    /// # Errors
    ///
    /// [`Error::Timer`].
    pub fn stop(&self) -> Result<(), Error> {
        self.timer.unset().map_err(|source| Error::Timer {
            operation: "stop",
            source,
        })
    }

    /// Whether the deadline is over; asked once, the timer is no longer readable.
    ///
    /// # Errors
    ///
    /// [`Error::Timer`].
    pub fn take_expired(&self) -> Result<bool, Error> {
        loop {
            return match nix::unistd::read(&self.timer, &mut [0; 8]) {
                Ok(_) => Ok(true),
                Err(Errno::EAGAIN) => Ok(false),
                Err(Errno::EINTR) => continue,
                Err(source) => Err(Error::Timer {
                    operation: "read",
                    source,
                }),
            };
        }
    }
}

impl AsFd for BootTimer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::boottime;
    use crate::poll::{Watch, wait};

    #[test]
    fn a_deadline_makes_the_timer_readable_once() {
        let timer = BootTimer::new().unwrap();
        timer.set_at(boottime() + Duration::from_millis(2)).unwrap();
        wait(&mut [Watch::readable(&timer)], None).unwrap();
        assert!(timer.take_expired().unwrap());
        assert!(!timer.take_expired().unwrap());
    }

    #[test]
    fn a_deadline_in_the_past_fires_at_once_even_at_zero() {
        let timer = BootTimer::new().unwrap();
        timer.set_at(Duration::ZERO).unwrap();
        wait(&mut [Watch::readable(&timer)], None).unwrap();
        assert!(timer.take_expired().unwrap());
    }

    #[test]
    fn a_stopped_timer_does_not_fire() {
        let timer = BootTimer::new().unwrap();
        timer.set_at(boottime() + Duration::from_millis(1)).unwrap();
        timer.stop().unwrap();
        assert_eq!(
            wait(
                &mut [Watch::readable(&timer)],
                Some(Duration::from_millis(5))
            )
            .unwrap(),
            0
        );
    }
}
