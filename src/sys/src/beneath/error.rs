//! What can go wrong below a folder.

use std::ffi::OsString;
use std::path::PathBuf;

use nix::errno::Errno;

use super::Removed;

/// An operation below a folder that failed. Names are relative to it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder could not be opened.
    #[error("can't open the folder {}", path.display())]
    OpenRoot {
        /// Its path.
        path: PathBuf,
        /// The kernel's reason; `ENOTDIR` also for a symbolic link.
        source: Errno,
    },
    /// A descriptor that was handed over is not a folder.
    #[error("the descriptor is not a folder")]
    NotAFolder,
    /// A name is empty, `.`, `..`, or holds a slash or a zero byte.
    #[error("{} is not a plain file name", name.display())]
    BadName {
        /// The name.
        name: OsString,
    },
    /// A file was expected, and something else has that name.
    #[error("{} is not a regular file", name.display())]
    NotAFile {
        /// Its name.
        name: PathBuf,
    },
    /// It could not be opened.
    #[error("can't open {}", name.display())]
    Open {
        /// Its name.
        name: PathBuf,
        /// The kernel's reason: `ELOOP` for a symbolic link on the way, `EXDEV` for another
        /// mount or a way out of the folder.
        source: Errno,
    },
    /// It could not be made.
    #[error("can't create {}", name.display())]
    Create {
        /// Its name.
        name: PathBuf,
        /// The kernel's reason; `EEXIST` when the name is taken.
        source: Errno,
    },
    /// It could not be removed.
    #[error("can't remove {}", name.display())]
    Remove {
        /// Its name.
        name: PathBuf,
        /// The kernel's reason.
        source: Errno,
    },
    /// It could not be renamed.
    #[error("can't rename {} to {}", from.display(), to.display())]
    Rename {
        /// Its name.
        from: PathBuf,
        /// Its new name.
        to: PathBuf,
        /// The kernel's reason; `EEXIST` when the new name is taken.
        source: Errno,
    },
    /// The folder's content could not be listed.
    #[error("can't list a folder")]
    List {
        /// The kernel's reason.
        source: Errno,
    },
    /// Facts about it could not be learnt.
    #[error("can't examine {}", name.display())]
    Examine {
        /// Its name.
        name: PathBuf,
        /// The kernel's reason.
        source: Errno,
    },
    /// Its owner, access bits or attributes could not be changed.
    #[error("can't change {what} of {}", name.display())]
    Change {
        /// What was to be changed.
        what: &'static str,
        /// Its name.
        name: PathBuf,
        /// The kernel's reason.
        source: Errno,
    },
    /// A mount below the folder could not be detached.
    #[error("can't detach the mount at {}", name.display())]
    Detach {
        /// Its name.
        name: PathBuf,
        /// The kernel's reason.
        source: Errno,
    },
    /// What has that name is not a socket.
    #[error("{} is not a socket", name.display())]
    NotASocket {
        /// Its name.
        name: PathBuf,
    },
    /// Nobody could be reached at a socket.
    #[error("can't connect to the socket {}", name.display())]
    Connect {
        /// Its name.
        name: PathBuf,
        /// The kernel's reason.
        source: std::io::Error,
    },
    /// A name became something else each time that it was looked at.
    #[error("{} changes all the time", name.display())]
    Unsteady {
        /// The name.
        name: OsString,
    },
    /// Not all of a tree could be removed.
    #[error("{count} entries can't be removed after {} were; the first", removed.entries())]
    Left {
        /// How many, at least.
        count: u64,
        /// What went.
        removed: Box<Removed>,
        /// Why the first one stays.
        #[source]
        first: Box<Error>,
    },
    /// The process that was to remove a tree did not do it.
    #[error("the process that removes {} {reason}", path.display())]
    Apart {
        /// The tree.
        path: PathBuf,
        /// What it said, or what became of it.
        reason: String,
    },
}
