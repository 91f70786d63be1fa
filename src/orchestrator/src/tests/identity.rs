//! Revocation, renewal, expiry: who may come in, and for how long.

use std::time::Duration;

use super::agent::Agent;
use super::publisher::{LOG, Publisher, frame, line, running};
use super::server::{Server, until};
use crate::admin::Request;
use wire::v1;
use wire::v1::connect_response::Body as Heard;

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_was_accepted_is_refused_after_its_revocation() {
    let server = Server::start().await;
    let agent = Agent::enrolled(&server, "a").await;
    let mut session = agent.connect(agent.hello()).await;
    server
        .ask(Request::AgentRevoke {
            name: "a".to_owned(),
        })
        .await
        .unwrap();
    // The open connection hears why, then it is closed.
    match session.next().await {
        Heard::SessionRevoked(revoked) => {
            assert_eq!(revoked.reason(), v1::RevokeReason::IdentityRevoked);
        }
        other => panic!("{other:?}"),
    }
    assert!(session.next_or_end().await.is_none());
    // The same client, with the sessions that it kept, gets no further than the handshake.
    let alert = agent.alert().await;
    assert_eq!(alert, Some(rustls::AlertDescription::CertificateRevoked));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_ends_the_old_one_when_it_is_first_used() {
    let server = Server::start().await;
    let mut agent = Agent::enrolled(&server, "a").await;
    let old = agent.tls();
    agent.renew().await;
    let new = agent.tls();
    // Until then the old one works: the answer may have been lost.
    agent.use_tls(old.clone());
    agent.connect(agent.hello()).await;
    agent.use_tls(new);
    agent.connect(agent.hello()).await;
    agent.use_tls(old);
    until("the refusal of the old certificate", async || {
        let alert = agent.alert().await?;
        assert_eq!(alert, rustls::AlertDescription::CertificateRevoked);
        Some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_session_of_an_agent_wins() {
    let server = Server::start().await;
    let agent = Agent::enrolled(&server, "a").await;
    let mut first = agent.connect(agent.hello()).await;
    let second = agent.connect(agent.hello()).await;
    assert!(second.welcome.session_epoch > first.welcome.session_epoch);
    match first.next().await {
        Heard::SessionRevoked(revoked) => {
            assert_eq!(revoked.reason(), v1::RevokeReason::Superseded)
        }
        other => panic!("{other:?}"),
    }
    assert!(first.next_or_end().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_can_not_speak_for_another() {
    let server = Server::start().await;
    let agent = Agent::enrolled(&server, "a").await;
    let mut hello = agent.hello();
    hello.agent_id = uuid::Uuid::now_v7().to_string();
    let (say, said) = tokio::sync::mpsc::channel(1);
    let body = Some(v1::connect_request::Body::Hello(hello));
    say.send(v1::ConnectRequest {
        message_seq: 1,
        body,
    })
    .await
    .unwrap();
    let said = tokio_stream::wrappers::ReceiverStream::new(said);
    let refused = agent.link().await.connect(said).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    assert!(refused.message().starts_with("AGENT_ID_MISMATCH: "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_certificate() {
    let server = Server::start().await;
    let mut agent = Agent::enrolled(&server, "a").await;
    agent.certify_for(&server, Duration::from_secs(3));
    let mut session = agent.connect(agent.hello()).await;
    session.heartbeat(Vec::new(), 3).await;
    assert!(session.next_or_end().await.is_none());
    let expired = until("the refusal of the expired certificate", async || {
        agent.alert().await
    });
    assert_eq!(expired.await, rustls::AlertDescription::CertificateExpired);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bulk_connection_of_a_revoked_agent_ends_too() {
    let server = Server::start().await;
    let (agent, session, job, _) = running(&server).await;
    let mut publisher = Publisher::open(&agent, &session, &job).await;
    let bulk = frame(v1::Lane::Log, LOG, 1, vec![line(b"a", true)]);
    publisher.send(bulk).await;
    let name = "a".to_owned();
    server.ask(Request::AgentRevoke { name }).await.unwrap();
    // At once by the session that is over, or by its connection that is closed.
    let more = frame(v1::Lane::Log, LOG, 2, vec![line(b"b", true)]);
    let refused = publisher.refused(more).await;
    assert!(refused.code() != tonic::Code::Ok, "{refused}");
    let shown = server.show(&job.job_id).await;
    assert_eq!(
        (&shown["code"], &shown["log"]["stdout"]["lines"]),
        (&"IDENTITY_REVOKED".into(), &1.into())
    );
}
