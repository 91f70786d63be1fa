//! Security events.

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, json, signed, to_json, unsigned};
use crate::events::Event;

/// Which events are asked for; absent fields match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventFilter {
    pub(crate) user: Option<String>,
    /// `orchestrator`, `agent:NAME` or just NAME.
    pub(crate) source: Option<String>,
    pub(crate) since_unix_ms: Option<u64>,
    pub(crate) code: Option<u32>,
    pub(crate) job: Option<String>,
}

/// Events shown at most, the newest.
const LIST_LIMIT: u32 = 10_000;

impl Store {
    pub(crate) fn put_event(&self, event: &Event) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO events (at_ms, code, name, severity, source, agent, user, job_id, text, entity, data)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                signed(event.at_unix_ms),
                event.code,
                event.name,
                event.severity,
                event.source,
                event.agent,
                event.user,
                event.job_id,
                event.text,
                event.entity,
                to_json(&event.data)?
            ],
        )?;
        Ok(())
    }

    /// Whether this was noted before: the same code, text, agent and data, at whatever time.
    pub(crate) fn has_event(&self, event: &Event) -> Result<bool, StoreError> {
        Ok(self
            .connection
            .prepare_cached(
                "SELECT 1 FROM events WHERE code = ?1 AND text = ?2 AND agent IS ?3 AND data = ?4",
            )?
            .exists(params![
                event.code,
                event.text,
                event.agent,
                to_json(&event.data)?
            ])?)
    }

    /// Matching events, oldest first.
    pub(crate) fn events(&self, filter: &EventFilter) -> Result<Vec<Event>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT at_ms, code, name, severity, source, agent, user, job_id, text, entity, data FROM
               (SELECT * FROM events
                WHERE (?1 IS NULL OR user = ?1)
                  AND (?2 IS NULL OR source = ?2 OR source = 'agent:' || ?2)
                  AND (?3 IS NULL OR at_ms >= ?3) AND (?4 IS NULL OR code = ?4)
                  AND (?5 IS NULL OR job_id = ?5)
                ORDER BY event_id DESC LIMIT ?6)
             ORDER BY event_id",
        )?;
        let rows = statement.query_map(
            params![
                filter.user,
                filter.source,
                filter.since_unix_ms.map(signed),
                filter.code,
                filter.job,
                LIST_LIMIT
            ],
            |row| {
                Ok(Event {
                    at_unix_ms: unsigned(row.get(0)?)?,
                    code: row.get(1)?,
                    name: row.get(2)?,
                    severity: row.get(3)?,
                    source: row.get(4)?,
                    agent: row.get(5)?,
                    user: row.get(6)?,
                    job_id: row.get(7)?,
                    text: row.get(8)?,
                    entity: row.get(9)?,
                    data: json(&row.get::<_, String>(10)?)?,
                })
            },
        )?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
