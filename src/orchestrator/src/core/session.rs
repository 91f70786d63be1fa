//! Sessions of agents: one per agent, the newest wins.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use order::{AgentId, AttemptRef};
use serde_json::json;
use tokio::sync::mpsc;
use wire::v1;

use super::job::{Step, Taken};
use super::{Core, log_failure, millis};
use crate::config;
use crate::events::{self, Event};
use crate::refused::Refused;

/// A message to an agent before it is numbered.
pub(crate) type Body = v1::connect_response::Body;

/// Minor versions of the protocol that this server speaks; both mean the first release, an agent
/// that leaves the field unset says 0.
pub(super) const MINORS: std::ops::RangeInclusive<u32> = 0..=1;

/// An agent that is connected.
pub(crate) struct Online {
    pub(crate) epoch: u64,
    /// Dropping it ends the stream.
    pub(super) outbox: mpsc::Sender<Body>,
    /// Jobs that may run at once, as last said.
    pub(super) slots: u32,
    /// As last said, corrected by what was offered since.
    pub(super) free_slots: u32,
    pub(super) state: v1::AgentState,
    pub(super) blockers: Vec<String>,
    /// What the host can do and what its policy misses, as its agent says.
    pub(super) abilities: Vec<String>,
    pub(super) missing_abilities: Vec<String>,
    pub(super) last_heard: u64,
    /// Grows when the agent may take what it rejected: a slot came free, its state changed.
    pub(super) openings: u64,
}

/// Which session of each agent is current; read by every call without asking the core.
#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Mutex<HashMap<AgentId, u64>>>);

impl Sessions {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<AgentId, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_current(&self, agent: AgentId, epoch: u64) -> bool {
        self.lock().get(&agent) == Some(&epoch)
    }

    fn set(&self, agent: AgentId, epoch: u64) {
        self.lock().insert(agent, epoch);
    }

    fn end(&self, agent: AgentId, epoch: u64) {
        let mut current = self.lock();
        if current.get(&agent) == Some(&epoch) {
            current.remove(&agent);
        }
    }
}

/// An attempt as the wire names it.
pub(super) fn attempt_of(job: Option<&v1::JobRef>) -> Option<AttemptRef> {
    let job = job?;
    Some(AttemptRef {
        job: job.job_id.parse().ok()?,
        number: job.attempt,
    })
}

/// The same the other way.
pub(super) fn job_ref(attempt: AttemptRef) -> v1::JobRef {
    v1::JobRef {
        job_id: attempt.job.to_string(),
        attempt: attempt.number,
    }
}

impl Core {
    /// A new session: reconciles everything that the agent holds and answers with Welcome, the
    /// first message in `outbox`.
    pub(crate) fn hello(
        &mut self,
        agent: AgentId,
        hello: v1::Hello,
        outbox: mpsc::Sender<Body>,
    ) -> Result<u64, Refused> {
        self.admit(agent, &hello)?;
        let host = json!(host_facts(hello.host.as_ref())).to_string();
        let now = self.now();
        let epoch = self.store.atomically(|| {
            let epoch = self.store.next_epoch(agent, &host, now)?;
            let text = format!("session {epoch} of agent {agent} began");
            self.store
                .put_event(&Event::own(events::AGENT_ONLINE, now, text).agent(agent))?;
            Ok(epoch)
        })?;
        self.supersede(agent, epoch);
        self.online.insert(
            agent,
            Online {
                epoch,
                outbox,
                slots: hello.slots,
                free_slots: 0,
                state: v1::AgentState::Ready,
                blockers: Vec::new(),
                abilities: Vec::new(),
                missing_abilities: Vec::new(),
                last_heard: self.clock.boot_ms(),
                openings: 0,
            },
        );
        self.sessions.set(agent, epoch);
        for job in self.jobs.values_mut() {
            if job.progress.agent == Some(agent) {
                job.away_since = None;
            }
        }
        self.reconcile(agent, epoch, &hello);
        Ok(epoch)
    }

