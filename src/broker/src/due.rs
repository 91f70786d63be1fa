//! What is due: every stage that waits has an end, told by the clock.

use std::time::Duration;

use order::AttemptRef;
use privsep::Refusal;
use privsep::session::Swept;

use crate::attempts::{Attempt, RESERVATION, Stage};
use crate::broker::{Broker, Watch};
use crate::starting::LAUNCH;
use crate::work::Unit;

/// When this attempt is due, if it waits for something.
fn due(held: &Attempt) -> Option<Duration> {
    match &held.stage {
        Stage::Reserved { since, .. } => Some(*since + RESERVATION),
        Stage::Launching { deadline, .. } | Stage::TearingDown { deadline, .. } => Some(*deadline),
        Stage::AwaitsPackage | Stage::TakingIn => held.hard_end(),
        Stage::Unrecorded { retry_at, .. } => Some(*retry_at),
        Stage::Running { .. } | Stage::Ended { .. } => None,
    }
}

impl Broker {
    /// The next CLOCK_BOOTTIME at which something is due.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let recoveries = self.recovering.values().map(|(_, deadline)| *deadline);
        self.attempts
            .values()
            .filter_map(due)
            .chain(recoveries)
            .chain([self.tidy_at])
            .chain(self.probe_until)
            .min()
    }

    /// Gives up reservations that nobody started, attempts whose package never came, sessions that
    /// never called, and teardowns that died unseen.
    pub(crate) fn expire(&mut self) {
        self.tidy_if_due();
        let now = sys::clock::boottime();
        let late = |held: &Attempt| due(held).is_some_and(|at| at <= now);
        let attempts: Vec<_> = self
            .attempts
            .iter()
            .filter(|(_, held)| late(held))
            .map(|(attempt, _)| *attempt)
            .collect();
        for attempt in attempts {
            self.attempt_is_late(attempt);
        }
        if self.probe_until.is_some_and(|at| at <= now) {
            self.probe_ended("it did not report in time");
        }
        let recoveries: Vec<_> = self
            .recovering
            .iter()
            .filter(|(_, (_, deadline))| *deadline <= now)
            .map(|(account, _)| account.clone())
            .collect();
        for account in recoveries {
            let swept = Swept {
                leftovers: vec!["the teardown did not report in time".to_owned()],
                ..Swept::default()
            };
            self.recovered(&account, &swept);
        }
    }

    fn attempt_is_late(&mut self, attempt: AttemptRef) {
        let ended = |detail: &str| Refusal::new("HARD_END", detail);
        match self.attempts.get(&attempt).map(|held| &held.stage) {
            Some(Stage::Launching { .. }) => {
                self.session_lost(attempt, "it did not call within a minute");
            }
            Some(Stage::TearingDown { .. }) => {
                let account = self.account_of(&attempt);
                self.on_ended(&Watch::Teardown(account));
            }
            Some(Stage::Unrecorded { report, .. }) => {
                let report = (**report).clone();
                self.record_report(attempt, report);
            }
            Some(Stage::AwaitsPackage) => {
                let detail = "the package did not come before the job's hard end";
                self.end_unlaunched(attempt, ended(detail));
            }
            Some(Stage::TakingIn) => {
                let detail = "the package was not opened before the job's hard end";
                self.end_unlaunched(attempt, ended(detail));
            }
            _ => {
                if let Some(held) = self.attempts.remove(&attempt) {
                    self.notice_slot(&held.account);
                }
            }
        }
    }

    /// systemd has queued a unit's start, or did not. A session that was given up meanwhile is being
    /// torn down.
    pub(crate) fn unit_started(&mut self, about: Unit, outcome: Result<(), Refusal>) {
        match (about, outcome) {
            (Unit::Session(attempt, _), Ok(())) => {
                // From now on it is the session's own time: the wait for a busy bus is not.
                if let Some(Stage::Launching { deadline, .. }) =
                    self.attempts.get_mut(&attempt).map(|held| &mut held.stage)
                {
                    *deadline = sys::clock::boottime() + LAUNCH;
                }
            }
            (Unit::Session(attempt, _), Err(refusal)) => {
                let stage = self.attempts.get(&attempt).map(|held| &held.stage);
                if matches!(stage, Some(Stage::Launching { .. })) {
                    self.end_unlaunched(attempt, refusal);
                }
            }
            (Unit::Teardown(_) | Unit::Probe, Ok(())) => {}
            (Unit::Probe, Err(refusal)) => self.probe_ended(&refusal.to_string()),
            (Unit::Teardown(account), Err(refusal)) => {
                self.operator(&refusal.to_string());
                self.on_ended(&Watch::Teardown(account));
            }
        }
    }

    /// The account of an attempt; empty when nobody knows it.
    pub(crate) fn account_of(&self, attempt: &AttemptRef) -> String {
        let held = self.attempts.get(attempt);
        held.map(|held| held.account.clone()).unwrap_or_default()
    }
}
