//! Looking on at a running job: from the agent's call to a person's command.

use order::{Display, DisplayKind, Screenshots};
use prost::Message as _;
use serde_json::{Value, json};
use wire::v1;
use wire::v1::connect_request::Body as Say;

use super::agent::{Agent, Session};
use super::publisher::{JOB, Publisher, frame as records, reported, result, totals};
use super::server::{Server, until};
use super::viewer::{Feed, Watch, frame, whole};
use crate::spec::Submission;

pub(super) fn with_display(submission: &mut Submission) {
    submission.display = Some(Display {
        kind: DisplayKind::Xvfb,
        width: 320,
        height: 200,
        depth: 24,
    });
    submission.screenshots = Screenshots {
        live_view: true,
        ..Screenshots::default()
    };
}

pub(super) async fn running(server: &Server) -> (Agent, Session, v1::JobRef) {
    server.stock(3).await;
    let agent = Agent::enrolled(server, "host-1").await;
    let mut session = agent.connect(agent.hello()).await;
    session.heartbeat(Vec::new(), 3).await;
    server.submit(with_display).await;
    let (job, _, _) = session.take_job().await;
    (agent, session, job)
}

async fn feed(agent: &Agent, session: &Session, job: &v1::JobRef) -> Feed {
    Feed::open(agent, session.welcome.session_epoch, job)
        .await
        .unwrap()
}

/// A job that somebody looks on at and whose agent shows it.
async fn watched(server: &Server) -> (Agent, Session, v1::JobRef, Watch, Feed) {
    let (agent, mut session, job) = running(server).await;
    let watch = Watch::begin(server, &job).await;
    session.asked_to_show().await;
    let feed = feed(&agent, &session, &job).await;
    (agent, session, job, watch, feed)
}

async fn end(server: &Server, agent: &Agent, session: &Session, job: &v1::JobRef) {
    let mut publisher = Publisher::open(agent, session, job).await;
    let result = result(agent, job, 0, totals(b"", 0));
    let report = vec![reported(job, &result, &agent.result_key)];
    publisher.send(records(v1::Lane::Job, JOB, 1, report)).await;
    server.shown_in(&job.job_id, "REPORTED").await;
}

