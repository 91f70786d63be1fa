//! Looking on at a running job: from its attendant's bell to the orchestrator.

use order::{AttemptRef, Phase};
use privsep::broker::Request;
use privsep::doorbell::{FromAttendant, MAX_SCREEN, ToAttendant};
use wire::v1;
use wire::v1::connect_request::Body as Said;

use super::attendant::Attendant;
use super::{Host, Orchestrator};

const WATCH: ToAttendant = ToAttendant::Watch { most_per_second: 2 };

async fn running() -> (Host, AttemptRef, Attendant) {
    let host = Host::online().await;
    let attempt = host.orchestrator.offer(b"p").await;
    host.at_broker(|broker| {
        broker.wait_for("Start", |request| matches!(request, Request::Start { .. }))
    });
    let attendant = Attendant::start(&host.places, attempt);
    host.broker.phase(attempt, Phase::Running);
    (host, attempt, attendant)
}

async fn watched() -> (Host, AttemptRef, Attendant) {
    let (host, attempt, attendant) = running().await;
    host.orchestrator.watch("w", attempt, 2).await;
    told(&attendant, 0, WATCH);
    (host, attempt, attendant)
}

fn told(attendant: &Attendant, behind: usize, word: ToAttendant) -> usize {
    tokio::task::block_in_place(|| attendant.is_told(behind, word))
}

