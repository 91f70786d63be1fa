//! What agents answer to offers, and offers that nobody answered.

use order::{AgentId, AttemptRef, Outcome, Phase};
use wire::v1;

use super::dispatch::{Accepted, Refusal};
use super::job::{State, Step, Taken};
use super::session::attempt_of;
use super::{Core, log_failure, millis};
use crate::config;
use crate::events::{self, Event};
use crate::refused::Refused;
use crate::store::Rejection;

/// Reasons that will be the same next time.
const PERMANENT: [v1::RejectReason; 3] = [
    v1::RejectReason::AccountNotAllowed,
    v1::RejectReason::Unsupported,
    v1::RejectReason::AlreadyEnded,
];

/// Codes of a host that would say the same again at once, whatever becomes free there.
const NOT_NOW: [&str; 3] = ["HOST_CLOSED", "PEOPLE_LOGGED_IN", "ACCOUNT_LOGGED_IN"];

fn denied(code: &'static str, attempt: AttemptRef) -> Refused {
    Refused::state(
        code,
        format!("attempt {attempt} is not in a state for this"),
    )
}

impl Core {
    pub(super) fn offer_reply(
        &mut self,
        agent: AgentId,
        reply: v1::OfferReply,
    ) -> Result<(), Refused> {
        let attempt = attempt_of(reply.job.as_ref())
            .ok_or_else(|| Refused::invalid("JOB_INVALID", "the reply names no attempt"))?;
        match reply.answer {
            Some(v1::offer_reply::Answer::Accept(accept)) => self.accepted(agent, attempt, accept),
            Some(v1::offer_reply::Answer::Reject(reject)) => self.rejected(agent, attempt, &reject),
            None => Err(Refused::invalid(
                "ANSWER_MISSING",
                "neither accepted nor rejected",
            )),
        }
    }

    fn accepted(
        &mut self,
        agent: AgentId,
        attempt: AttemptRef,
        accept: v1::Accept,
    ) -> Result<(), Refused> {
        if accept.broker_challenge.len() != 32 || accept.account.is_empty() {
            return Err(Refused::invalid(
                "ACCEPT_INVALID",
                "an accept carries an account and a challenge of 32 bytes",
            ));
        }
        let now = self.now();
        let step = Step::Accept {
            agent,
            attempt: attempt.number,
        };
        let taken = self.advance(attempt.job, step, |store| {
            store.set_accepted(attempt, &accept.account, &accept.broker_challenge)?;
            store.put_phase(attempt, Phase::Accepted, now)
        })?;
        match taken {
            Taken::Denied(code) => return Err(denied(code, attempt)),
            Taken::Repeated if self.state_of(attempt) != Some(State::Accepted) => return Ok(()),
            // The reservation was renewed while the job waited for a license, or its broker was
            // restarted: an order with the old challenge would be refused there.
            Taken::Repeated => self.store.atomically(|| {
                let store = &self.store;
                store.set_accepted(attempt, &accept.account, &accept.broker_challenge)
            })?,
            Taken::Moved => {}
        }
        if let Some(job) = self.jobs.get_mut(&attempt.job) {
            job.accepted = Some(Accepted {
                challenge: accept.broker_challenge.to_vec(),
            });
        }
        Ok(())
    }

    fn rejected(
        &mut self,
        agent: AgentId,
        attempt: AttemptRef,
        reject: &v1::Reject,
    ) -> Result<(), Refused> {
        let now = self.now();
        let reason = reject.reason();
        let row = Rejection {
            attempt: attempt.number,
            agent,
            at_ms: now,
            reason: reason
                .as_str_name()
                .trim_start_matches("REJECT_REASON_")
                .to_owned(),
            code: reject.code.clone(),
            detail: reject.detail.clone(),
        };
        let text = format!(
            "agent {agent} rejected {attempt}: {} {}",
            row.reason, row.detail
        );
        let event = Event::own(events::OFFER_REJECTED, now, text)
            .agent(agent)
            .job(attempt.job)
            .entity(if row.code.is_empty() {
                &row.reason
            } else {
                &row.code
            });
        let mine = self
            .jobs
            .get(&attempt.job)
            .is_some_and(|job| job.progress.agent == Some(agent));
        if !mine {
            return Err(denied("NOT_YOUR_ATTEMPT", attempt));
        }
        self.remember_refusal(agent, attempt, reason, &row.code);
        let number = attempt.number;
        let started = self.state_of(attempt) == Some(State::Started);
        let step = if started {
            Step::NeverBegun { attempt: number }
        } else {
            Step::Withdraw { attempt: number }
        };
        let taken = self.advance(attempt.job, step, |store| {
            store.put_rejection(attempt.job, &row)?;
            store.put_event(&event)
        })?;
        if let Taken::Denied(code) = taken {
            return Err(denied(code, attempt));
        }
        self.leases.leave_line(attempt);
        if started {
            self.free_lease_of(attempt, "returned");
        }
        self.fail_when_nobody_may(attempt, &row);
        Ok(())
    }

