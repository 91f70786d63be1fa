//! What can go wrong with a process.

use std::ffi::CString;
use std::io;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid};

/// A step of starting, watching, limiting or ending a process that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A process with threads must not fork: locks that other threads hold would stay locked.
    #[error("this process has {threads} threads; only a single-threaded one may fork")]
    HasThreads {
        /// How many.
        threads: usize,
    },
    /// How many threads there are could not be counted.
    #[error("can't count the threads in /proc/self/task; is /proc mounted?")]
    CountThreads {
        /// The kernel's reason.
        source: io::Error,
    },
    /// clone3(2) failed.
    #[error("can't make a process")]
    Fork {
        /// The kernel's reason: `EPERM` without the right to make namespaces, `EBUSY` for a cgroup that
        /// can't hold processes, `EAGAIN` at a limit of processes.
        source: Errno,
    },
    /// A program could not be started.
    #[error("can't start {program}", program = program.display())]
    Spawn {
        /// Its path.
        program: std::path::PathBuf,
        /// The kernel's reason; `NotFound` when it is not installed.
        source: io::Error,
    },
    /// Another process's namespaces could not be joined.
    #[error("can't join the namespaces of another process")]
    Join {
        /// The kernel's reason; `ESRCH` when the process has ended.
        source: Errno,
    },
    /// The process could not be opened by descriptor.
    #[error("can't open process {pid}")]
    Open {
        /// Its id.
        pid: Pid,
        /// The kernel's reason; `ESRCH` when there is none.
        source: Errno,
    },
    /// A signal could not be sent.
    #[error("can't send {signal} to process {pid}")]
    Send {
        /// To which process.
        pid: Pid,
        /// Which signal.
        signal: Signal,
        /// The kernel's reason.
        source: Errno,
    },
    /// Its end could not be learnt.
    #[error("can't wait for process {pid}")]
    Wait {
        /// Its id; 0 for any child.
        pid: Pid,
        /// The kernel's reason; `ECHILD` when it is not a child of this process.
        source: Errno,
    },
    /// Waiting with a deadline failed.
    #[error("can't wait for process {pid} with a deadline")]
    Poll {
        /// Its id.
        pid: Pid,
        /// What went wrong.
        source: crate::poll::Error,
    },
    /// `/proc/PID/stat` could not be read.
    #[error("can't read /proc/{pid}/stat")]
    ReadStat {
        /// Its id.
        pid: Pid,
        /// The kernel's reason.
        source: io::Error,
    },
    /// `/proc/PID/stat` is not what proc(5) describes.
    #[error("/proc/{pid}/stat has no start time in field 22")]
    OddStat {
        /// Its id.
        pid: Pid,
    },
    /// An attribute of this process could not be set.
    #[error("can't set {attribute} for this process")]
    Attribute {
        /// Which one.
        attribute: &'static str,
        /// The kernel's reason.
        source: Errno,
    },
    /// The parent ended before this process could ask to end with it.
    #[error("the parent, process {expected}, ended already")]
    Orphaned {
        /// The parent that was expected.
        expected: Pid,
    },
    /// A bound on a resource could not be set.
    #[error("can't limit {limit} to {value}")]
    SetLimit {
        /// Which one.
        limit: &'static str,
        /// The value, in the limit's unit.
        value: u64,
        /// The kernel's reason.
        source: Errno,
    },
    /// A descriptor that should have been inherited is not there, was taken before, or is one of
    /// the standard three.
    #[error("descriptor {fd} was not inherited; was this program started by hand?")]
    NotInherited {
        /// Its number.
        fd: i32,
    },
    /// Descriptors could not be closed, duplicated or marked.
    #[error("can't {operation} descriptors")]
    Descriptors {
        /// `close`, `mark`, `duplicate` or `place`.
        operation: &'static str,
        /// The kernel's reason.
        source: Errno,
    },
    /// The superuser is no account to become.
    #[error("refused to become uid 0: a job never runs as root")]
    BecomeRoot,
    /// The ids could not be changed.
    #[error("can't {operation} on the way to uid {uid}, gid {gid}")]
    Become {
        /// Which step: `set the groups`, `set the gid`, `set the uid` or `read the ids`.
        operation: &'static str,
        /// The user.
        uid: Uid,
        /// The group.
        gid: Gid,
        /// The kernel's reason.
        source: Errno,
    },
    /// The kernel said yes, but the ids are others.
    #[error("the change to uid {uid}, gid {gid} did not take hold: {found}")]
    NotBecome {
        /// The user.
        uid: Uid,
        /// The group.
        gid: Gid,
        /// What was found instead.
        found: String,
    },
    /// Root could be had again after it was given up.
    #[error("uid {uid} could become root again; it must not run anything")]
    RootRegained {
        /// The user.
        uid: Uid,
    },
    /// Capabilities could not be given up.
    #[error("can't {operation}")]
    Capabilities {
        /// Which step.
        operation: &'static str,
        /// The kernel's reason.
        source: Errno,
    },
    /// Some capability is still there after all were given up.
    #[error("capabilities are left after they were given up: {found}")]
    CapabilitiesLeft {
        /// The set and its bits.
        found: String,
    },
    /// The program could not be started.
    #[error("can't start {}", program.to_string_lossy())]
    Exec {
        /// Its path, or `fd N`.
        program: CString,
        /// The kernel's reason.
        source: Errno,
    },
    /// A report of a started program could not be made or read.
    #[error("can't {operation} the report of a program's start")]
    Report {
        /// `make` or `read`.
        operation: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}