fn parts(change: &Value) -> Vec<(Value, Value)> {
    let parts = change["parts"].as_array().unwrap().iter();
    parts
        .map(|part| (part["tiles"].clone(), part["places"].clone()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_reaches_who_looks_on_and_nothing_else_is_told() {
    let server = Server::start().await;
    let (agent, mut session, job) = running(&server).await;
    let mut watch = Watch::ask(&server, &job.job_id, 3).await;
    let first = watch.next().await.unwrap().unwrap();
    assert_eq!(
        (&first["standing"], &first["changed"]),
        (&json!("asked"), &json!(0))
    );
    let (_, wish) = session.asked_to_show().await;
    assert_eq!((wish.job, wish.most_per_second), (Some(job.clone()), 3));
    let mut feed = feed(&agent, &session, &job).await;
    let (one, mut two) = (whole(1), frame(2, false, &[4]));
    two.masked = vec![v1::MaskedArea {
        x: 1,
        y: 2,
        width: 3,
        height: 4,
        reason: v1::MaskReason::Window.into(),
    }];
    assert!(!feed.show(&one).await);
    let shown = watch.next().await.unwrap().unwrap();
    assert_eq!(shown["whole"], true);
    assert_eq!(
        (&shown["width"], &shown["height"]),
        (&json!(192), &json!(128))
    );
    assert_eq!(
        parts(&shown),
        [(json!([0, 1, 2, 3, 4, 5]), json!([0, 1, 2, 3, 4, 5]))]
    );
    assert_eq!(shown["pictures"], json!([one.picture.to_vec()]));
    assert!(!feed.show(&two).await);
    let shown = watch.next().await.unwrap().unwrap();
    assert_eq!(
        (&shown["whole"], &shown["at_unix_ms"]),
        (&json!(false), &json!(2))
    );
    assert_eq!(parts(&shown), [(json!([4]), json!([0]))]);
    assert_eq!(
        shown["masked"],
        json!([{"x": 1, "y": 2, "width": 3, "height": 4, "reason": "window"}])
    );
    end(&server, &agent, &session, &job).await;
    let rest = watch.rest().await;
    assert_eq!(rest.len(), 1, "only that it is over: {rest:?}");
    assert_eq!(rest[0]["standing"], "over");
    assert!(feed.word().await.unwrap().is_none(), "the call has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_later_sees_the_whole_picture_at_once() {
    let server = Server::start().await;
    let (_agent, _session, job, _watch, mut feed) = watched(&server).await;
    feed.show(&whole(1)).await;
    feed.show(&frame(2, false, &[1, 4])).await;
    let mut later = Watch::ask(&server, &job.job_id, 1).await;
    let shown = later.next().await.unwrap().unwrap();
    assert_eq!(
        (&shown["standing"], &shown["whole"]),
        (&json!("shown"), &json!(true))
    );
    assert_eq!(
        parts(&shown),
        [
            (json!([0, 2, 3, 5]), json!([0, 2, 3, 5])),
            (json!([1, 4]), json!([0, 1]))
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_watcher_holds_up_nobody_and_skips_to_the_newest() {
    let server = Server::start().await;
    let (_agent, _session, job, mut slow, mut feed) = watched(&server).await;
    let mut quick = Watch::begin(&server, &job).await;
    const FRAMES: u64 = 60;
    for number in 1..=FRAMES {
        // More than a socket holds, while nobody reads at the other end of it.
        let mut large = whole(number);
        large.masked = vec![v1::MaskedArea::default(); 1024];
        feed.show(&large).await;
    }
    let newest = |change: &Value| change["at_unix_ms"] == FRAMES;
    quick.until("the newest", newest).await;
    let mut told = 0;
    while !newest(&slow.next().await.unwrap().unwrap()) {
        told += 1;
    }
    assert!(told < FRAMES / 2, "{told} of {FRAMES} were told");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_comes_back_is_asked_anew_and_shows_a_whole_picture() {
    let server = Server::start().await;
    let (agent, session, job, mut watch, mut old) = watched(&server).await;
    old.show(&whole(1)).await;
    drop(session);
    watch
        .until("it is away", |told| told["standing"] == "away")
        .await;
    let mut hello = agent.hello();
    hello.jobs = vec![v1::HeldJob {
        job: Some(job.clone()),
        phase: v1::JobPhase::Running.into(),
    }];
    let mut session = agent.connect(hello).await;
    session.asked_to_show().await;
    assert!(
        old.word().await.unwrap().is_none(),
        "the old call has ended"
    );
    let mut feed = feed(&agent, &session, &job).await;
    assert!(feed.show(&frame(2, false, &[0])).await, "whole first");
    assert!(!feed.show(&whole(1)).await);
    let shown = watch
        .until("it shows", |told| told["standing"] == "shown")
        .await;
    assert_eq!(shown["whole"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_one_who_leaves_ends_the_call_and_both_ends_are_events() {
    let server = Server::start().await;
    let (_agent, _session, job, watch, mut feed) = watched(&server).await;
    let another = Watch::begin(&server, &job).await;
    drop(watch);
    until("the first one has left", async || {
        (server.count(100_515).await == 1).then_some(())
    })
    .await;
    assert!(!feed.show(&whole(1)).await, "somebody looks on still");
    drop(another);
    assert!(feed.word().await.unwrap().is_none());
    until("the second one has left", async || {
        (server.count(100_515).await == 2).then_some(())
    })
    .await;
    let events = server.events().await;
    let of = |code: u64| events.iter().filter(move |event| event["code"] == code);
    for event in of(100_514).chain(of(100_515)) {
        assert_eq!(event["job_id"], job.job_id.as_str());
        assert!(event["user"].is_string(), "{event}");
    }
    assert_eq!(of(100_514).count(), 2);
}

async fn refusal(server: &Server, job: &str, most_per_second: u32) -> String {
    let mut watch = Watch::ask(server, job, most_per_second).await;
    watch.next().await.unwrap_err().code
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_watched_is_refused_with_a_code() {
    let server = Server::start().await;
    let (_agent, mut session, job) = running(&server).await;
    let dark = server.submit(|_| {}).await;
    session.take_job().await;
    let private = server
        .submit(|submission| {
            with_display(submission);
            submission.screenshots.live_view = false;
        })
        .await;
    session.take_job().await;
    let queued = server.submit(with_display).await;
    for (job, rate, code) in [
        (dark.as_str(), 1, "NO_DISPLAY"),
        (&private, 1, "LIVE_VIEW_OFF"),
        (&queued, 1, "JOB_NOT_RUNNING"),
        (&job.job_id, 0, "RATE_INVALID"),
        (&job.job_id, 11, "RATE_INVALID"),
    ] {
        assert_eq!(refusal(&server, job, rate).await, code);
    }
    assert_eq!(server.count(100_514).await, 0);
    let mut seats = Vec::new();
    for _ in 0..crate::config::MAX_WATCHERS {
        seats.push(Watch::begin(&server, &job).await);
    }
    assert_eq!(refusal(&server, &job.job_id, 1).await, "TOO_MANY_WATCHERS");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_shows_only_what_it_was_asked_for_and_only_its_own() {
    let server = Server::start().await;
    let (agent, mut session, job) = running(&server).await;
    let epoch = session.welcome.session_epoch;
    let code = async |agent: &Agent, epoch: u64, job: &v1::JobRef| {
        let refused = Feed::open(agent, epoch, job).await.err().unwrap();
        refused.message().split(':').next().unwrap().to_owned()
    };
    assert_eq!(code(&agent, epoch, &job).await, "NOBODY_WATCHES");
    let _watch = Watch::begin(&server, &job).await;
    session.asked_to_show().await;
    assert_eq!(code(&agent, epoch + 1, &job).await, "SESSION_SUPERSEDED");
    let thief = Agent::enrolled(&server, "thief").await;
    let there = thief.connect(thief.hello()).await;
    let stolen = there.welcome.session_epoch;
    assert_eq!(code(&thief, stolen, &job).await, "NOT_YOUR_ATTEMPT");
    let next = v1::JobRef {
        attempt: job.attempt + 1,
        ..job.clone()
    };
    assert_eq!(code(&agent, epoch, &next).await, "NOT_YOUR_ATTEMPT");
    assert_eq!(server.count(100_403).await, 2);
    assert!(Feed::open(&agent, epoch, &job).await.is_ok());
}

/// Shows a lie; the code that agent and watcher are told.
async fn lie(server: &Server, bytes: &[u8], piece: usize) -> (String, String) {
    let (_agent, _session, _job, mut watch, mut feed) = watched(server).await;
    let status = feed.refused(bytes, piece).await;
    let told = status.message().split(':').next().unwrap().to_owned();
    let seen = loop {
        match watch.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended well"),
            Err(refused) => break refused.code,
        }
    };
    assert_eq!(server.count(100_402).await, 1, "{status:?}");
    (told, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_shows_what_can_not_be_ends_the_view_and_is_noted() {
    let mut tiles = whole(1);
    tiles.tiles.swap(0, 1);
    let cases: [(&str, Vec<u8>, usize); 4] = [
        ("SCREEN_TILES_INVALID", tiles.encode_to_vec(), 1000),
        ("SCREEN_MALFORMED", b"no protobuf".to_vec(), 1000),
        ("SCREEN_TOO_LARGE", vec![0; 4 << 20], 100_000),
        ("SCREEN_TOO_LARGE", vec![0; 200_000], 200_000),
    ];
    for (code, bytes, piece) in cases {
        let server = Server::start().await;
        let (told, seen) = lie(&server, &bytes, piece).await;
        assert_eq!((told.as_str(), seen.as_str()), (code, code));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_can_not_show_it_is_asked_again_while_somebody_looks_on() {
    let server = Server::start().await;
    let (agent, mut session, job) = running(&server).await;
    let mut watch = Watch::begin(&server, &job).await;
    let (command_id, _) = session.asked_to_show().await;
    session
        .say(Say::CommandResult(v1::CommandResult {
            command_id,
            code: 9,
            reason: "SCREEN_UNAVAILABLE".to_owned(),
        }))
        .await;
    let told = watch
        .until("it can't", |told| told["standing"] == "unable")
        .await;
    assert_eq!(told["code"], "SCREEN_UNAVAILABLE");
    session.asked_to_show().await;
    let mut feed = feed(&agent, &session, &job).await;
    assert!(!feed.show(&whole(1)).await);
    watch
        .until("it shows", |told| told["standing"] == "shown")
        .await;
}
