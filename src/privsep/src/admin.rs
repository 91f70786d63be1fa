//! robotctl, run as root, and the broker: what never goes through robotd.

use order::{AgentId, KeyId, Signed};
use serde::{Deserialize, Serialize};

use crate::broker::Slot;
use crate::refusal::Refusal;

/// What robotctl may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// All slots.
    Slots,
    /// Tear a quarantined slot down again and free it when it is proven clean.
    Recover {
        /// Its account.
        account: String,
    },
    /// Whose orders count.
    Trust,
    /// Put a set of order keys into force.
    ApplyKeySet {
        /// Signed by the root key.
        signed: Signed,
    },
    /// Let a slot that is not in use pass to the next tenant that asks.
    ReleaseTenant {
        /// Its account.
        account: String,
    },
}

/// Whose orders count on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustShown {
    /// Who this host is.
    pub agent: AgentId,
    /// Signs sets of order keys; absent = none was pinned.
    pub root: Option<KeyId>,
    /// The set in force; 0 = the keys that the enrolment pinned.
    pub version: u64,
    /// The keys, those that don't count any more too.
    pub keys: Vec<TrustLine>,
}

/// One order key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustLine {
    /// Its name.
    pub key: KeyId,
    /// `accepted`, `retired` or `revoked`.
    pub state: String,
    /// It counts until then, milliseconds since 1970.
    pub until_unix_ms: Option<u64>,
}

/// A slot as an administrator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotLine {
    /// The slot.
    pub slot: Slot,
    /// The tenant of its last job.
    pub tenant: Option<String>,
    /// Tenants that the policy names it for; empty = any.
    pub bound_to: Vec<String>,
}

/// What the broker answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Request::Slots`].
    Slots(Vec<SlotLine>),
    /// To [`Request::Recover`].
    Recovered,
    /// To [`Request::Trust`].
    Trust(TrustShown),
    /// To [`Request::ApplyKeySet`]: this version is in force.
    Applied(u64),
    /// To [`Request::ReleaseTenant`].
    Released {
        /// Whose it was; absent = nobody's.
        from: Option<String>,
    },
    /// No.
    Refused(Refusal),
}
