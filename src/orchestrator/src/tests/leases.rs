//! Licenses over the link.

use std::time::Duration;

use order::{KeyId, Purpose, Renewal, Signed};
use wire::v1;
use wire::v1::connect_response::Body as Heard;

use super::agent::Agent;
use super::server::{Server, until};
use crate::admin::Request;

#[tokio::test(flavor = "multi_thread")]
async fn with_one_license_the_second_job_waits_for_its_turn() {
    let server = Server::start().await;
    server.stock(1).await;
    let agent = Agent::enrolled(&server, "a").await;
    let mut session = agent.connect(agent.hello()).await;
    server.submit(|_| {}).await;
    let (_, first, _) = session.take_job().await;
    server.submit(|_| {}).await;
    let waiting = session.offer().await.job.unwrap();
    session.accept(&waiting).await;
    match session.ask_lease(&waiting, 1).await.outcome {
        Some(v1::lease_reply::Outcome::Denial(denial)) => {
            assert_eq!(denial.reason(), v1::LeaseDenialReason::NoneFree);
        }
        other => panic!("{other:?}"),
    }
    session.release(&first).await;
    match session.next().await {
        Heard::LeaseReady(ready) => assert_eq!(ready.job_id, waiting.job_id),
        other => panic!("{other:?}"),
    }
    let (second, _) = session.granted(&waiting).await;
    assert!(second.fence > first.fence);
    let codes = server.codes().await;
    for code in [608, 609, 610] {
        assert!(codes.contains(&code), "{code} in {codes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_is_signed_and_a_stale_fence_is_denied() {
    let server = Server::start().await;
    server.stock(1).await;
    let token = server
        .ask(Request::TokenCreate {
            agent: "x".to_owned(),
        })
        .await
        .unwrap();
    let agent = Agent::enrolled(&server, "a").await;
    let mut session = agent.connect(agent.hello()).await;
    server.submit(|_| {}).await;
    let (_, grant, _) = session.take_job().await;
    let renewal = |fence| v1::LeaseRenewal {
        lease_id: grant.lease_id.clone(),
        fence,
    };
    let reply = session
        .heartbeat(vec![renewal(grant.fence), renewal(grant.fence + 1)], 2)
        .await;
    assert_eq!(reply.denials[0].reason(), v1::LeaseDenialReason::StaleFence);
    let extended = reply.grants[0].renewal.clone().unwrap();
    let signed = Signed {
        body: extended.body.to_vec(),
        key_id: KeyId(extended.key_id),
        signature: extended.signature.to_vec(),
    };
    let key = order::VerifyingKey::from_base64(token["order_key"].as_str().unwrap()).unwrap();
    assert!(key.accepts(Purpose::Renewal, &signed));
    let renewal: Renewal = serde_json::from_slice(&signed.body).unwrap();
    assert_eq!(
        (renewal.fence, renewal.ticks_ns, renewal.ttl_ms),
        (grant.fence, 5000, 120_000)
    );
    // A release that names the wrong fence is an event of its own.
    let mut wrong = grant.clone();
    wrong.fence += 1;
    session.release(&wrong).await;
    match session.next().await {
        Heard::Refusal(refusal) => assert_eq!(refusal.reason, "STALE_FENCE"),
        other => panic!("{other:?}"),
    }
    assert!(server.codes().await.contains(&611));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_that_nobody_renews_comes_back_by_itself() {
    let server = Server::start_with_ttl(Duration::from_secs(4)).await;
    server.stock(1).await;
    let agent = Agent::enrolled(&server, "a").await;
    let mut session = agent.connect(agent.hello()).await;
    server.submit(|_| {}).await;
    session.take_job().await;
    let free = until("the license to come free", async || {
        let pools = server.ask(Request::LicenseList).await.unwrap();
        (pools[0]["held"] == 0).then_some(pools)
    });
    free.await;
    assert!(server.codes().await.contains(&616));
}
