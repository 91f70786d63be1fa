//! Why an attendant ends early, and how that is told.

use std::error::Error;
use std::fmt::Write;

/// An attendant that can't begin or go on. The session starts another one, or ends the job.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// Started wrongly.
    #[error(transparent)]
    Harden(#[from] crate::harden::HardenError),
    /// The session broke the contract, or is gone.
    #[error(transparent)]
    Session(#[from] crate::session::SessionError),
    /// The lane can't be begun.
    #[error("the attempt's lane can't be begun")]
    Lane(#[from] crate::output::LaneError),
    /// The folder of pictures and artifacts.
    #[error(transparent)]
    Blobs(#[from] crate::blobs::BlobError),
    /// What the attendant before kept.
    #[error(transparent)]
    Kept(#[from] crate::kept::KeptError),
    /// robotd could not be listened for.
    #[error("robotd can't be listened for")]
    Doorbell(#[source] sys::fdpass::Error),
    /// The directory of its sockets could not be kept.
    #[error("the directory for sockets can't be kept open")]
    Sockets(#[source] std::io::Error),
    /// The job's parameters are no JSON object.
    #[error("the job's parameters are no JSON object")]
    Params,
    /// Waiting failed.
    #[error("waiting failed")]
    Wait(#[from] sys::poll::Error),
}

impl StartError {
    /// As in sysexits(3).
    pub(crate) fn exit_code(&self) -> u8 {
        const SOFTWARE: u8 = 70;
        const IO: u8 = 74;
        const PROTOCOL: u8 = 76;
        const NOT_PERMITTED: u8 = 77;
        match self {
            Self::Harden(_) => NOT_PERMITTED,
            Self::Session(_) | Self::Params => PROTOCOL,
            Self::Lane(_)
            | Self::Blobs(_)
            | Self::Kept(_)
            | Self::Doorbell(_)
            | Self::Sockets(_) => IO,
            Self::Wait(_) => SOFTWARE,
        }
    }
}

/// An error with all its causes, on one line.
pub(crate) fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String can't fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// For the operator: the session passes standard error on to the journal. Never a word of the bot's.
pub(crate) fn note(error: &dyn Error) {
    eprintln!("robotd-attendant: {}", explain(error));
}
