//! Packages in, secrets in: questions of jobs over the bulk connection. They outlive sessions: an
//! outage pauses them, and a package goes on where it stopped.

use std::io::SeekFrom;
use std::sync::Arc;
use std::time::Duration;

use privsep::Refusal;
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tonic::Request;
use tonic::transport::Channel;
use tracing::debug;
use wire::v1;
use wire::v1::link_service_client::LinkServiceClient;

use super::failure::Failure;
use crate::encode::job_ref;
use crate::exchange::{SealedSecret, Transfer, TransferError};
use crate::ids::{AttemptRef, Sha256Hex};

/// Transfers at once: more would only share the same connection.
const AT_ONCE: usize = 4;

/// A chunk of a package and its frame.
const MAX_MESSAGE: usize = 5 << 20;

/// A stream that brings nothing for this long is dead.
const CHUNK_WITHIN: Duration = Duration::from_secs(60);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// After a failure that may pass, within one session.
const PAUSE: Duration = Duration::from_secs(2);

/// The bulk connection of the session, when there is one.
pub(super) type Bulk = watch::Receiver<Option<Channel>>;

/// Takes questions until robotd stops.
pub(super) async fn serve(mut waiting: mpsc::Receiver<Transfer>, bulk: Bulk) {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(transfer) = waiting.recv().await {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else {
            return;
        };
        let bulk = bulk.clone();
        tokio::spawn(async move {
            carry_out(transfer, bulk).await;
            drop(turn);
        });
    }
}

async fn carry_out(transfer: Transfer, bulk: Bulk) {
    match transfer {
        Transfer::Package {
            sha256,
            max_bytes,
            attempt,
            into,
            answer,
        } => {
            let fetch = Fetch::new(sha256, max_bytes, attempt, File::from_std(into));
            reply(answer, fetch.run(bulk)).await;
        }
        Transfer::Secrets {
            attempt,
            fence,
            names,
            answer,
        } => reply(answer, secrets(attempt, fence, names, bulk)).await,
    }
}

/// Gives up when nobody waits for the answer any more.
async fn reply<T>(
    mut answer: oneshot::Sender<Result<T, TransferError>>,
    work: impl Future<Output = Result<T, TransferError>>,
) {
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = answer.closed() => return,
    };
    // Whoever asked may have gone in this moment.
    let _ = answer.send(outcome);
}

/// A client of the session that is or comes.
async fn client(bulk: &mut Bulk) -> Result<LinkServiceClient<Channel>, TransferError> {
    let channel = bulk
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|channel| channel.clone());
    let channel = channel.ok_or(TransferError::Stopping)?;
    Ok(LinkServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE))
}

/// For good, or again after a pause.
async fn pass_or_pause(failure: Failure) -> Result<(), TransferError> {
    if let Failure::Refused { reason, detail } | Failure::IdentityRefused { reason, detail } =
        failure
    {
        return Err(Refusal::new(&reason, detail).into());
    }
    debug!(%failure, "a transfer is interrupted");
    let pause = if let Failure::Later(delay) = failure {
        delay.min(Duration::from_secs(60))
    } else {
        PAUSE
    };
    tokio::time::sleep(pause).await;
    Ok(())
}

/// A package on its way.
struct Fetch {
    sha256: Sha256Hex,
    max_bytes: u64,
    attempt: AttemptRef,
    file: File,
    have: u64,
    digest: Sha256,
}

impl Fetch {
    fn new(sha256: Sha256Hex, max_bytes: u64, attempt: AttemptRef, file: File) -> Self {
        Self {
            sha256,
            max_bytes,
            attempt,
            file,
            have: 0,
            digest: Sha256::new(),
        }
    }

    async fn run(mut self, mut bulk: Bulk) -> Result<std::fs::File, TransferError> {
        loop {
            let client = client(&mut bulk).await?;
            match self.stream(client).await? {
                Ok(()) => return self.finish().await,
                Err(failure) => pass_or_pause(failure).await?,
            }
        }
    }

