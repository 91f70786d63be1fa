//! Secrets that a bot was given. The monitor keeps them for a successor of the attendant, which has
//! to mask them, and keeps their pages out of swap for as long as the job lasts.

use std::os::fd::{AsFd as _, OwnedFd};

use order::SecretUse;
use sys::memfd::Mapped;

/// One of them, in a sealed memory file.
pub(crate) struct Given {
    pub(crate) name: String,
    pub(crate) value: OwnedFd,
    /// First of all times, for the report.
    pub(crate) at_unix_ms: u64,
    /// What holds its pages.
    _pages: Option<Mapped>,
}

impl Given {
    /// Held from the moment in which it is here: the broker lets go of it.
    pub(crate) fn new(name: String, value: OwnedFd) -> Self {
        let pages = Mapped::new(value.as_fd()).and_then(|pages| pages.lock().map(|()| pages));
        if let Err(error) = &pages {
            let why = crate::text(error);
            eprintln!("robotd-session: secret {name} is not kept out of swap: {why}");
        }
        Self {
            name,
            value,
            at_unix_ms: sys::clock::unix_ms(),
            _pages: pages.ok(),
        }
    }

    /// As the report says it.
    pub(crate) fn told(&self) -> SecretUse {
        SecretUse {
            name: self.name.clone(),
            given_at_unix_ms: self.at_unix_ms,
        }
    }
}
