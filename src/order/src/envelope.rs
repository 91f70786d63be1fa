//! Signing and checking exact bytes: Ed25519 over a purpose, a length and the body.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::Signer as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// No order or renewal is larger; the largest is an order with all its parameters.
pub const MAX_BODY: usize = 64 * 1024;

/// No result is larger: its artifacts and leftovers are bounded in number and length.
pub const MAX_RESULT: usize = 256 * 1024;

/// What a signature is for: the same bytes signed for one purpose mean nothing for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An order, signed by the orchestrator's order key.
    Order,
    /// A renewal of a lease, signed by the orchestrator's order key.
    Renewal,
    /// The result of a job, signed by the broker.
    Result,
    /// The set of order keys that count, signed by the offline root key.
    KeySet,
}

impl Purpose {
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Order => b"robotd-order-v1\0",
            Self::Renewal => b"robotd-renewal-v1\0",
            Self::Result => b"robotd-result-v1\0",
            Self::KeySet => b"robotd-key-set-v1\0",
        }
    }

    /// Largest body that is signed for this purpose, in bytes.
    pub fn max_body(self) -> usize {
        match self {
            Self::Order | Self::Renewal | Self::KeySet => MAX_BODY,
            Self::Result => MAX_RESULT,
        }
    }

    fn message(self, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u64).to_be_bytes();
        [self.prefix(), &length, body].concat()
    }
}

/// The first 16 hex digits of the SHA-256 of a public key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub String);

impl fmt::Display for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A body with the signature over it, as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The exact bytes that were signed.
    pub body: Vec<u8>,
    /// Which key signed.
    pub key_id: KeyId,
    /// 64 bytes of Ed25519.
    pub signature: Vec<u8>,
}

/// A public key that documents are checked against. 32 bytes, base64 in JSON and TOML.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

/// Why 32 bytes or a text are no usable public key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a public key is 32 bytes of Ed25519 in base64 and not a weak one")]
pub struct NotAKey;

impl VerifyingKey {
    /// From the 32 raw bytes; weak (small-order) keys are refused, anyone can sign for them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAKey> {
        let bytes: &[u8; 32] = bytes.try_into().map_err(|_| NotAKey)?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| NotAKey)?;
        if key.is_weak() {
            Err(NotAKey)
        } else {
            Ok(Self(key))
        }
    }

    /// From base64.
    pub fn from_base64(text: &str) -> Result<Self, NotAKey> {
        Self::from_bytes(&BASE64.decode(text).map_err(|_| NotAKey)?)
    }

    /// The 32 raw bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// As it stands in files.
    pub fn to_base64(self) -> String {
        BASE64.encode(self.to_bytes())
    }

    /// The name by which signatures refer to this key.
    pub fn id(self) -> KeyId {
        let digest = Sha256::digest(self.to_bytes());
        KeyId(
            digest
                .iter()
                .take(8)
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        )
    }

    /// Whether `signed` is exactly what the holder of this key signed for `purpose`.
    /// Strict verification: one signature per body, no other encoding passes.
    pub fn accepts(self, purpose: Purpose, signed: &Signed) -> bool {
        let Ok(signature) = ed25519_dalek::Signature::from_slice(&signed.signature) else {
            return false;
        };
        signed.body.len() <= purpose.max_body()
            && self
                .0
                .verify_strict(&purpose.message(&signed.body), &signature)
                .is_ok()
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "VerifyingKey({})", self.id())
    }
}

impl Serialize for VerifyingKey {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for VerifyingKey {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        Self::from_base64(&text).map_err(serde::de::Error::custom)
    }
}

/// A private key; its memory is cleared when dropped.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// From the system's random source. Errors are the kernel's.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut())?;
        Ok(Self::from_seed(&seed))
    }

    /// From a stored seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The seed, to store in a file that only its owner can read.
    pub fn seed(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key())
    }

    /// Signs `body` for `purpose`.
    pub fn sign(&self, purpose: Purpose, body: Vec<u8>) -> Signed {
        let signature = self.0.sign(&purpose.message(&body)).to_bytes().to_vec();
        Signed {
            body,
            key_id: self.public().id(),
            signature,
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SigningKey({})", self.public().id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_changed_byte_anywhere_is_refused() {
        let key = SigningKey::generate().unwrap();
        let signed = key.sign(Purpose::Order, b"{\"v\":1}".to_vec());
        assert!(key.public().accepts(Purpose::Order, &signed));
        for at in 0..signed.body.len() {
            let mut forged = signed.clone();
            forged.body[at] ^= 1;
            assert!(
                !key.public().accepts(Purpose::Order, &forged),
                "body byte {at}"
            );
        }
        for at in 0..signed.signature.len() {
            let mut forged = signed.clone();
            forged.signature[at] ^= 1;
            assert!(
                !key.public().accepts(Purpose::Order, &forged),
                "signature byte {at}"
            );
        }
    }

    #[test]
    fn a_signature_for_one_purpose_is_none_for_another() {
        let key = SigningKey::generate().unwrap();
        let signed = key.sign(Purpose::Renewal, b"{}".to_vec());
        assert!(!key.public().accepts(Purpose::Order, &signed));
        assert!(!key.public().accepts(Purpose::Result, &signed));
    }

    #[test]
    fn a_weak_key_is_refused() {
        assert_eq!(VerifyingKey::from_bytes(&[0; 32]), Err(NotAKey));
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(VerifyingKey::from_bytes(&identity), Err(NotAKey));
    }
}
