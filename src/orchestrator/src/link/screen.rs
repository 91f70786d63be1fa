//! Live view of one job: frames in pieces in, a word per frame out.

use order::{AgentId, AttemptRef};
use prost::Message as _;
use prost::bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use wire::v1;
use wire::v1::stream_screen_request::{Body, Chunk, Open};

use super::{Answers, Link, attempt_of, malformed};
use crate::clock::Clock;
use crate::config;
use crate::core::Line;
use crate::events::{self, Event};
use crate::refused::Refused;
use crate::view::{MAX_CHUNK, Taken, check, check_encoded, too_large};

type Words = mpsc::Sender<Result<v1::StreamScreenResponse, Status>>;

/// Waits for Open and serves the call in a task of its own.
pub(super) async fn stream(
    link: Link,
    agent: AgentId,
    mut said: Streaming<v1::StreamScreenRequest>,
) -> Result<Answers<v1::StreamScreenResponse>, Status> {
    let open = opening(&mut said).await?;
    link.check_epoch(agent, open.session_epoch)?;
    let (epoch, attempt) = (open.session_epoch, attempt_of(open.job.as_ref())?);
    let line = link
        .0
        .desk
        .ask(move |core| core.open_feed(agent, epoch, attempt))
        .await??;
    // One word per frame, and the last one.
    let (words, answers) = mpsc::channel(2);
    tokio::spawn(serve(link, agent, attempt, line, said, words));
    Ok(Box::pin(ReceiverStream::new(answers)))
}

async fn opening(said: &mut Streaming<v1::StreamScreenRequest>) -> Result<Open, Status> {
    let missing = || Refused::invalid("OPEN_MISSING", "the first message is Open, within 10 s");
    let first = timeout(config::HANDSHAKE_LIMIT, said.message()).await;
    match first.map_err(|_| missing())?? {
        Some(v1::StreamScreenRequest {
            body: Some(Body::Open(open)),
        }) => Ok(open),
        _ => Err(missing().into()),
    }
}

/// Why a call ended.
enum End {
    /// Nobody looks on, the agent ended it, or the network did.
    Over,
    /// The link was too slow for a frame.
    Slow(Refused),
    /// Its agent broke a rule.
    Broken(Refused),
    /// What can't be read; noted already.
    Unreadable(Status),
}

async fn serve(
    link: Link,
    agent: AgentId,
    attempt: AttemptRef,
    mut line: Line,
    mut said: Streaming<v1::StreamScreenRequest>,
    words: Words,
) {
    let (number, wanted) = (
        line.number,
        std::mem::replace(&mut line.wanted, oneshot::channel().1),
    );
    let end = tokio::select! {
        end = take_frames(&link, agent, &line, &mut said, &words) => end,
        // An error is what is waited for: the core wants it no more.
        _ = wanted => End::Over,
    };
    let broken = match end {
        End::Over => None,
        // Nobody's fault.
        End::Slow(refused) => {
            drop(words.send(Err(refused.clone().into())).await);
            Some(refused)
        }
        End::Broken(refused) => {
            note(&link, agent, attempt, &refused).await;
            drop(words.send(Err(refused.clone().into())).await);
            Some(refused)
        }
        End::Unreadable(status) => {
            let refused = Refused::invalid("MESSAGE_MALFORMED", status.message());
            drop(words.send(Err(status)).await);
            Some(refused)
        }
    };
    let told = link
        .0
        .desk
        .ask(move |core| core.feed_ended(attempt, number, broken));
    // A server that stops has no views any more.
    drop(told.await);
}

async fn note(link: &Link, agent: AgentId, attempt: AttemptRef, refused: &Refused) {
    let text = format!("agent {agent} showed what can't be the screen of {attempt}: {refused}");
    let event = Event::own(events::MESSAGE_MALFORMED, Clock.unix_ms(), text)
        .agent(agent)
        .job(attempt.job)
        .entity(&refused.code);
    drop(link.0.desk.ask(move |core| core.record(event)).await);
}

async fn take_frames(
    link: &Link,
    agent: AgentId,
    line: &Line,
    said: &mut Streaming<v1::StreamScreenRequest>,
    words: &Words,
) -> End {
    loop {
        let frame = match whole(link, agent, line, said).await {
            Ok(frame) => frame,
            Err(end) => return end,
        };
        if let Err(refused) = check_encoded(&frame) {
            return End::Broken(refused);
        }
        let frame = match v1::ScreenFrame::decode(frame) {
            Ok(frame) => frame,
            Err(error) => {
                return End::Broken(Refused::invalid("SCREEN_MALFORMED", error.to_string()));
            }
        };
        if let Err(refused) = check(&frame) {
            return End::Broken(refused);
        }
        let mut taken = Taken::Next;
        line.screen.send_modify(|screen| taken = screen.take(frame));
        let word = v1::StreamScreenResponse {
            keyframe_wanted: taken == Taken::Anew,
        };
        if words.send(Ok(word)).await.is_err() {
            return End::Over;
        }
    }
}

/// The pieces of one frame. Waits for the first for as long as nothing changes on the screen, for the
/// others not.
async fn whole(
    link: &Link,
    agent: AgentId,
    line: &Line,
    said: &mut Streaming<v1::StreamScreenRequest>,
) -> Result<Bytes, End> {
    let mut frame = Vec::new();
    let mut until: Option<Instant> = None;
    loop {
        let message = match until {
            None => said.message().await,
            Some(until) => match timeout_at(until, said.message()).await {
                Ok(message) => message,
                Err(_) => {
                    let text = "a frame was begun and did not become whole in time: the link is slow or busy";
                    return Err(End::Slow(Refused::unavailable("SCREEN_INCOMPLETE", text)));
                }
            },
        };
        let message = match message {
            Ok(Some(message)) => message,
            Ok(None) => return Err(End::Over),
            Err(status) => return Err(unreadable(link, agent, status).await),
        };
        let Some(Body::Chunk(chunk)) = message.body else {
            let text = "after Open only pieces of frames come";
            return Err(End::Broken(Refused::invalid("OPEN_REPEATED", text)));
        };
        append(&mut frame, &chunk, line.most_bytes).map_err(End::Broken)?;
        if chunk.last {
            return Ok(frame.into());
        }
        until.get_or_insert_with(|| Instant::now() + config::VIEW_FRAME_WITHIN);
    }
}

fn append(frame: &mut Vec<u8>, chunk: &Chunk, most: usize) -> Result<(), Refused> {
    if chunk.data.len() > MAX_CHUNK {
        return Err(too_large("a piece of a frame has at most 128 KiB"));
    }
    if chunk.data.is_empty() {
        return Err(Refused::invalid("SCREEN_MALFORMED", "an empty piece"));
    }
    if frame.len() + chunk.data.len() > most {
        return Err(too_large(&format!(
            "a frame of this display has at most {most} bytes"
        )));
    }
    frame.extend_from_slice(&chunk.data);
    Ok(())
}

/// What its own bytes broke is the agent's fault, what the network broke is not.
async fn unreadable(link: &Link, agent: AgentId, status: Status) -> End {
    let told = malformed(&link.0, agent, status).await;
    match told.code() {
        tonic::Code::InvalidArgument | tonic::Code::ResourceExhausted => End::Unreadable(told),
        _ => End::Over,
    }
}
