//! One lane's file: frames one after the other, each with its length in front.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::durable;
use crate::refused::Refused;
use crate::store::LaneRow;

/// In front of each frame: its length, little-endian.
pub(super) const HEADER: usize = 4;

/// Where the frames of a lane are: together with the other lanes of the attempt or of the agent.
pub(super) fn path(data_dir: &Path, lane: &LaneRow) -> PathBuf {
    let folder = match lane.attempt {
        Some(attempt) => format!("attempt-{attempt}"),
        None => format!("agent-{}", lane.agent),
    };
    data_dir
        .join("frames")
        .join(folder)
        .join(format!("{}.frames", lane.id))
}

/// A lane's file, opened for appending at a length that the store knows.
#[derive(Debug)]
pub(super) struct FrameFile {
    path: PathBuf,
    file: File,
}

impl FrameFile {
    /// Opens or makes the file and cuts off what was never acknowledged.
    pub(super) fn open(data_dir: &Path, lane: &LaneRow) -> Result<Self, Refused> {
        let path = path(data_dir, lane);
        let fail = |error: io::Error| Refused::io("can't open", &path, &error);
        let folder = path.parent().unwrap_or(data_dir);
        durable::private_dir(folder)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        if length < lane.bytes {
            return Err(Refused::unavailable(
                "ARCHIVE_DAMAGED",
                format!(
                    "{} has {length} bytes, {} were acknowledged",
                    path.display(),
                    lane.bytes
                ),
            ));
        }
        file.set_len(lane.bytes).map_err(fail)?;
        // The file's name must survive what its content survives.
        durable::sync_dir(folder).map_err(fail)?;
        durable::sync_dir(folder.parent().unwrap_or(data_dir)).map_err(fail)?;
        Ok(Self { path, file })
    }

    /// Writes one frame at `offset`; gives the offset behind it.
    pub(super) fn append(&self, offset: u64, frame: &[u8]) -> Result<u64, Refused> {
        let length = u32::try_from(frame.len())
            .map_err(|_| Refused::invalid("FRAME_TOO_LARGE", "the frame is too large"))?;
        let bytes = [&length.to_le_bytes(), frame].concat();
        self.file
            .write_all_at(&bytes, offset)
            .map_err(|error| Refused::io("can't write", &self.path, &error))?;
        Ok(offset + bytes.len() as u64)
    }

    pub(super) fn sync(&self) -> Result<(), Refused> {
        self.file
            .sync_data()
            .map_err(|error| Refused::io("can't sync", &self.path, &error))
    }

    /// Gives back the space of what was not acknowledged; the content does not matter then.
    pub(super) fn cut(&self, length: u64) {
        if let Err(error) = self.file.set_len(length) {
            tracing::error!(path = %self.path.display(), %error, "could not cut an unfinished append");
        }
    }
}
