//! What robotd says of itself in every hello and heartbeat.

use std::collections::BTreeSet;

use order::Phase;
use serde::Serialize;

use super::urgent::LeaseRef;
use crate::ids::{AttemptRef, JobId};

/// As of now; the jobs' owner writes it, the link reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Whether offers are taken.
    pub(crate) readiness: Readiness,
    /// Why not.
    pub(crate) blockers: BTreeSet<Blocker>,
    /// Jobs that may run at once.
    pub(crate) slots: u32,
    /// How many more may start now.
    pub(crate) free_slots: u32,
    /// What is held.
    pub(crate) jobs: Vec<HeldJob>,
    /// Under which licenses.
    pub(crate) leases: Vec<HeldLease>,
    /// Output that waits for the orchestrator.
    pub(crate) spool_used_bytes: u64,
    /// As much as may wait.
    pub(crate) spool_limit_bytes: u64,
    /// What the host can do, by name; empty while it is not known.
    pub(crate) abilities: Vec<String>,
    /// What its policy requires and it can't do: no job is taken.
    pub(crate) missing_abilities: Vec<String>,
}

/// Whether offers are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Readiness {
    /// Yes.
    Ready,
    /// All slots are taken.
    Busy,
    /// No, by an administrator's wish.
    Draining,
    /// No, see the blockers.
    #[default]
    Unhealthy,
}

/// Stable reasons for taking no offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Blocker {
    /// robotd-broker does not answer.
    BrokerUnreachable,
    /// Too much output waits.
    SpoolFull,
    /// The disk is nearly full.
    DiskFull,
    /// Every slot is quarantined.
    NoCleanSlot,
    /// One of robotd's own lanes can't be written.
    LaneLost,
}

impl Blocker {
    /// As it is sent.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::BrokerUnreachable => "BROKER_UNREACHABLE",
            Self::SpoolFull => "SPOOL_FULL",
            Self::DiskFull => "DISK_FULL",
            Self::NoCleanSlot => "NO_CLEAN_SLOT",
            Self::LaneLost => "LANE_LOST",
        }
    }
}

/// An attempt that is not forgotten yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeldJob {
    /// Which.
    pub(crate) attempt: AttemptRef,
    /// Its last step.
    pub(crate) phase: Phase,
    /// Whether it takes a slot: until its result is there, or until it is declined.
    pub(crate) takes_slot: bool,
}

/// A license in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeldLease {
    /// Which.
    pub(crate) lease: LeaseRef,
    /// By which job.
    pub(crate) job: JobId,
}
