//! A signed renewal: how much longer a lease holds.

use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, AttemptRef, LeaseId};

/// Extends the lease of one running attempt on one host. Bound by the order's hard end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Renewal {
    /// Version of this document: 1.
    pub v: u32,
    /// Whose lease.
    pub attempt: AttemptRef,
    /// On which host.
    pub agent: AgentId,
    /// The lease.
    pub lease: LeaseId,
    /// Its fence; a renewal never changes it.
    pub fence: u64,
    /// Length, counted from `ticks-ns`.
    pub ttl_ms: u64,
    /// The host's CLOCK_BOOTTIME when it asked. One in the future is refused, so a renewal
    /// that was kept back is worth no more than when it was fresh.
    pub ticks_ns: u64,
}
