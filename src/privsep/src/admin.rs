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
    /// Everything of jobs that is still on this host.
    Remains,
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

/// Largest list of what remains.
pub const MAX_REMAINS: usize = 4 << 20;

/// Something of jobs that is still on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remain {
    /// What it is.
    pub kind: RemainKind,
    /// Of which job, package or slot; empty = of all.
    pub name: String,
    /// Whose, where it is one tenant's.
    pub tenant: Option<String>,
    /// Where it, or its record, lies.
    pub path: String,
    /// Names below it.
    pub files: u64,
    /// Bytes that it takes on the disk.
    pub bytes: u64,
    /// There is more than was counted.
    pub partial: bool,
    /// When it goes by itself, milliseconds since 1970; absent = on the condition of its kind.
    pub until_unix_ms: Option<u64>,
    /// Why it is there, where that is not plain.
    pub why: String,
}

/// What can remain of jobs; robotctl says of each how it is kept and what ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RemainKind {
    /// A job that has a slot now.
    Job,
    /// Output of an attempt that is not delivered yet.
    Lane,
    /// The directory of an attendant's sockets.
    Sockets,
    /// A signed result that is not delivered yet.
    Result,
    /// What could not be proven clean.
    Quarantine,
    /// A package for the next job.
    Package,
    /// A package being taken in or removed.
    Staging,
    /// Security events that robotd was not there to take.
    Outbox,
    /// Ids of started attempts and fences of their licenses: nothing starts twice.
    Replay,
    /// Whom each slot served last.
    Tenants,
    /// robotd's list of jobs.
    Journal,
    /// robotd's own records that are not delivered yet.
    OwnLanes,
    /// Packages on their way to the broker.
    Fetched,
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
    /// To [`Request::Remains`]: a list of [`Remain`]s is in a sealed memfd sent along.
    Remains,
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
