//! A new certificate before the old one ends, under a new key.
//!
//! Two phases: the new one is stored beside the old one and used for the next session; the old
//! one is forgotten when that session was welcomed. An interruption at any point leaves one that
//! is accepted.

use std::time::{Duration, SystemTime};

use tonic::Request;
use tonic::transport::Channel;
use wire::v1;
use wire::v1::identity_service_client::IdentityServiceClient;

use super::Parts;
use super::enrolment::{EnrolError, issued};
use super::failure::Failure;
use super::identity::{HostKey, Identity, RENEWED};

const MAX_ANSWER: usize = 256 * 1024;

/// After a renewal that failed.
const PAUSE: Duration = Duration::from_secs(60);

/// Waits for its time, asks until it is answered, and stores the new identity.
pub(super) async fn renew(parts: &Parts, channel: Channel, known: Known) -> Identity {
    // The wall clock may be set meanwhile, so it is looked at again at least every hour.
    while let Ok(left) = known.renew_at.duration_since(SystemTime::now()) {
        tokio::time::sleep(left.min(Duration::from_secs(3600))).await;
    }
    loop {
        match ask(parts, channel.clone(), &known).await {
            Ok(identity) => return identity,
            Err(reason) => {
                tracing::warn!(%reason, "the certificate could not be renewed; trying again in a minute");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// What a renewal needs to know of the identity in use.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) agent: order::AgentId,
    pub(super) link_url: String,
    pub(super) bundle_serial: u64,
    pub(super) renew_at: SystemTime,
}

async fn ask(parts: &Parts, channel: Channel, known: &Known) -> Result<Identity, EnrolError> {
    let within = parts.config.link.connect_timeout();
    let key = HostKey::generate()?;
    let mut client = IdentityServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
    let mut request = Request::new(v1::RenewCertificateRequest {
        csr_der: key.request()?.into(),
    });
    request.set_timeout(within);
    let answered = tokio::time::timeout(within, client.renew_certificate(request)).await;
    let answered =
        answered.map_err(|_| Failure::Network(format!("no answer within {within:?}")))?;
    let response = answered
        .map_err(|status| Failure::of_status(&status))?
        .into_inner();
    let issued = issued(
        response
            .issued
            .ok_or(EnrolError::Answer("no certificate"))?,
    )?;
    if issued.agent != known.agent {
        return Err(EnrolError::Answer("it is for another agent"));
    }
    if issued.bundle_serial < known.bundle_serial {
        let replayed = super::identity::IdentityError::BundleReplayed {
            sent: issued.bundle_serial,
            known: known.bundle_serial,
        };
        return Err(replayed.into());
    }
    let identity = Identity::of(issued, key, known.link_url.clone())?;
    super::tls::of_identity(&identity)?;
    identity.store(&parts.config.identity_dir(), RENEWED)?;
    Ok(identity)
}

/// Roots to trust from now on.
#[derive(Debug)]
pub(super) struct Roots {
    pub(super) serial: u64,
    pub(super) roots: Vec<Vec<u8>>,
}

/// Asks once per session whether the roots have changed; returns only when they have.
pub(super) async fn next_roots(channel: Channel, known_serial: u64) -> Roots {
    let mut client = IdentityServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
    let answered = client
        .get_trust_bundle(v1::GetTrustBundleRequest { known_serial })
        .await;
    match answered.map(|response| response.into_inner().bundle) {
        Ok(Some(bundle)) if bundle.serial > known_serial && !bundle.root_der.is_empty() => Roots {
            serial: bundle.serial,
            roots: bundle.root_der.iter().map(|der| der.to_vec()).collect(),
        },
        Ok(_) => std::future::pending().await,
        Err(status) => {
            tracing::debug!(%status, "the roots can't be asked for; the next session asks again");
            std::future::pending().await
        }
    }
}
