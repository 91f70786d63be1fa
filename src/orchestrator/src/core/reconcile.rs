//! What an agent holds against what is known here: the answer to Hello.

use order::{AgentId, AttemptRef, LeaseId};
use wire::v1;

use super::job::State;
use super::session::{Body, MINORS, attempt_of, duration, job_ref};
use super::{Core, log_failure};
use crate::config;
use crate::events::{self, Event};

impl Core {
    pub(super) fn reconcile(&mut self, agent: AgentId, epoch: u64, hello: &v1::Hello) {
        let lanes = hello
            .lanes
            .iter()
            .filter_map(|lane| self.lane_resume(agent, lane))
            .collect();
        let (jobs, resend) = self.judge_jobs(agent, hello);
        let leases = hello
            .leases
            .iter()
            .map(|held| self.judge_lease(agent, held))
            .collect();
        let free = hello
            .slots
            .saturating_sub(u32::try_from(hello.jobs.len()).unwrap_or(u32::MAX));
        if let Some(online) = self.online.get_mut(&agent) {
            online.free_slots = free;
        }
        let now = jiff::Timestamp::now();
        let welcome = v1::Welcome {
            session_epoch: epoch,
            minor: hello.max_minor.min(*MINORS.end()),
            capabilities: vec![
                v1::Capability::ZstdFrames.into(),
                v1::Capability::Artifacts.into(),
            ],
            heartbeat_interval: Some(duration(config::HEARTBEAT)),
            silence_limit: Some(duration(config::SILENCE)),
            lanes,
            jobs,
            leases,
            limits: Some(v1::Limits {
                max_message_bytes: u32::try_from(config::MAX_CONTROL).unwrap_or(u32::MAX),
                max_frame_bytes: u32::try_from(config::MAX_FRAME_RAW).unwrap_or(u32::MAX),
                max_artifact_bytes: config::MAX_ARTIFACT,
            }),
            server_time: Some(prost_types::Timestamp {
                seconds: now.as_second(),
                nanos: now.subsec_nanosecond(),
            }),
            server_incarnation: self.incarnation,
        };
        self.send(agent, Body::Welcome(welcome));
        // Before anything that its keys signed.
        if let Some(message) = self.key_set_message() {
            self.send(agent, message);
        }
        for message in resend {
            self.send(agent, message);
        }
    }

    fn lane_resume(&self, agent: AgentId, at: &v1::LanePosition) -> Option<v1::LaneResume> {
        let row = log_failure(
            "a lane could not be read",
            self.store.lane(agent, at.lane, &at.epoch),
        )?;
        let durable_seq = row.map_or(0, |row| row.durable_seq);
        if durable_seq > 0 && at.next_seq <= durable_seq {
            // The host was set back to an older state; it must go on under a new epoch.
            let text = format!(
                "lane {} of agent {agent} would give out number {} again, {durable_seq} are durable here",
                at.lane, at.next_seq
            );
            self.note(Event::own(events::LANE_REVERTED, self.now(), text).agent(agent));
        }
        Some(v1::LaneResume {
            lane: at.lane,
            epoch: at.epoch.clone(),
            durable_seq,
            window_bytes: config::WINDOW,
        })
    }

    /// A verdict per job that the agent holds, and what must be sent again.
    fn judge_jobs(
        &mut self,
        agent: AgentId,
        hello: &v1::Hello,
    ) -> (Vec<v1::JobVerdict>, Vec<Body>) {
        let mut resend = Vec::new();
        let mut shown = Vec::new();
        let mut verdicts = Vec::new();
        for held in &hello.jobs {
            let Some(attempt) = attempt_of(held.job.as_ref()) else {
                continue;
            };
            shown.push(attempt);
            let action = self.judge_job(agent, attempt, held.phase(), &mut resend);
            verdicts.push(v1::JobVerdict {
                job: Some(job_ref(attempt)),
                action: action.into(),
            });
        }
        self.judge_absent(agent, &shown, hello, &mut resend);
        (verdicts, resend)
    }

    fn judge_job(
        &mut self,
        agent: AgentId,
        attempt: AttemptRef,
        phase: v1::JobPhase,
        resend: &mut Vec<Body>,
    ) -> v1::JobAction {
        let Some(job) = self.jobs.get(&attempt.job) else {
            return self.judge_ended(attempt);
        };
        let current = job.progress.attempt == attempt.number && job.progress.agent == Some(agent);
        match job.progress.state {
            _ if !current => self.judge_ended(attempt),
            State::Reported | State::Ended => v1::JobAction::Forget,
            State::Queued | State::Offered => v1::JobAction::Stop,
            State::Accepted => v1::JobAction::Continue,
            State::Started => {
                if phase as i32 >= v1::JobPhase::Started as i32 {
                    self.confirm(agent, attempt);
                } else {
                    resend.extend(self.start_message(attempt));
                }
                resend.extend(self.stop_message(attempt));
                v1::JobAction::Continue
            }
        }
    }

    /// An attempt that is not going on any more: forgotten when its agent has reported it, with or
    /// without a result; stopped else.
    fn judge_ended(&self, attempt: AttemptRef) -> v1::JobAction {
        match self.store.attempt(attempt) {
            Ok(Some(row)) if row.reported_ms.is_some() => v1::JobAction::Forget,
            _ => v1::JobAction::Stop,
        }
    }

    /// Jobs that should be with this agent and that it does not show.
    fn judge_absent(
        &mut self,
        agent: AgentId,
        shown: &[AttemptRef],
        hello: &v1::Hello,
        resend: &mut Vec<Body>,
    ) {
        let job_lane = i32::from(v1::Lane::Job);
        let unsent = hello
            .lanes
            .iter()
            .any(|lane| lane.lane == job_lane && lane.next_seq > lane.first_unacked_seq.max(1));
        for (attempt, state, confirmed) in self.attempts_of(agent) {
            if shown.contains(&attempt) {
                continue;
            }
            match state {
                State::Offered | State::Accepted => {
                    self.withdraw(attempt, "the agent came back without it");
                }
                State::Started if !confirmed => resend.extend(self.start_message(attempt)),
                // Its result may still be on the way.
                State::Started if !unsent => self.lost(
                    attempt,
                    "AGENT_FORGOT_JOB",
                    "the agent came back without the job and without a result",
                ),
                _ => {}
            }
        }
    }

    fn judge_lease(&mut self, agent: AgentId, held: &v1::HeldLease) -> v1::LeaseVerdict {
        let parsed: Result<LeaseId, _> = held.lease_id.parse();
        // Ticks are not known here: the grant of the next heartbeat counts, this only says whether
        // the lease stands.
        let outcome = match parsed {
            Ok(id) => self.standing(agent, id, held.fence),
            Err(_) => Err(v1::LeaseDenialReason::Expired),
        };
        let outcome = match outcome {
            Ok(grant) => v1::lease_verdict::Outcome::Grant(grant),
            Err(reason) => v1::lease_verdict::Outcome::Denial(v1::LeaseDenial {
                lease_id: held.lease_id.clone(),
                request_id: String::new(),
                reason: reason.into(),
                detail: String::new(),
            }),
        };
        v1::LeaseVerdict {
            lease_id: held.lease_id.clone(),
            outcome: Some(outcome),
        }
    }
}
