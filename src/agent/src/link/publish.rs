//! Lanes to the orchestrator: one stream, every lane with its own place and window in it.
//!
//! Exactly once: the orchestrator says what it holds durable, sending begins behind that, and its
//! acknowledgements come after its commit. Sending twice is harmless, so nothing about places is
//! kept on disk.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tracing::{error, warn};
use wire::v1;
use wire::v1::link_service_client::LinkServiceClient;
use wire::v1::publish_request::Body;

use super::delivery::{Delivery, Word};
use super::failure::Failure;
use super::{Parts, say};
use crate::spool::{Lane, LaneKind};

/// Frames that may wait for the connection: sent bytes can't be called back.
const WAITING: usize = 8;

/// Largest answer: acknowledgements with the names of rejected records.
const MAX_ANSWER: usize = 4 << 20;

/// Without a word of the orchestrator on windows.
const WINDOW: u64 = 256 * 1024;

/// Before a lane that the orchestrator named no position for is announced again.
const ASK_AGAIN: Duration = Duration::from_secs(60);

struct Sender {
    words: watch::Sender<Word>,
    task: AbortHandle,
}

/// Serves all lanes until the stream ends. `files` is told of each lane that begins.
pub(super) async fn publish(
    parts: Arc<Parts>,
    channel: Channel,
    epoch: u64,
    max_frame: u32,
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
        max_frame,
        out,
        files,
        lanes: HashMap::new(),
        asked: VecDeque::from([known.iter().map(Lane::epoch).collect()]),
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
            Some(ended) = desk.tasks.join_next() => {
                if let Ok(Some(lane)) = ended
                    && !desk.announce(vec![lane]).await
                {
                    return Failure::Network("the record stream ended".into());
                }
            }
        }
    }
}

pub(super) fn request(body: Body) -> v1::PublishRequest {
    v1::PublishRequest { body: Some(body) }
}

struct Desk {
    parts: Arc<Parts>,
    epoch: u64,
    max_frame: u32,
    out: mpsc::Sender<v1::PublishRequest>,
    files: mpsc::Sender<Lane>,
    lanes: HashMap<[u8; 16], Lane>,
    /// Lanes of each announcement that was not answered yet, oldest first.
    asked: VecDeque<Vec<[u8; 16]>>,
    senders: HashMap<[u8; 16], Sender>,
    /// Dropped with the desk: no sender outlives its session. Some bring a lane to announce again.
    tasks: JoinSet<Option<Lane>>,
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
        self.lanes
            .extend(new.iter().map(|lane| (lane.epoch(), lane.clone())));
        new.is_empty() || self.announce(new).await
    }

    /// Says where lanes stand; the answer names where to begin. False when the stream is gone.
    async fn announce(&mut self, lanes: Vec<Lane>) -> bool {
        let open = v1::PublishOpen {
            session_epoch: self.epoch,
            lanes: say::positions(&lanes).await,
        };
        self.asked
            .push_back(lanes.iter().map(Lane::epoch).collect());
        self.out.send(request(Body::Open(open))).await.is_ok()
    }

    async fn hear(&mut self, answer: v1::PublishResponse) {
        // Every announcement has one answer, in order; one without any position is empty.
        let answers_open = !answer.resumes.is_empty() || answer.acks.is_empty();
        for resume in &answer.resumes {
            self.resume(resume).await;
        }
        if let Some(asked) = answers_open.then(|| self.asked.pop_front()).flatten() {
            let resumed = |epoch: &[u8; 16]| {
                let mut resumes = answer.resumes.iter();
                resumes.any(|resume| resume.epoch.as_ref() == epoch)
            };
            for epoch in asked.iter().filter(|epoch| !resumed(epoch)) {
                self.not_resumed(epoch);
            }
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
        let delivery = Delivery::new(Arc::clone(&self.parts), lane, out, heard, self.max_frame);
        let task = self.tasks.spawn(async move {
            delivery.run().await;
            None
        });
        self.senders.insert(epoch, Sender { words, task });
    }

    /// The orchestrator does not know the lane's job, or not as this host's. While output may
    /// still come the lane is announced again; once it is closed the answer stands.
    fn not_resumed(&mut self, epoch: &[u8; 16]) {
        let Some(lane) = self.lanes.get(epoch).cloned() else {
            return;
        };
        let kind = lane.kind();
        if kind == LaneKind::Log && lane.is_closed() {
            return lane.refuse();
        }
        warn!(
            ?kind,
            "the orchestrator names no position for a lane; it is asked again"
        );
        self.tasks.spawn(async move {
            let closed = async {
                match kind {
                    LaneKind::Log => lane.wait_closed().await,
                    LaneKind::Audit | LaneKind::Job => std::future::pending().await,
                }
            };
            tokio::select! {
                () = closed => {}
                () = sleep(ASK_AGAIN) => {}
            }
            Some(lane)
        });
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
