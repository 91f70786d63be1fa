//! `EnrollmentService`: a token and a key become an identity.

use std::sync::Arc;

use order::VerifyingKey;
use sha2::{Digest as _, Sha256};
use tonic::{Request, Response, Status};
use wire::v1;

use crate::app::App;
use crate::ca;
use crate::config;
use crate::core::Enrolled;
use crate::refused::Refused;
use crate::tls::Peer;
use crate::vault;

/// The service behind `--enroll`.
pub(crate) struct Enrollment(pub(crate) Arc<App>);

#[tonic::async_trait]
impl v1::enrollment_service_server::EnrollmentService for Enrollment {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        let from = request.extensions().get::<Peer>().map(|peer| peer.address);
        let request = request.into_inner();
        // Checking a key costs time; the network's thread has other connections.
        let csr = ca::Request::parse(&request.csr_der)?;
        let keys = request.broker_keys.unwrap_or_default();
        if VerifyingKey::from_bytes(&keys.result_key).is_err()
            || !vault::is_secret_key(&keys.secret_key)
        {
            return Err(Refused::invalid(
                "KEY_INVALID",
                "broker_keys are 32 bytes of Ed25519 and 32 bytes of X25519",
            )
            .into());
        }
        let enrolled = Enrolled {
            secret_sha256: Sha256::digest(&request.join_secret).into(),
            spki_sha256: csr.spki_sha256(),
            result_key: keys.result_key.to_vec(),
            secret_key: keys.secret_key.to_vec(),
            from: from.map(|from| from.to_string()).unwrap_or_default(),
        };
        let agent = self
            .0
            .desk
            .ask(move |core| core.enroll(&enrolled))
            .await??;
        let issued = issue(&self.0, &csr, agent, false).await?;
        Ok(Response::new(v1::EnrollResponse {
            issued: Some(issued),
        }))
    }
}

/// Issues a certificate; it is known to the store before the agent has it.
pub(crate) async fn issue(
    app: &App,
    csr: &ca::Request,
    agent: order::AgentId,
    renewal: bool,
) -> Result<v1::IssuedCertificate, Refused> {
    let issued = app.ca.issue_agent(csr, agent)?;
    let (serial, not_after) = (issued.serial.clone(), issued.not_after_ms);
    app.desk
        .ask(move |core| core.certificate_issued(agent, &serial, not_after, renewal))
        .await??;
    Ok(v1::IssuedCertificate {
        agent_id: agent.to_string(),
        chain_der: vec![
            issued.certificate.to_vec().into(),
            app.ca.root().to_vec().into(),
        ],
        bundle: Some(bundle(app)),
        renew_before: Some(prost_types::Duration {
            seconds: i64::try_from(config::RENEW_BEFORE.as_secs()).unwrap_or(i64::MAX),
            nanos: 0,
        }),
    })
}

/// There is one root yet; a rollover raises the serial.
pub(crate) fn bundle(app: &App) -> v1::TrustBundle {
    v1::TrustBundle {
        serial: 1,
        root_der: vec![app.ca.root().to_vec().into()],
    }
}
