//! Reads what is durable back: for people, for `--raw`, and for comparing digests.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use order::StreamTotals;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use wire::v1;

use super::file::{HEADER, path};
use super::{decode, hex};
use crate::config;
use crate::refused::Refused;
use crate::store::LaneRow;

/// Totals of both streams of a bot, computed over what is here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) stdout: StreamTotals,
    pub(crate) stderr: StreamTotals,
}

/// Reads the frames of one lane up to what is durable.
pub(crate) struct Reader {
    path: std::path::PathBuf,
    input: BufReader<File>,
    offset: u64,
    /// Records up to here were given.
    seq: u64,
}

impl Reader {
    /// `None` when nothing was ever written.
    pub(crate) fn open(data_dir: &Path, lane: &LaneRow) -> Result<Option<Self>, Refused> {
        if lane.bytes == 0 {
            return Ok(None);
        }
        let path = path(data_dir, lane);
        let file = File::open(&path).map_err(|error| Refused::io("can't open", &path, &error))?;
        Ok(Some(Self {
            path,
            input: BufReader::new(file),
            offset: 0,
            seq: 0,
        }))
    }

    /// The next batch within the first `durable` bytes, without records that came before.
    pub(crate) fn next(&mut self, durable: u64) -> Result<Option<v1::RecordBatch>, Refused> {
        while self.offset < durable {
            let frame = self.frame()?;
            let batch = decode::batch(&frame).map_err(|why| self.damaged(&why))?;
            let known = (self.seq + 1).saturating_sub(frame.first_seq);
            self.seq = self
                .seq
                .max(frame.first_seq + u64::from(frame.record_count) - 1);
            let skip = usize::try_from(known).unwrap_or(usize::MAX);
            let records: Vec<_> = batch.records.into_iter().skip(skip).collect();
            if !records.is_empty() {
                return Ok(Some(v1::RecordBatch {
                    base_time_unix_nano: batch.base_time_unix_nano,
                    records,
                }));
            }
        }
        Ok(None)
    }

    fn damaged(&self, why: &str) -> Refused {
        Refused::unavailable(
            "ARCHIVE_DAMAGED",
            format!("{} at {}: {why}", self.path.display(), self.offset),
        )
    }

    fn frame(&mut self) -> Result<v1::RecordFrame, Refused> {
        let mut header = [0; HEADER];
        let fail = |error: std::io::Error| Refused::io("can't read", &self.path, &error);
        self.input.read_exact(&mut header).map_err(fail)?;
        let length = u32::from_le_bytes(header) as usize;
        if length > config::MAX_BULK {
            return Err(self.damaged("a frame is longer than any that was taken"));
        }
        let mut bytes = vec![0; length];
        let fail = |error: std::io::Error| Refused::io("can't read", &self.path, &error);
        self.input.read_exact(&mut bytes).map_err(fail)?;
        let frame = v1::RecordFrame::decode(bytes.as_slice())
            .map_err(|error| self.damaged(&error.to_string()))?;
        self.offset += (HEADER + length) as u64;
        Ok(frame)
    }
}

/// Adds up one stream.
#[derive(Default)]
struct Adder {
    hash: Sha256,
    bytes: u64,
    lines: u64,
    /// The last piece had no newline.
    open: bool,
}

impl Adder {
    fn add(&mut self, line: &v1::LogLine) {
        self.hash.update(&line.text);
        self.bytes += line.text.len() as u64;
        if line.terminated {
            self.hash.update(b"\n");
            self.bytes += 1;
            self.lines += 1;
        }
        // An empty piece opens no line: there is nothing of it in the stream.
        self.open = !line.terminated && (self.open || !line.text.is_empty());
    }

    fn totals(self) -> StreamTotals {
        StreamTotals {
            lines: self.lines + u64::from(self.open),
            bytes: self.bytes,
            sha256: hex(&self.hash.finalize()),
        }
    }
}

/// The totals of an attempt's lanes.
pub(crate) fn totals(data_dir: &Path, lanes: &[LaneRow]) -> Result<Totals, Refused> {
    let (mut stdout, mut stderr) = (Adder::default(), Adder::default());
    for lane in lanes {
        let Some(mut reader) = Reader::open(data_dir, lane)? else {
            continue;
        };
        while let Some(batch) = reader.next(lane.bytes)? {
            for record in &batch.records {
                if let Some(v1::record::Body::Log(line)) = &record.body {
                    match line.source() {
                        v1::LogSource::Stdout => stdout.add(line),
                        v1::LogSource::Stderr => stderr.add(line),
                        _ => {}
                    }
                }
            }
        }
    }
    Ok(Totals {
        stdout: stdout.totals(),
        stderr: stderr.totals(),
    })
}
