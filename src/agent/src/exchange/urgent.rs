//! From the jobs to the orchestrator, now or not at all.

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::ids::{AttemptRef, LeaseId};

/// Messages that may wait for the link; more than all jobs of a host can say at once.
const WAITING: usize = 256;

/// A message on its way.
#[derive(Debug)]
pub(crate) struct Mail {
    /// What is said.
    pub(crate) body: Urgent,
    /// Told when the orchestrator has handled it; dropped when nobody knows.
    pub(crate) heard: oneshot::Sender<()>,
}

/// The jobs' end of the urgent lane.
#[derive(Clone, Debug)]
pub(crate) struct UrgentLine(mpsc::Sender<Mail>);

impl UrgentLine {
    /// Both ends.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Mail>) {
        let (line, mails) = mpsc::channel(WAITING);
        (Self(line), mails)
    }

    /// Says something now or not at all: a job never waits for the link. The receiver ends with
    /// an error when the message was not heard for sure.
    pub(crate) fn say(&self, body: Urgent) -> oneshot::Receiver<()> {
        let (heard, told) = oneshot::channel();
        // A full or closed lane drops `heard`, which says it all.
        let _ = self.0.try_send(Mail { body, heard });
        told
    }
}

/// Sent when a session is there, dropped when none is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Urgent {
    /// To an offer. A rejection may also follow an acceptance, until the start.
    OfferReply {
        /// Which.
        attempt: AttemptRef,
        /// Yes or no.
        answer: OfferAnswer,
    },
    /// A license is wanted.
    LeaseRequest {
        /// The same id brings the same lease.
        request: String,
        /// Of which pool.
        pool: String,
        /// For which attempt.
        attempt: AttemptRef,
        /// CLOCK_BOOTTIME, read when this was made: the lease counts from it.
        ticks_ns: u64,
    },
    /// A license goes back.
    LeaseRelease(LeaseRef),
    /// Leases to extend, in a heartbeat of its own.
    Renew {
        /// CLOCK_BOOTTIME, read when this was made.
        ticks_ns: u64,
        /// Which.
        leases: Vec<LeaseRef>,
    },
    /// To a command.
    CommandResult {
        /// Which.
        command: String,
        /// Why not, when not.
        refused: Option<privsep::Refusal>,
    },
}

/// A lease by id and fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LeaseRef {
    /// Its id.
    pub(crate) lease: LeaseId,
    /// Its fence.
    pub(crate) fence: u64,
}

/// Yes or no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OfferAnswer {
    /// A slot is reserved.
    Accept {
        /// The broker has the package.
        package_cached: bool,
        /// The order must carry it.
        challenge: [u8; 32],
        /// The slot's account.
        account: String,
    },
    /// No.
    Reject(Reject),
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Reject {
    /// For the orchestrator's choice of what to do.
    pub(crate) reason: RejectReason,
    /// Stable code of the side that refused; empty when robotd itself did and the reason says all.
    pub(crate) code: String,
    /// For people.
    pub(crate) detail: String,
}

impl Reject {
    /// A refusal of robotd's own.
    pub(crate) fn new(reason: RejectReason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            code: String::new(),
            detail: detail.into(),
        }
    }

    /// With a code of its own.
    pub(crate) fn with_code(reason: RejectReason, code: &str, detail: impl Into<String>) -> Self {
        Self {
            reason,
            code: code.to_owned(),
            detail: detail.into(),
        }
    }
}

/// What the orchestrator can make of a no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RejectReason {
    /// Every slot is taken.
    Busy,
    /// An administrator or the orchestrator drains this host.
    Draining,
    /// No space for the package.
    NoDisk,
    /// Too much output waits for the orchestrator.
    SpoolFull,
    /// The broker's policy does not allow the account.
    AccountNotAllowed,
    /// This host can't or may not do it.
    Unsupported,
    /// No slot is proven clean.
    NoCleanSlot,
    /// This attempt was here before: an attempt never runs twice.
    AlreadyEnded,
}
