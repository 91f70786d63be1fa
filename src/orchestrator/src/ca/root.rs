//! The root: key, certificate and the trust domain that agents are named in.

use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    RevocationReason, RevokedCertParams, SerialNumber,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};

use crate::clock::Clock;
use crate::durable;
use crate::refused::Refused;

const TEN_YEARS: Duration = Duration::from_secs(3653 * 86_400);
/// The list is made anew with every revocation and every start; this only has to be later.
const LIST_VALID: Duration = Duration::from_secs(366 * 86_400);
/// Certificates begin this much earlier: agents' clocks may be behind.
pub(super) const BACKDATED: Duration = Duration::from_secs(3600);

/// The authority.
pub(crate) struct Ca {
    pub(super) issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    domain: String,
}

pub(super) fn failed(what: &str, error: &rcgen::Error) -> Refused {
    Refused::unavailable("CA_FAILED", format!("{what}: {error}"))
}

/// A point in time as certificates have it.
pub(super) fn at(unix_ms: u64) -> time::OffsetDateTime {
    time::OffsetDateTime::UNIX_EPOCH + Duration::from_millis(unix_ms)
}

/// A host's name as part of a trust domain: lower case, and only what a domain may contain.
fn domain_of(host: &str) -> String {
    let safe: String = host
        .to_ascii_lowercase()
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() || letter == '-' || letter == '.' {
                letter
            } else {
                '-'
            }
        })
        .take(200)
        .collect();
    format!("robotd.{}", safe.trim_matches(['-', '.']))
}

impl Ca {
    /// Reads the authority, or makes it at first start.
    pub(crate) fn open(data_dir: &Path, host: &str) -> Result<Self, Refused> {
        let dir = data_dir.join("ca");
        durable::private_dir(&dir)?;
        let (key_path, root_path) = (dir.join("root.key"), dir.join("root.der"));
        let domain_path = dir.join("trust-domain");
        if durable::read_private(&root_path)?.is_none() {
            make(&key_path, &root_path, &domain_path, host)?;
        }
        let lacking = |path: &Path| {
            let text = format!("{} is missing; restore the data directory", path.display());
            Refused::state("CA_INCOMPLETE", text)
        };
        let key = durable::read_private(&key_path)?.ok_or_else(|| lacking(&key_path))?;
        let root = durable::read_private(&root_path)?.ok_or_else(|| lacking(&root_path))?;
        let domain = durable::read_private(&domain_path)?.ok_or_else(|| lacking(&domain_path))?;
        let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(key.as_slice()))
            .map_err(|error| failed("the root's key can't be read", &error))?;
        let root = CertificateDer::from(root.to_vec());
        let issuer = Issuer::from_ca_cert_der(&root, key)
            .map_err(|error| failed("the root can't be read", &error))?;
        Ok(Self {
            issuer,
            root,
            domain: String::from_utf8_lossy(&domain).into_owned(),
        })
    }

    pub(crate) fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// SHA-256 of the root, which agents pin.
    pub(crate) fn root_sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.root).into()
    }

    /// The trust domain of agents' names.
    pub(crate) fn domain(&self) -> &str {
        &self.domain
    }

    /// The revocation list for these serials.
    pub(crate) fn revocation_list(
        &self,
        revoked: &[(String, u64)],
    ) -> Result<CertificateRevocationListDer<'static>, Refused> {
        let now = Clock.unix_ms();
        let revoked_certs = revoked
            .iter()
            .map(|(serial, when)| RevokedCertParams {
                serial_number: SerialNumber::from(super::issue::serial_bytes(serial)),
                revocation_time: at(*when),
                reason_code: Some(RevocationReason::CessationOfOperation),
                invalidity_date: None,
            })
            .collect();
        let list = CertificateRevocationListParams {
            this_update: at(now.saturating_sub(3_600_000)),
            next_update: at(now) + LIST_VALID,
            crl_number: SerialNumber::from(now),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let made = list
            .signed_by(&self.issuer)
            .map_err(|error| failed("the revocation list can't be signed", &error))?;
        Ok(made.into())
    }
}

/// The root's certificate is written last: with it there, the rest is there too.
fn make(key_path: &Path, root_path: &Path, domain_path: &Path, host: &str) -> Result<(), Refused> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .map_err(|error| failed("no key for the root", &error))?;
    let domain = domain_of(host);
    let now = Clock.unix_ms();
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, format!("{domain} root"));
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = at(now) - BACKDATED;
    params.not_after = at(now) + TEN_YEARS;
    let root = params
        .self_signed(&key)
        .map_err(|error| failed("the root can't be signed", &error))?;
    let private = zeroize::Zeroizing::new(key.serialize_der());
    durable::write_private(key_path, &private)?;
    durable::write_private(domain_path, domain.as_bytes())?;
    durable::write_private(root_path, root.der())
}
