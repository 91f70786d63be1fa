//! Durable records of robotd's own lanes.

use order::{Phase, PhaseAt, Signed};

use crate::ids::AttemptRef;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// For the JOB lane.
    Job(JobRecord),
    /// For the AUDIT lane.
    Audit(AuditRecord),
}

/// A step of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobRecord {
    /// Whose.
    pub(crate) attempt: AttemptRef,
    /// Which, when.
    pub(crate) at: PhaseAt,
    /// The broker's word on how it ended, with [`Phase::Reported`]. Absent there only when the
    /// start's fate is unknown: the attempt counts as interrupted and nothing proves more.
    pub(crate) result: Option<Signed>,
}

impl JobRecord {
    /// A step without more.
    pub(crate) fn step(attempt: AttemptRef, at: PhaseAt) -> Self {
        Self {
            attempt,
            at,
            result: None,
        }
    }

    /// The end.
    pub(crate) fn reported(attempt: AttemptRef, at_unix_ms: u64, result: Option<Signed>) -> Self {
        Self {
            attempt,
            at: PhaseAt {
                phase: Phase::Reported,
                at_unix_ms,
            },
            result,
        }
    }
}

/// A security event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuditRecord {
    /// Code of the catalogue.
    pub(crate) code: u32,
    /// Which attempt it belongs to.
    pub(crate) attempt: Option<AttemptRef>,
    /// JSON object of the catalogue.
    pub(crate) body: String,
    /// When, for people.
    pub(crate) at_unix_ms: u64,
}
