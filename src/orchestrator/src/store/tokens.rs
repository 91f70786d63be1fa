//! Join tokens: only the digest of the secret is here.

use order::AgentId;
use rusqlite::{OptionalExtension as _, params};

use super::{Store, StoreError, parsed, signed, unsigned};

/// A join token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenRow {
    pub(crate) agent: AgentId,
    pub(crate) expires_ms: u64,
    /// Digest of the key that used it first.
    pub(crate) spki_sha256: Option<Vec<u8>>,
}

impl Store {
    pub(crate) fn put_token(
        &self,
        secret_sha256: &[u8],
        agent: AgentId,
        expires: u64,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO tokens (secret_sha256, agent_id, expires_ms) VALUES (?1, ?2, ?3)",
            params![secret_sha256, agent.to_string(), signed(expires)],
        )?;
        Ok(())
    }

    pub(crate) fn token(&self, secret_sha256: &[u8]) -> Result<Option<TokenRow>, StoreError> {
        Ok(self
            .connection
            .query_row(
                "SELECT agent_id, expires_ms, spki_sha256 FROM tokens WHERE secret_sha256 = ?1",
                [secret_sha256],
                |row| {
                    Ok(TokenRow {
                        agent: parsed(row.get(0)?)?,
                        expires_ms: unsigned(row.get(1)?)?,
                        spki_sha256: row.get(2)?,
                    })
                },
            )
            .optional()?)
    }

    /// Binds a token to the first key that used it; later calls change nothing.
    pub(crate) fn bind_token(&self, secret_sha256: &[u8], spki: &[u8]) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE tokens SET spki_sha256 = ?2 WHERE secret_sha256 = ?1 AND spki_sha256 IS NULL",
            params![secret_sha256, spki],
        )?;
        Ok(())
    }

    pub(crate) fn forget_tokens(&self, expired_before: u64) -> Result<(), StoreError> {
        self.connection.execute(
            "DELETE FROM tokens WHERE expires_ms < ?1",
            [signed(expired_before)],
        )?;
        Ok(())
    }
}
