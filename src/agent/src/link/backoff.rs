//! How long to wait before the next try: full jitter, so that ten thousand hosts that lost one
//! orchestrator do not come back as one.

use std::time::Duration;

/// Doubles its ceiling with each failure; the pause is drawn between nothing and the ceiling.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    ceiling: Duration,
    max: Duration,
}

/// The first ceiling.
const FIRST: Duration = Duration::from_secs(1);

impl Backoff {
    /// Starts at one second, ends at `max`.
    pub(super) fn new(max: Duration) -> Self {
        Self {
            ceiling: FIRST.min(max),
            max,
        }
    }

    /// The next pause; `dice` is evenly spread over all of u32.
    pub(super) fn next(&mut self, dice: u32) -> Duration {
        let pause = self.ceiling.mul_f64(f64::from(dice) / f64::from(u32::MAX));
        self.ceiling = (self.ceiling * 2).min(self.max);
        pause
    }

    /// Something was achieved: start over.
    pub(super) fn progress(&mut self) {
        self.ceiling = FIRST.min(self.max);
    }
}

/// A throw from the system's random source. Without one the longest pause is taken: rather late
/// than all at once.
pub(super) fn dice() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ceiling_doubles_to_the_maximum_and_progress_resets_it() {
        let mut backoff = Backoff::new(Duration::from_secs(60));
        let pauses: Vec<_> = (0..8).map(|_| backoff.next(u32::MAX).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.progress();
        assert_eq!(backoff.next(u32::MAX), Duration::from_secs(1));
        assert_eq!(backoff.next(0), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn a_pause_is_never_longer_than_the_maximum(max in 1..3600u64, dice in proptest::collection::vec(any::<u32>(), 1..40)) {
            let mut backoff = Backoff::new(Duration::from_secs(max));
            for throw in dice {
                prop_assert!(backoff.next(throw) <= Duration::from_secs(max));
            }
        }
    }
}
