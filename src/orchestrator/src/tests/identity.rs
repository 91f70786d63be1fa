//! Enrolment, revocation, renewal.

use super::agent::{Agent, Applicant};
use super::server::{Server, until};
use crate::admin::Request;
use wire::v1;
use wire::v1::connect_response::Body as Heard;

async fn token(server: &Server, name: &str) -> serde_json::Value {
    let agent = name.to_owned();
    server.ask(Request::TokenCreate { agent }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_serves_one_key_and_answers_it_again() {
    let server = Server::start().await;
    let token = token(&server, "a").await;
    let (first, second) = (Applicant::new(), Applicant::new());
    let issued = first.enroll(&server, &token).await.unwrap();
    let again = first.enroll(&server, &token).await.unwrap();
    assert_eq!(issued.agent_id, again.agent_id);
    let refused = second.enroll(&server, &token).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    assert!(refused.message().starts_with("TOKEN_BOUND: "), "{refused}");
    assert!(server.codes().await.contains(&100_502));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_token_and_a_broken_request_are_refused() {
    let server = Server::start().await;
    let mut token = token(&server, "a").await;
    token["secret"] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into();
    let refused = Applicant::new().enroll(&server, &token).await.unwrap_err();
    assert!(
        refused.message().starts_with("TOKEN_UNKNOWN: "),
        "{refused}"
    );
    let mut csr = Applicant::new().csr();
    let last = csr.len() - 1;
    csr[last] ^= 1;
    assert_eq!(
        crate::ca::Request::parse(&csr).err().unwrap().code,
        "CSR_INVALID"
    );
}

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
    let revoked = match agent.channel().await {
        Err(error) => says_revoked(&error),
        Ok(channel) => {
            let mut link = wire::v1::link_service_client::LinkServiceClient::new(channel);
            let status = link
                .query_artifact(v1::QueryArtifactRequest::default())
                .await
                .unwrap_err();
            says_revoked(&status)
        }
    };
    assert!(revoked);
}

/// Whether the server's alert is at the bottom of an error. h2 keeps only the text of what broke
/// a connection, so there is no `rustls::Error` to be found.
fn says_revoked(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error
            .to_string()
            .contains("received fatal alert: CertificateRevoked")
        {
            return true;
        }
        cause = error.source();
    }
    false
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
    let refused = until("the refusal of the old certificate", async || {
        let channel = agent.channel().await.ok()?;
        let mut link = wire::v1::link_service_client::LinkServiceClient::new(channel);
        link.query_artifact(v1::QueryArtifactRequest::default())
            .await
            .err()
    })
    .await;
    assert!(says_revoked(&refused), "{refused:?}");
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
