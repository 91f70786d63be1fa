//! Who this host is: one file with key, certificate and roots, replaced whole.
//!
//! One file, so that a key and a certificate that do not belong together are never found.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use order::{AgentId, Sha256Hex};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::{Zeroize as _, Zeroizing};

use super::private::{read_private, write_private};

/// The identity in use.
pub(super) const CURRENT: &str = "identity.json";

/// A renewed one that was not used yet: the old one is forgotten only when this one was accepted.
pub(super) const RENEWED: &str = "renewed.json";

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// A file operation.
    #[error("can't {what} {}: {source}", path.display())]
    File {
        /// What was to be done.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others can read or change the key.
    #[error("{} must be a plain file of robotd with mode 0600 and one name, or others may have its key; enrol this host again", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
    },
    /// Not what robotd wrote.
    #[error("{} can't be read as an identity; enrol this host again", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// The key can't be made or used.
    #[error("a key can't be made or used: {0}")]
    Key(#[from] rcgen::Error),
    /// What the orchestrator issued is not for this host's key or has no lifetime.
    #[error("the orchestrator issued a certificate that can't be used: {0}")]
    Issued(&'static str),
    /// Older roots than those that are known.
    #[error(
        "the orchestrator sent root certificates of serial {sent}, {known} are known already: refused, they may be a replay"
    )]
    BundleReplayed {
        /// What came.
        sent: u64,
        /// What is stored.
        known: u64,
    },
}

/// A key of this host. P-256.
pub(super) struct HostKey(KeyPair);

impl HostKey {
    /// A new one.
    pub(super) fn generate() -> Result<Self, IdentityError> {
        Ok(Self(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?))
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, IdentityError> {
        let der = PrivatePkcs8KeyDer::from(der.to_vec());
        Ok(Self(KeyPair::from_pkcs8_der_and_sign_algo(
            &der,
            &rcgen::PKCS_ECDSA_P256_SHA256,
        )?))
    }

    fn pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize_der())
    }

    /// A request for a certificate. It conveys the public key only: the orchestrator chooses
    /// every name.
    pub(super) fn request(&self) -> Result<Vec<u8>, IdentityError> {
        let request = CertificateParams::default().serialize_request(&self.0)?;
        Ok(request.der().to_vec())
    }

    /// Keeps it for a request whose answer may be lost: asked again with the same key, a token
    /// that is bound to it gives the same answer.
    pub(super) fn keep_pending(&self, folder: &Path, name: &str) -> Result<(), IdentityError> {
        write_private(folder, name, &self.pkcs8())
    }

    /// The kept one, if any.
    pub(super) fn pending(folder: &Path, name: &str) -> Result<Option<Self>, IdentityError> {
        read_private(&folder.join(name))?
            .map(|der| Self::from_pkcs8(&der))
            .transpose()
    }
}

/// As the file has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Stored {
    v: u32,
    agent_id: AgentId,
    link_url: String,
    key: String,
    chain: Vec<String>,
    roots: Vec<String>,
    bundle_serial: u64,
    renew_before_ms: u64,
    /// Of the secret that it was enrolled with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_sha256: Option<Sha256Hex>,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// Key, certificate and roots.
pub(super) struct Identity {
    pub(super) agent: AgentId,
    pub(super) link_url: String,
    key: HostKey,
    chain: Vec<CertificateDer<'static>>,
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) bundle_serial: u64,
    renew_before: Duration,
    not_before: SystemTime,
    not_after: SystemTime,
    pub(super) serial: String,
    /// The token that it came from; none after a renewal, when no token is that young any more.
    pub(super) token_sha256: Option<Sha256Hex>,
}

/// What an orchestrator issued, as it came.
pub(super) struct Issued {
    pub(super) agent: AgentId,
    pub(super) chain: Vec<Vec<u8>>,
    pub(super) roots: Vec<Vec<u8>>,
    pub(super) bundle_serial: u64,
    pub(super) renew_before: Duration,
}

