//! From the offer to the license.

use std::time::Duration;

use events::Code;
use order::Phase;
use privsep::Refusal;
use privsep::broker::{Reply, Request};
use tokio::time::Instant;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::super::attempt::{Attempt, Ending, Reserved, now_ns};
use super::super::entry::Stage;
use crate::exchange::{Denial, DenialReason, Grant, Reject, RejectReason, Urgent};
use crate::license::Lease;
use crate::privileged::{CallError, unexpected};

/// A request without an answer is made again after that: the message or its answer was lost.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The broker keeps a reservation 15 minutes. One that waited longer than this for a license is
/// made anew before the license is asked for, so that the order finds it.
const RESERVATION_FRESH: Duration = Duration::from_secs(10 * 60);

/// Ticks that are remembered for one request.
const MAX_TICKS: usize = 64;

/// The broker said no, or is not there: what the orchestrator can make of it.
pub(super) fn rejected(error: CallError) -> Ending {
    Ending::Declined(match error {
        CallError::Refused(refusal) => Reject {
            reason: reason_of(&refusal),
            code: refusal.code,
            detail: refusal.detail,
        },
        CallError::Gone => Reject::with_code(
            RejectReason::Busy,
            "BROKER_UNREACHABLE",
            "robotd-broker does not answer; look at its unit or log",
        ),
    })
}

/// What may pass is Busy: the job is offered again, with a new attempt and a new challenge. The
/// rest would be refused again by this host.
fn reason_of(refusal: &Refusal) -> RejectReason {
    match refusal.code.as_str() {
        // People leave, hosts open again, services come back.
        "PEOPLE_LOGGED_IN" | "ACCOUNT_LOGGED_IN" | "HOST_CLOSED" | "HOST_NOT_PROBED" => {
            RejectReason::Busy
        }
        "NO_FREE_SLOT" | "RECOVERY_RUNS" | "NO_RANDOMNESS" | "STATE_NOT_DURABLE" => {
            RejectReason::Busy
        }
        // The reservation or its challenge went with a broker that was restarted, or with time.
        "ORDER_REPLAYED" | "ATTEMPT_UNKNOWN" | "LEASE_ENDED" => RejectReason::Busy,
        "NO_CLEAN_SLOT" | "NOT_PROVEN_CLEAN" => RejectReason::NoCleanSlot,
        "DISK_FULL" => RejectReason::NoDisk,
        "ATTEMPT_STARTED" => RejectReason::AlreadyEnded,
        code if code.starts_with("ACCOUNT_") => RejectReason::AccountNotAllowed,
        _ => RejectReason::Unsupported,
    }
}

impl Attempt {
    /// An attempt from the journal waits for the broker's word on it.
    pub(in crate::job) async fn find_place(&mut self) -> Result<(), Ending> {
        if !self.resumed {
            return Ok(());
        }
        match self.entry.stage {
            Stage::Declined => {
                let reject = self.entry.reject.clone();
                let unknown =
                    || Reject::new(RejectReason::AlreadyEnded, "it ended before its start");
                return Err(Ending::Declined(reject.unwrap_or_else(unknown)));
            }
            Stage::Lost => return Err(Ending::Lost),
            _ => {}
        }
        self.until(|job| job.synced.then_some(())).await
    }

    pub(in crate::job) async fn reserve_slot(&mut self) -> Result<(), Ending> {
        if self.past(Stage::Accepted) {
            return Ok(());
        }
        self.reach(Stage::Offered).await;
        self.reserve().await
    }

    async fn reserve(&mut self) -> Result<(), Ending> {
        let request = Request::Reserve {
            attempt: self.attempt(),
            account: self.entry.offer.account.clone(),
            tenant: self.entry.offer.tenant.clone(),
            package: self.entry.offer.package,
        };
        match self.parts.broker.call(request, vec![]).await {
            Ok(Reply::Reserved {
                account,
                challenge,
                package_cached,
            }) => {
                self.reserved = Some(Reserved {
                    account,
                    challenge,
                    package_cached,
                    since: Instant::now(),
                });
                Ok(())
            }
            Ok(other) => Err(rejected(unexpected(&other))),
            Err(error) => Err(rejected(error)),
        }
    }

