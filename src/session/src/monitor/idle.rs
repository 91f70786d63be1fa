//! Whether a bot does nothing.
//!
//! It is looked at once in each time that the order allows (`limits.idle-ms`), and not in between. A bot
//! is idle when from one look to the next it printed nothing, made no call on its socket, waited for
//! nothing of ours, and all processes of the job used less than a hundredth of one processor. So it is
//! stopped after one to two times that long, and never while it did anything in the last. Time that
//! the machine slept does not count.

use std::time::Duration;

use order::Outcome;
use privsep::Refusal;
use privsep::attendant::ToAttendant;

use super::{End, EndMode, Event, Monitor, moment};

/// An attendant that does not say when it heard the bot proves nothing.
const ANSWER: Duration = Duration::from_secs(10);

/// A program that only waits uses some of the processor: timers, a blinking cursor.
const BUSY_PERCENT: u32 = 1;

/// The look that is taken next.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Idle {
    limit: Duration,
    since: Option<Look>,
    /// Only the attendant's word is missing.
    asked: bool,
    due: Option<Duration>,
}

/// What was seen at a look.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// CLOCK_BOOTTIME, as the attendant's.
    at: Duration,
    awake: Duration,
    /// Processor time of the job by then; absent when nobody counts it.
    used: Option<Duration>,
}

impl Idle {
    pub(super) fn next(&self) -> Option<Duration> {
        self.due
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    fn begin(&mut self, look: Look) {
        *self = Self {
            since: Some(look),
            asked: false,
            due: Some(look.at + self.limit),
            ..*self
        };
    }
}

/// What a look says before the attendant is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// The machine slept: so much is still to wait.
    TooEarly(Duration),
    Busy,
    /// As far as processors tell.
    Idle,
}

fn compare(before: Look, now: Look, limit: Duration) -> Said {
    let awake = now.awake.saturating_sub(before.awake);
    if awake < limit {
        return Said::TooEarly(limit - awake);
    }
    match (before.used, now.used) {
        (Some(then), Some(by_now)) if by_now.saturating_sub(then) * 100 < awake * BUSY_PERCENT => {
            Said::Idle
        }
        _ => Said::Busy,
    }
}

impl Monitor {
    /// The bot runs from now on.
    pub(crate) fn watch_idleness(&mut self) {
        if self.spec.idle_ms > 0 {
            self.idle.limit = Duration::from_millis(self.spec.idle_ms);
            let look = self.look();
            self.idle.begin(look);
        }
    }

    fn look(&self) -> Look {
        Look {
            at: sys::clock::boottime(),
            awake: sys::clock::awake(),
            used: self.processor_time(),
        }
    }

    /// The time of a look has come.
    pub(super) fn look_whether_idle(&mut self) {
        let Some(before) = self.idle.since else {
            self.idle = Idle::default();
            return;
        };
        let now = self.look();
        let said = match self.idle.asked {
            // No answer, so nobody knows.
            true => Said::Busy,
            false => compare(before, now, self.idle.limit),
        };
        match said {
            Said::TooEarly(left) => self.idle.due = Some(now.at + left),
            Said::Idle if self.attendant.is_some() => {
                self.idle.asked = true;
                self.idle.due = Some(now.at + ANSWER);
                self.tell_attendant(&ToAttendant::LastHeard, None);
            }
            Said::Busy | Said::Idle => self.idle.begin(now),
        }
    }

    /// The attendant's answer.
    pub(super) fn heard_last(&mut self, boottime_ns: u64) -> Option<Event> {
        let before = self.idle.since.filter(|_| self.idle.asked)?;
        if moment(boottime_ns) > before.at {
            let look = self.look();
            self.idle.begin(look);
            return None;
        }
        let seconds = self.idle.limit.as_secs_f32();
        self.idle = Idle::default();
        let detail = format!(
            "the bot did nothing for {seconds} s: no output, no call, less than {BUSY_PERCENT} % of a processor"
        );
        self.ask_end(End {
            outcome: Outcome::TimedOut,
            refusal: Refusal::new("IDLE_LIMIT", detail),
            mode: EndMode::Graceful,
        });
        None
    }

    /// The bot is over, or is being ended.
    pub(crate) fn forget_idleness(&mut self) {
        self.idle = Idle::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn look(awake_ms: u64, used_ms: Option<u64>) -> Look {
        Look {
            at: Duration::from_millis(awake_ms),
            awake: Duration::from_millis(awake_ms),
            used: used_ms.map(Duration::from_millis),
        }
    }

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn a_bot_that_uses_a_hundredth_of_a_processor_is_busy_and_one_that_uses_less_is_not() {
        let said = |used| compare(look(0, Some(5_000)), look(60_000, Some(used)), LIMIT);
        assert_eq!(said(5_600), Said::Busy);
        assert_eq!(said(5_599), Said::Idle);
    }

    #[test]
    fn a_machine_that_slept_gives_the_bot_its_time_back() {
        let mut woken = look(20_000, Some(0));
        woken.at = Duration::from_secs(9_000);
        let said = compare(look(0, Some(0)), woken, LIMIT);
        assert_eq!(said, Said::TooEarly(Duration::from_secs(40)));
    }

    #[test]
    fn where_nobody_counts_processor_time_no_bot_is_called_idle() {
        assert_eq!(
            compare(look(0, None), look(60_000, None), LIMIT),
            Said::Busy
        );
    }

    proptest! {
        #[test]
        fn a_bot_is_never_idle_before_its_time_nor_while_it_works(
            limit_ms in 1_000_u64..10_000_000, awake_ms in 0_u64..20_000_000, used_ms in 0_u64..20_000_000,
        ) {
            let limit = Duration::from_millis(limit_ms);
            let said = compare(look(7, Some(3)), look(7 + awake_ms, Some(3 + used_ms)), limit);
            let idle = awake_ms >= limit_ms && used_ms * 100 < awake_ms;
            prop_assert_eq!(said == Said::Idle, idle);
            prop_assert_eq!(matches!(said, Said::TooEarly(_)), awake_ms < limit_ms);
        }
    }
}
