//! What lies in a lane directory, by epoch.

use crate::dir::LaneDir;
use crate::dir_error::DirError;
use crate::epoch::Epoch;
use crate::seq::Seq;

/// One epoch that has segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochOnDisk {
    /// Its name.
    pub epoch: Epoch,
    /// The first record that is still there: everything before it was acknowledged.
    pub first_seq: Seq,
    /// How many segments.
    pub segments: u64,
    /// Their size.
    pub bytes: u64,
}

/// Lists the epochs of a directory, oldest first, by the names of its files alone.
pub fn survey(dir: &LaneDir) -> Result<Vec<EpochOnDisk>, DirError> {
    let mut epochs: Vec<EpochOnDisk> = Vec::new();
    for name in dir.segments()? {
        let bytes = dir.size(&name.to_string())?;
        if let Some(known) = epochs.iter_mut().find(|known| known.epoch == name.epoch) {
            known.first_seq = known.first_seq.min(name.first_seq);
            known.segments += 1;
            known.bytes = known.bytes.saturating_add(bytes);
        } else {
            let (epoch, first_seq) = (name.epoch, name.first_seq);
            epochs.push(EpochOnDisk {
                epoch,
                first_seq,
                segments: 1,
                bytes,
            });
        }
    }
    Ok(epochs)
}

/// Removes all segments of an epoch, acknowledged or not, and returns how many. Refused while
/// somebody writes the directory and the epoch is its newest.
pub fn discard(dir: &LaneDir, epoch: Epoch) -> Result<u64, DirError> {
    let names = dir.segments()?;
    let newest = names.last().is_some_and(|name| name.epoch == epoch);
    let _lock = newest.then(|| dir.lock()).transpose()?;
    let mut removed = 0;
    for name in names.iter().filter(|name| name.epoch == epoch) {
        dir.unlink(&name.to_string())?;
        removed += 1;
    }
    Ok(removed)
}
