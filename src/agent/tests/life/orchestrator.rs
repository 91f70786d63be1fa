//! An orchestrator that does what the test says: the real services over real TLS.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use order::{AgentId, AttemptRef, JobId, LeaseId, Sha256Hex};
use prost::Message as _;
use rustls::ServerConfig;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wire::v1;
use wire::v1::connect_request::Body as Said;
use wire::v1::connect_response::Body as Say;
use wire::v1::enrollment_service_server::{EnrollmentService, EnrollmentServiceServer};
use wire::v1::identity_service_server::{IdentityService, IdentityServiceServer};
use wire::v1::link_service_server::{LinkService, LinkServiceServer};

use crate::pki::Ca;

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

    /// Steps of an attempt in the JOB lane, in order.
    pub(crate) fn phases(seen: &Seen, attempt: AttemptRef) -> Vec<v1::JobPhase> {
        job_events(seen)
            .filter(|event| event.job == Some(job_ref(attempt)))
            .map(|event| event.phase())
            .collect()
    }

    pub(crate) fn reported(seen: &Seen, attempt: AttemptRef) -> Option<v1::JobEvent> {
        job_events(seen)
            .find(|event| {
                event.job == Some(job_ref(attempt)) && event.phase() == v1::JobPhase::Reported
            })
            .cloned()
    }

    pub(crate) fn lines(seen: &Seen, attempt: AttemptRef) -> Vec<String> {
        let lanes = seen
            .lanes
            .values()
            .filter(|lane| lane.attempt == Some(attempt));
        let records = lanes.flat_map(|lane| &lane.records);
        records
            .filter_map(|record| match &record.body {
                Some(v1::record::Body::Log(line)) => {
                    Some(String::from_utf8(line.text.to_vec()).unwrap())
                }
                _ => None,
            })
            .collect()
    }

    /// Codes and bodies of the AUDIT lane, in no order.
    pub(crate) fn events(seen: &Seen, code: events::Code) -> Vec<String> {
        let records = seen.lanes.values().flat_map(|lane| &lane.records);
        records
            .filter_map(|record| match &record.body {
                Some(v1::record::Body::Event(event)) if event.code == code.number() => {
                    Some(String::from_utf8(event.body.to_vec()).unwrap())
                }
                _ => None,
            })
            .collect()
    }

    /// Records that gaps stand for, in the lanes of an attempt.
    pub(crate) fn gaps(seen: &Seen, attempt: AttemptRef) -> Vec<(u64, v1::GapReason)> {
        let lanes = seen.lanes.values();
        let records = lanes
            .filter(|lane| lane.attempt == Some(attempt))
            .flat_map(|lane| &lane.records);
        records
            .filter_map(|record| match &record.body {
                Some(v1::record::Body::Gap(gap)) => Some((gap.records, gap.reason())),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn rejects(seen: &Seen, attempt: AttemptRef) -> Vec<v1::Reject> {
        seen.said
            .iter()
            .filter_map(|said| match said {
                Said::OfferReply(v1::OfferReply {
                    job,
                    answer: Some(v1::offer_reply::Answer::Reject(no)),
                }) if *job == Some(job_ref(attempt)) => Some(no.clone()),
                _ => None,
            })
            .collect()
    }
}

fn job_events(seen: &Seen) -> impl Iterator<Item = &v1::JobEvent> {
    seen.lanes
        .values()
        .flat_map(|lane| &lane.records)
        .filter_map(|record| match &record.body {
            Some(v1::record::Body::JobEvent(event)) => Some(event),
            _ => None,
        })
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

fn say(seen: &mut Seen, acked_seq: u64, body: Say) {
    seen.out_seq += 1;
    if let Some(session) = &seen.session {
        let _ = session.try_send(Ok(v1::ConnectResponse {
            message_seq: seen.out_seq,
            acked_seq,
            body: Some(body),
        }));
    }
}

fn seconds(length: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(length).unwrap()
}

impl Seen {
    fn grant(&mut self, request: &v1::LeaseRequest) -> Say {
        let attempt = AttemptRef {
            job: request.job_id.parse().unwrap(),
            number: request.attempt,
        };
        let known = self
            .leases
            .iter()
            .find(|(_, holder)| **holder == attempt)
            .map(|(lease, _)| *lease);
        if known.is_none() && self.free == 0 {
            let denial = v1::LeaseDenial {
                request_id: request.request_id.clone(),
                reason: v1::LeaseDenialReason::NoneFree.into(),
                ..v1::LeaseDenial::default()
            };
            return Say::LeaseReply(v1::LeaseReply {
                request_id: request.request_id.clone(),
                outcome: Some(v1::lease_reply::Outcome::Denial(denial)),
            });
        }
        let lease = known.unwrap_or_else(|| {
            self.free -= 1;
            self.fence += 1;
            LeaseId::new()
        });
        self.leases.insert(lease, attempt);
        let grant = self.terms(lease, request.agent_ticks_ns, None);
        Say::LeaseReply(v1::LeaseReply {
            request_id: request.request_id.clone(),
            outcome: Some(v1::lease_reply::Outcome::Grant(grant)),
        })
    }

    fn terms(
        &self,
        lease: LeaseId,
        agent_ticks_ns: u64,
        renewal: Option<v1::SignedRenewal>,
    ) -> v1::LeaseGrant {
        v1::LeaseGrant {
            lease_id: lease.to_string(),
            pool: "pool".into(),
            job_id: self.leases[&lease].job.to_string(),
            fence: self.fence,
            ttl: Some(seconds(self.ttl)),
            agent_ticks_ns,
            renewal,
        }
    }

    fn renew(&mut self, beat: &v1::Heartbeat) -> Say {
        let renewal = v1::SignedRenewal {
            body: b"renewal".to_vec().into(),
            key_id: "k".into(),
            signature: vec![0; 64].into(),
        };
        let held = beat
            .renewals
            .iter()
            .filter_map(|held| held.lease_id.parse().ok())
            .filter(|lease| self.leases.contains_key(lease));
        let grants: Vec<_> = held
            .map(|lease| self.terms(lease, beat.agent_ticks_ns, Some(renewal.clone())))
            .collect();
        self.renewals += grants.len() as u64;
        Say::HeartbeatReply(v1::HeartbeatReply {
            agent_ticks_ns: beat.agent_ticks_ns,
            grants,
            denials: vec![],
        })
    }

    fn start(&self, attempt: AttemptRef) -> Option<Say> {
        let body = self.orders.get(&attempt.job)?.clone();
        let order = v1::SignedOrder {
            body: body.into(),
            key_id: "k".into(),
            signature: vec![0; 64].into(),
        };
        Some(Say::JobStart(v1::JobStart {
            job: Some(job_ref(attempt)),
            order: Some(order),
        }))
    }

    fn hear(&mut self, message: v1::ConnectRequest) {
        let Some(body) = message.body else { return };
        self.said.push(body.clone());
        match body {
            Said::Heartbeat(beat) => {
                let reply = self.renew(&beat);
                say(self, message.message_seq, reply);
            }
            Said::LeaseRequest(request) => {
                let reply = self.grant(&request);
                let granted = matches!(
                    &reply,
                    Say::LeaseReply(v1::LeaseReply {
                        outcome: Some(v1::lease_reply::Outcome::Grant(_)),
                        ..
                    })
                );
                say(self, message.message_seq, reply);
                let attempt = AttemptRef {
                    job: request.job_id.parse().unwrap(),
                    number: request.attempt,
                };
                if let Some(start) = self.start(attempt).filter(|_| granted) {
                    say(self, message.message_seq, start);
                }
            }
            Said::LeaseRelease(release) => {
                let lease: LeaseId = release.lease_id.parse().unwrap();
                if self.leases.remove(&lease).is_some() {
                    self.released.push(lease);
                    self.free += 1;
                }
            }
            _ => {}
        }
    }

    fn welcome(&mut self, hello: &v1::Hello) -> v1::Welcome {
        self.epoch += 1;
        let verdicts = hello.jobs.iter().map(|held| v1::JobVerdict {
            job: held.job.clone(),
            action: v1::JobAction::Continue.into(),
        });
        v1::Welcome {
            session_epoch: self.epoch,
            minor: 1,
            heartbeat_interval: Some(seconds(Duration::from_millis(500))),
            silence_limit: Some(seconds(Duration::from_secs(10))),
            lanes: self.resumes(&hello.lanes),
            jobs: verdicts.collect(),
            limits: Some(v1::Limits {
                max_message_bytes: 262_144,
                max_frame_bytes: 4 << 20,
                max_artifact_bytes: 1 << 30,
            }),
            ..v1::Welcome::default()
        }
    }

    fn resume(&mut self, at: &v1::LanePosition) -> v1::LaneResume {
        let lane = self.lanes.entry(at.epoch.to_vec()).or_default();
        lane.attempt = attempt_of(at.job.as_ref());
        v1::LaneResume {
            lane: at.lane,
            epoch: at.epoch.clone(),
            durable_seq: lane.durable,
            window_bytes: 4096,
        }
    }

    fn resumes(&mut self, lanes: &[v1::LanePosition]) -> Vec<v1::LaneResume> {
        let refuse = self.refuse_output;
        lanes
            .iter()
            .filter(|lane| !refuse || lane.job.is_none())
            .map(|lane| self.resume(lane))
            .collect()
    }

    fn take(&mut self, frame: &v1::RecordFrame) -> v1::LaneAck {
        assert_eq!(crc32c::crc32c(&frame.payload), frame.crc32c);
        let lane = self
            .lanes
            .get_mut(frame.epoch.as_ref())
            .expect("a frame of a lane that was not opened");
        let mut rewind = false;
        if frame.first_seq == lane.durable + 1 {
            let batch = v1::RecordBatch::decode(frame.payload.clone()).unwrap();
            assert_eq!(batch.records.len(), frame.record_count as usize);
            lane.durable += batch.records.len() as u64;
            lane.records.extend(batch.records);
        } else {
            rewind = frame.first_seq > lane.durable + 1;
        }
        v1::LaneAck {
            lane: frame.lane,
            epoch: frame.epoch.clone(),
            durable_seq: lane.durable,
            window_bytes: 4096,
            rewind,
            rejected: vec![],
        }
    }
}

/// A service implemented for the shared state.
type Stream<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl EnrollmentService for Shared {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        let request = request.into_inner();
        let refused = self.with(|seen| {
            seen.csrs.push(request.csr_der.to_vec());
            seen.refuse_token
        });
        if let Some(reason) = refused {
            return Err(Status::unauthenticated(format!("{reason}: no")));
        }
        assert_eq!(request.join_secret.as_ref(), [5; 32]);
        assert_eq!(request.broker_keys.unwrap().secret_key.as_ref(), [9; 32]);
        Ok(Response::new(v1::EnrollResponse {
            issued: Some(issued(
                self,
                &request.csr_der,
                self.with(|seen| seen.issue_old),
            )),
        }))
    }
}

fn issued(own: &Shared, csr: &[u8], old: bool) -> v1::IssuedCertificate {
    let leaf = own.ca.issue(csr, own.agent, old);
    v1::IssuedCertificate {
        agent_id: own.agent.to_string(),
        chain_der: vec![leaf.to_vec().into()],
        bundle: Some(v1::TrustBundle {
            serial: 1,
            root_der: vec![own.ca.root().to_vec().into()],
        }),
        renew_before: Some(prost_types::Duration {
            seconds: 1,
            nanos: 0,
        }),
    }
}

#[tonic::async_trait]
impl IdentityService for Shared {
    async fn renew_certificate(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Result<Response<v1::RenewCertificateResponse>, Status> {
        Ok(Response::new(v1::RenewCertificateResponse {
            issued: Some(issued(self, &request.into_inner().csr_der, false)),
        }))
    }

    async fn get_trust_bundle(
        &self,
        _: Request<v1::GetTrustBundleRequest>,
    ) -> Result<Response<v1::GetTrustBundleResponse>, Status> {
        Ok(Response::new(v1::GetTrustBundleResponse { bundle: None }))
    }
}

#[tonic::async_trait]
impl LinkService for Shared {
    type ConnectStream = Stream<v1::ConnectResponse>;
    type PublishStream = Stream<v1::PublishResponse>;
    type FetchPackageStream = Stream<v1::FetchPackageResponse>;
    type StreamScreenStream = Stream<v1::StreamScreenResponse>;

    async fn stream_screen(
        &self,
        _: Request<Streaming<v1::StreamScreenRequest>>,
    ) -> Result<Response<Self::StreamScreenStream>, Status> {
        Err(Status::unimplemented("nobody looks on"))
    }

    async fn connect(
        &self,
        request: Request<Streaming<v1::ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut stream = request.into_inner();
        let Some(v1::ConnectRequest {
            body: Some(Said::Hello(hello)),
            ..
        }) = stream.message().await?
        else {
            return Err(Status::invalid_argument("HELLO_MISSING: no"));
        };
        let (answers, receiver) = mpsc::channel(256);
        let epoch = self.with(|seen| {
            let welcome = seen.welcome(&hello);
            seen.session = Some(answers);
            seen.hellos.push(hello);
            say(seen, 1, Say::Welcome(welcome));
            seen.epoch
        });
        let own = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = stream.message().await {
                own.with(|seen| seen.hear(message));
            }
            own.with(|seen| {
                if seen.epoch == epoch {
                    seen.session = None;
                }
            });
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn publish(
        &self,
        request: Request<Streaming<v1::PublishRequest>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        let mut stream = request.into_inner();
        let (answers, receiver) = mpsc::channel(64);
        let own = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = stream.message().await {
                let answer = own.with(|seen| match message.body {
                    Some(v1::publish_request::Body::Open(open)) => v1::PublishResponse {
                        acks: vec![],
                        resumes: seen.resumes(&open.lanes),
                    },
                    Some(v1::publish_request::Body::Frame(frame)) => v1::PublishResponse {
                        acks: vec![seen.take(&frame)],
                        resumes: vec![],
                    },
                    None => v1::PublishResponse::default(),
                });
                if answers.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn query_artifact(
        &self,
        request: Request<v1::QueryArtifactRequest>,
    ) -> Result<Response<v1::QueryArtifactResponse>, Status> {
        let sha256 = Sha256Hex(request.into_inner().sha256.as_ref().try_into().unwrap());
        let complete = self.with(|seen| seen.blobs.contains_key(&sha256));
        Ok(Response::new(v1::QueryArtifactResponse {
            complete,
            committed_bytes: 0,
        }))
    }

    async fn put_artifact(
        &self,
        request: Request<Streaming<v1::PutArtifactRequest>>,
    ) -> Result<Response<v1::PutArtifactResponse>, Status> {
        let mut stream = request.into_inner();
        let mut bytes = Vec::new();
        let mut sha256 = None;
        while let Some(message) = stream.message().await? {
            match message.body {
                Some(v1::put_artifact_request::Body::Open(open)) => {
                    sha256 = Some(Sha256Hex(open.sha256.as_ref().try_into().unwrap()))
                }
                Some(v1::put_artifact_request::Body::Chunk(chunk)) => {
                    bytes.extend_from_slice(&chunk.data)
                }
                None => {}
            }
        }
        let sha256 = sha256.unwrap();
        if sha256.0 != <[u8; 32]>::from(Sha256::digest(&bytes)) {
            return Err(Status::invalid_argument("DIGEST_MISMATCH: no"));
        }
        let committed_bytes = bytes.len() as u64;
        self.with(|seen| seen.blobs.insert(sha256, bytes));
        Ok(Response::new(v1::PutArtifactResponse {
            committed_bytes,
            complete: true,
        }))
    }

    async fn fetch_package(
        &self,
        request: Request<v1::FetchPackageRequest>,
    ) -> Result<Response<Self::FetchPackageStream>, Status> {
        let request = request.into_inner();
        let sha256 = Sha256Hex(request.sha256.as_ref().try_into().unwrap());
        let (package, breaks) = self.with(|seen| {
            seen.fetches.push(request.offset);
            (seen.packages.get(&sha256).cloned(), seen.break_fetch.take())
        });
        let package = package.ok_or_else(|| Status::not_found("PACKAGE_UNKNOWN: no"))?;
        let (answers, receiver) = mpsc::channel(4);
        tokio::spawn(async move {
            let mut offset = usize::try_from(request.offset).unwrap();
            while offset < package.len() {
                if breaks.is_some_and(|after| offset >= after) {
                    let _ = answers.send(Err(Status::unavailable("broken"))).await;
                    return;
                }
                let data = &package[offset..(offset + 1000).min(package.len())];
                let chunk = v1::FetchPackageResponse {
                    offset: offset as u64,
                    data: data.to_vec().into(),
                    total_bytes: package.len() as u64,
                };
                offset += data.len();
                if answers.send(Ok(chunk)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn resolve_secrets(
        &self,
        request: Request<v1::ResolveSecretsRequest>,
    ) -> Result<Response<v1::ResolveSecretsResponse>, Status> {
        let request = request.into_inner();
        if request.names.iter().any(|name| name == "forbidden") {
            return Err(Status::permission_denied("SECRET_NOT_GRANTED: no"));
        }
        let secret = |name: String| v1::resolve_secrets_response::Secret {
            encapsulated_key: vec![1].into(),
            ciphertext: name.clone().into(),
            name,
            version: "1".into(),
        };
        Ok(Response::new(v1::ResolveSecretsResponse {
            secrets: request.names.into_iter().map(secret).collect(),
        }))
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn serve(
    listener: TcpListener,
    tls: impl Fn() -> Arc<ServerConfig> + Send + 'static,
    router: tonic::transport::server::Router,
) {
    let (accepted, incoming) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, accepted) = (TlsAcceptor::from(tls()), accepted.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = accepted
                        .send(Ok::<_, std::io::Error>(Connection(stream)))
                        .await;
                }
            });
        }
    });
    tokio::spawn(async move {
        router
            .serve_with_incoming(ReceiverStream::new(incoming))
            .await
            .unwrap()
    });
}

struct Connection(TlsStream<TcpStream>);

impl tonic::transport::server::Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
