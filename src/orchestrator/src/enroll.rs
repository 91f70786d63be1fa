//! `EnrollmentService`: a token and a key become an identity.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use order::VerifyingKey;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::{Request, Response, Status};
use wire::v1;

use crate::app::App;
use crate::ca;
use crate::config;
use crate::core::Enrolled;
use crate::refused::{Kind, Refused};
use crate::tls::Peer;
use crate::vault;

/// The service behind `--enroll`: the one door that is open to callers without an identity.
pub(crate) struct Enrollment {
    app: Arc<App>,
    tries: Semaphore,
    /// When it was last noted that there are too many tries.
    noted: Mutex<Option<Instant>>,
}

impl Enrollment {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self {
            app,
            tries: Semaphore::new(config::ENROLMENTS_AT_ONCE),
            noted: Mutex::new(None),
        }
    }

    /// A place among the tries that go on. A refused try keeps its place for a while, so that
    /// places bound both the work and the events that strangers can cause.
    async fn place(&self, from: &str) -> Result<SemaphorePermit<'_>, Refused> {
        if let Ok(place) = self.tries.try_acquire() {
            return Ok(place);
        }
        let refused = Refused::new(
            Kind::Exhausted,
            "TOO_MANY_TRIES",
            "too many hosts try to enrol; try again in a few seconds",
        );
        if self.may_note() {
            let (from, why) = (from.to_owned(), refused.clone());
            self.app
                .desk
                .ask(move |core| core.enrolment_refused(&from, &why))
                .await?;
        }
        Err(refused)
    }

    /// One event per minute says it: each try would make one otherwise.
    fn may_note(&self) -> bool {
        let now = Instant::now();
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let due = noted.is_none_or(|at| now.duration_since(at) >= config::ENROLMENT_NOTE_EVERY);
        if due {
            *noted = Some(now);
        }
        due
    }

    async fn take(
        &self,
        request: v1::EnrollRequest,
        from: &str,
    ) -> Result<v1::IssuedCertificate, Refused> {
        match read(request, from) {
            Ok((csr, enrolled)) => {
                let agent = self
                    .app
                    .desk
                    .ask(move |core| core.enroll(&enrolled))
                    .await??;
                issue(&self.app, &csr, agent, false).await
            }
            Err(refused) => {
                let (from, why) = (from.to_owned(), refused.clone());
                self.app
                    .desk
                    .ask(move |core| core.enrolment_refused(&from, &why))
                    .await?;
                Err(refused)
            }
        }
    }
}

#[tonic::async_trait]
impl v1::enrollment_service_server::EnrollmentService for Enrollment {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        let peer = request.extensions().get::<Peer>();
        let from = peer.map(|peer| peer.address.to_string());
        let from = from.unwrap_or_default();
        let place = self.place(&from).await?;
        let taken = self.take(request.into_inner(), &from).await;
        if taken.is_err() {
            tokio::time::sleep(config::ENROLMENT_PAUSE).await;
        }
        drop(place);
        Ok(Response::new(v1::EnrollResponse {
            issued: Some(taken?),
        }))
    }
}

/// What can be checked without the store.
fn read(request: v1::EnrollRequest, from: &str) -> Result<(ca::Request, Enrolled), Refused> {
    let csr = ca::Request::parse(&request.csr_der)?;
    let keys = request.broker_keys.unwrap_or_default();
    if VerifyingKey::from_bytes(&keys.result_key).is_err()
        || !vault::is_secret_key(&keys.secret_key)
    {
        return Err(Refused::invalid(
            "KEY_INVALID",
            "broker_keys are 32 bytes of Ed25519 and 32 bytes of X25519",
        ));
    }
    let enrolled = Enrolled {
        secret_sha256: Sha256::digest(&request.join_secret).into(),
        spki_sha256: csr.spki_sha256(),
        result_key: keys.result_key.to_vec(),
        secret_key: keys.secret_key.to_vec(),
        from: from.to_owned(),
    };
    Ok((csr, enrolled))
}

/// Issues a certificate; it is known to the store before the agent has it.
pub(crate) async fn issue(
    app: &App,
    csr: &ca::Request,
    agent: order::AgentId,
    renewal: bool,
) -> Result<v1::IssuedCertificate, Refused> {
    let issued = app.ca.issue_agent(csr, agent, config::AGENT_CERT_TTL)?;
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
