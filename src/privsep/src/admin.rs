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
}

/// What the broker answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Request::Slots`].
    Slots(Vec<Slot>),
    /// To [`Request::Recover`].
    Recovered,
    /// No.
    Refused(Refusal),
}
