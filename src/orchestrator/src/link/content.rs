//! Artifacts in, packages out: by digest, resumable.

use std::io::{Read as _, Seek as _, SeekFrom};

use order::{AgentId, Sha256Hex};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use wire::v1;
use wire::v1::put_artifact_request::{Body, Open};

use super::{Answers, Link, attempt_of, digest_of};
use crate::blobs::{Arriving, Blobs};
use crate::config;
use crate::refused::{Kind, Refused};

/// Bytes of a package in one message.
const PIECE: usize = 256 << 10;
/// Pieces that wait for a slow reader.
const PIECES: usize = 4;

pub(super) fn query(blobs: &Blobs, digest: Sha256Hex) -> v1::QueryArtifactResponse {
    match blobs.size(digest) {
        Some(size) => v1::QueryArtifactResponse {
            complete: true,
            committed_bytes: size,
        },
        None => v1::QueryArtifactResponse {
            complete: false,
            committed_bytes: blobs.arrived(digest),
        },
    }
}

/// Work on files, away from the network's threads.
async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, Refused> + Send + 'static,
) -> Result<R, Refused> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Refused::unavailable("THREAD_FAILED", error.to_string()))?
}

pub(super) async fn put(
    link: &Link,
    agent: AgentId,
    mut said: Streaming<v1::PutArtifactRequest>,
) -> Result<v1::PutArtifactResponse, Status> {
    let Some(v1::PutArtifactRequest {
        body: Some(Body::Open(open)),
    }) = said.message().await?
    else {
        return Err(Refused::invalid("OPEN_MISSING", "the first message is Open").into());
    };
    link.check_epoch(agent, open.session_epoch)?;
    let attempt = attempt_of(open.job.as_ref())?;
    link.0
        .desk
        .ask(move |core| core.may_upload(agent, attempt))
        .await??;
    let digest = digest_of(&open.sha256)?;
    if open.size_bytes > config::MAX_ARTIFACT {
        return Err(Refused::new(
            Kind::Exhausted,
            "ARTIFACT_TOO_LARGE",
            format!("at most {} bytes are taken", config::MAX_ARTIFACT),
        )
        .into());
    }
    if let Some(size) = link.0.blobs.size(digest) {
        return Ok(complete(size));
    }
    let response = receive(link.0.blobs.clone(), digest, &open, said).await?;
    if response.complete {
        link.0
            .desk
            .ask(move |core| core.artifact_complete(attempt))
            .await?;
    }
    Ok(response)
}

fn complete(size: u64) -> v1::PutArtifactResponse {
    v1::PutArtifactResponse {
        committed_bytes: size,
        complete: true,
    }
}

/// Writes chunks as they come. Whatever ends the stream early, what was written stays.
async fn receive(
    blobs: Blobs,
    digest: Sha256Hex,
    open: &Open,
    mut said: Streaming<v1::PutArtifactRequest>,
) -> Result<v1::PutArtifactResponse, Status> {
    let (offset, size) = (open.offset, open.size_bytes);
    let mut arriving: Arriving = blocking(move || blobs.resume(digest, offset)).await?;
    while let Some(message) = said.message().await? {
        let Some(Body::Chunk(chunk)) = message.body else {
            return Err(Refused::invalid("OPEN_REPEATED", "Open comes once").into());
        };
        if arriving.length() + chunk.data.len() as u64 > size {
            return Err(
                Refused::invalid("ARTIFACT_SIZE_MISMATCH", "more bytes than announced").into(),
            );
        }
        arriving = blocking(move || {
            arriving.write(&chunk.data)?;
            Ok(arriving)
        })
        .await?;
    }
    let length = arriving.length();
    if length < size {
        return Ok(v1::PutArtifactResponse {
            committed_bytes: length,
            complete: false,
        });
    }
    blocking(move || arriving.finish()).await?;
    Ok(complete(length))
}

pub(super) async fn fetch(
    link: &Link,
    agent: AgentId,
    request: v1::FetchPackageRequest,
) -> Result<Answers<v1::FetchPackageResponse>, Status> {
    let attempt = attempt_of(request.job.as_ref())?;
    let digest = digest_of(&request.sha256)?;
    link.0
        .desk
        .ask(move |core| core.may_fetch(agent, attempt, digest))
        .await??;
    let blobs = link.0.blobs.clone();
    let total = blobs.size(digest).ok_or_else(|| {
        Refused::not_found("BLOB_UNKNOWN", format!("no content with digest {digest}"))
    })?;
    if request.offset > total {
        return Err(Refused::invalid(
            "OFFSET_BEYOND_END",
            format!("the package has {total} bytes"),
        )
        .into());
    }
    let (pieces, stream) = mpsc::channel(PIECES);
    let offset = request.offset;
    tokio::task::spawn_blocking(move || {
        if let Err(refused) = send(&blobs, digest, offset, total, &pieces) {
            drop(pieces.blocking_send(Err(refused.into())));
        }
    });
    Ok(Box::pin(ReceiverStream::new(stream)))
}

fn send(
    blobs: &Blobs,
    digest: Sha256Hex,
    mut offset: u64,
    total_bytes: u64,
    pieces: &mpsc::Sender<Result<v1::FetchPackageResponse, Status>>,
) -> Result<(), Refused> {
    let path = blobs.path(digest);
    let fail = |error: std::io::Error| Refused::io("can't read", &path, &error);
    let mut file = blobs.read(digest)?;
    file.seek(SeekFrom::Start(offset)).map_err(fail)?;
    loop {
        let mut piece = vec![0; PIECE];
        let read = file.read(&mut piece).map_err(fail)?;
        piece.truncate(read);
        let message = v1::FetchPackageResponse {
            offset,
            data: piece.into(),
            total_bytes,
        };
        offset += read as u64;
        // An empty last piece tells an agent that resumed at the end that it has all.
        if pieces.blocking_send(Ok(message)).is_err() || read == 0 || offset >= total_bytes {
            return Ok(());
        }
    }
}
