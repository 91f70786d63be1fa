//! An agent that speaks the protocol and does no work.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hpke::{Deserializable as _, Kem as _, Serializable as _};
use hyper_util::rt::TokioIo;
use order::SigningKey;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use wire::v1;
use wire::v1::connect_request::Body as Say;
use wire::v1::connect_response::Body as Heard;
use wire::v1::enrollment_service_client::EnrollmentServiceClient;
use wire::v1::identity_service_client::IdentityServiceClient;
use wire::v1::link_service_client::LinkServiceClient;

use super::server::Server;
use crate::admin::Request;

type X25519 = hpke::kem::X25519HkdfSha256;

/// An enrolled agent.
pub(super) struct Agent {
    pub(super) id: String,
    link_url: String,
    roots: RootCertStore,
    tls: Arc<ClientConfig>,
    pub(super) result_key: SigningKey,
    secret_private: <X25519 as hpke::Kem>::PrivateKey,
}

/// What enrols: keys that the host made.
pub(super) struct Applicant {
    pub(super) key: KeyPair,
    pub(super) result_key: SigningKey,
    secret_private: <X25519 as hpke::Kem>::PrivateKey,
    secret_public: <X25519 as hpke::Kem>::PublicKey,
}

impl Applicant {
    pub(super) fn new() -> Self {
        let (secret_private, secret_public) = X25519::gen_keypair();
        Self {
            key: KeyPair::generate().unwrap(),
            result_key: SigningKey::generate().unwrap(),
            secret_private,
            secret_public,
        }
    }

    pub(super) fn csr(&self) -> Vec<u8> {
        // The names in it are to be ignored.
        let params = CertificateParams::new(vec!["admin.example".to_owned()]).unwrap();
        params.serialize_request(&self.key).unwrap().der().to_vec()
    }

    pub(super) async fn enroll(
        &self,
        server: &Server,
        token: &Value,
    ) -> Result<v1::IssuedCertificate, tonic::Status> {
        self.enroll_with(server, token, |_| {}).await
    }

    pub(super) async fn enroll_with(
        &self,
        server: &Server,
        token: &Value,
        change: impl FnOnce(&mut v1::EnrollRequest),
    ) -> Result<v1::IssuedCertificate, tonic::Status> {
        self.enroll_at(&server.data_dir(), token, change).await
    }

    pub(super) async fn try_to_enroll(
        &self,
        data_dir: &Path,
        token: &Value,
    ) -> Result<v1::IssuedCertificate, tonic::Status> {
        self.enroll_at(data_dir, token, |_| {}).await
    }

    async fn enroll_at(
        &self,
        data_dir: &Path,
        token: &Value,
        change: impl FnOnce(&mut v1::EnrollRequest),
    ) -> Result<v1::IssuedCertificate, tonic::Status> {
        let tls = client_config(roots(data_dir, token), None);
        let channel = channel(token["enroll_url"].as_str().unwrap(), tls)
            .await
            .unwrap();
        let mut request = v1::EnrollRequest {
            csr_der: self.csr().into(),
            join_secret: BASE64
                .decode(token["secret"].as_str().unwrap())
                .unwrap()
                .into(),
            host: None,
            broker_keys: Some(v1::BrokerKeys {
                result_key: self.result_key.public().to_bytes().to_vec().into(),
                secret_key: self.secret_public.to_bytes().to_vec().into(),
            }),
        };
        change(&mut request);
        let answer = EnrollmentServiceClient::new(channel)
            .enroll(request)
            .await?;
        Ok(answer.into_inner().issued.unwrap())
    }
}

/// The root, pinned by the token.
fn roots(data_dir: &Path, token: &Value) -> RootCertStore {
    use sha2::Digest as _;
    let root = std::fs::read(data_dir.join("ca/root.der")).unwrap();
    let digest = crate::archive::hex(&sha2::Sha256::digest(&root));
    assert_eq!(token["root_sha256"], digest.as_str());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(root)).unwrap();
    roots
}

