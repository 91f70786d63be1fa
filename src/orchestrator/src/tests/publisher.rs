//! What an agent publishes: frames, results, artifacts.

use order::{
    Assurance, Canary, JobResult, KeyReport, LogTotals, Outcome, Phase, PhaseAt, Purpose,
    ScanReport, StreamTotals, VolumeBackend, VolumeReport, WipeReport,
};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use wire::v1;
use wire::v1::record::Body;

use super::agent::{Agent, Session};
use super::server::Server;

pub(super) const LOG: [u8; 16] = [1; 16];
pub(super) const JOB: [u8; 16] = [2; 16];

/// A publishing stream with the lanes of one attempt.
pub(super) struct Publisher {
    say: mpsc::Sender<v1::PublishRequest>,
    heard: Streaming<v1::PublishResponse>,
}

pub(super) fn position(
    lane: v1::Lane,
    epoch: [u8; 16],
    job: Option<v1::JobRef>,
) -> v1::LanePosition {
    v1::LanePosition {
        lane: lane.into(),
        epoch: epoch.to_vec().into(),
        first_unacked_seq: 1,
        next_seq: 1,
        job,
    }
}

impl Publisher {
    pub(super) async fn open(agent: &Agent, session: &Session, job: &v1::JobRef) -> Self {
        let lanes = vec![
            position(v1::Lane::Log, LOG, Some(job.clone())),
            position(v1::Lane::Job, JOB, None),
        ];
        Self::open_lanes(agent, session, lanes).await
    }

    /// The server must let all of them be opened.
    pub(super) async fn open_lanes(
        agent: &Agent,
        session: &Session,
        lanes: Vec<v1::LanePosition>,
    ) -> Self {
        let (say, said) = mpsc::channel(16);
        let wanted = lanes.len();
        let open = v1::PublishOpen {
            session_epoch: session.welcome.session_epoch,
            lanes,
        };
        let body = Some(v1::publish_request::Body::Open(open));
        say.send(v1::PublishRequest { body }).await.unwrap();
        let mut link = agent.link().await;
        let heard = link
            .publish(ReceiverStream::new(said))
            .await
            .unwrap()
            .into_inner();
        let mut publisher = Self { say, heard };
        assert_eq!(publisher.next().await.resumes.len(), wanted);
        publisher
    }

    pub(super) async fn next(&mut self) -> v1::PublishResponse {
        self.heard.message().await.unwrap().unwrap()
    }

    /// Sends for ever and reads nothing.
    pub(super) async fn flood(self, frame: v1::RecordFrame) {
        loop {
            let body = Some(v1::publish_request::Body::Frame(frame.clone()));
            if self.say.send(v1::PublishRequest { body }).await.is_err() {
                return;
            }
        }
    }

    /// Sends a frame that the server must not take; why it did not.
    pub(super) async fn refused(&mut self, frame: v1::RecordFrame) -> tonic::Status {
        let body = Some(v1::publish_request::Body::Frame(frame));
        // The stream may be over already; then the answer says why.
        let _ = self.say.send(v1::PublishRequest { body }).await;
        match self.heard.message().await {
            Err(status) => status,
            Ok(answer) => panic!("not refused but {answer:?}"),
        }
    }

    pub(super) async fn send(&mut self, frame: v1::RecordFrame) -> v1::LaneAck {
        let body = Some(v1::publish_request::Body::Frame(frame));
        self.say.send(v1::PublishRequest { body }).await.unwrap();
        self.next().await.acks.remove(0)
    }
}

pub(super) fn frame(
    lane: v1::Lane,
    epoch: [u8; 16],
    first_seq: u64,
    bodies: Vec<Body>,
) -> v1::RecordFrame {
    let records: Vec<_> = bodies
        .into_iter()
        .map(|body| v1::Record {
            time_delta_nano: 0,
            body: Some(body),
        })
        .collect();
    let record_count = u32::try_from(records.len()).unwrap();
    let raw = v1::RecordBatch {
        base_time_unix_nano: 1_000_000_000,
        records,
    }
    .encode_to_vec();
    let payload = zstd::bulk::compress(&raw, 1).unwrap();
    v1::RecordFrame {
        lane: lane.into(),
        epoch: epoch.to_vec().into(),
        first_seq,
        record_count,
        codec: v1::FrameCodec::Zstd.into(),
        raw_bytes: u32::try_from(raw.len()).unwrap(),
        crc32c: crc32c::crc32c(&payload),
        payload: payload.into(),
    }
}

pub(super) fn line(text: &[u8], terminated: bool) -> Body {
    Body::Log(v1::LogLine {
        source: v1::LogSource::Stdout.into(),
        severity: 6,
        text: text.to_vec().into(),
        terminated,
        continued: false,
        redactions: 0,
    })
}

