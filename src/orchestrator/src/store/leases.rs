//! License pools and leases.

use order::{AgentId, AttemptRef, LeaseId};
use rusqlite::{OptionalExtension as _, Row, params};

use super::{Store, StoreError, parsed, signed, unsigned};

/// One pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolRow {
    pub(crate) name: String,
    pub(crate) licenses: u32,
    pub(crate) fence: u64,
}

/// One lease, open or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaseRow {
    pub(crate) id: LeaseId,
    pub(crate) pool: String,
    pub(crate) fence: u64,
    pub(crate) attempt: AttemptRef,
    pub(crate) agent: AgentId,
    pub(crate) request_id: String,
    pub(crate) ttl_ms: u64,
    pub(crate) granted_ms: u64,
    pub(crate) ended_ms: Option<u64>,
    /// `released`, `expired` or `revoked`.
    pub(crate) ended_how: Option<String>,
}

const COLUMNS: &str = "lease_id, pool, fence, job_id, attempt, agent_id, request_id, ttl_ms, \
                       granted_ms, ended_ms, ended_how";

fn read(row: &Row<'_>) -> Result<LeaseRow, rusqlite::Error> {
    Ok(LeaseRow {
        id: parsed(row.get(0)?)?,
        pool: row.get(1)?,
        fence: unsigned(row.get(2)?)?,
        attempt: AttemptRef {
            job: parsed(row.get(3)?)?,
            number: row.get(4)?,
        },
        agent: parsed(row.get(5)?)?,
        request_id: row.get(6)?,
        ttl_ms: unsigned(row.get(7)?)?,
        granted_ms: unsigned(row.get(8)?)?,
        ended_ms: row.get::<_, Option<i64>>(9)?.map(unsigned).transpose()?,
        ended_how: row.get(10)?,
    })
}

impl Store {
    pub(crate) fn put_pool(&self, name: &str, licenses: u32, fence: u64) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO pools (name, licenses, fence) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET licenses = excluded.licenses, fence = max(fence, excluded.fence)",
            params![name, licenses, signed(fence)],
        )?;
        Ok(())
    }

    pub(crate) fn pools(&self) -> Result<Vec<PoolRow>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT name, licenses, fence FROM pools ORDER BY name")?;
        let rows = statement.query_map([], |row| {
            Ok(PoolRow {
                name: row.get(0)?,
                licenses: row.get(1)?,
                fence: unsigned(row.get(2)?)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn put_lease(&self, lease: &LeaseRow) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO leases (lease_id, pool, fence, job_id, attempt, agent_id, request_id, ttl_ms, granted_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                lease.id.to_string(),
                lease.pool,
                signed(lease.fence),
                lease.attempt.job.to_string(),
                lease.attempt.number,
                lease.agent.to_string(),
                lease.request_id,
                signed(lease.ttl_ms),
                signed(lease.granted_ms)
            ],
        )?;
        // The fence must never be given out again, whatever happens to the lease.
        self.connection.execute(
            "UPDATE pools SET fence = max(fence, ?2) WHERE name = ?1",
            params![lease.pool, signed(lease.fence)],
        )?;
        Ok(())
    }

    pub(crate) fn end_lease(&self, id: LeaseId, how: &str, now: u64) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE leases SET ended_ms = ?3, ended_how = ?2 WHERE lease_id = ?1 AND ended_ms IS NULL",
            params![id.to_string(), how, signed(now)],
        )?;
        Ok(())
    }

    pub(crate) fn lease(&self, id: LeaseId) -> Result<Option<LeaseRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM leases WHERE lease_id = ?1");
        Ok(self
            .connection
            .query_row(&sql, [id.to_string()], read)
            .optional()?)
    }

    pub(crate) fn open_leases(&self) -> Result<Vec<LeaseRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM leases WHERE ended_ms IS NULL ORDER BY fence");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map([], read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
