//! The compressed stream: exactly one zstd frame, with every count kept on both sides of it.

use std::io::{self, Read};

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::UnpackError;
use super::ustar::BLOCK;
use crate::limits::Limits;
use crate::manifest::MAX_MANIFEST_BYTES;

/// First bytes of a zstd frame. Skippable frames, which can carry anything, start with others.
const MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
/// The decoder holds a window of this size: 8 MiB, what level 19 uses. Ours use 4 MiB.
const WINDOW_LOG: u32 = 23;
const CHUNK: usize = 128 * 1024;
/// Headers of one file: a header block, and for a long path a pax header, its record and padding.
const MAX_HEADERS_PER_FILE: u64 = 4096 + 6 * BLOCK as u64;

/// Reads the tar stream out of the frame.
pub(super) struct Frame<R> {
    source: R,
    decoder: Decoder<'static>,
    limits: Limits,
    input: Box<[u8]>,
    unread: std::ops::Range<usize>,
    output: Box<[u8]>,
    ready: std::ops::Range<usize>,
    ended: bool,
    packed: u64,
    unpacked: u64,
}

impl<R: Read> Frame<R> {
    pub(super) fn open(source: R, limits: &Limits) -> Result<Self, UnpackError> {
        let mut decoder = Decoder::new().map_err(UnpackError::Corrupt)?;
        decoder
            .set_parameter(DParameter::WindowLogMax(WINDOW_LOG))
            .map_err(UnpackError::Corrupt)?;
        let mut frame = Self {
            source,
            decoder,
            limits: *limits,
            input: vec![0; CHUNK].into_boxed_slice(),
            unread: 0..0,
            output: vec![0; CHUNK].into_boxed_slice(),
            ready: 0..0,
            ended: false,
            packed: 0,
            unpacked: 0,
        };
        frame.check_magic()?;
        Ok(frame)
    }

    fn check_magic(&mut self) -> Result<(), UnpackError> {
        while self.unread.len() < MAGIC.len() {
            if self.refill()? == 0 {
                break;
            }
        }
        let start = &self.input[self.unread.clone()];
        match start.len() < MAGIC.len() && MAGIC.starts_with(start) {
            true => Err(UnpackError::Truncated),
            false if start.starts_with(&MAGIC) => Ok(()),
            false => Err(UnpackError::NotZstd),
        }
    }

    /// Fills `out` completely; the end of the stream before that is a truncation.
    pub(super) fn fill(&mut self, mut out: &mut [u8]) -> Result<(), UnpackError> {
        while !out.is_empty() {
            let part = self.some(out.len())?;
            if part.is_empty() {
                return Err(UnpackError::Truncated);
            }
            let (now, later) = out.split_at_mut(part.len());
            now.copy_from_slice(part);
            out = later;
        }
        Ok(())
    }

    /// The next bytes, at most `most`; none at the end of the frame.
    pub(super) fn some(&mut self, most: usize) -> Result<&[u8], UnpackError> {
        while self.ready.is_empty() && !self.ended {
            self.decode()?;
        }
        let start = self.ready.start;
        let count = self.ready.len().min(most);
        self.ready.start += count;
        Ok(&self.output[start..start + count])
    }

    /// Nothing may be left: not in the frame, and not after it.
    pub(super) fn finish(mut self) -> Result<(), UnpackError> {
        if !self.some(1)?.is_empty() {
            return Err(UnpackError::TrailingBytes { of: "tar stream" });
        }
        if !self.unread.is_empty() || self.refill()? != 0 {
            return Err(UnpackError::TrailingBytes { of: "zstd frame" });
        }
        Ok(())
    }

    fn decode(&mut self) -> Result<(), UnpackError> {
        if self.unread.is_empty() && self.refill()? == 0 {
            return Err(UnpackError::Truncated);
        }
        let mut input = InBuffer::around(&self.input[self.unread.clone()]);
        let mut output = OutBuffer::around(&mut self.output[..]);
        let wanted = self
            .decoder
            .run(&mut input, &mut output)
            .map_err(UnpackError::Corrupt)?;
        let (read, written) = (input.pos(), output.pos());
        self.unread.start += read;
        self.ready = 0..written;
        self.ended = wanted == 0;
        self.packed += read as u64;
        self.unpacked += written as u64;
        self.judge()
    }

    /// The manifest bounds the tree, this bounds the stream whatever the manifest says.
    fn judge(&self) -> Result<(), UnpackError> {
        let Limits {
            max_packed_bytes,
            max_total_bytes,
            max_files,
            ..
        } = self.limits;
        let overhead = MAX_MANIFEST_BYTES + max_files.saturating_mul(MAX_HEADERS_PER_FILE);
        let max_unpacked = max_total_bytes.saturating_add(overhead);
        if self.packed > max_packed_bytes {
            return Err(UnpackError::TooLarge {
                limit: max_packed_bytes,
            });
        }
        if self.unpacked > max_unpacked {
            return Err(UnpackError::TooLarge {
                limit: max_unpacked,
            });
        }
        match self.limits.is_bomb(self.packed, self.unpacked) {
            true => Err(UnpackError::Bomb {
                packed: self.packed,
                unpacked: self.unpacked,
            }),
            false => Ok(()),
        }
    }

    /// Reads more input behind what is unread; 0 at the end of the source.
    fn refill(&mut self) -> Result<usize, UnpackError> {
        self.input.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        loop {
            match self.source.read(&mut self.input[self.unread.end..]) {
                Ok(count) => {
                    self.unread.end += count;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(UnpackError::Read(error)),
            }
        }
    }
}
