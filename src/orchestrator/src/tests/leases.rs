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
    let (_, grant, _) = session.take_job().await;
    let free = until("the license to come free", async || {
        let pools = server.ask(Request::LicenseList).await.unwrap();
        (pools[0]["held"] == 0).then_some(pools)
    });
    free.await;
    assert_eq!(server.count(616).await, 1);
    // A return that comes too late is said once, however often it is repeated.
    for _ in 0..2 {
        session.release(&grant).await;
        match session.next().await {
            Heard::Refusal(refusal) => assert_eq!(refusal.reason, "LEASE_UNKNOWN"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(license_events(&server).await, [608, 616, 611]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_grant_denial_and_return_is_one_event() {
    let server = Server::start().await;
    server.stock(1).await;
    let agent = Agent::enrolled(&server, "a").await;
    let mut session = agent.connect(agent.hello()).await;
    server.submit(|_| {}).await;
    let (job, first, start) = session.take_job().await;
    // Its answer was lost: the same license again.
    let (again, same) = session.granted(&job).await;
    assert_eq!((again.lease_id, same), (first.lease_id.clone(), start));
    server.submit(|_| {}).await;
    let waiting = session.offer().await.job.unwrap();
    session.accept(&waiting).await;
    // Somebody else asks for it; that hides nothing of what happens to its owner.
    let thief = Agent::enrolled(&server, "b").await;
    let mut theirs = thief.connect(thief.hello()).await;
    let denied = theirs.ask_lease(&waiting, 1).await.outcome;
    assert!(
        matches!(&denied, Some(v1::lease_reply::Outcome::Denial(denial))
            if denial.reason() == v1::LeaseDenialReason::NotEntitled),
        "{denied:?}"
    );
    for ticks in 1..=3 {
        session.ask_lease(&waiting, ticks).await;
    }
    session.release(&first).await;
    session.release(&first).await;
    assert!(matches!(session.next().await, Heard::LeaseReady(_)));
    session.granted(&waiting).await;
    assert_eq!(
        license_events(&server).await,
        [608, 609, 609, 610, 608],
        "one for each of the two agents that were denied"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_was_declined_returns_its_license_once() {
    let server = Server::start().await;
    server.stock(1).await;
    let agent = Agent::enrolled(&server, "a").await;
    let mut session = agent.connect(agent.hello()).await;
    server.submit(|_| {}).await;
    let (job, grant, _) = session.take_job().await;
    session.reject(&job, v1::RejectReason::Busy).await;
    session.release(&grant).await;
    session.heartbeat(Vec::new(), 0).await;
    assert_eq!(license_events(&server).await, [608, 610]);
}

/// The codes of the license events so far, in order.
async fn license_events(server: &Server) -> Vec<u64> {
    let mut codes = server.codes().await;
    codes.retain(|code| (608..=616).contains(code));
    codes
}
