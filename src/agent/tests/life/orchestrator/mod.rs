//! An orchestrator that does what the test says: the real services over real TLS. One file per
//! conversation; `told` is what tests ask of it.

mod content;
mod control;
mod enrolment;
mod listen;
mod records;
mod screens;
mod told;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use order::{AgentId, AttemptRef, JobId, LeaseId, Sha256Hex};
use rustls::ServerConfig;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wire::v1;
use wire::v1::connect_request::Body as Said;
use wire::v1::connect_response::Body as Say;
use wire::v1::enrollment_service_server::EnrollmentServiceServer;
use wire::v1::identity_service_server::IdentityServiceServer;
use wire::v1::link_service_server::{LinkService, LinkServiceServer};

use crate::pki::Ca;
use control::say;
use listen::{listener, serve};

const PATIENCE: Duration = Duration::from_secs(30);

type Answers = mpsc::Sender<Result<v1::ConnectResponse, Status>>;

#[derive(Default)]
pub(crate) struct Lane {
    pub(crate) durable: u64,
    pub(crate) records: Vec<v1::Record>,
    pub(crate) attempt: Option<AttemptRef>,
}

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) csrs: Vec<Vec<u8>>,
    /// Refused tokens: what enrolment answers.
    pub(crate) refuse_token: Option<&'static str>,
    /// Enrolment gives certificates that are due for renewal.
    pub(crate) issue_old: bool,
    pub(crate) hellos: Vec<v1::Hello>,
    pub(crate) said: Vec<Said>,
    pub(crate) lanes: HashMap<Vec<u8>, Lane>,
    pub(crate) blobs: BTreeMap<Sha256Hex, Vec<u8>>,
    pub(crate) packages: BTreeMap<Sha256Hex, Vec<u8>>,
    /// Where package streams began.
    pub(crate) fetches: Vec<u64>,
    /// Names no position for lanes of attempts.
    pub(crate) refuse_output: bool,
    /// Breaks the next package stream after so many bytes.
    pub(crate) break_fetch: Option<usize>,
    pub(crate) free: u32,
    pub(crate) leases: BTreeMap<LeaseId, AttemptRef>,
    pub(crate) ttl: Duration,
    pub(crate) renewals: u64,
    pub(crate) released: Vec<LeaseId>,
    fence: u64,
    epoch: u64,
    session: Option<Answers>,
    out_seq: u64,
    /// Orders to send with a grant.
    pub(crate) orders: BTreeMap<JobId, Vec<u8>>,
    pub(crate) views: Vec<screens::View>,
    /// Reads nothing of a view any more.
    pub(crate) hold_views: bool,
}

pub(crate) struct Orchestrator {
    pub(crate) ca: Ca,
    tls: RwLock<Arc<ServerConfig>>,
    pub(crate) seen: Mutex<Seen>,
    changed: Notify,
    pub(crate) agent: AgentId,
    pub(crate) link_url: String,
    pub(crate) enroll_url: String,
}

/// What the services share; a type of our own, so that it can be one.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Orchestrator>);

impl std::ops::Deref for Shared {
    type Target = Orchestrator;

    fn deref(&self) -> &Orchestrator {
        &self.0
    }
}

impl Orchestrator {
    pub(crate) async fn start() -> Shared {
        let (ca, link, enroll) = (Ca::new(), listener().await, listener().await);
        let url = |listener: &TcpListener| {
            format!(
                "https://localhost:{}",
                listener.local_addr().unwrap().port()
            )
        };
        let seen = Seen {
            free: 1,
            ttl: Duration::from_secs(120),
            ..Seen::default()
        };
        let own = Shared(Arc::new(Self {
            tls: RwLock::new(Arc::new(ca.linking(&ca))),
            link_url: url(&link),
            enroll_url: url(&enroll),
            ca,
            seen: Mutex::new(seen),
            changed: Notify::new(),
            agent: AgentId::new(),
        }));
        let enrolling = Arc::new(own.ca.enrolling());
        let enrolment = EnrollmentServiceServer::new(own.clone());
        serve(
            enroll,
            move || Arc::clone(&enrolling),
            tonic::transport::Server::builder().add_service(enrolment),
        );
        let shared = own.clone();
        let services = tonic::transport::Server::builder()
            // As the reference orchestrator has them.
            .initial_stream_window_size(Some(1 << 20))
            .initial_connection_window_size(Some(2 << 20))
            .add_service(LinkServiceServer::new(own.clone()).max_decoding_message_size(5 << 20))
            .add_service(IdentityServiceServer::new(own.clone()));
        serve(
            link,
            move || Arc::clone(&shared.tls.read().unwrap()),
            services,
        );
        own
    }

    /// From now on only certificates of another authority pass.
    pub(crate) fn refuse_certificates(&self) {
        *self.tls.write().unwrap() = Arc::new(self.ca.linking(&Ca::new()));
        self.with(|seen| seen.session = None);
    }

