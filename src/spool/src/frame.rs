//! Frames: the unit on disk and on the wire.

use std::fmt;

use crate::limits::{MAX_PAYLOAD_BYTES, MAX_RAW_BYTES, MAX_RECORDS};
use crate::seal::TAG_BYTES;
use crate::seq::{Seq, SeqRange};

/// How the payload of a frame is encoded. The numbers are those of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// The encoded batch as it is.
    Plain = 1,
    /// The encoded batch in one zstd frame.
    Zstd = 2,
}

/// What the wire says about a frame besides its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Number of the first record.
    pub first_seq: Seq,
    /// Number of records, 1 or more.
    pub record_count: u32,
    /// How the payload is encoded.
    pub codec: Codec,
    /// Bytes after decompression, [`MAX_RAW_BYTES`] at most. It is the writer's word: a receiver
    /// that decompresses must stop there by itself.
    pub raw_bytes: u32,
    /// CRC-32C of the payload.
    pub crc32c: u32,
}

impl FrameHeader {
    /// The records of this frame.
    pub fn records(&self) -> SeqRange {
        let last = Seq::new(self.first_seq.get() + u64::from(self.record_count) - 1);
        SeqRange {
            first: self.first_seq,
            last,
        }
    }
}

/// A frame as it goes on the wire.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the wire says besides the payload.
    pub header: FrameHeader,
    /// The encoded batch, exactly as it was appended.
    pub payload: Vec<u8>,
}

impl fmt::Debug for Frame {
    /// Without the payload: it is what a bot printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

pub(crate) const MAGIC: [u8; 4] = *b"\xb5fr1";
pub(crate) const HEADER_BYTES: usize = 44;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Records = 1,
    /// The lane is complete: no record follows. `first_seq` is the number it would have had.
    End = 2,
}

/// What stands on disk in front of the sealed payload, and is authenticated with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiskHeader {
    pub(crate) kind: Kind,
    /// Grows from frame to frame and is never used twice under one segment's key.
    pub(crate) counter: u64,
    /// Payload and tag.
    pub(crate) sealed_bytes: u32,
    pub(crate) frame: FrameHeader,
}

impl DiskHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..4].copy_from_slice(&MAGIC);
        out[4..8].copy_from_slice(&self.sealed_bytes.to_le_bytes());
        out[8] = self.kind as u8;
        out[9] = self.frame.codec as u8;
        out[12..16].copy_from_slice(&self.frame.record_count.to_le_bytes());
        out[16..24].copy_from_slice(&self.frame.first_seq.get().to_le_bytes());
        out[24..32].copy_from_slice(&self.counter.to_le_bytes());
        out[32..36].copy_from_slice(&self.frame.raw_bytes.to_le_bytes());
        out[36..40].copy_from_slice(&self.frame.crc32c.to_le_bytes());
        let checksum = crc32c::crc32c(&out[..40]);
        out[40..44].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// None for everything that no writer makes. The checksum here is not for security: it lets
    /// damage be told from a frame before its length is believed.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let whole = bytes[0..4] == MAGIC
            && bytes[10..12] == [0, 0]
            && u32_at(bytes, 40) == crc32c::crc32c(&bytes[..40]);
        whole.then_some(())?;
        let header = Self {
            kind: match bytes[8] {
                1 => Kind::Records,
                2 => Kind::End,
                _ => return None,
            },
            counter: u64_at(bytes, 24),
            sealed_bytes: u32_at(bytes, 4),
            frame: FrameHeader {
                first_seq: Seq::new(u64_at(bytes, 16)),
                record_count: u32_at(bytes, 12),
                codec: match bytes[9] {
                    1 => Codec::Plain,
                    2 => Codec::Zstd,
                    _ => return None,
                },
                raw_bytes: u32_at(bytes, 32),
                crc32c: u32_at(bytes, 36),
            },
        };
        header.usual().then_some(header)
    }

    fn usual(&self) -> bool {
        let Some(payload) = (self.sealed_bytes as usize).checked_sub(TAG_BYTES) else {
            return false;
        };
        let frame = &self.frame;
        let kind = match self.kind {
            Kind::Records => {
                (1..=MAX_RECORDS).contains(&frame.record_count)
                    && (1..=MAX_PAYLOAD_BYTES).contains(&payload)
                    && frame.raw_bytes as usize <= MAX_RAW_BYTES
                    && (frame.codec == Codec::Zstd || frame.raw_bytes as usize == payload)
            }
            Kind::End => frame.record_count == 0 && payload == 0 && frame.raw_bytes == 0,
        };
        kind && frame.first_seq >= Seq::FIRST
            && frame.first_seq.advance(frame.record_count).is_some()
    }

    /// The number after the last record of this frame.
    pub(crate) fn next_seq(&self) -> Seq {
        Seq::new(self.frame.first_seq.get() + u64::from(self.frame.record_count))
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.sealed_bytes)
    }
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    let mut part = [0; 4];
    part.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(part)
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut part = [0; 8];
    part.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usual() -> DiskHeader {
        DiskHeader {
            kind: Kind::Records,
            counter: 1,
            sealed_bytes: 20,
            frame: FrameHeader {
                first_seq: Seq::FIRST,
                record_count: 3,
                codec: Codec::Plain,
                raw_bytes: 4,
                crc32c: 9,
            },
        }
    }

    fn refused(change: impl FnOnce(&mut DiskHeader)) {
        let mut header = usual();
        change(&mut header);
        assert_eq!(DiskHeader::decode(&header.encode()), None, "{header:?}");
    }

    #[test]
    fn a_header_reads_back_as_it_was_written() {
        assert_eq!(DiskHeader::decode(&usual().encode()), Some(usual()));
    }

    #[test]
    fn a_header_that_no_writer_makes_is_refused_though_its_checksum_is_right() {
        refused(|h| h.sealed_bytes = 15);
        refused(|h| h.sealed_bytes = TAG_BYTES as u32);
        refused(|h| h.sealed_bytes = u32::MAX);
        refused(|h| h.sealed_bytes = (MAX_PAYLOAD_BYTES + TAG_BYTES + 1) as u32);
        refused(|h| h.frame.first_seq = Seq::NONE);
        refused(|h| h.frame.first_seq = Seq::MAX);
        refused(|h| h.frame.first_seq = Seq::new(u64::MAX));
        refused(|h| h.frame.record_count = 0);
        refused(|h| h.frame.record_count = MAX_RECORDS + 1);
        refused(|h| h.frame.raw_bytes = 5);
        refused(|h| h.frame.raw_bytes = u32::MAX);
        refused(|h| h.kind = Kind::End);
    }

    proptest! {
        #[test]
        fn a_changed_byte_never_passes(at in 0..HEADER_BYTES, flip in 1u8..) {
            let mut bytes = usual().encode();
            bytes[at] ^= flip;
            prop_assert_eq!(DiskHeader::decode(&bytes), None);
        }
    }
}
