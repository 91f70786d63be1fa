//! The opening of a session: two connections, hello, welcome.

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use wire::v1;
use wire::v1::connect_request::Body as Say;
use wire::v1::connect_response::Body as Heard;
use wire::v1::link_service_client::LinkServiceClient;

use super::channel::{Purpose, connect};
use super::failure::Failure;
use super::identity::Identity;
use super::{Parts, read, say, tls};

/// The contract's bound for control messages.
const MAX_CONTROL: usize = 256 * 1024;

/// Messages that may wait for the stream.
const WAITING: usize = 64;

/// Both directions of the control stream.
pub(super) struct Stream {
    pub(super) out: mpsc::Sender<v1::ConnectRequest>,
    pub(super) answers: Streaming<v1::ConnectResponse>,
    next_seq: u64,
}

impl Stream {
    pub(super) async fn say(&mut self, body: Say) -> Result<u64, Failure> {
        let message_seq = self.next_seq;
        self.next_seq += 1;
        let message = v1::ConnectRequest {
            message_seq,
            body: Some(body),
        };
        self.out
            .send(message)
            .await
            .map_err(|_| Failure::Network("the control stream ended".into()))?;
        Ok(message_seq)
    }
}

pub(super) async fn open(
    parts: &Parts,
    identity: &Identity,
    last_epoch: u64,
) -> Result<(Stream, v1::Welcome, Channel), Failure> {
    let within = parts.config.link.connect_timeout();
    let config =
        || tls::of_identity(identity).map_err(|error| Failure::ServerRefused(error.to_string()));
    let (control, tap) = connect(&identity.link_url, config()?, Purpose::Control, within).await?;
    let (stream, welcome) = greet(parts, identity, last_epoch, control)
        .await
        .map_err(|failure| tap.explain(failure))?;
    let (bulk, _) = connect(&identity.link_url, config()?, Purpose::Bulk, within).await?;
    Ok((stream, welcome, bulk))
}

/// Hello and welcome on a new control connection.
async fn greet(
    parts: &Parts,
    identity: &Identity,
    last_epoch: u64,
    control: Channel,
) -> Result<(Stream, v1::Welcome), Failure> {
    let within = parts.config.link.connect_timeout();
    let lanes = parts.lanes.watch().borrow().clone();
    let positions = say::positions(&lanes).await;
    let hello = say::hello(parts, &identity.agent.to_string(), positions, last_epoch);
    let (out, waiting) = mpsc::channel(WAITING);
    // Queued before the call: a server may answer only when it has seen it.
    let first = v1::ConnectRequest {
        message_seq: 1,
        body: Some(Say::Hello(hello)),
    };
    out.send(first)
        .await
        .map_err(|_| Failure::Network("the control stream did not begin".into()))?;
    let mut client = LinkServiceClient::new(control)
        .max_decoding_message_size(MAX_CONTROL)
        .max_encoding_message_size(MAX_CONTROL);
    let silent = |_| Failure::Network(format!("no welcome within {within:?}"));
    let answers = timeout(within, client.connect(ReceiverStream::new(waiting)))
        .await
        .map_err(silent)?;
    let mut answers = answers
        .map_err(|status| Failure::of_status(&status))?
        .into_inner();
    let first = timeout(within, answers.message()).await.map_err(silent)?;
    let welcome = match first
        .map_err(|status| Failure::of_status(&status))?
        .and_then(|answer| answer.body)
    {
        Some(Heard::Welcome(welcome)) => welcome,
        Some(Heard::Refusal(refusal)) => {
            return Err(Failure::Refused {
                reason: read::text(&refusal.reason),
                detail: read::text(&refusal.detail),
            });
        }
        Some(Heard::SessionRevoked(revoked)) => return Err(revocation(&revoked)),
        _ => return Err(Failure::Network("the first answer is no welcome".into())),
    };
    if welcome.minor > 1 {
        return Err(Failure::Refused {
            reason: "PROTOCOL_UNSUPPORTED".into(),
            detail: format!("the orchestrator chose minor version {}", welcome.minor),
        });
    }
    Ok((
        Stream {
            out,
            answers,
            next_seq: 2,
        },
        welcome,
    ))
}

pub(super) fn revocation(revoked: &v1::SessionRevoked) -> Failure {
    let detail = read::text(&revoked.detail);
    let reason = match revoked.reason() {
        v1::RevokeReason::Superseded => return Failure::Superseded(detail),
        v1::RevokeReason::Quarantined => "IDENTITY_QUARANTINED",
        v1::RevokeReason::IdentityRevoked => "IDENTITY_REVOKED",
        v1::RevokeReason::Unspecified => "SESSION_REVOKED",
    };
    Failure::IdentityRefused {
        reason: reason.into(),
        detail,
    }
}
