//! What can go wrong with a mount.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::OddLine;

/// A step of making, moving, taking away or finding mounts that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The namespace belongs to a thread: with more than one its fellows would stay behind.
    #[error("a mount namespace of one's own needs a process with a single thread")]
    Threads {
        /// What is in the way.
        source: Box<crate::process::Error>,
    },
    /// unshare(2) failed.
    #[error("can't make a mount namespace")]
    Namespace {
        /// The kernel's reason; `EPERM` without `CAP_SYS_ADMIN`.
        source: Errno,
    },
    /// The propagation of mounts could not be set.
    #[error("can't set how mounts below {} spread", path.display())]
    Propagation {
        /// Of which mount.
        path: PathBuf,
        /// The kernel's reason; `EINVAL` when it is no mount point.
        source: Errno,
    },
    /// The kernel knows no such file system, or may not mount it.
    #[error("can't prepare a {kind} file system")]
    Prepare {
        /// Its kind.
        kind: String,
        /// The kernel's reason; `ENODEV` when it is not built in.
        source: Errno,
    },
    /// The file system refused an option.
    #[error("the {kind} file system refused {key}={value}")]
    Option {
        /// Its kind.
        kind: String,
        /// The option.
        key: String,
        /// Its value; empty for a flag.
        value: String,
        /// The kernel's reason; `EINVAL` for one that it does not know.
        source: Errno,
    },
    /// The file system could not be mounted.
    #[error("can't mount the {kind} file system")]
    Create {
        /// Its kind.
        kind: String,
        /// The kernel's reason.
        source: Errno,
    },
    /// A part of the tree could not be cloned.
    #[error("can't take a copy of the mount at {}", path.display())]
    Clone {
        /// Its path, or that of the descriptor.
        path: PathBuf,
        /// The kernel's reason.
        source: Errno,
    },
    /// The attributes of a mount could not be set.
    #[error("can't set {wanted} on the mount at {}", path.display())]
    Attributes {
        /// Its path; `(detached)` before it is attached.
        path: PathBuf,
        /// Which ones.
        wanted: String,
        /// The kernel's reason.
        source: Errno,
    },
    /// A mount could not be attached.
    #[error("can't attach a mount at {}", path.display())]
    Attach {
        /// Where.
        path: PathBuf,
        /// The kernel's reason; `ELOOP` for a symbolic link, `ENOTDIR` for a file on a folder.
        source: Errno,
    },
    /// The root could not be changed.
    #[error("can't {operation} {} as the new root", path.display())]
    Root {
        /// Which step.
        operation: &'static str,
        /// The new root.
        path: PathBuf,
        /// The kernel's reason; `EINVAL` when it is no mount point or its parent is shared.
        source: Errno,
    },
    /// It could not be unmounted.
    #[error("can't unmount {}", path.display())]
    Unmount {
        /// Where.
        path: PathBuf,
        /// The kernel's reason: `EBUSY` when it is in use, `EINVAL` when it is no mount point.
        source: Errno,
    },
    /// The device of a path is unknown.
    #[error("can't learn on which device {} lies", path.display())]
    Device {
        /// Which path.
        path: PathBuf,
        /// The kernel's reason.
        source: Errno,
    },
    /// /proc could not be listed.
    #[error("can't list {}; is /proc mounted?", path.display())]
    ListProcesses {
        /// Which folder.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The mounts of a live process could not be read, so nothing is proven.
    #[error("can't read the mounts of process {pid}")]
    ReadMounts {
        /// Its id.
        pid: Pid,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A line of mountinfo is not what proc(5) describes, so nothing is proven.
    #[error("the mounts of process {pid} hold a line that can't be read")]
    OddMounts {
        /// Its id.
        pid: Pid,
        /// Which line.
        source: OddLine,
    },
}
