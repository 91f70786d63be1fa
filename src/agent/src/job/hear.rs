//! What a job does with each message that it hears.

use std::sync::Arc;

use order::{Phase, PhaseAt, Signed};
use privsep::Refusal;
use privsep::broker::{Held, HeldState, Request};
use tracing::{debug, info, warn};

use super::attempt::{Attempt, Ending, Input, now_ns};
use super::entry::{SavedResult, Stage};
use super::reconcile::{Plan, reconcile};
use crate::exchange::{
    LeaseVerdict, OfferAnswer, Reject, RejectReason, StopMode, Urgent, VerdictAction,
};
use crate::output::Output;

impl Attempt {
    pub(super) async fn hear(&mut self, input: Input) {
        match input {
            Input::OfferedAgain => self.say_again(),
            Input::Start(order) if !self.past(Stage::StartIntent) => self.order = Some(order),
            Input::Start(_) => {
                debug!(attempt = %self.attempt(), "a start that came before; ignored")
            }
            Input::Stop { mode, reason } => self.stop(mode, &reason).await,
            Input::Lease(answer) if answer.request == self.asked.request => {
                self.answer = Some(answer)
            }
            Input::Lease(_) => {
                debug!(attempt = %self.attempt(), "an answer to no open request for a license; ignored")
            }
            Input::LeaseReady => self.turn = true,
            Input::Renewed(grant) => self.extend(&grant).await,
            Input::LeaseDenied(denial) => self.lose_lease(&denial.detail).await,
            Input::Online { verdict, lease } => self.come_online(verdict, lease).await,
            Input::Refused(refusal) => self.refused(refusal),
            Input::Synced(held) => self.sync(held).await,
            Input::Phase(at) => self.step(at).await,
            Input::SecretWanted(name) => self.fetch_secret(name),
            Input::Ended(result) => self.end(result).await,
            Input::Screenshot { command } => self.screenshot(command),
            Input::Watch {
                command,
                most_per_second,
            } => self.watch(command, most_per_second),
        }
    }

    async fn step(&mut self, at: PhaseAt) {
        self.record(at).await;
        if let Some(output) = &self.output {
            output.nudge();
        }
        if at.phase == Phase::Running {
            info!(attempt = %self.attempt(), "the bot runs");
        }
    }

    async fn end(&mut self, result: Signed) {
        if self.past(Stage::Ended) {
            return;
        }
        self.entry.result = Some(SavedResult::of(&result));
        self.reach(Stage::Ended).await;
    }

    async fn stop(&mut self, mode: StopMode, reason: &str) {
        info!(attempt = %self.attempt(), ?mode, reason, "the job is told to stop");
        let event = self
            .parts
            .audit
            .event(events::Code::JobStopRequested)
            .with("reason", reason);
        self.parts.audit.report_for(self.attempt(), event).await;
        self.stop = Some(mode);
        if self.past(Stage::StartIntent) {
            return self.pass_on_stop().await;
        }
        let reject = Reject::with_code(
            RejectReason::AlreadyEnded,
            "STOPPED",
            "the job was stopped before its start",
        );
        self.ending = Some(Ending::Declined(reject));
    }

    /// Also after the broker came back: it may not have heard.
    async fn pass_on_stop(&mut self) {
        let Some(mode) = self.stop.filter(|_| !self.past(Stage::Ended)) else {
            return;
        };
        let mode = match mode {
            StopMode::Graceful => privsep::broker::StopMode::Graceful,
            StopMode::Kill => privsep::broker::StopMode::Kill,
        };
        let request = Request::Stop {
            attempt: self.attempt(),
            mode,
        };
        if let Err(reason) = self.parts.broker.tell(request, vec![]).await {
            warn!(attempt = %self.attempt(), %reason, "the stop did not reach the broker yet");
        }
    }

    async fn come_online(&mut self, verdict: Option<VerdictAction>, lease: Option<LeaseVerdict>) {
        self.online = true;
        if let Some(LeaseVerdict {
            outcome: Err(denial),
            ..
        }) = lease
        {
            self.lose_lease(&denial.detail).await;
        }
        match verdict {
            Some(VerdictAction::Stop) => {
                self.stop(StopMode::Graceful, "the orchestrator gave the job away")
                    .await
            }
            Some(VerdictAction::Forget) if self.may_be_dropped() => {
                self.ending = Some(Ending::Dropped)
            }
            Some(VerdictAction::Forget) => {
                self.stop(StopMode::Kill, "the orchestrator knows its outcome already")
                    .await
            }
            Some(VerdictAction::Continue) | None => self.say_again(),
        }
    }

    /// Nothing of it runs or waits at the broker, or can't any more.
    fn may_be_dropped(&self) -> bool {
        self.past(Stage::Ended) || !self.past(Stage::StartIntent)
    }

