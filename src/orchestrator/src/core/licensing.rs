//! Licenses: asked for, renewed, released, expired.

use order::{AgentId, AttemptRef, LeaseId, Phase, Purpose, Renewal};
use serde_json::json;
use wire::v1;

use super::job::State;
use super::lease::{Answer, Ask, Denial, Held};
use super::session::{Body, duration};
use super::{Core, log_failure};
use crate::events::{self, Event};
use crate::refused::Refused;
use crate::store::LeaseRow;

/// Ids that agents choose; longer ones are refused.
const MAX_REQUEST_ID: usize = 128;

fn reason_of(denial: Denial) -> v1::LeaseDenialReason {
    match denial {
        Denial::Gone => v1::LeaseDenialReason::Expired,
        Denial::StaleFence => v1::LeaseDenialReason::StaleFence,
        Denial::NotYours => v1::LeaseDenialReason::NotEntitled,
    }
}

impl Core {
    /// Takes over the leases from before the restart; each gets one more TTL.
    pub(super) fn load_leases(&mut self) -> Result<(), Refused> {
        for pool in self.store.pools()? {
            self.leases.set_pool(&pool.name, pool.licenses, pool.fence);
        }
        let now = self.clock.boot_ms();
        for row in self.store.open_leases()? {
            let held = Held {
                id: row.id,
                pool: row.pool,
                fence: row.fence,
                attempt: row.attempt,
                agent: row.agent,
                request_id: row.request_id,
                ttl_ms: row.ttl_ms,
                free_at: 0,
            };
            self.leases.restore(held, now);
        }
        Ok(())
    }

    /// Makes a pool or changes its number.
    pub(crate) fn set_pool(&mut self, pool: &str, licenses: u32, by: &str) -> Result<(), Refused> {
        let now = self.now();
        let fence = self.leases.fence(pool);
        let text = format!("pool {pool} has {licenses} licenses now");
        let store = &self.store;
        store.atomically(|| {
            store.put_pool(pool, licenses, fence)?;
            store.put_event(
                &Event::own(events::LICENSE_POOL_SET, now, text)
                    .user(by)
                    .entity(pool),
            )
        })?;
        self.leases.set_pool(pool, licenses, fence);
        Ok(())
    }

    pub(super) fn lease_request(
        &mut self,
        agent: AgentId,
        request: &v1::LeaseRequest,
    ) -> Result<(), Refused> {
        let attempt = AttemptRef {
            job: request
                .job_id
                .parse()
                .map_err(|_| Refused::invalid("JOB_INVALID", "the request names no job"))?,
            number: request.attempt,
        };
        if request.request_id.is_empty() || request.request_id.len() > MAX_REQUEST_ID {
            return Err(Refused::invalid(
                "REQUEST_ID_INVALID",
                "1 to 128 bytes are accepted",
            ));
        }
        if !self.may_ask(agent, attempt, &request.pool) {
            let reason = v1::LeaseDenialReason::NotEntitled;
            self.deny(
                agent,
                attempt,
                request,
                reason,
                "the attempt may not use this pool now",
            );
            return Ok(());
        }
        let now = self.clock.boot_ms();
        let ask = Ask {
            pool: &request.pool,
            attempt,
            agent,
            request_id: &request.request_id,
        };
        match self.leases.ask(&ask, now) {
            Answer::UnknownPool => {
                let reason = v1::LeaseDenialReason::NotEntitled;
                self.deny(agent, attempt, request, reason, "the pool does not exist");
                Ok(())
            }
            Answer::NoneFree { before, licenses } => {
                let detail = format!(
                    "all {licenses} licenses of pool {} are held, {before} wait before",
                    request.pool
                );
                let reason = v1::LeaseDenialReason::NoneFree;
                self.deny(agent, attempt, request, reason, &detail);
                Ok(())
            }
            Answer::Granted { held, new } => self.grant(agent, request, held, new),
        }
    }

    /// Only an accepted attempt takes a license; a started one is told again what it got.
    fn may_ask(&self, agent: AgentId, attempt: AttemptRef, pool: &str) -> bool {
        self.jobs.get(&attempt.job).is_some_and(|job| {
            job.attempt() == attempt
                && job.progress.agent == Some(agent)
                && job.spec.pool == pool
                && match job.progress.state {
                    State::Accepted => true,
                    State::Started => self.leases.of_attempt(attempt).is_some(),
                    _ => false,
                }
        })
    }

