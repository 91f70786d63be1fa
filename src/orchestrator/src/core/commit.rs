//! Makes what the archive has on disk part of the record, and acts on job events in it.

use order::{AgentId, AttemptRef, Phase, Signed};
use wire::v1;

use super::job::State;
use super::session::attempt_of;
use super::{Core, Stored};
use crate::events::{self, Event};
use crate::refused::Refused;
use crate::store::{AlertRow, ArtifactRow, BotErrorRow, GapRow, LaneRow, ScreenshotRow, Store};

/// The name of a lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LaneKey {
    pub(crate) agent: AgentId,
    pub(crate) lane: i32,
    pub(crate) epoch: Vec<u8>,
}

/// A record that is indexed. Log lines are not: they are read from the archive.
#[derive(Clone, Debug)]
pub(crate) enum Row {
    JobEvent {
        attempt: AttemptRef,
        phase: Phase,
        at_ms: u64,
        result: Option<Signed>,
    },
    Event(Box<Event>),
    Artifact(ArtifactRow),
    Screenshot(ScreenshotRow),
    Alert(AlertRow),
    Error(BotErrorRow),
    Gap(GapRow),
}

/// What one lane gained.
#[derive(Clone, Debug)]
pub(crate) struct Committed {
    /// With its new durable sequence and length.
    pub(crate) lane: LaneRow,
    pub(crate) rows: Vec<(u64, Row)>,
    /// Why records were counted but not kept.
    pub(crate) refused: Vec<String>,
}

impl Core {
    /// A lane of this agent, made when it is new and allowed. `None` when it may not have it.
    pub(crate) fn open_lane(
        &mut self,
        agent: AgentId,
        at: &v1::LanePosition,
    ) -> Result<Option<LaneRow>, Refused> {
        if at.epoch.len() != 16 {
            return Err(Refused::invalid("EPOCH_INVALID", "an epoch is 16 bytes"));
        }
        if let Some(row) = self.store.lane(agent, at.lane, &at.epoch)? {
            return Ok(Some(row));
        }
        let attempt = attempt_of(at.job.as_ref());
        let allowed = match at.lane() {
            v1::Lane::Audit | v1::Lane::Job => attempt.is_none(),
            v1::Lane::Log => match attempt {
                Some(attempt) => self.ran(agent, attempt)?,
                None => false,
            },
            v1::Lane::Unspecified => false,
        };
        if !allowed {
            let text = format!(
                "agent {agent} opened lane {} of a job that it did not start",
                at.lane
            );
            let event = Event::own(events::FRAME_REJECTED, self.now(), text).agent(agent);
            self.record(event);
            return Ok(None);
        }
        self.store
            .atomically(|| self.store.put_lane(agent, at.lane, &at.epoch, attempt))?;
        Ok(self.store.lane(agent, at.lane, &at.epoch)?)
    }

    fn ran(&self, agent: AgentId, attempt: AttemptRef) -> Result<bool, Refused> {
        let row = self.store.attempt(attempt)?;
        Ok(row.is_some_and(|row| row.agent == agent && row.started_ms.is_some()))
    }

    /// Commits what the archive has synced. Results go first, each in a transaction of its own:
    /// when the lanes' transaction fails they come again and are repeats.
    pub(crate) fn commit(&mut self, gained: &[Committed]) -> Result<(), Refused> {
        for lane in gained {
            for (_, row) in &lane.rows {
                let Row::JobEvent {
                    attempt,
                    phase: Phase::Reported,
                    result,
                    ..
                } = row
                else {
                    continue;
                };
                match result {
                    Some(result) => self.take_result(lane.lane.agent, *attempt, result)?,
                    None => self.take_unproven(lane.lane.agent, *attempt)?,
                }
            }
        }
        let now = self.now();
        let store = &self.store;
        store.atomically(|| {
            gained
                .iter()
                .try_for_each(|lane| write_lane(store, lane, now))
        })?;
        self.note_progress(gained);
        Ok(())
    }

    fn note_progress(&mut self, gained: &[Committed]) {
        let boot_ms = self.clock.boot_ms();
        for lane in gained {
            if let Some(job) = lane
                .lane
                .attempt
                .and_then(|attempt| self.jobs.get_mut(&attempt.job))
            {
                job.last_progress = boot_ms;
            }
            for (_, row) in &lane.rows {
                if let Row::JobEvent { attempt, phase, .. } = row
                    && *phase >= Phase::Started
                {
                    self.confirm(lane.lane.agent, *attempt);
                }
            }
        }
    }

    /// A result that its broker did not sign is recorded and not believed: the job ends as
    /// interrupted, because nothing that was said of it can be trusted. A signed one that comes
    /// later for the same attempt does not bring it back.
    fn take_result(
        &mut self,
        agent: AgentId,
        attempt: AttemptRef,
        signed: &Signed,
    ) -> Result<(), Refused> {
        match self.check_result(attempt, signed) {
            Ok(result) if result.agent == agent => self.note_reported(attempt, &result, signed),
            Ok(_) => Ok(()),
            Err(why) => {
                let text = format!("result of {attempt} from agent {agent}: {why}");
                let event = Event::own(events::RESULT_SIGNATURE_INVALID, self.now(), text)
                    .agent(agent)
                    .job(attempt.job);
                self.record(event);
                if self.is_started_by(agent, attempt) {
                    self.lost(attempt, "RESULT_SIGNATURE_INVALID", why);
                }
                Ok(())
            }
        }
    }

