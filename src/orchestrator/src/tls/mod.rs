//! TLS of both listeners, our own: TLS 1.3 only, no session resumption.
//!
//! Resumption is off because rustls restores a resumed client's certificate from
//! the session and runs neither verifier nor revocation list: a revoked agent would
//! come back in. The configuration is read anew for every connection, so that a
//! revocation counts from the next handshake on; open connections are closed by
//! [`Connections`].

mod connection;
mod listen;
mod peer;

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls_pki_types::CertificateRevocationListDer;

use crate::ca::{Ca, ServerIdentity};
use crate::refused::Refused;

pub(crate) use connection::{Connection, Connections};
pub(crate) use listen::{Admission, Refusals, listen};
pub(crate) use peer::{Peer, PeerIdentity};

/// The configuration that the next connection gets.
pub(crate) type Current = Arc<ArcSwap<ServerConfig>>;

fn failed(what: &str, error: impl std::fmt::Display) -> Refused {
    Refused::unavailable("TLS_FAILED", format!("{what}: {error}"))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    // X25519MLKEM768 comes first in its list of key exchanges (feature prefer-post-quantum).
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn harden(config: &mut ServerConfig) {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![b"h2".to_vec()];
}

/// For the link: clients show a certificate of our authority that is not on the list.
pub(crate) fn mutual(
    ca: &Ca,
    server: &ServerIdentity,
    revoked: CertificateRevocationListDer<'static>,
) -> Result<ServerConfig, Refused> {
    let mut roots = RootCertStore::empty();
    roots
        .add(ca.root().clone())
        .map_err(|error| failed("the root can't be trusted", error))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .with_crls([revoked])
        .only_check_end_entity_revocation()
        .build()
        .map_err(|error| failed("no verifier for clients", error))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| failed("TLS 1.3 is not available", error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(server.chain.clone(), server.private_key().into())
        .map_err(|error| failed("the server's certificate can't be used", error))?;
    harden(&mut config);
    Ok(config)
}

/// For enrolment: the caller has no certificate yet.
pub(crate) fn server_only(server: &ServerIdentity) -> Result<ServerConfig, Refused> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| failed("TLS 1.3 is not available", error))?
        .with_no_client_auth()
        .with_single_cert(server.chain.clone(), server.private_key().into())
        .map_err(|error| failed("the server's certificate can't be used", error))?;
    harden(&mut config);
    Ok(config)
}