    fn deny(
        &mut self,
        agent: AgentId,
        attempt: AttemptRef,
        request: &v1::LeaseRequest,
        reason: v1::LeaseDenialReason,
        detail: &str,
    ) {
        // Once per attempt, and who asks for what is another's hides nothing of its owner's.
        let repeated = self
            .jobs
            .get_mut(&attempt.job)
            .filter(|job| job.attempt() == attempt && job.progress.agent == Some(agent))
            .is_some_and(|job| std::mem::replace(&mut job.denial_noted, true));
        if !repeated {
            let text = format!(
                "no license of pool {} for {attempt}: {detail}",
                request.pool
            );
            let event = Event::own(events::LICENSE_TAKE_FAILED, self.now(), text)
                .agent(agent)
                .job(attempt.job)
                .entity(&request.pool);
            self.record(event);
        }
        let denial = v1::LeaseDenial {
            lease_id: String::new(),
            request_id: request.request_id.clone(),
            reason: reason.into(),
            detail: detail.to_owned(),
        };
        let outcome = Some(v1::lease_reply::Outcome::Denial(denial));
        let request_id = request.request_id.clone();
        self.send(
            agent,
            Body::LeaseReply(v1::LeaseReply {
                request_id,
                outcome,
            }),
        );
    }

    /// A license is granted and the order is signed in one transaction: there is no attempt that
    /// holds a license and never starts, and none that starts without one.
    fn grant(
        &mut self,
        agent: AgentId,
        request: &v1::LeaseRequest,
        held: Held,
        new: bool,
    ) -> Result<(), Refused> {
        let attempt = held.attempt;
        if new {
            let stored = self.start(agent, &held, request.agent_ticks_ns);
            if let Err(refused) = stored {
                // The fence stays used; the license is free again.
                self.leases.free(held.id);
                return Err(refused);
            }
        }
        let grant = grant_message(&held, request.agent_ticks_ns, None);
        let outcome = Some(v1::lease_reply::Outcome::Grant(grant));
        let request_id = request.request_id.clone();
        self.send(
            agent,
            Body::LeaseReply(v1::LeaseReply {
                request_id,
                outcome,
            }),
        );
        if let Some(message) = self.start_message(attempt) {
            self.send(agent, message);
        }
        Ok(())
    }

    pub(super) fn lease_row(&self, held: &Held) -> LeaseRow {
        LeaseRow {
            id: held.id,
            pool: held.pool.clone(),
            fence: held.fence,
            attempt: held.attempt,
            agent: held.agent,
            request_id: held.request_id.clone(),
            ttl_ms: held.ttl_ms,
            granted_ms: self.now(),
            ended_ms: None,
            ended_how: None,
        }
    }

    /// Extends a lease and signs the extension for the broker. A reported attempt's lease is not
    /// extended: it is only waiting to come back.
    pub(super) fn renew(
        &mut self,
        agent: AgentId,
        renewal: &v1::LeaseRenewal,
        ticks_ns: u64,
    ) -> Result<v1::LeaseGrant, v1::LeaseDenialReason> {
        let id: LeaseId = renewal
            .lease_id
            .parse()
            .map_err(|_| v1::LeaseDenialReason::Expired)?;
        let now = self.clock.boot_ms();
        let held = match self.leases.get(id) {
            Some(held) if self.is_reported(held.attempt) => held.clone(),
            _ => self
                .leases
                .renew(id, renewal.fence, agent, now)
                .map_err(reason_of)?,
        };
        let body = Renewal {
            v: 1,
            attempt: held.attempt,
            agent,
            lease: held.id,
            fence: held.fence,
            ttl_ms: held.ttl_ms,
            ticks_ns,
        };
        let body = serde_json::to_vec(&body).map_err(|_| v1::LeaseDenialReason::Unspecified)?;
        let signed = self.keys.signing().sign(Purpose::Renewal, body);
        let signed = v1::SignedRenewal {
            body: signed.body.into(),
            key_id: signed.key_id.0,
            signature: signed.signature.into(),
        };
        Ok(grant_message(&held, ticks_ns, Some(signed)))
    }

    fn is_reported(&self, attempt: AttemptRef) -> bool {
        self.jobs
            .get(&attempt.job)
            .is_none_or(|job| job.attempt() == attempt && job.progress.state == State::Reported)
    }

