//! How much a lane may hold.

use super::{Writer, frame_bytes};
use crate::active::Active;
use crate::dir_error::DirError;
use crate::limits::Room;
use crate::segment;
use crate::write_error::WriteError;

impl Writer {
    pub(super) fn make_room(&mut self, payload: usize, room: Room) -> Result<(), WriteError> {
        // Always with the header of a segment: whether one begins is decided later.
        let need = frame_bytes(payload) + segment::HEADER_BYTES as u64;
        let ceiling = self.limits.ceiling(room);
        if need > ceiling {
            return Err(WriteError::LargerThanLane {
                path: self.path(),
                frame: need,
            });
        }
        if self.used.saturating_add(need) > ceiling {
            self.count()?;
        }
        if self.used.saturating_add(need) <= ceiling {
            return Ok(());
        }
        let bytes = self.used;
        self.release(need, ceiling)?;
        Err(WriteError::Full {
            path: self.path(),
            bytes,
        })
    }

    /// Nobody may remove the segment that is being written. When it alone keeps the lane full, it
    /// has to end, or the lane would stay full when all of it is acknowledged.
    fn release(&mut self, need: u64, ceiling: u64) -> Result<(), WriteError> {
        let alone = |active: &Active| active.has_frames() && active.len() + need > ceiling;
        if !self.active.as_ref().is_some_and(alone) {
            return Ok(());
        }
        match self.begin_segment() {
            Err(WriteError::NoSpace { .. }) => Ok(()),
            other => other,
        }
    }

    pub(crate) fn count(&mut self) -> Result<(), DirError> {
        let mut used = 0u64;
        for name in self.dir.segments()? {
            used = used.saturating_add(self.dir.size(&name.to_string())?);
        }
        self.used = used;
        Ok(())
    }
}
