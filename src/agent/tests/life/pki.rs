//! A certificate authority for one test.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};

pub(crate) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        // Each of another name: of one name, the wrong one would fail by its signature only.
        params.distinguished_name.push(
            DnType::CommonName,
            format!("test root {}", uuid::Uuid::new_v4()),
        );
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    pub(crate) fn root_sha256(&self) -> [u8; 32] {
        Sha256::digest(self.root()).into()
    }

    /// The certificate for the key of a request; one that is `old` is due for renewal.
    pub(crate) fn issue(
        &self,
        csr: &[u8],
        agent: order::AgentId,
        old: bool,
    ) -> CertificateDer<'static> {
        let mut request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr))
                .unwrap();
        let uri = format!("spiffe://test/agent/{agent}");
        request.params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if old {
            let now = std::time::SystemTime::now();
            request.params.not_before = (now - Duration::from_secs(9 * 60)).into();
            request.params.not_after = (now + Duration::from_secs(60)).into();
        }
        request.signed_by(&self.issuer).unwrap().der().clone()
    }

    fn server(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        (
            vec![leaf.der().clone(), self.root()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
    }

    /// For the listener that knows nobody yet.
    pub(crate) fn enrolling(&self) -> ServerConfig {
        let (chain, key) = self.server();
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap();
        finish(
            config
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .unwrap(),
        )
    }

    /// For the link: certificates of `clients` only.
    pub(crate) fn linking(&self, clients: &Ca) -> ServerConfig {
        let (chain, key) = self.server();
        let mut roots = RootCertStore::empty();
        roots.add(clients.root()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .unwrap();
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap();
        finish(
            config
                .with_client_cert_verifier(verifier)
                .with_single_cert(chain, key)
                .unwrap(),
        )
    }
}

fn finish(mut config: ServerConfig) -> ServerConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}
