//! From our types to wire types.

use wire::v1;
use wire::v1::connect_request::Body;

use super::Parts;
use crate::encode::{job_ref, phase};
use crate::exchange::{
    Blocker, HeldJob, HeldLease, LeaseRef, OfferAnswer, Readiness, Reject, RejectReason, Standing,
    Urgent,
};
use crate::host::Facts;
use crate::spool::{Lane, LaneKind};

/// Minor versions of `robotd.link.v1` that are spoken.
const MINORS: (u32, u32) = (1, 1);

pub(super) fn lane_kind(kind: LaneKind) -> v1::Lane {
    match kind {
        LaneKind::Audit => v1::Lane::Audit,
        LaneKind::Job => v1::Lane::Job,
        LaneKind::Log => v1::Lane::Log,
    }
}

/// Where a lane stands; none when its folder can't be read now. An attempt's lane is announced
/// all the same: whatever its attendant did to it, the orchestrator's word ends the waiting.
pub(super) async fn position(lane: &Lane) -> Option<v1::LanePosition> {
    let (first_unacked_seq, next_seq) = match lane.position().await {
        Ok(position) => position,
        Err(_) if lane.kind() == LaneKind::Log => (1, 1),
        Err(_) => return None,
    };
    Some(v1::LanePosition {
        lane: lane_kind(lane.kind()).into(),
        epoch: lane.epoch().to_vec().into(),
        first_unacked_seq,
        next_seq,
        job: lane.attempt().map(job_ref),
    })
}

pub(super) async fn positions(lanes: &[Lane]) -> Vec<v1::LanePosition> {
    let mut all = Vec::with_capacity(lanes.len());
    for lane in lanes {
        all.extend(position(lane).await);
    }
    all
}

pub(super) fn facts(
    facts: Facts,
    labels: &std::collections::BTreeMap<String, String>,
) -> v1::HostFacts {
    v1::HostFacts {
        hostname: facts.hostname,
        os_release: facts.os_release,
        kernel: facts.kernel,
        arch: facts.arch,
        cpu_count: facts.cpu_count,
        memory_bytes: facts.memory_bytes,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        labels: labels.clone().into_iter().collect(),
    }
}

fn held_job(held: &HeldJob) -> v1::HeldJob {
    v1::HeldJob {
        job: Some(job_ref(held.attempt)),
        phase: phase(held.phase).into(),
    }
}

fn held_lease(held: &HeldLease) -> v1::HeldLease {
    v1::HeldLease {
        lease_id: held.lease.lease.to_string(),
        fence: held.lease.fence,
        job_id: held.job.to_string(),
    }
}

pub(super) fn hello(
    parts: &Parts,
    agent: &str,
    lanes: Vec<v1::LanePosition>,
    last_session_epoch: u64,
) -> v1::Hello {
    let standing = parts.standing.borrow().clone();
    v1::Hello {
        agent_id: agent.to_owned(),
        min_minor: MINORS.0,
        max_minor: MINORS.1,
        capabilities: vec![
            v1::Capability::ZstdFrames.into(),
            v1::Capability::Artifacts.into(),
        ],
        instance_id: parts.incarnation.instance.clone(),
        boot_id: parts.incarnation.boot.clone(),
        host: Some(facts(parts.host.facts(), &parts.config.labels)),
        lanes,
        jobs: standing.jobs.iter().map(held_job).collect(),
        leases: standing.leases.iter().map(held_lease).collect(),
        last_session_epoch,
        slots: standing.slots,
    }
}

pub(super) fn heartbeat(parts: &Parts, ticks_ns: u64, renewals: &[LeaseRef]) -> v1::Heartbeat {
    let standing: Standing = parts.standing.borrow().clone();
    let load = parts.host.load();
    v1::Heartbeat {
        agent_ticks_ns: ticks_ns,
        state: match standing.readiness {
            Readiness::Ready => v1::AgentState::Ready,
            Readiness::Busy => v1::AgentState::Busy,
            Readiness::Draining => v1::AgentState::Draining,
            Readiness::Unhealthy => v1::AgentState::Unhealthy,
        }
        .into(),
        renewals: renewals
            .iter()
            .map(|held| v1::LeaseRenewal {
                lease_id: held.lease.to_string(),
                fence: held.fence,
            })
            .collect(),
        jobs: standing.jobs.iter().map(held_job).collect(),
        load: Some(v1::HostLoad {
            cpu_fraction: load.cpu_fraction,
            memory_available_bytes: load.memory_available,
            disk_available_bytes: load.disk_available,
            blockers: standing
                .blockers
                .iter()
                .map(|blocker: &Blocker| blocker.code().to_owned())
                .collect(),
        }),
        spool: Some(v1::SpoolStatus {
            used_bytes: standing.spool_used_bytes,
            limit_bytes: standing.spool_limit_bytes,
            oldest_age: None,
        }),
        free_slots: standing.free_slots,
        slots: standing.slots,
        abilities: standing.abilities.clone(),
        missing_abilities: standing.missing_abilities.clone(),
    }
}

/// An urgent message; a renewal becomes a heartbeat of its own.
pub(super) fn urgent(parts: &Parts, urgent: &Urgent) -> Body {
    match urgent {
        Urgent::OfferReply { attempt, answer } => Body::OfferReply(v1::OfferReply {
            job: Some(job_ref(*attempt)),
            answer: Some(match answer {
                OfferAnswer::Accept {
                    package_cached,
                    challenge,
                    account,
                } => v1::offer_reply::Answer::Accept(v1::Accept {
                    package_cached: *package_cached,
                    broker_challenge: challenge.to_vec().into(),
                    account: account.clone(),
                }),
                OfferAnswer::Reject(no) => v1::offer_reply::Answer::Reject(reject(no)),
            }),
        }),
        Urgent::LeaseRequest {
            request,
            pool,
            attempt,
            ticks_ns,
        } => Body::LeaseRequest(v1::LeaseRequest {
            request_id: request.clone(),
            pool: pool.clone(),
            job_id: attempt.job.to_string(),
            attempt: attempt.number,
            agent_ticks_ns: *ticks_ns,
        }),
        Urgent::LeaseRelease(held) => Body::LeaseRelease(v1::LeaseRelease {
            lease_id: held.lease.to_string(),
            fence: held.fence,
        }),
        Urgent::Renew { ticks_ns, leases } => Body::Heartbeat(heartbeat(parts, *ticks_ns, leases)),
        Urgent::CommandResult { command, refused } => Body::CommandResult(v1::CommandResult {
            command_id: command.clone(),
            // google.rpc.Code: OK and FAILED_PRECONDITION.
            code: if refused.is_some() { 9 } else { 0 },
            reason: refused
                .as_ref()
                .map(|refusal| refusal.code.clone())
                .unwrap_or_default(),
        }),
    }
}

fn reject(no: &Reject) -> v1::Reject {
    let reason = match no.reason {
        RejectReason::Busy => v1::RejectReason::Busy,
        RejectReason::Draining => v1::RejectReason::Draining,
        RejectReason::NoDisk => v1::RejectReason::NoDisk,
        RejectReason::SpoolFull => v1::RejectReason::SpoolFull,
        RejectReason::AccountNotAllowed => v1::RejectReason::AccountNotAllowed,
        RejectReason::Unsupported => v1::RejectReason::Unsupported,
        RejectReason::NoCleanSlot => v1::RejectReason::NoCleanSlot,
        RejectReason::AlreadyEnded => v1::RejectReason::AlreadyEnded,
    };
    v1::Reject {
        reason: reason.into(),
        code: no.code.clone(),
        detail: no.detail.clone(),
    }
}
