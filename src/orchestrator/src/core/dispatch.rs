//! Jobs in memory, the one way to move them, and who gets the next offer.

use std::collections::HashMap;
use std::sync::Arc;

use order::{AgentId, AttemptRef, JobId, LeaseId, Signed};
use wire::v1;

use super::job::{Progress, State, Step, Taken};
use super::session::{Body, duration, job_ref};
use super::{Core, Stored, log_failure, millis};
use crate::config;
use crate::refused::Refused;
use crate::spec::Spec;
use crate::store::{AttemptRow, JobRow, Store};

/// A job that has not ended.
pub(crate) struct Job {
    pub(super) id: JobId,
    pub(super) spec: Arc<Spec>,
    pub(super) progress: Progress,
    pub(super) stop: Option<StopMode>,
    /// An offer must be answered until then.
    pub(super) offer_until: u64,
    /// Its agent is not connected since then.
    pub(super) away_since: Option<u64>,
    /// Who rejected it, and when they may be asked again.
    pub(super) rejected: HashMap<AgentId, Refusal>,
    pub(super) accepted: Option<Accepted>,
    pub(super) started: Option<Started>,
    /// That no license was free is an event once per attempt.
    pub(super) denial_noted: bool,
    /// When output or a result last came.
    pub(super) last_progress: u64,
    /// Its output is being compared with its result.
    pub(super) comparing: bool,
}

/// How a job was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopMode {
    Graceful,
    Kill,
}

impl StopMode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Graceful => "GRACEFUL",
            Self::Kill => "KILL",
        }
    }

    pub(super) fn wire(self) -> v1::StopMode {
        match self {
            Self::Graceful => v1::StopMode::Graceful,
            Self::Kill => v1::StopMode::Kill,
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Graceful, Self::Kill]
            .into_iter()
            .find(|mode| mode.name() == name)
    }
}

/// An agent's rejection of an offer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    /// The session in which it was; a new session asks anew.
    pub(super) epoch: u64,
    pub(super) openings: u64,
    pub(super) at: u64,
    /// It will say the same again: what is asked for is not allowed or not there.
    pub(super) permanent: bool,
    /// People use the host, or it is closed: a free slot says nothing about that.
    pub(super) not_now: bool,
}

impl Refusal {
    /// Whether a passing reason may have passed, for an agent with so many openings since.
    fn may_have_passed(&self, openings: u64, now: u64) -> bool {
        if self.not_now {
            self.at + millis(config::HOST_BACK_AFTER) <= now
        } else {
            self.openings != openings || self.at + millis(config::REOFFER_AFTER) <= now
        }
    }
}

/// What the agent said when it accepted.
#[derive(Clone, Debug)]
pub(super) struct Accepted {
    pub(super) challenge: Vec<u8>,
}

/// What was signed.
#[derive(Clone, Debug)]
pub(super) struct Started {
    pub(super) lease: LeaseId,
    pub(super) fence: u64,
    pub(super) order: Signed,
    pub(super) not_after_ms: u64,
    pub(super) hard_end_ms: u64,
    pub(super) started_ms: u64,
}

impl Job {
    pub(super) fn queued(id: JobId, spec: Spec, now: u64) -> Self {
        Self {
            id,
            spec: Arc::new(spec),
            progress: Progress::new(),
            stop: None,
            offer_until: 0,
            away_since: None,
            rejected: HashMap::new(),
            accepted: None,
            started: None,
            denial_noted: false,
            last_progress: now,
            comparing: false,
        }
    }

    pub(super) fn attempt(&self) -> AttemptRef {
        AttemptRef {
            job: self.id,
            number: self.progress.attempt,
        }
    }
}

impl Core {
    /// Moves a job: its new state and whatever `also` writes are one transaction; memory follows
    /// only when that is durable.
    pub(super) fn advance(
        &mut self,
        id: JobId,
        step: Step,
        also: impl FnOnce(&Store) -> Stored,
    ) -> Result<Taken, Refused> {
        let Some(job) = self.jobs.get_mut(&id) else {
            return Ok(Taken::Denied("JOB_ENDED"));
        };
        let (next, taken) = job.progress.take(step);
        if taken == Taken::Moved {
            let store = &self.store;
            store.atomically(|| {
                store.set_job_state(id, next.state.name(), next.attempt, next.agent)?;
                also(store)
            })?;
            job.progress = next;
        }
        Ok(taken)
    }

