//! What is signed between an orchestrator and the privileged side of a host.
//!
//! Three documents, each strict JSON in the exact bytes that were signed:
//! an [`Order`] (what a job may do), a [`Renewal`] (how much longer its lease
//! holds) and a [`JobResult`] (what became of it, signed by the broker). A fourth, the
//! [`KeySet`], says whose orders count; an offline root key signs it.
//! Nobody re-encodes them on the way; robotd carries them unread.
//!
//! No I/O here: keys and bytes come in, decisions come out.

mod body;
mod ended;
mod envelope;
mod ids;
mod key_set;
mod limits;
mod network;
mod outcome;
mod renewal;
mod result;
mod sandbox;
mod verify;
mod wipe;

pub use body::{
    Area, Display, DisplayKind, Lease, Masks, Order, PictureFormat, Profiles, Screenshots,
    WindowMask,
};
pub use ended::{EndedBy, Ender, Unenforced, Usage};
pub use envelope::{KeyId, MAX_BODY, MAX_RESULT, Purpose, Signed, SigningKey, VerifyingKey};
pub use ids::{AgentId, Attempt, AttemptRef, JobId, LeaseId, NIL, Sha256Hex};
pub use key_set::{KeySet, KeySetError, MOST_KEYS, OrderKey};
pub use limits::{LIMITS, LimitRange, Limits};
pub use network::{NetworkUse, PeerUse};
pub use outcome::{Outcome, Phase};
pub use renewal::Renewal;
pub use result::{
    ArtifactTotal, JobResult, LicenseTimes, LogTotals, PhaseAt, SecretUse, SessionSummary,
    StreamTotals,
};
pub use sandbox::{
    Grants, Mdwe, PROFILES, SandboxPart, SandboxProfile, SandboxSummary, profile_table,
};
pub use verify::{Challenge, Expectation, OrderError, verify};
pub use wipe::{Assurance, Canary, KeyReport, ScanReport, VolumeBackend, VolumeReport, WipeReport};

/// Associated data under which a secret is sealed to a broker: a secret of one attempt opens in no other.
pub fn secret_aad(attempt: &AttemptRef, name: &str) -> Vec<u8> {
    format!(
        "robotd-secret-v1\0{}\0{}\0{name}",
        attempt.job, attempt.number
    )
    .into_bytes()
}
