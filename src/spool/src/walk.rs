//! Going through the frames of one segment, in the face of damage.
//!
//! Nothing in the file is believed before its tag is verified, except the length, which is bounded
//! first. The search for the next good frame behind a damaged one has a budget, since a file can
//! be made of things that look like frames.

use crate::frame::{self, DiskHeader, Kind};
use crate::limits::SEARCH_BUDGET_BYTES;
use crate::segment::{self, Segment, SegmentError};
use crate::seq::{Seq, SeqRange};

const WINDOW_BYTES: u64 = 64 * 1024;
/// What looking at one candidate costs besides opening it: a read of its own.
const CANDIDATE_COST: u64 = 1024;

/// A frame that was opened.
pub(crate) struct Found {
    pub(crate) header: DiskHeader,
    pub(crate) payload: Vec<u8>,
}

/// What lies at the present place.
pub(crate) enum Look {
    Found(Found),
    /// The file ends before the frame does, or where one would begin.
    Partial,
    Bad,
}

/// A place in a segment.
pub(crate) struct Walk {
    pub(crate) segment: Segment,
    offset: u64,
    /// Of the last frame passed. Frames behind it count higher.
    counter: u64,
    budget: u64,
    /// Where and up to which length a search found nothing, so that waiting costs none.
    searched: Option<(u64, u64)>,
}

impl Walk {
    pub(crate) fn new(segment: Segment) -> Self {
        Self {
            segment,
            offset: segment::HEADER_BYTES as u64,
            counter: segment::HEADER_COUNTER,
            budget: SEARCH_BUDGET_BYTES,
            searched: None,
        }
    }

    /// Looks for a frame at this place that begins with record `next` or a later one.
    pub(crate) fn look(&self, next: Seq) -> Result<Look, SegmentError> {
        match self.header_at(self.offset, next)? {
            Look::Found(found) => self.open_at(self.offset, found.header),
            other => Ok(other),
        }
    }

    /// Goes on behind a frame found at this place.
    pub(crate) fn pass(&mut self, header: &DiskHeader) {
        self.offset += header.disk_bytes();
        self.counter = header.counter;
    }

    /// Finds the next good frame behind this place.
    pub(crate) fn search(&mut self, next: Seq) -> Result<Option<u64>, SegmentError> {
        let len = self.segment.len()?;
        if self.searched == Some((self.offset, len)) {
            return Ok(None);
        }
        let found = self.search_up_to(len, next)?;
        if found.is_none() {
            self.searched = Some((self.offset, len));
        }
        Ok(found)
    }

    /// Goes to a frame that [`Walk::search`] found.
    pub(crate) fn jump(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// Bytes that were not passed.
    pub(crate) fn rest(&self) -> Result<u64, SegmentError> {
        Ok(self.segment.len()?.saturating_sub(self.offset))
    }

    fn search_up_to(&mut self, len: u64, next: Seq) -> Result<Option<u64>, SegmentError> {
        let mut window = vec![0; WINDOW_BYTES as usize];
        let mut start = self.offset + 1;
        while start + frame::HEADER_BYTES as u64 <= len {
            let bytes = WINDOW_BYTES.min(len - start);
            let window = &mut window[..bytes as usize];
            if !self.spend(bytes) || !self.segment.read_at(window, start)? {
                return Ok(None);
            }
            let candidates = window.windows(frame::MAGIC.len()).enumerate();
            for (at, _) in candidates.filter(|(_, part)| *part == frame::MAGIC) {
                let offset = start + at as u64;
                if self.is_good(offset, next)? {
                    return Ok(Some(offset));
                }
            }
            // A magic may lie across the border of two windows.
            start += bytes - (frame::MAGIC.len() as u64 - 1);
        }
        Ok(None)
    }

    fn is_good(&mut self, offset: u64, next: Seq) -> Result<bool, SegmentError> {
        if !self.spend(CANDIDATE_COST) {
            return Ok(false);
        }
        let Look::Found(Found { header, .. }) = self.header_at(offset, next)? else {
            return Ok(false);
        };
        let opened = self.spend(header.disk_bytes()) && {
            matches!(self.open_at(offset, header)?, Look::Found(_))
        };
        Ok(opened)
    }

    fn spend(&mut self, bytes: u64) -> bool {
        let left = self.budget.checked_sub(bytes);
        self.budget = left.unwrap_or(0);
        left.is_some()
    }

    /// A header, its payload still empty, that is usual, whole and in order.
    fn header_at(&self, offset: u64, next: Seq) -> Result<Look, SegmentError> {
        let rest = self.segment.len()?.saturating_sub(offset);
        let mut bytes = [0; frame::HEADER_BYTES];
        if rest < frame::HEADER_BYTES as u64 || !self.segment.read_at(&mut bytes, offset)? {
            return Ok(Look::Partial);
        }
        let in_order =
            |header: &DiskHeader| header.counter > self.counter && header.frame.first_seq >= next;
        Ok(match DiskHeader::decode(&bytes).filter(in_order) {
            None => Look::Bad,
            Some(header) if rest < header.disk_bytes() => Look::Partial,
            Some(header) => Look::Found(Found {
                header,
                payload: Vec::new(),
            }),
        })
    }

    fn open_at(&self, offset: u64, header: DiskHeader) -> Result<Look, SegmentError> {
        let mut payload = vec![0; header.sealed_bytes as usize];
        if !self
            .segment
            .read_at(&mut payload, offset + frame::HEADER_BYTES as u64)?
        {
            return Ok(Look::Partial);
        }
        let good = self
            .segment
            .key
            .open(header.counter, &header.encode(), &mut payload)
            && crc32c::crc32c(&payload) == header.frame.crc32c;
        Ok(if good {
            Look::Found(Found { header, payload })
        } else {
            Look::Bad
        })
    }
}

/// Records that a damaged segment does not give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// How many.
    pub records: u64,
    /// The first and the last of them; records between the two may be fine.
    pub within: SeqRange,
}