    /// The control stream ends, as when the orchestrator is restarted.
    pub(crate) fn end_session(&self) {
        self.with(|seen| seen.session = None);
    }

    pub(crate) fn token(&self) -> agent::token::Token {
        use base64::Engine as _;
        agent::token::Token {
            v: 1,
            agent_id: self.agent,
            agent_name: "host-1".into(),
            link_url: self.link_url.clone(),
            enroll_url: self.enroll_url.clone(),
            root_sha256: Sha256Hex(self.ca.root_sha256()),
            secret: base64::engine::general_purpose::STANDARD.encode([5; 32]),
            order_key: order::SigningKey::generate().unwrap().public(),
            root_key: None,
            expires_unix_ms: u64::MAX,
        }
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        let found = look(&mut self.seen.lock().unwrap());
        self.changed.notify_waiters();
        found
    }

    /// Waits until it is so.
    pub(crate) async fn wait<T>(
        &self,
        what: &str,
        mut ready: impl FnMut(&mut Seen) -> Option<T>,
    ) -> T {
        let looked = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = ready(&mut self.seen.lock().unwrap()) {
                    return found;
                }
                changed.await;
            }
        };
        match tokio::time::timeout(PATIENCE, looked).await {
            Ok(found) => found,
            Err(_) => panic!(
                "the orchestrator never saw: {what}; it heard {:#?}",
                self.seen.lock().unwrap().said
            ),
        }
    }

    pub(crate) async fn say(&self, body: Say) {
        self.wait("a session to speak in", |seen| seen.session.clone())
            .await;
        self.with(|seen| say(seen, 0, body));
    }

    /// Offers a job when there is a free slot; its attempt.
    pub(crate) async fn offer(&self, package: &[u8]) -> AttemptRef {
        self.wait("a heartbeat with a free slot", |seen| {
            seen.said.iter().rev().find_map(|said| {
                matches!(said, Said::Heartbeat(beat) if beat.free_slots > 0).then_some(())
            })
        })
        .await;
        self.offer_at_once(package).await
    }

    /// Offers a job, come what may.
    pub(crate) async fn offer_at_once(&self, package: &[u8]) -> AttemptRef {
        let attempt = AttemptRef {
            job: JobId::new(),
            number: 1,
        };
        let sha256 = Sha256Hex(Sha256::digest(package).into());
        self.with(|seen| {
            seen.packages.insert(sha256, package.to_vec());
            seen.orders
                .insert(attempt.job, format!("order of {attempt}").into_bytes());
        });
        self.say(Say::JobOffer(v1::JobOffer {
            job: Some(job_ref(attempt)),
            package_sha256: sha256.0.to_vec().into(),
            package_bytes: package.len() as u64,
            pool: "pool".into(),
            answer_within: Some(prost_types::Duration {
                seconds: 10,
                nanos: 0,
            }),
            ..v1::JobOffer::default()
        }))
        .await;
        attempt
    }
}

pub(crate) fn job_ref(attempt: AttemptRef) -> v1::JobRef {
    v1::JobRef {
        job_id: attempt.job.to_string(),
        attempt: attempt.number,
    }
}

fn attempt_of(job: Option<&v1::JobRef>) -> Option<AttemptRef> {
    let job = job?;
    Some(AttemptRef {
        job: job.job_id.parse().unwrap(),
        number: job.attempt,
    })
}

/// What a service answers with.
type Stream<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl LinkService for Shared {
    type ConnectStream = Stream<v1::ConnectResponse>;
    type PublishStream = Stream<v1::PublishResponse>;
    type FetchPackageStream = Stream<v1::FetchPackageResponse>;
    type StreamScreenStream = Stream<v1::StreamScreenResponse>;

    async fn stream_screen(
        &self,
        request: Request<Streaming<v1::StreamScreenRequest>>,
    ) -> Result<Response<Self::StreamScreenStream>, Status> {
        screens::stream_screen(self, request).await
    }

    async fn connect(
        &self,
        request: Request<Streaming<v1::ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        control::connect(self, request).await
    }

    async fn publish(
        &self,
        request: Request<Streaming<v1::PublishRequest>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        records::publish(self, request).await
    }

    async fn query_artifact(
        &self,
        request: Request<v1::QueryArtifactRequest>,
    ) -> Result<Response<v1::QueryArtifactResponse>, Status> {
        content::query_artifact(self, request).await
    }

    async fn put_artifact(
        &self,
        request: Request<Streaming<v1::PutArtifactRequest>>,
    ) -> Result<Response<v1::PutArtifactResponse>, Status> {
        content::put_artifact(self, request).await
    }

    async fn fetch_package(
        &self,
        request: Request<v1::FetchPackageRequest>,
    ) -> Result<Response<Self::FetchPackageStream>, Status> {
        content::fetch_package(self, request).await
    }

    async fn resolve_secrets(
        &self,
        request: Request<v1::ResolveSecretsRequest>,
    ) -> Result<Response<v1::ResolveSecretsResponse>, Status> {
        content::resolve_secrets(self, request).await
    }
}
