//! First contact: a token for a certificate. Nothing is stored until all of it is there.

use std::path::Path;

use order::Sha256Hex;
use tonic::Request;
use wire::v1;
use wire::v1::enrollment_service_client::EnrollmentServiceClient;
use zeroize::Zeroizing;

use super::channel::{Purpose, connect};
use super::failure::Failure;
use super::identity::{
    CURRENT, HostKey, Identity, IdentityError, Issued, RENEWED, fingerprint, remove,
};
use super::read;
use super::{Enrol, Parts, say, tls};
use crate::control::LinkState;

/// The key of a request whose answer may be lost.
const PENDING: &str = "enrolling.key";

const MAX_ANSWER: usize = 256 * 1024;

/// Why this host is not enrolled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    /// The call.
    #[error(transparent)]
    Link(#[from] Failure),
    /// The files or what was issued.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// TLS can't be set up.
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The answer is not what was asked for.
    #[error("the orchestrator's answer can't be used: {0}")]
    Answer(&'static str),
    /// robotd stops.
    #[error("robotd stops; run the command again when it is back")]
    Stopping,
}

impl EnrolError {
    /// Stable, UPPER_SNAKE_CASE.
    pub(crate) fn code(&self) -> String {
        match self {
            Self::Link(failure) => failure.code(),
            Self::Identity(IdentityError::File { .. }) => "IDENTITY_UNWRITABLE".into(),
            Self::Identity(_) => "IDENTITY_INVALID".into(),
            Self::Tls(_) => "TLS_FAILED".into(),
            Self::Answer(_) => "ENROLMENT_ANSWER_INVALID".into(),
            Self::Stopping => "STOPPING".into(),
        }
    }
}

/// Enrols. Asked again with the same token it uses the same key, so that an answer that was lost,
/// or a crash before it was stored, does no harm.
pub(super) async fn enrol(parts: &Parts, wish: &Enrol) -> Result<Identity, EnrolError> {
    let folder = parts.config.identity_dir();
    let used = Sha256Hex(fingerprint(&secret_of(wish)?));
    if let Some(identity) = already(parts, &folder, used) {
        return Ok(identity);
    }
    let key = pending_key(&folder)?;
    let response = ask(parts, wish, &key).await?;
    let issued = issued(
        response
            .issued
            .ok_or(EnrolError::Answer("no certificate"))?,
    )?;
    if issued.agent != wish.token.agent_id {
        return Err(EnrolError::Answer("it is for another agent than the token"));
    }
    if !issued
        .roots
        .iter()
        .any(|root| fingerprint(root) == wish.token.root_sha256.0)
    {
        return Err(EnrolError::Answer(
            "the root that the token names is not among its roots",
        ));
    }
    let mut identity = Identity::of(issued, key, wish.token.link_url.clone())?;
    identity.token_sha256 = Some(used);
    // It must be usable before it replaces what is there.
    tls::of_identity(&identity)?;
    identity.store(&folder, CURRENT)?;
    remove(&folder, RENEWED);
    remove(&folder, PENDING);
    Ok(identity)
}

fn secret_of(wish: &Enrol) -> Result<Zeroizing<Vec<u8>>, EnrolError> {
    wish.token
        .secret_bytes()
        .ok_or(EnrolError::Answer("the token has no secret"))
}

/// The same token once more, after its answer to robotctl was lost: nothing is left to do. Unless
/// the identity is refused; then the orchestrator says what is wrong.
fn already(parts: &Parts, folder: &Path, used: Sha256Hex) -> Option<Identity> {
    if parts.status.borrow().state == LinkState::Refused {
        return None;
    }
    // One that can't be read is what is to be replaced.
    let stored = Identity::load(folder, CURRENT).unwrap_or_default();
    stored.filter(|identity| identity.token_sha256 == Some(used))
}

fn pending_key(folder: &Path) -> Result<HostKey, IdentityError> {
    if let Some(key) = HostKey::pending(folder, PENDING)? {
        return Ok(key);
    }
    let key = HostKey::generate()?;
    key.keep_pending(folder, PENDING)?;
    Ok(key)
}

async fn ask(parts: &Parts, wish: &Enrol, key: &HostKey) -> Result<v1::EnrollResponse, EnrolError> {
    let secret = secret_of(wish)?;
    let request = v1::EnrollRequest {
        csr_der: key.request()?.into(),
        join_secret: secret.to_vec().into(),
        host: Some(say::facts(parts.host.facts(), &parts.config.labels)),
        broker_keys: Some(v1::BrokerKeys {
            result_key: wish.keys.result_key.clone().into(),
            secret_key: wish.keys.secret_key.clone().into(),
        }),
    };
    let within = parts.config.link.connect_timeout();
    let tls = tls::of_pin(wish.token.root_sha256.0)?;
    let (channel, tap) = connect(&wish.token.enroll_url, tls, Purpose::Control, within).await?;
    let mut client = EnrollmentServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
    let mut request = Request::new(request);
    request.set_timeout(within);
    let answered = tokio::time::timeout(within, client.enroll(request)).await;
    let answered =
        answered.map_err(|_| Failure::Network(format!("no answer within {within:?}")))?;
    Ok(answered
        .map_err(|status| tap.explain(Failure::of_status(&status)))?
        .into_inner())
}

/// What an orchestrator issued, read.
pub(super) fn issued(wire: v1::IssuedCertificate) -> Result<Issued, EnrolError> {
    let bundle = wire
        .bundle
        .ok_or(EnrolError::Answer("no root certificates"))?;
    Ok(Issued {
        agent: wire
            .agent_id
            .parse()
            .map_err(|_| EnrolError::Answer("no agent id"))?,
        chain: wire.chain_der.iter().map(|der| der.to_vec()).collect(),
        roots: bundle.root_der.iter().map(|der| der.to_vec()).collect(),
        bundle_serial: bundle.serial,
        renew_before: read::length(wire.renew_before.as_ref()).unwrap_or_default(),
    })
}
