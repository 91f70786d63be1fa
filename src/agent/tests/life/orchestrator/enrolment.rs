//! Enrolment, and the life of certificates.

use tonic::{Request, Response, Status};
use wire::v1;
use wire::v1::enrollment_service_server::EnrollmentService;
use wire::v1::identity_service_server::IdentityService;

use super::Shared;

#[tonic::async_trait]
impl EnrollmentService for Shared {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        let request = request.into_inner();
        let refused = self.with(|seen| {
            seen.csrs.push(request.csr_der.to_vec());
            seen.refuse_token
        });
        if let Some(reason) = refused {
            return Err(Status::unauthenticated(format!("{reason}: no")));
        }
        assert_eq!(request.join_secret.as_ref(), [5; 32]);
        assert_eq!(request.broker_keys.unwrap().secret_key.as_ref(), [9; 32]);
        Ok(Response::new(v1::EnrollResponse {
            issued: Some(issued(
                self,
                &request.csr_der,
                self.with(|seen| seen.issue_old),
            )),
        }))
    }
}

fn issued(own: &Shared, csr: &[u8], old: bool) -> v1::IssuedCertificate {
    let leaf = own.ca.issue(csr, own.agent, old);
    v1::IssuedCertificate {
        agent_id: own.agent.to_string(),
        chain_der: vec![leaf.to_vec().into()],
        bundle: Some(v1::TrustBundle {
            serial: 1,
            root_der: vec![own.ca.root().to_vec().into()],
        }),
        renew_before: Some(prost_types::Duration {
            seconds: 1,
            nanos: 0,
        }),
    }
}

#[tonic::async_trait]
impl IdentityService for Shared {
    async fn renew_certificate(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Result<Response<v1::RenewCertificateResponse>, Status> {
        Ok(Response::new(v1::RenewCertificateResponse {
            issued: Some(issued(self, &request.into_inner().csr_der, false)),
        }))
    }

    async fn get_trust_bundle(
        &self,
        _: Request<v1::GetTrustBundleRequest>,
    ) -> Result<Response<v1::GetTrustBundleResponse>, Status> {
        Ok(Response::new(v1::GetTrustBundleResponse { bundle: None }))
    }
}
