//! Why a command failed, and its exit code after sysexits(3).

use std::io;
use std::path::PathBuf;

/// A command that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Asked wrongly.
    #[error("{0}; `robotjob --help` shows what there is")]
    Usage(String),
    /// A file that is to be read.
    #[error("can't read {}: {source}", path.display())]
    Input {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No job around it.
    #[error("can't reach the job's socket {}: {source}; robotjob works inside a running job only", path.display())]
    NoJob {
        /// $ROBOT_SOCKET.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the job's agent did not answer: {0}")]
    Conversation(io::Error),
    /// What came is not an answer.
    #[error("the job's agent answered what robotjob does not understand; are they of one version?")]
    Answer,
    /// The answer is no.
    #[error("{detail} ({code})")]
    Refused {
        /// Stable.
        code: String,
        /// For people.
        detail: String,
    },
    /// Nobody reads the output.
    #[error("can't write to standard output: {0}")]
    Output(io::Error),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        const USAGE: u8 = 64;
        const DATA: u8 = 65;
        const NO_INPUT: u8 = 66;
        const UNAVAILABLE: u8 = 69;
        const IO: u8 = 74;
        const TRY_AGAIN: u8 = 75;
        const PROTOCOL: u8 = 76;
        const NOT_PERMITTED: u8 = 77;
        match self {
            Self::Usage(_) => USAGE,
            Self::Input { .. } => NO_INPUT,
            Self::NoJob { .. } => UNAVAILABLE,
            Self::Conversation(_) | Self::Output(_) => IO,
            Self::Answer => PROTOCOL,
            Self::Refused { code, .. } => match code.as_str() {
                "SECRET_UNAVAILABLE" | "SPOOL_FULL" | "NO_SCREENSHOT" | "SCREENSHOT_FAILED"
                | "SCREENSHOT_PAUSED" => TRY_AGAIN,
                "PARAM_UNKNOWN" | "ARTIFACT_NOT_READABLE" => NO_INPUT,
                code if code.starts_with("REQUEST_") || code.starts_with("ARTIFACT_") => DATA,
                _ => NOT_PERMITTED,
            },
        }
    }
}
