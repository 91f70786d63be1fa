//! What robotd asks the broker for. The broker decides; nothing here is believed by it.
//!
//! One task owns the connection, numbers the calls and connects again after a loss. Every new
//! connection begins with Hello and Sync, so that whoever listens learns first what the broker
//! holds and then what happens.

mod connection;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use order::{AttemptRef, PhaseAt, Signed};
use privsep::Refusal;
use privsep::abilities::Abilities;
use privsep::broker::{Held, Reply, Request, Slot};
use tokio::sync::{mpsc, oneshot, watch};

use connection::Connection;

/// Calls that may wait for the connection's task.
const CALLS: usize = 64;

/// Notices that may wait to be handled. Beyond it the connection is closed and made again, which
/// brings the state anew.
const NOTICES: usize = 1024;

/// What the broker said of itself when the connection began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BrokerKeys {
    /// Ed25519: results are signed with it.
    pub(crate) result_key: [u8; 32],
    /// X25519: secrets are sealed to it.
    pub(crate) secret_key: [u8; 32],
}

/// What happens at the broker, in order.
#[derive(Clone, Debug)]
pub(crate) enum BrokerEvent {
    /// A connection began: all that it holds.
    Synced {
        /// Its attempts.
        held: Vec<Held>,
        /// Its slots.
        slots: Vec<Slot>,
    },
    /// The connection is lost; what was asked and not answered is unknown.
    Gone,
    /// A step of an attempt.
    Phase {
        /// Whose.
        attempt: AttemptRef,
        /// Which, when.
        at: PhaseAt,
    },
    /// A session wants a secret for its account.
    SecretWanted {
        /// Whose.
        attempt: AttemptRef,
        /// Which.
        name: String,
    },
    /// The end of an attempt.
    Ended {
        /// Whose.
        attempt: AttemptRef,
        /// Signed by the broker, unread.
        result: Signed,
    },
    /// A slot changed.
    Slot(Slot),
    /// What the host can do, as far as it is known.
    Abilities {
        /// None while nothing is known.
        found: Abilities,
        /// What the policy requires and the host does not have.
        missing: Vec<String>,
    },
    /// A security event of the privileged side.
    Security {
        /// Code of the catalogue.
        code: u32,
        /// Which attempt it belongs to.
        attempt: Option<AttemptRef>,
        /// JSON of the catalogue.
        body: String,
    },
}

/// Why a call brought nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// The broker said no.
    #[error(transparent)]
    Refused(Refusal),
    /// There is no connection, or it was lost before the answer: whether the call took effect
    /// shows in the next [`BrokerEvent::Synced`].
    #[error("robotd-broker does not answer")]
    Gone,
}

struct Outgoing {
    request: Request,
    fds: Vec<OwnedFd>,
    answer: oneshot::Sender<Result<Reply, CallError>>,
}

/// A handle to ask with.
#[derive(Clone)]
pub(crate) struct Broker {
    calls: mpsc::Sender<Outgoing>,
    keys: watch::Receiver<Option<Arc<BrokerKeys>>>,
}

impl Broker {
    /// Starts the task that keeps the connection. It ends when every handle is dropped.
    pub(crate) fn start(socket: PathBuf) -> (Self, mpsc::Receiver<BrokerEvent>) {
        let (calls, incoming) = mpsc::channel(CALLS);
        let (events, handled) = mpsc::channel(NOTICES);
        let (keys, seen) = watch::channel(None);
        tokio::spawn(Connection::new(socket, incoming, events, keys).keep());
        (Self { calls, keys: seen }, handled)
    }

    /// Asks. Never waits for a broker that is not there.
    pub(crate) async fn call(
        &self,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Result<Reply, CallError> {
        let (answer, answered) = oneshot::channel();
        let outgoing = Outgoing {
            request,
            fds,
            answer,
        };
        self.calls
            .send(outgoing)
            .await
            .map_err(|_| CallError::Gone)?;
        match answered.await.map_err(|_| CallError::Gone)?? {
            Reply::Refused(refusal) => Err(CallError::Refused(refusal)),
            reply => Ok(reply),
        }
    }

    /// Asks for what is answered with Done.
    pub(crate) async fn tell(&self, request: Request, fds: Vec<OwnedFd>) -> Result<(), CallError> {
        match self.call(request, fds).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// The broker's public keys; waits until it was there once.
    pub(crate) async fn wait_for_keys(&self) -> Arc<BrokerKeys> {
        let mut keys = self.keys.clone();
        match keys
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|keys| keys.clone())
        {
            Some(keys) => keys,
            // The connection's task is gone: robotd stops.
            None => std::future::pending().await,
        }
    }
}

/// An answer that does not belong to its question: another version of the broker.
pub(crate) fn unexpected(reply: &Reply) -> CallError {
    let kind = match reply {
        Reply::Welcome { .. } => "Welcome",
        Reply::Held(_) => "Held",
        Reply::Reserved { .. } => "Reserved",
        Reply::Started { .. } => "Started",
        Reply::Done => "Done",
        Reply::Refused(_) => "Refused",
    };
    let detail =
        format!("the broker answered {kind} to another question; restart robotd and robotd-broker");
    CallError::Refused(Refusal::new("BROKER_ANSWER_UNEXPECTED", detail))
}