/// A client as rustls makes it by default: it keeps sessions to resume them.
fn client_config(
    roots: RootCertStore,
    identity: Option<(Vec<CertificateDer<'static>>, Vec<u8>)>,
) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, PrivatePkcs8KeyDer::from(key).into())
            .unwrap(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

async fn channel(url: &str, tls: Arc<ClientConfig>) -> Result<Channel, tonic::transport::Error> {
    connected(Endpoint::from_shared(url.to_owned())?, tls).await
}

async fn connected(
    endpoint: Endpoint,
    tls: Arc<ClientConfig>,
) -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(move |uri: http::Uri| {
        let tls = TlsConnector::from(tls.clone());
        async move {
            let host = uri.host().unwrap_or_default().to_owned();
            let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(0))).await?;
            let name = ServerName::try_from(host).map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, stream).await?))
        }
    });
    endpoint.connect_with_connector(connector).await
}

impl Agent {
    pub(super) async fn enrolled(server: &Server, name: &str) -> Self {
        let agent = name.to_owned();
        let token = server.ask(Request::TokenCreate { agent }).await.unwrap();
        let applicant = Applicant::new();
        let issued = applicant.enroll(server, &token).await.unwrap();
        let roots = roots(&server.data_dir(), &token);
        Self {
            id: issued.agent_id.clone(),
            link_url: token["link_url"].as_str().unwrap().to_owned(),
            tls: client_config(
                roots.clone(),
                Some((chain(&issued), applicant.key.serialize_der())),
            ),
            roots,
            result_key: applicant.result_key,
            secret_private: applicant.secret_private,
        }
    }

    pub(super) async fn channel(&self) -> Result<Channel, tonic::transport::Error> {
        channel(&self.link_url, self.tls.clone()).await
    }

