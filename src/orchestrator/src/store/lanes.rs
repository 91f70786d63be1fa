//! How far each lane is durable. The frames themselves are in the archive's files.

use order::{AgentId, AttemptRef};
use rusqlite::{OptionalExtension as _, Row, params};

use super::{Store, StoreError, parsed, parsed_option, signed, unsigned};

/// One lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LaneRow {
    pub(crate) id: i64,
    pub(crate) agent: AgentId,
    pub(crate) lane: i32,
    pub(crate) epoch: Vec<u8>,
    /// Set for the lane of one attempt.
    pub(crate) attempt: Option<AttemptRef>,
    pub(crate) durable_seq: u64,
    /// Length of the archive's file that belongs to it; what lies beyond was never acknowledged.
    pub(crate) bytes: u64,
}

const COLUMNS: &str = "lane_id, agent_id, lane, epoch, job_id, attempt, durable_seq, bytes";

fn read(row: &Row<'_>) -> Result<LaneRow, rusqlite::Error> {
    let job = parsed_option(row.get(4)?)?;
    let number: Option<u32> = row.get(5)?;
    Ok(LaneRow {
        id: row.get(0)?,
        agent: parsed(row.get(1)?)?,
        lane: row.get(2)?,
        epoch: row.get(3)?,
        attempt: job
            .zip(number)
            .map(|(job, number)| AttemptRef { job, number }),
        durable_seq: unsigned(row.get(6)?)?,
        bytes: unsigned(row.get(7)?)?,
    })
}

impl Store {
    pub(crate) fn lane(
        &self,
        agent: AgentId,
        lane: i32,
        epoch: &[u8],
    ) -> Result<Option<LaneRow>, StoreError> {
        let sql =
            format!("SELECT {COLUMNS} FROM lanes WHERE agent_id = ?1 AND lane = ?2 AND epoch = ?3");
        Ok(self
            .connection
            .query_row(&sql, params![agent.to_string(), lane, epoch], read)
            .optional()?)
    }

    pub(crate) fn put_lane(
        &self,
        agent: AgentId,
        lane: i32,
        epoch: &[u8],
        attempt: Option<AttemptRef>,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO lanes (agent_id, lane, epoch, job_id, attempt, durable_seq, bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, 0, 0)",
            params![
                agent.to_string(),
                lane,
                epoch,
                attempt.map(|attempt| attempt.job.to_string()),
                attempt.map(|attempt| attempt.number)
            ],
        )?;
        Ok(())
    }

    pub(crate) fn set_lane_durable(&self, id: i64, seq: u64, bytes: u64) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE lanes SET durable_seq = ?2, bytes = ?3 WHERE lane_id = ?1",
            params![id, signed(seq), signed(bytes)],
        )?;
        Ok(())
    }

    /// The lanes of an attempt, in the order in which they appeared.
    pub(crate) fn lanes_of(&self, attempt: AttemptRef) -> Result<Vec<LaneRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM lanes WHERE job_id = ?1 AND attempt = ?2 ORDER BY lane_id"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params![attempt.job.to_string(), attempt.number], read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn lanes(&self) -> Result<Vec<LaneRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM lanes ORDER BY lane_id");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map([], read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
