//! A job's life over the link.

use order::{Challenge, Expectation, KeyId, Signed, VerifyingKey};
use wire::v1;
use wire::v1::connect_request::Body as Say;
use wire::v1::connect_response::Body as Heard;

use super::agent::Agent;
use super::server::Server;
use crate::admin::Request;

pub(super) fn signed(order: &v1::SignedOrder) -> Signed {
    Signed {
        body: order.body.to_vec(),
        key_id: KeyId(order.key_id.clone()),
        signature: order.signature.to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_a_started_job_verifies_as_its_broker_would_do_it() {
    let server = Server::start().await;
    server.stock(1).await;
    let token = server
        .ask(Request::TokenCreate {
            agent: "other".to_owned(),
        })
        .await
        .unwrap();
    let agent = Agent::enrolled(&server, "a").await;
    let mut session = agent.connect(agent.hello()).await;
    let id = server
        .submit(|submission| submission.args = vec!["--fast".to_owned()])
        .await;
    let (job, grant, start) = session.take_job().await;
    assert_eq!((job.job_id.as_str(), job.attempt), (id.as_str(), 1));
    let key = VerifyingKey::from_base64(token["order_key"].as_str().unwrap()).unwrap();
    let expected = Expectation {
        keys: &[(key.id(), key)].into_iter().collect(),
        agent: agent.id.parse().unwrap(),
        attempt: order::AttemptRef {
            job: id.parse().unwrap(),
            number: 1,
        },
        challenge: Some(Challenge([7; 32])),
        now_unix_ms: crate::clock::Clock.unix_ms(),
    };
    let order = order::verify(&signed(&start.order.unwrap()), &expected).unwrap();
    assert_eq!(order.args, ["--fast"]);
    assert_eq!(
        (order.lease.fence, order.lease.ticks_ns),
        (grant.fence, 1000)
    );
    assert!(order.publisher.is_some());
    let shown = server.show(&id).await;
    let phases: Vec<_> = shown["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["phase"].as_str().unwrap())
        .collect();
    assert_eq!(phases, ["OFFERED", "ACCEPTED", "LICENSE_LEASED", "STARTED"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_sent_again_byte_for_byte_until_the_agent_shows_it() {
    let server = Server::start().await;
    server.stock(1).await;
    let agent = Agent::enrolled(&server, "a").await;
    let mut session = agent.connect(agent.hello()).await;
    server.submit(|_| {}).await;
    let (job, _, start) = session.take_job().await;
    drop(session);
    let held = |phase: v1::JobPhase| v1::HeldJob {
        job: Some(job.clone()),
        phase: phase.into(),
    };
    let mut hello = agent.hello();
    hello.jobs = vec![held(v1::JobPhase::Accepted)];
    let mut session = agent.connect(hello.clone()).await;
    assert_eq!(session.welcome.jobs[0].action(), v1::JobAction::Continue);
    match session.next().await {
        Heard::JobStart(again) => assert_eq!(again, start),
        other => panic!("{other:?}"),
    }
    drop(session);
    hello.jobs = vec![held(v1::JobPhase::Running)];
    let mut session = agent.connect(hello).await;
    // Nothing is sent again: the next answer is the one to the heartbeat.
    session.heartbeat(Vec::new(), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_job_waits_until_something_changes_at_the_agent() {
    let server = Server::start().await;
    server.stock(1).await;
    let agent = Agent::enrolled(&server, "a").await;
    let mut session = agent.connect(agent.hello()).await;
    let id = server.submit(|_| {}).await;
    let offer = session.offer().await;
    let reject = v1::Reject {
        reason: v1::RejectReason::NoCleanSlot.into(),
        code: String::new(),
        detail: "slot 0 is in quarantine".to_owned(),
    };
    let answer = Some(v1::offer_reply::Answer::Reject(reject));
    session
        .say(Say::OfferReply(v1::OfferReply {
            job: offer.job.clone(),
            answer,
        }))
        .await;
    let shown = server.shown_in(&id, "QUEUED").await;
    assert_eq!(shown["rejections"][0]["reason"], "NO_CLEAN_SLOT");
    // No slot is free: nothing comes but the answer.
    session.heartbeat(Vec::new(), 0).await;
    session.heartbeat(Vec::new(), 1).await;
    let offer = session.offer().await;
    assert_eq!(offer.job.unwrap().attempt, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_no_agent_may_ever_run_ends_with_the_reason() {
    let server = Server::start().await;
    server.stock(1).await;
    let agent = Agent::enrolled(&server, "a").await;
    let mut session = agent.connect(agent.hello()).await;
    let id = server
        .submit(|submission| submission.account = Some("root".to_owned()))
        .await;
    let offer = session.offer().await;
    let reject = v1::Reject {
        reason: v1::RejectReason::AccountNotAllowed.into(),
        code: "ACCOUNT_NOT_ALLOWED".to_owned(),
        detail: "root".to_owned(),
    };
    let answer = Some(v1::offer_reply::Answer::Reject(reject));
    session
        .say(Say::OfferReply(v1::OfferReply {
            job: offer.job,
            answer,
        }))
        .await;
    let shown = server.shown_in(&id, "ENDED").await;
    assert_eq!(
        (&shown["outcome"], &shown["code"]),
        (&"NOT_STARTED".into(), &"ACCOUNT_NOT_ALLOWED".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_message_is_answered_in_band() {
    let server = Server::start().await;
    let agent = Agent::enrolled(&server, "a").await;
    let mut session = agent.connect(agent.hello()).await;
    session
        .say(Say::LeaseRelease(v1::LeaseRelease {
            lease_id: "x".to_owned(),
            fence: 1,
        }))
        .await;
    match session.next().await {
        Heard::Refusal(refusal) => assert_eq!(
            (refusal.message_seq, refusal.reason.as_str()),
            (2, "LEASE_INVALID")
        ),
        other => panic!("{other:?}"),
    }
    session.heartbeat(Vec::new(), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_opens_for_the_broker_of_the_running_attempt_only() {
    let server = Server::start().await;
    server.stock(1).await;
    server.set_secret("erp", b"hunter2").await;
    let agent = Agent::enrolled(&server, "a").await;
    let mut session = agent.connect(agent.hello()).await;
    let id = server
        .submit(|submission| submission.secrets = vec!["erp".to_owned()])
        .await;
    let (job, grant, _) = session.take_job().await;
    let ask = |names: &[&str], fence| v1::ResolveSecretsRequest {
        job: Some(job.clone()),
        fence,
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let mut link = agent.link().await;
    let secrets = link
        .resolve_secrets(ask(&["erp"], grant.fence))
        .await
        .unwrap()
        .into_inner()
        .secrets;
    let attempt = order::AttemptRef {
        job: id.parse().unwrap(),
        number: 1,
    };
    let plain = agent.open_secret(&secrets[0], &order::secret_aad(&attempt, "erp"));
    assert_eq!(plain, b"hunter2");
    for (request, code) in [
        (ask(&["erp"], grant.fence + 1), "STALE_FENCE"),
        (ask(&["other"], grant.fence), "SECRET_NOT_GRANTED"),
    ] {
        let refused = link.resolve_secrets(request).await.unwrap_err();
        assert!(refused.message().starts_with(code), "{refused}");
    }
    let codes = server.codes().await;
    assert!(codes.contains(&100_205) && codes.contains(&100_206));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_of_an_account_is_granted_to_its_attempt_and_is_none_of_the_bots_secrets() {
    let server = Server::start().await;
    server.stock(1).await;
    server.set_secret("erp", b"hunter2").await;
    server.set_secret("accounts/clerk", b"pass word").await;
    let agent = Agent::enrolled(&server, "host-1").await;
    let mut session = agent.connect(agent.hello()).await;
    session.heartbeat(Vec::new(), 1).await;
    server
        .submit(|submission| {
            submission.secrets = vec!["erp".to_owned()];
            submission.account_secret = Some("accounts/clerk".to_owned());
        })
        .await;
    let (job, grant, start) = session.take_job().await;
    let order: order::Order = serde_json::from_slice(&start.order.unwrap().body).unwrap();
    assert_eq!(order.account_secret.as_deref(), Some("accounts/clerk"));
    assert_eq!(order.secrets, ["erp"]);
    let request = v1::ResolveSecretsRequest {
        job: Some(job.clone()),
        fence: grant.fence,
        names: vec!["accounts/clerk".to_owned()],
    };
    let granted = agent.link().await.resolve_secrets(request).await.unwrap();
    let attempt = order::AttemptRef {
        job: job.job_id.parse().unwrap(),
        number: 1,
    };
    let aad = order::secret_aad(&attempt, "accounts/clerk");
    let secret = &granted.into_inner().secrets[0];
    assert_eq!(agent.open_secret(secret, &aad), b"pass word");
    let unknown = server
        .try_submit(|submission| submission.account_secret = Some("nobody".to_owned()))
        .await;
    assert_eq!(unknown.unwrap_err().code, "SECRET_UNKNOWN");
    let shared = server
        .try_submit(|submission| {
            submission.secrets = vec!["erp".to_owned()];
            submission.account_secret = Some("erp".to_owned());
        })
        .await;
    assert_eq!(shared.unwrap_err().code, "ORDER_FIELD_REFUSED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_is_fetched_from_any_offset_by_who_was_offered_the_job() {
    let server = Server::start().await;
    server.stock(1).await;
    let agent = Agent::enrolled(&server, "a").await;
    let mut session = agent.connect(agent.hello()).await;
    server.submit(|_| {}).await;
    let offer = session.offer().await;
    let request = |offset| v1::FetchPackageRequest {
        sha256: offer.package_sha256.clone(),
        offset,
        job: offer.job.clone(),
    };
    let mut link = agent.link().await;
    let mut whole = Vec::new();
    for offset in [0, 100] {
        let mut pieces = link
            .fetch_package(request(offset))
            .await
            .unwrap()
            .into_inner();
        whole.truncate(usize::try_from(offset).unwrap());
        while let Some(piece) = pieces.message().await.unwrap() {
            assert_eq!(
                (piece.offset, piece.total_bytes),
                (whole.len() as u64, offer.package_bytes)
            );
            whole.extend_from_slice(&piece.data);
        }
    }
    use sha2::Digest as _;
    assert_eq!(sha2::Sha256::digest(&whole)[..], offer.package_sha256[..]);
    let thief = Agent::enrolled(&server, "b").await;
    let refused = thief
        .link()
        .await
        .fetch_package(request(0))
        .await
        .unwrap_err();
    assert!(
        refused.message().starts_with("NOT_YOUR_ATTEMPT: "),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_reaches_a_running_job_and_ends_a_waiting_one() {
    let server = Server::start().await;
    server.stock(1).await;
    let waiting = server.submit(|_| {}).await;
    let stop = |job: &str| Request::JobStop {
        job: job.to_owned(),
        kill: true,
    };
    server.ask(stop(&waiting)).await.unwrap();
    assert_eq!(
        server.shown_in(&waiting, "ENDED").await["outcome"],
        "STOPPED"
    );
    let agent = Agent::enrolled(&server, "a").await;
    let mut session = agent.connect(agent.hello()).await;
    let running = server.submit(|_| {}).await;
    session.take_job().await;
    server.ask(stop(&running)).await.unwrap();
    match session.next().await {
        Heard::JobStop(stop) => assert_eq!(stop.mode(), v1::StopMode::Kill),
        other => panic!("{other:?}"),
    }
    let ended = server.ask(stop(&waiting)).await.unwrap_err();
    assert_eq!(ended.code, "JOB_ENDED");
}
