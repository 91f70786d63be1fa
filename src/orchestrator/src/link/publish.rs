//! Durable records: frames in, acknowledgements out.

use order::AgentId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use wire::v1;
use wire::v1::publish_request::Body;

use super::{Answers, Link, malformed};
use crate::config;
use crate::refused::Refused;

/// Acknowledgements that wait for a slow reader; then nothing more is read from it.
const ACK_QUEUE: usize = 16;
/// Frames and bytes that one batch takes at most.
const BATCH_FRAMES: usize = 64;
const BATCH_BYTES: usize = config::MAX_BULK;
/// Frames that are read ahead while a batch becomes durable.
const AHEAD: usize = 16;
/// Lanes of one PublishOpen.
const MAX_LANES: usize = 1024;

pub(super) fn publish(
    link: Link,
    agent: AgentId,
    said: Streaming<v1::PublishRequest>,
) -> Answers<v1::PublishResponse> {
    let (answers, stream) = mpsc::channel(ACK_QUEUE);
    let (ahead, frames) = mpsc::channel(AHEAD);
    tokio::spawn(read(link.clone(), agent, said, ahead));
    tokio::spawn(async move {
        if let Err(refused) = serve(&link, agent, frames, &answers).await {
            // The reader may be gone; then nobody needs to know.
            drop(answers.send(Err(refused)).await);
        }
    });
    Box::pin(ReceiverStream::new(stream))
}

async fn read(
    link: Link,
    agent: AgentId,
    mut said: Streaming<v1::PublishRequest>,
    ahead: mpsc::Sender<Result<Body, Status>>,
) {
    loop {
        let next = match said.message().await {
            Ok(Some(v1::PublishRequest { body: Some(body) })) => Ok(body),
            Ok(Some(_)) => {
                Err(Refused::invalid("MESSAGE_UNKNOWN", "a message of no known kind").into())
            }
            Ok(None) => return,
            Err(status) => Err(malformed(&link.0, agent, status).await),
        };
        let failed = next.is_err();
        if ahead.send(next).await.is_err() || failed {
            return;
        }
    }
}

async fn serve(
    link: &Link,
    agent: AgentId,
    mut frames: mpsc::Receiver<Result<Body, Status>>,
    answers: &mpsc::Sender<Result<v1::PublishResponse, Status>>,
) -> Result<(), Status> {
    let mut epoch = None;
    let mut held = None;
    loop {
        let next = match held.take() {
            Some(next) => next,
            None => match frames.recv().await {
                Some(next) => next?,
                None => return Ok(()),
            },
        };
        let response = match next {
            Body::Open(open) => {
                link.check_epoch(agent, open.session_epoch)?;
                epoch = Some(open.session_epoch);
                if open.lanes.len() > MAX_LANES {
                    return Err(
                        Refused::invalid("TOO_MANY_LANES", "at most 1024 lanes at a time").into(),
                    );
                }
                let resumes = link.0.archive.open(agent, open.lanes).await?;
                v1::PublishResponse {
                    acks: Vec::new(),
                    resumes,
                }
            }
            Body::Frame(frame) => {
                let epoch = epoch.ok_or_else(|| {
                    Refused::state("LANE_NOT_OPEN", "the first message is PublishOpen")
                })?;
                link.check_epoch(agent, epoch)?;
                let (batch, rest) = gather(frame, &mut frames)?;
                held = rest;
                let acks = link.0.archive.publish(agent, batch).await?;
                v1::PublishResponse {
                    acks,
                    resumes: Vec::new(),
                }
            }
        };
        if answers.send(Ok(response)).await.is_err() {
            return Ok(());
        }
    }
}

/// Takes what is already here along with the first frame: they share one sync.
fn gather(
    first: v1::RecordFrame,
    frames: &mut mpsc::Receiver<Result<Body, Status>>,
) -> Result<(Vec<v1::RecordFrame>, Option<Body>), Status> {
    let mut bytes = first.payload.len();
    let mut batch = vec![first];
    while batch.len() < BATCH_FRAMES && bytes < BATCH_BYTES {
        match frames.try_recv() {
            Ok(Ok(Body::Frame(frame))) => {
                bytes += frame.payload.len();
                batch.push(frame);
            }
            Ok(Ok(open)) => return Ok((batch, Some(open))),
            Ok(Err(status)) => return Err(status),
            Err(_) => break,
        }
    }
    Ok((batch, None))
}
