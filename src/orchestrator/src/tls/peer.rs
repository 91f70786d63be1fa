//! Who is at the other end: read once per connection from its certificate.

use std::net::SocketAddr;

use order::AgentId;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::X509Certificate;

use crate::archive::hex;
use crate::refused::Refused;

/// An agent's identity as its certificate has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerIdentity {
    pub(crate) agent: AgentId,
    pub(crate) serial: String,
    pub(crate) not_after_ms: u64,
}

/// The other end of a connection; `identity` is absent on the enrolment listener.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) identity: Option<PeerIdentity>,
}

fn refuse(why: &str) -> Refused {
    Refused::denied("IDENTITY_INVALID", why)
}

impl PeerIdentity {
    /// Reads a certificate that the verifier has accepted: exactly one URI, of our trust domain,
    /// `/agent/UUID` in its one spelling, and for clients only.
    pub(crate) fn read(der: &[u8], domain: &str) -> Result<Self, Refused> {
        let (_, parsed) = x509_parser::parse_x509_certificate(der)
            .map_err(|_| refuse("the certificate can't be read"))?;
        let uri = only_uri(&parsed)?;
        let id = uri
            .strip_prefix(&format!("spiffe://{domain}/agent/"))
            .ok_or_else(|| refuse("the certificate names no agent of this trust domain"))?;
        let agent: AgentId = id
            .parse()
            .map_err(|_| refuse("the agent's id is no UUID"))?;
        if agent.to_string() != id {
            return Err(refuse("the agent's id is not in its one spelling"));
        }
        let client = parsed
            .extended_key_usage()
            .ok()
            .flatten()
            .is_some_and(|usage| usage.value.client_auth && !usage.value.any);
        if !client {
            return Err(refuse("the certificate is not for clients"));
        }
        let not_after = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        Ok(Self {
            agent,
            serial: hex(parsed.raw_serial()),
            not_after_ms: not_after * 1000,
        })
    }
}

fn only_uri<'a>(parsed: &'a X509Certificate<'_>) -> Result<&'a str, Refused> {
    let mut names = parsed
        .extensions()
        .iter()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        })
        .flatten();
    match (names.next(), names.next()) {
        (Some(GeneralName::URI(uri)), None) => Ok(uri),
        _ => Err(refuse(
            "the certificate must have exactly one name, a SPIFFE URI",
        )),
    }
}
