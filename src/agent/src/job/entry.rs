//! What robotd must know of one attempt after its own death.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use order::{KeyId, Phase, Signed};
use serde::{Deserialize, Serialize};

use crate::exchange::{Offer, Reject};
use crate::ids::{AttemptRef, Sha256Hex};
use crate::license::SavedLease;

/// How far an attempt is. Durable before the step takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stage {
    /// Offered, not answered.
    Offered,
    /// A slot is reserved and the offer accepted.
    Accepted,
    /// A license is held.
    Leased,
    /// The order is about to go to the broker: from here on it is never given to it again.
    StartIntent,
    /// The broker confirmed the start.
    Started,
    /// The broker's signed result is here.
    Ended,
    /// The license was given back.
    Released,
    /// The result is in the JOB lane.
    Reported,
    /// It ended before its start; the orchestrator is told until it has heard.
    Declined,
    /// Its start's fate is unknown; reported as interrupted.
    Lost,
}

/// One file of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Entry {
    /// Version of this document: 1.
    pub(crate) v: u32,
    /// What was offered.
    pub(crate) offer: Offer,
    /// How far it is.
    pub(crate) stage: Stage,
    /// Steps that are in the JOB lane.
    pub(crate) recorded: BTreeSet<Phase>,
    /// The license, as last extended.
    pub(crate) lease: Option<SavedLease>,
    /// The broker's result.
    pub(crate) result: Option<SavedResult>,
    /// Why it was declined.
    pub(crate) reject: Option<Reject>,
    /// Where in the JOB lane its end stands.
    pub(crate) report: Option<Place>,
}

/// A record's place in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Place {
    /// The lane's numbering.
    pub(crate) epoch: [u8; 16],
    /// The record.
    pub(crate) seq: u64,
}

/// The exact signed bytes, in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct SavedResult {
    body: String,
    key_id: KeyId,
    signature: String,
}

impl SavedResult {
    pub(crate) fn of(signed: &Signed) -> Self {
        Self {
            body: BASE64.encode(&signed.body),
            key_id: signed.key_id.clone(),
            signature: BASE64.encode(&signed.signature),
        }
    }

    /// None when the file was changed by hand: nothing else writes it.
    pub(crate) fn signed(&self) -> Option<Signed> {
        Some(Signed {
            body: BASE64.decode(&self.body).ok()?,
            key_id: self.key_id.clone(),
            signature: BASE64.decode(&self.signature).ok()?,
        })
    }
}

impl Entry {
    /// Of a new offer.
    pub(crate) fn offered(offer: Offer) -> Self {
        Self {
            v: 1,
            offer,
            stage: Stage::Offered,
            recorded: BTreeSet::new(),
            lease: None,
            result: None,
            reject: None,
            report: None,
        }
    }

    /// Of an attempt whose file can't be read, or that only the broker knows. The most cautious
    /// guess: it may have been started, so it is never started again.
    pub(crate) fn unknown(attempt: AttemptRef) -> Self {
        let offer = Offer {
            attempt,
            package: Sha256Hex([0; 32]),
            package_bytes: 0,
            pool: String::new(),
            account: None,
            tenant: String::new(),
            answer_within_ms: 0,
        };
        Self {
            stage: Stage::StartIntent,
            ..Self::offered(offer)
        }
    }

    pub(crate) fn attempt(&self) -> AttemptRef {
        self.offer.attempt
    }

    /// The last step that is worth telling.
    pub(crate) fn phase(&self) -> Phase {
        self.recorded.last().copied().unwrap_or(match self.stage {
            Stage::Offered | Stage::Declined => Phase::Offered,
            _ => Phase::Accepted,
        })
    }
}