    /// Reads the jobs that have not ended. An offer from before the restart counts as unanswered.
    pub(super) fn load_jobs(&mut self) -> Result<(), Refused> {
        let now = self.clock.boot_ms();
        for row in self.store.open_jobs()? {
            let job = self.load_job(row, now)?;
            self.jobs.insert(job.id, job);
        }
        let offered: Vec<_> = self
            .jobs
            .values()
            .filter(|job| job.progress.state == State::Offered)
            .map(Job::attempt)
            .collect();
        for attempt in offered {
            self.withdraw(attempt, "the server restarted");
        }
        Ok(())
    }

    fn load_job(&self, row: JobRow, now: u64) -> Result<Job, Refused> {
        let state = State::named(&row.state).ok_or_else(|| {
            Refused::unavailable(
                "STORE_FAILED",
                format!("job {} has the state {:?}", row.id, row.state),
            )
        })?;
        let mut job = Job::queued(row.id, row.spec, now);
        job.stop = row.stop.as_deref().and_then(StopMode::named);
        job.progress = Progress {
            state,
            attempt: row.attempt,
            agent: row.agent,
            confirmed: false,
        };
        job.away_since = Some(now);
        if let Some(attempt) = self.store.attempt(job.attempt())? {
            restore_attempt(&mut job, attempt);
        }
        Ok(job)
    }

    /// Attempts that are with an agent, with their state and whether the agent has shown them.
    pub(super) fn attempts_of(&self, agent: AgentId) -> Vec<(AttemptRef, State, bool)> {
        self.jobs
            .values()
            .filter(|job| job.progress.agent == Some(agent))
            .map(|job| (job.attempt(), job.progress.state, job.progress.confirmed))
            .collect()
    }

    /// Offers queued jobs, oldest first, to agents that can take them now.
    pub(super) fn offer_queued(&mut self) {
        let queued: Vec<JobId> = self
            .jobs
            .values()
            .filter(|job| job.progress.state == State::Queued)
            .map(|job| job.id)
            .collect();
        if queued.is_empty() || self.online.is_empty() {
            return;
        }
        let Some(agents) = log_failure("agents could not be read", self.store.agents()) else {
            return;
        };
        let names: HashMap<AgentId, String> = agents
            .into_iter()
            .map(|agent| (agent.id, agent.name))
            .collect();
        let mut busy = self.busy_slots();
        for id in queued {
            if let Some(agent) = self.choose(id, &names, &busy) {
                *busy.entry(agent).or_default() += 1;
                self.offer(id, agent);
            }
        }
    }

    /// Slots that each agent needs for what it has.
    fn busy_slots(&self) -> HashMap<AgentId, u32> {
        let mut busy = HashMap::new();
        for job in self.jobs.values() {
            let occupies = matches!(
                job.progress.state,
                State::Offered | State::Accepted | State::Started
            );
            if let (true, Some(agent)) = (occupies, job.progress.agent) {
                *busy.entry(agent).or_default() += 1;
            }
        }
        busy
    }

    /// The agent with most free slots among those that may and can take the job.
    fn choose(
        &self,
        id: JobId,
        names: &HashMap<AgentId, String>,
        busy: &HashMap<AgentId, u32>,
    ) -> Option<AgentId> {
        let job = self.jobs.get(&id)?;
        let now = self.clock.boot_ms();
        let able = self.online.iter().filter(|(agent, online)| {
            let wanted = job.spec.agent.as_ref();
            let named = wanted.is_none_or(|wanted| names.get(agent) == Some(wanted));
            let open = matches!(online.state, v1::AgentState::Ready | v1::AgentState::Busy);
            let used = busy.get(agent).copied().unwrap_or(0);
            let again = job.rejected.get(agent).is_none_or(|refusal| {
                let transient = !refusal.permanent && refusal.may_have_passed(online.openings, now);
                refusal.epoch != online.epoch || transient
            });
            named && open && again && online.free_slots > 0 && used < online.slots
        });
        able.max_by_key(|(agent, online)| (online.free_slots, **agent))
            .map(|(agent, _)| *agent)
    }

