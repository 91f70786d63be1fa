//! Ending this process or others at once.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::Error;

/// Ends this process at once: nothing of what it inherited from its parent is closed, flushed or
/// torn down twice. How the child of [`super::fork`] ends when it does not exec.
pub fn end_now(code: u8) -> ! {
    // SAFETY: _exit(2) has no preconditions and runs no destructors.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Sends a signal to every process of a group; that there is none any more is no error.
///
/// # Errors
///
/// [`Error::Send`], with `EINVAL` for 0 and 1, which would mean the caller's own group or all.
pub fn signal_group(group: Pid, signal: Signal) -> Result<(), Error> {
    let outcome = if group.as_raw() > 1 {
        killpg(group, signal)
    } else {
        Err(Errno::EINVAL)
    };
    ignore_none(outcome).map_err(|source| Error::Send {
        pid: group,
        signal,
        source,
    })
}

/// Sends a signal to every process of the pid namespace whose pid 1 the caller is, but itself.
///
/// # Errors
///
/// [`Error::Send`], with `EPERM` when the caller is not pid 1.
pub fn signal_namespace(signal: Signal) -> Result<(), Error> {
    let all = Pid::from_raw(-1);
    let is_init = Pid::this() == Pid::from_raw(1);
    let outcome = if is_init {
        kill(all, signal)
    } else {
        Err(Errno::EPERM)
    };
    ignore_none(outcome).map_err(|source| Error::Send {
        pid: all,
        signal,
        source,
    })
}

fn ignore_none(outcome: Result<(), Errno>) -> Result<(), Errno> {
    if outcome == Err(Errno::ESRCH) {
        Ok(())
    } else {
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pid_1_may_signal_all() {
        assert!(matches!(
            signal_namespace(Signal::SIGCONT),
            Err(Error::Send {
                source: Errno::EPERM,
                ..
            })
        ));
    }

    #[test]
    fn a_group_number_that_means_others_is_refused() {
        for group in [-1, 0, 1] {
            let outcome = signal_group(Pid::from_raw(group), Signal::SIGCONT);
            assert!(matches!(
                outcome,
                Err(Error::Send {
                    source: Errno::EINVAL,
                    ..
                })
            ));
        }
    }

    #[test]
    fn a_group_that_is_gone_has_the_signal() {
        signal_group(Pid::from_raw(i32::MAX), Signal::SIGKILL).unwrap();
    }
}
