//! Scratch volumes of every kind that runs on this kind of machine: what a bot writes is on nothing
//! else, can't be read afterwards, and whoever dies in between leaves nothing.
//!
//! dm-crypt and swap: `testbed/claims/volumes.sh`, in a virtual machine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::procs::JobProcesses;
use tests::{Host, Options, eventually};

use crate::bad_input::goes_on;
use crate::secrets::set_secret;

/// Written by the bot wherever it can, as content and as a name.
const MARK: &str = "mark-4711-of-the-bot";
const SECRET: &str = "hunter2-of-this-very-job";

/// Writes mark and secret everywhere, waits for their way to the disk, and then for its end.
const WRITER: &str = r#"
import os, subprocess, sys, time
secret = subprocess.run(['robotjob','credential','erp'], check=True, stdout=subprocess.PIPE).stdout
places = ['/tmp', '/var/tmp', '/dev/shm', os.environ['HOME'], os.environ['XDG_RUNTIME_DIR'], '.']
for place in places:
    folder = os.path.join(place, 'mark-4711-of-the-bot-folder')
    os.mkdir(folder)
    for number in range(8):
        with open(os.path.join(folder, f'mark-4711-of-the-bot-{number}'), 'wb') as file:
            file.write(b'mark-4711-of-the-bot ' * 500 + secret)
            file.flush()
            os.fsync(file.fileno())
    os.symlink('/mark-4711-of-the-bot', os.path.join(folder, 'link'))
os.sync()
print('written', flush=True)
if sys.argv[1:] == ['stay']:
    time.sleep(1000)
"#;

/// A host whose policy names this backend.
fn host(volume: &str) -> Host {
    let host = Host::start(&Options {
        volume: volume.to_owned(),
        ..Options::default()
    });
    set_secret(&host, "erp", SECRET);
    host
}

/// Submits the writer and waits until it has written.
fn writing(host: &Host, more: &[&str]) -> String {
    let package = host.push_python("writer", WRITER);
    let args = [&["--secret", "erp", "--arg", "stay"], more].concat();
    let job = host.submit(&package, &args);
    host.says(&job, "written");
    job
}

fn stopped(host: &Host, job: &str) -> Value {
    host.ask(&["job", "stop", job, "--kill"]);
    let report = host.report(job);
    assert_eq!(
        report["outcome"],
        "STOPPED",
        "{report:#}{}",
        host.all_logs()
    );
    report
}

/// Whether the raw bytes of a file hold this text; read by another program than ours.
fn holds(file: &Path, text: &str) -> bool {
    let found = Command::new("grep")
        .args(["--quiet", "--text", "--fixed-strings", "-e", text])
        .arg(file)
        .status()
        .expect("grep");
    match found.code() {
        Some(0) => true,
        Some(1) => false,
        other => panic!("grep {}: {other:?}", file.display()),
    }
}

/// The image of the one running job, under another name: the wipe removes names, not this one.
fn keep_image(host: &Host) -> PathBuf {
    let images = host.images();
    let [image] = &images[..] else {
        panic!("one image: {images:?}");
    };
    let kept = host.volume_store().join(format!("kept-{image}"));
    fs::hard_link(host.volume_store().join(image), &kept).expect("a link");
    assert!(Command::new("sync").status().expect("sync").success());
    kept
}

fn key_of_fscrypt(report: &Value) {
    let key = &report["wipe"]["key"];
    assert_eq!(key["removal_flags"], 0, "{report:#}");
    let identifier = key["identifier"].as_str().expect("an identifier");
    assert_eq!(identifier.len(), 32, "{report:#}");
    assert!(
        key["cipher"]
            .as_str()
            .expect("a cipher")
            .contains("AES-256-XTS")
    );
    let (made, gone) = (&key["created_unix_ms"], &key["destroyed_unix_ms"]);
    assert!(
        made.as_u64() > Some(0) && made.as_u64() < gone.as_u64(),
        "{report:#}"
    );
    let keys = fs::read_to_string("/proc/keys").expect("keys");
    assert!(!keys.contains(identifier), "{keys}");
}