    fn offer(&mut self, id: JobId, agent: AgentId) {
        let now = self.now();
        let number = self.jobs.get(&id).map_or(0, |job| job.progress.attempt) + 1;
        let attempt = AttemptRef { job: id, number };
        let offered = self.advance(id, Step::Offer(agent), |store| {
            store.put_attempt(attempt, agent, now)?;
            store.put_phase(attempt, order::Phase::Offered, now)
        });
        if log_failure("an offer could not be stored", offered) != Some(Taken::Moved) {
            return;
        }
        let until = self.clock.boot_ms() + millis(config::ANSWER_WITHIN);
        if let Some(online) = self.online.get_mut(&agent) {
            online.free_slots = online.free_slots.saturating_sub(1);
        }
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.offer_until = until;
        job.accepted = None;
        job.started = None;
        job.denial_noted = false;
        job.away_since = None;
        let message = offer_message(attempt, &job.spec);
        self.send(agent, Body::JobOffer(message));
    }
}

fn restore_attempt(job: &mut Job, row: AttemptRow) {
    job.progress.confirmed = row.confirmed;
    job.accepted = row.challenge.map(|challenge| Accepted { challenge });
    let signed = row.lease.zip(row.fence).zip(row.order);
    let times = row.not_after_ms.zip(row.hard_end_ms).zip(row.started_ms);
    job.started = signed.zip(times).map(
        |(((lease, fence), order), ((not_after_ms, hard_end_ms), started_ms))| Started {
            lease,
            fence,
            order,
            not_after_ms,
            hard_end_ms,
            started_ms,
        },
    );
}

fn offer_message(attempt: AttemptRef, spec: &Spec) -> v1::JobOffer {
    let automation = &spec.automation;
    v1::JobOffer {
        job: Some(job_ref(attempt)),
        package_sha256: spec.package.0.to_vec().into(),
        package_bytes: spec.package_bytes,
        pool: spec.pool.clone(),
        account: spec.account.clone().unwrap_or_default(),
        display: spec.display.map(|display| v1::DisplaySpec {
            width: display.width,
            height: display.height,
            kind: display.kind.name().to_owned(),
            depth: display.depth,
        }),
        screenshots: Some(v1::ScreenshotPolicy {
            on_start: spec.screenshots.on_start,
            on_failure: spec.screenshots.on_failure,
            every: spec
                .screenshots
                .every_ms
                .map(|every| duration(std::time::Duration::from_millis(every))),
            live_view: spec.screenshots.live_view,
        }),
        automation: Some(v1::Automation {
            tenant: spec.tenant.clone(),
            group: automation.group.clone(),
            repository: automation.repository.clone(),
            name: automation.name.clone(),
            version: automation.version.clone(),
            language: automation.language.clone(),
            labels: automation.labels.clone().into_iter().collect(),
        }),
        sandbox_profile: spec.sandbox.name().to_owned(),
        network_profile: spec.network.clone(),
        volume_bytes: spec.limits.volume_bytes,
        answer_within: Some(duration(config::ANSWER_WITHIN)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_slot_brings_a_busy_host_back_at_once_and_a_closed_one_not() {
        let busy = Refusal {
            epoch: 1,
            openings: 1,
            at: 1_000,
            permanent: false,
            not_now: false,
        };
        assert!(busy.may_have_passed(2, 1_001));
        assert!(!busy.may_have_passed(1, 1_001));
        let closed = Refusal {
            not_now: true,
            ..busy
        };
        assert!(!closed.may_have_passed(2, 1_001));
        assert!(closed.may_have_passed(1, 1_000 + millis(config::HOST_BACK_AFTER)));
    }
}
