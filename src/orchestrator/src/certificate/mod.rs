//! The certificate of a job: the signed order and the broker's signed result in one file, and what
//! the two prove together. Whoever has the file and the two public keys can check it without this
//! server.
//!
//! Times are the host's, by its wall clock: they are compared with each other only.

mod statements;

#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use order::{JobResult, KeyId, Order, Purpose, Signed, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::refused::Refused;

pub(crate) use statements::Statement;

/// What stands in the first field.
const FORMAT: &str = "robotd-certificate-v1";
/// An order and a result, both in base64, are no longer.
pub(crate) const MAX_FILE: u64 = 4 << 20;

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Certificate {
    format: String,
    /// Name of the agent at the orchestrator, for people: nobody signed it.
    pub(crate) agent: String,
    order: Document,
    result: Document,
}

/// A signed document and the key that is said to have signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Document {
    /// The exact bytes, base64.
    body: String,
    /// 64 bytes of Ed25519, base64.
    signature: String,
    /// 32 bytes, base64. Believed only when the reader knows it from elsewhere.
    key: VerifyingKey,
}

/// The keys that the reader trusts; none = those in the file, which are then printed to compare.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trusted {
    pub(crate) order: Option<VerifyingKey>,
    pub(crate) result: Option<VerifyingKey>,
}

/// What a certificate that can be read says.
#[derive(Debug)]
pub(crate) struct Examined {
    pub(crate) order: Order,
    pub(crate) result: JobResult,
    pub(crate) statements: Vec<Statement>,
}

impl Document {
    fn new(signed: &Signed, key: VerifyingKey) -> Self {
        Self {
            body: BASE64.encode(&signed.body),
            signature: BASE64.encode(&signed.signature),
            key,
        }
    }

    fn signed(&self, what: &str) -> Result<Signed, Refused> {
        let part = |text: &str| {
            BASE64
                .decode(text)
                .map_err(|_| malformed(&format!("the {what} is not base64")))
        };
        Ok(Signed {
            body: part(&self.body)?,
            key_id: self.key_id(),
            signature: part(&self.signature)?,
        })
    }

    fn key_id(&self) -> KeyId {
        self.key.id()
    }

    /// Whether the trusted key, or the file's own, signed exactly this.
    fn proven(&self, purpose: Purpose, signed: &Signed, trusted: Option<VerifyingKey>) -> bool {
        trusted.unwrap_or(self.key).accepts(purpose, signed)
    }
}

impl Certificate {
    /// Of an attempt whose result is in.
    pub(crate) fn new(
        agent: &str,
        order: (&Signed, VerifyingKey),
        result: (&Signed, VerifyingKey),
    ) -> Self {
        Self {
            format: FORMAT.to_owned(),
            agent: agent.to_owned(),
            order: Document::new(order.0, order.1),
            result: Document::new(result.0, result.1),
        }
    }

    pub(crate) fn parse(text: &[u8]) -> Result<Self, Refused> {
        let own: Self =
            serde_json::from_slice(text).map_err(|error| malformed(&error.to_string()))?;
        if own.format != FORMAT {
            return Err(malformed(&format!("its format is not {FORMAT}")));
        }
        Ok(own)
    }

    /// Reads both documents and says what holds.
    pub(crate) fn examine(&self, trusted: Trusted) -> Result<Examined, Refused> {
        let (order, result) = (self.order.signed("order")?, self.result.signed("result")?);
        let proof = statements::Proof {
            order: (
                self.order.proven(Purpose::Order, &order, trusted.order),
                self.order.key_id(),
            ),
            result: (
                self.result.proven(Purpose::Result, &result, trusted.result),
                self.result.key_id(),
            ),
        };
        let read = |what: &str, error: serde_json::Error| {
            malformed(&format!("its {what} can't be read: {error}"))
        };
        let order_read: Order =
            serde_json::from_slice(&order.body).map_err(|error| read("order", error))?;
        let result: JobResult =
            serde_json::from_slice(&result.body).map_err(|error| read("result", error))?;
        let statements = statements::statements(&proof, &order.body, &order_read, &result);
        Ok(Examined {
            order: order_read,
            result,
            statements,
        })
    }
}

fn malformed(why: &str) -> Refused {
    Refused::invalid(
        "CERTIFICATE_MALFORMED",
        format!("this is no certificate of a job: {why}"),
    )
}