impl Identity {
    /// The stored one; none before the first enrolment.
    pub(super) fn load(folder: &Path, name: &str) -> Result<Option<Self>, IdentityError> {
        let path = folder.join(name);
        let Some(bytes) = read_private(&path)? else {
            return Ok(None);
        };
        let damaged = || IdentityError::Damaged { path: path.clone() };
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
        let decode = |list: &[String]| {
            list.iter()
                .map(|text| BASE64.decode(text))
                .collect::<Result<Vec<_>, _>>()
        };
        let key = Zeroizing::new(BASE64.decode(&stored.key).map_err(|_| damaged())?);
        let issued = Issued {
            agent: stored.agent_id,
            chain: decode(&stored.chain).map_err(|_| damaged())?,
            roots: decode(&stored.roots).map_err(|_| damaged())?,
            bundle_serial: stored.bundle_serial,
            renew_before: Duration::from_millis(stored.renew_before_ms),
        };
        if stored.v != 1 {
            return Err(damaged());
        }
        let mut identity = Self::of(issued, HostKey::from_pkcs8(&key)?, stored.link_url.clone())?;
        identity.token_sha256 = stored.token_sha256;
        Ok(Some(identity))
    }

    /// From what was issued to a key; refused unless the two belong together.
    pub(super) fn of(
        issued: Issued,
        key: HostKey,
        link_url: String,
    ) -> Result<Self, IdentityError> {
        let leaf = issued
            .chain
            .first()
            .ok_or(IdentityError::Issued("there is none"))?;
        let (_, parsed) = X509Certificate::from_der(leaf)
            .map_err(|_| IdentityError::Issued("it is no X.509 certificate"))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.0.public_key_raw() {
            return Err(IdentityError::Issued("it is for another key"));
        }
        if issued.roots.is_empty() {
            return Err(IdentityError::Issued("no root certificate came with it"));
        }
        let moment = |time: x509_parser::time::ASN1Time| {
            u64::try_from(time.timestamp())
                .map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds))
                .map_err(|_| IdentityError::Issued("its times are before 1970"))
        };
        let (not_before, not_after) = (
            moment(parsed.validity().not_before)?,
            moment(parsed.validity().not_after)?,
        );
        let serial = parsed
            .raw_serial()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Self {
            agent: issued.agent,
            link_url,
            chain: issued.chain.into_iter().map(CertificateDer::from).collect(),
            roots: issued.roots.into_iter().map(CertificateDer::from).collect(),
            bundle_serial: issued.bundle_serial,
            renew_before: issued.renew_before,
            key,
            not_before,
            not_after,
            serial,
            token_sha256: None,
        })
    }

    /// Replaces the stored one. Durable when this returns.
    pub(super) fn store(&self, folder: &Path, name: &str) -> Result<(), IdentityError> {
        let encode =
            |list: &[CertificateDer<'_>]| list.iter().map(|der| BASE64.encode(der)).collect();
        let stored = Stored {
            v: 1,
            agent_id: self.agent,
            link_url: self.link_url.clone(),
            key: BASE64.encode(self.key.pkcs8().as_slice()),
            chain: encode(&self.chain),
            roots: encode(&self.roots),
            bundle_serial: self.bundle_serial,
            renew_before_ms: u64::try_from(self.renew_before.as_millis()).unwrap_or(u64::MAX),
            token_sha256: self.token_sha256,
        };
        let bytes = serde_json::to_vec(&stored).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| IdentityError::Damaged {
            path: folder.join(name),
        })?;
        write_private(folder, name, &bytes)
    }

    /// For a TLS handshake.
    pub(super) fn credentials(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivatePkcs8KeyDer::from(self.key.pkcs8().to_vec());
        (self.chain.clone(), PrivateKeyDer::Pkcs8(key))
    }

    /// End of the certificate.
    pub(super) fn until(&self) -> SystemTime {
        self.not_after
    }

    /// When to renew: at two thirds of the lifetime or when the orchestrator says, whichever is
    /// earlier, minus up to a tenth of the lifetime by `dice`, so that hosts do not come together.
    pub(super) fn renew_at(&self, dice: u32) -> SystemTime {
        let life = self
            .not_after
            .duration_since(self.not_before)
            .unwrap_or_default();
        let wished = life.saturating_sub(self.renew_before.min(life));
        let at = wished.min(life * 2 / 3);
        let jitter = (life / 10).mul_f64(f64::from(dice) / f64::from(u32::MAX));
        self.not_before + at.saturating_sub(jitter)
    }

    /// Later roots; a lower serial is a replay. False when nothing changed.
    pub(super) fn take_roots(
        &mut self,
        serial: u64,
        roots: Vec<Vec<u8>>,
    ) -> Result<bool, IdentityError> {
        if serial < self.bundle_serial {
            return Err(IdentityError::BundleReplayed {
                sent: serial,
                known: self.bundle_serial,
            });
        }
        if serial == self.bundle_serial || roots.is_empty() {
            return Ok(false);
        }
        self.bundle_serial = serial;
        self.roots = roots.into_iter().map(CertificateDer::from).collect();
        Ok(true)
    }
}

