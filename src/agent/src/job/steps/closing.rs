//! Ends before, or without proof of, a start.

use events::Code;
use tracing::{info, warn};

use super::super::attempt::{Attempt, Ending};
use super::super::entry::Stage;
use crate::exchange::{JobRecord, OfferAnswer, Reject, Urgent};

impl Attempt {
    /// Gives everything back and tells the orchestrator until it has heard. A rejection stands
    /// for everything that ends before the broker's start, also after an acceptance.
    pub(in crate::job) async fn decline(&mut self, reject: Reject) -> Result<(), Ending> {
        info!(attempt = %self.attempt(), reason = ?reject.reason, code = %reject.code, detail = %reject.detail, "the job is declined");
        if self.entry.stage != Stage::Declined {
            self.entry.reject = Some(reject.clone());
            self.reach(Stage::Declined).await;
            self.report_refusal(&reject).await;
        }
        self.cancel_reservation().await;
        self.say_release();
        self.tell(OfferAnswer::Reject(reject)).await
    }

    async fn report_refusal(&self, reject: &Reject) {
        let code = if reject.code.is_empty() {
            format!("{:?}", reject.reason)
        } else {
            reject.code.clone()
        };
        let event = self.parts.audit.event(Code::OfferRefused);
        let event = event
            .with("reason_code", code)
            .with("reason", reject.detail.as_str());
        self.parts.audit.report_for(self.attempt(), event).await;
    }

    /// Says it in every session until one has handled it.
    async fn tell(&mut self, answer: OfferAnswer) -> Result<(), Ending> {
        loop {
            self.online = false;
            let message = Urgent::OfferReply {
                attempt: self.attempt(),
                answer: answer.clone(),
            };
            let heard = self.parts.urgent.say(message);
            if self.attending(heard).await?.is_ok() {
                return Ok(());
            }
            // Not heard: the session ended. The next one is told again.
            self.until(|job| job.online.then_some(())).await?;
        }
    }

    /// Whether it started is unknown and the broker can't sign anything. The JOB lane says so, in
    /// a REPORTED without a result. Not by a rejection: that would be read as proof that it never
    /// began, and the job would be run again.
    pub(in crate::job) async fn report_lost(&mut self) -> Result<(), Ending> {
        if self.entry.report.is_none() {
            warn!(attempt = %self.attempt(), "whether the job started is unknown; it is reported as interrupted and never started again");
            let record = JobRecord::reported(self.attempt(), sys::clock::unix_ms(), None);
            self.entry.report = Some(self.append(record).await);
            self.reach(Stage::Lost).await;
        }
        self.say_release();
        self.await_report().await
    }
}
