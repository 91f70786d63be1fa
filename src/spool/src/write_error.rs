//! What can go wrong with writing.

use std::io;
use std::path::PathBuf;

use crate::batch::BatchError;
use crate::dir_error::DirError;
use crate::epoch::Epoch;
use crate::seq::Seq;

/// What went wrong with writing a lane. After [`WriteError::Write`], [`WriteError::Sync`] and a
/// [`WriteError::Dir`] that could not sync, every call returns [`WriteError::Poisoned`].
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Nothing was written.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Nothing was written. It comes back when a reader has acknowledged a segment.
    #[error("the lane {path} is full with {bytes} bytes: wait for acknowledgements or write a gap")]
    Full {
        /// The lane's directory.
        path: PathBuf,
        /// What its segments hold.
        bytes: u64,
    },
    /// Nothing will ever make room for this one.
    #[error("a frame of {frame} bytes is larger than the lane {path} may be")]
    LargerThanLane {
        /// The lane's directory.
        path: PathBuf,
        /// Size on disk.
        frame: u64,
    },
    /// Nothing was written. It comes back when the file system has room again.
    #[error("no space for the lane {path}: make room on its file system")]
    NoSpace {
        /// The lane's directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A write failed for another reason than space.
    #[error("can't write {path}: the lane must be recovered")]
    Write {
        /// The segment.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// What was written may be lost; the kernel says so only once. Until the next boot a reader and
    /// a recovery may still get these records from memory. Where the disk has them not, they are
    /// reported as lost later, never silently missing.
    #[error(
        "can't sync {path}: records from {first_unsynced} on may be lost, the lane must be recovered"
    )]
    Sync {
        /// The segment.
        path: PathBuf,
        /// The first record that may be lost.
        first_unsynced: Seq,
        /// The cause.
        source: io::Error,
    },
    /// An earlier write or sync failed.
    #[error("the lane {path} can't be written since a write or sync failed: recover it")]
    Poisoned {
        /// The lane's directory.
        path: PathBuf,
    },
    /// [`Writer::finish`] was called before, perhaps by an earlier process.
    #[error("the lane {path} is finished: no record can follow")]
    Finished {
        /// The lane's directory.
        path: PathBuf,
    },
    /// Records or segments can't be counted any further.
    #[error("the lane {path} has used up its numbers: begin a new epoch")]
    NumbersUsedUp {
        /// The lane's directory.
        path: PathBuf,
    },
    /// A new epoch must be new.
    #[error("the lane {path} has segments of the epoch {epoch}: recover it or choose a new one")]
    EpochExists {
        /// The lane's directory.
        path: PathBuf,
        /// The epoch that was to begin.
        epoch: Epoch,
    },
    /// No salt for a new segment.
    #[error("the kernel gave no random bytes for a new segment")]
    Random(#[source] getrandom::Error),
    /// The directory or a new segment in it.
    #[error(transparent)]
    Dir(#[from] DirError),
}
