//! The two clocks that robotd reads: one that counts through suspend, one for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Time since the machine started, suspended time included (`CLOCK_BOOTTIME`).
///
/// Leases and deadlines count on it: nobody can set it, and it does not stop while a laptop
/// sleeps.
///
/// # Panics
///
/// On a kernel before 2.6.39, which lacks the clock: no job could be bounded without it.
#[must_use]
pub fn boottime() -> Duration {
    let now =
        clock_gettime(ClockId::CLOCK_BOOTTIME).expect("CLOCK_BOOTTIME exists since Linux 2.6.39");
    Duration::from(now)
}

/// Time that the machine was awake since it started (`CLOCK_MONOTONIC`).
///
/// What a process did not do while the machine slept is not held against it.
///
/// # Panics
///
/// Never on Linux: every kernel has the clock.
#[must_use]
pub fn awake() -> Duration {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC exists");
    Duration::from(now)
}

/// Milliseconds since 1970-01-01 UTC; 0 on a machine whose clock stands before that.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boottime_never_runs_backwards() {
        let first = boottime();
        assert!(boottime() >= first);
    }

    #[test]
    fn a_machine_is_not_awake_longer_than_it_runs() {
        let awake = awake();
        assert!(awake <= boottime());
    }

    #[test]
    fn unix_time_is_in_milliseconds() {
        let year_2020 = 1_577_836_800_000;
        let year_2200 = 7_258_118_400_000;
        assert!((year_2020..year_2200).contains(&unix_ms()));
    }
}
