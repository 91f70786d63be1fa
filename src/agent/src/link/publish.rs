//! Lanes to the orchestrator: one stream, every lane with its own place and window in it.
//!
//! Exactly once: the orchestrator says what it holds durable, sending begins behind that, and its
//! acknowledgements come after its commit. Sending twice is harmless, so nothing about places is
//! kept on disk.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use spool::{Codec, Frame, SeqRange};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tracing::{error, warn};
use wire::v1;
use wire::v1::link_service_client::LinkServiceClient;
use wire::v1::publish_request::Body;

use super::failure::Failure;
use super::{Parts, say};
use crate::encode;
use crate::spool::{Lane, LaneError, LaneKind, LaneReader, Piece};

/// Frames that may wait for the connection: sent bytes can't be called back.
const WAITING: usize = 8;

/// Largest answer: acknowledgements with the names of rejected records.
const MAX_ANSWER: usize = 4 << 20;

/// Without a word of the orchestrator on windows.
const WINDOW: u64 = 256 * 1024;

/// Acknowledged bytes after which segments are looked for to remove, when the lane is busy.
const REMOVE_EVERY: u64 = 1 << 20;

/// Numbers in one gap. A damaged file that claims more lost records than this is not believed.
const MAX_GAP: u64 = 1 << 16;

/// What the orchestrator said of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word {
    durable: u64,
    window: u64,
    /// Counts up: resend from behind `durable`.
    rewinds: u64,
}

struct Sender {
    words: watch::Sender<Word>,
    task: AbortHandle,
}

/// Serves all lanes until the stream ends. `files` is told of each lane that begins.
pub(super) async fn publish(
    parts: Arc<Parts>,
    channel: Channel,
    epoch: u64,
    files: mpsc::Sender<Lane>,
) -> Failure {
    let (out, waiting) = mpsc::channel(WAITING);
    let mut watched = parts.lanes.watch();
    let known = watched.borrow_and_update().clone();
    let open = v1::PublishOpen {
        session_epoch: epoch,
        lanes: say::positions(&known).await,
    };
    if out.send(request(Body::Open(open))).await.is_err() {
        return Failure::Network("the stream ended at once".into());
    }
    let mut client = LinkServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
    let mut answers = match client.publish(ReceiverStream::new(waiting)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return Failure::of_status(&status),
    };
    let mut desk = Desk {
        parts,
        epoch,
        out,
        files,
        lanes: HashMap::new(),
        senders: HashMap::new(),
        tasks: JoinSet::new(),
    };
    desk.lanes
        .extend(known.into_iter().map(|lane| (lane.epoch(), lane)));
    loop {
        tokio::select! {
            answer = answers.message() => match answer {
                Ok(Some(answer)) => desk.hear(answer).await,
                Ok(None) => return Failure::Network("the orchestrator closed the record stream".into()),
                Err(status) => return Failure::of_status(&status),
            },
            changed = watched.changed() => {
                let now = watched.borrow_and_update().clone();
                if changed.is_err() || !desk.follow(now).await {
                    return Failure::Network("the record stream ended".into());
                }
            }
            Some(_) = desk.tasks.join_next() => {}
        }
    }
}

fn request(body: Body) -> v1::PublishRequest {
    v1::PublishRequest { body: Some(body) }
}

struct Desk {
    parts: Arc<Parts>,
    epoch: u64,
    out: mpsc::Sender<v1::PublishRequest>,
    files: mpsc::Sender<Lane>,
    lanes: HashMap<[u8; 16], Lane>,
    senders: HashMap<[u8; 16], Sender>,
    /// Dropped with the desk: no sender outlives its session.
    tasks: JoinSet<()>,
}

impl Desk {
    /// Lanes that joined or left. False when the stream is gone.
    async fn follow(&mut self, now: Vec<Lane>) -> bool {
        self.lanes
            .retain(|epoch, _| now.iter().any(|lane| lane.epoch() == *epoch));
        self.senders.retain(|epoch, sender| {
            let stays = now.iter().any(|lane| lane.epoch() == *epoch);
            if !stays {
                sender.task.abort();
            }
            stays
        });
        let new: Vec<Lane> = now
            .into_iter()
            .filter(|lane| !self.lanes.contains_key(&lane.epoch()))
            .collect();
        if new.is_empty() {
            return true;
        }
        let open = v1::PublishOpen {
            session_epoch: self.epoch,
            lanes: say::positions(&new).await,
        };
        self.lanes
            .extend(new.into_iter().map(|lane| (lane.epoch(), lane)));
        self.out.send(request(Body::Open(open))).await.is_ok()
    }

    async fn hear(&mut self, answer: v1::PublishResponse) {
        for resume in answer.resumes {
            self.resume(&resume).await;
        }
        for ack in answer.acks {
            self.acknowledge(&ack);
        }
    }

    async fn resume(&mut self, resume: &v1::LaneResume) {
        let Some(lane) = self.lane(&resume.epoch) else {
            return;
        };
        if self.senders.contains_key(&lane.epoch()) {
            return;
        }
        if reverted(&lane, resume.durable_seq).await {
            self.report_revert(&lane, resume.durable_seq).await;
            return lane.revert();
        }
        let window = if resume.window_bytes == 0 {
            WINDOW
        } else {
            resume.window_bytes
        };
        let (words, heard) = watch::channel(Word {
            durable: resume.durable_seq,
            window,
            rewinds: 0,
        });
        let (out, epoch) = (self.out.clone(), lane.epoch());
        // Its files too; the receiver lives as long as the session.
        let _ = self.files.send(lane.clone()).await;
        let task = self.tasks.spawn(async move {
            if let Err(reason) = Delivery::new(lane, out, heard).run().await {
                error!(%reason, "a lane can't be read; it is tried again with the next session");
            }
        });
        self.senders.insert(epoch, Sender { words, task });
    }

