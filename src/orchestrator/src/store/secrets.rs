//! Secrets, encrypted.

use rusqlite::{OptionalExtension as _, params};

use super::{Store, StoreError, signed, unsigned};
use crate::vault::Locked;

/// A secret as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct SecretRow {
    pub(crate) version: u64,
    pub(crate) locked: Locked,
}

/// What may be said of a secret in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretName {
    pub(crate) name: String,
    pub(crate) version: u64,
    pub(crate) updated_ms: u64,
}

impl Store {
    pub(crate) fn secret(&self, name: &str) -> Result<Option<SecretRow>, StoreError> {
        Ok(self
            .connection
            .query_row(
                "SELECT version, nonce, ciphertext FROM secrets WHERE name = ?1",
                [name],
                |row| {
                    Ok(SecretRow {
                        version: unsigned(row.get(0)?)?,
                        locked: Locked {
                            nonce: row.get(1)?,
                            ciphertext: row.get(2)?,
                        },
                    })
                },
            )
            .optional()?)
    }

    pub(crate) fn put_secret(
        &self,
        name: &str,
        row: &SecretRow,
        now: u64,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO secrets (name, version, nonce, ciphertext, updated_ms) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (name) DO UPDATE SET version = excluded.version, nonce = excluded.nonce,
               ciphertext = excluded.ciphertext, updated_ms = excluded.updated_ms",
            params![
                name,
                signed(row.version),
                row.locked.nonce,
                row.locked.ciphertext,
                signed(now)
            ],
        )?;
        Ok(())
    }

    pub(crate) fn delete_secret(&self, name: &str) -> Result<bool, StoreError> {
        let gone = self
            .connection
            .execute("DELETE FROM secrets WHERE name = ?1", [name])?;
        Ok(gone > 0)
    }

    pub(crate) fn secret_names(&self) -> Result<Vec<SecretName>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT name, version, updated_ms FROM secrets ORDER BY name")?;
        let rows = statement.query_map([], |row| {
            Ok(SecretName {
                name: row.get(0)?,
                version: unsigned(row.get(1)?)?,
                updated_ms: unsigned(row.get(2)?)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
