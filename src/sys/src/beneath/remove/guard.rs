//! When to give up. A tree can be as large as it likes; it must not grow while it is removed.

use std::time::{Duration, SystemTime};

use super::look::Seen;

/// So many things that were made after the removal began are an attack, not a straggler.
const CAME_BACK: u64 = 10_000;

/// Looks in vain that are borne: an honest tree has none, one that others change has some.
const IDLE: u64 = 4_000_000;

/// Names beyond those for which a folder has room, in one listing.
const BEYOND: u64 = 100_000;

pub(super) struct Guard {
    began: Duration,
    came_back: u64,
    idle: u64,
    overrun: bool,
}

impl Guard {
    pub(super) fn new() -> Self {
        Self {
            began: now(),
            came_back: 0,
            idle: 0,
            overrun: false,
        }
    }

    /// Something went. Whether it was made since the removal began: times in the future are those
    /// of a clock that was set back since, and say nothing.
    pub(super) fn went(&mut self, seen: &Seen) -> bool {
        self.idle = 0;
        let back = seen
            .born
            .is_some_and(|born| born > self.began && born <= now());
        self.came_back += u64::from(back);
        back
    }

    /// A look that brought nothing by itself.
    pub(super) fn idle(&mut self) {
        self.idle += 1;
    }

    /// How many names one listing of a folder of this size may show. No file system takes less
    /// than a byte for a name; a listing that goes on is being fed.
    pub(super) fn names_for(size: u64) -> u64 {
        size.saturating_add(BEYOND)
    }

    pub(super) fn overrun(&mut self) {
        self.overrun = true;
    }

    pub(super) fn gives_up(&self) -> bool {
        self.overrun || self.came_back > CAME_BACK || self.idle > IDLE
    }
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}
