//! robotd's security events: into the journal at once, and into the AUDIT lane for good.
//!
//! Events of the privileged side come from the broker, which has told the journal itself: they go
//! to the lane only, unread.

use std::sync::{Arc, OnceLock};

use events::journal::Sender;
use events::{Code, Event};
use tracing::error;

use crate::encode;
use crate::exchange::{AuditRecord, Record};
use crate::ids::{AgentId, AttemptRef};
use crate::spool::OwnLane;

/// Larger events are cut: a frame must stay far below what the orchestrator accepts.
const MAX_EVENT: usize = 16 * 1024;

/// A handle to report with.
#[derive(Clone)]
pub(crate) struct Audit {
    lane: OwnLane,
    sender: Sender,
    host: Arc<str>,
    agent: Arc<OnceLock<AgentId>>,
}

impl Audit {
    /// Over the AUDIT lane.
    pub(crate) fn new(lane: OwnLane, host: &str) -> Self {
        Self {
            lane,
            sender: Sender::new("robotd"),
            host: host.into(),
            agent: Arc::default(),
        }
    }

    /// From now on events name the agent.
    pub(crate) fn enrolled_as(&self, agent: AgentId) {
        let _ = self.agent.set(agent);
    }

    /// An event of now, with what every event of this host has.
    pub(crate) fn event(&self, code: Code) -> Event {
        let event = Event::new(code, sys::clock::unix_ms()).on_host(&*self.host);
        match self.agent.get() {
            Some(agent) => event.of_agent(agent),
            None => event,
        }
    }

    /// Reports an event.
    pub(crate) async fn report(&self, event: Event) {
        self.report_of(event, None).await;
    }

    /// Reports an event of an attempt.
    pub(crate) async fn report_for(&self, attempt: AttemptRef, event: Event) {
        self.report_of(event.of_attempt(attempt.job, attempt), Some(attempt))
            .await;
    }

    /// Tells this host's journal of what the orchestrator decided about an attempt: it has
    /// recorded that itself, and would count it twice.
    pub(crate) async fn tell_journal(&self, attempt: AttemptRef, event: Event) {
        self.send(event.of_attempt(attempt.job, attempt).bounded(MAX_EVENT))
            .await;
    }

    async fn report_of(&self, event: Event, attempt: Option<AttemptRef>) {
        let event = event.bounded(MAX_EVENT);
        let record = AuditRecord {
            code: event.code,
            attempt,
            body: event.to_json(),
            at_unix_ms: event.time_unix_ms,
        };
        self.send(event).await;
        self.keep(record).await;
    }

    async fn send(&self, event: Event) {
        let sender = self.sender.clone();
        // It may wait for a full journal.
        let sent = tokio::task::spawn_blocking(move || sender.send(&event)).await;
        if let Ok(Err(reason)) = sent {
            error!(%reason, "the journal did not take a security event");
        }
    }

    /// Passes on an event of the privileged side.
    pub(crate) async fn forward(&self, code: u32, attempt: Option<AttemptRef>, body: String) {
        self.keep(AuditRecord {
            code,
            attempt,
            body,
            at_unix_ms: sys::clock::unix_ms(),
        })
        .await;
    }

    async fn keep(&self, record: AuditRecord) {
        let code = record.code;
        if let Err(reason) = self
            .lane
            .append(encode::batch(&Record::Audit(record)))
            .await
        {
            error!(code, %reason, "a security event is in the journal only");
        }
    }
}
