//! What can go wrong in a lane's directory.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::limits::MAX_DIR_ENTRIES;

/// What went wrong with a lane directory or a file in it.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// The directory itself.
    #[error("can't open the lane directory {path}: it must exist and be no link")]
    OpenDir {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Reading its names.
    #[error("can't list the lane directory {path}")]
    List {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Somebody fills it with names.
    #[error(
        "the lane directory {path} has more than {MAX_DIR_ENTRIES} entries: no lane looks like that, remove it"
    )]
    TooManyEntries {
        /// The directory.
        path: PathBuf,
    },
    /// Another process writes this lane.
    #[error("the lane directory {path} has a writer already: end that process first")]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// Taking the lock failed for another reason than that somebody has it.
    #[error("can't lock the lane directory {path}")]
    Lock {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Opening a file for reading.
    #[error("can't open {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Asking for type, size and links.
    #[error("can't examine {path}")]
    Stat {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A link, pipe, socket, device or directory in the place of a file.
    #[error("{path} is not a regular file: somebody else put it there, remove it")]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// The file has another name as well, so it may be somebody else's.
    #[error("{path} has {links} hard links instead of one: somebody else put it there, remove it")]
    Linked {
        /// The file.
        path: PathBuf,
        /// How many names it has.
        links: u64,
    },
    /// Making a new file or filling it; nothing of it is left.
    #[error("can't create {path}")]
    Create {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The new file may or may not have reached the disk.
    #[error("can't sync the new file {path}: whether it is on disk is unknown")]
    SyncNew {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Giving the finished file its name; nothing of it is left.
    #[error("can't give {path} its name")]
    Rename {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The new file's name may or may not have reached the disk.
    #[error("can't sync the lane directory {path}: whether its newest file is on disk is unknown")]
    SyncDir {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Removing a file.
    #[error("can't remove {path}")]
    Unlink {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl DirError {
    /// After this nobody knows what is on disk.
    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self, Self::SyncNew { .. } | Self::SyncDir { .. })
    }

    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// The name stands for something that was never a file of ours.
    pub(crate) fn is_foreign(&self) -> bool {
        match self {
            Self::NotRegular { .. } | Self::Linked { .. } => true,
            // O_NOFOLLOW met a link; a socket can't be opened at all.
            Self::Open { source, .. } => {
                let errno = source.raw_os_error().map(Errno::from_raw);
                matches!(errno, Some(Errno::ELOOP | Errno::ENXIO))
            }
            _ => false,
        }
    }
}
