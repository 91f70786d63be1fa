//! Disks that are full: nothing is lost, nothing starts that could not be recorded, and when there
//! is room again everything goes on.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use sha2::{Digest as _, Sha256};
use tests::procs::JobProcesses;
use tests::{Host, Options, eventually};

use crate::bad_input::{goes_on, said};

/// Takes all that is left; gives it back when dropped.
struct Filled(PathBuf);

impl Filled {
    fn up(disk: &Path) -> Self {
        let path = disk.join("filler");
        let mut file = File::create(&path).expect("a file");
        while file.write_all(&[0; 4096]).is_ok() {}
        Self(path)
    }

    /// Takes all but this much.
    fn leaving(disk: &Path, bytes: u64) -> Self {
        let filled = Self::up(disk);
        let file = File::options()
            .write(true)
            .open(&filled.0)
            .expect("the filler");
        let length = file.metadata().expect("its length").len();
        file.set_len(length.saturating_sub(bytes))
            .expect("a shorter filler");
        filled
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn free(disk: &Path) -> u64 {
    let facts = statvfs(disk).expect("facts of a disk");
    facts.blocks_available() * facts.fragment_size()
}

#[test]
fn a_broker_that_can_not_record_starts_nothing_until_it_can() {
    let options = Options::default();
    let mut host = Host::prepare(&options);
    let disk = host.dir.join("broker");
    host.small_disk(&disk, 2 << 20);
    host.bring_up(&options);
    goes_on(&host);
    let package = host.push_python("second", "print('second')\n");
    let filled = Filled::up(&disk);
    let job = host.submit(&package, &[]);
    host.event(100_203, |event| {
        event.to_string().contains("STATE_NOT_DURABLE")
    });
    let shown = host.show(&job);
    let phases = tests::phases(&shown);
    assert!(!phases.contains(&"PACKAGE_READY".to_owned()), "{shown:#}");
    host.assert_nothing_left();
    drop(filled);
    let report = host.report(&job);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    goes_on(&host);
}

#[test]
fn a_package_store_without_room_ends_the_job_with_its_code() {
    let options = Options::default();
    let mut host = Host::prepare(&options);
    let disk = host.dir.join("broker");
    host.small_disk(&disk, 2 << 20);
    host.bring_up(&options);
    // Not compressible, so that it is large as an archive too.
    let mut noise = String::new();
    let mut state = 1_u64;
    while noise.len() < 3 << 20 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        noise.push(char::from(b'!' + (state >> 33) as u8 % 90));
    }
    let package = host.push(
        "large",
        &[("bot.py", "print(1)\n"), ("noise.txt", &noise)],
        None,
    );
    let report = host.run_job(&package, &[]);
    assert_eq!(
        (report["outcome"].as_str(), report["code"].as_str()),
        (Some("NOT_STARTED"), Some("DISK_FULL")),
        "{report:#}"
    );
    host.event(100_204, |event| event.to_string().contains("DISK_FULL"));
    assert!(
        fs::read_dir(disk.join("staging"))
            .expect("a folder")
            .next()
            .is_none()
    );
    goes_on(&host);
}

/// Incompressible text, `blocks` of 64 KiB, of which a bot and this test make the same.
const NOISE: &str = "import hashlib,sys\n\
    for n in range(int(sys.argv[1])):\n    seed = b'%d' % n\n    block = b''\n    \
    for m in range(1024):\n        seed = hashlib.sha256(seed).digest()\n        block += seed.hex().encode()\n    \
    sys.stdout.buffer.write(block)\n    sys.stdout.buffer.flush()\n";

fn noise(blocks: u32) -> Vec<u8> {
    let mut all = Vec::new();
    for number in 0..blocks {
        let mut seed = number.to_string().into_bytes();
        for _ in 0..1024 {
            seed = Sha256::digest(&seed).to_vec();
            all.extend(
                seed.iter()
                    .flat_map(|byte| format!("{byte:02x}").into_bytes()),
            );
        }
    }
    all
}

fn assert_same(host: &Host, job: &str, blocks: u32) {
    let shown = host.show(job);
    assert_eq!(shown["gaps"], serde_json::json!([]), "{shown:#}");
    let (wanted, arrived) = (noise(blocks), host.stream(job, "stdout"));
    let same = wanted
        .iter()
        .zip(&arrived)
        .take_while(|(one, other)| one == other)
        .count();
    assert_eq!(
        (arrived.len(), same),
        (wanted.len(), wanted.len()),
        "{:#}",
        shown["log"]
    );
}

#[test]
fn a_bot_waits_while_the_spool_has_no_room_and_no_byte_is_lost() {
    let options = Options::default();
    let mut host = Host::prepare(&options);
    let disk = host.dir.join("agent");
    host.small_disk(&disk, 96 << 20);
    host.bring_up(&options);
    let package = host.push_python("noise", NOISE);
    let job = host.submit(&package, &["--arg", "400"]);
    host.reaches(&job, "RUNNING");
    host.kill_agent();
    let filled = Filled::leaving(&disk, 4 << 20);
    eventually("the spool's disk to have no room", || {
        (free(&disk) < 1 << 20).then_some(())
    });
    let bot = JobProcesses::of(&job, "bot.py").bot;
    drop(filled);
    host.start_agent();
    let report = host.report(&job);
    assert_eq!(report["outcome"], "SUCCEEDED", "{bot} waited: {report:#}");
    assert_same(&host, &job, 400);
    goes_on(&host);
}

#[test]
fn a_disk_that_is_full_before_the_start_refuses_the_offer_and_says_so() {
    let options = Options::default();
    let mut host = Host::prepare(&options);
    let disk = host.dir.join("agent");
    host.small_disk(&disk, 96 << 20);
    host.bring_up(&options);
    let package = host.push_python("noise", NOISE);
    let filled = Filled::up(&disk);
    eventually("robotd to see it", || {
        host.status()["blockers"]
            .to_string()
            .contains("DISK_FULL")
            .then_some(())
    });
    let job = host.submit(&package, &["--arg", "10"]);
    let shown = eventually("what it says", || {
        let shown = host.show(&job);
        let text = shown.to_string();
        (text.contains("NO_DISK") || shown["state"] == "QUEUED").then_some(shown)
    });
    assert!(shown["outcome"].is_null(), "{shown:#}");
    host.assert_nothing_left();
    drop(filled);
    assert_eq!(host.report(&job)["outcome"], "SUCCEEDED");
    assert_same(&host, &job, 10);
    goes_on(&host);
}

#[test]
fn a_spool_can_lie_on_a_disk_of_its_own() {
    let options = Options::default();
    let mut host = Host::prepare(&options);
    let disk = host.dir.join("agent/spool");
    host.small_disk(&disk, 16 << 20);
    host.bring_up(&options);
    goes_on(&host);
}

#[test]
fn an_orchestrator_without_room_acknowledges_nothing_and_gets_everything_later() {
    let options = Options::default();
    let mut host = Host::prepare(&options);
    let disk = host.dir.join("orchestrator");
    host.small_disk(&disk, 48 << 20);
    host.bring_up(&options);
    let package = host.push_python("noise", NOISE);
    let job = host.submit(&package, &["--arg", "100"]);
    host.reaches(&job, "RUNNING");
    let filled = Filled::up(&disk);
    let spool = host.dir.join("agent/spool");
    eventually(&format!("the end of the bot{}", host.all_logs()), || {
        let jobs = host.control(&["jobs", "--json"]);
        let text = said(&jobs);
        (text.contains("WIPED")
            || text.contains("LICENSE_RETURNED")
            || text.contains("ARTIFACTS")
            || text.contains("SESSION_CLOSED"))
        .then_some(())
    });
    assert!(
        fs::read_dir(&spool).expect("a folder").next().is_some(),
        "it waits in the spool"
    );
    drop(filled);
    let report = host.report(&job);
    assert_eq!(
        report["outcome"],
        "SUCCEEDED",
        "{report:#}{}",
        host.all_logs()
    );
    assert_same(&host, &job, 100);
    goes_on(&host);
}