    pub(in crate::job) async fn accept_offer(&mut self) -> Result<(), Ending> {
        if self.past(Stage::Accepted) {
            return Ok(());
        }
        self.reach(Stage::Accepted).await;
        self.say_accept();
        self.record_now(Phase::Accepted).await;
        info!(attempt = %self.attempt(), package = %self.entry.offer.package, "an offered job is accepted");
        Ok(())
    }

    pub(in crate::job) async fn lease_license(&mut self) -> Result<(), Ending> {
        if self.past(Stage::Leased) {
            return Ok(());
        }
        self.asked.request = Uuid::now_v7().to_string();
        let mut told = false;
        loop {
            self.ask_for_license();
            let outcome = self.license_answer().await?;
            match outcome {
                None => {
                    debug!(attempt = %self.attempt(), "the request for a license is made again")
                }
                Some(Ok(grant)) => match Lease::granted(&grant, &self.asked.ticks) {
                    Ok(lease) => return self.hold(lease, &grant).await,
                    Err(reason) => {
                        warn!(attempt = %self.attempt(), reason, "a license that can't be counted on")
                    }
                },
                Some(Err(denial)) if denial.reason == DenialReason::NoneFree => {
                    if !std::mem::replace(&mut told, true) {
                        self.report_wait(&denial).await;
                    }
                    self.await_turn().await?;
                }
                Some(Err(denial)) => return Err(self.not_entitled(&denial).await),
            }
        }
    }

    /// A fresh tick each time: the lease counts from the request that is answered.
    fn ask_for_license(&mut self) {
        let ticks_ns = now_ns();
        if self.asked.ticks.len() == MAX_TICKS {
            self.asked.ticks.remove(0);
        }
        self.asked.ticks.push(ticks_ns);
        (self.turn, self.answer) = (false, None);
        self.alarm = Some(Instant::now() + ANSWER_WITHIN);
        drop(self.parts.urgent.say(Urgent::LeaseRequest {
            request: self.asked.request.clone(),
            pool: self.entry.offer.pool.clone(),
            attempt: self.attempt(),
            ticks_ns,
        }));
    }

    /// The answer, or nothing when the request has to be made again.
    async fn license_answer(&mut self) -> Result<Option<Result<Grant, Denial>>, Ending> {
        let answer = self
            .until(|job| match job.answer.take() {
                Some(answer) => Some(Some(answer.outcome)),
                None => (job.turn || job.alarm.is_none()).then_some(None),
            })
            .await;
        self.alarm = None;
        answer
    }

    /// All licenses are held: nothing is asked until it is this job's turn or a session begins.
    async fn await_turn(&mut self) -> Result<(), Ending> {
        self.until(|job| job.turn.then_some(())).await?;
        if self
            .reserved
            .as_ref()
            .is_some_and(|reserved| reserved.since.elapsed() > RESERVATION_FRESH)
        {
            self.cancel_reservation().await;
            self.reserve().await?;
            self.say_accept();
        }
        Ok(())
    }

    async fn report_wait(&mut self, denial: &Denial) {
        info!(attempt = %self.attempt(), pool = %self.entry.offer.pool, "the job waits for a license");
        let event = self.parts.audit.event(Code::LicenseTakeAvailableRobotError);
        let event = event
            .with("pool", self.entry.offer.pool.as_str())
            .with("reason", denial.detail.as_str());
        self.parts.audit.tell_journal(self.attempt(), event).await;
    }

    async fn not_entitled(&mut self, denial: &Denial) -> Ending {
        self.report_wait(denial).await;
        let detail = format!(
            "no license of pool {:?}: {}",
            self.entry.offer.pool, denial.detail
        );
        Ending::Declined(Reject::with_code(
            RejectReason::Unsupported,
            "LICENSE_DENIED",
            detail,
        ))
    }

    async fn hold(&mut self, lease: Lease, grant: &Grant) -> Result<(), Ending> {
        self.lease = Some(lease);
        self.reach(Stage::Leased).await;
        self.record_now(Phase::LicenseLeased).await;
        let event = self.parts.audit.event(Code::LicenseTakeAvailableRobotOk);
        let event = event
            .with("pool", grant.pool.as_str())
            .with("lease", grant.lease.to_string())
            .with("fence", grant.fence);
        self.parts.audit.tell_journal(self.attempt(), event).await;
        Ok(())
    }
}
