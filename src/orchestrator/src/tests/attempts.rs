//! Attempts between offer and end: answers that come again, starts that nobody can prove.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use order::Order;
use wire::v1;
use wire::v1::connect_response::Body as Heard;

use super::agent::Agent;
use super::publisher::{JOB, LOG, Publisher, frame, line, position, running, unproven};
use super::server::Server;
use crate::store::Store;

fn challenge_of(start: &v1::JobStart) -> Vec<u8> {
    let order: Order = serde_json::from_slice(&start.order.as_ref().unwrap().body).unwrap();
    BASE64.decode(order.challenge).unwrap()
}

fn held(job: &v1::JobRef, phase: v1::JobPhase) -> v1::HeldJob {
    v1::HeldJob {
        job: Some(job.clone()),
        phase: phase.into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accept_that_comes_again_before_the_start_replaces_challenge_and_account() {
    let server = Server::start().await;
    server.stock(1).await;
    let agent = Agent::enrolled(&server, "a").await;
    let mut session = agent.connect(agent.hello()).await;
    server.submit(|_| {}).await;
    let (_, first, _) = session.take_job().await;
    server.submit(|_| {}).await;
    let waiting = session.offer().await.job.unwrap();
    session.accept(&waiting).await;
    session.ask_lease(&waiting, 1).await;
    // The license takes long; the agent renews its reservation at the broker.
    session.accept_with(&waiting, [9; 32], "robot01").await;
    session.release(&first).await;
    assert!(matches!(session.next().await, Heard::LeaseReady(_)));
    let (_, start) = session.granted(&waiting).await;
    assert_eq!(challenge_of(&start), [9; 32]);
    let attempt = order::AttemptRef {
        job: waiting.job_id.parse().unwrap(),
        number: 1,
    };
    let row = || {
        let store = Store::open(&server.data_dir()).unwrap();
        store.attempt(attempt).unwrap().unwrap()
    };
    assert_eq!(row().account.as_deref(), Some("robot01"));

    // What was signed stands: a repeat that crossed the start changes nothing.
    session.accept_with(&waiting, [5; 32], "robot02").await;
    session.heartbeat(Vec::new(), 1).await;
    assert_eq!(row().account.as_deref(), Some("robot01"));
    drop(session);
    let mut hello = agent.hello();
    hello.jobs = vec![held(&waiting, v1::JobPhase::Accepted)];
    let mut session = agent.connect(hello).await;
    match session.next().await {
        Heard::JobStart(again) => assert_eq!(again, start),
        other => panic!("{other:?}"),
    }
}

/// An agent that comes back after a boot says Hello before its broker has told it the slots.
#[tokio::test(flavor = "multi_thread")]
async fn slots_that_are_known_only_after_the_hello_get_offers() {
    let server = Server::start().await;
    server.stock(1).await;
    let agent = Agent::enrolled(&server, "a").await;
    let hello = v1::Hello {
        slots: 0,
        ..agent.hello()
    };
    let mut session = agent.connect(hello).await;
    session.heartbeat(Vec::new(), 1).await;
    server.submit(|_| {}).await;
    session.offer().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_accept_survives_a_restart_of_the_server() {
    let mut server = Server::start().await;
    server.stock(1).await;
    let mut agent = Agent::enrolled(&server, "a").await;
    let mut session = agent.connect(agent.hello()).await;
    server.submit(|_| {}).await;
    let job = session.offer().await.job.unwrap();
    session.accept(&job).await;
    session.accept_with(&job, [9; 32], "robot01").await;
    session.heartbeat(Vec::new(), 2).await;
    drop(session);
    server.restart(|_| {}).await;
    agent.follow(&server);
    let mut hello = agent.hello();
    hello.jobs = vec![held(&job, v1::JobPhase::Accepted)];
    let mut session = agent.connect(hello).await;
    let (_, start) = session.granted(&job).await;
    assert_eq!(challenge_of(&start), [9; 32]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_nobody_can_prove_ends_at_once_and_never_runs_again() {
    let server = Server::start().await;
    let (agent, mut session, job, grant) = running(&server).await;
    let mut publisher = Publisher::open(&agent, &session, &job).await;
    let report = frame(v1::Lane::Job, JOB, 1, vec![unproven(&job)]);
    assert_eq!(publisher.send(report.clone()).await.durable_seq, 1);
    // No waiting: it had ended when the record was acknowledged.
    let shown = server.show(&job.job_id).await;
    assert_eq!(
        (&shown["state"], &shown["outcome"], &shown["code"]),
        (
            &"ENDED".into(),
            &"INTERRUPTED".into(),
            &"UNKNOWN_START".into()
        )
    );
    // The bot may run for all that is known: the license comes back or expires, it is not taken.
    assert_eq!(shown["license"]["returned"], false);
    session.release(&grant).await;
    // Free slots bring no new attempt: the next answer is the one to the heartbeat, and the one
    // after it too.
    session.heartbeat(Vec::new(), 3).await;
    session.heartbeat(Vec::new(), 3).await;
    let shown = server.show(&job.job_id).await;
    assert_eq!(
        (&shown["attempt"], &shown["license"]["returned"]),
        (&1.into(), &true.into())
    );
    publisher.send(report).await;
    for code in [100_106, 100_202, 610] {
        assert_eq!(server.count(code).await, 1, "{code}");
    }
    // What the agent still holds of it may go.
    let mut hello = agent.hello();
    hello.jobs = vec![held(&job, v1::JobPhase::Started)];
    let session = agent.connect(hello).await;
    assert_eq!(session.welcome.jobs[0].action(), v1::JobAction::Forget);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_can_give_up_an_attempt() {
    let server = Server::start().await;
    let (agent, session, job, _) = running(&server).await;
    let other = Agent::enrolled(&server, "b").await;
    let theirs = other.connect(other.hello()).await;
    let lanes = vec![position(v1::Lane::Job, JOB, None)];
    let mut publisher = Publisher::open_lanes(&other, &theirs, lanes).await;
    let report = frame(v1::Lane::Job, JOB, 1, vec![unproven(&job)]);
    publisher.send(report).await;
    assert_eq!(server.show(&job.job_id).await["state"], "STARTED");
    let mut publisher = Publisher::open(&agent, &session, &job).await;
    let output = frame(v1::Lane::Log, LOG, 1, vec![line(b"going on", true)]);
    assert_eq!(publisher.send(output).await.durable_seq, 1);
}
