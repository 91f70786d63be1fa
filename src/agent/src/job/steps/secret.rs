//! A secret on its way from the orchestrator to the broker; robotd carries it sealed.

use std::sync::Arc;

use privsep::Refusal;
use privsep::broker::Request;
use tokio::sync::oneshot;
use tracing::warn;

use super::super::Parts;
use crate::exchange::{SealedSecret, Transfer, TransferError};
use crate::ids::AttemptRef;

/// Fetches one secret that the bot asked for, or tells it why not.
pub(in crate::job) async fn fetch_secret(
    parts: Arc<Parts>,
    attempt: AttemptRef,
    fence: Option<u64>,
    name: String,
) {
    let request = match resolve(&parts, attempt, fence, &name).await {
        Ok(secret) => Request::Secret {
            attempt,
            name,
            encapsulated_key: secret.encapsulated_key,
            ciphertext: secret.ciphertext,
        },
        Err(TransferError::Stopping) => return,
        Err(TransferError::Refused(refusal)) => Request::SecretFailed {
            attempt,
            name,
            refusal,
        },
    };
    if let Err(reason) = parts.broker.tell(request, vec![]).await {
        warn!(%attempt, %reason, "the broker did not take the answer to a wanted secret; the bot asks again or goes without");
    }
}

async fn resolve(
    parts: &Parts,
    attempt: AttemptRef,
    fence: Option<u64>,
    name: &str,
) -> Result<SealedSecret, TransferError> {
    let lost = || {
        Refusal::new(
            "LEASE_LOST",
            "the license of the job is lost: no more secrets",
        )
    };
    let fence = fence.ok_or_else(lost)?;
    let (answer, answered) = oneshot::channel();
    let transfer = Transfer::Secrets {
        attempt,
        fence,
        names: vec![name.to_owned()],
        answer,
    };
    parts
        .transfers
        .send(transfer)
        .await
        .map_err(|_| TransferError::Stopping)?;
    let secrets = answered.await.map_err(|_| TransferError::Stopping)??;
    let none = || {
        Refusal::new(
            "SECRET_UNKNOWN",
            format!("the orchestrator has no secret {name:?} for this job"),
        )
    };
    secrets
        .into_iter()
        .find(|secret| secret.name == name)
        .ok_or_else(|| none().into())
}
