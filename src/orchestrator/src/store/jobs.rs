//! Jobs, their attempts, timelines and the reasons for which offers were rejected.

use order::{AgentId, AttemptRef, JobId, LeaseId, Phase, Signed};
use rusqlite::{OptionalExtension as _, Row, params};

use super::{Store, StoreError, json, parsed, parsed_option, signed, to_json, unsigned};
use crate::spec::Spec;

/// One job.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JobRow {
    pub(crate) id: JobId,
    pub(crate) spec: Spec,
    /// Name of a state (`core::job`).
    pub(crate) state: String,
    /// The last attempt that was offered; 0 before the first.
    pub(crate) attempt: u32,
    pub(crate) agent: Option<AgentId>,
    pub(crate) submitted_ms: u64,
    pub(crate) ended_ms: Option<u64>,
    pub(crate) outcome: Option<String>,
    pub(crate) code: String,
    pub(crate) detail: String,
    /// What of its output is missing, one line each.
    pub(crate) missing: Vec<String>,
    /// `GRACEFUL` or `KILL` when it was told to stop.
    pub(crate) stop: Option<String>,
}

/// One attempt of a job.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AttemptRow {
    pub(crate) attempt: AttemptRef,
    pub(crate) agent: AgentId,
    pub(crate) account: Option<String>,
    pub(crate) challenge: Option<Vec<u8>>,
    pub(crate) lease: Option<LeaseId>,
    pub(crate) fence: Option<u64>,
    pub(crate) order: Option<Signed>,
    pub(crate) not_after_ms: Option<u64>,
    pub(crate) hard_end_ms: Option<u64>,
    pub(crate) started_ms: Option<u64>,
    pub(crate) confirmed: bool,
    pub(crate) result: Option<Signed>,
    pub(crate) reported_ms: Option<u64>,
}

/// One step of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimelineRow {
    pub(crate) phase: Phase,
    pub(crate) at_ms: u64,
}

/// Why an agent did not take an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) attempt: u32,
    pub(crate) agent: AgentId,
    pub(crate) at_ms: u64,
    pub(crate) reason: String,
    pub(crate) code: String,
    pub(crate) detail: String,
}

const JOB: &str = "job_id, spec, state, attempt, agent_id, submitted_ms, ended_ms, outcome, code, \
                   detail, missing, stop";
const ATTEMPT: &str = "job_id, number, agent_id, account, challenge, lease_id, fence, order_body, \
                       order_key_id, order_signature, not_after_ms, hard_end_ms, started_ms, \
                       confirmed, result_body, result_key_id, result_signature, reported_ms";

fn time(row: &Row<'_>, at: usize) -> Result<Option<u64>, rusqlite::Error> {
    row.get::<_, Option<i64>>(at)?.map(unsigned).transpose()
}

fn read_job(row: &Row<'_>) -> Result<JobRow, rusqlite::Error> {
    Ok(JobRow {
        id: parsed(row.get(0)?)?,
        spec: json(&row.get::<_, String>(1)?)?,
        state: row.get(2)?,
        attempt: row.get(3)?,
        agent: parsed_option(row.get(4)?)?,
        submitted_ms: unsigned(row.get(5)?)?,
        ended_ms: time(row, 6)?,
        outcome: row.get(7)?,
        code: row.get(8)?,
        detail: row.get(9)?,
        missing: json(&row.get::<_, String>(10)?)?,
        stop: row.get(11)?,
    })
}

fn signature(row: &Row<'_>, at: usize) -> Result<Option<Signed>, rusqlite::Error> {
    let Some(body) = row.get::<_, Option<Vec<u8>>>(at)? else {
        return Ok(None);
    };
    Ok(Some(Signed {
        body,
        key_id: order::KeyId(row.get(at + 1)?),
        signature: row.get(at + 2)?,
    }))
}

fn read_attempt(row: &Row<'_>) -> Result<AttemptRow, rusqlite::Error> {
    Ok(AttemptRow {
        attempt: AttemptRef {
            job: parsed(row.get(0)?)?,
            number: row.get(1)?,
        },
        agent: parsed(row.get(2)?)?,
        account: row.get(3)?,
        challenge: row.get(4)?,
        lease: parsed_option(row.get(5)?)?,
        fence: time(row, 6)?,
        order: signature(row, 7)?,
        not_after_ms: time(row, 10)?,
        hard_end_ms: time(row, 11)?,
        started_ms: time(row, 12)?,
        confirmed: row.get(13)?,
        result: signature(row, 14)?,
        reported_ms: time(row, 17)?,
    })
}