    /// A bare TLS connection to the link.
    pub(super) async fn raw(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let uri: http::Uri = self.link_url.parse().unwrap();
        let host = uri.host().unwrap().to_owned();
        let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap())).await?;
        let name = ServerName::try_from(host).unwrap();
        TlsConnector::from(self.tls.clone())
            .connect(name, stream)
            .await
    }

    /// What the server says to a connection before any call: nothing (`None`), or its alert.
    pub(super) async fn alert(&self) -> Option<rustls::AlertDescription> {
        use tokio::io::AsyncReadExt as _;
        let error = match self.raw().await {
            Err(error) => error,
            Ok(mut stream) => stream.read(&mut [0]).await.err()?,
        };
        match error.into_inner()?.downcast_ref::<rustls::Error>() {
            Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
            _ => None,
        }
    }

    /// Uses a certificate that this server's authority issues now, valid for so long.
    pub(super) fn certify_for(&mut self, server: &Server, valid: std::time::Duration) {
        let applicant = Applicant::new();
        let dir = server.data_dir();
        let ca = crate::ca::Ca::open(&dir, "").unwrap();
        let csr = crate::ca::Request::parse(&applicant.csr()).unwrap();
        let agent = self.id.parse().unwrap();
        let issued = ca.issue_agent(&csr, agent, valid).unwrap();
        let store = crate::store::Store::open(&dir).unwrap();
        store
            .put_certificate(&issued.serial, agent, 0, issued.not_after_ms)
            .unwrap();
        self.tls = client_config(
            self.roots.clone(),
            Some((vec![issued.certificate], applicant.key.serialize_der())),
        );
    }

    /// The server has other ports now.
    pub(super) fn follow(&mut self, server: &Server) {
        let file = std::fs::read(server.data_dir().join("addresses.json")).unwrap();
        let addresses: Value = serde_json::from_slice(&file).unwrap();
        self.link_url = addresses["link_url"].as_str().unwrap().to_owned();
    }

    pub(super) async fn link(&self) -> LinkServiceClient<Channel> {
        LinkServiceClient::new(self.channel().await.unwrap())
    }

    /// Renews the certificate with a new key; the agent uses it from the next connection on.
    pub(super) async fn renew(&mut self) {
        let applicant = Applicant::new();
        let request = v1::RenewCertificateRequest {
            csr_der: applicant.csr().into(),
        };
        let mut client = IdentityServiceClient::new(self.channel().await.unwrap());
        let issued = client
            .renew_certificate(request)
            .await
            .unwrap()
            .into_inner()
            .issued
            .unwrap();
        assert_eq!(issued.agent_id, self.id);
        self.tls = client_config(
            self.roots.clone(),
            Some((chain(&issued), applicant.key.serialize_der())),
        );
    }

    pub(super) fn tls(&self) -> Arc<ClientConfig> {
        self.tls.clone()
    }

    pub(super) fn use_tls(&mut self, tls: Arc<ClientConfig>) {
        self.tls = tls;
    }

    pub(super) fn hello(&self) -> v1::Hello {
        v1::Hello {
            agent_id: self.id.clone(),
            max_minor: 1,
            instance_id: "instance".to_owned(),
            boot_id: "boot".to_owned(),
            slots: 3,
            ..v1::Hello::default()
        }
    }

    pub(super) async fn connect(&self, hello: v1::Hello) -> Session {
        self.connect_on(self.link().await, hello).await
    }

    /// With the smallest room for unread answers.
    pub(super) async fn connect_slowly(&self, hello: v1::Hello) -> Session {
        let endpoint = Endpoint::from_shared(self.link_url.clone())
            .unwrap()
            .initial_stream_window_size(65_535)
            .initial_connection_window_size(65_535);
        let channel = connected(endpoint, self.tls.clone()).await.unwrap();
        self.connect_on(LinkServiceClient::new(channel), hello)
            .await
    }

    async fn connect_on(&self, mut link: LinkServiceClient<Channel>, hello: v1::Hello) -> Session {
        let (say, said) = mpsc::channel(64);
        let hello = v1::ConnectRequest {
            message_seq: 1,
            body: Some(Say::Hello(hello)),
        };
        say.send(hello).await.unwrap();
        let heard = link
            .connect(ReceiverStream::new(said))
            .await
            .unwrap()
            .into_inner();
        let mut session = Session {
            say,
            heard,
            seq: 1,
            welcome: v1::Welcome::default(),
            _link: link,
        };
        match session.next().await {
            Heard::Welcome(welcome) => session.welcome = welcome,
            other => panic!("no Welcome but {other:?}"),
        }
        session
    }

    pub(super) fn open_secret(
        &self,
        secret: &v1::resolve_secrets_response::Secret,
        aad: &[u8],
    ) -> Vec<u8> {
        let key = <X25519 as hpke::Kem>::EncappedKey::from_bytes(&secret.encapsulated_key).unwrap();
        hpke::single_shot_open::<hpke::aead::ChaCha20Poly1305, hpke::kdf::HkdfSha256, X25519>(
            &hpke::OpModeR::Base,
            &self.secret_private,
            &key,
            b"robotd-secret-v1",
            &secret.ciphertext,
            aad,
        )
        .unwrap()
    }
}

fn chain(issued: &v1::IssuedCertificate) -> Vec<CertificateDer<'static>> {
    issued
        .chain_der
        .iter()
        .take(1)
        .map(|der| CertificateDer::from(der.to_vec()))
        .collect()
}

/// A control stream.
pub(super) struct Session {
    say: mpsc::Sender<v1::ConnectRequest>,
    heard: Streaming<v1::ConnectResponse>,
    seq: u64,
    pub(super) welcome: v1::Welcome,
    _link: LinkServiceClient<Channel>,
}

impl Session {
    pub(super) async fn say(&mut self, body: Say) {
        self.seq += 1;
        let message = v1::ConnectRequest {
            message_seq: self.seq,
            body: Some(body),
        };
        self.say.send(message).await.unwrap();
    }

    /// False when the server does not take it any more.
    pub(super) async fn try_say(&mut self, body: Say) -> bool {
        self.seq += 1;
        let message = v1::ConnectRequest {
            message_seq: self.seq,
            body: Some(body),
        };
        self.say.send(message).await.is_ok()
    }

