//! Output: durable once, complete, and compared with what the broker signed.

use order::{
    ArtifactTotal, JobResult, LogTotals, Outcome, Phase, PhaseAt, Purpose, Sha256Hex, StreamTotals,
    WipeMethod, WipeReport,
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
use crate::admin::{Client, Frame, Request};

const LOG: [u8; 16] = [1; 16];
const JOB: [u8; 16] = [2; 16];

/// A publishing stream with the lanes of one attempt.
struct Publisher {
    say: mpsc::Sender<v1::PublishRequest>,
    heard: Streaming<v1::PublishResponse>,
}

fn position(lane: v1::Lane, epoch: [u8; 16], job: Option<v1::JobRef>) -> v1::LanePosition {
    v1::LanePosition {
        lane: lane.into(),
        epoch: epoch.to_vec().into(),
        first_unacked_seq: 1,
        next_seq: 1,
        job,
    }
}

impl Publisher {
    async fn open(agent: &Agent, session: &Session, job: &v1::JobRef) -> Self {
        let (say, said) = mpsc::channel(16);
        let open = v1::PublishOpen {
            session_epoch: session.welcome.session_epoch,
            lanes: vec![
                position(v1::Lane::Log, LOG, Some(job.clone())),
                position(v1::Lane::Job, JOB, None),
            ],
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
        assert_eq!(publisher.next().await.resumes.len(), 2);
        publisher
    }

    async fn next(&mut self) -> v1::PublishResponse {
        self.heard.message().await.unwrap().unwrap()
    }

    async fn send(&mut self, frame: v1::RecordFrame) -> v1::LaneAck {
        let body = Some(v1::publish_request::Body::Frame(frame));
        self.say.send(v1::PublishRequest { body }).await.unwrap();
        self.next().await.acks.remove(0)
    }
}

fn frame(lane: v1::Lane, epoch: [u8; 16], first_seq: u64, bodies: Vec<Body>) -> v1::RecordFrame {
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

fn line(text: &[u8], terminated: bool) -> Body {
    Body::Log(v1::LogLine {
        source: v1::LogSource::Stdout.into(),
        severity: 6,
        text: text.to_vec().into(),
        terminated,
        continued: false,
        redactions: 0,
    })
}

fn totals(bytes: &[u8], lines: u64) -> StreamTotals {
    StreamTotals {
        lines,
        bytes: bytes.len() as u64,
        sha256: crate::archive::hex(&Sha256::digest(bytes)),
    }
}

/// A result for the attempt, of a bot that printed `out`.
fn result(agent: &Agent, job: &v1::JobRef, last_seq: u64, out: StreamTotals) -> JobResult {
    JobResult {
        v: 1,
        attempt: order::AttemptRef {
            job: job.job_id.parse().unwrap(),
            number: job.attempt,
        },
        agent: agent.id.parse().unwrap(),
        order_sha256: None,
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
        wipe: Some(WipeReport {
            complete: true,
            method: WipeMethod::TmpfsReleased,
            files: 3,
            bytes: 4096,
            swap: "none".to_owned(),
            swept: Vec::new(),
            leftovers: Vec::new(),
        }),
    }
}

fn reported(job: &v1::JobRef, result: &JobResult, key: &order::SigningKey) -> Body {
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

async fn running(server: &Server) -> (Agent, Session, v1::JobRef, v1::LeaseGrant) {
    server.stock(1).await;
    let agent = Agent::enrolled(server, "a").await;
    let mut session = agent.connect(agent.hello()).await;
    server.submit(|_| {}).await;
    let (job, grant, _) = session.take_job().await;
    (agent, session, job, grant)
}

async fn put(
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

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_job_arrives_byte_for_byte() {
    let server = Server::start().await;
    let (agent, mut session, job, grant) = running(&server).await;
    let mut publisher = Publisher::open(&agent, &session, &job).await;
    let content = b"invoice;total\n1;2\n".repeat(1000);
    let digest = Sha256Hex(Sha256::digest(&content).into());
    let first = frame(
        v1::Lane::Log,
        LOG,
        1,
        vec![line(b"hello \xff", true), line(b"\x1b[2J", true)],
    );
    assert_eq!(publisher.send(first.clone()).await.durable_seq, 2);
    // A repeat changes nothing.
    assert_eq!(publisher.send(first).await.durable_seq, 2);
    // A hole is asked for again.
    let artifact = Body::Artifact(v1::ArtifactRef {
        sha256: digest.0.to_vec().into(),
        size_bytes: content.len() as u64,
        media_type: "text/csv".to_owned(),
        name: b"../out/report.csv".to_vec().into(),
    });
    let third = frame(v1::Lane::Log, LOG, 4, vec![artifact]);
    let ack = publisher.send(third.clone()).await;
    assert_eq!((ack.durable_seq, ack.rewind), (2, true));
    // A frame whose bytes were hurt on the way is asked for again.
    let second = frame(v1::Lane::Log, LOG, 3, vec![line(b"no newline", false)]);
    let mut hurt = second.clone();
    hurt.crc32c ^= 1;
    let ack = publisher.send(hurt).await;
    assert_eq!((ack.durable_seq, ack.rewind), (2, true));
    assert_eq!(publisher.send(second).await.durable_seq, 3);
    assert_eq!(publisher.send(third).await.durable_seq, 4);

    let half = put(&agent, &session, &job, &content, 0, 5000).await;
    assert_eq!((half.committed_bytes, half.complete), (5000, false));
    let query = v1::QueryArtifactRequest {
        sha256: digest.0.to_vec().into(),
    };
    let known = agent
        .link()
        .await
        .query_artifact(query)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((known.committed_bytes, known.complete), (5000, false));
    assert!(
        put(&agent, &session, &job, &content, 5000, content.len())
            .await
            .complete
    );

    let out = b"hello \xff\n\x1b[2J\nno newline";
    let mut result = result(&agent, &job, 4, totals(out, 3));
    result.artifacts = vec![ArtifactTotal {
        name: "../out/report.csv".to_owned(),
        sha256: digest,
        bytes: content.len() as u64,
    }];
    let report = frame(
        v1::Lane::Job,
        JOB,
        1,
        vec![reported(&job, &result, &agent.result_key)],
    );
    assert_eq!(publisher.send(report).await.durable_seq, 1);
    session.release(&grant).await;

    let shown = server.shown_in(&job.job_id, "ENDED").await;
    assert_eq!(shown["outcome"], "SUCCEEDED");
    assert_eq!(shown["missing"], serde_json::json!([]));
    assert_eq!(shown["exit_code"], 0);
    assert_eq!(shown["license"]["returned"], true);
    assert_eq!(
        shown["log"]["stdout"]["sha256"],
        crate::archive::hex(&Sha256::digest(out)).as_str()
    );
    assert_eq!(shown["artifacts"][0]["sha256"], digest.to_string().as_str());
    assert_eq!(shown["wipe"]["complete"], true);
    let phases: Vec<_> = shown["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["phase"].as_str().unwrap())
        .collect();
    assert_eq!(
        phases,
        [
            "OFFERED",
            "ACCEPTED",
            "LICENSE_LEASED",
            "STARTED",
            "RUNNING",
            "WIPED",
            "LICENSE_RETURNED",
            "REPORTED"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_counted_named_and_does_not_stop_the_lane() {
    let server = Server::start().await;
    let (agent, session, job, _) = running(&server).await;
    let mut publisher = Publisher::open(&agent, &session, &job).await;
    let mut garbage = frame(
        v1::Lane::Log,
        LOG,
        1,
        vec![line(b"a", true), line(b"b", true)],
    );
    garbage.payload = b"not zstd".to_vec().into();
    garbage.crc32c = crc32c::crc32c(&garbage.payload);
    let ack = publisher.send(garbage).await;
    assert_eq!(
        (ack.durable_seq, ack.rejected.len(), ack.rewind),
        (2, 2, false)
    );
    // A frame that would grow beyond what it announces.
    let bomb = zstd::bulk::compress(&vec![0; 8 << 20], 1).unwrap();
    let mut bombed = frame(v1::Lane::Log, LOG, 3, vec![line(b"c", true)]);
    bombed.crc32c = crc32c::crc32c(&bomb);
    bombed.payload = bomb.into();
    assert_eq!(publisher.send(bombed).await.durable_seq, 3);
    assert_eq!(
        publisher
            .send(frame(v1::Lane::Log, LOG, 4, vec![line(b"d", true)]))
            .await
            .durable_seq,
        4
    );
    let shown = server.show(&job.job_id).await;
    assert_eq!(shown["log"]["stdout"]["bytes"], 2);
    assert_eq!(shown["gaps"].as_array().unwrap().len(), 2);
    assert!(server.codes().await.contains(&100_512));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_the_broker_did_not_sign_is_not_believed() {
    let server = Server::start().await;
    let (agent, session, job, _) = running(&server).await;
    let mut publisher = Publisher::open(&agent, &session, &job).await;
    let forged = result(&agent, &job, 0, totals(b"", 0));
    let other = order::SigningKey::generate().unwrap();
    publisher
        .send(frame(
            v1::Lane::Job,
            JOB,
            1,
            vec![reported(&job, &forged, &other)],
        ))
        .await;
    let shown = server.shown_in(&job.job_id, "ENDED").await;
    assert_eq!(
        (&shown["outcome"], &shown["code"]),
        (&"INTERRUPTED".into(), &"RESULT_SIGNATURE_INVALID".into())
    );
    assert_eq!(shown["exit_code"], serde_json::Value::Null);
    assert!(server.codes().await.contains(&100_504));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_is_not_what_was_signed_is_said() {
    let server = Server::start().await;
    let (agent, mut session, job, grant) = running(&server).await;
    let mut publisher = Publisher::open(&agent, &session, &job).await;
    publisher
        .send(frame(v1::Lane::Log, LOG, 1, vec![line(b"paid 1", true)]))
        .await;
    let result = result(&agent, &job, 1, totals(b"paid 9\n", 1));
    publisher
        .send(frame(
            v1::Lane::Job,
            JOB,
            1,
            vec![reported(&job, &result, &agent.result_key)],
        ))
        .await;
    session.release(&grant).await;
    let shown = server.shown_in(&job.job_id, "ENDED").await;
    assert!(
        shown["missing"][0]
            .as_str()
            .unwrap()
            .starts_with("stdout: "),
        "{}",
        shown["missing"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_of_a_job_that_did_not_start_here_is_not_opened() {
    let server = Server::start().await;
    let (agent, session, mut job, _) = running(&server).await;
    job.attempt = 2;
    let (say, said) = mpsc::channel(4);
    let open = v1::PublishOpen {
        session_epoch: session.welcome.session_epoch,
        lanes: vec![position(v1::Lane::Log, LOG, Some(job))],
    };
    say.send(v1::PublishRequest {
        body: Some(v1::publish_request::Body::Open(open)),
    })
    .await
    .unwrap();
    let mut heard = agent
        .link()
        .await
        .publish(ReceiverStream::new(said))
        .await
        .unwrap()
        .into_inner();
    assert!(heard.message().await.unwrap().unwrap().resumes.is_empty());
    let stolen = frame(v1::Lane::Log, LOG, 1, vec![line(b"x", true)]);
    say.send(v1::PublishRequest {
        body: Some(v1::publish_request::Body::Frame(stolen)),
    })
    .await
    .unwrap();
    let refused = heard.message().await.unwrap_err();
    assert!(
        refused.message().starts_with("LANE_NOT_OPEN: "),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_behind_is_cut_off_and_the_rest_goes_on() {
    let mut server = Server::start().await;
    let (mut agent, session, job, grant) = running(&server).await;
    let mut publisher = Publisher::open(&agent, &session, &job).await;
    publisher
        .send(frame(v1::Lane::Log, LOG, 1, vec![line(b"kept", true)]))
        .await;
    drop((publisher, session));
    server
        .restart(|data_dir| {
            // As if the power went between the append and the commit.
            let folder = data_dir.join(format!("frames/attempt-{}.1", job.job_id));
            let file = std::fs::read_dir(folder)
                .unwrap()
                .next()
                .unwrap()
                .unwrap()
                .path();
            let mut file = std::fs::OpenOptions::new().append(true).open(file).unwrap();
            std::io::Write::write_all(&mut file, b"\x10\0\0\0torn").unwrap();
        })
        .await;
    agent.follow(&server);
    let mut hello = agent.hello();
    let phase = v1::JobPhase::Running.into();
    hello.jobs = vec![v1::HeldJob {
        job: Some(job.clone()),
        phase,
    }];
    hello.leases = vec![v1::HeldLease {
        lease_id: grant.lease_id.clone(),
        fence: grant.fence,
        job_id: job.job_id.clone(),
    }];
    hello.lanes = vec![position(v1::Lane::Log, LOG, Some(job.clone()))];
    hello.lanes[0].next_seq = 2;
    let mut session = agent.connect(hello).await;
    assert_eq!(session.welcome.jobs[0].action(), v1::JobAction::Continue);
    assert_eq!(session.welcome.lanes[0].durable_seq, 1);
    let stands = session.welcome.leases[0].outcome.clone();
    assert!(
        matches!(stands, Some(v1::lease_verdict::Outcome::Grant(_))),
        "{stands:?}"
    );
    let mut publisher = Publisher::open(&agent, &session, &job).await;
    publisher
        .send(frame(v1::Lane::Log, LOG, 2, vec![line(b"going on", true)]))
        .await;
    let out = b"kept\ngoing on\n";
    let result = result(&agent, &job, 2, totals(out, 2));
    publisher
        .send(frame(
            v1::Lane::Job,
            JOB,
            1,
            vec![reported(&job, &result, &agent.result_key)],
        ))
        .await;
    session.release(&grant).await;
    let shown = server.shown_in(&job.job_id, "ENDED").await;
    assert_eq!(
        (&shown["outcome"], &shown["missing"]),
        (&"SUCCEEDED".into(), &serde_json::json!([]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_see_a_job_to_its_end() {
    let server = Server::start().await;
    let (agent, mut session, job, grant) = running(&server).await;
    let (job_id, dir) = (job.job_id.clone(), server.data_dir());
    let watch = Request::JobWatch {
        job: job_id.clone(),
    };
    let mut states = Client::ask(&dir, &watch).await.unwrap();
    let logs = Request::JobLogs {
        job: job_id,
        follow: true,
    };
    let mut logs = Client::ask(&dir, &logs).await.unwrap();
    match states.next().await.unwrap() {
        Frame::Json(state) => assert_eq!(state["state"], "STARTED"),
        other => panic!("{other:?}"),
    }
    let mut publisher = Publisher::open(&agent, &session, &job).await;
    for seq in 1..=2 {
        publisher
            .send(frame(v1::Lane::Log, LOG, seq, vec![line(b"x", true)]))
            .await;
        match logs.next().await.unwrap() {
            Frame::Bytes(bytes) => {
                let batch = v1::RecordBatch::decode(bytes.as_slice()).unwrap();
                assert_eq!(batch.records.len(), 1);
            }
            other => panic!("{other:?}"),
        }
    }
    let result = result(&agent, &job, 2, totals(b"x\nx\n", 2));
    publisher
        .send(frame(
            v1::Lane::Job,
            JOB,
            1,
            vec![reported(&job, &result, &agent.result_key)],
        ))
        .await;
    session.release(&grant).await;
    assert!(matches!(logs.next().await.unwrap(), Frame::End));
    let mut last = serde_json::Value::Null;
    while let Frame::Json(state) = states.next().await.unwrap() {
        last = state;
    }
    assert_eq!(
        (&last["state"], &last["outcome"]),
        (&"ENDED".into(), &"SUCCEEDED".into())
    );
}