/// The answer to a command: its code, empty when it was carried out.
async fn answer(host: &Host, command: &str) -> String {
    host.orchestrator
        .wait("an answer to the command", |seen| {
            seen.said.iter().find_map(|said| match said {
                Said::CommandResult(result) if result.command_id == command => {
                    Some(result.reason.clone())
                }
                _ => None,
            })
        })
        .await
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_arrives_whole_and_the_next_is_due_only_when_it_was_taken() {
    let (host, attempt, attendant) = watched().await;
    assert_eq!(answer(&host, "w").await, "");
    let frame = noise(300_000);
    attendant.show(&frame);
    assert_eq!(host.orchestrator.frame(0, 0).await, frame);
    host.orchestrator.with(|seen| {
        let open = &seen.views[0].open;
        assert_eq!(open.job, Some(super::orchestrator::job_ref(attempt)));
        assert_eq!(open.session_epoch, 1);
    });
    assert_eq!(attendant.words(), [WATCH], "nothing before it was taken");
    host.orchestrator.took(0, false);
    told(&attendant, 0, ToAttendant::Shown);
    attendant.show(b"what changed");
    assert_eq!(host.orchestrator.frame(0, 1).await, b"what changed");
    host.orchestrator.took(0, true);
    told(&attendant, 2, ToAttendant::Shown);
    assert_eq!(
        attendant.words()[2..],
        [WATCH, ToAttendant::Shown],
        "a whole picture is asked for"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_attendant_hears_when_nobody_looks_on_any_more() {
    let (host, attempt, attendant) = watched().await;
    attendant.show(b"one");
    host.orchestrator.frame(0, 0).await;
    host.orchestrator.end_view(0);
    let heard = told(&attendant, 0, ToAttendant::Unwatch);
    host.orchestrator.watch("again", attempt, 2).await;
    told(&attendant, heard, WATCH);
    attendant.show(b"two");
    assert_eq!(host.orchestrator.frame(1, 0).await, b"two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_for_more_pictures_takes_the_place_of_the_view_and_frees_its_frame() {
    let (host, attempt, attendant) = watched().await;
    attendant.show(b"never taken");
    host.orchestrator.frame(0, 0).await;
    host.orchestrator.watch("more", attempt, 5).await;
    let more = ToAttendant::Watch { most_per_second: 5 };
    let heard = told(&attendant, 1, more);
    told(&attendant, heard, ToAttendant::Shown);
    host.orchestrator.view_ended(0).await;
    attendant.show(b"whole");
    assert_eq!(host.orchestrator.frame(1, 0).await, b"whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_link_ends_the_view_and_the_next_session_may_begin_it_anew() {
    let (host, attempt, attendant) = watched().await;
    attendant.show(b"one");
    host.orchestrator.frame(0, 0).await;
    host.orchestrator.end_session();
    let heard = told(&attendant, 0, ToAttendant::Unwatch);
    host.orchestrator.watch("again", attempt, 2).await;
    told(&attendant, heard, WATCH);
    attendant.show(b"two");
    assert_eq!(host.orchestrator.frame(1, 0).await, b"two");
    host.orchestrator
        .with(|seen| assert!(seen.views[1].open.session_epoch > seen.views[0].open.session_epoch));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_view_ends_with_the_job() {
    let (host, attempt, attendant) = watched().await;
    attendant.show(b"one");
    host.orchestrator.frame(0, 0).await;
    host.orchestrator.took(0, false);
    host.broker.end(attempt, Some(attendant.finish()));
    host.orchestrator.view_ended(0).await;
    host.orchestrator
        .wait("REPORTED", |seen| Orchestrator::reported(seen, attempt))
        .await;
    host.until_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attendant_that_lies_is_not_watched_any_more() {
    let unsealed = || vec![std::fs::File::open("/dev/null").unwrap().into()];
    let oversize = || {
        let bytes = vec![0; MAX_SCREEN + 1];
        vec![sys::memfd::sealed(c"screen", &bytes).unwrap()]
    };
    for files in [Vec::new, unsealed, oversize] {
        let (host, attempt, mut attendant) = watched().await;
        attendant.say(FromAttendant::Screen, files());
        told(&attendant, 0, ToAttendant::Unwatch);
        host.orchestrator.view_ended(0).await;
        host.orchestrator.watch("again", attempt, 2).await;
        assert_eq!(answer(&host, "again").await, "SCREEN_UNAVAILABLE");
        attendant.print("the job goes on");
        let came = |seen: &mut super::orchestrator::Seen| {
            (!Orchestrator::lines(seen, attempt).is_empty()).then_some(())
        };
        host.orchestrator.wait("its output", came).await;
        host.orchestrator
            .with(|seen| assert!(seen.views[0].frames.is_empty()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cant_be_carried_out_is_refused_with_a_code() {
    let (host, attempt, _attendant) = running().await;
    let another = AttemptRef {
        job: order::JobId::new(),
        number: 1,
    };
    host.orchestrator.watch("unknown", another, 2).await;
    assert_eq!(answer(&host, "unknown").await, "JOB_UNKNOWN");
    for (command, rate) in [("never", 0), ("too often", 11)] {
        host.orchestrator.watch(command, attempt, rate).await;
        assert_eq!(answer(&host, command).await, "RATE_INVALID");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_files_and_heartbeats_do_not_wait_behind_a_large_frame() {
    let (host, attempt, mut attendant) = watched().await;
    host.orchestrator
        .wait("a view", |seen| (!seen.views.is_empty()).then_some(()))
        .await;
    host.orchestrator.with(|seen| seen.hold_views = true);
    let frame = noise(48 << 20);
    attendant.show(&frame);
    // More than the whole connection's window while nothing of the frame is read.
    let file = attendant.blob(&noise(3 << 20));
    for number in 0..300 {
        attendant.print(&format!("line {number} {}", "x".repeat(4000)));
    }
    let beats = host.orchestrator.with(|seen| heartbeats(seen));
    host.orchestrator
        .wait("records, files and heartbeats", |seen| {
            let lines = Orchestrator::lines(seen, attempt).len();
            let whole = lines == 300 && seen.blobs.contains_key(&file);
            (whole && heartbeats(seen) > beats).then_some(())
        })
        .await;
    host.orchestrator
        .with(|seen| assert!(seen.views[0].frames.is_empty(), "it is still on its way"));
    host.orchestrator.with(|seen| seen.hold_views = false);
    assert!(host.orchestrator.frame(0, 0).await == frame);
}

fn heartbeats(seen: &super::orchestrator::Seen) -> usize {
    let beat = |said: &&Said| matches!(said, Said::Heartbeat(v1::Heartbeat { .. }));
    seen.said.iter().filter(beat).count()
}
