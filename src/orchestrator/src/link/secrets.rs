//! Secrets of one running attempt, sealed for its broker.

use order::AgentId;
use wire::v1;
use wire::v1::resolve_secrets_response::Secret;

use super::{Link, attempt_of};
use crate::refused::Refused;

/// Names of one request.
const MAX_NAMES: usize = 64;

pub(super) async fn resolve(
    link: &Link,
    agent: AgentId,
    request: v1::ResolveSecretsRequest,
) -> Result<v1::ResolveSecretsResponse, Refused> {
    let attempt = attempt_of(request.job.as_ref())?;
    let (fence, names) = (request.fence, request.names);
    if names.is_empty() || names.len() > MAX_NAMES {
        return Err(Refused::invalid(
            "NAMES_INVALID",
            "1 to 64 names are accepted",
        ));
    }
    let granted = link
        .0
        .desk
        .ask(move |core| core.resolve_secrets(agent, attempt, fence, &names))
        .await??;
    let secrets = granted
        .into_iter()
        .map(|granted| Secret {
            name: granted.name,
            encapsulated_key: granted.sealed.encapsulated_key.into(),
            ciphertext: granted.sealed.ciphertext.into(),
            version: granted.version.to_string(),
        })
        .collect();
    Ok(v1::ResolveSecretsResponse { secrets })
}
