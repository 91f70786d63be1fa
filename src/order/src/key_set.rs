//! The order keys that hosts accept, signed by an offline root key.
//!
//! A set names all keys that count: what it leaves out counts no more. Its version only grows, so
//! that a set that was taken back can't be brought again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::envelope::{KeyId, Purpose, Signed, VerifyingKey};

/// Most keys of a set, and most revoked ones that it names.
pub const MOST_KEYS: usize = 64;

/// The keys under which orders and renewals count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KeySet {
    /// Version of this document: 1.
    pub v: u32,
    /// Grows with every set; a host takes no lower one.
    pub version: u64,
    /// Keys that count. The orchestrator signs with the first one that it holds.
    pub keys: Vec<OrderKey>,
    /// Keys that must not be trusted any more, by name, so that hosts can say so.
    pub revoked: Vec<KeyId>,
}

/// One key of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OrderKey {
    /// The key.
    pub key: VerifyingKey,
    /// It counts until then, milliseconds since 1970; absent = until a set leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after_unix_ms: Option<u64>,
}

/// Why a set is refused. [`KeySetError::code`] is stable.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeySetError {
    /// Another key than the pinned root signed it.
    #[error("the key set is signed with {0}, which is not the root key that this host pinned")]
    RootUnknown(KeyId),
    /// One byte differs from what was signed.
    #[error("the key set's signature does not match its bytes")]
    SignatureInvalid,
    /// Not strict JSON of version 1, or keys that can't be meant.
    #[error("the key set can't be used: {0}")]
    Malformed(String),
}

impl KeySetError {
    /// Stable code, UPPER_SNAKE_CASE.
    pub fn code(&self) -> &'static str {
        match self {
            Self::RootUnknown(_) => "KEY_SET_ROOT_UNKNOWN",
            Self::SignatureInvalid => "KEY_SET_SIGNATURE_INVALID",
            Self::Malformed(_) => "KEY_SET_MALFORMED",
        }
    }
}

impl KeySet {
    /// Reads a set that `root` signed. Whether it is newer than another is its keeper's matter.
    pub fn verify(signed: &Signed, root: VerifyingKey) -> Result<Self, KeySetError> {
        if signed.key_id != root.id() {
            return Err(KeySetError::RootUnknown(signed.key_id.clone()));
        }
        if !root.accepts(Purpose::KeySet, signed) {
            return Err(KeySetError::SignatureInvalid);
        }
        let set: Self = serde_json::from_slice(&signed.body)
            .map_err(|error| KeySetError::Malformed(error.to_string()))?;
        set.check().map(|()| set)
    }

    /// What can't be meant.
    pub fn check(&self) -> Result<(), KeySetError> {
        let wrong = |reason: &str| Err(KeySetError::Malformed(reason.to_owned()));
        if self.v != 1 || self.version == 0 {
            return wrong("its v is 1 and its version at least 1");
        }
        if self.keys.is_empty() {
            return wrong("it names no key: no order would ever count again");
        }
        if self.keys.len().max(self.revoked.len()) > MOST_KEYS {
            return wrong("it names too many keys");
        }
        let mut ids: Vec<KeyId> = self.keys.iter().map(|known| known.key.id()).collect();
        ids.sort();
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return wrong("a key stands twice");
        }
        if self.revoked.iter().any(|id| ids.contains(id)) {
            return wrong("a key is listed and revoked");
        }
        Ok(())
    }
}

/// A signed document as it stands in a file that people carry: its body is readable.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Carried {
    body: String,
    key_id: KeyId,
    signature: String,
}

impl Signed {
    /// As a file for people to carry. The body is JSON, so UTF-8.
    pub fn to_file(&self) -> String {
        let carried = Carried {
            body: String::from_utf8_lossy(&self.body).into_owned(),
            key_id: self.key_id.clone(),
            signature: BASE64.encode(&self.signature),
        };
        serde_json::to_string_pretty(&carried).unwrap_or_default() + "\n"
    }

    /// Reads such a file; nothing of it is checked yet.
    pub fn from_file(text: &[u8]) -> Option<Self> {
        let carried: Carried = serde_json::from_slice(text).ok()?;
        Some(Self {
            body: carried.body.into_bytes(),
            key_id: carried.key_id,
            signature: BASE64.decode(carried.signature).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::SigningKey;

    fn set(version: u64, keys: &[VerifyingKey]) -> KeySet {
        let keys = keys.iter().map(|key| OrderKey {
            key: *key,
            not_after_unix_ms: None,
        });
        KeySet {
            v: 1,
            version,
            keys: keys.collect(),
            revoked: vec![],
        }
    }

    fn sign(root: &SigningKey, set: &KeySet) -> Signed {
        root.sign(Purpose::KeySet, serde_json::to_vec(set).unwrap())
    }

    #[test]
    fn a_set_counts_only_with_the_roots_signature_over_its_exact_bytes() {
        let (root, other) = (
            SigningKey::generate().unwrap(),
            SigningKey::generate().unwrap(),
        );
        let set = set(1, &[other.public()]);
        let signed = sign(&root, &set);
        assert_eq!(KeySet::verify(&signed, root.public()), Ok(set.clone()));
        let code = |signed: &Signed| KeySet::verify(signed, root.public()).unwrap_err().code();
        for at in 0..signed.body.len() {
            let mut forged = signed.clone();
            forged.body[at] ^= 1;
            assert_eq!(code(&forged), "KEY_SET_SIGNATURE_INVALID");
        }
        assert_eq!(code(&sign(&other, &set)), "KEY_SET_ROOT_UNKNOWN");
        let renamed = Signed {
            key_id: root.public().id(),
            ..sign(&other, &set)
        };
        assert_eq!(code(&renamed), "KEY_SET_SIGNATURE_INVALID");
        // What the root signed for another purpose is no set.
        let order = root.sign(Purpose::Order, signed.body.clone());
        assert_eq!(code(&order), "KEY_SET_SIGNATURE_INVALID");
    }

    #[test]
    fn a_set_that_can_not_be_meant_is_refused() {
        let root = SigningKey::generate().unwrap();
        let key = root.public();
        let mut wrong = vec![
            set(0, &[key]),
            set(1, &[]),
            set(1, &[key, key]),
            set(2, &[key]),
        ];
        wrong[3].revoked = vec![key.id()];
        for set in wrong {
            let refused = KeySet::verify(&sign(&root, &set), key).unwrap_err();
            assert_eq!(refused.code(), "KEY_SET_MALFORMED", "{set:?}");
        }
        let garbage = root.sign(Purpose::KeySet, b"{\"v\":1,\"more\":2}".to_vec());
        assert!(KeySet::verify(&garbage, key).is_err());
    }

    #[test]
    fn a_carried_file_comes_back_byte_for_byte() {
        let root = SigningKey::generate().unwrap();
        let signed = sign(&root, &set(3, &[root.public()]));
        assert_eq!(Signed::from_file(signed.to_file().as_bytes()), Some(signed));
        assert_eq!(Signed::from_file(b"{}"), None);
    }
}
