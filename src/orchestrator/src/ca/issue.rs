//! Certificates for agents and for the server itself.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use order::AgentId;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
    PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::root::{BACKDATED, Ca, at, failed};
use crate::archive::hex;
use crate::clock::Clock;
use crate::core::millis;
use crate::durable;
use crate::refused::Refused;

/// The server's certificate; checked daily, renewed when less than a third is left.
const SERVER_VALID: Duration = Duration::from_secs(90 * 86_400);
/// No request of ours is larger.
const MAX_CSR: usize = 16 << 10;

/// A request whose proof of possession was checked. Only its key is used.
pub(crate) struct Request(CertificateSigningRequestParams);

/// A certificate for an agent.
pub(crate) struct Issued {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) serial: String,
    pub(crate) not_after_ms: u64,
}

/// What the server shows.
pub(crate) struct ServerIdentity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Zeroizing<Vec<u8>>,
}

/// A serial from its hexadecimal digits.
pub(super) fn serial_bytes(serial: &str) -> Vec<u8> {
    let pair = |at: usize| {
        serial
            .get(at..at + 2)
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
    };
    (0..serial.len()).step_by(2).map_while(pair).collect()
}

/// 16 random bytes, positive and without a leading zero, so that every parser shows the same.
fn new_serial() -> Result<[u8; 16], Refused> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial)
        .map_err(|error| Refused::unavailable("RANDOM_FAILED", error.to_string()))?;
    serial[0] = serial[0] & 0x3f | 0x40;
    Ok(serial)
}

impl Request {
    /// Reads a request and checks its own signature.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, Refused> {
        if der.len() > MAX_CSR {
            return Err(Refused::invalid("CSR_INVALID", "the request is too large"));
        }
        let params =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
                .map_err(|error| Refused::invalid("CSR_INVALID", error.to_string()))?;
        let algorithm = params.public_key.algorithm();
        if *algorithm != PKCS_ECDSA_P256_SHA256 && *algorithm != PKCS_ED25519 {
            return Err(Refused::invalid("KEY_INVALID", "a key is P-256 or Ed25519"));
        }
        Ok(Self(params))
    }

    /// Digest of the public key with its algorithm.
    pub(crate) fn spki_sha256(&self) -> [u8; 32] {
        Sha256::digest(self.0.public_key.subject_public_key_info()).into()
    }
}

impl Ca {
    /// A certificate for the key of `request` in the name of `agent`; every name in the request is
    /// ignored.
    pub(crate) fn issue_agent(
        &self,
        request: &Request,
        agent: AgentId,
        valid: Duration,
    ) -> Result<Issued, Refused> {
        let uri = format!("spiffe://{}/agent/{agent}", self.domain());
        let uri = uri
            .try_into()
            .map_err(|error| failed("the agent's name can't be written", &error))?;
        let serial = new_serial()?;
        let mut params = leaf(&serial, valid, &format!("agent {agent}"));
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let not_after_ms = u64::try_from(params.not_after.unix_timestamp()).unwrap_or(0) * 1000;
        let certificate = params
            .signed_by(&request.0.public_key, &self.issuer)
            .map_err(|error| failed("the agent's certificate can't be signed", &error))?;
        Ok(Issued {
            certificate: certificate.der().clone(),
            serial: hex(&serial),
            not_after_ms,
        })
    }

    /// The server's certificate for these names: the stored one while it fits and lasts, a new one
    /// else.
    pub(crate) fn server_identity(
        &self,
        data_dir: &Path,
        names: &[String],
    ) -> Result<ServerIdentity, Refused> {
        let dir = data_dir.join("ca");
        let paths = [
            dir.join("server.key"),
            dir.join("server.der"),
            dir.join("server.names"),
        ];
        let wanted = names.join("\n");
        let [key, certificate, stored] = [
            durable::read_private(&paths[0])?,
            durable::read_private(&paths[1])?,
            durable::read_private(&paths[2])?,
        ];
        if let (Some(key), Some(certificate), Some(stored)) = (key, certificate, stored)
            && stored.as_slice() == wanted.as_bytes()
            && lasts(&certificate)
        {
            return Ok(self.identity(CertificateDer::from(certificate.to_vec()), key));
        }
        let (key, certificate) = self.issue_server(names)?;
        // Names first go and come last: a crash in between leaves what is made anew.
        durable::remove(&paths[2])
            .map_err(|error| Refused::io("can't remove", &paths[2], &error))?;
        durable::write_private(&paths[0], &key)?;
        durable::write_private(&paths[1], &certificate)?;
        durable::write_private(&paths[2], wanted.as_bytes())?;
        Ok(self.identity(certificate, key))
    }

    fn identity(&self, leaf: CertificateDer<'static>, key: Zeroizing<Vec<u8>>) -> ServerIdentity {
        // The root goes along: a new agent knows only its digest.
        ServerIdentity {
            chain: vec![leaf, self.root().clone()],
            key,
        }
    }

    fn issue_server(
        &self,
        names: &[String],
    ) -> Result<(Zeroizing<Vec<u8>>, CertificateDer<'static>), Refused> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(|error| failed("no key for the server", &error))?;
        let common = names.first().map_or("robot-orchestrator", String::as_str);
        let mut params = leaf(&new_serial()?, SERVER_VALID, common);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.clone().try_into().map_err(|_| {
                    Refused::invalid("NAME_INVALID", format!("{name:?} is no name of a host"))
                })?),
            });
        }
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(|error| failed("the server's certificate can't be signed", &error))?;
        Ok((
            Zeroizing::new(key.serialize_der()),
            certificate.der().clone(),
        ))
    }
}

fn leaf(serial: &[u8], valid: Duration, common: &str) -> CertificateParams {
    let now = Clock.unix_ms();
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(
        DnType::CommonName,
        common.chars().take(64).collect::<String>(),
    );
    params.distinguished_name = name;
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.not_before = at(now) - BACKDATED;
    params.not_after = at(now + millis(valid));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

/// Whether at least a third of the server's validity is left.
fn lasts(certificate: &[u8]) -> bool {
    x509_parser::parse_x509_certificate(certificate).is_ok_and(|(_, parsed)| {
        let end = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0) * 1000;
        end > Clock.unix_ms() + millis(SERVER_VALID) / 3
    })
}

impl ServerIdentity {
    pub(crate) fn private_key(&self) -> PrivatePkcs8KeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.to_vec())
    }
}
