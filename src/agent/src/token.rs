//! The token file of `robotctl enroll`: how a host meets its orchestrator for the first time.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use order::{AgentId, Sha256Hex, VerifyingKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// No token is larger.
pub const MAX_BYTES: usize = 16 * 1024;

/// A one-time token, as `robot-orchestrator token create` writes it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Version of this document: 1.
    pub v: u32,
    /// Who this host will be.
    pub agent_id: AgentId,
    /// How people call it.
    pub agent_name: String,
    /// Where the link goes, `https://HOST:PORT`.
    pub link_url: String,
    /// Where to enrol, `https://HOST:PORT`.
    pub enroll_url: String,
    /// SHA-256 over the root certificate's DER: the first contact is authenticated by it.
    pub root_sha256: Sha256Hex,
    /// 32 bytes in base64; works once.
    pub secret: String,
    /// Key under which orders are signed, to be pinned by root.
    pub order_key: VerifyingKey,
    /// Key that signs later sets of order keys, to be pinned by root; absent = there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_key: Option<VerifyingKey>,
    /// Not usable later.
    pub expires_unix_ms: u64,
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Token")
            .field("agent_id", &self.agent_id)
            .field("enroll_url", &self.enroll_url)
            .finish_non_exhaustive()
    }
}

/// Why a text is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Too large.
    #[error("a token has at most {MAX_BYTES} bytes, this has {0}")]
    TooLarge(usize),
    /// Not strict JSON of the known fields. The text itself is never shown.
    #[error(
        "this is no token file (line {line}, column {column}); make a new one with `robot-orchestrator token create`"
    )]
    Syntax {
        /// Where.
        line: usize,
        /// Where in it.
        column: usize,
    },
    /// A field that can't be.
    #[error("{field} of the token {rule}; make a new one with `robot-orchestrator token create`")]
    Field {
        /// Which.
        field: &'static str,
        /// What it breaks.
        rule: &'static str,
    },
    /// Too old.
    #[error("the token has expired; make a new one with `robot-orchestrator token create`")]
    Expired,
}

impl TokenError {
    /// Stable code, UPPER_SNAKE_CASE.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Expired => "TOKEN_EXPIRED",
            _ => "TOKEN_MALFORMED",
        }
    }
}

impl Token {
    /// Reads and checks a token.
    ///
    /// # Errors
    ///
    /// See [`TokenError`].
    pub fn parse(bytes: &[u8], now_unix_ms: u64) -> Result<Self, TokenError> {
        if bytes.len() > MAX_BYTES {
            return Err(TokenError::TooLarge(bytes.len()));
        }
        let token: Self = serde_json::from_slice(bytes).map_err(|error| TokenError::Syntax {
            line: error.line(),
            column: error.column(),
        })?;
        token.check(now_unix_ms)?;
        Ok(token)
    }

    /// What a token must be, wherever it comes from.
    ///
    /// # Errors
    ///
    /// See [`TokenError`].
    pub fn check(&self, now_unix_ms: u64) -> Result<(), TokenError> {
        let broken = |field, rule| Err(TokenError::Field { field, rule });
        if self.v != 1 {
            return broken("v", "is not 1: it was made by another version");
        }
        if self.agent_name.is_empty()
            || self.agent_name.len() > 128
            || self.agent_name.chars().any(char::is_control)
        {
            return broken(
                "agent_name",
                "must have 1 to 128 bytes without control characters",
            );
        }
        if !is_url(&self.link_url) {
            return broken("link_url", "must be https://HOST:PORT");
        }
        if !is_url(&self.enroll_url) {
            return broken("enroll_url", "must be https://HOST:PORT");
        }
        if self.secret_bytes().is_none() {
            return broken("secret", "must be 32 bytes in base64");
        }
        if now_unix_ms >= self.expires_unix_ms {
            return Err(TokenError::Expired);
        }
        Ok(())
    }

    /// The secret itself.
    #[must_use]
    pub fn secret_bytes(&self) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = Zeroizing::new(BASE64.decode(&self.secret).ok()?);
        (bytes.len() == 32).then_some(bytes)
    }
}

/// `https`, a host, a port and nothing more.
fn is_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else {
        return false;
    };
    let bare = uri.path() == "/" && uri.query().is_none();
    let user = uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'));
    uri.scheme_str() == Some("https")
        && uri.host().is_some_and(|host| !host.is_empty())
        && uri.port_u16().is_some()
        && bare
        && !user
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> serde_json::Value {
        serde_json::json!({
            "v": 1,
            "agent_id": AgentId::new(),
            "agent_name": "host-1",
            "link_url": "https://orchestrator.example:7443",
            "enroll_url": "https://orchestrator.example:7444",
            "root_sha256": "ab".repeat(32),
            "secret": BASE64.encode([7; 32]),
            "order_key": order::SigningKey::generate().unwrap().public(),
            "expires_unix_ms": 1000,
        })
    }

    fn parse(value: &serde_json::Value, now: u64) -> Result<Token, TokenError> {
        Token::parse(value.to_string().as_bytes(), now)
    }

    #[test]
    fn a_token_is_read_until_it_expires() {
        assert!(parse(&token(), 999).is_ok());
        assert_eq!(parse(&token(), 1000).unwrap_err().code(), "TOKEN_EXPIRED");
    }

    #[test]
    fn every_field_is_checked_and_unknown_ones_are_refused() {
        for (field, wrong) in [
            ("v", serde_json::json!(2)),
            ("agent_id", serde_json::json!("x")),
            ("agent_name", serde_json::json!("")),
            ("link_url", serde_json::json!("http://orchestrator:1")),
            ("link_url", serde_json::json!("https://orchestrator")),
            ("enroll_url", serde_json::json!("https://a@b:1")),
            ("enroll_url", serde_json::json!("https://b:1/path")),
            ("root_sha256", serde_json::json!("AB".repeat(32))),
            ("secret", serde_json::json!("c2hvcnQ=")),
            ("order_key", serde_json::json!("AAAA")),
            ("more", serde_json::json!(1)),
        ] {
            let mut value = token();
            value[field] = wrong;
            assert_eq!(
                parse(&value, 0).unwrap_err().code(),
                "TOKEN_MALFORMED",
                "{field}"
            );
        }
    }

    #[test]
    fn neither_errors_nor_debug_show_the_secret() {
        let mut value = token();
        let token = parse(&value, 0).unwrap();
        assert!(!format!("{token:?}").contains(&token.secret));
        value["secret"] = serde_json::json!("hunter2");
        assert!(
            !parse(&value, 0)
                .unwrap_err()
                .to_string()
                .contains("hunter2")
        );
    }
}
