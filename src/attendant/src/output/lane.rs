//! The attempt's lane: records in, frames out, in order, none lost silently.

use std::collections::VecDeque;

use prost::Message;
use spool::{
    Batch, Codec, Durability, Epoch, LaneDir, LaneKey, Limits, RecoverError, WriteError, Writer,
};
use wire::v1::{Gap, GapReason, LogSource, Record, RecordBatch, record::Body};

use super::stream::{MOST_IN_MEMORY, lost};
use super::totals::Totals;

/// A frame is closed when its records have so many bytes.
const FRAME_BYTES: usize = 256 * 1024;

/// Below this compression costs more than it saves.
const MIN_COMPRESSED: usize = 512;

const COMPRESSION_LEVEL: i32 = 1;

/// Why the lane can't be begun or written any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaneError {
    /// Its directory.
    #[error(transparent)]
    Dir(#[from] spool::DirError),
    /// Its key.
    #[error(transparent)]
    Key(#[from] spool::KeyError),
    /// Its sizes.
    #[error(transparent)]
    Limits(#[from] spool::LimitsError),
    /// What a lost attendant left.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// A write.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The kernel gave no random bytes for the epoch.
    #[error("the kernel gave no random bytes for an epoch")]
    Random,
}

/// Whether all that was handed in is in the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It is.
    Written,
    /// There is no room now. Nothing more may be read from the bot until there is.
    Blocked,
}

/// The lane and what waits to be written to it.
pub(crate) struct Lane {
    writer: Writer,
    waiting: VecDeque<(u64, Body)>,
    /// Encoded and refused for want of room.
    stuck: Option<Encoded>,
    totals: Totals,
    /// No attendant before this one wrote to it, and no write failed.
    whole: bool,
    unsynced: bool,
    ended: bool,
}

struct Encoded {
    records: Vec<Record>,
    payload: Vec<u8>,
    codec: Codec,
    raw_bytes: u32,
}

impl Lane {
    /// A lane in an empty directory with a key.
    pub(crate) fn create(dir: &LaneDir, log_bytes: u64) -> Result<Self, LaneError> {
        let epoch = Epoch::random().map_err(|_| LaneError::Random)?;
        let writer = Writer::create(dir, LaneKey::load(dir)?, epoch, limits(log_bytes)?)?;
        Ok(Self::of(writer, true, false))
    }

    /// Goes on with the lane of a lost attendant; one gap per stream says what may be missing.
    pub(crate) fn recover(
        dir: &LaneDir,
        log_bytes: u64,
        most_lost: u64,
        now: u64,
    ) -> Result<Self, LaneError> {
        let (writer, ended) = match Writer::recover(dir, LaneKey::load(dir)?, limits(log_bytes)?) {
            Ok((writer, found)) => (writer, found.finished),
            // It was lost before its first segment, or nobody can say how far it counted.
            Err(
                RecoverError::Nothing { .. } | RecoverError::Segment(_) | RecoverError::Sync { .. },
            ) => {
                let epoch = Epoch::random().map_err(|_| LaneError::Random)?;
                (
                    Writer::create(dir, LaneKey::load(dir)?, epoch, limits(log_bytes)?)?,
                    false,
                )
            }
            Err(error) => return Err(error.into()),
        };
        let mut lane = Self::of(writer, false, ended);
        for source in [LogSource::Stdout, LogSource::Stderr] {
            lane.push(now, lost(source, most_lost));
        }
        Ok(lane)
    }

    fn of(writer: Writer, whole: bool, ended: bool) -> Self {
        let (waiting, totals) = (VecDeque::new(), Totals::default());
        Self {
            writer,
            waiting,
            stuck: None,
            totals,
            whole,
            unsynced: false,
            ended,
        }
    }

    pub(crate) fn epoch(&self) -> [u8; 16] {
        *self.writer.epoch().as_bytes()
    }

    pub(crate) fn last_seq(&self) -> u64 {
        self.writer.next_seq().before().get()
    }

    /// No record can follow.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    pub(crate) fn log_totals(&self) -> order::LogTotals {
        self.totals.log(self.whole)
    }

    /// What was written may not be on disk: nobody knows what was delivered.
    pub(crate) fn doubt(&mut self) {
        self.whole = false;
    }

    /// Hands in a record; [`Lane::write`] writes it. After the end it is dropped: the only one
    /// who still has something to say then is a bot that was killed already.
    pub(crate) fn push(&mut self, now_unix_nano: u64, body: Body) {
        if !self.ended {
            self.waiting.push_back((now_unix_nano, body));
        }
    }

    /// Writes all that waits, as few frames.
    pub(crate) fn write(&mut self) -> Result<Progress, LaneError> {
        while let Some(encoded) = self.stuck.take().or_else(|| self.encode_next()) {
            match self.writer.append(encoded.batch(), Durability::Later) {
                Ok(_) => {
                    self.totals.add(&encoded.records);
                    self.unsynced = true;
                }
                Err(WriteError::Full { .. } | WriteError::NoSpace { .. }) => {
                    self.stuck = Some(encoded);
                    return Ok(Progress::Blocked);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Progress::Written)
    }

    /// To the disk with what was written.
    pub(crate) fn sync(&mut self) -> Result<(), LaneError> {
        self.writer.sync()?;
        self.unsynced = false;
        Ok(())
    }

    /// The lane is complete.
    pub(crate) fn finish(&mut self) -> Result<(), LaneError> {
        self.writer.finish()?;
        (self.unsynced, self.ended) = (false, true);
        Ok(())
    }

    /// Nobody makes room: what waits becomes one gap, for which there is a reserve.
    pub(crate) fn give_up_waiting(&mut self, now: u64) -> Result<(), LaneError> {
        let mut given_up = self
            .stuck
            .take()
            .map(|encoded| encoded.records)
            .unwrap_or_default();
        while let Some(encoded) = self.encode_next() {
            given_up.extend(encoded.records);
        }
        if given_up.is_empty() {
            return Ok(());
        }
        let bytes = given_up
            .iter()
            .filter_map(|record| record.body.as_ref())
            .map(|body| size(body) as u64)
            .sum();
        let gap = Gap {
            records: given_up.len() as u64,
            bytes,
            unknown: false,
            reason: GapReason::SpoolFull.into(),
            source: LogSource::Unspecified.into(),
        };
        self.push(now, Body::Gap(gap));
        if let Some(encoded) = self.encode_next() {
            self.writer
                .append_reserved(encoded.batch(), Durability::Later)?;
        }
        Ok(())
    }

    fn encode_next(&mut self) -> Option<Encoded> {
        let base = self.waiting.front()?.0;
        let (mut records, mut bytes) = (Vec::new(), 0);
        while bytes < FRAME_BYTES
            && let Some((at, body)) = self.waiting.pop_front()
        {
            bytes += size(&body);
            let time_delta_nano = i64::try_from(i128::from(at) - i128::from(base)).unwrap_or(0);
            records.push(Record {
                time_delta_nano,
                body: Some(body),
            });
        }
        Some(encode(base, records))
    }
}

impl Encoded {
    fn batch(&self) -> Batch<'_> {
        Batch {
            records: u32::try_from(self.records.len()).unwrap_or(u32::MAX),
            codec: self.codec,
            raw_bytes: self.raw_bytes,
            payload: &self.payload,
        }
    }
}

/// The frame's payload as it lies on disk and goes over the wire.
fn encode(base_time_unix_nano: u64, records: Vec<Record>) -> Encoded {
    let batch = RecordBatch {
        base_time_unix_nano,
        records,
    };
    let raw = batch.encode_to_vec();
    let raw_bytes = u32::try_from(raw.len()).unwrap_or(u32::MAX);
    let compressed =
        (raw.len() >= MIN_COMPRESSED).then(|| zstd::bulk::compress(&raw, COMPRESSION_LEVEL));
    let (payload, codec) = match compressed {
        Some(Ok(smaller)) if smaller.len() < raw.len() => (smaller, Codec::Zstd),
        _ => (raw, Codec::Plain),
    };
    Encoded {
        records: batch.records,
        payload,
        codec,
        raw_bytes,
    }
}

/// Roughly what a record takes; for a log line its text and newline.
fn size(body: &Body) -> usize {
    const RECORD: usize = 16;
    RECORD
        + match body {
            Body::Log(line) => line.text.len(),
            Body::Alert(alert) => alert.title.len() + alert.message.len(),
            Body::Error(error) => error.message.len() + error.stack_trace.len(),
            _ => 0,
        }
}

/// Room for all that the order lets the bot print, also when it does not compress, and for the rest.
fn limits(log_bytes: u64) -> Result<Limits, spool::LimitsError> {
    const SEGMENT: u64 = 16 << 20;
    const REST: u64 = 64 << 20;
    let most = log_bytes.saturating_add(log_bytes / 4).saturating_add(REST);
    Limits::new(SEGMENT, most, 1 << 20)
}

/// What a lost attendant may have lost of a stream. What it held back because it began like a
/// secret is bounded by the longest form of one.
pub(crate) fn most_lost(secrets_given: bool) -> u64 {
    let longest_form = if secrets_given {
        crate::mask::MAX_FORM
    } else {
        0
    };
    (MOST_IN_MEMORY + longest_form) as u64
}
