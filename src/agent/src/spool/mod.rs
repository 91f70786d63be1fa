//! Lanes on this host: robotd's own, which it writes, and one per attempt, which an attendant
//! writes. All of them are read here and delivered by the link.
//!
//! Nothing of a lane is touched on the runtime's thread: the disk may be slow.

mod blobs;
mod lane;
mod own;
mod registry;

use spool::{DirError, KeyError, ReadError, RecoverError, WriteError};

pub(crate) use blobs::Blob;
pub(crate) use lane::{Lane, LaneKind, LaneReader, Piece};
pub(crate) use own::OwnLane;
pub(crate) use registry::Lanes;

/// Why a lane can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaneError {
    /// Its folder.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// Its key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Reading.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Writing.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Going on with it.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// Making its folder.
    #[error("can't make {}: {source}", path.display())]
    Make {
        /// The folder.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No random bytes for a new epoch.
    #[error("the kernel gave no random bytes: {0}")]
    Random(getrandom::Error),
    /// The thread that works on it ended.
    #[error("the lane's thread is gone")]
    Thread,
}