    /// Whether a lease that an agent says it holds stands.
    pub(super) fn standing(
        &self,
        agent: AgentId,
        id: LeaseId,
        fence: u64,
    ) -> Result<v1::LeaseGrant, v1::LeaseDenialReason> {
        let held = self
            .leases
            .releasable(id, fence, agent)
            .map_err(reason_of)?;
        Ok(grant_message(&held, 0, None))
    }

    pub(super) fn lease_release(
        &mut self,
        agent: AgentId,
        release: &v1::LeaseRelease,
    ) -> Result<(), Refused> {
        let id: LeaseId = release
            .lease_id
            .parse()
            .map_err(|_| Refused::invalid("LEASE_INVALID", "the release names no lease"))?;
        match self.leases.releasable(id, release.fence, agent) {
            Ok(held) => self.end_lease(&held, "released", events::LICENSE_RELEASED),
            Err(_) if self.was_released(agent, id, release.fence) => Ok(()),
            Err(denial) => Err(self.release_failed(agent, id, release.fence, denial)),
        }
    }

    /// Agents repeat a release until they hear of it; the failure is one event.
    fn release_failed(
        &mut self,
        agent: AgentId,
        id: LeaseId,
        fence: u64,
        denial: Denial,
    ) -> Refused {
        let code = match denial {
            Denial::Gone => "LEASE_UNKNOWN",
            Denial::StaleFence => "STALE_FENCE",
            Denial::NotYours => "LEASE_NOT_YOURS",
        };
        let text = format!("agent {agent} released lease {id}, which it does not hold: {code}");
        let event = Event::own(events::LICENSE_RELEASE_FAILED, self.now(), text)
            .agent(agent)
            .entity(id)
            .data(json!({"fence": fence}));
        if !self.store.has_event(&event).unwrap_or(false) {
            self.record(event);
        }
        Refused::state(code, format!("lease {id} is not held"))
    }

    /// A release that comes again because its answer was lost, or of a license that came back with
    /// the rejection of its start.
    fn was_released(&self, agent: AgentId, id: LeaseId, fence: u64) -> bool {
        matches!(self.store.lease(id), Ok(Some(row))
            if row.agent == agent && row.fence == fence
                && matches!(row.ended_how.as_deref(), Some("released" | "returned")))
    }

    fn end_lease(&mut self, held: &Held, how: &str, code: ::events::Code) -> Result<(), Refused> {
        let now = self.now();
        let text = format!("license of pool {} {how} by {}", held.pool, held.attempt);
        let event = Event::own(code, now, text)
            .agent(held.agent)
            .job(held.attempt.job)
            .entity(&held.pool)
            .data(json!({"lease_id": held.id, "fence": held.fence}));
        let store = &self.store;
        store.atomically(|| {
            store.end_lease(held.id, how, now)?;
            if code == events::LICENSE_RELEASED {
                store.put_phase(held.attempt, Phase::LicenseReturned, now)?;
            }
            store.put_event(&event)
        })?;
        self.leases.free(held.id);
        Ok(())
    }

    /// Frees the license of an attempt that its agent says it never began.
    pub(super) fn free_lease_of(&mut self, attempt: AttemptRef, how: &'static str) {
        if let Some(held) = self.leases.of_attempt(attempt).cloned() {
            let ended = self.end_lease(&held, how, events::LICENSE_RELEASED);
            log_failure("a license could not be freed", ended);
        }
    }

    pub(super) fn expire_leases(&mut self) {
        for held in self.leases.overdue(self.clock.boot_ms()) {
            let ended = self.end_lease(&held, "expired", events::LICENSE_EXPIRED);
            log_failure("an expired license could not be freed", ended);
        }
    }

    pub(super) fn announce_turns(&mut self) {
        for (pool, attempt, agent) in self.leases.turns(self.clock.boot_ms()) {
            let job_id = attempt.job.to_string();
            self.send(agent, Body::LeaseReady(v1::LeaseReady { pool, job_id }));
        }
    }
}

fn grant_message(
    held: &Held,
    agent_ticks_ns: u64,
    renewal: Option<v1::SignedRenewal>,
) -> v1::LeaseGrant {
    v1::LeaseGrant {
        lease_id: held.id.to_string(),
        pool: held.pool.clone(),
        job_id: held.attempt.job.to_string(),
        fence: held.fence,
        ttl: Some(duration(std::time::Duration::from_millis(held.ttl_ms))),
        agent_ticks_ns,
        renewal,
    }
}
