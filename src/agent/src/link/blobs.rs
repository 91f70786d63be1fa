//! Screenshots and artifacts to the orchestrator: content addressed, resumable, removed here when
//! they are complete there.

use std::time::Duration;

use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tracing::{debug, error};
use wire::v1;
use wire::v1::link_service_client::LinkServiceClient;
use wire::v1::put_artifact_request::{Body, Chunk, Open};

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

/// Delivers the files of one lane until it is closed and none is left.
pub(super) async fn deliver(lane: Lane, channel: Channel, session_epoch: u64, max_bytes: u64) {
    let Some(attempt) = lane.attempt().filter(|_| lane.kind() == LaneKind::Log) else {
        return lane.blobs_delivered();
    };
    let mut seen = None;
    let uploader = Uploader {
        client: LinkServiceClient::new(channel),
        attempt,
        session_epoch,
        max_bytes,
    };
    loop {
        let closed = lane.rung(&mut seen).await;
        loop {
            let blobs = lane.blobs().await;
            if blobs.is_empty() {
                break;
            }
            for blob in blobs {
                uploader.deliver(&blob).await;
            }
        }
        if closed {
            return lane.blobs_delivered();
        }
    }
}

struct Uploader {
    client: LinkServiceClient<Channel>,
    attempt: AttemptRef,
    session_epoch: u64,
    max_bytes: u64,
}

impl Uploader {
    /// Returns when the file is there, or when it never will be.
    async fn deliver(&self, blob: &Blob) {
        loop {
            match self.try_deliver(blob).await {
                Ok(()) => return self.remove(blob).await,
                Err(failure) if failure.passes() || matches!(failure, Failure::Superseded(_)) => {
                    debug!(path = %blob.path(), %failure, "a file could not be delivered yet");
                    tokio::time::sleep(PAUSE).await;
                }
                // Sent again it would be refused again; the record that names it stays.
                Err(failure) => {
                    error!(path = %blob.path(), %failure, "a file of the job can't be delivered and is given up");
                    return self.remove(blob).await;
                }
            }
        }
    }

    async fn remove(&self, blob: &Blob) {
        let blob = blob.clone();
        let removed = tokio::task::spawn_blocking(move || blob.remove()).await;
        drop(removed);
    }

    async fn try_deliver(&self, blob: &Blob) -> Result<(), Failure> {
        let opening = blob.clone();
        let opened = tokio::task::spawn_blocking(move || opening.open()).await;
        let (file, size) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(source)) => return Err(given_up("BLOB_UNREADABLE", source.to_string())),
            Err(_) => return Err(Failure::Network("robotd stops".into())),
        };
        if size > self.max_bytes {
            return Err(given_up(
                "BLOB_TOO_LARGE",
                format!("{size} bytes, the orchestrator takes {}", self.max_bytes),
            ));
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
            Ok(())
        } else {
            Err(Failure::Network("the file is not complete yet".into()))
        }
    }

    async fn put(
        &self,
        blob: &Blob,
        mut file: File,
        size: u64,
        offset: u64,
    ) -> Result<v1::PutArtifactResponse, Failure> {
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
            // An answer before the end means that the orchestrator wants no more.
            while chunks
                .send(v1::PutArtifactRequest { body: Some(body) })
                .await
                .is_ok()
            {
                let mut data = Vec::with_capacity(CHUNK);
                match (&mut file).take(CHUNK as u64).read_to_end(&mut data).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => body = Body::Chunk(Chunk { data: data.into() }),
                }
            }
        };
        let mut client = self.client.clone();
        let call = client.put_artifact(ReceiverStream::new(waiting));
        let (answered, ()) = tokio::join!(call, feed);
        answered
            .map(tonic::Response::into_inner)
            .map_err(|status| Failure::of_status(&status))
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
