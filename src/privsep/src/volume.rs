//! What a host's policy says about scratch volumes.

use order::VolumeBackend;
use serde::{Deserialize, Serialize};

/// How a session makes its volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// This one and no other; absent = the strongest that works and fits.
    pub backend: Option<VolumeBackend>,
    /// Whether the choice may end with one that is readable on the disk.
    pub allow_plain: bool,
    /// Where images lie: a directory of root's that nobody else can enter.
    pub store: String,
    /// Largest volume in memory, when there is a choice.
    pub memory_bytes: u64,
    /// What the store's file system keeps free.
    pub reserve_bytes: u64,
    /// Search the raw disk space after each job.
    pub deep_scan: bool,
}
