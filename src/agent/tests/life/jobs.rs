use std::time::Duration;

use agent::control::{Ask, Reply};
use events::Code;
use order::Phase;
use privsep::Refusal;
use privsep::broker::{Request, StopMode};
use wire::v1;
use wire::v1::connect_response::Body as Say;

use super::attendant::Attendant;
use super::orchestrator::job_ref;
use super::{Host, Orchestrator};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_from_offer_to_report_with_its_package_output_file_and_secret() {
    let host = Host::online().await;
    host.broker.with(|known| known.package_needed = true);
    host.orchestrator.with(|seen| seen.break_fetch = Some(5000));
    let package: Vec<u8> = (0..20_000_u32).map(|n| n as u8).collect();
    let attempt = host.orchestrator.offer(&package).await;

    host.at_broker(|broker| broker.wait("the package", |known| known.packages.first().cloned()))
        .as_slice()
        .eq(&package)
        .then_some(())
        .unwrap();
    assert_eq!(
        host.orchestrator.with(|seen| seen.fetches.clone()),
        [0, 5000],
        "it goes on where it was broken"
    );
    assert_eq!(
        host.broker.with(|known| known.orders.clone()),
        [format!("order of {attempt}").into_bytes()]
    );

    host.broker.phase(attempt, Phase::PackageReady);
    let mut attendant = Attendant::start(&host.places, attempt);
    host.broker.phase(attempt, Phase::Running);
    for line in 0..100 {
        attendant.print(&format!("line {line}"));
    }
    let file = attendant.blob(b"a picture");
    attendant.want("db");
    attendant.want("forbidden");
    host.at_broker(|broker| {
        broker.wait_for("the sealed secret", |request| matches!(request, Request::Secret { name, ciphertext, .. } if name == "db" && ciphertext == b"db"));
        broker.wait_for("the refusal", |request| matches!(request, Request::SecretFailed { refusal, .. } if refusal.code == "SECRET_NOT_GRANTED"));
    });
    host.broker.phase(attempt, Phase::Wiped);
    let lane = attendant.finish();
    let result = host.broker.end(attempt, Some(lane));

    let reported = host
        .orchestrator
        .wait("REPORTED", |seen| Orchestrator::reported(seen, attempt))
        .await;
    assert_eq!(
        reported.result.unwrap().body.as_ref(),
        result,
        "the exact signed bytes"
    );
    host.at_broker(|broker| {
        broker.wait_for("Forget", |request| *request == Request::Forget { attempt })
    });
    host.until_nothing_is_left().await;
    host.orchestrator.with(|seen| {
        let expected: Vec<_> = (0..100).map(|line| format!("line {line}")).collect();
        assert_eq!(Orchestrator::lines(seen, attempt), expected);
        assert_eq!(
            seen.blobs.get(&file).map(Vec::as_slice),
            Some(&b"a picture"[..])
        );
        assert_eq!(seen.released.len(), 1);
        for code in [
            Code::LicenseTakeAvailableRobotOk,
            Code::LicenseRobotReleaseOk,
        ] {
            let told = Orchestrator::events(seen, code);
            assert!(
                told.is_empty(),
                "the orchestrator records its own: {told:?}"
            );
        }
        use v1::JobPhase::{
            Accepted, LicenseLeased, LicenseReturned, PackageReady, Reported, Running, Started,
            Wiped,
        };
        let phases = Orchestrator::phases(seen, attempt);
        assert_eq!(
            phases,
            [
                Accepted,
                LicenseLeased,
                Started,
                PackageReady,
                Running,
                Wiped,
                LicenseReturned,
                Reported
            ]
        );
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_a_free_license_waits_for_its_turn() {
    let host = Host::online().await;
    host.orchestrator.with(|seen| seen.free = 0);
    let attempt = host.orchestrator.offer(b"p").await;
    host.orchestrator
        .wait("the request", |seen| {
            seen.said
                .iter()
                .any(|said| matches!(said, v1::connect_request::Body::LeaseRequest(_)))
                .then_some(())
        })
        .await;
    host.orchestrator.with(|seen| seen.free = 1);
    host.orchestrator
        .say(Say::LeaseReady(v1::LeaseReady {
            pool: "pool".into(),
            job_id: attempt.job.to_string(),
        }))
        .await;
    host.at_broker(|broker| {
        broker.wait_for("Start", |request| matches!(request, Request::Start { .. }))
    });
    let ticks: Vec<_> = host.orchestrator.with(|seen| {
        let asked = seen.said.iter().filter_map(|said| match said {
            v1::connect_request::Body::LeaseRequest(request) => {
                Some((request.request_id.clone(), request.agent_ticks_ns))
            }
            _ => None,
        });
        asked.collect()
    });
    assert!(
        ticks.len() >= 2
            && ticks
                .windows(2)
                .all(|pair| pair[0].0 == pair[1].0 && pair[0].1 < pair[1].1),
        "one request, a fresh tick each time: {ticks:?}"
    );
    host.broker.end(attempt, None);
    host.until_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_is_renewed_and_the_brokers_copy_with_it() {
    let host = Host::online().await;
    host.orchestrator
        .with(|seen| seen.ttl = Duration::from_secs(9));
    let attempt = host.orchestrator.offer(b"p").await;
    let renewed = host.at_broker(|broker| {
        broker.wait_for("Renew", |request| matches!(request, Request::Renew { .. }))
    });
    assert!(matches!(renewed, Request::Renew { renewal, .. } if renewal.body == b"renewal"));
    host.broker.end(attempt, None);
    host.until_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_the_broker_refuses_is_declined_with_the_brokers_code() {
    let host = Host::online().await;
    host.broker
        .with(|known| known.refuse_start = Some(Refusal::new("ORDER_EXPIRED", "too late")));
    let attempt = host.orchestrator.offer(b"p").await;
    let reject = host
        .orchestrator
        .wait("the rejection", |seen| {
            Orchestrator::rejects(seen, attempt).pop()
        })
        .await;
    assert_eq!(
        (reject.code.as_str(), reject.reason()),
        ("ORDER_EXPIRED", v1::RejectReason::Unsupported)
    );
    host.until_nothing_is_left().await;
    assert!(
        host.broker.with(|known| known.held.is_empty()),
        "the reservation is given back"
    );
    host.orchestrator
        .wait("the license back", |seen| {
            (seen.released.len() == 1).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_reaches_the_bot_or_the_waiting_job() {
    let host = Host::online().await;
    let running = host.orchestrator.offer(b"p").await;
    host.at_broker(|broker| {
        broker.wait_for("Start", |request| matches!(request, Request::Start { .. }))
    });
    let waiting = host.orchestrator.offer(b"q").await;
    for attempt in [running, waiting] {
        let stop = v1::JobStop {
            job: Some(job_ref(attempt)),
            mode: v1::StopMode::Graceful.into(),
            reason: "enough".into(),
        };
        host.orchestrator.say(Say::JobStop(stop)).await;
    }
    host.at_broker(|broker| {
        broker.wait_for("Stop", |request| {
            *request
                == Request::Stop {
                    attempt: running,
                    mode: StopMode::Graceful,
                }
        });
        broker.wait_for("Cancel", |request| {
            *request == Request::Cancel { attempt: waiting }
        });
    });
    let reject = host
        .orchestrator
        .wait("the rejection", |seen| {
            Orchestrator::rejects(seen, waiting).pop()
        })
        .await;
    assert_eq!(reject.code, "STOPPED");
    host.broker.end(running, None);
    host.until_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_host_refuses_offers_and_says_when_it_is_empty() {
    let host = Host::online().await;
    let running = host.orchestrator.offer(b"p").await;
    host.at_broker(|broker| {
        broker.wait_for("Start", |request| matches!(request, Request::Start { .. }))
    });
    assert_eq!(
        host.ask(Ask::Drain { wait: false }).await,
        Some(Reply::Done)
    );
    let refused = host.orchestrator.offer(b"q").await;
    let reject = host
        .orchestrator
        .wait("the rejection", |seen| {
            Orchestrator::rejects(seen, refused).pop()
        })
        .await;
    assert_eq!(reject.reason(), v1::RejectReason::Draining);
    host.broker.end(running, None);
    assert_eq!(host.ask(Ask::Drain { wait: true }).await, Some(Reply::Done));
    assert_eq!(
        host.ask(Ask::Jobs).await,
        Some(Reply::Jobs { jobs: vec![] })
    );
    assert_eq!(host.ask(Ask::Resume).await, Some(Reply::Done));
    host.until_online().await;
    // An attempt that was here is refused for good.
    let offer = v1::JobOffer {
        job: Some(job_ref(running)),
        package_sha256: vec![0; 32].into(),
        package_bytes: 1,
        pool: "pool".into(),
        ..v1::JobOffer::default()
    };
    host.orchestrator.say(Say::JobOffer(offer)).await;
    let reject = host
        .orchestrator
        .wait("the rejection", |seen| {
            Orchestrator::rejects(seen, running).pop()
        })
        .await;
    assert_eq!(reject.reason(), v1::RejectReason::AlreadyEnded);
}
