//! `LinkService`: what agents say and hear.
//!
//! Handlers hold no state: they hand messages to the core, frames to the archive
//! and content to the blobs. Errors are gRPC statuses whose message is `CODE: text`;
//! the code is stable. One bad message in a stream is answered in band.

mod connect;
mod content;
mod publish;
mod screen;
mod secrets;
mod split;

use std::pin::Pin;
use std::sync::Arc;

use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use wire::v1;

use crate::app::App;
use crate::clock::Clock;
use crate::events::{self, Event};
use crate::refused::{Kind, Refused};
use crate::tls::{Peer, PeerIdentity};

pub(crate) use split::Split;

/// The service; cheap to clone.
#[derive(Clone)]
pub(crate) struct Link(pub(crate) Arc<App>);

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Who is calling, as the connection's certificate says.
pub(crate) fn identity_of<T>(request: &Request<T>) -> Result<PeerIdentity, Refused> {
    request
        .extensions()
        .get::<Peer>()
        .and_then(|peer| peer.identity.clone())
        .ok_or_else(|| Refused::new(Kind::Unproven, "IDENTITY_MISSING", "no client certificate"))
}

/// The attempt that a message names.
fn attempt_of(job: Option<&v1::JobRef>) -> Result<order::AttemptRef, Refused> {
    let invalid = || Refused::invalid("JOB_INVALID", "the request names no attempt");
    let job = job.ok_or_else(invalid)?;
    Ok(order::AttemptRef {
        job: job.job_id.parse().map_err(|_| invalid())?,
        number: job.attempt,
    })
}

/// A digest of 32 bytes.
fn digest_of(bytes: &[u8]) -> Result<order::Sha256Hex, Refused> {
    bytes
        .try_into()
        .map(order::Sha256Hex)
        .map_err(|_| Refused::invalid("DIGEST_INVALID", "a digest is 32 bytes"))
}

/// Why a stream can't be read any more. What the agent's own bytes broke gets a stable code and is
/// an event; what the network broke stays as it is.
async fn malformed(app: &App, agent: order::AgentId, status: Status) -> Status {
    let refused = match status.code() {
        tonic::Code::OutOfRange => {
            Refused::new(Kind::Exhausted, "MESSAGE_TOO_LARGE", status.message())
        }
        tonic::Code::Internal => Refused::invalid("MESSAGE_MALFORMED", status.message()),
        _ => return status,
    };
    let text = format!("agent {agent} sent what can't be read: {refused}");
    let event = Event::own(events::MESSAGE_MALFORMED, Clock.unix_ms(), text)
        .agent(agent)
        .entity(&refused.code);
    // A server that stops has nobody left who would note it.
    drop(app.desk.ask(move |core| core.record(event)).await);
    refused.into()
}

impl Link {
    /// Calls of a session that is not the agent's current one are refused.
    fn check_epoch(&self, agent: order::AgentId, epoch: u64) -> Result<(), Refused> {
        if self.0.sessions.is_current(agent, epoch) {
            return Ok(());
        }
        Err(Refused::new(
            Kind::Aborted,
            "SESSION_SUPERSEDED",
            format!("session {epoch} is not the current one; say Hello again"),
        ))
    }
}

#[tonic::async_trait]
impl v1::link_service_server::LinkService for Link {
    type ConnectStream = Answers<v1::ConnectResponse>;
    type PublishStream = Answers<v1::PublishResponse>;
    type FetchPackageStream = Answers<v1::FetchPackageResponse>;
    type StreamScreenStream = Answers<v1::StreamScreenResponse>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let agent = identity_of(&request)?.agent;
        let answers = connect::connect(self.0.clone(), agent, request.into_inner()).await?;
        Ok(Response::new(answers))
    }

    async fn publish(
        &self,
        request: Request<Streaming<v1::PublishRequest>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        let agent = identity_of(&request)?.agent;
        Ok(Response::new(publish::publish(
            self.clone(),
            agent,
            request.into_inner(),
        )))
    }

    async fn stream_screen(
        &self,
        request: Request<Streaming<v1::StreamScreenRequest>>,
    ) -> Result<Response<Self::StreamScreenStream>, Status> {
        let agent = identity_of(&request)?.agent;
        let answers = screen::stream(self.clone(), agent, request.into_inner()).await?;
        Ok(Response::new(answers))
    }

    async fn query_artifact(
        &self,
        request: Request<v1::QueryArtifactRequest>,
    ) -> Result<Response<v1::QueryArtifactResponse>, Status> {
        identity_of(&request)?;
        let digest = digest_of(&request.into_inner().sha256)?;
        Ok(Response::new(content::query(&self.0.blobs, digest)))
    }

    async fn put_artifact(
        &self,
        request: Request<Streaming<v1::PutArtifactRequest>>,
    ) -> Result<Response<v1::PutArtifactResponse>, Status> {
        let agent = identity_of(&request)?.agent;
        Ok(Response::new(
            content::put(self, agent, request.into_inner()).await?,
        ))
    }

    async fn fetch_package(
        &self,
        request: Request<v1::FetchPackageRequest>,
    ) -> Result<Response<Self::FetchPackageStream>, Status> {
        let agent = identity_of(&request)?.agent;
        Ok(Response::new(
            content::fetch(self, agent, request.into_inner()).await?,
        ))
    }

    async fn resolve_secrets(
        &self,
        request: Request<v1::ResolveSecretsRequest>,
    ) -> Result<Response<v1::ResolveSecretsResponse>, Status> {
        let agent = identity_of(&request)?.agent;
        Ok(Response::new(
            secrets::resolve(self, agent, request.into_inner()).await?,
        ))
    }
}
