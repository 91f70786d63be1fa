//! How a process ended.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::Error;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code (0–255).
    Code(i32),
    /// By a signal. Kept as a number: real-time signals have no name.
    Signal {
        /// Its number.
        number: i32,
        /// Whether the kernel wrote a core dump.
        core: bool,
    },
}

impl Exit {
    /// Whether it ended by itself with code 0.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

/// What [`reap_any`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaped {
    /// This child has ended.
    Child(Pid, Exit),
    /// There are children, and all are alive.
    AllAlive,
    /// There are no children.
    NoChildren,
}

/// Collects one ended child of this process, whichever; pid 1 and subreapers do so for orphans.
///
/// # Errors
///
/// [`Error::Wait`].
pub fn reap_any() -> Result<Reaped, Error> {
    match waitid(libc::P_ALL, 0, libc::WNOHANG) {
        Ok(Some((pid, exit))) => Ok(Reaped::Child(pid, exit)),
        Ok(None) => Ok(Reaped::AllAlive),
        Err(Errno::ECHILD) => Ok(Reaped::NoChildren),
        Err(source) => Err(Error::Wait {
            pid: Pid::from_raw(0),
            source,
        }),
    }
}

/// `__WALL` sees children that send no `SIGCHLD` as well; here the child is named, so no other
/// can be taken by mistake.
pub(super) fn by_pidfd(pidfd: BorrowedFd<'_>, flags: i32) -> Result<Option<Exit>, Errno> {
    let id = pidfd.as_raw_fd().unsigned_abs();
    waitid(libc::P_PIDFD, id, flags | libc::__WALL).map(|found| found.map(|(_, exit)| exit))
}

fn waitid(kind: libc::idtype_t, id: libc::id_t, flags: i32) -> Result<Option<(Pid, Exit)>, Errno> {
    loop {
        // SAFETY: siginfo_t is plain data; zeroed, its si_pid says "none", as waitid(2) asks.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: waitid(2) writes one siginfo_t, which lives over the call.
        let outcome = unsafe { libc::waitid(kind, id, &raw mut info, libc::WEXITED | flags) };
        match Errno::result(outcome) {
            Ok(_) => return Ok(ended(&info)),
            Err(Errno::EINTR) => {}
            Err(source) => return Err(source),
        }
    }
}

fn ended(info: &libc::siginfo_t) -> Option<(Pid, Exit)> {
    // SAFETY: waitid(2) fills the SIGCHLD fields, or leaves them zero when no child has ended.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return None;
    }
    let exit = match info.si_code {
        libc::CLD_EXITED => Exit::Code(status),
        code => Exit::Signal {
            number: status,
            core: code == libc::CLD_DUMPED,
        },
    };
    Some((Pid::from_raw(pid), exit))
}
