//! The segment that is being written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::dir::{LaneDir, no_space};
use crate::dir_error::DirError;
use crate::frame::{self, DiskHeader, FrameHeader, Kind};
use crate::key::LaneKey;
use crate::name::SegmentName;
use crate::seal::{SegmentKey, TAG_BYTES};
use crate::segment::{self, HEADER_COUNTER, seal_header};

const TEMPORARY: &str = "segment.new";

pub(crate) struct Active {
    pub(crate) path: PathBuf,
    file: File,
    key: SegmentKey,
    /// Behind the last good frame.
    len: u64,
    counter: u64,
}

/// Why no new segment began.
#[derive(Debug)]
pub(crate) enum BeginError {
    Random(getrandom::Error),
    Dir(DirError),
}

/// Why a frame was not written.
#[derive(Debug)]
pub(crate) enum FrameFailed {
    /// Disk or quota is full. What had been written of the frame was cut off again.
    NoSpace(io::Error),
    /// What the file holds now can't be said.
    Unknown(io::Error),
}

impl Active {
    /// The file appears whole and synced: a reader that sees it knows that the segment before it
    /// will never grow again.
    pub(crate) fn begin(
        dir: &LaneDir,
        name: &SegmentName,
        key: &LaneKey,
    ) -> Result<Self, BeginError> {
        let (header, key) = seal_header(name, key).map_err(BeginError::Random)?;
        let name = name.to_string();
        let file = dir
            .publish(&name, TEMPORARY, &header)
            .map_err(BeginError::Dir)?;
        Ok(Self {
            path: dir.file_path(&name),
            file,
            key,
            len: segment::HEADER_BYTES as u64,
            counter: HEADER_COUNTER,
        })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn has_frames(&self) -> bool {
        self.len > segment::HEADER_BYTES as u64
    }

    pub(crate) fn append(
        &mut self,
        kind: Kind,
        frame: FrameHeader,
        payload: &[u8],
    ) -> Result<(), FrameFailed> {
        // Used up even when the write fails: parts of this frame may stay on the disk, and the
        // next one under the same nonce would show the difference of the two.
        self.counter += 1;
        let sealed = self.seal(kind, frame, payload);
        match self.file.write_all_at(&sealed, self.len) {
            Ok(()) => {
                self.len += sealed.len() as u64;
                Ok(())
            }
            Err(error) if no_space(&error) => match self.file.set_len(self.len) {
                Ok(()) => Err(FrameFailed::NoSpace(error)),
                Err(error) => Err(FrameFailed::Unknown(error)),
            },
            Err(error) => Err(FrameFailed::Unknown(error)),
        }
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn seal(&self, kind: Kind, frame: FrameHeader, payload: &[u8]) -> Vec<u8> {
        let sealed_bytes = payload.len() + TAG_BYTES;
        let sealed_bytes = u32::try_from(sealed_bytes).expect("the batch was checked before");
        let header = DiskHeader {
            kind,
            counter: self.counter,
            sealed_bytes,
            frame,
        };
        let head = header.encode();
        let mut out = Vec::with_capacity(head.len() + sealed_bytes as usize);
        out.extend(head);
        out.extend(payload);
        let tag = self
            .key
            .seal(self.counter, &head, &mut out[frame::HEADER_BYTES..]);
        out.extend(tag);
        out
    }

    /// For tests of what follows a failure: the kernel's answers come from this file from now on.
    #[cfg(test)]
    pub(crate) fn replace_file(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }
}
