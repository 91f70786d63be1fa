//! Secrets that a bot was given. The monitor keeps them for a successor of the attendant, which has
//! to mask them, and keeps their pages out of swap for as long as the job lasts.

use std::os::fd::{AsFd as _, OwnedFd};

use sys::memfd::Mapped;

/// One of them, in a sealed memory file.
pub(crate) struct Given {
    pub(crate) name: String,
    pub(crate) value: OwnedFd,
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
            _pages: pages.ok(),
        }
    }
}