    /// What may not have been heard in the session before.
    fn say_again(&mut self) {
        match self.entry.stage {
            Stage::Accepted | Stage::Leased => {
                self.say_accept();
                // Wakes a request that waits for its answer.
                self.turn = true;
            }
            Stage::Released | Stage::Reported => self.say_release(),
            _ => {}
        }
    }

    pub(super) fn say_accept(&self) {
        let Some(reserved) = &self.reserved else {
            return;
        };
        let answer = OfferAnswer::Accept {
            package_cached: reserved.package_cached,
            challenge: reserved.challenge,
            account: reserved.account.clone(),
        };
        drop(self.parts.urgent.say(Urgent::OfferReply {
            attempt: self.attempt(),
            answer,
        }));
    }

    pub(super) fn say_release(&self) {
        if let Some(lease) = &self.lease {
            drop(self.parts.urgent.say(Urgent::LeaseRelease(lease.which())));
        }
    }

    fn refused(&mut self, refusal: Refusal) {
        warn!(attempt = %self.attempt(), code = %refusal.code, detail = %refusal.detail, "the orchestrator refused a message of this job");
        if !self.past(Stage::StartIntent) {
            // It came too late or the job is gone: nobody waits for this attempt.
            self.ending = Some(Ending::Dropped);
        }
    }

    async fn sync(&mut self, held: Option<Held>) {
        self.synced = true;
        let (plan, cancel) = reconcile(self.entry.stage, held.as_ref().map(|held| &held.state));
        if cancel {
            self.cancel_reservation().await;
        }
        match (plan, held) {
            (Plan::Follow, Some(held)) => self.follow(held).await,
            (Plan::Decline, _) => {
                let detail =
                    "robotd or robotd-broker was restarted before the start; offer it again";
                let reject = Reject::with_code(RejectReason::Busy, "AGENT_RESTARTED", detail);
                self.ending = Some(Ending::Declined(reject));
            }
            (Plan::ReportLost, _) => self.ending = Some(Ending::Lost),
            (Plan::GoOn | Plan::Follow, _) => {}
        }
    }

    /// The broker has it: what happened meanwhile, and what it may not have heard.
    async fn follow(&mut self, held: Held) {
        if !self.past(Stage::Started) {
            self.reach(Stage::Started).await;
        }
        self.package_needed = Some(held.state == HeldState::AwaitsPackage);
        for at in held.timeline {
            self.record(at).await;
        }
        self.open_output();
        self.pass_on_stop().await;
        self.pass_on_renewal().await;
    }

    pub(super) async fn cancel_reservation(&mut self) {
        self.reserved = None;
        let request = Request::Cancel {
            attempt: self.attempt(),
        };
        if let Err(reason) = self.parts.broker.tell(request, vec![]).await {
            debug!(attempt = %self.attempt(), %reason, "a reservation could not be given back; it ends by itself or at the next sync");
        }
    }

    pub(super) fn open_output(&mut self) {
        if self.output.is_some() {
            return;
        }
        let attempt = self.attempt();
        let config = &self.parts.config;
        let places = crate::output::Places {
            attempt,
            folder: config.spool_dir().join(attempt.to_string()),
            socket: config.attendant_socket(&attempt),
        };
        let (output, wanted) = Output::start(places, self.parts.lanes.clone());
        (self.output, self.wanted) = (Some(output), Some(wanted));
    }

    fn screenshot(&self, command: String) {
        let taken = self.output.as_ref().is_some_and(Output::screenshot);
        let refused = (!taken).then(|| {
            Refusal::new(
                "SCREENSHOT_UNAVAILABLE",
                "the job has no attendant now, or a picture is being taken already",
            )
        });
        self.parts.answer(command, refused);
    }

    /// The attendant shows nothing when the order does not allow it; robotd does not read orders.
    fn watch(&self, command: String, most_per_second: u32) {
        let view = self
            .output
            .as_ref()
            .and_then(|output| output.watch(most_per_second));
        // Full: the orchestrator asks again while somebody looks on.
        let begun = view.is_some_and(|view| self.parts.views.try_send(view).is_ok());
        let detail = "the job has no attendant that may be asked now";
        let refused = (!begun).then(|| Refusal::new("SCREEN_UNAVAILABLE", detail));
        self.parts.answer(command, refused);
    }

    pub(super) fn fetch_secret(&mut self, name: String) {
        let held = self.lease.as_ref().filter(|lease| lease.holds(now_ns()));
        let fence = held.map(|lease| lease.which().fence);
        self.secrets.spawn(super::steps::fetch_secret(
            Arc::clone(&self.parts),
            self.attempt(),
            fence,
            name,
        ));
    }
}