#[test]
fn what_a_bot_writes_to_an_fscrypt_volume_is_nowhere_on_the_disk_before_or_after_the_wipe() {
    let host = host("backend = \"fscrypt\"\ndeep-scan = \"always\"");
    let job = writing(&host, &[]);
    let kept = keep_image(&host);
    let clear = |when: &str| {
        for text in [MARK, SECRET, "canary-"] {
            assert!(!holds(&kept, text), "{text} is on the disk {when}");
        }
    };
    clear("while the job runs");
    let report = stopped(&host, &job);
    clear("after the wipe");
    let wipe = &report["wipe"];
    assert_eq!(wipe["backend"], "fscrypt", "{report:#}");
    assert_eq!(wipe["assurance"], "cryptographic-erase", "{report:#}");
    assert_eq!(wipe["canary"], "gone", "{report:#}");
    assert_eq!(wipe["scan"]["found"], 0, "{report:#}");
    assert_eq!(
        wipe["scan"]["secrets"], 1,
        "the job's secret was looked for: {report:#}"
    );
    let length = fs::metadata(&kept).expect("the image").len();
    assert_eq!(wipe["scan"]["bytes"], length, "all of it: {report:#}");
    assert!(wipe["files"].as_u64() >= Some(48), "{report:#}");
    key_of_fscrypt(&report);
    let shown = host.ask(&["job", "show", &job]);
    assert!(
        shown.contains("assurance cryptographic-erase, backend fscrypt"),
        "{shown}"
    );
    host.event(100_301, |event| {
        event.to_string().contains("cryptographic-erase")
    });
    host.assert_nothing_left();
    goes_on(&host);
}

#[test]
fn a_plain_volume_is_called_unlinked_and_never_erased() {
    let host = host("backend = \"plain\"\ndeep-scan = \"always\"");
    let job = writing(&host, &[]);
    let kept = keep_image(&host);
    assert!(holds(&kept, MARK), "the search finds what is there");
    let report = stopped(&host, &job);
    assert!(holds(&kept, MARK), "and it is there after the wipe too");
    let wipe = &report["wipe"];
    assert_eq!(wipe["assurance"], "unlinked", "{report:#}");
    assert_eq!(wipe["backend"], "plain", "{report:#}");
    assert_eq!(wipe["complete"], true, "{report:#}");
    assert_eq!(wipe["key"], Value::Null, "{report:#}");
    assert_eq!(wipe["scan"], Value::Null, "{report:#}");
    host.event(100_301, |event| event.to_string().contains("unlinked"));
    host.assert_nothing_left();
    goes_on(&host);
}

#[test]
fn a_volume_in_memory_has_no_image_and_is_called_volatile() {
    let host = host("backend = \"tmpfs\"");
    let job = writing(&host, &[]);
    assert_eq!(host.images(), Vec::<String>::new());
    let report = stopped(&host, &job);
    let wipe = &report["wipe"];
    assert_eq!(wipe["assurance"], "volatile-released", "{report:#}");
    assert_eq!(wipe["backend"], "tmpfs", "{report:#}");
    assert_eq!(wipe["canary"], "gone", "{report:#}");
    assert!(["none", "excluded"].contains(&wipe["swap"].as_str().unwrap_or_default()));
    host.assert_nothing_left();
}

#[test]
fn the_strongest_backend_is_taken_and_the_report_says_why_not_a_stronger_one() {
    let host = host("memory-mib = 64");
    let package = host.push_python("small", "print(1)\n");
    let small = host.run_job(&package, &["--volume", "64M"]);
    assert_eq!(small["wipe"]["backend"], "tmpfs", "{small:#}");
    assert_eq!(
        small["wipe"]["passed_over"],
        serde_json::json!([]),
        "{small:#}"
    );
    let large = host.run_job(&package, &["--volume", "65M"]);
    let wipe = &large["wipe"];
    assert_eq!(wipe["assurance"], "cryptographic-erase", "{large:#}");
    let passed = wipe["passed_over"].to_string();
    assert!(passed.contains("tmpfs: the order's 65 MiB"), "{large:#}");
    assert!(
        wipe["backend"] == "dm-crypt" || passed.contains("dm-crypt: "),
        "{large:#}"
    );
    host.assert_nothing_left();
}

