//! Why an egress ends early.

use std::io;

/// An egress that can't begin or go on. The session starts another one, or ends the job.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// Started wrongly.
    #[error(transparent)]
    Harden(#[from] crate::harden::HardenError),
    /// The session broke the contract, or is gone.
    #[error(transparent)]
    Session(#[from] crate::session::SessionError),
    /// The rules can't be read.
    #[error("the job's network rules can't be read")]
    Rules(#[from] sys::memfd::Error),
    /// The rules are none of this version's.
    #[error("the job's network rules are not understood")]
    Understand(#[from] privsep::DecodeError),
    /// A socket that was handed over can't be used.
    #[error("a listening socket can't be used")]
    Socket(#[source] io::Error),
    /// No runtime.
    #[error("the runtime can't be started")]
    Runtime(#[source] io::Error),
    /// The kernel can't be asked for routes.
    #[error("routes can't be asked for")]
    Routes(#[from] sys::net::Error),
}

impl StartError {
    /// As in sysexits(3).
    pub(crate) fn exit_code(&self) -> u8 {
        const SOFTWARE: u8 = 70;
        const OS: u8 = 71;
        const PROTOCOL: u8 = 76;
        const NOT_PERMITTED: u8 = 77;
        match self {
            Self::Harden(_) => NOT_PERMITTED,
            Self::Session(_) | Self::Rules(_) | Self::Understand(_) => PROTOCOL,
            Self::Socket(_) | Self::Routes(_) => OS,
            Self::Runtime(_) => SOFTWARE,
        }
    }
}