    /// The agent found a start that nobody can prove any more. Whether the bot ran is not known,
    /// so the attempt ends here and is never run again; its license comes back when the agent
    /// returns it or when it expires.
    fn take_unproven(&mut self, agent: AgentId, attempt: AttemptRef) -> Result<(), Refused> {
        if !self.is_started_by(agent, attempt) {
            return Ok(());
        }
        let now = self.now();
        let store = &self.store;
        store.atomically(|| {
            store.set_reported(attempt, now)?;
            store.put_phase(attempt, Phase::Reported, now)
        })?;
        let detail =
            "the agent or its broker was restarted at the start; whether it ran is not known";
        self.lost(attempt, "UNKNOWN_START", detail);
        self.slot_came_free(agent);
        Ok(())
    }

    fn is_started_by(&self, agent: AgentId, attempt: AttemptRef) -> bool {
        self.jobs.get(&attempt.job).is_some_and(|job| {
            job.attempt() == attempt
                && job.progress.agent == Some(agent)
                && job.progress.state == State::Started
        })
    }

    /// An artifact is complete: jobs that wait for it may end.
    pub(crate) fn artifact_complete(&mut self, attempt: AttemptRef) {
        let boot_ms = self.clock.boot_ms();
        if let Some(job) = self.jobs.get_mut(&attempt.job) {
            job.last_progress = boot_ms;
        }
    }

    /// Whether an agent may upload for an attempt.
    pub(crate) fn may_upload(&self, agent: AgentId, attempt: AttemptRef) -> Result<(), Refused> {
        if self.ran(agent, attempt)? {
            Ok(())
        } else {
            Err(Refused::denied(
                "NOT_YOUR_ATTEMPT",
                format!("{attempt} did not start here"),
            ))
        }
    }

    /// Whether an agent may fetch a package for an attempt that it was offered.
    pub(crate) fn may_fetch(
        &self,
        agent: AgentId,
        attempt: AttemptRef,
        package: order::Sha256Hex,
    ) -> Result<(), Refused> {
        let offered = self.jobs.get(&attempt.job).is_some_and(|job| {
            job.attempt() == attempt
                && job.progress.agent == Some(agent)
                && job.spec.package == package
        });
        if offered {
            Ok(())
        } else {
            Err(Refused::denied(
                "NOT_YOUR_ATTEMPT",
                format!("{attempt} is not offered to this agent with that package"),
            ))
        }
    }

    /// All lanes, for the archive's recovery.
    pub(crate) fn lanes(&self) -> Result<Vec<LaneRow>, Refused> {
        Ok(self.store.lanes()?)
    }
}

fn write_lane(store: &Store, gained: &Committed, now: u64) -> Stored {
    let lane = &gained.lane;
    store.set_lane_durable(lane.id, lane.durable_seq, lane.bytes)?;
    for why in &gained.refused {
        let text = format!("lane {} of agent {}: {why}", lane.lane, lane.agent);
        store.put_event(&Event::own(events::FRAME_REJECTED, now, text).agent(lane.agent))?;
    }
    gained
        .rows
        .iter()
        .try_for_each(|(seq, row)| write_row(store, lane, (lane.id, *seq), row))
}

fn write_row(store: &Store, lane: &LaneRow, place: (i64, u64), row: &Row) -> Stored {
    match (row, lane.attempt) {
        (
            Row::JobEvent {
                attempt,
                phase,
                at_ms,
                ..
            },
            _,
        ) => {
            let known = store.attempt(*attempt)?;
            // Phases of the privileged side only: ours are written when they happen here.
            let theirs = *phase > Phase::Started && *phase < Phase::LicenseReturned;
            match known.is_some_and(|row| row.agent == lane.agent) && theirs {
                true => store.put_phase(*attempt, *phase, *at_ms),
                false => Ok(()),
            }
        }
        (Row::Event(event), _) => {
            let mut event = event.clone();
            let name = store
                .agent(lane.agent)?
                .map_or_else(String::new, |agent| agent.name);
            event.source = format!("agent:{name}");
            event.agent = Some(lane.agent.to_string());
            store.put_event(&event)
        }
        (Row::Gap(gap), attempt) => store.put_gap(attempt, place, gap),
        // Output of a job outside the lane of an attempt belongs to nothing.
        (_, None) => Ok(()),
        (Row::Artifact(row), Some(attempt)) => store.put_artifact(attempt, place, row),
        (Row::Screenshot(row), Some(attempt)) => store.put_screenshot(attempt, place, row),
        (Row::Alert(row), Some(attempt)) => store.put_alert(attempt, place, row),
        (Row::Error(row), Some(attempt)) => store.put_bot_error(attempt, place, row),
    }
}
