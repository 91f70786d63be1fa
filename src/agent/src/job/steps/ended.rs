//! From the broker's start to the end of everything.

use events::Code;
use order::{JobResult, Phase};
use privsep::broker::Request;
use tracing::{error, info};

use super::super::attempt::{Attempt, Ending, now_ns};
use super::super::entry::Stage;
use crate::exchange::JobRecord;
use crate::output::Delivered;
use crate::privileged::CallError;

impl Attempt {
    pub(in crate::job) async fn follow_to_its_end(&mut self) -> Result<(), Ending> {
        self.until(|job| job.past(Stage::Ended).then_some(())).await
    }

    pub(in crate::job) async fn return_license(&mut self) -> Result<(), Ending> {
        if self.past(Stage::Released) {
            return Ok(());
        }
        let held = self
            .lease
            .as_ref()
            .map(|lease| (lease.which(), lease.holds(now_ns())));
        // First the intent: after a crash it is said again, which changes nothing.
        self.reach(Stage::Released).await;
        let Some((which, in_time)) = held else {
            return Ok(());
        };
        self.say_release();
        self.record_now(Phase::LicenseReturned).await;
        let code = if in_time {
            Code::LicenseRobotReleaseOk
        } else {
            Code::LicenseRobotReleaseError
        };
        let event = self
            .parts
            .audit
            .event(code)
            .with("pool", self.entry.offer.pool.as_str());
        let event = event
            .with("lease", which.lease.to_string())
            .with("fence", which.fence);
        let event = if in_time {
            event
        } else {
            event.with("reason", "the lease had ended before the job did")
        };
        self.parts.audit.tell_journal(self.attempt(), event).await;
        Ok(())
    }

    pub(in crate::job) async fn report(&mut self) -> Result<(), Ending> {
        if self.past(Stage::Reported) {
            return Ok(());
        }
        let signed = self.entry.result.as_ref().and_then(|saved| saved.signed());
        if let Some(result) = self.result() {
            info!(attempt = %self.attempt(), outcome = ?result.outcome, code = %result.code, "the job has ended");
        }
        let record = JobRecord::reported(self.attempt(), sys::clock::unix_ms(), signed);
        self.entry.report = Some(self.append(record).await);
        self.reach(Stage::Reported).await;
        Ok(())
    }

    /// What the broker wrote. robotd needs no more of it than where the output ends.
    fn result(&self) -> Option<JobResult> {
        let signed = self.entry.result.as_ref()?.signed()?;
        match serde_json::from_slice(&signed.body) {
            Ok(result) => Some(result),
            Err(reason) => {
                error!(attempt = %self.attempt(), %reason, "the broker's result can't be read; restart robotd after an upgrade. It is passed on as it is");
                None
            }
        }
    }

    pub(in crate::job) async fn await_delivery(&mut self) -> Result<(), Ending> {
        self.open_output();
        let promised = self
            .result()
            .map(|result| (epoch_of(&result.lane_epoch), result.lane_last_seq));
        let (epoch, last) = promised.unwrap_or_default();
        if let Some(mut output) = self.output.take() {
            let delivered = self.attending(output.finish(epoch, last)).await?;
            self.tell_missing(delivered, last).await;
            output.clear().await;
        }
        self.await_report().await
    }

    async fn tell_missing(&mut self, delivered: Delivered, last: u64) {
        let reason = match delivered {
            Delivered::Whole => return,
            Delivered::Short { last: found } => {
                format!("records after {found} of {last} are not in the spool")
            }
            Delivered::Refused => {
                "the orchestrator names no position for the job's output and does not take it"
                    .to_owned()
            }
            Delivered::Unreadable => format!("the spool with {last} records can't be opened"),
        };
        error!(attempt = %self.attempt(), %reason, "output of the job is lost");
        let event = self
            .parts
            .audit
            .event(Code::OutputLost)
            .with("reason", reason);
        self.parts.audit.report_for(self.attempt(), event).await;
    }

    pub(super) async fn await_report(&mut self) -> Result<(), Ending> {
        let Some(place) = self.entry.report else {
            return Ok(());
        };
        let steps = self.parts.steps.clone();
        self.attending(async move { steps.wait_durable(place.epoch, place.seq).await })
            .await
    }

    /// The broker drops result and spool, then robotd its journal. Without a broker it waits: an
    /// attempt that only the broker knew would be taken up again.
    pub(in crate::job) async fn forget(mut self) {
        let attempt = self.attempt();
        if !self.past(Stage::StartIntent) {
            // Dropped while it waited: nobody is told, everything goes back.
            self.cancel_reservation().await;
            self.say_release();
        }
        let mut known_to_broker = self.entry.result.is_some();
        while known_to_broker {
            match self
                .parts
                .broker
                .tell(Request::Forget { attempt }, vec![])
                .await
            {
                Ok(()) => known_to_broker = false,
                Err(CallError::Refused(refusal)) => {
                    error!(%attempt, %refusal, "the broker does not forget the attempt");
                    known_to_broker = false;
                }
                Err(CallError::Gone) => {
                    self.synced = false;
                    if self
                        .until(|job| job.synced.then_some(()))
                        .await
                        .is_err_and(|ending| ending == Ending::Suspended)
                    {
                        return;
                    }
                }
            }
        }
        if let Err(reason) = self.parts.journal.forget(attempt).await {
            error!(%attempt, %reason, "an attempt that is over stays in the journal until the next start");
        }
        self.parts.board.gone(attempt);
    }
}

fn epoch_of(hex: &str) -> Option<[u8; 16]> {
    if hex.len() != 32 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(hex, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_32_hex_digits() {
        assert_eq!(
            epoch_of("000102030405060708090a0b0c0d0e0f"),
            Some([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
        );
        for wrong in [
            "",
            "00",
            "+00102030405060708090a0b0c0d0e0f",
            "zz0102030405060708090a0b0c0d0e0f",
        ] {
            assert_eq!(epoch_of(wrong), None, "{wrong}");
        }
    }
}
