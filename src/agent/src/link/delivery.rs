//! One lane on its way to the orchestrator: frames as they lie on disk, gaps for what is lost.

use std::sync::Arc;
use std::time::Duration;

use events::Code;
use spool::{Codec, Frame, Seq, SeqRange};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::{error, warn};
use wire::v1;
use wire::v1::publish_request::Body;

use super::flight::Flight;
use super::publish::request;
use super::traffic::UnderWay;
use super::{Parts, say};
use crate::encode;
use crate::spool::{Lane, LaneError, LaneReader, Piece};

/// Acknowledged bytes after which segments are looked for to remove, when the lane is busy.
const REMOVE_EVERY: u64 = 1 << 20;

/// Numbers in one gap. A damaged file that claims more lost records than this is not believed.
const MAX_GAP: u64 = 1 << 16;

/// Numbers in all gaps of one lane: a hundred bytes on disk can claim a gap of many, again and again.
const MAX_LOST: u64 = 1 << 20;

/// Before a lane that can't be read is tried again.
const PAUSE: Duration = Duration::from_secs(5);

/// What the orchestrator said of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) durable: u64,
    pub(super) window: u64,
    /// Counts up: resend from behind `durable`.
    pub(super) rewinds: u64,
}

/// One lane within one session.
pub(super) struct Delivery {
    parts: Arc<Parts>,
    lane: Lane,
    out: mpsc::Sender<v1::PublishRequest>,
    words: watch::Receiver<Word>,
    flight: Flight,
    /// While anything is in flight.
    under_way: Option<UnderWay>,
    rewinds: u64,
    settled: u64,
    removable: u64,
    last: Option<u64>,
    /// Records that gaps stood for.
    lost: u64,
    max_frame: u32,
}

impl Delivery {
    pub(super) fn new(
        parts: Arc<Parts>,
        lane: Lane,
        out: mpsc::Sender<v1::PublishRequest>,
        words: watch::Receiver<Word>,
        max_frame: u32,
    ) -> Self {
        Self {
            parts,
            lane,
            out,
            words,
            flight: Flight::default(),
            under_way: None,
            rewinds: 0,
            settled: 0,
            removable: REMOVE_EVERY,
            last: None,
            lost: 0,
            max_frame,
        }
    }

    /// Until all is delivered or the stream is gone. A lane that can't be read is tried again;
    /// once nobody writes it any more, what could not be read never will be.
    pub(super) async fn run(mut self) {
        while let Err(reason) = self.deliver().await {
            let durable = self.words.borrow().durable;
            if self.lane.is_closed() {
                self.tell_loss(format!("the spool can't be read: {reason}"))
                    .await;
                self.lane.delivered_up_to(durable);
                return self.lane.give_up_after(durable);
            }
            warn!(%reason, "a lane can't be read; it is tried again");
            tokio::select! {
                () = self.lane.wait_closed() => {}
                () = sleep(PAUSE) => {}
            }
        }
    }

    async fn deliver(&mut self) -> Result<(), LaneError> {
        self.flight = Flight::default();
        let mut reader = self.lane.reader().await;
        let begin = self.words.borrow().durable.saturating_add(1);
        reader.seek(begin).await?;
        loop {
            let word = *self.words.borrow_and_update();
            self.obey(word, &mut reader).await?;
            if self.last.is_some_and(|last| word.durable >= last) {
                reader.acknowledge(word.durable).await?;
                return Ok(());
            }
            let quiet = self.last.is_some() || self.flight.full(word.window);
            if quiet {
                if self.words.changed().await.is_err() {
                    return Ok(());
                }
                continue;
            }
            match reader.read().await? {
                Some(piece) => {
                    if !self.send(piece).await {
                        return Ok(());
                    }
                }
                None => tokio::select! {
                    () = reader.wait() => {}
                    changed = self.words.changed() => if changed.is_err() { return Ok(()) },
                },
            }
        }
    }

    async fn obey(&mut self, word: Word, reader: &mut LaneReader) -> Result<(), LaneError> {
        if word.rewinds != self.rewinds {
            (self.rewinds, self.last) = (word.rewinds, None);
            self.flight = Flight::default();
            reader.seek(word.durable.saturating_add(1)).await?;
        }
        self.removable += self.flight.settle(word.durable);
        if self.flight.is_empty() {
            self.under_way = None;
        }
        if word.durable == self.settled {
            return Ok(());
        }
        self.settled = word.durable;
        self.lane.delivered_up_to(word.durable);
        if self.removable >= REMOVE_EVERY || self.flight.is_empty() {
            self.removable = 0;
            reader.acknowledge(word.durable).await?;
        }
        Ok(())
    }