    fn admit(&self, agent: AgentId, hello: &v1::Hello) -> Result<(), Refused> {
        if hello.agent_id != agent.to_string() {
            return Err(Refused::denied(
                "AGENT_ID_MISMATCH",
                format!("the certificate is for agent {agent}"),
            ));
        }
        if hello.min_minor > *MINORS.end() || hello.max_minor < hello.min_minor {
            return Err(Refused::state(
                "PROTOCOL_UNSUPPORTED",
                format!("this server speaks the minor versions {MINORS:?}"),
            ));
        }
        match self.store.agent(agent)? {
            Some(row) if row.revoked_ms.is_none() => Ok(()),
            _ => Err(Refused::denied("IDENTITY_REVOKED", "the agent was revoked")),
        }
    }

    fn supersede(&mut self, agent: AgentId, epoch: u64) {
        if let Some(old) = self.online.remove(&agent) {
            let revoked = v1::SessionRevoked {
                reason: v1::RevokeReason::Superseded.into(),
                detail: format!("session {epoch} took over"),
            };
            // Full means that nobody reads it; the stream ends either way.
            let _ = old.outbox.try_send(Body::SessionRevoked(revoked));
            let text = format!(
                "session {} of agent {agent} was taken over by {epoch}",
                old.epoch
            );
            self.record(Event::own(events::SESSION_SUPERSEDED, self.now(), text).agent(agent));
            self.withdraw_offers_of(agent);
        }
    }

    pub(super) fn confirm(&mut self, agent: AgentId, attempt: AttemptRef) {
        let step = Step::Confirm {
            agent,
            attempt: attempt.number,
        };
        let noted = self.advance(attempt.job, step, |store| store.set_confirmed(attempt));
        if let Some(Taken::Moved) = log_failure("a start could not be confirmed", noted) {
            tracing::info!(%attempt, %agent, "the agent shows the job as started");
        }
    }

    /// Takes one message of a session. An error is answered in band; the stream stays open.
    pub(crate) fn message(
        &mut self,
        agent: AgentId,
        epoch: u64,
        body: v1::connect_request::Body,
    ) -> Result<(), Refused> {
        use v1::connect_request::Body as Said;
        let boot_ms = self.clock.boot_ms();
        match self.online.get_mut(&agent) {
            Some(online) if online.epoch == epoch => online.last_heard = boot_ms,
            _ => {
                return Err(Refused::new(
                    crate::refused::Kind::Aborted,
                    "SESSION_SUPERSEDED",
                    "a newer session took over",
                ));
            }
        }
        match body {
            Said::Hello(_) => Err(Refused::invalid("HELLO_REPEATED", "Hello comes once")),
            Said::Heartbeat(beat) => self.heartbeat(agent, &beat),
            Said::OfferReply(reply) => self.offer_reply(agent, reply),
            Said::LeaseRequest(request) => self.lease_request(agent, &request),
            Said::LeaseRelease(release) => self.lease_release(agent, &release),
            Said::CommandResult(result) => {
                tracing::info!(%agent, command = result.command_id, code = result.code, reason = result.reason, "command done");
                self.view_answered(agent, &result);
                Ok(())
            }
            Said::Goodbye(goodbye) => {
                tracing::info!(%agent, reason = goodbye.reason, "the agent says goodbye");
                Ok(())
            }
        }
    }

    fn heartbeat(&mut self, agent: AgentId, beat: &v1::Heartbeat) -> Result<(), Refused> {
        if let Some(online) = self.online.get_mut(&agent) {
            let blockers = beat
                .load
                .as_ref()
                .map(|load| load.blockers.clone())
                .unwrap_or_default();
            let opened = beat.free_slots > online.free_slots
                || online.state != beat.state()
                || online.blockers != blockers;
            online.openings += u64::from(opened);
            online.slots = beat.slots;
            online.free_slots = beat.free_slots;
            online.state = beat.state();
            online.blockers = blockers;
            online.abilities = names(&beat.abilities);
            online.missing_abilities = names(&beat.missing_abilities);
        }
        for held in &beat.jobs {
            if let Some(attempt) = attempt_of(held.job.as_ref())
                && held.phase >= i32::from(v1::JobPhase::Started)
            {
                self.confirm(agent, attempt);
            }
        }
        let (mut grants, mut denials) = (Vec::new(), Vec::new());
        for renewal in &beat.renewals {
            match self.renew(agent, renewal, beat.agent_ticks_ns) {
                Ok(grant) => grants.push(grant),
                Err(reason) => denials.push(v1::LeaseDenial {
                    lease_id: renewal.lease_id.clone(),
                    request_id: String::new(),
                    reason: reason.into(),
                    detail: "the lease is not held any more".to_owned(),
                }),
            }
        }
        self.send(
            agent,
            Body::HeartbeatReply(v1::HeartbeatReply {
                agent_ticks_ns: beat.agent_ticks_ns,
                grants,
                denials,
            }),
        );
        Ok(())
    }

