//! From the orchestrator to the jobs.

use std::time::Duration;

use order::Signed;
use privsep::Refusal;
use serde::{Deserialize, Serialize};

use crate::ids::{AttemptRef, JobId, LeaseId, Sha256Hex};

/// What the link brings.
#[derive(Debug)]
pub(crate) enum Command {
    /// A job is offered.
    Offer(Offer),
    /// The commit point of an accepted job.
    Start {
        /// Which.
        attempt: AttemptRef,
        /// Passed on unread.
        order: Signed,
    },
    /// End a job.
    Stop {
        /// Which.
        attempt: AttemptRef,
        /// How.
        mode: StopMode,
        /// Why, for the log.
        reason: String,
    },
    /// To a lease request.
    Lease(LeaseAnswer),
    /// It is this job's turn for a license.
    LeaseReady {
        /// Whose.
        job: JobId,
    },
    /// To renewals.
    Renewed {
        /// What was extended.
        grants: Vec<Grant>,
        /// What was not.
        denials: Vec<Denial>,
    },
    /// Take a picture.
    Screenshot {
        /// Named in the answer.
        command: String,
        /// Of which job.
        attempt: AttemptRef,
    },
    /// Somebody looks on.
    Watch {
        /// Named in the answer.
        command: String,
        /// At which job.
        attempt: AttemptRef,
        /// Most pictures a second.
        most_per_second: u32,
    },
    /// The order keys that count from now on; passed on unread.
    KeySet(Signed),
    /// Take no more offers, or take them again.
    Drain {
        /// Take them again.
        resume: bool,
        /// What runs then is stopped.
        finish_within: Option<Duration>,
    },
    /// A session began: the orchestrator's word on all that was held.
    Online {
        /// Jobs.
        jobs: Vec<Verdict>,
        /// Leases.
        leases: Vec<LeaseVerdict>,
    },
    /// The orchestrator refused one message.
    Refused {
        /// About which attempt, when the message was about one.
        attempt: Option<AttemptRef>,
        /// Why.
        refusal: Refusal,
    },
}

/// Everything that is needed to say yes or no; what runs is decided by the order alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Offer {
    /// Which attempt.
    pub(crate) attempt: AttemptRef,
    /// The package.
    pub(crate) package: Sha256Hex,
    /// Its size as the orchestrator says; a bound for what is fetched.
    pub(crate) package_bytes: u64,
    /// The pool that it needs a license of.
    pub(crate) pool: String,
    /// Account wished for.
    pub(crate) account: Option<String>,
    /// Whose job it is.
    #[serde(default)]
    pub(crate) tenant: String,
    /// The answer is worth nothing after that, milliseconds from receipt.
    pub(crate) answer_within_ms: u64,
}

/// How to end a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopMode {
    /// SIGTERM, grace, kill.
    Graceful,
    /// Kill.
    Kill,
}

/// A license, granted or extended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The lease.
    pub(crate) lease: LeaseId,
    /// Its pool.
    pub(crate) pool: String,
    /// For which job.
    pub(crate) job: JobId,
    /// Grows with every new holder.
    pub(crate) fence: u64,
    /// Counts from `ticks_ns`.
    pub(crate) ttl: Duration,
    /// Our own CLOCK_BOOTTIME of the request that this answers.
    pub(crate) ticks_ns: u64,
    /// For the broker; set in renewals.
    pub(crate) renewal: Option<Signed>,
}

/// No license.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    /// Of which lease; none for a request.
    pub(crate) lease: Option<LeaseId>,
    /// Why.
    pub(crate) reason: DenialReason,
    /// For people.
    pub(crate) detail: String,
}

/// Why there is no license.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DenialReason {
    /// All are held: wait for [`Command::LeaseReady`].
    NoneFree,
    /// The lease has ended.
    Expired,
    /// Somebody else holds it by now.
    StaleFence,
    /// The pool does not exist or is not for this job.
    NotEntitled,
    /// Something that this version does not know; treated as no.
    Unknown,
}

/// To a lease request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaseAnswer {
    /// Which request.
    pub(crate) request: String,
    /// A license, or none.
    pub(crate) outcome: Result<Grant, Denial>,
}

/// What the orchestrator knows of a job that we hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Which.
    pub(crate) attempt: AttemptRef,
    /// What to do with it.
    pub(crate) action: VerdictAction,
}

/// What to do with a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VerdictAction {
    /// Go on.
    Continue,
    /// It was given away: stop, wipe, go on reporting.
    Stop,
    /// Its outcome is known and durable: drop what is left.
    Forget,
}

/// What the orchestrator knows of a lease that we hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaseVerdict {
    /// Which.
    pub(crate) lease: LeaseId,
    /// Still ours, or not. A grant in a verdict answers no request and extends nothing.
    pub(crate) outcome: Result<Grant, Denial>,
}
