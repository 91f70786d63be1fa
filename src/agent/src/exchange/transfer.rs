//! Questions that need the bulk connection. Each carries the place for its answer; dropping that
//! place is giving up.

use std::fs::File;

use privsep::Refusal;
use tokio::sync::oneshot;

use crate::ids::{AttemptRef, Sha256Hex};

/// What is asked.
#[derive(Debug)]
pub(crate) enum Transfer {
    /// The bytes of a package, appended to a file, checked against digest and size.
    Package {
        /// Which.
        sha256: Sha256Hex,
        /// No more than this.
        max_bytes: u64,
        /// For which attempt.
        attempt: AttemptRef,
        /// Empty and writable.
        into: File,
        /// The file, complete and at its start.
        answer: oneshot::Sender<Result<File, TransferError>>,
    },
    /// Secrets of a running attempt, sealed to the broker.
    Secrets {
        /// For which attempt.
        attempt: AttemptRef,
        /// Its license's fence.
        fence: u64,
        /// Which.
        names: Vec<String>,
        /// What came.
        answer: oneshot::Sender<Result<Vec<SealedSecret>, TransferError>>,
    },
}

/// A secret that only the broker can open.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SealedSecret {
    /// Which.
    pub(crate) name: String,
    /// HPKE encapsulated key.
    pub(crate) encapsulated_key: Vec<u8>,
    /// HPKE ciphertext.
    pub(crate) ciphertext: Vec<u8>,
}

impl std::fmt::Debug for SealedSecret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("SealedSecret")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Why a question has no answer. Outages are none: the link asks again when it is back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TransferError {
    /// The orchestrator said no, or what it sent is not what was promised.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// robotd is about to stop.
    #[error("robotd stops")]
    Stopping,
}
