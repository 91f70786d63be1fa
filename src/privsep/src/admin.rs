//! robotctl, run as root, and the broker: what never goes through robotd.

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
    /// Let a slot that is not in use pass to the next tenant that asks.
    ReleaseTenant {
        /// Its account.
        account: String,
    },
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
    /// To [`Request::ReleaseTenant`].
    Released {
        /// Whose it was; absent = nobody's.
        from: Option<String>,
    },
    /// No.
    Refused(Refusal),
}
