//! Screenshots and artifacts to the orchestrator: content addressed, resumable, removed here when
//! they are complete there.

use std::sync::Arc;
use std::time::Duration;

use events::Code;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tracing::{debug, error};
use wire::v1;
use wire::v1::link_service_client::LinkServiceClient;
use wire::v1::put_artifact_request::{Body, Chunk, Open};

use super::Parts;
use super::failure::Failure;
use crate::encode::job_ref;
use crate::ids::AttemptRef;
use crate::spool::{Blob, Lane, LaneKind};

const CHUNK: usize = 256 * 1024;

/// Chunks that may wait for the connection.
const WAITING: usize = 2;

/// After a failure that may pass, within one session.
const PAUSE: Duration = Duration::from_secs(2);

const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Answers in a row that do not help one file, each after a whole try: it changes while it is
/// read, or the orchestrator does not want it of this host.
const TRIES: u32 = 5;

/// Refused files that are events of their own; a hostile attendant can make thousands.
const MAX_TOLD: u32 = 32;

/// Delivers the files of one lane until it is closed and none is left.
pub(super) async fn deliver(
    parts: Arc<Parts>,
    lane: Lane,
    channel: Channel,
    session_epoch: u64,
    max_bytes: u64,
) {
    let Some(attempt) = lane.attempt().filter(|_| lane.kind() == LaneKind::Log) else {
        return lane.blobs_delivered();
    };
    let mut seen = None;
    let mut uploader = Uploader {
        parts,
        client: LinkServiceClient::new(channel),
        attempt,
        session_epoch,
        max_bytes,
        told: 0,
    };
    loop {
        let closed = lane.rung(&mut seen).await;
        loop {
            let blobs = lane.blobs().await;
            if blobs.is_empty() {
                break;
            }
            let _under_way = uploader.parts.traffic.begin();
            for blob in blobs {
                uploader.settle(&blob).await;
                // What can't be removed is not listed again.
                lane.remove_blob(blob).await;
            }
        }
        if closed {
            return lane.blobs_delivered();
        }
    }
}

struct Uploader {
    parts: Arc<Parts>,
    client: LinkServiceClient<Channel>,
    attempt: AttemptRef,
    session_epoch: u64,
    max_bytes: u64,
    told: u32,
}

/// How one try ended, when the file is not there.
enum Setback {
    /// No network, no session, a busy server: it says nothing of the file.
    Pause(Failure),
    /// The orchestrator answered and it did not help.
    Answered(Failure),
    /// Sent again it would be refused again.
    Final(Failure),
}

impl From<Failure> for Setback {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused { .. } => Self::Final(failure),
            Failure::IdentityRefused { .. } => Self::Answered(failure),
            _ => Self::Pause(failure),
        }
    }
}

impl Uploader {
    /// Returns when the file is there, or when it never will be.
    async fn settle(&mut self, blob: &Blob) {
        let mut tries = 0;
        loop {
            let failure = match self.try_deliver(blob).await {
                Ok(()) => return,
                Err(Setback::Final(failure)) => return self.give_up(blob, &failure).await,
                Err(Setback::Answered(failure)) => {
                    tries += 1;
                    if tries == TRIES {
                        return self.give_up(blob, &failure).await;
                    }
                    failure
                }
                Err(Setback::Pause(failure)) => failure,
            };
            debug!(attempt = %self.attempt, sha256 = %blob.sha256, %failure, "a file could not be delivered yet");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The record that names it stays; the event says why there is no file.
    async fn give_up(&mut self, blob: &Blob, failure: &Failure) {
        error!(attempt = %self.attempt, sha256 = %blob.sha256, %failure, "a file of the job can't be delivered and is given up");
        self.told = self.told.saturating_add(1);
        let (code, reason) = match self.told {
            ..MAX_TOLD => (failure.code(), format!("file {}: {failure}", blob.sha256)),
            MAX_TOLD => (
                "MORE_FILES".to_owned(),
                "more files are refused; robotd's log names each".to_owned(),
            ),
            _ => return,
        };
        let audit = &self.parts.audit;
        let event = audit.event(Code::ArtifactRefused);
        let event = event.with("reason_code", code).with("reason", reason);
        audit.report_for(self.attempt, event).await;
    }

    async fn try_deliver(&self, blob: &Blob) -> Result<(), Setback> {
        let opening = blob.clone();
        let opened = tokio::task::spawn_blocking(move || opening.open()).await;
        let (file, size) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(reason)) => return Err(given_up("BLOB_UNREADABLE", reason.to_string()).into()),
            Err(_) => return Err(Failure::Network("robotd stops".into()).into()),
        };
        if size > self.max_bytes {
            return Err(given_up(
                "BLOB_TOO_LARGE",
                format!("{size} bytes, the orchestrator takes {}", self.max_bytes),
            )
            .into());
        }
        let mut client = self.client.clone();
        let query = v1::QueryArtifactRequest {
            sha256: blob.sha256.0.to_vec().into(),
        };
        let known = within(client.query_artifact(query)).await?.into_inner();
        if known.complete {
            return Ok(());
        }
        let offset = known.committed_bytes.min(size);
        let stored = self.put(blob, File::from_std(file), size, offset).await?;
        if stored.complete {
            return Ok(());
        }
        let detail = format!("{} of {size} bytes arrived", stored.committed_bytes);
        Err(Setback::Answered(given_up("BLOB_INCOMPLETE", detail)))
    }

    async fn put(
        &self,
        blob: &Blob,
        mut file: File,
        size: u64,
        offset: u64,
    ) -> Result<v1::PutArtifactResponse, Setback> {
        let unreadable = |source: std::io::Error| given_up("BLOB_UNREADABLE", source.to_string());
        file.seek(std::io::SeekFrom::Start(offset))
            .await
            .map_err(unreadable)?;
        let open = Open {
            sha256: blob.sha256.0.to_vec().into(),
            size_bytes: size,
            session_epoch: self.session_epoch,
            job: Some(job_ref(self.attempt)),
            offset,
        };
        let (chunks, waiting) = mpsc::channel(WAITING);
        let feed = async move {
            let mut body = Body::Open(open);
            // Not more than was announced: a file may grow while it is read.
            let mut file = file.take(size - offset);
            // An answer before the end means that the orchestrator wants no more.
            while chunks
                .send(v1::PutArtifactRequest { body: Some(body) })
                .await
                .is_ok()
            {
                let mut data = Vec::with_capacity(CHUNK);
                match (&mut file).take(CHUNK as u64).read_to_end(&mut data).await {
                    Ok(0) => return Ok(()),
                    Ok(_) => body = Body::Chunk(Chunk { data: data.into() }),
                    Err(source) => return Err(unreadable(source)),
                }
            }
            Ok(())
        };
        let mut client = self.client.clone();
        let call = client.put_artifact(ReceiverStream::new(waiting));
        let (answered, fed) = tokio::join!(call, feed);
        fed?;
        Ok(answered
            .map(tonic::Response::into_inner)
            .map_err(|status| Failure::of_status(&status))?)
    }
}

fn given_up(reason: &str, detail: String) -> Failure {
    Failure::Refused {
        reason: reason.into(),
        detail,
    }
}

async fn within<T>(call: impl Future<Output = Result<T, tonic::Status>>) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER_WITHIN, call).await {
        Ok(answered) => answered.map_err(|status| Failure::of_status(&status)),
        Err(_) => Err(Failure::Network("no answer".into())),
    }
}
