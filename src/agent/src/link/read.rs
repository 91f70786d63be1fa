//! From wire types to ours. What can't be read is a refusal, never a guess: an unknown enum value
//! refuses the action.

use std::time::Duration;

use order::{AttemptRef, KeyId, MAX_BODY, Sha256Hex, Signed};
use wire::v1;

use crate::exchange::{
    Denial, DenialReason, Grant, LeaseAnswer, LeaseVerdict, Offer, StopMode, Verdict, VerdictAction,
};

/// Longest text that is kept of what is for people.
const MAX_TEXT: usize = 1024;

/// What is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is missing or can't be read")]
pub(super) struct Unreadable(pub(super) &'static str);

type Read<T> = Result<T, Unreadable>;

pub(super) fn attempt(job: Option<&v1::JobRef>) -> Read<AttemptRef> {
    let job = job.ok_or(Unreadable("job"))?;
    let parsed = job.job_id.parse().map_err(|_| Unreadable("job_id"))?;
    if job.attempt == 0 {
        return Err(Unreadable("attempt"));
    }
    Ok(AttemptRef {
        job: parsed,
        number: job.attempt,
    })
}

pub(super) fn digest(bytes: &[u8]) -> Read<Sha256Hex> {
    bytes
        .try_into()
        .map(Sha256Hex)
        .map_err(|_| Unreadable("sha256"))
}

pub(super) fn length(wire: Option<&prost_types::Duration>) -> Read<Duration> {
    let wire = *wire.ok_or(Unreadable("duration"))?;
    Duration::try_from(wire).map_err(|_| Unreadable("duration"))
}

/// Text for people: bounded, without control characters.
pub(super) fn text(wire: &str) -> String {
    wire.chars()
        .filter(|char| !char.is_control())
        .take(MAX_TEXT)
        .collect()
}

fn signed(body: &[u8], key_id: &str, signature: &[u8]) -> Read<Signed> {
    if body.len() > MAX_BODY || key_id.len() > 64 || signature.len() != 64 {
        return Err(Unreadable("signed document"));
    }
    Ok(Signed {
        body: body.to_vec(),
        key_id: KeyId(key_id.to_owned()),
        signature: signature.to_vec(),
    })
}

pub(super) fn offer(wire: &v1::JobOffer) -> Read<Offer> {
    let within = length(wire.answer_within.as_ref()).unwrap_or(Duration::from_secs(10));
    let tenant = wire
        .automation
        .as_ref()
        .map(|automation| &automation.tenant);
    let tenant = tenant.cloned().unwrap_or_default();
    if wire.pool.len() > 256 || wire.account.len() > 256 || tenant.len() > 256 {
        return Err(Unreadable("pool, account or tenant"));
    }
    Ok(Offer {
        attempt: attempt(wire.job.as_ref())?,
        package: digest(&wire.package_sha256)?,
        package_bytes: wire.package_bytes,
        pool: wire.pool.clone(),
        account: (!wire.account.is_empty()).then(|| wire.account.clone()),
        tenant,
        answer_within_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
    })
}

pub(super) fn start(wire: &v1::JobStart) -> Read<(AttemptRef, Signed)> {
    let order = wire.order.as_ref().ok_or(Unreadable("order"))?;
    Ok((
        attempt(wire.job.as_ref())?,
        signed(&order.body, &order.key_id, &order.signature)?,
    ))
}

pub(super) fn key_set(wire: &v1::SignedKeySet) -> Read<Signed> {
    signed(&wire.body, &wire.key_id, &wire.signature)
}

pub(super) fn stop(wire: &v1::JobStop) -> Read<(AttemptRef, StopMode, String)> {
    let mode = match wire.mode() {
        v1::StopMode::Graceful => StopMode::Graceful,
        v1::StopMode::Kill => StopMode::Kill,
        v1::StopMode::Unspecified => return Err(Unreadable("mode")),
    };
    Ok((attempt(wire.job.as_ref())?, mode, text(&wire.reason)))
}

pub(super) fn grant(wire: &v1::LeaseGrant) -> Read<Grant> {
    let renewal = wire
        .renewal
        .as_ref()
        .map(|renewal| signed(&renewal.body, &renewal.key_id, &renewal.signature));
    Ok(Grant {
        lease: wire.lease_id.parse().map_err(|_| Unreadable("lease_id"))?,
        pool: text(&wire.pool),
        job: wire.job_id.parse().map_err(|_| Unreadable("job_id"))?,
        fence: wire.fence,
        ttl: length(wire.ttl.as_ref())?,
        ticks_ns: wire.agent_ticks_ns,
        renewal: renewal.transpose()?,
    })
}

pub(super) fn denial(wire: &v1::LeaseDenial) -> Denial {
    Denial {
        lease: wire.lease_id.parse().ok(),
        reason: match wire.reason() {
            v1::LeaseDenialReason::NoneFree => DenialReason::NoneFree,
            v1::LeaseDenialReason::Expired => DenialReason::Expired,
            v1::LeaseDenialReason::StaleFence => DenialReason::StaleFence,
            v1::LeaseDenialReason::NotEntitled => DenialReason::NotEntitled,
            v1::LeaseDenialReason::Unspecified => DenialReason::Unknown,
        },
        detail: text(&wire.detail),
    }
}

pub(super) fn lease_answer(wire: &v1::LeaseReply) -> Read<LeaseAnswer> {
    let outcome = match wire.outcome.as_ref().ok_or(Unreadable("outcome"))? {
        v1::lease_reply::Outcome::Grant(granted) => Ok(grant(granted)?),
        v1::lease_reply::Outcome::Denial(denied) => Err(denial(denied)),
    };
    Ok(LeaseAnswer {
        request: wire.request_id.clone(),
        outcome,
    })
}

pub(super) fn lease_verdict(wire: &v1::LeaseVerdict) -> Read<LeaseVerdict> {
    let outcome = match wire.outcome.as_ref().ok_or(Unreadable("outcome"))? {
        v1::lease_verdict::Outcome::Grant(granted) => Ok(grant(granted)?),
        v1::lease_verdict::Outcome::Denial(denied) => Err(denial(denied)),
    };
    Ok(LeaseVerdict {
        lease: wire.lease_id.parse().map_err(|_| Unreadable("lease_id"))?,
        outcome,
    })
}

pub(super) fn verdict(wire: &v1::JobVerdict) -> Read<Verdict> {
    let action = match wire.action() {
        v1::JobAction::Continue => VerdictAction::Continue,
        v1::JobAction::Stop => VerdictAction::Stop,
        v1::JobAction::Forget => VerdictAction::Forget,
        v1::JobAction::Unspecified => return Err(Unreadable("action")),
    };
    Ok(Verdict {
        attempt: attempt(wire.job.as_ref())?,
        action,
    })
}