/// Where the frames of a segment end.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) next_seq: Seq,
    /// No record follows, ever.
    pub(crate) ended: bool,
    /// Bytes behind the last good frame.
    pub(crate) torn_bytes: u64,
    pub(crate) corruption: Option<Corruption>,
}

/// Goes through a whole segment.
pub(crate) fn find_tail(segment: Segment) -> Result<(Segment, Tail), SegmentError> {
    let mut tail = Tail {
        next_seq: segment.name.first_seq,
        ended: false,
        torn_bytes: 0,
        corruption: None,
    };
    let mut walk = Walk::new(segment);
    while !tail.ended {
        if let Look::Found(found) = walk.look(tail.next_seq)? {
            walk.pass(&found.header);
            tail.note(&found.header);
        } else if let Some(offset) = walk.search(tail.next_seq)? {
            walk.jump(offset);
        } else {
            break;
        }
    }
    tail.torn_bytes = walk.rest()?;
    Ok((walk.segment, tail))
}

impl Tail {
    fn note(&mut self, header: &DiskHeader) {
        if let Some(lost) = SeqRange::until(self.next_seq, header.frame.first_seq) {
            let before = self
                .corruption
                .map_or((0, lost.first), |c| (c.records, c.within.first));
            let within = SeqRange {
                first: before.1,
                last: lost.last,
            };
            self.corruption = Some(Corruption {
                records: before.0 + lost.count(),
                within,
            });
        }
        self.next_seq = header.next_seq();
        self.ended = header.kind == Kind::End;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::active::Active;
    use crate::dir::LaneDir;
    use crate::epoch::Epoch;
    use crate::frame::{Codec, FrameHeader};
    use crate::key::LaneKey;
    use crate::name::SegmentName;

    /// Who writes the lane has its key, and can seal what [`crate::Writer`] never would.
    #[test]
    fn a_sealed_frame_whose_checksum_is_not_that_of_its_payload_is_bad() {
        let place = tempfile::tempdir().unwrap();
        let dir = LaneDir::open(place.path()).unwrap();
        let key = LaneKey::from_bytes(&[3; 32]);
        let epoch = Epoch::from_bytes([4; 16]);
        let name = SegmentName {
            number: 1,
            first_seq: Seq::FIRST,
            epoch,
        };
        let mut active = Active::begin(&dir, &name, &key).unwrap();
        let header = |crc32c| FrameHeader {
            first_seq: Seq::FIRST,
            record_count: 1,
            codec: Codec::Plain,
            raw_bytes: 7,
            crc32c,
        };
        active.append(Kind::Records, header(1), b"payload").unwrap();
        let mut walk = Walk::new(Segment::open(&dir, name, &key).unwrap());
        assert!(matches!(walk.look(Seq::FIRST), Ok(Look::Bad)));

        let right = header(crc32c::crc32c(b"payload"));
        active.append(Kind::Records, right, b"payload").unwrap();
        let good = walk.search(Seq::FIRST).unwrap().unwrap();
        walk.jump(good);
        assert!(
            matches!(walk.look(Seq::FIRST), Ok(Look::Found(found)) if found.payload == b"payload")
        );
    }
}