/// SHA-256 of a certificate.
pub(super) fn fingerprint(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}

/// Forgets a file that is of no use any more.
pub(super) fn remove(folder: &Path, name: &str) {
    // When it stays, the next one replaces it.
    let _ = fs::remove_file(folder.join(name));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    fn identity(days: i64) -> Identity {
        let key = HostKey::generate().unwrap();
        let mut params = CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = params.not_before
            + std::time::Duration::from_secs(u64::try_from(days).unwrap() * 86_400);
        let leaf = params.self_signed(&key.0).unwrap();
        let issued = Issued {
            agent: AgentId::new(),
            chain: vec![leaf.der().to_vec()],
            roots: vec![leaf.der().to_vec()],
            bundle_serial: 3,
            renew_before: Duration::from_secs(86_400),
        };
        Identity::of(issued, key, "https://o:1".into()).unwrap()
    }

    #[test]
    fn an_identity_comes_back_and_its_file_is_private() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Identity::load(folder.path(), CURRENT).unwrap().is_none());
        let one = identity(3);
        one.store(folder.path(), CURRENT).unwrap();
        let path = folder.path().join(CURRENT);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let back = Identity::load(folder.path(), CURRENT).unwrap().unwrap();
        assert_eq!(
            (back.agent, &back.serial, back.bundle_serial),
            (one.agent, &one.serial, 3)
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            Identity::load(folder.path(), CURRENT),
            Err(IdentityError::Exposed { .. })
        ));
    }

    #[test]
    fn a_file_cut_at_any_byte_is_damaged_and_never_half_an_identity() {
        let folder = tempfile::tempdir().unwrap();
        identity(3).store(folder.path(), CURRENT).unwrap();
        let path = folder.path().join(CURRENT);
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(
                Identity::load(folder.path(), CURRENT).is_err(),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_certificate_for_another_key_is_refused() {
        let one = identity(3);
        let issued = Issued {
            agent: one.agent,
            chain: one.chain.iter().map(|der| der.to_vec()).collect(),
            roots: vec![vec![1]],
            bundle_serial: 1,
            renew_before: Duration::ZERO,
        };
        let other = HostKey::generate().unwrap();
        assert!(matches!(
            Identity::of(issued, other, String::new()),
            Err(IdentityError::Issued(_))
        ));
    }

    #[test]
    fn renewal_comes_at_two_thirds_at_the_latest_minus_jitter() {
        let three_days = identity(3);
        let after = |at: SystemTime| at.duration_since(three_days.not_before).unwrap().as_secs();
        assert_eq!(after(three_days.renew_at(0)), 2 * 86_400);
        assert_eq!(after(three_days.renew_at(u32::MAX)), 2 * 86_400 - 3 * 8_640);
    }

    #[test]
    fn roots_never_go_back() {
        let mut one = identity(3);
        assert!(one.take_roots(2, vec![vec![1]]).is_err());
        assert!(!one.take_roots(3, vec![vec![1]]).unwrap());
        assert!(one.take_roots(4, vec![vec![1]]).unwrap());
        assert_eq!(one.bundle_serial, 4);
    }
}
