//! What a crash or a full disk leaves behind, and how it goes on.

use wire::v1;

use super::publisher::{
    JOB, LOG, Publisher, frame, line, position, reported, result, running, totals,
};
use super::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_behind_is_cut_off_and_the_rest_goes_on() {
    let mut server = Server::start().await;
    let (mut agent, session, job, grant) = running(&server).await;
    let mut publisher = Publisher::open(&agent, &session, &job).await;
    publisher
        .send(frame(v1::Lane::Log, LOG, 1, vec![line(b"kept", true)]))
        .await;
    drop((publisher, session));
    server
        .restart(|data_dir| {
            // As if the power went between the append and the commit.
            let folder = data_dir.join(format!("frames/attempt-{}.1", job.job_id));
            let file = std::fs::read_dir(folder)
                .unwrap()
                .next()
                .unwrap()
                .unwrap()
                .path();
            let mut file = std::fs::OpenOptions::new().append(true).open(file).unwrap();
            std::io::Write::write_all(&mut file, b"\x10\0\0\0torn").unwrap();
        })
        .await;
    agent.follow(&server);
    let mut hello = agent.hello();
    let phase = v1::JobPhase::Running.into();
    hello.jobs = vec![v1::HeldJob {
        job: Some(job.clone()),
        phase,
    }];
    hello.leases = vec![v1::HeldLease {
        lease_id: grant.lease_id.clone(),
        fence: grant.fence,
        job_id: job.job_id.clone(),
    }];
    hello.lanes = vec![position(v1::Lane::Log, LOG, Some(job.clone()))];
    hello.lanes[0].next_seq = 2;
    let mut session = agent.connect(hello).await;
    assert_eq!(session.welcome.jobs[0].action(), v1::JobAction::Continue);
    assert_eq!(session.welcome.lanes[0].durable_seq, 1);
    let stands = session.welcome.leases[0].outcome.clone();
    assert!(
        matches!(stands, Some(v1::lease_verdict::Outcome::Grant(_))),
        "{stands:?}"
    );
    let mut publisher = Publisher::open(&agent, &session, &job).await;
    publisher
        .send(frame(v1::Lane::Log, LOG, 2, vec![line(b"going on", true)]))
        .await;
    let out = b"kept\ngoing on\n";
    let result = result(&agent, &job, 2, totals(out, 2));
    publisher
        .send(frame(
            v1::Lane::Job,
            JOB,
            1,
            vec![reported(&job, &result, &agent.result_key)],
        ))
        .await;
    session.release(&grant).await;
    let shown = server.shown_in(&job.job_id, "ENDED").await;
    assert_eq!(
        (&shown["outcome"], &shown["missing"]),
        (&"SUCCEEDED".into(), &serde_json::json!([]))
    );
}
