//! Closed lists: how a job can end and which steps it has.

use serde::{Deserialize, Serialize};

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// The bot exited with 0.
    Succeeded,
    /// The bot exited with another code or died by a signal of its own.
    Failed,
    /// It was told to stop and did.
    Stopped,
    /// It ran into a time limit.
    TimedOut,
    /// Something of ours or the host died while it ran.
    Interrupted,
    /// It never ran; `detail` says at which step it ended.
    NotStarted,
    /// Its license lease ended and its policy was to stop.
    LeaseLost,
}

/// The steps of a job's life, in order. A step that a job does not need is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Phase {
    /// The orchestrator offered it to an agent.
    Offered,
    /// The agent took it; a slot is reserved.
    Accepted,
    /// A license is held for it.
    LicenseLeased,
    /// The commit point: the signed order is durable on the host.
    Started,
    /// The package is in the store and verified.
    PackageReady,
    /// The scratch volume is mounted.
    VolumeReady,
    /// The PAM session is open.
    SessionOpen,
    /// The private display answers.
    DisplayReady,
    /// The bot was started.
    Running,
    /// The bot ended.
    Exited,
    /// No process of the job is left.
    ProcessesGone,
    /// What the bot handed back is out of the volume.
    ArtifactsCollected,
    /// The PAM session is closed and proven gone.
    SessionClosed,
    /// The volume is gone, with proof.
    Wiped,
    /// The license is back in its pool.
    LicenseReturned,
    /// The signed result is at the orchestrator.
    Reported,
}