    /// False when the stream is gone.
    async fn send(&mut self, piece: Piece) -> bool {
        let frame = match piece {
            Piece::Frame(frame) if self.too_large(&frame) => {
                let first = frame.header.first_seq;
                let last = Seq::new(last_of(first.get(), frame.header.record_count));
                self.replace(
                    SeqRange { first, last },
                    "a frame is larger than the orchestrator takes",
                )
                .await
            }
            Piece::Frame(frame) => Some(self.frame(frame)),
            Piece::Lost(range) => self.replace(range, "the spool is damaged").await,
            Piece::Ended(last) => {
                self.last = Some(last);
                return true;
            }
        };
        let Some(frame) = frame else {
            return true;
        };
        let last = last_of(frame.first_seq, frame.record_count);
        self.flight.launch(last, frame.payload.len() as u64);
        self.under_way
            .get_or_insert_with(|| self.parts.traffic.begin());
        self.out.send(request(Body::Frame(frame))).await.is_ok()
    }

    fn too_large(&self, frame: &Frame) -> bool {
        let payload = u32::try_from(frame.payload.len()).unwrap_or(u32::MAX);
        frame.header.raw_bytes.max(payload) > self.max_frame
    }

    /// A gap for records that can't be sent; none when they are so many that the lane ends here.
    async fn replace(&mut self, lost: SeqRange, why: &str) -> Option<v1::RecordFrame> {
        let count = lost.count();
        self.tell_loss(format!(
            "{why}: {count} records from {} on",
            lost.first.get()
        ))
        .await;
        self.lost = self.lost.saturating_add(count);
        if count > MAX_GAP || self.lost > MAX_LOST {
            error!(attempt = ?self.lane.attempt(), count, "a lane claims more lost records than it can have had; it is not delivered further");
            let last = lost.first.get().saturating_sub(1);
            self.lane.give_up_after(last);
            self.last = Some(last);
            return None;
        }
        self.gap(lost)
    }

    /// Once per lane: damage that a hostile attendant makes must not fill the AUDIT lane.
    async fn tell_loss(&self, reason: String) {
        error!(attempt = ?self.lane.attempt(), %reason, "records of a lane are lost; a gap stands for them");
        if !self.lane.first_loss() {
            return;
        }
        let audit = &self.parts.audit;
        match self.lane.attempt() {
            Some(attempt) => {
                let event = audit.event(Code::OutputLost).with("reason", reason);
                audit.report_for(attempt, event).await;
            }
            None => {
                let event = audit.event(Code::SpoolFailed);
                let event = event.with("reason_code", "LANE_DAMAGED");
                audit.report(event.with("reason", reason)).await;
            }
        }
    }

    fn frame(&self, frame: Frame) -> v1::RecordFrame {
        v1::RecordFrame {
            lane: say::lane_kind(self.lane.kind()).into(),
            epoch: self.lane.epoch().to_vec().into(),
            first_seq: frame.header.first_seq.get(),
            record_count: frame.header.record_count,
            codec: match frame.header.codec {
                Codec::Plain => v1::FrameCodec::Plain,
                Codec::Zstd => v1::FrameCodec::Zstd,
            }
            .into(),
            raw_bytes: frame.header.raw_bytes,
            crc32c: frame.header.crc32c,
            payload: frame.payload.into(),
        }
    }

    /// Their numbers stay, and the first says how many they were.
    fn gap(&self, lost: SeqRange) -> Option<v1::RecordFrame> {
        let count = u32::try_from(lost.count()).ok()?;
        let payload = encode::gaps(count, sys::clock::unix_ms());
        Some(v1::RecordFrame {
            lane: say::lane_kind(self.lane.kind()).into(),
            epoch: self.lane.epoch().to_vec().into(),
            first_seq: lost.first.get(),
            record_count: count,
            codec: v1::FrameCodec::Plain.into(),
            raw_bytes: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            crc32c: crc32c::crc32c(&payload),
            payload: payload.into(),
        })
    }
}

/// No attendant's numbers overflow ours.
fn last_of(first: u64, count: u32) -> u64 {
    first.saturating_sub(1).saturating_add(u64::from(count))
}
