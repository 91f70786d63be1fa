//! A full disk: nothing is acknowledged that is not there, and nothing else suffers.

use std::path::{Path, PathBuf};
use std::process::Command;

use wire::v1;

use super::publisher::{JOB, LOG, Publisher, frame, line, reported, result, running, totals};
use super::server::Server;

/// A small file system of its own, gone with it.
struct Disk(PathBuf);

impl Disk {
    fn mount(place: &Path, megabytes: u32) -> Self {
        std::fs::create_dir(place).unwrap();
        let size = format!("size={megabytes}m,mode=700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(place)
            .status()
            .unwrap();
        assert!(mounted.success());
        Self(place.to_owned())
    }

    /// Takes all the space that is left.
    fn fill(&self) {
        use std::io::Write as _;
        let mut ballast = std::fs::File::create(self.0.join("ballast")).unwrap();
        for size in [1 << 16, 1 << 12, 1] {
            while ballast.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazy: the server's threads may hold files for a moment longer.
        let gone = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(gone.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_not_acknowledged_and_arrives_when_there_is_room() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root can mount a small disk");
        return;
    }
    let mut disk = None;
    let server = Server::start_on(|dir| disk = Some(Disk::mount(&dir.join("data"), 12))).await;
    // Dropped before the server's directory, which it is in.
    let disk = disk.unwrap();
    let (agent, mut session, job, grant) = running(&server).await;
    let mut publisher = Publisher::open(&agent, &session, &job).await;
    let first = frame(v1::Lane::Log, LOG, 1, vec![line(b"before", true)]);
    assert_eq!(publisher.send(first).await.durable_seq, 1);

    disk.fill();
    // What zstd can't make small.
    let mut noise = vec![0; 1 << 20];
    getrandom::fill(&mut noise).unwrap();
    let large = frame(v1::Lane::Log, LOG, 2, vec![line(&noise, true)]);
    let refused = publisher.refused(large.clone()).await;
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    assert!(refused.message().starts_with("DISK_FULL: "), "{refused}");
    // The server is there: it answers, it lists, and it says what it can't do.
    session.heartbeat(Vec::new(), 3).await;
    assert_eq!(server.show(&job.job_id).await["state"], "STARTED");
    let mut publisher = Publisher::open(&agent, &session, &job).await;
    let again = publisher.refused(large.clone()).await;
    assert!(again.message().starts_with("DISK_FULL: "), "{again}");

    disk.make_room();
    let mut publisher = Publisher::open(&agent, &session, &job).await;
    assert_eq!(publisher.send(large).await.durable_seq, 2);
    let out = [b"before\n".as_slice(), &noise, b"\n"].concat();
    let result = result(&agent, &job, 2, totals(&out, 2));
    let report = vec![reported(&job, &result, &agent.result_key)];
    publisher.send(frame(v1::Lane::Job, JOB, 1, report)).await;
    session.release(&grant).await;
    let shown = server.shown_in(&job.job_id, "ENDED").await;
    assert_eq!(
        (&shown["outcome"], &shown["missing"]),
        (&"SUCCEEDED".into(), &serde_json::json!([]))
    );
}
