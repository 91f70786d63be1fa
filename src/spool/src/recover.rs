//! Going on with a lane that another process wrote before.

use std::io;
use std::path::PathBuf;

use crate::dir::LaneDir;
use crate::dir_error::DirError;
use crate::epoch::Epoch;
use crate::key::LaneKey;
use crate::limits::Limits;
use crate::segment::{Segment, SegmentError};
use crate::seq::Seq;
use crate::walk::{Corruption, find_tail};
use crate::writer::{Position, State, Writer};

/// Why a lane can't be continued.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// No segment at all: begin an epoch with [`Writer::create`].
    #[error("the lane {path} has no segment to go on from: begin a new epoch")]
    Nothing {
        /// The lane's directory.
        path: PathBuf,
    },
    /// The newest segment doesn't say how far the numbers were used. After
    /// [`SegmentError::Header`] begin a new epoch, or numbers might be used twice.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// What was found may not be on disk.
    #[error("can't sync the lane {path}: what it holds may be lost, begin a new epoch")]
    Sync {
        /// The lane's directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The directory, or another writer in it.
    #[error(transparent)]
    Dir(#[from] DirError),
}

/// What a recovery found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The newest epoch, which is continued.
    pub epoch: Epoch,
    /// The number that the next record gets.
    ///
    /// Records that a reader sent before they were synced can be lost with the power, and the
    /// receiver has them. So where the receiver holds this number or a later one durable
    /// (`durable_seq >= next_seq`), the numbers must not be used again: drop this writer, begin
    /// a new epoch with [`Writer::create`] and record a gap. The same holds for a host that was
    /// set back to an older copy of its disk.
    pub next_seq: Seq,
    /// Everything up to here was acknowledged and removed.
    pub acked_floor: Seq,
    /// Bytes behind the last good frame of the newest segment: a frame that was being written
    /// when the process or the power went. Usual.
    pub torn_bytes: u64,
    /// Damage in front of good frames of the newest segment: not usual. The numbers stay used; a
    /// [`crate::Reader`] reports each lost range in its place.
    pub corruption: Option<Corruption>,
    /// The lane was marked as complete. The writer refuses to append.
    pub finished: bool,
}

impl Writer {
    /// Continues the newest epoch of a directory.
    ///
    /// Older files are only read: a torn end stays where it is, cut off by the segment that the
    /// first append begins. So this works for a reader's account as well, which may add files and
    /// remove them but not change another's, when the writer's process is gone for good.
    ///
    /// Segments before the newest are not read: they were whole and synced before the next one
    /// began.
    pub fn recover(
        dir: &LaneDir,
        key: LaneKey,
        limits: Limits,
    ) -> Result<(Self, Found), RecoverError> {
        let lock = dir.lock()?;
        let names = dir.segments()?;
        let newest = *names.last().ok_or_else(|| RecoverError::Nothing {
            path: dir.path().to_owned(),
        })?;
        let (segment, tail) = find_tail(Segment::open(dir, newest, &key)?)?;
        // The process before this one may have died between its write and its sync.
        let sync = |source| RecoverError::Sync {
            path: dir.path().to_owned(),
            source,
        };
        segment.file.sync_data().map_err(sync)?;
        let first_seqs = names.iter().filter(|name| name.epoch == newest.epoch);
        let first = first_seqs
            .map(|name| name.first_seq)
            .min()
            .unwrap_or(newest.first_seq);
        let found = Found {
            epoch: newest.epoch,
            next_seq: tail.next_seq,
            acked_floor: first.before(),
            torn_bytes: tail.torn_bytes,
            corruption: tail.corruption,
            finished: tail.ended,
        };
        let position = Position {
            epoch: newest.epoch,
            last_number: newest.number,
            next_seq: tail.next_seq,
            state: if tail.ended {
                State::Finished
            } else {
                State::Open
            },
        };
        let mut writer = Self::resume(dir.clone(), key, limits, lock, position);
        writer.count()?;
        Ok((writer, found))
    }
}
