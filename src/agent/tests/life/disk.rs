//! A state directory without space.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use order::Phase;
use privsep::broker::Request;
use wire::v1;

use super::attendant::Attendant;
use super::{Host, Orchestrator};

/// A small file system of its own.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        let options = "size=96m,mode=0750";
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "robotd-test"])
            .arg(at)
            .status();
        assert!(mounted.unwrap().success());
        Self(at.to_owned())
    }

    /// Not one byte is left.
    fn fill(&self) -> PathBuf {
        use std::io::Write as _;
        let path = self.0.join("filler");
        let mut file = fs::File::create(&path).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_offers_holds_the_running_job_and_loses_nothing() {
    let places = super::Places::new();
    let disk = Small::mount(&places.state);
    let mut host = Host::online_in(places).await;
    host.orchestrator
        .with(|seen| seen.ttl = Duration::from_secs(9));
    let attempt = host.orchestrator.offer(b"p").await;
    host.at_broker(|broker| {
        broker.wait_for("Start", |request| matches!(request, Request::Start { .. }))
    });
    let mut attendant = Attendant::start(&host.places, attempt);
    attendant.print("before");
    host.orchestrator
        .wait("the first line", |seen| {
            (Orchestrator::lines(seen, attempt) == ["before"]).then_some(())
        })
        .await;

    let filler = disk.fill();
    // The journal has no room for this step.
    host.broker.phase(attempt, Phase::Running);
    let refused = host.orchestrator.offer_at_once(b"q").await;
    let reject = host
        .orchestrator
        .wait("the rejection", |seen| {
            Orchestrator::rejects(seen, refused).pop()
        })
        .await;
    assert_eq!(reject.reason(), v1::RejectReason::NoDisk);
    host.until("the disk is seen to be full", |status| {
        status.state == "unhealthy" && status.blockers.contains(&"DISK_FULL".to_owned())
    })
    .await;
    // Longer than the license lasts without renewal: the job keeps it all the same.
    host.at_broker(|broker| {
        broker.wait("three renewals", |known| {
            let renewals = known.asked.iter();
            let renewals = renewals.filter(|asked| matches!(asked, Request::Renew { .. }));
            (renewals.count() >= 3).then_some(())
        })
    });
    let log = fs::read_to_string(&host.places.log).unwrap();
    assert!(log.contains("a job waits for the disk"), "{log}");

    fs::remove_file(filler).unwrap();
    attendant.print("after");
    host.broker.phase(attempt, Phase::Wiped);
    let result = host.broker.end(attempt, Some(attendant.finish()));
    let reported = host
        .orchestrator
        .wait("REPORTED", |seen| Orchestrator::reported(seen, attempt))
        .await;
    assert_eq!(reported.result.unwrap().body.as_ref(), result);
    host.until_nothing_is_left().await;
    host.orchestrator.with(|seen| {
        assert_eq!(Orchestrator::lines(seen, attempt), ["before", "after"]);
        use v1::JobPhase::{
            Accepted, LicenseLeased, LicenseReturned, Reported, Running, Started, Wiped,
        };
        assert_eq!(
            Orchestrator::phases(seen, attempt),
            [
                Accepted,
                LicenseLeased,
                Started,
                Running,
                Wiped,
                LicenseReturned,
                Reported
            ]
        );
    });
    host.until_online().await;
    host.kill();
    drop(disk);
}
