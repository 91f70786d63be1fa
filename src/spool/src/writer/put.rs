//! Putting frames into segments, and what a failure there means for the writer.

use std::io;

use super::{State, Writer, frame_bytes};
use crate::active::{Active, BeginError, FrameFailed};
use crate::dir::no_space;
use crate::dir_error::DirError;
use crate::frame::{FrameHeader, Kind};
use crate::name::SegmentName;
use crate::write_error::WriteError;

impl Writer {
    pub(super) fn write(
        &mut self,
        kind: Kind,
        header: FrameHeader,
        payload: &[u8],
    ) -> Result<(), WriteError> {
        let bytes = frame_bytes(payload.len());
        let limit = self.limits.segment_bytes();
        let fits = |active: &Active| !active.has_frames() || active.len() + bytes <= limit;
        if !self.active.as_ref().is_some_and(fits) {
            self.begin_segment()?;
        }
        let Some(active) = &mut self.active else {
            return Err(self.poisoned());
        };
        match active.append(kind, header, payload) {
            Ok(()) => {
                self.used += bytes;
                Ok(())
            }
            Err(FrameFailed::NoSpace(source)) => Err(WriteError::NoSpace {
                path: self.path(),
                source,
            }),
            Err(FrameFailed::Unknown(source)) => {
                let path = active.path.clone();
                self.poison();
                Err(WriteError::Write { path, source })
            }
        }
    }

    /// The old segment is synced before the new one appears, so only the newest can be torn.
    pub(super) fn begin_segment(&mut self) -> Result<(), WriteError> {
        self.sync()?;
        let name = SegmentName {
            number: self.last_number + 1,
            first_seq: self.next_seq,
            epoch: self.epoch,
        };
        if SegmentName::parse(&name.to_string()).is_none() {
            return Err(WriteError::NumbersUsedUp { path: self.path() });
        }
        match Active::begin(&self.dir, &name, &self.key) {
            Ok(active) => {
                self.used += active.len();
                self.active = Some(active);
                self.last_number = name.number;
                Ok(())
            }
            Err(BeginError::Random(error)) => Err(WriteError::Random(error)),
            Err(BeginError::Dir(error)) => Err(self.begin_failed(error)),
        }
    }

    fn begin_failed(&mut self, error: DirError) -> WriteError {
        match error {
            DirError::Create { path, source } | DirError::Rename { path, source }
                if no_space(&source) =>
            {
                WriteError::NoSpace { path, source }
            }
            error => {
                if error.is_unknown() {
                    self.poison();
                }
                WriteError::Dir(error)
            }
        }
    }

    pub(super) fn sync_failed(&mut self, source: io::Error) -> WriteError {
        let path = self
            .active
            .as_ref()
            .map_or_else(|| self.path(), |active| active.path.clone());
        self.poison();
        WriteError::Sync {
            path,
            first_unsynced: self.durable_seq.next(),
            source,
        }
    }

    /// After a failed sync the kernel has marked the pages clean: a second one on this file would
    /// succeed without a byte written. So the file is closed.
    fn poison(&mut self) {
        self.state = State::Poisoned;
        self.active = None;
    }
}
