//! A new process in namespaces and a cgroup of its own, by clone3(2).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_long, clone_args};
use nix::errno::Errno;
use nix::unistd::Pid;

use super::{Error, Process};

/// `CLONE_INTO_CGROUP` of linux/sched.h (Linux 5.7). libc declares it as an int, which cuts it
/// down to 0.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which namespaces a new process gets for itself; it shares the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Namespaces {
    /// Mounts (`CLONE_NEWNS`).
    pub mount: bool,
    /// Process ids: the new process is pid 1, and all end with it (`CLONE_NEWPID`).
    pub pid: bool,
    /// System V IPC and POSIX queues (`CLONE_NEWIPC`).
    pub ipc: bool,
    /// Host name (`CLONE_NEWUTS`).
    pub uts: bool,
    /// Network: not even loopback is up (`CLONE_NEWNET`).
    pub net: bool,
    /// View of the cgroup tree: its own group is the root (`CLONE_NEWCGROUP`).
    pub cgroup: bool,
}

impl Namespaces {
    /// A plain fork.
    pub const NONE: Self = Self {
        mount: false,
        pid: false,
        ipc: false,
        uts: false,
        net: false,
        cgroup: false,
    };

    pub(super) fn flags(self) -> u64 {
        let table = [
            (self.mount, libc::CLONE_NEWNS),
            (self.pid, libc::CLONE_NEWPID),
            (self.ipc, libc::CLONE_NEWIPC),
            (self.uts, libc::CLONE_NEWUTS),
            (self.net, libc::CLONE_NEWNET),
            (self.cgroup, libc::CLONE_NEWCGROUP),
        ];
        let chosen = table.iter().filter(|(wanted, _)| *wanted);
        chosen.fold(0, |flags, (_, flag)| flags | u64::from(flag.unsigned_abs()))
    }
}

/// On which side of [`fork`] one is.
#[derive(Debug)]
pub enum Fork {
    /// In the process that called it: the new child.
    Parent(Process),
    /// In the new process. It has a copy of everything, so it must end by
    /// [`super::Launch::exec`] or [`super::end_now`], never by returning into its parent's story.
    Child,
}

/// Makes a process, from the first instruction on in `cgroup` if one is given: there is no
/// moment in which it could escape by forking.
///
/// The child inherits the signal mask, the PAM handle and all descriptors. glibc's fork handlers
/// do not run (there is no other thread that they would have to wait for).
///
/// # Errors
///
/// [`Error::HasThreads`], [`Error::CountThreads`] and [`Error::Fork`].
pub fn fork(namespaces: Namespaces, cgroup: Option<BorrowedFd<'_>>) -> Result<Fork, Error> {
    refuse_threads()?;
    // SAFETY: `clone` asks of its caller that the child runs only code that is sound after a
    // fork. This process has a single thread, so no lock is held by a thread that is missing in
    // the child, and its memory is a whole copy.
    let made = unsafe { clone(namespaces.flags(), cgroup, libc::SIGCHLD) };
    made.map_err(|source| Error::Fork { source })
}

/// A child for a function that makes plain system calls and nothing else, also from a process
/// with threads. Its end raises no `SIGCHLD` and is not seen by [`super::reap_any`].
///
/// # Safety
///
/// In the child `work` may only make raw system calls: no allocation, no lock, no libc function
/// that is not async-signal-safe (signal-safety(7)), no panic.
pub(crate) unsafe fn fork_for_system_calls(work: impl FnOnce() -> u8) -> Result<Process, Error> {
    // SAFETY: the caller promises that the child runs nothing that depends on other threads.
    match unsafe { clone(0, None, 0) }.map_err(|source| Error::Fork { source })? {
        Fork::Parent(child) => Ok(child),
        Fork::Child => {
            let code = work();
            super::end_now(code)
        }
    }
}

/// # Safety
///
/// The child shares no thread with its parent but has a copy of its locks: it must only run code
/// that is sound in that state.
unsafe fn clone(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    exit_signal: c_int,
) -> Result<Fork, Errno> {
    let mut pidfd: c_int = -1;
    // SAFETY: clone_args is plain data for which all zeroes means "nothing asked".
    let mut args: clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | u64::from(libc::CLONE_PIDFD.unsigned_abs());
    args.pidfd = (&raw mut pidfd).addr() as u64;
    args.exit_signal = u64::from(exit_signal.unsigned_abs());
    if let Some(cgroup) = cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    // SAFETY: clone3(2) without CLONE_VM and without a stack is fork: parent and child return
    // here on copies of the same stack. `args` lives over the call and has the size given; the
    // kernel writes one int to `pidfd`, in the parent only.
    let pid: c_long =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<clone_args>()) };
    match Errno::result(pid)? {
        0 => Ok(Fork::Child),
        pid => {
            // SAFETY: on success the kernel has stored a new descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Fork::Parent(Process::from_parts(
                Pid::from_raw(pid as i32),
                pidfd,
            )))
        }
    }
}

pub(super) fn refuse_threads() -> Result<(), Error> {
    match threads()? {
        1 => Ok(()),
        threads => Err(Error::HasThreads { threads }),
    }
}

/// Whether this process has one thread only.
///
/// # Errors
///
/// [`Error::CountThreads`] when /proc can't tell.
pub fn is_single_threaded() -> Result<bool, Error> {
    threads().map(|threads| threads == 1)
}

fn threads() -> Result<usize, Error> {
    let tasks =
        std::fs::read_dir("/proc/self/task").map_err(|source| Error::CountThreads { source })?;
    Ok(tasks.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_refuses_to_fork() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || stopped.recv());
        assert!(
            matches!(fork(Namespaces::NONE, None), Err(Error::HasThreads { threads }) if threads > 1)
        );
        drop(stop);
        assert!(other.join().unwrap().is_err());
    }

    #[test]
    fn a_child_for_system_calls_works_in_a_process_with_threads() {
        // SAFETY: the closure makes no call at all.
        let child = unsafe { fork_for_system_calls(|| 7) }.unwrap();
        assert_eq!(child.wait().unwrap(), crate::process::Exit::Code(7));
    }
}
