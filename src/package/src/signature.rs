//! A publisher's signature over a manifest, and the public keys that check it.
//!
//! The signature covers `"robotd-package-v1\0"`, the length of the manifest as eight big-endian
//! bytes, and the manifest. Since the manifest pins every file, it covers the whole package.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::pkcs8::{DecodePublicKey, EncodePublicKey, spki::der::pem::LineEnding};
use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::digest::Digest;

/// Keeps a package signature from being valid for anything else that is signed in this system.
const DOMAIN: &[u8] = b"robotd-package-v1\0";
/// A signature file has 139 bytes; the rest is room for a reader that counts before it parses.
pub(crate) const MAX_SIGNATURE_BYTES: u64 = 1024;
const KEY_ID_DIGITS: usize = 16;

/// The bytes that are signed.
pub(crate) fn signed_bytes(manifest: &[u8]) -> Vec<u8> {
    let length = (manifest.len() as u64).to_be_bytes();
    [DOMAIN, &length, manifest].concat()
}

/// Short name of a public key: the first 16 hexadecimal digits of its SHA-256.
///
/// It only selects a key among trusted ones. Two keys may share it; trust never follows from it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// Reads 16 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// On anything else.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match text.len() == KEY_ID_DIGITS && text.bytes().all(digit) {
            true => Ok(Self(text.to_owned())),
            false => Err(KeyError::Id),
        }
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A publisher's Ed25519 public key. Keys of small order, for which forgeries exist, can't be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads the 32 raw bytes.
    ///
    /// # Errors
    /// When they are no point of the curve, or a weak one.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        Self::strong(VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::Point)?)
    }

    /// Reads a `PUBLIC KEY` PEM block.
    ///
    /// # Errors
    /// When the text is no Ed25519 public key, or a weak one.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        Self::strong(VerifyingKey::from_public_key_pem(pem).map_err(|_| KeyError::Pem)?)
    }

    fn strong(key: VerifyingKey) -> Result<Self, KeyError> {
        match key.is_weak() {
            true => Err(KeyError::Weak),
            false => Ok(Self(key)),
        }
    }

    /// A `PUBLIC KEY` PEM block.
    ///
    /// # Errors
    /// When the encoder refuses, which it does for no valid key.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        self.0
            .to_public_key_pem(LineEnding::LF)
            .map_err(|_| KeyError::Pem)
    }

    /// The 32 raw bytes.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The short name of this key.
    pub fn key_id(&self) -> KeyId {
        let digest = Digest::of(self.0.as_bytes()).to_string();
        KeyId(digest[..KEY_ID_DIGITS].to_owned())
    }

    #[cfg(feature = "signing")]
    pub(crate) fn of_private(key: &ed25519_dalek::SigningKey) -> Self {
        Self(key.verifying_key())
    }
}

/// The contents of `manifest.sig`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    key_id: KeyId,
    signature: ed25519_dalek::Signature,
}

/// The JSON as written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    key_id: String,
    signature: String,
}

impl Signature {
    #[cfg(feature = "signing")]
    pub(crate) fn new(key_id: KeyId, signature: ed25519_dalek::Signature) -> Self {
        Self { key_id, signature }
    }

    /// Reads `manifest.sig`, which like the manifest has one spelling.
    ///
    /// # Errors
    /// When it is not the strict JSON of a signature.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignatureError> {
        if bytes.len() as u64 > MAX_SIGNATURE_BYTES {
            return Err(SignatureError::Malformed);
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(|_| SignatureError::Malformed)?;
        let key_id = KeyId::parse(&raw.key_id).map_err(|_| SignatureError::Malformed)?;
        let signature = STANDARD
            .decode(&raw.signature)
            .map_err(|_| SignatureError::Malformed)?;
        let signature = ed25519_dalek::Signature::from_slice(&signature)
            .map_err(|_| SignatureError::Malformed)?;
        let parsed = Self { key_id, signature };
        match parsed.encode() == bytes {
            true => Ok(parsed),
            false => Err(SignatureError::Malformed),
        }
    }

    /// The bytes of `manifest.sig`. Both values are plain ASCII, so nothing needs escaping.
    pub fn encode(&self) -> Vec<u8> {
        let signature = STANDARD.encode(self.signature.to_bytes());
        format!(
            r#"{{"key_id":"{}","signature":"{signature}"}}"#,
            self.key_id
        )
        .into_bytes()
    }

    /// The key that the signer says to have used.
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// Checks the signature over the bytes of a manifest.
    ///
    /// # Errors
    /// When it was made with another key or over other bytes.
    pub fn verify(&self, manifest: &[u8], key: &PublicKey) -> Result<(), SignatureError> {
        if key.key_id() != self.key_id {
            return Err(SignatureError::UnknownPublisher {
                key_id: self.key_id.clone(),
            });
        }
        key.0
            .verify_strict(&signed_bytes(manifest), &self.signature)
            .map_err(|_| SignatureError::Invalid {
                key_id: self.key_id.clone(),
            })
    }
}

/// Finds the trusted key that signed the manifest.
///
/// # Errors
/// When there is no signature, none of `trusted` made it, or it does not verify.
pub fn verify_any<'a>(
    manifest: &[u8],
    signature: Option<&Signature>,
    trusted: &'a [PublicKey],
) -> Result<&'a PublicKey, SignatureError> {
    let signature = signature.ok_or(SignatureError::Missing)?;
    let mut outcome = Err(SignatureError::UnknownPublisher {
        key_id: signature.key_id.clone(),
    });
    for key in trusted
        .iter()
        .filter(|key| key.key_id() == signature.key_id)
    {
        match signature.verify(manifest, key) {
            Ok(()) => return Ok(key),
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

/// A signature that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is none.
    #[error("the package is not signed; sign it with a publisher's key that this host trusts")]
    Missing,
    /// Not the strict JSON of a signature.
    #[error("manifest.sig is not a signature file; pack and sign again")]
    Malformed,
    /// Made with a key that is not trusted here.
    #[error("signed with key {key_id}, which is not a trusted publisher's key")]
    UnknownPublisher {
        /// The key that the signer says to have used.
        key_id: KeyId,
    },
    /// Does not belong to this manifest.
    #[error("the signature of key {key_id} does not match manifest.json; the package was altered")]
    Invalid {
        /// The key that the signer says to have used.
        key_id: KeyId,
    },
}

impl SignatureError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Missing => Code::SignatureMissing,
            Self::Malformed | Self::Invalid { .. } => Code::SignatureInvalid,
            Self::UnknownPublisher { .. } => Code::PublisherUnknown,
        }
    }
}

/// A public key that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a key id.
    #[error("a key id has 16 lower-case hexadecimal digits")]
    Id,
    /// Not a point of the curve.
    #[error("the 32 bytes are not an Ed25519 public key")]
    Point,
    /// Not the right PEM block.
    #[error("not an Ed25519 key in a PEM block \"PUBLIC KEY\"")]
    Pem,
    /// A key for which anybody can make signatures.
    #[error("the key is of small order, so its signatures prove nothing; make a new one")]
    Weak,
}

impl KeyError {
    /// The stable code.
    pub fn code(&self) -> Code {
        Code::KeyInvalid
    }
}

#[cfg(all(test, feature = "signing"))]
mod tests;
