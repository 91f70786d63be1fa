//! Publishers' private keys: making, storing and using them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, spki::der::pem::LineEnding};
use ed25519_dalek::{Signer, SigningKey};
use nix::fcntl::OFlag;
use nix::unistd::Uid;
use zeroize::Zeroizing;

use crate::code::Code;
use crate::signature::{PublicKey, Signature, signed_bytes};

/// A PKCS#8 Ed25519 key has some 120 bytes; more is not a key file.
const MAX_KEY_FILE_BYTES: u64 = 16 * 1024;

/// A publisher's Ed25519 private key; erased from memory when dropped, never shown by `Debug`.
pub struct PrivateKey(SigningKey);

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateKey({})", self.public().key_id())
    }
}

impl PrivateKey {
    /// A new key from the kernel's random numbers.
    ///
    /// # Errors
    /// When the kernel has none to give.
    pub fn generate() -> Result<Self, PrivateKeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(PrivateKeyError::Random)?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey::of_private(&self.0)
    }

    /// Signs the bytes of a manifest. The same key and bytes always give the same signature.
    pub fn sign(&self, manifest: &[u8]) -> Signature {
        Signature::new(self.public().key_id(), self.0.sign(&signed_bytes(manifest)))
    }

    /// A PKCS#8 `PRIVATE KEY` PEM block.
    ///
    /// # Errors
    /// When the encoder refuses, which it does for no valid key.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, PrivateKeyError> {
        self.0
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|_| PrivateKeyError::Encode)
    }

    /// Writes the key to a new file of mode 0600, and waits until it is on disk.
    ///
    /// # Errors
    /// When the file exists, or can't be written.
    pub fn write_new(&self, path: &Path) -> Result<(), PrivateKeyError> {
        let pem = self.to_pem()?;
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?;
            file.write_all(pem.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|source| PrivateKeyError::Write {
            path: path.to_owned(),
            source,
        })
    }

    /// Reads a PKCS#8 PEM file that only its owner, the caller or root, can read.
    ///
    /// # Errors
    /// When the file can't be read, is not a regular file, is open to others, or holds no key.
    pub fn read(path: &Path) -> Result<Self, PrivateKeyError> {
        let io = |source| PrivateKeyError::Read {
            path: path.to_owned(),
            source,
        };
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)
            .map_err(io)?;
        // On the open file: its name could stand for another one by now.
        private_to_owner(&file, path)?;
        let mut pem = Zeroizing::new(String::with_capacity(MAX_KEY_FILE_BYTES as usize));
        file.take(MAX_KEY_FILE_BYTES)
            .read_to_string(&mut pem)
            .map_err(io)?;
        let key = SigningKey::from_pkcs8_pem(&pem);
        key.map(Self).map_err(|_| PrivateKeyError::NotAKey {
            path: path.to_owned(),
        })
    }
}

fn private_to_owner(file: &File, path: &Path) -> Result<(), PrivateKeyError> {
    let meta = file.metadata().map_err(|source| PrivateKeyError::Read {
        path: path.to_owned(),
        source,
    })?;
    if !meta.is_file() {
        return Err(PrivateKeyError::NotAKey {
            path: path.to_owned(),
        });
    }
    let owner_is_trusted = meta.uid() == 0 || meta.uid() == Uid::effective().as_raw();
    match owner_is_trusted && meta.mode() & 0o077 == 0 {
        true => Ok(()),
        false => Err(PrivateKeyError::Exposed {
            path: path.to_owned(),
            mode: meta.mode() & 0o7777,
        }),
    }
}

/// A private key that could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum PrivateKeyError {
    /// No random numbers.
    #[error("the kernel gave no random numbers")]
    Random(#[source] getrandom::Error),
    /// No PEM.
    #[error("the key could not be encoded as PKCS#8")]
    Encode,
    /// The file could not be read.
    #[error("private key \"{}\" could not be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("private key \"{}\" could not be written; an existing file is never replaced", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may have the key.
    #[error(
        "private key \"{}\" has mode {mode:04o} or a foreign owner; make a new key, or chown and \
         chmod 0600 if nobody else can have read it", path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error("\"{}\" is not an Ed25519 private key in PKCS#8 PEM", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
}

impl PrivateKeyError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Random(_) | Self::Read { .. } | Self::Write { .. } => Code::Io,
            Self::Encode | Self::NotAKey { .. } => Code::KeyInvalid,
            Self::Exposed { .. } => Code::KeyExposed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn stored(folder: &Path) -> (PrivateKey, PathBuf) {
        let path = folder.join("publisher.pem");
        let key = PrivateKey::generate().expect("randomness");
        key.write_new(&path).expect("written");
        (key, path)
    }

    #[test]
    fn a_written_key_is_private_and_read_again() {
        let folder = tempfile::tempdir().expect("folder");
        let (key, path) = stored(folder.path());
        assert_eq!(path.metadata().expect("exists").mode() & 0o7777, 0o600);
        let read = PrivateKey::read(&path).expect("read");
        assert_eq!(read.public(), key.public());
        assert!(
            key.write_new(&path).is_err(),
            "an existing key is never replaced"
        );
        assert!(!format!("{key:?}").contains("PRIVATE KEY"));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let (_, path) = stored(folder.path());
        for mode in [0o640, 0o604, 0o620, 0o601] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("chmod");
            let error = PrivateKey::read(&path).expect_err("exposed");
            assert_eq!(error.code(), Code::KeyExposed, "{mode:o}");
        }
    }

    #[test]
    fn links_folders_and_other_text_are_no_key() {
        let folder = tempfile::tempdir().expect("folder");
        let (_, path) = stored(folder.path());
        let link = folder.path().join("link.pem");
        symlink(&path, &link).expect("link");
        assert_eq!(PrivateKey::read(&link).expect_err("link").code(), Code::Io);
        assert_eq!(
            PrivateKey::read(folder.path()).expect_err("folder").code(),
            Code::KeyInvalid
        );
        std::fs::write(&path, "not a key").expect("overwritten");
        assert_eq!(
            PrivateKey::read(&path).expect_err("text").code(),
            Code::KeyInvalid
        );
    }

    #[test]
    fn signing_is_deterministic() {
        let key = PrivateKey::generate().expect("randomness");
        assert_eq!(key.sign(b"m"), key.sign(b"m"));
    }
}
