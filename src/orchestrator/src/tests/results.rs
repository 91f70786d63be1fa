//! Results: believed with the broker's signature only, compared with what arrived.

use wire::v1;

use super::publisher::{JOB, LOG, Publisher, frame, line, reported, result, running, totals};
use super::server::Server;

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
