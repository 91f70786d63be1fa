//! What stands for the display's thread: who looks on, and whether it may look at all.
//!
//! A state and no messages: it can't be full, a later word replaces an earlier one, and a pause
//! counts from the moment in which it is said. Pictures that were asked for wait in a queue.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sys::poll::Event;
use wire::v1::ScreenPause;

/// Somebody looks on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    /// Another one for each who begins to look on.
    pub(super) id: u64,
    /// How often a whole picture was asked for.
    pub(super) asked: u64,
    pub(super) most_per_second: u32,
}

/// All of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) watch: Option<Watch>,
    /// How many frames were passed on, of all watches.
    pub(super) shown: u64,
    pub(super) pause: Option<ScreenPause>,
    /// How many pauses there were: one that began and ended during a capture spoils it.
    pub(super) pauses: u64,
    /// The thread is to end.
    pub(super) closed: bool,
}

impl Standing {
    pub(super) fn set_pause(&mut self, pause: Option<ScreenPause>) {
        self.pauses += u64::from(pause.is_some() && self.pause.is_none());
        self.pause = pause;
    }
}

/// Shared by both sides.
#[derive(Debug)]
pub(super) struct Orders {
    standing: Mutex<Standing>,
    bell: Event,
}

impl Orders {
    pub(super) fn new() -> Result<Self, sys::poll::Error> {
        Ok(Self {
            standing: Mutex::default(),
            bell: Event::new()?,
        })
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.lock());
        self.ring();
    }

    /// There is something new, here or in the queue.
    pub(super) fn ring(&self) {
        // It fails on a closed descriptor only, and this one is ours.
        let _ = self.bell.raise();
    }

    pub(super) fn standing(&self) -> Standing {
        *self.lock()
    }

    /// Readable after a ring.
    pub(super) fn bell(&self) -> &Event {
        &self.bell
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        // A panic ends the process.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