    async fn report_revert(&self, lane: &Lane, durable: u64) {
        warn!(
            durable,
            "the orchestrator holds numbers of this lane that were not given yet"
        );
        let reason = format!(
            "it holds record {durable} of lane {:?}, which this host has not written",
            lane.kind()
        );
        let event = self
            .parts
            .audit
            .event(events::Code::AgentReverted)
            .with("reason", reason);
        self.parts.audit.report(event).await;
    }

    fn lane(&self, epoch: &[u8]) -> Option<Lane> {
        let epoch: [u8; 16] = epoch.try_into().ok()?;
        self.lanes.get(&epoch).cloned()
    }

    fn acknowledge(&mut self, ack: &v1::LaneAck) {
        for rejected in &ack.rejected {
            error!(
                seq = rejected.seq,
                reason = rejected.reason,
                detail = rejected.detail,
                "the orchestrator counted a record and did not keep it"
            );
        }
        let epoch: Option<[u8; 16]> = ack.epoch.as_ref().try_into().ok();
        let Some(sender) = epoch.and_then(|epoch| self.senders.get(&epoch)) else {
            return;
        };
        sender.words.send_modify(|word| {
            word.durable = word.durable.max(ack.durable_seq);
            if ack.window_bytes > 0 {
                word.window = ack.window_bytes;
            }
            word.rewinds += u64::from(ack.rewind);
        });
    }
}

/// Numbers that this host would give again. An attempt's lane is written by its attendant, which
/// has no next number to get wrong.
async fn reverted(lane: &Lane, durable: u64) -> bool {
    lane.kind() != LaneKind::Log
        && durable > 0
        && lane.position().await.is_ok_and(|(_, next)| durable >= next)
}

/// What was sent and not acknowledged.
#[derive(Debug, Default)]
struct Flight {
    frames: VecDeque<(u64, u64)>,
    bytes: u64,
}

impl Flight {
    fn launch(&mut self, last: u64, bytes: u64) {
        self.frames.push_back((last, bytes));
        self.bytes += bytes;
    }

    /// Takes off what is durable; its bytes.
    fn settle(&mut self, durable: u64) -> u64 {
        let before = self.bytes;
        while let Some((_, bytes)) = self
            .frames
            .front()
            .filter(|(last, _)| *last <= durable)
            .copied()
        {
            self.frames.pop_front();
            self.bytes -= bytes;
        }
        before - self.bytes
    }

    /// One frame may always fly, however large it is.
    fn full(&self, window: u64) -> bool {
        !self.frames.is_empty() && self.bytes >= window
    }
}

/// One lane within one session.
struct Delivery {
    lane: Lane,
    out: mpsc::Sender<v1::PublishRequest>,
    words: watch::Receiver<Word>,
    flight: Flight,
    rewinds: u64,
    settled: u64,
    removable: u64,
    last: Option<u64>,
}

impl Delivery {
    fn new(
        lane: Lane,
        out: mpsc::Sender<v1::PublishRequest>,
        words: watch::Receiver<Word>,
    ) -> Self {
        Self {
            lane,
            out,
            words,
            flight: Flight::default(),
            rewinds: 0,
            settled: 0,
            removable: REMOVE_EVERY,
            last: None,
        }
    }

    async fn run(mut self) -> Result<(), LaneError> {
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
        if word.durable == self.settled {
            return Ok(());
        }
        self.settled = word.durable;
        self.lane.delivered_up_to(word.durable);
        if self.removable >= REMOVE_EVERY || self.flight.frames.is_empty() {
            self.removable = 0;
            reader.acknowledge(word.durable).await?;
        }
        Ok(())
    }

    /// False when the stream is gone.
    async fn send(&mut self, piece: Piece) -> bool {
        let frame = match piece {
            Piece::Frame(frame) => self.frame(frame),
            Piece::Lost(range) => match self.gap(range) {
                Some(frame) => frame,
                None => {
                    let last = range.first.get().saturating_sub(1);
                    self.lane.give_up_after(last);
                    self.last = Some(last);
                    return true;
                }
            },
            Piece::Ended(last) => {
                self.last = Some(last);
                return true;
            }
        };
        let last = frame.first_seq + u64::from(frame.record_count) - 1;
        self.flight.launch(last, frame.payload.len() as u64);
        self.out.send(request(Body::Frame(frame))).await.is_ok()
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

    /// Records that damage took: their numbers stay, and the first says how many they were.
    fn gap(&self, lost: SeqRange) -> Option<v1::RecordFrame> {
        let count = u32::try_from(lost.count())
            .ok()
            .filter(|count| u64::from(*count) <= MAX_GAP);
        let Some(count) = count else {
            error!(
                first = lost.first.get(),
                last = lost.last.get(),
                "a damaged lane claims more lost records than it can have had; it is not delivered further"
            );
            return None;
        };
        error!(
            first = lost.first.get(),
            count, "records are lost by damage; a gap stands for them"
        );
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_counts_bytes_in_flight_and_one_frame_always_flies() {
        let mut flight = Flight::default();
        assert!(!flight.full(0));
        flight.launch(10, 100);
        assert!(flight.full(100) && !flight.full(101));
        flight.launch(20, 50);
        assert_eq!(flight.settle(19), 100);
        assert!(flight.full(50));
        assert_eq!(flight.settle(20), 50);
        assert!(!flight.full(0));
    }
}
