//! Packages that were pushed.

use order::Sha256Hex;
use rusqlite::{OptionalExtension as _, Row, params};

use super::{Store, StoreError, parsed, signed, unsigned};

/// One package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackageRow {
    pub(crate) sha256: Sha256Hex,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) entry: String,
    /// Key id of its signature; absent when unsigned.
    pub(crate) publisher: Option<String>,
    pub(crate) bytes: u64,
    pub(crate) pushed_ms: u64,
}

fn read(row: &Row<'_>) -> Result<PackageRow, rusqlite::Error> {
    Ok(PackageRow {
        sha256: parsed(row.get(0)?)?,
        name: row.get(1)?,
        version: row.get(2)?,
        entry: row.get(3)?,
        publisher: row.get(4)?,
        bytes: unsigned(row.get(5)?)?,
        pushed_ms: unsigned(row.get(6)?)?,
    })
}

const COLUMNS: &str = "sha256, name, version, entry, publisher, bytes, pushed_ms";

impl Store {
    /// Pushing the same bytes again makes them the newest of their name.
    pub(crate) fn put_package(&self, package: &PackageRow) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO packages (sha256, name, version, entry, publisher, bytes, pushed_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (sha256) DO UPDATE SET pushed_ms = excluded.pushed_ms",
            params![
                package.sha256.to_string(),
                package.name,
                package.version,
                package.entry,
                package.publisher,
                signed(package.bytes),
                signed(package.pushed_ms)
            ],
        )?;
        Ok(())
    }

    pub(crate) fn package(&self, sha256: Sha256Hex) -> Result<Option<PackageRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM packages WHERE sha256 = ?1");
        Ok(self
            .connection
            .query_row(&sql, [sha256.to_string()], read)
            .optional()?)
    }

    /// The package of that name that was pushed last.
    pub(crate) fn newest_package(&self, name: &str) -> Result<Option<PackageRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM packages WHERE name = ?1 ORDER BY pushed_ms DESC, rowid DESC LIMIT 1"
        );
        Ok(self.connection.query_row(&sql, [name], read).optional()?)
    }

    pub(crate) fn packages(&self) -> Result<Vec<PackageRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM packages ORDER BY name, pushed_ms");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map([], read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