#[test]
fn without_a_backend_that_can_be_wiped_the_job_is_refused_and_not_weakened() {
    let host = Host::start(&Options {
        volume: "memory-mib = 0".to_owned(),
        hidden: vec!["/usr/sbin/mkfs.ext4".into()],
        ..Options::default()
    });
    let package = host.push_python("hello", "print(1)\n");
    let report = host.run_job(&package, &[]);
    assert_eq!(report["outcome"], "NOT_STARTED", "{report:#}");
    assert_eq!(report["code"], "VOLUME_BACKEND_MISSING", "{report:#}");
    let detail = report["detail"].as_str().expect("a detail");
    assert!(detail.contains("fscrypt: /usr/sbin/mkfs.ext4"), "{detail}");
    host.event(100_202, |event| {
        event.to_string().contains("VOLUME_BACKEND_MISSING")
    });
    host.assert_nothing_left();
}

#[test]
fn a_volume_that_would_fill_the_hosts_disk_is_refused() {
    let host = host("backend = \"fscrypt\"");
    let text = fs::read_to_string(host.policy_file()).expect("a policy");
    let mut host = host;
    host.kill_broker();
    let full = text.replace("reserve-mib = 64", "reserve-mib = 16000000");
    fs::write(host.policy_file(), full).expect("a policy");
    host.start_broker();
    let package = host.push_python("hello", "print(1)\n");
    let report = host.run_job(&package, &[]);
    assert_eq!(report["outcome"], "NOT_STARTED", "{report:#}");
    assert_eq!(report["code"], "VOLUME_STORE_FULL", "{report:#}");
    host.assert_nothing_left();
}

#[test]
fn a_store_that_others_can_enter_is_refused() {
    let host = host("backend = \"fscrypt\"");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(host.volume_store(), open).expect("a mode");
    let package = host.push_python("hello", "print(1)\n");
    let report = host.run_job(&package, &[]);
    assert_eq!(report["outcome"], "NOT_STARTED", "{report:#}");
    let told = report.to_string();
    assert!(told.contains("with mode 0755; make it with"), "{report:#}");
    host.assert_nothing_left();
}

const FILLER: &str = r#"
import errno, os
def until_full(what, step):
    number = 0
    try:
        while True:
            step(number)
            number += 1
    except OSError as error:
        print(what, errno.errorcode[error.errno], number > 100)
# In two files: one alone comes to its own bound first.
big = [os.open(f'/tmp/big{number}', os.O_CREAT | os.O_WRONLY) for number in range(2)]
until_full('bytes', lambda number: os.write(big[number % 2], b'x' * 65536))
for number in range(2):
    os.close(big[number])
    os.unlink(f'/tmp/big{number}')
os.mkdir('/var/tmp/many')
until_full('files', lambda number: os.close(os.open(f'/var/tmp/many/{number}', os.O_CREAT | os.O_WRONLY)))
"#;

#[test]
fn a_full_volume_is_full_for_its_job_alone() {
    for backend in ["tmpfs", "fscrypt", "plain"] {
        let host = host(&format!("backend = \"{backend}\""));
        let package = host.push_python("filler", FILLER);
        let report = host.run_job(&package, &["--volume", "32M"]);
        assert_eq!(report["outcome"], "SUCCEEDED", "{backend}: {report:#}");
        let job = report["job_id"].as_str().expect("an id");
        let said = String::from_utf8(host.stream(job, "stdout")).expect("text");
        assert_eq!(said, "bytes ENOSPC True\nfiles ENOSPC True\n", "{backend}");
        assert_eq!(report["wipe"]["complete"], true, "{backend}: {report:#}");
        assert!(
            report["wipe"]["files"].as_u64() > Some(10_000),
            "{report:#}"
        );
        host.assert_nothing_left();
        goes_on(&host);
    }
}

fn end(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("a signal to a process that is there");
}

#[test]
fn a_session_that_is_killed_leaves_no_image_device_mount_or_key() {
    for (backend, assurance) in [
        ("fscrypt", "cryptographic-erase"),
        ("plain", "unlinked"),
        ("tmpfs", "volatile-released"),
    ] {
        let host = host(&format!("backend = \"{backend}\""));
        let job = writing(&host, &[]);
        end(JobProcesses::of(&job, "bot.py").monitor);
        let report = host.report(&job);
        assert_eq!(report["code"], "SESSION_LOST", "{backend}: {report:#}");
        let wipe = &report["wipe"];
        assert_eq!(
            wipe["complete"],
            true,
            "{backend}: {report:#}{}",
            host.all_logs()
        );
        assert_eq!(wipe["backend"], backend, "{report:#}");
        assert_eq!(wipe["assurance"], assurance, "{report:#}");
        assert_eq!(wipe["canary"], "not-checked", "{report:#}");
        host.assert_nothing_left();
        goes_on(&host);
    }
}

