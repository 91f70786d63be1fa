//! Enrolment: one token, one key, and every way in which it is refused.

use rcgen::{CertificateParams, KeyPair};
use sha2::{Digest as _, Sha256};
use tonic::Code;

use super::agent::Applicant;
use super::server::Server;
use crate::admin::Request;
use crate::store::Store;

const TOKEN_REFUSED: u64 = 100_502;
const REQUEST_REFUSED: u64 = 100_004;

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

/// Enrols with a request that was changed; what the server says, and the last event.
async fn refusal(
    server: &Server,
    token: &serde_json::Value,
    change: impl FnOnce(&mut wire::v1::EnrollRequest),
) -> (Code, String, u64, String) {
    let applicant = Applicant::new();
    let refused = applicant
        .enroll_with(server, token, change)
        .await
        .unwrap_err();
    let code = refused.message().split(':').next().unwrap().to_owned();
    let last = server.events().await.pop().unwrap();
    let entity = last["entity"].as_str().unwrap().to_owned();
    (refused.code(), code, last["code"].as_u64().unwrap(), entity)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_request_is_refused_with_its_code_and_an_event() {
    let server = Server::start().await;
    let token = token(&server, "a").await;
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let rsa = CertificateParams::new(Vec::new())
        .unwrap()
        .serialize_request(&rsa)
        .unwrap();
    type Change = Box<dyn FnOnce(&mut wire::v1::EnrollRequest)>;
    let cases: [(&str, &str, Change); 7] = [
        (
            "garbage",
            "CSR_INVALID",
            Box::new(|request| request.csr_der = b"garbage".to_vec().into()),
        ),
        (
            "nothing",
            "CSR_INVALID",
            Box::new(|request| request.csr_der = Vec::new().into()),
        ),
        (
            "too large",
            "CSR_INVALID",
            Box::new(|request| request.csr_der = vec![0x30; 17 << 10].into()),
        ),
        (
            "wrong self-signature",
            "CSR_INVALID",
            Box::new(|request| {
                let mut csr = request.csr_der.to_vec();
                let last = csr.len() - 1;
                csr[last] ^= 1;
                request.csr_der = csr.into();
            }),
        ),
        (
            "RSA",
            "KEY_INVALID",
            Box::new(move |request| request.csr_der = rsa.der().to_vec().into()),
        ),
        (
            "no broker's keys",
            "KEY_INVALID",
            Box::new(|request| request.broker_keys = None),
        ),
        (
            "a broker's key of the wrong length",
            "KEY_INVALID",
            Box::new(|request| {
                request.broker_keys.as_mut().unwrap().secret_key = vec![1; 31].into()
            }),
        ),
    ];
    for (what, code, change) in cases {
        assert_eq!(
            refusal(&server, &token, change).await,
            (
                Code::InvalidArgument,
                code.to_owned(),
                REQUEST_REFUSED,
                code.to_owned()
            ),
            "{what}"
        );
    }
    // None of it used the token up.
    Applicant::new().enroll(&server, &token).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_is_refused_with_its_code_and_an_event() {
    let server = Server::start().await;
    let token = token(&server, "a").await;
    let old = [3; 32];
    let agent = token["agent_id"].as_str().unwrap().parse().unwrap();
    let store = Store::open(&server.data_dir()).unwrap();
    store.put_token(&Sha256::digest(old), agent, 1).unwrap();
    for (secret, code) in [
        (vec![9; 32], "TOKEN_UNKNOWN"),
        (Vec::new(), "TOKEN_UNKNOWN"),
        (old.to_vec(), "TOKEN_EXPIRED"),
    ] {
        let refused = refusal(&server, &token, |request| {
            request.join_secret = secret.into();
        });
        assert_eq!(
            refused.await,
            (
                Code::Unauthenticated,
                code.to_owned(),
                TOKEN_REFUSED,
                code.to_owned()
            )
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_guessers_is_turned_away_and_an_agent_enrols_after_it() {
    let server = Server::start().await;
    let token = token(&server, "a").await;
    let mut wrong = token.clone();
    wrong["secret"] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into();
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..2 * crate::config::ENROLMENTS_AT_ONCE {
        let (applicant, wrong) = (Applicant::new(), wrong.clone());
        let dir = server.data_dir();
        crowd.spawn(async move { applicant.try_to_enroll(&dir, &wrong).await });
    }
    let answers = crowd.join_all().await;
    let away = |status: &&tonic::Status| status.message().starts_with("TOO_MANY_TRIES: ");
    let statuses: Vec<_> = answers
        .iter()
        .filter_map(|answer| answer.as_ref().err())
        .collect();
    assert_eq!(statuses.len(), answers.len());
    let turned_away: Vec<_> = statuses
        .iter()
        .copied()
        .filter(|status| away(status))
        .collect();
    assert!(!turned_away.is_empty(), "{statuses:?}");
    assert!(
        turned_away
            .iter()
            .all(|status| status.code() == Code::ResourceExhausted)
    );
    // One event says that there are too many, one each says who got as far as the token.
    assert_eq!(server.count(REQUEST_REFUSED).await, 1);
    assert_eq!(
        server.count(TOKEN_REFUSED).await,
        answers.len() - turned_away.len()
    );
    Applicant::new().enroll(&server, &token).await.unwrap();
}
