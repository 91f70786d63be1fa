//! Output arrives: durable once, in order, complete, while it is being followed.

use order::{ArtifactTotal, Sha256Hex};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use wire::v1;
use wire::v1::record::Body;

use super::publisher::{
    JOB, LOG, Publisher, frame, line, position, put, reported, result, running, totals,
};
use super::server::Server;
use crate::admin::{Client, Frame, Request};

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
