//! What a lane may hold. The constants bound what a reader believes of a file that somebody else
//! wrote; the figures of [`Limits`] are the writer's own.

/// Most payload bytes of one frame, as sent.
pub const MAX_PAYLOAD_BYTES: usize = 4 * 1024 * 1024;
/// Most bytes of one batch before compression.
pub const MAX_RAW_BYTES: usize = 4 * 1024 * 1024;
/// Most records of one frame: one frame must not use up a numbering.
pub const MAX_RECORDS: u32 = 1 << 20;

/// Nothing behind this offset of a segment is read. No writer makes a longer one.
pub(crate) const MAX_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Names looked at in a lane directory before it counts as hostile.
pub(crate) const MAX_DIR_ENTRIES: usize = 65_536;
/// Work spent on looking for the next good frame of one damaged segment, in bytes read or opened.
pub(crate) const SEARCH_BUDGET_BYTES: u64 = 4 * MAX_SEGMENT_BYTES;

const MIN_SEGMENT_BYTES: u64 = 4 * 1024;
const MIN_RESERVE_BYTES: u64 = 4 * 1024;

/// Sizes that the writer of a lane keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    segment_bytes: u64,
    max_bytes: u64,
    reserve_bytes: u64,
}

/// Figures that can't be meant.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// Too small to hold frames, or larger than a reader reads.
    #[error(
        "a segment of {0} bytes is out of range: choose {MIN_SEGMENT_BYTES} to {MAX_SEGMENT_BYTES}"
    )]
    SegmentBytes(u64),
    /// No room for the records that say why there is no room.
    #[error(
        "a reserve of {0} bytes can't hold a gap and the end: choose {MIN_RESERVE_BYTES} or more"
    )]
    ReserveBytes(u64),
    /// The lane would be full before its first segment is.
    #[error(
        "a lane of {max_bytes} bytes is too small: choose {least} or more (two segments and the reserve)"
    )]
    MaxBytes {
        /// What was asked for.
        max_bytes: u64,
        /// The least that makes sense with the other figures.
        least: u64,
    },
}

impl Limits {
    /// `segment_bytes` is where a new segment begins, `max_bytes` the size of all segments in the
    /// directory, `reserve_bytes` the part of it that only [`crate::Writer::append_reserved`] and
    /// [`crate::Writer::finish`] may use.
    pub fn new(
        segment_bytes: u64,
        max_bytes: u64,
        reserve_bytes: u64,
    ) -> Result<Self, LimitsError> {
        if !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&segment_bytes) {
            return Err(LimitsError::SegmentBytes(segment_bytes));
        }
        if reserve_bytes < MIN_RESERVE_BYTES {
            return Err(LimitsError::ReserveBytes(reserve_bytes));
        }
        let least = (2 * segment_bytes).checked_add(reserve_bytes);
        if least.is_none_or(|least| max_bytes < least) {
            let least = least.unwrap_or(u64::MAX);
            return Err(LimitsError::MaxBytes { max_bytes, least });
        }
        Ok(Self {
            segment_bytes,
            max_bytes,
            reserve_bytes,
        })
    }

    pub(crate) const fn segment_bytes(self) -> u64 {
        self.segment_bytes
    }

    /// What may lie in the directory after an append that may, or may not, use the reserve.
    pub(crate) const fn ceiling(self, room: Room) -> u64 {
        match room {
            Room::Ordinary => self.max_bytes - self.reserve_bytes,
            Room::Reserved => self.max_bytes,
        }
    }
}

impl Default for Limits {
    /// 16 MiB segments, 1 GiB in all, 1 MiB of it reserved.
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            max_bytes: 1 << 30,
            reserve_bytes: 1 << 20,
        }
    }
}

/// Which part of the lane an append may fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Ordinary,
    Reserved,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_cannot_work_are_refused_with_the_reason() {
        assert_eq!(
            Limits::new(4095, 1 << 20, 4096),
            Err(LimitsError::SegmentBytes(4095))
        );
        assert_eq!(
            Limits::new(MAX_SEGMENT_BYTES + 1, u64::MAX, 4096),
            Err(LimitsError::SegmentBytes(MAX_SEGMENT_BYTES + 1))
        );
        assert_eq!(
            Limits::new(4096, 1 << 20, 100),
            Err(LimitsError::ReserveBytes(100))
        );
        assert_eq!(
            Limits::new(4096, 12_287, 4096),
            Err(LimitsError::MaxBytes {
                max_bytes: 12_287,
                least: 12_288
            })
        );
        assert!(
            Limits::new(4096, u64::MAX, u64::MAX).is_err(),
            "the reserve takes it all"
        );
        assert!(Limits::new(4096, 12_288, 4096).is_ok());
    }

    #[test]
    fn the_default_figures_pass_their_own_rules() {
        let figures = Limits::default();
        assert_eq!(
            Limits::new(
                figures.segment_bytes,
                figures.max_bytes,
                figures.reserve_bytes
            ),
            Ok(figures)
        );
    }
}