    /// Outer error: give up. Inner: the connection.
    async fn stream(
        &mut self,
        mut client: LinkServiceClient<Channel>,
    ) -> Result<Result<(), Failure>, TransferError> {
        let request = v1::FetchPackageRequest {
            sha256: self.sha256.0.to_vec().into(),
            offset: self.have,
            job: Some(job_ref(self.attempt)),
        };
        let mut stream =
            match tokio::time::timeout(ANSWER_WITHIN, client.fetch_package(request)).await {
                Ok(Ok(response)) => response.into_inner(),
                Ok(Err(status)) => return Ok(Err(Failure::of_status(&status))),
                Err(_) => return Ok(Err(Failure::Network("no answer to FetchPackage".into()))),
            };
        loop {
            match tokio::time::timeout(CHUNK_WITHIN, stream.message()).await {
                Ok(Ok(Some(chunk))) => self.take(&chunk).await?,
                Ok(Ok(None)) => return Ok(Ok(())),
                Ok(Err(status)) => return Ok(Err(Failure::of_status(&status))),
                Err(_) => {
                    return Ok(Err(Failure::Network(
                        "the package stream stands still".into(),
                    )));
                }
            }
        }
    }

    async fn take(&mut self, chunk: &v1::FetchPackageResponse) -> Result<(), TransferError> {
        let refuse =
            |code: &str, detail: String| Err(TransferError::from(Refusal::new(code, detail)));
        if chunk.offset != self.have {
            return refuse(
                "PACKAGE_STREAM_BROKEN",
                format!(
                    "bytes from {} came where {} were due",
                    chunk.offset, self.have
                ),
            );
        }
        let total = self.have.saturating_add(chunk.data.len() as u64);
        if total > self.max_bytes || chunk.total_bytes > self.max_bytes {
            return refuse(
                "PACKAGE_TOO_LARGE",
                format!("more than the {} bytes that were offered", self.max_bytes),
            );
        }
        self.digest.update(&chunk.data);
        if let Err(source) = self.file.write_all(&chunk.data).await {
            return refuse(
                "TMP_UNWRITABLE",
                format!("the package can't be written: {source}"),
            );
        }
        self.have = total;
        Ok(())
    }

    /// Checked here already: the broker would refuse it later, at a higher cost.
    async fn finish(mut self) -> Result<std::fs::File, TransferError> {
        let found: [u8; 32] = self.digest.finalize().into();
        if found != self.sha256.0 {
            let detail = format!("{} was offered, {} came", self.sha256, Sha256Hex(found));
            return Err(Refusal::new("PACKAGE_DIGEST_MISMATCH", detail).into());
        }
        let written = async {
            self.file.flush().await?;
            self.file.seek(SeekFrom::Start(0)).await
        };
        if let Err(source) = written.await {
            return Err(Refusal::new(
                "TMP_UNWRITABLE",
                format!("the package can't be written: {source}"),
            )
            .into());
        }
        Ok(self.file.into_std().await)
    }
}

async fn secrets(
    attempt: AttemptRef,
    fence: u64,
    names: Vec<String>,
    mut bulk: Bulk,
) -> Result<Vec<SealedSecret>, TransferError> {
    loop {
        let mut client = client(&mut bulk).await?;
        let mut request = Request::new(v1::ResolveSecretsRequest {
            job: Some(job_ref(attempt)),
            fence,
            names: names.clone(),
        });
        request.set_timeout(ANSWER_WITHIN);
        match client.resolve_secrets(request).await {
            Ok(response) => {
                return Ok(response
                    .into_inner()
                    .secrets
                    .into_iter()
                    .map(sealed)
                    .collect());
            }
            Err(status) => pass_or_pause(Failure::of_status(&status)).await?,
        }
    }
}

fn sealed(wire: v1::resolve_secrets_response::Secret) -> SealedSecret {
    SealedSecret {
        name: wire.name,
        encapsulated_key: wire.encapsulated_key.to_vec(),
        ciphertext: wire.ciphertext.to_vec(),
    }
}
