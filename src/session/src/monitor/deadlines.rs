//! The clocks of a job, all on CLOCK_BOOTTIME: a host that was suspended does not stretch a job.

use std::time::Duration;

use order::Outcome;
use privsep::Refusal;
use privsep::session::Spec;

use super::{End, EndMode, moment};

/// When a job has to end by itself.
#[derive(Clone, Debug)]
pub(crate) struct Deadlines {
    /// Whatever happens.
    hard_end: Duration,
    /// The lease, where policy stops the job with it.
    lease: Option<Duration>,
    /// Set from the session's start until the bot runs.
    session: Option<Duration>,
    /// Set when the bot runs.
    run: Option<Duration>,
}

impl Deadlines {
    pub(super) fn of(spec: &Spec) -> Self {
        let lease = spec.stop_at_lease_end.then(|| moment(spec.lease_until_ns));
        Self {
            hard_end: moment(spec.hard_end_ns),
            lease,
            session: None,
            run: None,
        }
    }

    /// Session, display and program are being opened from now on.
    pub(crate) fn start_session(&mut self, session_ms: u64) {
        self.session = Some(sys::clock::boottime() + Duration::from_millis(session_ms));
    }

    /// The bot runs from now on.
    pub(crate) fn start_run(&mut self, run_ms: u64) {
        self.session = None;
        self.run = Some(sys::clock::boottime() + Duration::from_millis(run_ms));
    }

    /// The broker has checked that this is what the orchestrator signed.
    pub(super) fn lease_until(&mut self, until: Duration) {
        if let Some(lease) = &mut self.lease {
            // Late and repeated renewals never shorten.
            *lease = (*lease).max(until);
        }
    }

    /// The bot has ended: nothing of this matters any more.
    pub(crate) fn clear(&mut self) {
        *self = Self {
            hard_end: Duration::MAX,
            lease: None,
            session: None,
            run: None,
        };
    }

    pub(super) fn next(&self) -> Option<Duration> {
        let hard = (self.hard_end != Duration::MAX).then_some(self.hard_end);
        [hard, self.lease, self.session, self.run]
            .into_iter()
            .flatten()
            .min()
    }

    /// What has run out by `now`; it is told once.
    pub(super) fn expired(&mut self, now: Duration) -> Option<End> {
        let refusal = |code: &str, detail: &str| Refusal::new(code, detail);
        if self.session.is_some_and(|at| at <= now) {
            self.session = None;
            let refusal = refusal(
                "SESSION_LIMIT",
                "session, display and program were not open within the order's limit (limits.session-ms)",
            );
            return Some(End {
                outcome: Outcome::TimedOut,
                refusal,
                mode: EndMode::Kill,
            });
        }
        if self.run.is_some_and(|at| at <= now) {
            self.run = None;
            let refusal = refusal("RUN_LIMIT", "the bot ran as long as its order allows");
            return Some(End {
                outcome: Outcome::TimedOut,
                refusal,
                mode: EndMode::Graceful,
            });
        }
        if self.lease.is_some_and(|at| at <= now) {
            self.lease = None;
            let refusal = refusal(
                "LEASE_ENDED",
                "the license lease ended and this host's policy is to stop",
            );
            return Some(End {
                outcome: Outcome::LeaseLost,
                refusal,
                mode: EndMode::Graceful,
            });
        }
        if self.hard_end <= now {
            self.hard_end = Duration::MAX;
            let refusal = refusal(
                "HARD_END",
                "the job reached the hard end that its order sets",
            );
            return Some(End {
                outcome: Outcome::TimedOut,
                refusal,
                mode: EndMode::Kill,
            });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_deadline_is_told_once_and_the_hard_end_kills() {
        let mut clocks = Deadlines {
            hard_end: at(30),
            lease: Some(at(20)),
            session: None,
            run: Some(at(10)),
        };
        assert_eq!(clocks.next(), Some(at(10)));
        assert_eq!(clocks.expired(at(9)), None);
        assert_eq!(
            clocks.expired(at(10)).map(|end| end.refusal.code),
            Some("RUN_LIMIT".into())
        );
        assert_eq!(clocks.next(), Some(at(20)));
        assert_eq!(
            clocks.expired(at(20)).map(|end| end.outcome),
            Some(Outcome::LeaseLost)
        );
        assert_eq!(
            clocks.expired(at(30)).map(|end| end.mode),
            Some(EndMode::Kill)
        );
        assert_eq!((clocks.next(), clocks.expired(at(99))), (None, None));
    }

    #[test]
    fn a_session_that_does_not_open_in_time_is_killed_and_a_bot_that_runs_is_not() {
        let mut clocks = Deadlines {
            hard_end: at(90),
            lease: None,
            session: Some(at(5)),
            run: None,
        };
        assert_eq!(clocks.next(), Some(at(5)));
        let end = clocks.expired(at(5)).unwrap();
        assert_eq!(
            (end.refusal.code.as_str(), end.mode),
            ("SESSION_LIMIT", EndMode::Kill)
        );
        clocks.session = Some(Duration::ZERO);
        clocks.start_run(3_600_000);
        assert_eq!(clocks.expired(at(6)), None);
    }

    #[test]
    fn a_renewal_moves_the_lease_only_where_it_stops_the_job() {
        let mut stops = Deadlines {
            hard_end: at(90),
            lease: Some(at(20)),
            session: None,
            run: None,
        };
        stops.lease_until(at(50));
        assert_eq!(stops.next(), Some(at(50)));
        let mut finishes = Deadlines {
            hard_end: at(90),
            lease: None,
            session: None,
            run: None,
        };
        finishes.lease_until(at(50));
        assert_eq!(finishes.next(), Some(at(90)));
    }
}