/// A file of the running job's volume, held open from outside like by a process that escaped.
fn hold(job: &str) -> File {
    let monitor = JobProcesses::of(job, "bot.py").monitor;
    let folder = format!("/proc/{monitor}/root/run/robotd-session/volume/tmp/{MARK}-folder");
    File::open(format!("{folder}/{MARK}-0")).expect("a file of the volume")
}

#[test]
fn a_session_that_is_killed_in_the_middle_of_its_wipe_is_wiped_by_the_teardown() {
    let host = host("backend = \"fscrypt\"");
    let job = writing(&host, &[]);
    let monitor = JobProcesses::of(&job, "bot.py").monitor;
    // With a file in use the wipe waits for it: that is the middle.
    let held = hold(&job);
    host.ask(&["job", "stop", &job, "--kill"]);
    host.reaches(&job, "SESSION_CLOSED");
    end(monitor);
    drop(held);
    let report = host.report(&job);
    assert_eq!(report["code"], "SESSION_LOST", "{report:#}");
    assert_eq!(
        report["wipe"]["complete"],
        true,
        "{report:#}{}",
        host.all_logs()
    );
    assert_eq!(
        report["wipe"]["assurance"], "cryptographic-erase",
        "{report:#}"
    );
    host.assert_nothing_left();
    goes_on(&host);
}

#[test]
fn a_volume_that_somebody_still_uses_puts_the_slot_and_itself_into_quarantine() {
    let host = host("backend = \"fscrypt\"");
    let job = writing(&host, &[]);
    let held = hold(&job);
    host.ask(&["job", "stop", &job, "--kill"]);
    let report = host.report(&job);
    let wipe = &report["wipe"];
    assert_eq!(wipe["complete"], false, "{report:#}");
    assert_eq!(wipe["assurance"], "failed", "{report:#}");
    assert_eq!(wipe["key"]["removal_flags"], 1, "files busy: {report:#}");
    assert_eq!(wipe["key"]["destroyed_unix_ms"], 0, "{report:#}");
    host.event(100_302, |event| event["job_id"] == job.as_str());
    assert_eq!(host.images().len(), 1, "kept until somebody has looked");
    let slot = &host.slots.accounts()[0];
    let recover = || host.control(&["slot", "recover", slot]);
    assert!(!recover().status.success(), "it is still in use");
    drop(held);
    eventually("the slot to be recovered", || {
        recover().status.success().then_some(())
    });
    host.assert_nothing_left();
    goes_on(&host);
}

#[test]
fn broker_and_session_killed_together_are_cleaned_up_after_before_the_next_job() {
    let mut host = host("backend = \"fscrypt\"");
    let job = writing(&host, &[]);
    let monitor = JobProcesses::of(&job, "bot.py").monitor;
    host.kill_agent();
    host.kill_broker();
    end(monitor);
    host.start_broker();
    host.start_agent();
    let report = host.report(&job);
    assert_eq!(report["outcome"], "INTERRUPTED", "{report:#}");
    assert_eq!(report["wipe"]["complete"], true, "{report:#}");
    assert_eq!(report["wipe"]["backend"], "fscrypt", "{report:#}");
    host.assert_nothing_left();
    goes_on(&host);
}

#[test]
fn an_image_that_belongs_to_no_job_goes_at_the_next_start_and_other_files_stay() {
    let mut host = host("backend = \"fscrypt\"");
    host.kill_broker();
    let store = host.volume_store();
    let stray = store.join("0199d6a4-0000-7000-8000-000000000001.1.fscrypt.img");
    fs::write(&stray, "what a power loss left").expect("a file");
    fs::write(store.join("kept-by-the-admin.img"), "his own").expect("a file");
    host.start_broker();
    eventually("the image to be gone", || (!stray.exists()).then_some(()));
    assert!(store.join("kept-by-the-admin.img").exists());
    host.event(100_303, |event| {
        event.to_string().contains("0199d6a4-0000-7000")
    });
}