    pub(super) async fn next_or_end(&mut self) -> Option<Heard> {
        let message =
            tokio::time::timeout(std::time::Duration::from_secs(30), self.heard.message());
        message
            .await
            .expect("nothing was heard")
            .ok()
            .flatten()
            .and_then(|message| message.body)
    }

    pub(super) async fn next(&mut self) -> Heard {
        self.next_or_end().await.expect("the stream ended")
    }

    pub(super) async fn offer(&mut self) -> v1::JobOffer {
        match self.next().await {
            Heard::JobOffer(offer) => offer,
            other => panic!("no offer but {other:?}"),
        }
    }

    pub(super) async fn accept(&mut self, job: &v1::JobRef) {
        self.accept_with(job, [7; 32], "robot00").await;
    }

    pub(super) async fn accept_with(
        &mut self,
        job: &v1::JobRef,
        challenge: [u8; 32],
        account: &str,
    ) {
        let accept = v1::Accept {
            package_cached: false,
            broker_challenge: challenge.to_vec().into(),
            account: account.to_owned(),
        };
        let answer = Some(v1::offer_reply::Answer::Accept(accept));
        self.say(Say::OfferReply(v1::OfferReply {
            job: Some(job.clone()),
            answer,
        }))
        .await;
    }

    pub(super) async fn ask_lease(&mut self, job: &v1::JobRef, ticks: u64) -> v1::LeaseReply {
        self.say(Say::LeaseRequest(v1::LeaseRequest {
            request_id: format!("{}-{ticks}", job.job_id),
            pool: "default".to_owned(),
            job_id: job.job_id.clone(),
            attempt: job.attempt,
            agent_ticks_ns: ticks,
        }))
        .await;
        match self.next().await {
            Heard::LeaseReply(reply) => reply,
            other => panic!("no lease reply but {other:?}"),
        }
    }

    pub(super) async fn granted(&mut self, job: &v1::JobRef) -> (v1::LeaseGrant, v1::JobStart) {
        let reply = self.ask_lease(job, 1000).await;
        let grant = match reply.outcome {
            Some(v1::lease_reply::Outcome::Grant(grant)) => grant,
            other => panic!("no grant but {other:?}"),
        };
        match self.next().await {
            Heard::JobStart(start) => (grant, start),
            other => panic!("no start but {other:?}"),
        }
    }

    /// Offer, accept, license, start.
    pub(super) async fn take_job(&mut self) -> (v1::JobRef, v1::LeaseGrant, v1::JobStart) {
        let job = self.offer().await.job.unwrap();
        self.accept(&job).await;
        let (grant, start) = self.granted(&job).await;
        (job, grant, start)
    }

    pub(super) async fn heartbeat(
        &mut self,
        renewals: Vec<v1::LeaseRenewal>,
        free: u32,
    ) -> v1::HeartbeatReply {
        self.say(Say::Heartbeat(v1::Heartbeat {
            agent_ticks_ns: 5000,
            state: v1::AgentState::Ready.into(),
            renewals,
            free_slots: free,
            slots: 3,
            ..v1::Heartbeat::default()
        }))
        .await;
        match self.next().await {
            Heard::HeartbeatReply(reply) => reply,
            other => panic!("no reply but {other:?}"),
        }
    }

    pub(super) async fn reject(&mut self, job: &v1::JobRef, reason: v1::RejectReason) {
        let reject = v1::Reject {
            reason: reason.into(),
            ..v1::Reject::default()
        };
        let answer = Some(v1::offer_reply::Answer::Reject(reject));
        self.say(Say::OfferReply(v1::OfferReply {
            job: Some(job.clone()),
            answer,
        }))
        .await;
    }

    pub(super) async fn release(&mut self, grant: &v1::LeaseGrant) {
        self.say(Say::LeaseRelease(v1::LeaseRelease {
            lease_id: grant.lease_id.clone(),
            fence: grant.fence,
        }))
        .await;
    }
}
