//! How jobs end: complete, stopped before the start, or given up.

use order::{AgentId, AttemptRef, JobId, JobResult, Outcome, Phase, Purpose, Signed};
use serde_json::json;
use wire::v1;

use super::dispatch::StopMode;
use super::job::{State, Step, Taken};
use super::session::Body;
use super::{Core, log_failure, millis};
use crate::archive::{self, Totals};
use crate::config;
use crate::events::{self, Event};
use crate::refused::Refused;

/// The name of an outcome as it is stored and shown.
pub(crate) fn outcome_name(outcome: Outcome) -> String {
    serde_json::to_value(outcome)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

impl Core {
    /// Tells a job to stop. Before the start it ends at once; after it the agent is told, now or
    /// when it comes back.
    pub(crate) fn stop_job(&mut self, id: JobId, kill: bool, by: &str) -> Result<(), Refused> {
        let mode = if kill {
            StopMode::Kill
        } else {
            StopMode::Graceful
        };
        let now = self.now();
        let Some(job) = self.jobs.get(&id) else {
            return match self.store.job(id)? {
                Some(_) => Err(Refused::state("JOB_ENDED", format!("job {id} has ended"))),
                None => Err(Refused::not_found("JOB_UNKNOWN", format!("no job {id}"))),
            };
        };
        let (attempt, state, agent) = (job.attempt(), job.progress.state, job.progress.agent);
        let event = Event::own(
            events::JOB_STOP_REQUESTED,
            now,
            format!("job {id} is to stop"),
        )
        .job(id)
        .user(by)
        .data(json!({"mode": mode.name()}));
        let store = &self.store;
        store.atomically(|| {
            store.set_job_stop(id, mode.name())?;
            store.put_event(&event)
        })?;
        if let Some(job) = self.jobs.get_mut(&id) {
            job.stop = Some(mode);
        }
        if let (Some(agent), Some(message)) = (agent, self.stop_message(attempt)) {
            self.send(agent, message);
        }
        if matches!(state, State::Queued | State::Offered | State::Accepted) {
            let detail = "told to stop before it started";
            self.end_now(id, Outcome::Stopped, "STOPPED_BEFORE_START", detail);
        }
        Ok(())
    }

    /// Asks for a picture of a running job.
    pub(crate) fn take_screenshot(&mut self, id: JobId, by: &str) -> Result<(), Refused> {
        let job = self
            .jobs
            .get(&id)
            .filter(|job| job.progress.state == State::Started)
            .ok_or_else(|| Refused::state("JOB_NOT_RUNNING", format!("job {id} is not running")))?;
        let (attempt, agent) = (job.attempt(), job.progress.agent);
        let command = v1::Command {
            command_id: uuid::Uuid::now_v7().to_string(),
            valid_for: Some(super::session::duration(config::ANSWER_WITHIN)),
            requested_by: by.to_owned(),
            body: Some(v1::command::Body::TakeScreenshot(v1::TakeScreenshot {
                job: Some(super::session::job_ref(attempt)),
            })),
        };
        if let Some(agent) = agent {
            self.send(agent, Body::Command(command));
        }
        Ok(())
    }

    /// Ends a job without a result.
    pub(super) fn end_now(&mut self, id: JobId, outcome: Outcome, code: &str, detail: &str) {
        let now = self.now();
        let name = outcome_name(outcome);
        let event = self.end_event(id, &name, code, detail, now);
        let Some(attempt) = self.jobs.get(&id).map(super::Job::attempt) else {
            return;
        };
        let ended = self.advance(id, Step::End, |store| {
            store.set_job_outcome(id, &name, code, detail)?;
            store.set_job_ended(id, &[], now)?;
            store.put_event(&event)
        });
        if log_failure("the end of a job could not be stored", ended) == Some(Taken::Moved) {
            self.leases.leave_line(attempt);
            self.jobs.remove(&id);
        }
    }

    fn end_event(&self, id: JobId, outcome: &str, code: &str, detail: &str, now: u64) -> Event {
        let event = Event::own(
            events::JOB_ENDED,
            now,
            format!("job {id} ended: {outcome} {detail}"),
        )
        .job(id)
        .data(json!({"outcome": outcome, "code": code}));
        match self.jobs.get(&id).and_then(|job| job.progress.agent) {
            Some(agent) => event.agent(agent),
            None => event,
        }
    }

    /// A started attempt that will never report. Its license stays held until it expires: the bot
    /// may still run.
    pub(super) fn lost(&mut self, attempt: AttemptRef, code: &str, detail: &str) {
        let text = format!("{attempt}: {detail}");
        let event = Event::own(events::ATTEMPT_LOST, self.now(), text)
            .job(attempt.job)
            .entity(code);
        let agent = self
            .jobs
            .get(&attempt.job)
            .and_then(|job| job.progress.agent);
        self.record(match agent {
            Some(agent) => event.agent(agent),
            None => event,
        });
        self.end_now(attempt.job, Outcome::Interrupted, code, detail);
    }

    /// Started attempts whose agent has not come back: unconfirmed ones go back to the queue when
    /// their order can't be started any more, confirmed ones are given up long after their end.
    pub(super) fn give_up_lost(&mut self) {
        let (now, boot) = (self.now(), self.clock.boot_ms());
        let late = millis(config::LOST_AFTER_HARD_END);
        // The host's clock may be behind by as much as the broker accepts.
        let skew = millis(config::ORDER_WINDOW);
        let mut unbegun = Vec::new();
        let mut lost = Vec::new();
        for job in self.jobs.values() {
            let Some(started) = job.started.as_ref() else {
                continue;
            };
            if job.progress.state != State::Started {
                continue;
            }
            let free = self.leases.of_attempt(job.attempt()).is_none();
            let connected = job
                .progress
                .agent
                .is_some_and(|agent| self.online.contains_key(&agent));
            if !job.progress.confirmed && connected && started.not_after_ms + skew < now && free {
                unbegun.push(job.attempt());
            }
            let away = job.away_since.is_some_and(|since| since + late < boot);
            if away && started.started_ms + started.hard_end_ms + late < now {
                lost.push(job.attempt());
            }
        }
        for attempt in unbegun {
            let step = Step::NeverBegun {
                attempt: attempt.number,
            };
            let back = self.advance(attempt.job, step, |_| Ok(()));
            log_failure("an attempt could not be queued again", back);
        }
        for attempt in lost {
            self.lost(
                attempt,
                "AGENT_LOST",
                "the agent did not come back after the job's end",
            );
        }
    }

    /// Believes a result only with the signature of the agent's broker.
    pub(super) fn check_result(
        &self,
        attempt: AttemptRef,
        signed: &Signed,
    ) -> Result<JobResult, &'static str> {
        let row = self
            .store
            .attempt(attempt)
            .ok()
            .flatten()
            .ok_or("unknown attempt")?;
        let agent = self
            .store
            .agent(row.agent)
            .ok()
            .flatten()
            .ok_or("unknown agent")?;
        let key = agent.result_key.ok_or("the agent has no result key")?;
        let key = order::VerifyingKey::from_bytes(&key).map_err(|_| "unusable result key")?;
        if !key.accepts(Purpose::Result, signed) {
            return Err("the signature is not that of the agent's broker");
        }
        let result: JobResult =
            serde_json::from_slice(&signed.body).map_err(|_| "the result can't be read")?;
        if result.v != 1 || result.attempt != attempt || result.agent != row.agent {
            return Err("the result is about something else");
        }
        Ok(result)
    }

    /// Jobs whose result is in and of which nothing more will come.
    pub(super) fn end_complete(&mut self) {
        let reported: Vec<_> = self
            .jobs
            .values()
            .filter(|job| job.progress.state == State::Reported && !job.comparing)
            .map(|job| (job.attempt(), job.last_progress))
            .collect();
        let boot = self.clock.boot_ms();
        for (attempt, last_progress) in reported {
            if self.leases.of_attempt(attempt).is_some() {
                continue;
            }
            let missing = log_failure("output could not be checked", self.missing(attempt));
            let impatient = last_progress + millis(config::OUTPUT_PATIENCE) <= boot;
            if let Some(missing) = missing.filter(|missing| missing.is_empty() || impatient) {
                self.compare(attempt, missing);
            }
        }
    }

    /// What a reported attempt's output lacks, one line each.
    fn missing(&self, attempt: AttemptRef) -> Result<Vec<String>, Refused> {
        let mut missing = Vec::new();
        let row = self.store.attempt(attempt)?;
        let result = row.and_then(|row| row.result);
        let Some(result) =
            result.and_then(|signed| serde_json::from_slice::<JobResult>(&signed.body).ok())
        else {
            return Ok(missing);
        };
        let durable = self
            .store
            .lanes_of(attempt)?
            .into_iter()
            .find(|lane| archive::hex(&lane.epoch) == result.lane_epoch)
            .map_or(0, |lane| lane.durable_seq);
        if durable < result.lane_last_seq {
            missing.push(format!(
                "log records {} to {}",
                durable + 1,
                result.lane_last_seq
            ));
        }
        for artifact in &result.artifacts {
            if self.blobs.size(artifact.sha256).is_none() {
                missing.push(format!(
                    "artifact {:?} ({})",
                    artifact.name, artifact.sha256
                ));
            }
        }
        for picture in self.store.screenshots(attempt)? {
            if self.blobs.size(picture.sha256).is_none() {
                missing.push(format!("screenshot {} ({})", picture.seq, picture.sha256));
            }
        }
        Ok(missing)
    }

    /// Compares the output with the digests that the broker signed, away from this thread: a log
    /// can be large.
    fn compare(&mut self, attempt: AttemptRef, missing: Vec<String>) {
        let Some(lanes) = log_failure("lanes could not be read", self.store.lanes_of(attempt))
        else {
            return;
        };
        let Some(desk) = self.desk() else {
            return;
        };
        let data_dir = self.data_dir.clone();
        let spawned = std::thread::Builder::new()
            .name("compare".to_owned())
            .spawn(move || {
                let totals = archive::totals(&data_dir, &lanes);
                let done = desk.ask_blocking(move |core| core.finish(attempt, missing, totals));
                log_failure("a job could not be ended", done);
            });
        if log_failure(
            "no thread for comparing output",
            spawned.map_err(|error| Refused::unavailable("THREAD_FAILED", error.to_string())),
        )
        .is_some()
            && let Some(job) = self.jobs.get_mut(&attempt.job)
        {
            job.comparing = true;
        }
    }

    fn finish(
        &mut self,
        attempt: AttemptRef,
        mut missing: Vec<String>,
        totals: Result<Totals, Refused>,
    ) {
        let id = attempt.job;
        if let Some(job) = self.jobs.get_mut(&id) {
            job.comparing = false;
        }
        let now = self.now();
        let Some(row) = log_failure("a job could not be read", self.store.job(id)).flatten() else {
            return;
        };
        let mut notes = Vec::new();
        if !missing.is_empty() {
            let text = format!("output of {attempt} is incomplete: {}", missing.join(", "));
            notes.push(Event::own(events::OUTPUT_INCOMPLETE, now, text).job(id));
        } else if let Some(differs) = self.differs(attempt, totals) {
            let text = format!("output of {attempt} is not what its broker signed: {differs}");
            notes.push(Event::own(events::OUTPUT_DIGEST_MISMATCH, now, text).job(id));
            missing.push(differs);
        }
        let outcome = row.outcome.unwrap_or_default();
        notes.push(self.end_event(id, &outcome, &row.code, &row.detail, now));
        let ended = self.advance(id, Step::End, |store| {
            store.set_job_ended(id, &missing, now)?;
            notes.iter().try_for_each(|note| store.put_event(note))
        });
        if log_failure("the end of a job could not be stored", ended) == Some(Taken::Moved) {
            self.jobs.remove(&id);
        }
    }

    /// How the output differs from the signed digests; digests that nobody knows prove nothing.
    fn differs(&self, attempt: AttemptRef, totals: Result<Totals, Refused>) -> Option<String> {
        let signed = self.store.attempt(attempt).ok()??.result?;
        let result: JobResult = serde_json::from_slice(&signed.body).ok()?;
        let totals = match totals {
            Ok(totals) => totals,
            Err(refused) => return Some(format!("log: {refused}")),
        };
        let pairs = [
            ("stdout", &result.log.stdout, &totals.stdout),
            ("stderr", &result.log.stderr, &totals.stderr),
        ];
        let wrong = |(_, signed, here): &(&str, &order::StreamTotals, &order::StreamTotals)| {
            !signed.sha256.is_empty() && signed != here
        };
        let (name, signed, here) = pairs.into_iter().find(wrong)?;
        Some(format!(
            "{name}: {} bytes with digest {} are signed, {} bytes with digest {} are here",
            signed.bytes, signed.sha256, here.bytes, here.sha256
        ))
    }

    pub(super) fn note_reported(
        &mut self,
        attempt: AttemptRef,
        result: &JobResult,
        signed: &Signed,
    ) -> Result<(), Refused> {
        let now = self.now();
        let Some(agent) = self
            .jobs
            .get(&attempt.job)
            .and_then(|job| job.progress.agent)
        else {
            return Ok(());
        };
        let step = Step::Report {
            agent,
            attempt: attempt.number,
        };
        let name = outcome_name(result.outcome);
        let taken = self.advance(attempt.job, step, |store| {
            store.set_result(attempt, signed, now)?;
            store.set_job_outcome(attempt.job, &name, &result.code, &result.detail)?;
            store.put_phase(attempt, Phase::Reported, now)
        })?;
        if taken == Taken::Moved {
            let boot_ms = self.clock.boot_ms();
            if let Some(job) = self.jobs.get_mut(&attempt.job) {
                job.last_progress = boot_ms;
            }
            self.slot_came_free(agent);
        }
        Ok(())
    }

    /// An attempt left its slot: what the agent rejected for want of one may be offered again.
    pub(super) fn slot_came_free(&mut self, agent: AgentId) {
        if let Some(online) = self.online.get_mut(&agent) {
            online.free_slots = (online.free_slots + 1).min(online.slots);
            online.openings += 1;
        }
    }
}
