//! An attendant that was taken over by its bot: its files and its bell say anything.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use events::Code;
use order::{AttemptRef, Phase, Sha256Hex};
use privsep::broker::Request;
use privsep::doorbell::FromAttendant;
use wire::v1;

use super::attendant::Attendant;
use super::{Host, Orchestrator};

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

async fn ends(host: &Host, attempt: AttemptRef, lane: (String, u64)) {
    host.broker.end(attempt, Some(lane));
    host.orchestrator
        .wait("REPORTED", |seen| Orchestrator::reported(seen, attempt))
        .await;
    host.until_nothing_is_left().await;
}

async fn events_of(host: &Host, code: Code, count: usize) -> Vec<String> {
    host.orchestrator
        .wait("the events", |seen| {
            let told = Orchestrator::events(seen, code);
            (told.len() >= count).then_some(told)
        })
        .await
}

fn fifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

fn digest(bytes: &[u8]) -> Sha256Hex {
    use sha2::Digest as _;
    Sha256Hex(sha2::Sha256::digest(bytes).into())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cant_be_delivered_are_events_and_the_job_ends() {
    let (host, attempt, attendant) = running().await;
    let blobs = attendant.folder.join("blobs");
    let name = |digit: &str| blobs.join(digit.repeat(64));
    fs::write(name("1"), b"its digest is another").unwrap();
    symlink("/etc/hostname", name("2")).unwrap();
    fifo(&name("3"));
    fs::create_dir(name("4")).unwrap();
    fs::write(host.places.state.join("x"), b"secret").unwrap();
    fs::hard_link(host.places.state.join("x"), name("5")).unwrap();
    fs::File::create(name("6"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    fs::write(blobs.join("..x"), b"").unwrap();
    let good = attendant.blob(b"a picture");
    ends(&host, attempt, attendant.finish()).await;
    let told = events_of(&host, Code::ArtifactRefused, 6).await;
    for (digit, why) in [
        ("1", "DIGEST_MISMATCH"),
        ("2", "BLOB_UNREADABLE"),
        ("3", "BLOB_UNREADABLE"),
        ("4", "BLOB_UNREADABLE"),
        ("5", "BLOB_UNREADABLE"),
        ("6", "BLOB_TOO_LARGE"),
    ] {
        let of = told.iter().find(|event| event.contains(&digit.repeat(64)));
        assert!(
            of.is_some_and(|event| event.contains(why)),
            "{digit}: {told:#?}"
        );
    }
    host.orchestrator.with(|seen| {
        assert_eq!(seen.blobs.keys().collect::<Vec<_>>(), [&good]);
    });
    assert_eq!(fs::read(host.places.state.join("x")).unwrap(), b"secret");
    fs::remove_file(host.places.state.join("x")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_place_of_the_blobs_folder_leads_nowhere() {
    let (host, attempt, attendant) = running().await;
    let outside = tempfile::tempdir().unwrap();
    let secret = digest(b"of another job");
    let path = outside.path().join(secret.to_string());
    fs::write(&path, b"of another job").unwrap();
    fs::remove_dir(attendant.folder.join("blobs")).unwrap();
    symlink(outside.path(), attendant.folder.join("blobs")).unwrap();
    ends(&host, attempt, attendant.finish()).await;
    assert!(path.exists(), "it was not removed");
    host.orchestrator
        .with(|seen| assert!(seen.blobs.is_empty(), "it was not read"));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_the_orchestrator_names_no_position_for_does_not_hold_the_job() {
    let (host, attempt, mut attendant) = running().await;
    host.orchestrator.with(|seen| seen.refuse_output = true);
    attendant.print("nobody wants it");
    attendant.blob(b"nor this");
    ends(&host, attempt, attendant.finish()).await;
    let told = events_of(&host, Code::OutputLost, 1).await;
    assert!(told[0].contains("no position"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_frame_is_a_gap_and_an_event() {
    let (mut host, attempt, mut attendant) = running().await;
    host.kill();
    attendant.print("first");
    let before = fs::metadata(&attendant.segments()[0]).unwrap().len();
    attendant.print("second");
    attendant.print("third");
    let segment = attendant.segments().remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    bytes[usize::try_from(before).unwrap() + 70] ^= 1;
    fs::write(&segment, bytes).unwrap();
    host.start().await;
    ends(&host, attempt, attendant.finish()).await;
    events_of(&host, Code::OutputLost, 1).await;
    host.orchestrator.with(|seen| {
        assert_eq!(Orchestrator::lines(seen, attempt), ["first", "third"]);
        assert_eq!(
            Orchestrator::gaps(seen, attempt),
            [(1, v1::GapReason::Corrupt)]
        );
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_that_are_no_plain_files_hold_up_nothing() {
    for replace in [
        (|path: &Path| fifo(path)) as fn(&Path),
        |path| symlink("/dev/zero", path).unwrap(),
        |path| fs::create_dir(path).unwrap(),
        |path| {
            fs::hard_link("/etc/hostname", path)
                .or_else(|_| fs::write(path, "x"))
                .unwrap()
        },
        |path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap(),
    ] {
        let (mut host, attempt, mut attendant) = running().await;
        host.kill();
        attendant.print("never read");
        let segment = attendant.segments().remove(0);
        let lane = attendant.finish();
        fs::remove_file(&segment).unwrap();
        replace(&segment);
        host.start().await;
        ends(&host, attempt, lane).await;
        let told = events_of(&host, Code::OutputLost, 1).await;
        assert!(!told[0].contains("hostname"), "{told:?}");
        let _ = fs::remove_dir(&segment);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bell_that_lies_and_floods_neither_stops_robotd_nor_fills_its_log() {
    let (host, attempt, mut attendant) = running().await;
    attendant.print("first");
    for number in 0..3000_u32 {
        let mut epoch = [7; 16];
        epoch[..4].copy_from_slice(&number.to_be_bytes());
        attendant.lie(FromAttendant::Written {
            epoch,
            last_seq: u64::MAX,
            ended: number % 2 == 0,
        });
    }
    attendant.print("last");
    ends(&host, attempt, attendant.finish()).await;
    host.orchestrator.with(|seen| {
        assert_eq!(Orchestrator::lines(seen, attempt), ["first", "last"]);
    });
    let log = fs::read_to_string(&host.places.log).unwrap();
    let warned = log.matches("can't be opened").count();
    assert!(warned <= 20, "{warned} lines for one bell");
}
