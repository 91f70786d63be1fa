//! The two clocks: one for people, one that decides.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Reads both clocks. Tests move a clock of their own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock;

impl Clock {
    /// Wall clock, milliseconds since 1970. For people and for certificates.
    pub(crate) fn unix_ms(self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
    }

    /// CLOCK_BOOTTIME in milliseconds: counts while the machine sleeps, never steps.
    pub(crate) fn boot_ms(self) -> u64 {
        match clock_gettime(ClockId::CLOCK_BOOTTIME) {
            Ok(now) => {
                let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
                let nanos = u64::try_from(now.tv_nsec()).unwrap_or(0);
                seconds * 1000 + nanos / 1_000_000
            }
            // Linux has had this clock since 2.6.39; without it no lease can be timed.
            Err(error) => panic!("CLOCK_BOOTTIME can't be read: {error}"),
        }
    }
}
