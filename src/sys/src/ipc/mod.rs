//! Shared memory, semaphores and message queues that a user left behind.
//!
//! They live as long as their ipc namespace. A job has one of its own, so on the host none
//! should be there; logind's `RemoveIPC` does not look at accounts of the system.

mod files;
mod system_v;

use std::path::Path;

use nix::errno::Errno;
use nix::unistd::Uid;

use std::io;
use std::path::PathBuf;

/// What a user has, or what was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Objects {
    /// System V shared memory segments.
    pub segments: usize,
    /// System V semaphore sets.
    pub semaphores: usize,
    /// System V message queues.
    pub queues: usize,
    /// Names in `/dev/shm` (POSIX shared memory and semaphores, and whatever was put there).
    pub shared_files: usize,
    /// POSIX message queues; 0 where `/dev/mqueue` is not mounted.
    pub posix_queues: usize,
}

impl Objects {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// Objects that could not be found or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A table of the kernel could not be read.
    #[error("can't read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A table of the kernel is not what proc(5) describes.
    #[error("{} has a line without id and owner", path.display())]
    OddTable {
        /// Which.
        path: PathBuf,
    },
    /// A System V object could not be removed.
    #[error("can't remove the {kind} with id {id}")]
    RemoveObject {
        /// `shared memory segment`, `semaphore set` or `message queue`.
        kind: &'static str,
        /// Its id.
        id: i32,
        /// The kernel's reason.
        source: Errno,
    },
    /// A folder could not be listed, or a file in it not removed.
    #[error("can't clear {} of the user's files", path.display())]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// What went wrong.
        source: crate::beneath::Error,
    },
}

const SHARED_FILES: &str = "/dev/shm";
const POSIX_QUEUES: &str = "/dev/mqueue";

/// Counts what this user owns or has made in the calling process's ipc namespace.
///
/// # Errors
///
/// [`Error::Read`], [`Error::OddTable`] and [`Error::Folder`].
pub fn count(uid: Uid) -> Result<Objects, Error> {
    Ok(Objects {
        segments: system_v::SEGMENTS.owned_by(uid)?.len(),
        semaphores: system_v::SEMAPHORES.owned_by(uid)?.len(),
        queues: system_v::QUEUES.owned_by(uid)?.len(),
        shared_files: files::count(Path::new(SHARED_FILES), uid)?,
        posix_queues: files::count(Path::new(POSIX_QUEUES), uid)?,
    })
}

/// Removes what this user owns or has made in the calling process's ipc namespace, and returns
/// how many there were. Folders that it made in `/dev/shm` go when they are empty; others stay and
/// are [`count`]ed, for the wipe of trees is another's work. The user's processes must be gone.
///
/// # Errors
///
/// As [`count`], and [`Error::RemoveObject`].
pub fn remove(uid: Uid) -> Result<Objects, Error> {
    Ok(Objects {
        segments: system_v::SEGMENTS.remove_of(uid)?,
        semaphores: system_v::SEMAPHORES.remove_of(uid)?,
        queues: system_v::QUEUES.remove_of(uid)?,
        shared_files: files::remove(Path::new(SHARED_FILES), uid)?,
        posix_queues: files::remove(Path::new(POSIX_QUEUES), uid)?,
    })
}
