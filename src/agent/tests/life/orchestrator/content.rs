//! Files in, packages and secrets out.

use order::Sha256Hex;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wire::v1;

use super::{Shared, Stream};

pub(super) async fn query_artifact(
    own: &Shared,
    request: Request<v1::QueryArtifactRequest>,
) -> Result<Response<v1::QueryArtifactResponse>, Status> {
    let sha256 = Sha256Hex(request.into_inner().sha256.as_ref().try_into().unwrap());
    let complete = own.with(|seen| seen.blobs.contains_key(&sha256));
    Ok(Response::new(v1::QueryArtifactResponse {
        complete,
        committed_bytes: 0,
    }))
}

pub(super) async fn put_artifact(
    own: &Shared,
    request: Request<Streaming<v1::PutArtifactRequest>>,
) -> Result<Response<v1::PutArtifactResponse>, Status> {
    let mut stream = request.into_inner();
    let mut bytes = Vec::new();
    let mut sha256 = None;
    while let Some(message) = stream.message().await? {
        match message.body {
            Some(v1::put_artifact_request::Body::Open(open)) => {
                sha256 = Some(Sha256Hex(open.sha256.as_ref().try_into().unwrap()))
            }
            Some(v1::put_artifact_request::Body::Chunk(chunk)) => {
                bytes.extend_from_slice(&chunk.data)
            }
            None => {}
        }
    }
    let sha256 = sha256.unwrap();
    if sha256.0 != <[u8; 32]>::from(Sha256::digest(&bytes)) {
        return Err(Status::invalid_argument("DIGEST_MISMATCH: no"));
    }
    let committed_bytes = bytes.len() as u64;
    own.with(|seen| seen.blobs.insert(sha256, bytes));
    Ok(Response::new(v1::PutArtifactResponse {
        committed_bytes,
        complete: true,
    }))
}

pub(super) async fn fetch_package(
    own: &Shared,
    request: Request<v1::FetchPackageRequest>,
) -> Result<Response<Stream<v1::FetchPackageResponse>>, Status> {
    let request = request.into_inner();
    let sha256 = Sha256Hex(request.sha256.as_ref().try_into().unwrap());
    let (package, breaks) = own.with(|seen| {
        seen.fetches.push(request.offset);
        (seen.packages.get(&sha256).cloned(), seen.break_fetch.take())
    });
    let package = package.ok_or_else(|| Status::not_found("PACKAGE_UNKNOWN: no"))?;
    let (answers, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut offset = usize::try_from(request.offset).unwrap();
        while offset < package.len() {
            if breaks.is_some_and(|after| offset >= after) {
                let _ = answers.send(Err(Status::unavailable("broken"))).await;
                return;
            }
            let data = &package[offset..(offset + 1000).min(package.len())];
            let chunk = v1::FetchPackageResponse {
                offset: offset as u64,
                data: data.to_vec().into(),
                total_bytes: package.len() as u64,
            };
            offset += data.len();
            if answers.send(Ok(chunk)).await.is_err() {
                return;
            }
        }
    });
    Ok(Response::new(ReceiverStream::new(receiver)))
}

pub(super) async fn resolve_secrets(
    _: &Shared,
    request: Request<v1::ResolveSecretsRequest>,
) -> Result<Response<v1::ResolveSecretsResponse>, Status> {
    let request = request.into_inner();
    if request.names.iter().any(|name| name == "forbidden") {
        return Err(Status::permission_denied("SECRET_NOT_GRANTED: no"));
    }
    let secret = |name: String| v1::resolve_secrets_response::Secret {
        encapsulated_key: vec![1].into(),
        ciphertext: name.clone().into(),
        name,
        version: "1".into(),
    };
    Ok(Response::new(v1::ResolveSecretsResponse {
        secrets: request.names.into_iter().map(secret).collect(),
    }))
}
