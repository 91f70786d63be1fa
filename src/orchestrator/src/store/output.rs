//! The part of a job's output that is queried: artifacts, screenshots, alerts, errors, gaps.
//!
//! Every row is named by lane and record, so that writing it twice changes nothing.

use std::collections::BTreeMap;

use order::{AttemptRef, Sha256Hex};
use rusqlite::params;
use serde_json::Value;

use super::{Store, StoreError, json, parsed, signed, to_json, unsigned};

/// A file that the bot handed back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArtifactRow {
    pub(crate) name: Vec<u8>,
    pub(crate) sha256: Sha256Hex,
    pub(crate) bytes: u64,
    pub(crate) media_type: String,
}

/// A picture of the display.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ScreenshotRow {
    pub(crate) seq: u32,
    pub(crate) at_ms: u64,
    pub(crate) reason: String,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) media_type: String,
    pub(crate) sha256: Sha256Hex,
    pub(crate) bytes: u64,
    /// What was painted over: a list as it is shown.
    pub(crate) masked: Value,
}

/// An alert of the bot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AlertRow {
    pub(crate) at_ms: u64,
    pub(crate) level: String,
    pub(crate) title: Vec<u8>,
    pub(crate) message: Vec<u8>,
}

/// An error that the bot reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BotErrorRow {
    pub(crate) at_ms: u64,
    pub(crate) kind: Vec<u8>,
    pub(crate) message: Vec<u8>,
    pub(crate) stack_trace: Vec<u8>,
    pub(crate) tags: BTreeMap<String, String>,
}

/// Records that are lost and known to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GapRow {
    pub(crate) at_ms: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) unknown: bool,
    pub(crate) reason: String,
    pub(crate) source: String,
}

impl Store {
    pub(crate) fn put_artifact(
        &self,
        attempt: AttemptRef,
        place: (i64, u64),
        row: &ArtifactRow,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT OR IGNORE INTO artifacts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                attempt.job.to_string(),
                attempt.number,
                place.0,
                signed(place.1),
                row.name,
                row.sha256.to_string(),
                signed(row.bytes),
                row.media_type
            ],
        )?;
        Ok(())
    }

    pub(crate) fn artifacts(&self, attempt: AttemptRef) -> Result<Vec<ArtifactRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT name, sha256, bytes, media_type FROM artifacts
             WHERE job_id = ?1 AND attempt = ?2 ORDER BY lane_id, seq",
        )?;
        let rows =
            statement.query_map(params![attempt.job.to_string(), attempt.number], |row| {
                Ok(ArtifactRow {
                    name: row.get(0)?,
                    sha256: parsed(row.get(1)?)?,
                    bytes: unsigned(row.get(2)?)?,
                    media_type: row.get(3)?,
                })
            })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn put_screenshot(
        &self,
        attempt: AttemptRef,
        place: (i64, u64),
        row: &ScreenshotRow,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT OR IGNORE INTO screenshots VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            params![
                attempt.job.to_string(),
                attempt.number,
                place.0,
                signed(place.1),
                row.seq,
                signed(row.at_ms),
                row.reason,
                row.width,
                row.height,
                row.media_type,
                row.sha256.to_string(),
                signed(row.bytes),
                to_json(&row.masked)?
            ],
        )?;
        Ok(())
    }

    pub(crate) fn screenshots(
        &self,
        attempt: AttemptRef,
    ) -> Result<Vec<ScreenshotRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT seq, at_ms, reason, width, height, media_type, sha256, bytes, masked
             FROM screenshots
             WHERE job_id = ?1 AND attempt = ?2 ORDER BY lane_id, record_seq",
        )?;
        let rows =
            statement.query_map(params![attempt.job.to_string(), attempt.number], |row| {
                Ok(ScreenshotRow {
                    seq: row.get(0)?,
                    at_ms: unsigned(row.get(1)?)?,
                    reason: row.get(2)?,
                    width: row.get(3)?,
                    height: row.get(4)?,
                    media_type: row.get(5)?,
                    sha256: parsed(row.get(6)?)?,
                    bytes: unsigned(row.get(7)?)?,
                    masked: json(&row.get::<_, String>(8)?)?,
                })
            })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn put_alert(
        &self,
        attempt: AttemptRef,
        place: (i64, u64),
        row: &AlertRow,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT OR IGNORE INTO alerts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                attempt.job.to_string(),
                attempt.number,
                place.0,
                signed(place.1),
                signed(row.at_ms),
                row.level,
                row.title,
                row.message
            ],
        )?;
        Ok(())
    }

    pub(crate) fn alerts(&self, attempt: AttemptRef) -> Result<Vec<AlertRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT at_ms, level, title, message FROM alerts
             WHERE job_id = ?1 AND attempt = ?2 ORDER BY lane_id, seq LIMIT 1000",
        )?;
        let rows =
            statement.query_map(params![attempt.job.to_string(), attempt.number], |row| {
                Ok(AlertRow {
                    at_ms: unsigned(row.get(0)?)?,
                    level: row.get(1)?,
                    title: row.get(2)?,
                    message: row.get(3)?,
                })
            })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn put_bot_error(
        &self,
        attempt: AttemptRef,
        place: (i64, u64),
        row: &BotErrorRow,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT OR IGNORE INTO bot_errors VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                attempt.job.to_string(),
                attempt.number,
                place.0,
                signed(place.1),
                signed(row.at_ms),
                row.kind,
                row.message,
                row.stack_trace,
                to_json(&row.tags)?
            ],
        )?;
        Ok(())
    }

    pub(crate) fn bot_errors(&self, attempt: AttemptRef) -> Result<Vec<BotErrorRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT at_ms, kind, message, stack_trace, tags FROM bot_errors
             WHERE job_id = ?1 AND attempt = ?2 ORDER BY lane_id, seq LIMIT 1000",
        )?;
        let rows =
            statement.query_map(params![attempt.job.to_string(), attempt.number], |row| {
                Ok(BotErrorRow {
                    at_ms: unsigned(row.get(0)?)?,
                    kind: row.get(1)?,
                    message: row.get(2)?,
                    stack_trace: row.get(3)?,
                    tags: json(&row.get::<_, String>(4)?)?,
                })
            })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn put_gap(
        &self,
        attempt: Option<AttemptRef>,
        place: (i64, u64),
        row: &GapRow,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT OR IGNORE INTO gaps VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                place.0,
                signed(place.1),
                attempt.map(|attempt| attempt.job.to_string()),
                attempt.map(|attempt| attempt.number),
                signed(row.at_ms),
                signed(row.records),
                signed(row.bytes),
                row.unknown,
                row.reason,
                row.source
            ],
        )?;
        Ok(())
    }

    pub(crate) fn gaps(&self, attempt: AttemptRef) -> Result<Vec<GapRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT at_ms, records, bytes, unknown, reason, source FROM gaps
             WHERE job_id = ?1 AND attempt = ?2 ORDER BY lane_id, seq LIMIT 1000",
        )?;
        let rows =
            statement.query_map(params![attempt.job.to_string(), attempt.number], |row| {
                Ok(GapRow {
                    at_ms: unsigned(row.get(0)?)?,
                    records: unsigned(row.get(1)?)?,
                    bytes: unsigned(row.get(2)?)?,
                    unknown: row.get(3)?,
                    reason: row.get(4)?,
                    source: row.get(5)?,
                })
            })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
