//! Secrets: encrypted at rest, sealed to one broker on the way out.
//!
//! At rest AES-256-GCM under a key that lies beside the data directory, so that a
//! copy of the data directory alone opens nothing. On the way out HPKE (RFC 9180,
//! base mode), so that robotd carries what it can't read.

use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, OpModeS, Serializable as _};
use zeroize::Zeroizing;

use crate::durable;
use crate::refused::Refused;

/// Domain separation of the seal; the broker opens with the same.
pub(crate) const SEAL_INFO: &[u8] = b"robotd-secret-v1";
/// Largest secret: a key file or a certificate with its chain.
pub(crate) const MAX_SECRET: usize = 64 << 10;

/// Encrypts and decrypts what is stored.
pub(crate) struct Vault(LessSafeKey);

/// A secret at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Locked {
    pub(crate) nonce: Vec<u8>,
    pub(crate) ciphertext: Vec<u8>,
}

/// A secret on its way: HPKE's encapsulated key and ciphertext.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    pub(crate) encapsulated_key: Vec<u8>,
    pub(crate) ciphertext: Vec<u8>,
}

fn broken(what: &str) -> Refused {
    Refused::unavailable("SECRET_UNREADABLE", what)
}

impl Vault {
    /// Reads the key, or makes one at first start.
    pub(crate) fn open(path: &Path) -> Result<Self, Refused> {
        let key = match durable::read_private(path)? {
            Some(key) => key,
            None => {
                let mut key = Zeroizing::new(vec![0; 32]);
                getrandom::fill(&mut key).map_err(|_| broken("the system gave no random bytes"))?;
                durable::write_private(path, &key)?;
                key
            }
        };
        let key = UnboundKey::new(&AES_256_GCM, &key).map_err(|_| {
            Refused::state(
                "SECRETS_KEY_INVALID",
                format!("{} must hold exactly 32 bytes", path.display()),
            )
        })?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// The name and version are bound in: a row moved to another name does not open.
    pub(crate) fn lock(&self, name: &str, version: u64, plain: &[u8]) -> Result<Locked, Refused> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| broken("the system gave no random bytes"))?;
        let mut bytes = plain.to_vec();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(bound(name, version)),
                &mut bytes,
            )
            .map_err(|_| broken("the secret can't be encrypted"))?;
        Ok(Locked {
            nonce: nonce.to_vec(),
            ciphertext: bytes,
        })
    }

    pub(crate) fn unlock(
        &self,
        name: &str,
        version: u64,
        locked: &Locked,
    ) -> Result<Zeroizing<Vec<u8>>, Refused> {
        let wrong = || {
            broken(
                "the secret was encrypted with another key; restore the key file or set the secret again",
            )
        };
        let nonce = Nonce::try_assume_unique_for_key(&locked.nonce).map_err(|_| wrong())?;
        let mut bytes = Zeroizing::new(locked.ciphertext.clone());
        let length = self
            .0
            .open_in_place(nonce, Aad::from(bound(name, version)), &mut bytes)
            .map_err(|_| wrong())?
            .len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

fn bound(name: &str, version: u64) -> Vec<u8> {
    format!("robotd-secret-at-rest-v1\0{name}\0{version}").into_bytes()
}

/// Whether 32 bytes can be a broker's public key.
pub(crate) fn is_secret_key(bytes: &[u8]) -> bool {
    <X25519HkdfSha256 as hpke::Kem>::PublicKey::from_bytes(bytes).is_ok()
        && bytes.iter().any(|byte| *byte != 0)
}

/// Seals to a broker's public key.
pub(crate) fn seal(public: &[u8], plain: &[u8], aad: &[u8]) -> Result<Sealed, Refused> {
    let unusable = |_| {
        Refused::state(
            "BROKER_KEY_INVALID",
            "the agent's broker has no usable key for secrets; enrol it again",
        )
    };
    let public =
        <X25519HkdfSha256 as hpke::Kem>::PublicKey::from_bytes(public).map_err(unusable)?;
    let (encapsulated, ciphertext) = hpke::single_shot_seal::<
        ChaCha20Poly1305,
        HkdfSha256,
        X25519HkdfSha256,
    >(&OpModeS::Base, &public, SEAL_INFO, plain, aad)
    .map_err(unusable)?;
    Ok(Sealed {
        encapsulated_key: encapsulated.to_bytes().to_vec(),
        ciphertext,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_under_its_own_name_and_version_only() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(&dir.path().join("key")).unwrap();
        let locked = vault.lock("erp", 3, b"hunter2").unwrap();
        assert_eq!(
            vault.unlock("erp", 3, &locked).unwrap().as_slice(),
            b"hunter2"
        );
        assert!(vault.unlock("crm", 3, &locked).is_err());
        assert!(vault.unlock("erp", 4, &locked).is_err());
        let other = Vault::open(&dir.path().join("other")).unwrap();
        assert!(other.unlock("erp", 3, &locked).is_err());
    }

    #[test]
    fn a_sealed_secret_opens_for_the_broker_under_its_attempt_only() {
        let (private, public) = <X25519HkdfSha256 as hpke::Kem>::gen_keypair();
        let sealed = seal(&public.to_bytes(), b"hunter2", b"attempt 1").unwrap();
        let open = |aad: &[u8]| {
            let key =
                <X25519HkdfSha256 as hpke::Kem>::EncappedKey::from_bytes(&sealed.encapsulated_key)
                    .unwrap();
            hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
                &hpke::OpModeR::Base,
                &private,
                &key,
                SEAL_INFO,
                &sealed.ciphertext,
                aad,
            )
        };
        assert_eq!(open(b"attempt 1").unwrap(), b"hunter2");
        assert!(open(b"attempt 2").is_err());
    }
}
