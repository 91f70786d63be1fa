//! Whether this machine is still the one that the broker's memory is of.
//!
//! A snapshot that is taken with its memory and brought back, or cloned, goes on as if nothing had
//! been: with challenges that were used meanwhile. The kernel keeps a hypervisor's generation id
//! (vmgenid) to itself, it only reseeds its random numbers by it; what can be seen from here is
//! that the time of day runs ahead of the time since boot. Then every challenge that waits is made
//! anew. A machine whose hypervisor sets its clock back as well can't tell; there the orders' short
//! validity and the orchestrator's own numbering of records are left.

use std::time::Duration;

use events::Code;
use order::Challenge;

use crate::attempts::Stage;
use crate::broker::Broker;

/// Clocks are slewed by less in the time that a challenge lives.
const JUMP: Duration = Duration::from_secs(10);

/// The time of day at boot, as both clocks have it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Generation {
    booted_unix_ms: i128,
}

impl Generation {
    pub(crate) fn now() -> Self {
        Self::of(sys::clock::unix_ms(), sys::clock::boottime())
    }

    fn of(unix_ms: u64, boottime: Duration) -> Self {
        let since = i128::try_from(boottime.as_millis()).unwrap_or(i128::MAX);
        Self {
            booted_unix_ms: i128::from(unix_ms) - since,
        }
    }

    /// How far the clocks went apart since, when that is a jump.
    fn jump_to(self, now: Self) -> Option<i128> {
        let apart = now.booted_unix_ms - self.booted_unix_ms;
        (apart.unsigned_abs() >= JUMP.as_millis()).then_some(apart / 1000)
    }
}

impl Broker {
    /// Before a challenge is given out or used.
    pub(crate) fn look_at_clock(&mut self) {
        let now = Generation::now();
        let jump = self.generation.jump_to(now);
        self.generation = now;
        if let Some(seconds) = jump {
            self.clock_jumped(seconds);
        }
    }

    fn clock_jumped(&mut self, seconds: i128) {
        for held in self.attempts.values_mut() {
            if let Stage::Reserved { challenge, .. } = &mut held.stage {
                // Without randomness nothing can be reserved either; bytes that nobody was told
                // match no order.
                *challenge = Challenge::generate().unwrap_or(Challenge([0; 32]));
            }
        }
        let event = Self::event_now(Code::ClockJumped).with("seconds", seconds.to_string());
        self.event(event, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reverted_snapshot_shows_as_a_jump_and_a_slewed_clock_does_not() {
        let hour = Duration::from_secs(3600);
        let at = |unix_s: u64, boot: Duration| Generation::of(unix_s * 1000, boot);
        let taken = at(1_800_000_000, hour);
        assert_eq!(
            taken.jump_to(at(1_800_000_060, hour + Duration::from_secs(60))),
            None
        );
        assert_eq!(
            taken.jump_to(at(1_800_000_069, hour + Duration::from_secs(60))),
            None
        );
        // Brought back a day later: the time of day was corrected, the time since boot was not.
        assert_eq!(taken.jump_to(at(1_800_086_400, hour)), Some(86_400));
        // Set back by hand.
        assert_eq!(taken.jump_to(at(1_799_999_000, hour)), Some(-1000));
    }
}