pub(super) fn totals(bytes: &[u8], lines: u64) -> StreamTotals {
    StreamTotals {
        lines,
        bytes: bytes.len() as u64,
        sha256: crate::archive::hex(&Sha256::digest(bytes)),
    }
}

/// A result for the attempt, of a bot that printed `out`.
pub(super) fn result(
    agent: &Agent,
    job: &v1::JobRef,
    last_seq: u64,
    out: StreamTotals,
) -> JobResult {
    JobResult {
        sandbox: None,
        remarks: Vec::new(),
        ended_by: order::EndedBy::of("", "", Some(0), None),
        usage: Some(order::Usage {
            cpu_ms: Some(12),
            ..order::Usage::default()
        }),
        not_enforced: Vec::new(),
        v: 1,
        attempt: order::AttemptRef {
            job: job.job_id.parse().unwrap(),
            number: job.attempt,
        },
        agent: agent.id.parse().unwrap(),
        order_sha256: None,
        package: None,
        outcome: Outcome::Succeeded,
        code: String::new(),
        detail: String::new(),
        exit_code: Some(0),
        signal: None,
        timeline: vec![
            PhaseAt {
                phase: Phase::Running,
                at_unix_ms: 5,
            },
            PhaseAt {
                phase: Phase::Wiped,
                at_unix_ms: 9,
            },
        ],
        license: None,
        secrets: Vec::new(),
        session: None,
        log: LogTotals {
            stdout: out,
            stderr: totals(b"", 0),
        },
        artifacts: Vec::new(),
        screenshots: 0,
        lane_epoch: crate::archive::hex(&LOG),
        lane_last_seq: last_seq,
        processes_killed: 0,
        network: Some(order::NetworkUse {
            profile: "erp".into(),
            peers: vec![order::PeerUse::default()],
            ..order::NetworkUse::default()
        }),
        wipe: Some(WipeReport {
            complete: true,
            assurance: Assurance::CryptographicErase,
            volume: Some(VolumeReport {
                backend: VolumeBackend::Fscrypt,
                passed_over: vec!["dm-crypt: not here".to_owned()],
                key: Some(KeyReport {
                    cipher: "fscrypt v2".to_owned(),
                    identifier: "00112233445566778899aabbccddeeff".to_owned(),
                    created_unix_ms: 1,
                    destroyed_unix_ms: 2,
                    removal_flags: Some(0),
                }),
                files: 3,
                bytes: 4096,
                canary: Canary::Gone,
                scan: Some(ScanReport {
                    bytes: 1 << 20,
                    secrets: 1,
                    too_short: 0,
                    found: 0,
                }),
            }),
            duration_ms: 5,
            swap: "none".to_owned(),
            swept: Vec::new(),
            leftovers: Vec::new(),
        }),
    }
}

pub(super) fn reported(job: &v1::JobRef, result: &JobResult, key: &order::SigningKey) -> Body {
    let signed = key.sign(Purpose::Result, serde_json::to_vec(result).unwrap());
    Body::JobEvent(v1::JobEvent {
        job: Some(job.clone()),
        phase: v1::JobPhase::Reported.into(),
        result: Some(v1::SignedResult {
            body: signed.body.into(),
            key_id: signed.key_id.0,
            signature: signed.signature.into(),
        }),
    })
}

/// The agent found a start that nobody can prove.
pub(super) fn unproven(job: &v1::JobRef) -> Body {
    Body::JobEvent(v1::JobEvent {
        job: Some(job.clone()),
        phase: v1::JobPhase::Reported.into(),
        result: None,
    })
}

pub(super) async fn running(server: &Server) -> (Agent, Session, v1::JobRef, v1::LeaseGrant) {
    server.stock(1).await;
    let agent = Agent::enrolled(server, "a").await;
    let mut session = agent.connect(agent.hello()).await;
    server.submit(|_| {}).await;
    let (job, grant, _) = session.take_job().await;
    (agent, session, job, grant)
}

pub(super) async fn put(
    agent: &Agent,
    session: &Session,
    job: &v1::JobRef,
    content: &[u8],
    offset: usize,
    until: usize,
) -> v1::PutArtifactResponse {
    use v1::put_artifact_request::{Body, Chunk, Open};
    let open = Open {
        sha256: Sha256::digest(content).to_vec().into(),
        size_bytes: content.len() as u64,
        session_epoch: session.welcome.session_epoch,
        job: Some(job.clone()),
        offset: offset as u64,
    };
    let chunk = Chunk {
        data: content[offset..until].to_vec().into(),
    };
    let messages = [Body::Open(open), Body::Chunk(chunk)]
        .map(|body| v1::PutArtifactRequest { body: Some(body) });
    agent
        .link()
        .await
        .put_artifact(tokio_stream::iter(messages))
        .await
        .unwrap()
        .into_inner()
}
