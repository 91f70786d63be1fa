//! The commit point: an order is made, signed and durable before it is sent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use order::{AgentId, AttemptRef, KeyId, Lease, Order, Phase, Profiles, Purpose, Signed};
use serde_json::json;
use wire::v1;

use super::dispatch::{Accepted, Started};
use super::job::{State, Step, Taken};
use super::lease::Held;
use super::session::{Body, job_ref};
use super::{Core, millis};
use crate::config;
use crate::events::{self, Event};
use crate::refused::Refused;
use crate::spec::Spec;
use crate::store::AttemptRow;

/// What an order is made of, beside the spec.
pub(super) struct Terms<'a> {
    pub(super) attempt: AttemptRef,
    pub(super) agent: AgentId,
    pub(super) accepted: &'a Accepted,
    pub(super) held: &'a Held,
    pub(super) ticks_ns: u64,
    pub(super) now_unix_ms: u64,
}

/// The order for these terms.
pub(super) fn make_order(spec: &Spec, terms: &Terms<'_>) -> Order {
    let limits = spec.limits;
    Order {
        v: 1,
        attempt: terms.attempt,
        agent: terms.agent,
        challenge: BASE64.encode(&terms.accepted.challenge),
        not_before_unix_ms: terms.now_unix_ms,
        not_after_unix_ms: terms.now_unix_ms + millis(config::ORDER_WINDOW),
        package: spec.package,
        publisher: spec.publisher.clone().map(KeyId),
        entry: spec.entry.clone(),
        args: spec.args.clone(),
        env: spec.env.clone(),
        params: spec.params.clone(),
        account: spec.account.clone(),
        display: spec.display,
        account_secret: spec.account_secret.clone(),
        screenshots: spec.screenshots.clone(),
        limits,
        secrets: spec.secrets.clone(),
        profiles: Profiles {
            sandbox: spec.sandbox.name().to_owned(),
            network: spec.network.clone(),
        },
        lease: Lease {
            id: terms.held.id,
            fence: terms.held.fence,
            pool: terms.held.pool.clone(),
            ttl_ms: terms.held.ttl_ms,
            ticks_ns: terms.ticks_ns,
        },
        hard_end_ms: limits.session_ms
            + limits.run_ms
            + limits.stop_grace_ms
            + millis(config::HARD_END_MARGIN),
        tenant: spec.tenant.clone(),
        requester: spec.requester.clone(),
        approver: None,
        data_class: spec.data_class.clone(),
    }
}

impl Core {
    /// License and start of an accepted attempt, durable together.
    pub(super) fn start(
        &mut self,
        agent: AgentId,
        held: &Held,
        ticks_ns: u64,
    ) -> Result<(), Refused> {
        let attempt = held.attempt;
        let started = self.sign_order(agent, held, ticks_ns)?;
        let now = started.started_ms;
        let lease = self.lease_row(held);
        let row = attempt_row(attempt, agent, &started);
        let job = attempt.job;
        let taken_event = Event::own(
            events::LICENSE_TAKEN,
            now,
            format!("license of pool {} taken by {attempt}", held.pool),
        )
        .agent(agent)
        .job(job)
        .entity(&held.pool)
        .data(json!({"lease_id": held.id, "fence": held.fence}));
        let started_event = Event::own(events::JOB_STARTED, now, format!("{attempt} started"))
            .agent(agent)
            .job(job)
            .data(json!({"order_key_id": started.order.key_id}));
        let step = Step::Start {
            agent,
            attempt: attempt.number,
        };
        let taken = self.advance(job, step, |store| {
            store.put_lease(&lease)?;
            store.set_started(&row)?;
            store.put_phase(attempt, Phase::LicenseLeased, now)?;
            store.put_phase(attempt, Phase::Started, now)?;
            store.put_event(&taken_event)?;
            store.put_event(&started_event)
        })?;
        if taken != Taken::Moved {
            return Err(Refused::state(
                "OUT_OF_ORDER",
                format!("{attempt} can't start now"),
            ));
        }
        if let Some(job) = self.jobs.get_mut(&job) {
            job.started = Some(started);
        }
        Ok(())
    }

    fn sign_order(&self, agent: AgentId, held: &Held, ticks_ns: u64) -> Result<Started, Refused> {
        let attempt = held.attempt;
        let job = self.jobs.get(&attempt.job);
        let (job, accepted) = job
            .and_then(|job| job.accepted.as_ref().map(|accepted| (job, accepted)))
            .ok_or_else(|| Refused::state("OUT_OF_ORDER", "the attempt was not accepted"))?;
        let now_unix_ms = self.now();
        let terms = Terms {
            attempt,
            agent,
            accepted,
            held,
            ticks_ns,
            now_unix_ms,
        };
        let order = make_order(&job.spec, &terms);
        let body = serde_json::to_vec(&order)
            .map_err(|error| Refused::invalid("ORDER_INVALID", error.to_string()))?;
        Ok(Started {
            lease: held.id,
            fence: held.fence,
            order: self.keys.signing().sign(Purpose::Order, body),
            not_after_ms: order.not_after_unix_ms,
            hard_end_ms: order.hard_end_ms,
            started_ms: now_unix_ms,
        })
    }

    /// The start as it was signed; the same bytes every time.
    pub(super) fn start_message(&self, attempt: AttemptRef) -> Option<Body> {
        let job = self.jobs.get(&attempt.job)?;
        if job.attempt() != attempt || job.progress.state != State::Started {
            return None;
        }
        let order: &Signed = &job.started.as_ref()?.order;
        Some(Body::JobStart(v1::JobStart {
            job: Some(job_ref(attempt)),
            order: Some(v1::SignedOrder {
                body: order.body.clone().into(),
                key_id: order.key_id.0.clone(),
                signature: order.signature.clone().into(),
            }),
        }))
    }

    /// The stop of a job that was told to stop.
    pub(super) fn stop_message(&self, attempt: AttemptRef) -> Option<Body> {
        let job = self.jobs.get(&attempt.job)?;
        let mode = job.stop?;
        Some(Body::JobStop(v1::JobStop {
            job: Some(job_ref(attempt)),
            mode: mode.wire().into(),
            reason: "told to stop by an administrator".to_owned(),
        }))
    }
}

fn attempt_row(attempt: AttemptRef, agent: AgentId, started: &Started) -> AttemptRow {
    AttemptRow {
        attempt,
        agent,
        account: None,
        challenge: None,
        lease: Some(started.lease),
        fence: Some(started.fence),
        order: Some(started.order.clone()),
        not_after_ms: Some(started.not_after_ms),
        hard_end_ms: Some(started.hard_end_ms),
        started_ms: Some(started.started_ms),
        confirmed: false,
        result: None,
        reported_ms: None,
    }
}
