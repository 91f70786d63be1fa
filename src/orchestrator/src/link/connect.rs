//! The control stream of one session.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use order::AgentId;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use wire::v1;
use wire::v1::connect_request::Body as Said;

use super::{Answers, malformed};
use crate::app::App;
use crate::config;
use crate::core::Body;
use crate::refused::Refused;

/// Waits for Hello, opens the session and serves it in a task of its own.
pub(super) async fn connect(
    app: Arc<App>,
    agent: AgentId,
    mut said: Streaming<v1::ConnectRequest>,
) -> Result<Answers<v1::ConnectResponse>, Status> {
    let first = tokio::time::timeout(config::HANDSHAKE_LIMIT, said.message())
        .await
        .map_err(|_| Refused::unavailable("HELLO_MISSING", "no Hello within 10 s"))?;
    let first = match first {
        Ok(first) => first,
        Err(status) => return Err(malformed(&app, agent, status).await),
    };
    let Some(v1::ConnectRequest {
        message_seq,
        body: Some(Said::Hello(hello)),
    }) = first
    else {
        return Err(Refused::invalid("HELLO_MISSING", "the first message is Hello").into());
    };
    let (outbox, messages) = mpsc::channel::<Body>(config::AGENT_QUEUE);
    let refusals = outbox.downgrade();
    let epoch = app
        .desk
        .ask(move |core| core.hello(agent, hello, outbox))
        .await??;
    let handled = Arc::new(AtomicU64::new(message_seq));
    // The last word: why the stream ended, when it was the agent's message that ended it. It is
    // there before the outbox closes, which ends what comes first.
    let (last, mut words) = mpsc::channel(1);
    let handling = handled.clone();
    tokio::spawn(async move {
        if let Err(status) = serve(&app, agent, epoch, said, refusals, handling).await {
            let status = malformed(&app, agent, status).await;
            drop(last.send(Err(status)).await);
        }
        let gone = app.desk.ask(move |core| core.goodbye(agent, epoch)).await;
        if let Err(refused) = gone {
            tracing::debug!(%agent, epoch, %refused, "the session's end was not noted");
        }
    });
    // Asked only when nothing else comes: a session that was superseded ends at once.
    let last_words = tokio_stream::iter(std::iter::from_fn(move || words.try_recv().ok()));
    let mut sent = 0;
    let numbered = ReceiverStream::new(messages).map(move |body| {
        sent += 1;
        Ok(v1::ConnectResponse {
            message_seq: sent,
            acked_seq: handled.load(Ordering::Acquire),
            body: Some(body),
        })
    });
    Ok(Box::pin(numbered.chain(last_words)))
}

/// Reads until the agent is silent, gone or superseded; an error when its stream can't be read
/// any more.
async fn serve(
    app: &App,
    agent: AgentId,
    epoch: u64,
    mut said: Streaming<v1::ConnectRequest>,
    refusals: mpsc::WeakSender<Body>,
    handled: Arc<AtomicU64>,
) -> Result<(), Status> {
    loop {
        let message = match tokio::time::timeout(config::SILENCE, said.message()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(status)) => {
                tracing::info!(%agent, epoch, code = ?status.code(), message = status.message(), "the control stream broke");
                return Err(status);
            }
            Err(_) => {
                tracing::info!(%agent, epoch, "the agent is silent");
                return Ok(());
            }
        };
        let seq = message.message_seq;
        let answer = match message.body {
            Some(body) => {
                app.desk
                    .ask(move |core| core.message(agent, epoch, body))
                    .await
            }
            None => Ok(Err(Refused::invalid(
                "MESSAGE_UNKNOWN",
                "a message of no known kind",
            ))),
        };
        handled.store(seq, Ordering::Release);
        let refused = match answer {
            Ok(Ok(())) => continue,
            Ok(Err(refused)) | Err(refused) => refused,
        };
        if refused.code == "SESSION_SUPERSEDED" || refused.code == "SERVER_STOPPING" {
            return Ok(());
        }
        if !refuse(&refusals, seq, &refused) {
            return Ok(());
        }
    }
}

/// Answers one bad message; false when the session has no outbox any more or does not read it.
fn refuse(refusals: &mpsc::WeakSender<Body>, seq: u64, refused: &Refused) -> bool {
    let refusal = v1::Refusal {
        message_seq: seq,
        code: refused.grpc_code() as i32,
        reason: refused.code.clone(),
        detail: refused.text.clone(),
    };
    refusals
        .upgrade()
        .is_some_and(|outbox| outbox.try_send(Body::Refusal(refusal)).is_ok())
}
