use order::Phase;
use privsep::broker::Request;
use wire::v1;

use super::attendant::Attendant;
use super::{Host, Orchestrator};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_robotd_finds_its_job_again_and_the_output_is_complete() {
    let mut host = Host::online().await;
    let attempt = host.orchestrator.offer(b"p").await;
    host.at_broker(|broker| {
        broker.wait_for("Start", |request| matches!(request, Request::Start { .. }))
    });
    let mut attendant = Attendant::start(&host.places, attempt);
    host.broker.phase(attempt, Phase::Running);
    attendant.print("before");
    host.orchestrator
        .wait("the first line", |seen| {
            (Orchestrator::lines(seen, attempt) == ["before"]).then_some(())
        })
        .await;

    host.kill();
    attendant.print("while it was dead");
    host.broker.phase(attempt, Phase::Exited);
    host.start().await;
    attendant.print("after");
    let file = attendant.blob(b"x");
    host.orchestrator
        .wait("all lines", |seen| {
            (Orchestrator::lines(seen, attempt).len() == 3).then_some(())
        })
        .await;
    host.kill();
    let lane = attendant.finish();
    let result = host.broker.end(attempt, Some(lane));
    host.start().await;

    let reported = host
        .orchestrator
        .wait("REPORTED", |seen| Orchestrator::reported(seen, attempt))
        .await;
    assert_eq!(reported.result.unwrap().body.as_ref(), result);
    host.until_nothing_is_left().await;
    let starts = host.broker.with(|known| {
        known
            .asked
            .iter()
            .filter(|request| matches!(request, Request::Start { .. }))
            .count()
    });
    assert_eq!(starts, 1);
    host.orchestrator.with(|seen| {
        assert_eq!(
            Orchestrator::lines(seen, attempt),
            ["before", "while it was dead", "after"]
        );
        assert!(seen.blobs.contains_key(&file));
        let phases = Orchestrator::phases(seen, attempt);
        assert!(
            phases.contains(&v1::JobPhase::Exited),
            "what happened meanwhile is told: {phases:?}"
        );
        let again = &seen.hellos[1];
        assert_eq!(
            (again.jobs.len(), again.leases.len()),
            (1, 1),
            "it shows what it holds"
        );
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_gone_while_the_job_ended_tells_it_when_it_is_back() {
    let mut host = Host::online().await;
    let attempt = host.orchestrator.offer(b"p").await;
    host.at_broker(|broker| {
        broker.wait_for("Start", |request| matches!(request, Request::Start { .. }))
    });
    host.broker.phase(attempt, Phase::Running);
    host.broker.go();
    host.until("the broker is missed", |status| {
        status.state == "unhealthy" && status.blockers == ["BROKER_UNREACHABLE"]
    })
    .await;
    host.broker.phase(attempt, Phase::Exited);
    host.broker.end(attempt, None);
    host.broker.come_back();
    host.orchestrator
        .wait("REPORTED", |seen| Orchestrator::reported(seen, attempt))
        .await;
    host.until_nothing_is_left().await;
    host.until_online().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_died_at_the_start_is_believed_when_it_is_back() {
    let host = Host::online().await;
    host.broker.with(|known| known.die_at_start = Some(true));
    let attempt = host.orchestrator.offer(b"p").await;
    host.orchestrator
        .wait("STARTED", |seen| {
            Orchestrator::phases(seen, attempt)
                .contains(&v1::JobPhase::Started)
                .then_some(())
        })
        .await;
    host.broker.end(attempt, None);
    host.orchestrator
        .wait("REPORTED", |seen| Orchestrator::reported(seen, attempt))
        .await;
    host.until_nothing_is_left().await;
    assert_eq!(
        host.broker.with(|known| known.orders.len()),
        1,
        "given to the broker once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_of_which_nobody_knows_is_reported_as_lost_and_never_repeated() {
    let host = Host::online().await;
    host.broker.with(|known| known.die_at_start = Some(false));
    let attempt = host.orchestrator.offer(b"p").await;
    let reported = host
        .orchestrator
        .wait("REPORTED", |seen| Orchestrator::reported(seen, attempt))
        .await;
    assert_eq!(reported.result, None, "nobody can sign what nobody knows");
    host.until_nothing_is_left().await;
    assert_eq!(host.broker.with(|known| known.orders.len()), 1);
    host.orchestrator.with(|seen| {
        assert!(
            Orchestrator::rejects(seen, attempt).is_empty(),
            "a rejection would say that it never began"
        )
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_robotd_that_was_killed_before_the_start_declines_the_job() {
    let mut host = Host::online().await;
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
    host.kill();
    host.start().await;
    let reject = host
        .orchestrator
        .wait("the rejection", |seen| {
            Orchestrator::rejects(seen, attempt).pop()
        })
        .await;
    assert_eq!(
        (reject.code.as_str(), reject.reason()),
        ("AGENT_RESTARTED", v1::RejectReason::Busy)
    );
    host.until_nothing_is_left().await;
    assert!(host.broker.with(|known| known.held.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_set_back_begins_new_numbers_and_drops_nothing() {
    let mut host = Host::online().await;
    host.orchestrator
        .wait("the first event", |seen| {
            seen.lanes
                .values()
                .any(|lane| lane.durable > 0)
                .then_some(())
        })
        .await;
    host.kill();
    // The orchestrator remembers more than the host has on its disk.
    let before: Vec<_> = host.orchestrator.with(|seen| {
        seen.lanes
            .values_mut()
            .for_each(|lane| lane.durable += 1000);
        seen.lanes.keys().cloned().collect()
    });
    host.start().await;
    host.until_online().await;
    let attempt = host.orchestrator.offer(b"p").await;
    host.at_broker(|broker| {
        broker.wait_for("Start", |request| matches!(request, Request::Start { .. }))
    });
    host.broker.end(attempt, None);
    host.orchestrator
        .wait("REPORTED", |seen| Orchestrator::reported(seen, attempt))
        .await;
    host.until_nothing_is_left().await;
    host.orchestrator
        .wait("the event", |seen| {
            let fresh = seen.lanes.iter().filter(|(epoch, _)| !before.contains(epoch));
            let mut records = fresh.flat_map(|(_, lane)| &lane.records);
            records.find(|record| matches!(&record.body, Some(v1::record::Body::Event(event)) if event.code == events::Code::AgentReverted.number())).map(drop)
        })
        .await;
}
