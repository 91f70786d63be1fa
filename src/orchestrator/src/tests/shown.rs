//! `job show --json`: every key of the contract, with its type, and null for what is absent.

use order::{ArtifactTotal, Phase, PhaseAt, SessionSummary, Sha256Hex, StreamTotals};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use wire::v1;
use wire::v1::record::Body;

use super::publisher::{JOB, LOG, Publisher, frame, line, put, reported, result, running, totals};
use super::server::Server;

/// The steps of a job, in the order in which they are to be shown.
const PHASES: [&str; 16] = [
    "OFFERED",
    "ACCEPTED",
    "LICENSE_LEASED",
    "STARTED",
    "PACKAGE_READY",
    "VOLUME_READY",
    "SESSION_OPEN",
    "DISPLAY_READY",
    "RUNNING",
    "EXITED",
    "PROCESSES_GONE",
    "ARTIFACTS_COLLECTED",
    "SESSION_CLOSED",
    "WIPED",
    "LICENSE_RETURNED",
    "REPORTED",
];

/// The types in place of the values; of a list the type of its first element.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(list) => Value::Array(list.iter().take(1).map(shape).collect()),
        Value::Object(object) => {
            let shapes = object
                .iter()
                .map(|(key, value)| (key.clone(), shape(value)));
            Value::Object(shapes.collect::<Map<_, _>>())
        }
    }
}

fn assert_golden(shown: &Value, golden: &str) {
    let expected: Value = serde_json::from_str(golden).unwrap();
    let shape = shape(shown);
    let text = serde_json::to_string_pretty(&shape).unwrap();
    assert!(shape == expected, "not what the golden file says:\n{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_waits_shows_null_for_what_is_absent() {
    let server = Server::start().await;
    server.stock(1).await;
    let id = server.submit(|_| {}).await;
    let shown = server.show(&id).await;
    assert_golden(&shown, include_str!("golden/job-show-waiting.json"));
    assert_eq!(shown["timeline"], json!([]));
}

fn picture(content: &[u8]) -> Body {
    Body::Screenshot(v1::Screenshot {
        masked: vec![v1::MaskedArea {
            width: 1,
            height: 1,
            reason: v1::MaskReason::Area.into(),
            ..v1::MaskedArea::default()
        }],
        seq: 1,
        reason: v1::ScreenshotReason::Start.into(),
        width: 1280,
        height: 800,
        media_type: "image/png".to_owned(),
        sha256: Sha256::digest(content).to_vec().into(),
        size_bytes: content.len() as u64,
    })
}

fn artifact(content: &[u8]) -> Body {
    Body::Artifact(v1::ArtifactRef {
        sha256: Sha256::digest(content).to_vec().into(),
        size_bytes: content.len() as u64,
        media_type: "text/csv".to_owned(),
        name: b"report.csv".to_vec().into(),
    })
}

/// The steps of the privileged side, last first: the order shown is not the order said.
fn signed_steps() -> Vec<PhaseAt> {
    let steps = PHASES[4..14].iter().rev();
    steps
        .map(|name| PhaseAt {
            phase: serde_json::from_value::<Phase>((*name).into()).unwrap(),
            at_unix_ms: 5,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_has_ended_shows_every_field_and_every_step_in_order() {
    let server = Server::start().await;
    let (agent, mut session, job, grant) = running(&server).await;
    let mut publisher = Publisher::open(&agent, &session, &job).await;
    let (shot, file) = (b"a picture".as_slice(), b"a;b\n".as_slice());
    let records = vec![line(b"hello", true), picture(shot), artifact(file)];
    publisher.send(frame(v1::Lane::Log, LOG, 1, records)).await;
    for content in [shot, file] {
        put(&agent, &session, &job, content, 0, content.len()).await;
    }
    let mut result = result(&agent, &job, 3, totals(b"hello\n", 1));
    result.timeline = signed_steps();
    result.session = Some(SessionSummary {
        id: "c1".to_owned(),
        backend: "logind".to_owned(),
        account: "robot00".to_owned(),
        uid: 60_600,
        display: "1280x800".to_owned(),
        closed: true,
    });
    result.artifacts = vec![ArtifactTotal {
        name: "report.csv".to_owned(),
        sha256: Sha256Hex(Sha256::digest(file).into()),
        bytes: file.len() as u64,
    }];
    result.wipe.as_mut().unwrap().leftovers = vec!["/tmp/left".to_owned()];
    let report = vec![reported(&job, &result, &agent.result_key)];
    publisher.send(frame(v1::Lane::Job, JOB, 1, report)).await;
    session.release(&grant).await;
    let shown = server.shown_in(&job.job_id, "ENDED").await;
    assert_golden(&shown, include_str!("golden/job-show-ended.json"));
    let steps = shown["timeline"].as_array().unwrap();
    let phases: Vec<_> = steps
        .iter()
        .map(|step| step["phase"].as_str().unwrap())
        .collect();
    assert_eq!(phases, PHASES);
    assert_eq!(shown["log"]["stdout"], stream(&result.log.stdout));
    assert_eq!(shown["log"]["stderr"], stream(&result.log.stderr));
    assert_eq!(shown["license"]["fence"], grant.fence);
    assert_eq!(shown["license"]["lease_id"], grant.lease_id.as_str());
    assert_eq!(shown["wipe"]["assurance"], "cryptographic-erase");
    assert_eq!(shown["wipe"]["key"]["removal_flags"], 0);
    assert_eq!(shown["wipe"]["scan"]["found"], 0);
}

fn stream(totals: &StreamTotals) -> Value {
    json!({"lines": totals.lines, "bytes": totals.bytes, "sha256": totals.sha256})
}
