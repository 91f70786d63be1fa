//! What can go wrong with a control group.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::Pid;

/// An operation on a control group that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The mounts of this process could not be read.
    #[error("can't look for the cgroup2 mount")]
    ReadMounts {
        /// What went wrong.
        source: crate::mount::Error,
    },
    /// The kernel or the host has no version 2.
    #[error("cgroup version 2 is not mounted; mount it: mount -t cgroup2 none /sys/fs/cgroup")]
    NotMounted,
    /// In which group a process is could not be read.
    #[error("can't read /proc/{pid}/cgroup")]
    ReadPlace {
        /// Which process.
        pid: Pid,
        /// The kernel's reason; `NotFound` when it has ended.
        source: io::Error,
    },
    /// `/proc/PID/cgroup` has no line of version 2.
    #[error("/proc/{pid}/cgroup has no line that begins with 0::")]
    NoPlace {
        /// Which process.
        pid: Pid,
    },
    /// A name that is not one part of a path.
    #[error("{name:?} is not the name of a control group")]
    BadName {
        /// The name.
        name: String,
    },
    /// There is no such group, or it can't be entered.
    #[error("can't open the control group {}", path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A group could not be made.
    #[error("can't make the control group {}", path.display())]
    Create {
        /// Its path.
        path: PathBuf,
        /// The kernel's reason; `AlreadyExists` when it is there.
        source: io::Error,
    },
    /// A file of a group could not be read.
    #[error("can't read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A file of a group could not be written.
    #[error("can't write {value:?} to {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The value.
        value: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Waiting for a group to become empty failed.
    #[error("can't wait until {} is empty", path.display())]
    Wait {
        /// Its path.
        path: PathBuf,
        /// What went wrong.
        source: crate::poll::Error,
    },
    /// Processes are left in it.
    #[error("the control group {} still holds processes after {waited:?}", path.display())]
    NotEmpty {
        /// Its path.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// A process in it could not be killed.
    #[error("can't kill a process in {}", path.display())]
    Kill {
        /// The group.
        path: PathBuf,
        /// What went wrong.
        source: crate::process::Error,
    },
    /// It could not be removed.
    #[error("can't remove the control group {}", path.display())]
    Remove {
        /// Its path.
        path: PathBuf,
        /// The kernel's reason; `ResourceBusy` while processes are in it.
        source: io::Error,
    },
    /// It has more groups below it than any job of ours makes.
    #[error("the control group {} has more than {limit} groups below it; not removed", path.display())]
    TooManyBelow {
        /// Its path.
        path: PathBuf,
        /// The bound.
        limit: usize,
    },
}
