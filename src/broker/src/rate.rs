//! How many events of a kind a minute has. What is more is counted: whoever can cause events must
//! not be able to fill the journal with them.

use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// A bound per minute.
pub(crate) struct Rate {
    a_minute: u32,
    since: Duration,
    told: u32,
    more: u32,
}

impl Rate {
    pub(crate) fn new(a_minute: u32) -> Self {
        Self {
            a_minute,
            since: sys::clock::boottime(),
            told: 0,
            more: 0,
        }
    }

    /// Whether one more may be told now; with how many were not before it.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let now = sys::clock::boottime();
        if now >= self.since + MINUTE {
            (self.since, self.told) = (now, 0);
        }
        if self.told == self.a_minute {
            self.more += 1;
            return None;
        }
        self.told += 1;
        Some(std::mem::take(&mut self.more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_told() {
        let mut rate = Rate::new(20);
        let told = (0..100).filter(|_| rate.take().is_some()).count();
        assert_eq!((told, rate.more), (20, 80));
        rate.since -= MINUTE;
        assert_eq!(rate.take(), Some(80));
    }
}