fn phase_name(phase: Phase) -> Result<String, StoreError> {
    Ok(to_json(&phase)?.trim_matches('"').to_owned())
}

impl Store {
    pub(crate) fn put_job(&self, job: &JobRow) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO jobs (job_id, spec, state, attempt, submitted_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                job.id.to_string(),
                to_json(&job.spec)?,
                job.state,
                job.attempt,
                signed(job.submitted_ms)
            ],
        )?;
        Ok(())
    }

    pub(crate) fn set_job_state(
        &self,
        job: JobId,
        state: &str,
        attempt: u32,
        agent: Option<AgentId>,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE jobs SET state = ?2, attempt = ?3, agent_id = ?4 WHERE job_id = ?1",
            params![
                job.to_string(),
                state,
                attempt,
                agent.map(|agent| agent.to_string())
            ],
        )?;
        Ok(())
    }

    pub(crate) fn set_job_stop(&self, job: JobId, mode: &str) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE jobs SET stop = ?2 WHERE job_id = ?1",
            params![job.to_string(), mode],
        )?;
        Ok(())
    }

    pub(crate) fn set_job_outcome(
        &self,
        job: JobId,
        outcome: &str,
        code: &str,
        detail: &str,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE jobs SET outcome = ?2, code = ?3, detail = ?4 WHERE job_id = ?1",
            params![job.to_string(), outcome, code, detail],
        )?;
        Ok(())
    }

    pub(crate) fn set_job_ended(
        &self,
        job: JobId,
        missing: &[String],
        now: u64,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE jobs SET state = 'ENDED', ended_ms = ?3, missing = ?2 WHERE job_id = ?1",
            params![job.to_string(), to_json(&missing)?, signed(now)],
        )?;
        Ok(())
    }

    pub(crate) fn job(&self, job: JobId) -> Result<Option<JobRow>, StoreError> {
        let sql = format!("SELECT {JOB} FROM jobs WHERE job_id = ?1");
        Ok(self
            .connection
            .query_row(&sql, [job.to_string()], read_job)
            .optional()?)
    }

    pub(crate) fn open_jobs(&self) -> Result<Vec<JobRow>, StoreError> {
        let sql = format!("SELECT {JOB} FROM jobs WHERE ended_ms IS NULL ORDER BY job_id");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map([], read_job)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The newest jobs, newest first.
    pub(crate) fn jobs(&self, limit: u32) -> Result<Vec<JobRow>, StoreError> {
        let sql = format!("SELECT {JOB} FROM jobs ORDER BY job_id DESC LIMIT ?1");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map([limit], read_job)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Ids that start with `prefix`, at most two: enough to tell one from several.
    pub(crate) fn jobs_like(&self, prefix: &str) -> Result<Vec<JobId>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT job_id FROM jobs WHERE substr(job_id, 1, length(?1)) = ?1 LIMIT 2",
        )?;
        let rows = statement.query_map([prefix], |row| parsed(row.get(0)?))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn put_attempt(
        &self,
        attempt: AttemptRef,
        agent: AgentId,
        now: u64,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO attempts (job_id, number, agent_id, offered_ms) VALUES (?1, ?2, ?3, ?4)",
            params![
                attempt.job.to_string(),
                attempt.number,
                agent.to_string(),
                signed(now)
            ],
        )?;
        Ok(())
    }

    pub(crate) fn set_accepted(
        &self,
        attempt: AttemptRef,
        account: &str,
        challenge: &[u8],
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE attempts SET account = ?3, challenge = ?4 WHERE job_id = ?1 AND number = ?2",
            params![attempt.job.to_string(), attempt.number, account, challenge],
        )?;
        Ok(())
    }

    /// The order as signed: resent byte for byte until the agent shows the job as started.
    pub(crate) fn set_started(&self, row: &AttemptRow) -> Result<(), StoreError> {
        let order = row.order.as_ref();
        self.connection.execute(
            "UPDATE attempts SET lease_id = ?3, fence = ?4, order_body = ?5, order_key_id = ?6,
               order_signature = ?7, not_after_ms = ?8, hard_end_ms = ?9, started_ms = ?10
             WHERE job_id = ?1 AND number = ?2",
            params![
                row.attempt.job.to_string(),
                row.attempt.number,
                row.lease.map(|lease| lease.to_string()),
                row.fence.map(signed),
                order.map(|order| order.body.as_slice()),
                order.map(|order| order.key_id.0.as_str()),
                order.map(|order| order.signature.as_slice()),
                row.not_after_ms.map(signed),
                row.hard_end_ms.map(signed),
                row.started_ms.map(signed)
            ],
        )?;
        Ok(())
    }

    pub(crate) fn set_confirmed(&self, attempt: AttemptRef) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE attempts SET confirmed = 1 WHERE job_id = ?1 AND number = ?2",
            params![attempt.job.to_string(), attempt.number],
        )?;
        Ok(())
    }

    pub(crate) fn set_result(
        &self,
        attempt: AttemptRef,
        result: &Signed,
        now: u64,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE attempts SET result_body = ?3, result_key_id = ?4, result_signature = ?5,
               reported_ms = ?6, confirmed = 1 WHERE job_id = ?1 AND number = ?2",
            params![
                attempt.job.to_string(),
                attempt.number,
                result.body,
                result.key_id.0,
                result.signature,
                signed(now)
            ],
        )?;
        Ok(())
    }

    /// The agent reported the end of an attempt of which no result proves anything.
    pub(crate) fn set_reported(&self, attempt: AttemptRef, now: u64) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE attempts SET reported_ms = ?3 WHERE job_id = ?1 AND number = ?2",
            params![attempt.job.to_string(), attempt.number, signed(now)],
        )?;
        Ok(())
    }

    pub(crate) fn attempt(&self, attempt: AttemptRef) -> Result<Option<AttemptRow>, StoreError> {
        let sql = format!("SELECT {ATTEMPT} FROM attempts WHERE job_id = ?1 AND number = ?2");
        Ok(self
            .connection
            .query_row(
                &sql,
                params![attempt.job.to_string(), attempt.number],
                read_attempt,
            )
            .optional()?)
    }

    /// The first time of a step stands; repeats change nothing.
    pub(crate) fn put_phase(
        &self,
        attempt: AttemptRef,
        phase: Phase,
        at: u64,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT OR IGNORE INTO timeline (job_id, attempt, phase, at_ms) VALUES (?1, ?2, ?3, ?4)",
            params![
                attempt.job.to_string(),
                attempt.number,
                phase_name(phase)?,
                signed(at)
            ],
        )?;
        Ok(())
    }

    /// The steps of an attempt in the order of a job's life.
    pub(crate) fn timeline(&self, attempt: AttemptRef) -> Result<Vec<TimelineRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT phase, at_ms FROM timeline WHERE job_id = ?1 AND attempt = ?2",
        )?;
        let rows =
            statement.query_map(params![attempt.job.to_string(), attempt.number], |row| {
                let name: String = row.get(0)?;
                Ok(TimelineRow {
                    phase: json(&format!("\"{name}\""))?,
                    at_ms: unsigned(row.get(1)?)?,
                })
            })?;
        let mut steps: Vec<TimelineRow> = rows.collect::<Result<_, _>>()?;
        steps.sort_by_key(|step| step.phase);
        Ok(steps)
    }

    pub(crate) fn put_rejection(&self, job: JobId, row: &Rejection) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO rejections (job_id, attempt, agent_id, at_ms, reason, code, detail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                job.to_string(),
                row.attempt,
                row.agent.to_string(),
                signed(row.at_ms),
                row.reason,
                row.code,
                row.detail
            ],
        )?;
        Ok(())
    }

    /// The last rejections of a job, oldest first.
    pub(crate) fn rejections(&self, job: JobId) -> Result<Vec<Rejection>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT attempt, agent_id, at_ms, reason, code, detail FROM
               (SELECT rowid AS nr, * FROM rejections WHERE job_id = ?1 ORDER BY rowid DESC LIMIT 20)
             ORDER BY nr",
        )?;
        let rows = statement.query_map([job.to_string()], |row| {
            Ok(Rejection {
                attempt: row.get(0)?,
                agent: parsed(row.get(1)?)?,
                at_ms: unsigned(row.get(2)?)?,
                reason: row.get(3)?,
                code: row.get(4)?,
                detail: row.get(5)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
