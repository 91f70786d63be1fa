//! Keeping the license of one job: asking in time, passing renewals on, knowing when it is lost.

use std::time::Duration;

use privsep::broker::Request;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::attempt::{Attempt, Ending, now_ns};
use super::entry::Stage;
use crate::exchange::{Grant, Reject, RejectReason, Urgent};
use crate::license::{Extension, Pressure};

impl Attempt {
    pub(super) fn renewal_due(&self) -> Option<Instant> {
        let lease = self
            .lease
            .as_ref()
            .filter(|_| self.entry.stage < Stage::Ended)?;
        let now = now_ns();
        match lease.pressure(now) {
            Pressure::Calm(until) => {
                Some(Instant::now() + Duration::from_nanos(until.saturating_sub(now)))
            }
            Pressure::Ask => Some(Instant::now()),
            Pressure::Over if self.lease_lost_told => None,
            Pressure::Over => Some(Instant::now()),
        }
    }

    pub(super) fn lease_over(&self) -> bool {
        let lease = self.lease.as_ref();
        lease.is_some_and(|lease| lease.pressure(now_ns()) == Pressure::Over)
    }

    pub(super) async fn renew(&mut self) {
        let now = now_ns();
        let Some(lease) = self.lease.as_mut() else {
            return;
        };
        match lease.pressure(now) {
            Pressure::Calm(_) => {}
            Pressure::Ask => {
                // Before it is sent: counting from earlier is always safe.
                lease.asked(now);
                let leases = vec![lease.which()];
                drop(self.parts.urgent.say(Urgent::Renew {
                    ticks_ns: now,
                    leases,
                }));
            }
            Pressure::Over => self.lose_lease("it was not renewed in time").await,
        }
    }

    pub(super) async fn extend(&mut self, grant: &Grant) {
        let Some(lease) = self.lease.as_mut() else {
            return;
        };
        match lease.extend(grant, now_ns()) {
            Extension::Extended => {
                self.renewal = grant.renewal.clone().or(self.renewal.take());
                self.keep_lease().await;
                self.pass_on_renewal().await;
            }
            Extension::Ignored => {}
            Extension::Denied(reason) => {
                debug!(attempt = %self.attempt(), reason, "a renewal extends nothing")
            }
        }
    }

    pub(super) async fn pass_on_renewal(&mut self) {
        let started = self.past(Stage::Started) && !self.past(Stage::Ended);
        let Some(renewal) = self.renewal.clone().filter(|_| started) else {
            return;
        };
        let request = Request::Renew {
            attempt: self.attempt(),
            renewal,
        };
        if let Err(reason) = self.parts.broker.tell(request, vec![]).await {
            warn!(attempt = %self.attempt(), %reason, "the broker did not take a renewal of the license");
        }
    }

    pub(super) async fn lose_lease(&mut self, reason: &str) {
        let Some(lease) = self.lease.as_mut().filter(|_| !self.lease_lost_told) else {
            return;
        };
        lease.lose();
        self.lease_lost_told = true;
        if self.past(Stage::Ended) {
            return;
        }
        warn!(attempt = %self.attempt(), reason, "the license of the job is lost");
        let event = self
            .parts
            .audit
            .event(events::Code::LeaseEnded)
            .with("reason", reason);
        self.parts.audit.report_for(self.attempt(), event).await;
        if !self.past(Stage::StartIntent) {
            let reject = Reject::with_code(
                RejectReason::Busy,
                "LEASE_LOST",
                "the license was lost before the start",
            );
            self.ending = Some(Ending::Declined(reject));
        }
    }
}
