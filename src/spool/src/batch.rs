//! What a caller hands in to be appended.

use crate::frame::{Codec, FrameHeader};
use crate::limits::{MAX_PAYLOAD_BYTES, MAX_RAW_BYTES, MAX_RECORDS};
use crate::seq::Seq;

/// One encoded batch of records, exactly as it will go on the wire.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    /// How many records it holds.
    pub records: u32,
    /// How the payload is encoded.
    pub codec: Codec,
    /// Bytes after decompression; the payload's own size when it is plain.
    pub raw_bytes: u32,
    /// The encoded batch.
    pub payload: &'a [u8],
}

/// A batch that no receiver would take.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Numbers would be without records, or one frame would hold too many.
    #[error("a batch of {0} records is out of range: 1 to {MAX_RECORDS} make a frame")]
    Records(u32),
    /// Nothing, or more than goes into a frame.
    #[error("a payload of {0} bytes is out of range: 1 to {MAX_PAYLOAD_BYTES} make a frame")]
    Payload(usize),
    /// The receiver would refuse to decompress it.
    #[error("a batch of {0} bytes before compression is too large: {MAX_RAW_BYTES} are allowed")]
    Raw(u32),
    /// A plain payload is what it is.
    #[error("a plain payload of {payload} bytes was said to have {raw} bytes")]
    PlainSize {
        /// The payload's size.
        payload: usize,
        /// The size that was given.
        raw: u32,
    },
}

impl<'a> Batch<'a> {
    /// A batch that is not compressed.
    pub fn plain(records: u32, payload: &'a [u8]) -> Self {
        let raw_bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        Self {
            records,
            codec: Codec::Plain,
            raw_bytes,
            payload,
        }
    }

    pub(crate) fn header(&self, first_seq: Seq) -> Result<FrameHeader, BatchError> {
        let payload = self.payload.len();
        if !(1..=MAX_RECORDS).contains(&self.records) {
            return Err(BatchError::Records(self.records));
        }
        if !(1..=MAX_PAYLOAD_BYTES).contains(&payload) {
            return Err(BatchError::Payload(payload));
        }
        if self.raw_bytes as usize > MAX_RAW_BYTES {
            return Err(BatchError::Raw(self.raw_bytes));
        }
        if self.codec == Codec::Plain && self.raw_bytes as usize != payload {
            return Err(BatchError::PlainSize {
                payload,
                raw: self.raw_bytes,
            });
        }
        Ok(FrameHeader {
            first_seq,
            record_count: self.records,
            codec: self.codec,
            raw_bytes: self.raw_bytes,
            crc32c: crc32c::crc32c(self.payload),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_no_receiver_would_take_is_refused_before_it_is_written() {
        let refused = |batch: Batch<'_>| batch.header(Seq::FIRST).unwrap_err();
        let long = vec![0; MAX_PAYLOAD_BYTES + 1];
        assert_eq!(refused(Batch::plain(0, b"x")), BatchError::Records(0));
        assert_eq!(
            refused(Batch::plain(MAX_RECORDS + 1, b"x")),
            BatchError::Records(MAX_RECORDS + 1)
        );
        assert_eq!(refused(Batch::plain(1, b"")), BatchError::Payload(0));
        assert_eq!(
            refused(Batch::plain(1, &long)),
            BatchError::Payload(long.len())
        );
        let zipped = Batch {
            records: 1,
            codec: Codec::Zstd,
            raw_bytes: u32::MAX,
            payload: b"x",
        };
        assert_eq!(refused(zipped), BatchError::Raw(u32::MAX));
        let wrong = Batch {
            raw_bytes: 2,
            ..Batch::plain(1, b"x")
        };
        assert_eq!(refused(wrong), BatchError::PlainSize { payload: 1, raw: 2 });
    }
}
