//! Live views to the orchestrator: frames in pieces, one frame under way at a time.
//!
//! The bulk connection's flow control is shared with lanes and files. What of a frame is sent and not
//! read yet takes from the window of all: so only one frame of all views of this host is under way,
//! which takes at most its stream's window, half of the connection's. Before each piece others go first.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use tracing::debug;
use wire::v1;
use wire::v1::link_service_client::LinkServiceClient;
use wire::v1::stream_screen_request::{Body, Chunk, Open};

use super::failure::Failure;
use super::traffic::Traffic;
use crate::encode::job_ref;
use crate::exchange::{ScreenFrame, Taken, View};

/// Half of what the contract allows: so much can be ahead of a record that comes just then.
const CHUNK: u64 = 64 * 1024;

/// Without room for one piece, or without a word on a whole frame, the call is given up.
const PROGRESS_WITHIN: Duration = Duration::from_secs(30);

/// What all views of one session share.
#[derive(Clone)]
pub(super) struct Road {
    channel: Channel,
    session_epoch: u64,
    traffic: Traffic,
    /// One frame of all views is under way.
    turn: Arc<Semaphore>,
}

impl Road {
    pub(super) fn new(channel: Channel, session_epoch: u64, traffic: Traffic) -> Self {
        Self {
            channel,
            session_epoch,
            traffic,
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Passes frames on until the orchestrator, the job or the session ends it. Dropping the view
    /// tells its attendant.
    pub(super) async fn deliver(self, view: View) {
        let attempt = view.attempt;
        match self.stream(view).await {
            Ok(()) => debug!(%attempt, "nobody looks on any more"),
            Err(failure) => debug!(%attempt, %failure, "the live view ended"),
        }
    }

    async fn stream(self, mut view: View) -> Result<(), Failure> {
        let (out, waiting) = mpsc::channel(1);
        let open = Body::Open(Open {
            session_epoch: self.session_epoch,
            job: Some(job_ref(view.attempt)),
        });
        send(&out, open).await?;
        let mut client = LinkServiceClient::new(self.channel.clone());
        let call = client.stream_screen(ReceiverStream::new(waiting));
        let mut answers = within(call)
            .await?
            .map_err(|status| Failure::of_status(&status))?
            .into_inner();
        loop {
            let frame = tokio::select! {
                // Nothing is due: it is the end, or a word too many.
                answer = answers.message() => match answer {
                    Ok(Some(_)) => continue,
                    Ok(None) => return Ok(()),
                    Err(status) => return Err(Failure::of_status(&status)),
                },
                frame = view.frames.recv() => match frame {
                    Some(frame) => frame,
                    None => return Ok(()),
                },
            };
            if !self.pass(frame, &out, &mut answers).await? {
                return Ok(());
            }
        }
    }

    /// False when the orchestrator ended the call.
    async fn pass(
        &self,
        frame: ScreenFrame,
        out: &mpsc::Sender<v1::StreamScreenRequest>,
        answers: &mut Streaming<v1::StreamScreenResponse>,
    ) -> Result<bool, Failure> {
        let ScreenFrame {
            bytes,
            length,
            mut taken,
        } = frame;
        let Ok(_turn) = self.turn.acquire().await else {
            return Ok(false);
        };
        tokio::select! {
            sent = self.send_frame(&bytes, length, out) => sent?,
            ended = answers.message() => return match ended {
                // A word before the frame was whole can only mean one that is not wanted.
                Ok(_) => Ok(false),
                Err(status) => Err(Failure::of_status(&status)),
            },
            // Another view took the place of this one, or the job is over.
            () = taken.closed() => return Ok(false),
        }
        let answer = tokio::select! {
            answer = within(answers.message()) => answer?,
            () = taken.closed() => return Ok(false),
        };
        let Some(answer) = answer.map_err(|status| Failure::of_status(&status))? else {
            return Ok(false);
        };
        let word = match answer.keyframe_wanted {
            true => Taken::Anew,
            false => Taken::Next,
        };
        // Nobody waits for it when the attendant is another by now.
        let _ = taken.send(word);
        Ok(true)
    }

    async fn send_frame(
        &self,
        bytes: &File,
        whole: u64,
        out: &mpsc::Sender<v1::StreamScreenRequest>,
    ) -> Result<(), Failure> {
        let mut offset = 0;
        while offset < whole {
            self.traffic.give_way().await;
            let length = CHUNK.min(whole - offset);
            let mut data = vec![0; usize::try_from(length).unwrap_or(0)];
            bytes
                .read_exact_at(&mut data, offset)
                .map_err(|source| Failure::Network(format!("a frame can't be read: {source}")))?;
            offset += length;
            let chunk = Chunk {
                data: data.into(),
                last: offset == whole,
            };
            send(out, Body::Chunk(chunk)).await?;
        }
        Ok(())
    }
}

async fn within<T>(answer: impl Future<Output = T>) -> Result<T, Failure> {
    timeout(PROGRESS_WITHIN, answer)
        .await
        .map_err(|_| Failure::Network(format!("no word on a frame within {PROGRESS_WITHIN:?}")))
}

async fn send(out: &mpsc::Sender<v1::StreamScreenRequest>, body: Body) -> Result<(), Failure> {
    let message = v1::StreamScreenRequest { body: Some(body) };
    within(out.send(message))
        .await?
        .map_err(|_| Failure::Network("the orchestrator ended the call".into()))
}
