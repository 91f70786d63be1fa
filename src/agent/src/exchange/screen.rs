//! The live view of one job on its way from its attendant to whoever looks on.

use std::fs::File;

use tokio::sync::{mpsc, oneshot};

use crate::ids::AttemptRef;

/// Views that may wait for a session; one that finds no room is begun anew by the orchestrator.
pub(crate) const VIEWS: usize = 16;

/// One live view. Dropping it, at either end, ends it at the other.
#[derive(Debug)]
pub(crate) struct View {
    /// Of which attempt.
    pub(crate) attempt: AttemptRef,
    /// The frames; the next one comes when the last one was taken.
    pub(crate) frames: mpsc::Receiver<ScreenFrame>,
}

/// One frame as the attendant encoded it. It stays in the attendant's memory file: robotd reads it
/// in pieces and never holds it.
#[derive(Debug)]
pub(crate) struct ScreenFrame {
    /// Sealed. To be read by position: the attendant holds the same open file.
    pub(crate) bytes: File,
    /// How many.
    pub(crate) length: u64,
    /// Told when the orchestrator has taken it; dropped when nobody will.
    pub(crate) taken: oneshot::Sender<Taken>,
}

/// What is wanted after a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// What changes.
    Next,
    /// A whole picture.
    Anew,
}
