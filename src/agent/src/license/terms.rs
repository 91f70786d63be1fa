//! Numbers of a lease and what they mean in nanoseconds.

use serde::{Deserialize, Serialize};

use crate::ids::LeaseId;

/// Largest drift of a host's clock, parts per million: the slew limit of NTP.
const DRIFT_PPM: u64 = 500;

/// Taken off the end, for what drift does not cover (5 s of grace at the server go with it).
const MARGIN_NS: u64 = 2_000_000_000;

/// Part of the TTL after which a renewal is asked for, in thousandths.
const RENEW_AT: u64 = 500;

/// Part of the TTL after which it is urgent, in thousandths.
const URGENT_AT: u64 = 875;

/// What was granted last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// When the request was made that this answers.
    pub(crate) anchor_ns: u64,
    /// Length from there.
    pub(crate) ttl_ns: u64,
}

impl Terms {
    fn part(self, thousandths: u64) -> u64 {
        let part = u128::from(self.ttl_ns) * u128::from(thousandths) / 1000;
        self.anchor_ns
            .saturating_add(u64::try_from(part).unwrap_or(u64::MAX))
    }

    /// From here on a renewal is asked for.
    pub(crate) fn renew_at(self) -> u64 {
        self.part(RENEW_AT)
    }

    /// From here on often.
    pub(crate) fn urgent_at(self) -> u64 {
        self.part(URGENT_AT)
    }

    /// From here on nobody may count on it. Never later than the orchestrator's own end, however
    /// the two clocks drift.
    pub(crate) fn until(self) -> u64 {
        let drift = u128::from(self.ttl_ns) * u128::from(DRIFT_PPM) / 1_000_000;
        let drift = u64::try_from(drift).unwrap_or(u64::MAX);
        let sure = self.ttl_ns.saturating_sub(drift).saturating_sub(MARGIN_NS);
        self.anchor_ns.saturating_add(sure)
    }
}

/// A lease in the journal of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct SavedLease {
    /// Its id.
    pub(crate) lease: LeaseId,
    /// Its fence.
    pub(crate) fence: u64,
    /// Length of one term.
    pub(crate) ttl_ns: u64,
    /// Start of the last term.
    pub(crate) anchor_ns: u64,
    /// The boot in which the anchor counts.
    pub(crate) boot: String,
}
