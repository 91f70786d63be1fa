//! `IdentityService`: renewal under mTLS, and the roots to trust.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use wire::v1;

use crate::app::App;
use crate::ca;
use crate::enroll::{bundle, issue};
use crate::link::identity_of;

/// The service beside the link.
pub(crate) struct Identity(pub(crate) Arc<App>);

#[tonic::async_trait]
impl v1::identity_service_server::IdentityService for Identity {
    async fn renew_certificate(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Result<Response<v1::RenewCertificateResponse>, Status> {
        let agent = identity_of(&request)?.agent;
        let csr = ca::Request::parse(&request.into_inner().csr_der)?;
        let issued = issue(&self.0, &csr, agent, true).await?;
        Ok(Response::new(v1::RenewCertificateResponse {
            issued: Some(issued),
        }))
    }

    async fn get_trust_bundle(
        &self,
        request: Request<v1::GetTrustBundleRequest>,
    ) -> Result<Response<v1::GetTrustBundleResponse>, Status> {
        identity_of(&request)?;
        let current = bundle(&self.0);
        let known = request.into_inner().known_serial;
        Ok(Response::new(v1::GetTrustBundleResponse {
            bundle: (known < current.serial).then_some(current),
        }))
    }
}
