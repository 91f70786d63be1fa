//! The store: all SQL of the program is in this folder and nowhere else.
//!
//! One connection on the core's thread, WAL, `synchronous = FULL`: what
//! [`Store::atomically`] returned has survived a power cut. Callers see typed
//! rows, never statements, because PostgreSQL will stand beside SQLite later.

mod agents;
mod events;
mod jobs;
mod lanes;
mod leases;
mod output;
mod packages;
mod schema;
mod secrets;
mod tokens;

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use crate::refused::Refused;

pub(crate) use agents::AgentRow;
pub(crate) use events::EventFilter;
pub(crate) use jobs::{AttemptRow, JobRow, Rejection};
pub(crate) use lanes::LaneRow;
pub(crate) use leases::LeaseRow;
pub(crate) use output::{AlertRow, ArtifactRow, BotErrorRow, GapRow, ScreenshotRow};
pub(crate) use packages::PackageRow;
pub(crate) use secrets::{SecretName, SecretRow};

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// SQLite refused or failed.
    #[error("the store failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A column holds what this program never writes.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// A rule inside a transaction was broken; nothing was written.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(refused) => refused,
            StoreError::Sqlite(rusqlite::Error::SqliteFailure(failure, _))
                if failure.code == ErrorCode::DiskFull =>
            {
                Self::unavailable(
                    "DISK_FULL",
                    "the store's disk is full; free space, nothing was lost",
                )
            }
            other => Self::unavailable("STORE_FAILED", other.to_string()),
        }
    }
}

/// The open store.
pub(crate) struct Store {
    connection: Connection,
}

impl Store {
    /// Opens or makes `orchestrator.db` in the data directory.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open(data_dir.join("orchestrator.db"))?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        schema::apply(&connection)?;
        Ok(Self { connection })
    }

    /// Runs `work` in one transaction: all of it is durable, or none.
    pub(crate) fn atomically<R>(
        &self,
        work: impl FnOnce() -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let transaction = self.connection.unchecked_transaction()?;
        let made = work()?;
        transaction.commit()?;
        Ok(made)
    }

    /// Grows by one each time that the store is opened: agents see that the server is not the one
    /// that they spoke to, and a restored copy is told apart by its lower number.
    pub(crate) fn next_incarnation(&self) -> Result<u64, StoreError> {
        Ok(self.connection.query_row(
            "UPDATE meta SET value = value + 1 WHERE key = 'incarnation' RETURNING value",
            [],
            |row| unsigned(row.get(0)?),
        )?)
    }
}

/// Unsigned numbers of ours fit SQLite's signed ones; a value beyond them was never written by us.
fn unsigned(value: i64) -> Result<u64, rusqlite::Error> {
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, value))
}

/// Clamped, because some numbers come from agents.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Parses a text column into one of our types.
fn parsed<T: std::str::FromStr>(text: String) -> Result<T, rusqlite::Error> {
    text.parse().map_err(|_| {
        rusqlite::Error::FromSqlConversionFailure(
            0,
            rusqlite::types::Type::Text,
            format!("{text:?} is not what this column holds").into(),
        )
    })
}

/// Parses an optional text column.
fn parsed_option<T: std::str::FromStr>(text: Option<String>) -> Result<Option<T>, rusqlite::Error> {
    text.map(parsed).transpose()
}

/// Reads a JSON column.
fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, rusqlite::Error> {
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
    })
}

/// Writes a JSON column.
fn to_json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_transaction_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let failed: Result<(), _> = store.atomically(|| {
            store.put_pool("default", 3, 0)?;
            Err(StoreError::Damaged("for the test".to_owned()))
        });
        assert!(failed.is_err());
        assert!(store.pools().unwrap().is_empty());
        store
            .atomically(|| store.put_pool("default", 3, 0))
            .unwrap();
        assert_eq!(store.pools().unwrap().len(), 1);
    }

    #[test]
    fn every_opening_is_a_new_incarnation() {
        let dir = tempfile::tempdir().unwrap();
        let first = Store::open(dir.path()).unwrap().next_incarnation().unwrap();
        let second = Store::open(dir.path()).unwrap().next_incarnation().unwrap();
        assert!(second > first);
    }
}