    fn state_of(&self, attempt: AttemptRef) -> Option<State> {
        let job = self.jobs.get(&attempt.job)?;
        (job.progress.attempt == attempt.number).then_some(job.progress.state)
    }

    fn remember_refusal(
        &mut self,
        agent: AgentId,
        attempt: AttemptRef,
        reason: v1::RejectReason,
        code: &str,
    ) {
        let at = self.clock.boot_ms();
        let Some(online) = self.online.get(&agent) else {
            return;
        };
        let refusal = Refusal {
            epoch: online.epoch,
            openings: online.openings,
            at,
            permanent: PERMANENT.contains(&reason),
            not_now: NOT_NOW.contains(&code),
        };
        if let Some(job) = self.jobs.get_mut(&attempt.job) {
            job.rejected.insert(agent, refusal);
        }
    }

    /// When every agent that could run the job has said that it never will, waiting is of no use.
    fn fail_when_nobody_may(&mut self, attempt: AttemptRef, last: &Rejection) {
        let Some(agents) = log_failure("agents could not be read", self.store.agents()) else {
            return;
        };
        let Some(job) = self.jobs.get(&attempt.job) else {
            return;
        };
        let candidates = agents.iter().filter(|agent| {
            let wanted = job.spec.agent.as_ref();
            agent.revoked_ms.is_none()
                && agent.enrolled_ms.is_some()
                && wanted.is_none_or(|wanted| *wanted == agent.name)
        });
        let mut none = true;
        let all = candidates.inspect(|_| none = false).all(|agent| {
            job.rejected
                .get(&agent.id)
                .is_some_and(|refusal| refusal.permanent)
        });
        if all && !none {
            let code = if last.code.is_empty() {
                &last.reason
            } else {
                &last.code
            };
            let (code, detail) = (code.clone(), last.detail.clone());
            self.end_now(attempt.job, Outcome::NotStarted, &code, &detail);
        }
    }

    /// Puts an attempt that has not started back into the queue.
    pub(super) fn withdraw(&mut self, attempt: AttemptRef, why: &'static str) {
        let agent = self
            .jobs
            .get(&attempt.job)
            .and_then(|job| job.progress.agent);
        let step = Step::Withdraw {
            attempt: attempt.number,
        };
        let taken = self.advance(attempt.job, step, |_| Ok(()));
        if log_failure("an offer could not be withdrawn", taken) == Some(Taken::Moved) {
            tracing::info!(%attempt, why, "back to the queue");
            self.leases.leave_line(attempt);
            if let Some(online) = agent.and_then(|agent| self.online.get_mut(&agent)) {
                online.free_slots = (online.free_slots + 1).min(online.slots);
            }
        }
    }

    /// The agent's stream ended: whether it saw the offers is not known. What it accepted stays
    /// with it for the silence limit.
    pub(super) fn withdraw_offers_of(&mut self, agent: AgentId) {
        for (attempt, state, _) in self.attempts_of(agent) {
            if state == State::Offered {
                self.withdraw(attempt, "the agent's session ended");
            }
        }
    }

    pub(super) fn withdraw_unanswered(&mut self) {
        let now = self.clock.boot_ms();
        let patience = millis(config::SILENCE);
        let due: Vec<_> = self
            .jobs
            .values()
            .filter_map(|job| match job.progress.state {
                State::Offered if job.offer_until <= now => {
                    Some((job.attempt(), job.progress.agent, "unanswered"))
                }
                State::Accepted if job.away_since.is_some_and(|since| since + patience <= now) => {
                    Some((job.attempt(), None, "its agent is away"))
                }
                _ => None,
            })
            .collect();
        for (attempt, silent, why) in due {
            // Who did not answer is asked again when something changes there, not at once.
            if let Some(agent) = silent {
                self.remember_refusal(agent, attempt, v1::RejectReason::Busy, "");
            }
            self.withdraw(attempt, why);
        }
    }
}