    /// Queues a message for an agent. One that does not read fast enough loses its session; it
    /// comes back and everything is reconciled.
    pub(super) fn send(&mut self, agent: AgentId, message: Body) {
        let Some(online) = self.online.get(&agent) else {
            return;
        };
        if online.outbox.try_send(message).is_err() {
            let epoch = online.epoch;
            tracing::warn!(%agent, epoch, "the agent does not read its messages; closing its session");
            self.goodbye(agent, epoch);
        }
    }

    /// A session is over, for whatever reason. Sessions that were superseded change nothing.
    pub(crate) fn goodbye(&mut self, agent: AgentId, epoch: u64) {
        if self
            .online
            .get(&agent)
            .is_none_or(|online| online.epoch != epoch)
        {
            return;
        }
        self.online.remove(&agent);
        self.sessions.end(agent, epoch);
        let now = self.now();
        log_failure(
            "last contact could not be stored",
            self.store.set_last_seen(agent, now),
        );
        let text = format!("session {epoch} of agent {agent} ended");
        self.record(Event::own(events::AGENT_OFFLINE, now, text).agent(agent));
        self.withdraw_offers_of(agent);
        let boot_ms = self.clock.boot_ms();
        for job in self.jobs.values_mut() {
            if job.progress.agent == Some(agent) && job.away_since.is_none() {
                job.away_since = Some(boot_ms);
            }
        }
    }

    pub(super) fn close_silent_sessions(&mut self) {
        let limit = self.clock.boot_ms().saturating_sub(millis(config::SILENCE));
        let silent: Vec<_> = self
            .online
            .iter()
            .filter(|(_, online)| online.last_heard < limit)
            .map(|(agent, online)| (*agent, online.epoch))
            .collect();
        for (agent, epoch) in silent {
            self.goodbye(agent, epoch);
        }
    }

    /// Ends the session of a revoked agent.
    pub(super) fn expel(&mut self, agent: AgentId) {
        if let Some(online) = self.online.get(&agent) {
            let epoch = online.epoch;
            let revoked = v1::SessionRevoked {
                reason: v1::RevokeReason::IdentityRevoked.into(),
                detail: "an administrator revoked this agent".to_owned(),
            };
            let _ = online.outbox.try_send(Body::SessionRevoked(revoked));
            self.goodbye(agent, epoch);
        }
    }
}

/// A length of time as the wire has it.
pub(super) fn duration(length: std::time::Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(length.subsec_nanos()).unwrap_or(0),
    }
}

/// As many as are kept of a list that an agent sends, and as long.
const MOST_NAMES: usize = 64;
const LONGEST_NAME: usize = 64;

fn names(said: &[String]) -> Vec<String> {
    let kept = said.iter().filter(|name| name.len() <= LONGEST_NAME);
    kept.take(MOST_NAMES).cloned().collect()
}

fn host_facts(host: Option<&v1::HostFacts>) -> serde_json::Value {
    let Some(host) = host else {
        return serde_json::Value::Null;
    };
    json!({
        "hostname": host.hostname, "os_release": host.os_release, "kernel": host.kernel,
        "arch": host.arch, "cpu_count": host.cpu_count, "memory_bytes": host.memory_bytes,
        "agent_version": host.agent_version, "labels": host.labels,
    })
}
