//! A secret reaches the bot's memory and nothing else.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tests::{Host, Options, programs};

const SECRET: &str = "kvK7-plain-9Qx";

/// Prints the secret in two writes, split at every offset, with a pause between.
const BOT: &str = "import subprocess,sys,time\n\
    secret = subprocess.run(['robotjob','credential','erp'], check=True, stdout=subprocess.PIPE).stdout.decode()\n\
    for cut in range(len(secret) + 1):\n    sys.stdout.write('<' + secret[:cut]); sys.stdout.flush(); time.sleep(0.02)\n    \
    sys.stdout.write(secret[cut:] + '>\\n'); sys.stdout.flush()\n\
    print(len(secret))\n";

fn set_secret(host: &Host, name: &str, value: &str) {
    let mut command = Command::new(programs().join("robot-orchestrator"));
    command
        .args(["secret", "set", name, "--data-dir"])
        .arg(host.dir.join("orchestrator"));
    let mut child = command
        .stdin(Stdio::piped())
        .spawn()
        .expect("robot-orchestrator starts");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(value.as_bytes())
        .expect("a write");
    assert!(child.wait().expect("a wait").success());
}

fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&path, found),
            Ok(kind) if kind.is_file() => found.push(path),
            _ => {}
        }
    }
}

#[test]
fn a_secret_split_at_every_offset_is_masked_and_on_no_disk() {
    let host = Host::start(&Options::default());
    set_secret(&host, "erp", SECRET);
    let package = host.push_python("teller", BOT);
    let report = host.run_job(&package, &["--secret", "erp"]);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    let job = report["job_id"].as_str().expect("an id");
    let mut expected = "<***>\n".repeat(SECRET.len() + 1);
    expected += &format!("{}\n", SECRET.len());
    assert_eq!(
        String::from_utf8(host.stream(job, "stdout")).expect("text"),
        expected
    );
    let mut all = Vec::new();
    files(&host.dir, &mut all);
    assert!(all.len() > 10, "there is something to look at");
    for path in all {
        let bytes = fs::read(&path).unwrap_or_default();
        assert!(
            !bytes
                .windows(SECRET.len())
                .any(|part| part == SECRET.as_bytes()),
            "{} holds the secret",
            path.display()
        );
    }
    let read = host.event(100_205, |event| {
        event["job_id"] == job || event["job"] == job
    });
    assert!(!read.to_string().contains(SECRET));
    host.assert_nothing_left();
}

#[test]
fn a_secret_that_the_job_was_not_granted_is_refused() {
    let host = Host::start(&Options::default());
    set_secret(&host, "erp", SECRET);
    let code = "import subprocess\nout = subprocess.run(['robotjob','credential','erp'], capture_output=True, text=True)\n\
                print(out.returncode != 0, 'SECRET_NOT_GRANTED' in out.stderr, repr(out.stdout))\n";
    let package = host.push_python("curious", code);
    let report = host.run_job(&package, &[]);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    assert_eq!(
        host.stream(report["job_id"].as_str().expect("an id"), "stdout"),
        b"True True ''\n"
    );
}
