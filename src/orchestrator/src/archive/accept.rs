//! Which frames of a lane are taken: once each, in order, without holes.

use order::AgentId;
use prost::Message as _;
use wire::v1;

use super::decode;
use super::file::FrameFile;
use crate::config;
use crate::core::{Committed, Row};
use crate::refused::Refused;
use crate::store::LaneRow;

/// A frame whose checksum is wrong is asked for again so often; then it counts as poison, or an
/// agent with a bad disk would send it for ever.
const RETRIES: u32 = 3;
/// Sequence numbers named in one acknowledgement.
const MAX_NAMED: u64 = 64;

/// One open lane.
pub(super) struct Lane {
    /// What the store knows.
    pub(super) durable: LaneRow,
    pub(super) file: FrameFile,
    /// Frames with a wrong checksum at the same place.
    pub(super) broken: u32,
}

/// What a lane gains in this round; becomes durable or is dropped as a whole.
pub(super) struct Gain {
    pub(super) seq: u64,
    pub(super) bytes: u64,
    pub(super) rows: Vec<(u64, Row)>,
    pub(super) rejected: Vec<v1::RejectedRecord>,
    pub(super) refused: Vec<String>,
    pub(super) rewind: bool,
}

impl Gain {
    pub(super) fn new(lane: &LaneRow) -> Self {
        Self {
            seq: lane.durable_seq,
            bytes: lane.bytes,
            rows: Vec::new(),
            rejected: Vec::new(),
            refused: Vec::new(),
            rewind: false,
        }
    }

    /// Takes one frame. Bytes go to the file here and become durable with the round's sync.
    pub(super) fn take(&mut self, lane: &mut Lane, frame: &v1::RecordFrame) -> Result<(), Refused> {
        let last = frame
            .first_seq
            .checked_add(u64::from(frame.record_count))
            .filter(|_| frame.first_seq > 0)
            .ok_or_else(|| Refused::invalid("FRAME_INVALID", "records are numbered from 1"))?
            .saturating_sub(1);
        if last <= self.seq && frame.record_count > 0 {
            return Ok(());
        }
        if frame.first_seq > self.seq + 1 {
            self.rewind = true;
            return Ok(());
        }
        // Behind a hole or a broken frame nothing is taken until the agent starts again from it.
        if crc32c::crc32c(&frame.payload) != frame.crc32c {
            lane.broken += 1;
            if lane.broken < RETRIES {
                self.rewind = true;
                return Ok(());
            }
            self.reject(
                lane,
                frame,
                last.max(self.seq + 1),
                "CHECKSUM_MISMATCH",
                "the checksum is wrong",
            );
            return Ok(());
        }
        match decode::batch(frame) {
            Err(why) => self.reject(lane, frame, last.max(self.seq + 1), "FRAME_INVALID", &why),
            Ok(batch) => {
                self.bytes = lane.file.append(self.bytes, &frame.encode_to_vec())?;
                self.index(frame.first_seq, &batch);
                self.seq = last;
                lane.broken = 0;
            }
        }
        Ok(())
    }

    /// Poison: counted as durable, so that the lane goes on, and named.
    fn reject(
        &mut self,
        lane: &mut Lane,
        frame: &v1::RecordFrame,
        last: u64,
        reason: &str,
        why: &str,
    ) {
        lane.broken = 0;
        let first = self.seq + 1;
        self.refused
            .push(format!("records {first} to {last} refused: {why}"));
        let named = (first..=last).take(usize::try_from(MAX_NAMED).unwrap_or(usize::MAX));
        self.rejected.extend(named.map(|seq| v1::RejectedRecord {
            seq,
            reason: reason.to_owned(),
            detail: why.chars().take(200).collect(),
        }));
        self.rows.push((
            first,
            Row::Gap(crate::store::GapRow {
                at_ms: 0,
                records: last - first + 1,
                bytes: u64::from(frame.raw_bytes),
                unknown: false,
                reason: "CORRUPT".to_owned(),
                source: "UNSPECIFIED".to_owned(),
            }),
        ));
        self.seq = last;
    }

    /// Rows of records that are new; the first ones of a frame may be known already.
    fn index(&mut self, first_seq: u64, batch: &v1::RecordBatch) {
        for (seq, record) in (first_seq..).zip(&batch.records) {
            if seq <= self.seq {
                continue;
            }
            match decode::row(record, batch.base_time_unix_nano) {
                Ok(None) => {}
                Ok(Some(row)) => self.rows.push((seq, row)),
                Err(why) => {
                    self.refused.push(format!("record {seq} refused: {why}"));
                    self.rejected.push(v1::RejectedRecord {
                        seq,
                        reason: "RECORD_INVALID".to_owned(),
                        detail: why.to_owned(),
                    });
                }
            }
        }
    }

    pub(super) fn is_empty(&self, lane: &LaneRow) -> bool {
        self.seq == lane.durable_seq
    }

    /// For the core, with the lane's new position.
    pub(super) fn committed(&self, lane: &LaneRow) -> Committed {
        let mut lane = lane.clone();
        lane.durable_seq = self.seq;
        lane.bytes = self.bytes;
        Committed {
            lane,
            rows: self.rows.clone(),
            refused: self.refused.clone(),
        }
    }

    pub(super) fn ack(&self, lane: &LaneRow) -> v1::LaneAck {
        v1::LaneAck {
            lane: lane.lane,
            epoch: lane.epoch.clone().into(),
            durable_seq: self.seq,
            window_bytes: config::WINDOW,
            rewind: self.rewind,
            rejected: self.rejected.clone(),
        }
    }
}

/// Names a lane for the log.
pub(super) fn name(agent: AgentId, lane: &LaneRow) -> String {
    format!("{agent}/{}/{}", lane.lane, super::hex(&lane.epoch))
}
