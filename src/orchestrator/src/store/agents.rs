//! Agents and their certificates.

use order::AgentId;
use rusqlite::{OptionalExtension as _, Row, params};

use super::{Store, StoreError, parsed, signed, unsigned};

/// An agent as it is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AgentRow {
    pub(crate) id: AgentId,
    pub(crate) name: String,
    pub(crate) enrolled_ms: Option<u64>,
    pub(crate) revoked_ms: Option<u64>,
    pub(crate) last_seen_ms: Option<u64>,
    /// The broker's keys; absent until it enrolled.
    pub(crate) result_key: Option<Vec<u8>>,
    pub(crate) secret_key: Option<Vec<u8>>,
    /// JSON of the host's facts from its last Hello.
    pub(crate) host: Option<String>,
}

const COLUMNS: &str =
    "agent_id, name, enrolled_ms, revoked_ms, last_seen_ms, result_key, secret_key, host";

fn read(row: &Row<'_>) -> Result<AgentRow, rusqlite::Error> {
    let time = |at: usize| -> Result<Option<u64>, rusqlite::Error> {
        row.get::<_, Option<i64>>(at)?.map(unsigned).transpose()
    };
    Ok(AgentRow {
        id: parsed(row.get(0)?)?,
        name: row.get(1)?,
        enrolled_ms: time(2)?,
        revoked_ms: time(3)?,
        last_seen_ms: time(4)?,
        result_key: row.get(5)?,
        secret_key: row.get(6)?,
        host: row.get(7)?,
    })
}

impl Store {
    pub(crate) fn agent(&self, id: AgentId) -> Result<Option<AgentRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM agents WHERE agent_id = ?1");
        Ok(self
            .connection
            .query_row(&sql, [id.to_string()], read)
            .optional()?)
    }

    /// The agent that has this name now; revoked ones have given theirs up.
    pub(crate) fn agent_named(&self, name: &str) -> Result<Option<AgentRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM agents WHERE name = ?1 AND revoked_ms IS NULL");
        Ok(self.connection.query_row(&sql, [name], read).optional()?)
    }

    pub(crate) fn agents(&self) -> Result<Vec<AgentRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM agents ORDER BY name, agent_id");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map([], read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn put_agent(&self, id: AgentId, name: &str, now: u64) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO agents (agent_id, name, created_ms) VALUES (?1, ?2, ?3)",
            params![id.to_string(), name, signed(now)],
        )?;
        Ok(())
    }

    pub(crate) fn set_enrolled(
        &self,
        id: AgentId,
        result_key: &[u8],
        secret_key: &[u8],
        now: u64,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE agents SET result_key = ?2, secret_key = ?3, enrolled_ms = ?4 WHERE agent_id = ?1",
            params![id.to_string(), result_key, secret_key, signed(now)],
        )?;
        Ok(())
    }

    pub(crate) fn set_revoked(&self, id: AgentId, now: u64) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE agents SET revoked_ms = ?2 WHERE agent_id = ?1 AND revoked_ms IS NULL",
            params![id.to_string(), signed(now)],
        )?;
        self.connection.execute(
            "UPDATE certificates SET revoked_ms = ?2 WHERE agent_id = ?1 AND revoked_ms IS NULL",
            params![id.to_string(), signed(now)],
        )?;
        // An unused token would bring the revoked agent back.
        self.connection
            .execute("DELETE FROM tokens WHERE agent_id = ?1", [id.to_string()])?;
        Ok(())
    }

    /// The next session epoch of an agent; durable before the agent hears it.
    pub(crate) fn next_epoch(&self, id: AgentId, host: &str, now: u64) -> Result<u64, StoreError> {
        Ok(self.connection.query_row(
            "UPDATE agents SET session_epoch = session_epoch + 1, host = ?2, last_seen_ms = ?3
             WHERE agent_id = ?1 RETURNING session_epoch",
            params![id.to_string(), host, signed(now)],
            |row| unsigned(row.get(0)?),
        )?)
    }

    pub(crate) fn set_last_seen(&self, id: AgentId, now: u64) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE agents SET last_seen_ms = ?2 WHERE agent_id = ?1",
            params![id.to_string(), signed(now)],
        )?;
        Ok(())
    }

    pub(crate) fn put_certificate(
        &self,
        serial: &str,
        agent: AgentId,
        issued: u64,
        not_after: u64,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO certificates (serial, agent_id, issued_ms, not_after_ms) VALUES (?1, ?2, ?3, ?4)",
            params![serial, agent.to_string(), signed(issued), signed(not_after)],
        )?;
        Ok(())
    }

    /// Whether the certificate is one of ours, of this agent and not revoked.
    pub(crate) fn certificate_stands(
        &self,
        serial: &str,
        agent: AgentId,
    ) -> Result<bool, StoreError> {
        Ok(self.connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM certificates WHERE serial = ?1 AND agent_id = ?2 AND revoked_ms IS NULL)",
            params![serial, agent.to_string()],
            |row| row.get(0),
        )?)
    }

    /// Notes the first use of a certificate and revokes those that were issued to the agent
    /// before it. True when anything was revoked.
    pub(crate) fn certificate_seen(
        &self,
        serial: &str,
        agent: AgentId,
        now: u64,
    ) -> Result<bool, StoreError> {
        let first = self.connection.execute(
            "UPDATE certificates SET seen_ms = ?2 WHERE serial = ?1 AND seen_ms IS NULL",
            params![serial, signed(now)],
        )?;
        if first == 0 {
            return Ok(false);
        }
        let revoked = self.connection.execute(
            "UPDATE certificates SET revoked_ms = ?3
             WHERE agent_id = ?2 AND serial != ?1 AND revoked_ms IS NULL
               AND rowid < (SELECT rowid FROM certificates WHERE serial = ?1)",
            params![serial, agent.to_string(), signed(now)],
        )?;
        Ok(revoked > 0)
    }

    /// Serials that the revocation list must name, with the time of their revocation. Expired
    /// ones are refused for that and need no entry.
    pub(crate) fn revoked_serials(&self, now: u64) -> Result<Vec<(String, u64)>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT serial, revoked_ms FROM certificates
             WHERE revoked_ms IS NOT NULL AND not_after_ms >= ?1 ORDER BY serial",
        )?;
        let rows = statement.query_map([signed(now)], |row| {
            Ok((row.get(0)?, unsigned(row.get(1)?)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
