//! The broker's own keys: one signs results, one opens secrets. Made on the host at first start,
//! never sent; their public halves travel in the enrolment.

use std::fs::{DirBuilder, File};
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem as _, OpModeR, Serializable as _, single_shot_open};
use order::{AttemptRef, Purpose, Signed, SigningKey};
use privsep::Refusal;
use zeroize::Zeroizing;

/// Names the sealed format; the orchestrator uses the same.
const SECRET_INFO: &[u8] = b"robotd-secret-v1";

type SecretKey = <X25519HkdfSha256 as hpke::Kem>::PrivateKey;

/// Why the keys can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// A key file can't be made or read.
    #[error("key file {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A key file that others can read, or of another size.
    #[error(
        "key file {0} must be 32 bytes, owned by root, mode 0600; restore it or remove it and enrol again"
    )]
    Untrusted(PathBuf),
    /// A new key can't be written.
    #[error(transparent)]
    Write(#[from] crate::record::RecordError),
    /// No randomness.
    #[error("no random bytes from the kernel: {0}")]
    Random(getrandom::Error),
}

/// Both keys.
pub(crate) struct Keys {
    result: SigningKey,
    secret: SecretKey,
}

impl Keys {
    /// Loads the keys below `state`, making those that are missing.
    pub(crate) fn load_or_make(state: &Path) -> Result<Self, KeyError> {
        let directory = state.join("keys");
        let made = DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&directory);
        made.map_err(|source| KeyError::File {
            path: directory.clone(),
            source,
        })?;
        let result = seed(&directory.join("result.key"))?;
        let secret = seed(&directory.join("secret.key"))?;
        let (secret, _) = X25519HkdfSha256::derive_keypair(secret.as_ref());
        Ok(Self {
            result: SigningKey::from_seed(&result),
            secret,
        })
    }

    /// Public key that results are checked with.
    pub(crate) fn result_public(&self) -> [u8; 32] {
        self.result.public().to_bytes()
    }

    /// Public key that secrets are sealed to.
    pub(crate) fn secret_public(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(&X25519HkdfSha256::sk_to_pk(&self.secret).to_bytes());
        bytes
    }

    /// Signs the result of a job.
    pub(crate) fn sign_result(&self, body: Vec<u8>) -> Signed {
        self.result.sign(Purpose::Result, body)
    }

    /// Opens a secret that was sealed for `name` of `attempt`.
    pub(crate) fn open_secret(
        &self,
        attempt: &AttemptRef,
        name: &str,
        encapsulated_key: &[u8],
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let refuse = || {
            let detail = format!("secret {name:?} was not sealed for this attempt on this host");
            Refusal::new("SECRET_SEAL_INVALID", detail)
        };
        let encapsulated =
            <X25519HkdfSha256 as hpke::Kem>::EncappedKey::from_bytes(encapsulated_key);
        let opened = single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.secret,
            &encapsulated.map_err(|_| refuse())?,
            SECRET_INFO,
            ciphertext,
            &order::secret_aad(attempt, name),
        );
        opened.map(Zeroizing::new).map_err(|_| refuse())
    }
}

/// The 32 bytes of a key file, made when it is missing.
fn seed(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let failed = |source| KeyError::File {
        path: path.to_owned(),
        source,
    };
    match File::options()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path)
    {
        Ok(file) => read_seed(file, path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make_seed(path),
        Err(source) => Err(failed(source)),
    }
}

fn read_seed(mut file: File, path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let failed = |source| KeyError::File {
        path: path.to_owned(),
        source,
    };
    let facts = file.metadata().map_err(failed)?;
    let alone =
        facts.is_file() && facts.nlink() == 1 && facts.uid() == 0 && facts.mode() & 0o077 == 0;
    if !alone || facts.len() != 32 {
        return Err(KeyError::Untrusted(path.to_owned()));
    }
    let mut bytes = Zeroizing::new([0; 32]);
    file.read_exact(bytes.as_mut()).map_err(failed)?;
    Ok(bytes)
}

/// Written under another name first: a key that was half written is never taken for one.
fn make_seed(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).map_err(KeyError::Random)?;
    crate::record::write_whole(path, bytes.as_ref())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use hpke::{OpModeS, single_shot_seal};
    use order::JobId;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn seal(keys: &Keys, attempt: &AttemptRef, name: &str, value: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let public =
            <X25519HkdfSha256 as hpke::Kem>::PublicKey::from_bytes(&keys.secret_public()).unwrap();
        let (encapsulated, sealed) =
            single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
                &OpModeS::Base,
                &public,
                SECRET_INFO,
                value,
                &order::secret_aad(attempt, name),
            )
            .unwrap();
        (encapsulated.to_bytes().to_vec(), sealed)
    }

    #[test]
    fn keys_are_the_same_after_a_restart() {
        let state = tempfile::tempdir().unwrap();
        let first = Keys::load_or_make(state.path()).unwrap();
        let again = Keys::load_or_make(state.path()).unwrap();
        assert_eq!(first.result_public(), again.result_public());
        assert_eq!(first.secret_public(), again.secret_public());
    }

    #[test]
    fn a_key_that_others_can_read_or_of_another_size_is_refused() {
        let state = tempfile::tempdir().unwrap();
        Keys::load_or_make(state.path()).unwrap();
        let path = state.path().join("keys/result.key");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            Keys::load_or_make(state.path()),
            Err(KeyError::Untrusted(_))
        ));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, b"short").unwrap();
        assert!(matches!(
            Keys::load_or_make(state.path()),
            Err(KeyError::Untrusted(_))
        ));
    }

    #[test]
    fn a_secret_opens_only_for_its_own_name_and_attempt() {
        let state = tempfile::tempdir().unwrap();
        let keys = Keys::load_or_make(state.path()).unwrap();
        let attempt = AttemptRef {
            job: JobId::new(),
            number: 1,
        };
        let (key, sealed) = seal(&keys, &attempt, "erp", b"hunter22");
        assert_eq!(
            keys.open_secret(&attempt, "erp", &key, &sealed)
                .unwrap()
                .as_slice(),
            b"hunter22"
        );
        let other = AttemptRef {
            number: 2,
            ..attempt
        };
        for refused in [
            keys.open_secret(&other, "erp", &key, &sealed),
            keys.open_secret(&attempt, "crm", &key, &sealed),
            keys.open_secret(&attempt, "erp", &key[1..], &sealed),
            keys.open_secret(&attempt, "erp", &key, &sealed[1..]),
        ] {
            assert_eq!(refused.unwrap_err().code, "SECRET_SEAL_INVALID");
        }
    }
}
