//! What crosses between `job` and `link`, neither of which knows the other.
//!
//! Three lanes: [`Command`]s come in over a bounded queue; [`Record`]s go out through the spool
//! and are never lost; [`Urgent`] messages go out now or not at all. Whoever sends an urgent
//! message says it again when a new session begins ([`Command::Online`]).
//! A [`View`] is lossy on purpose: one frame under way, the next when it was taken.
//! [`Transfer`]s are questions that need the bulk connection. [`Standing`] is what robotd says
//! of itself in every hello and heartbeat.

mod command;
mod record;
mod screen;
mod standing;
mod transfer;
mod urgent;

pub(crate) use command::{
    Command, Denial, DenialReason, Grant, LeaseAnswer, LeaseVerdict, Offer, StopMode, Verdict,
    VerdictAction,
};
pub(crate) use record::{AuditRecord, JobRecord, Record};
pub(crate) use screen::{ScreenFrame, Taken, VIEWS, View};
pub(crate) use standing::{Blocker, HeldJob, HeldLease, Readiness, Standing};
pub(crate) use transfer::{SealedSecret, Transfer, TransferError};
pub(crate) use urgent::{LeaseRef, Mail, OfferAnswer, Reject, RejectReason, Urgent, UrgentLine};
