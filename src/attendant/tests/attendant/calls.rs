//! The bot's calls, made by robotjob.

use std::fs;
use std::io::Write;
use std::process::{Output, Stdio};

use order::ArtifactTotal;
use privsep::attendant::{FromAttendant, ToAttendant};
use std::os::fd::AsFd;
use wire::v1::{AlertLevel, LogSource, record::Body};

use crate::lane::{lines, sha256};
use crate::rig::Rig;

fn run(rig: &Rig, arguments: &[&str]) -> Output {
    rig.robotjob(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn logs_alerts_and_errors_become_records() {
    let mut rig = Rig::start();
    assert!(
        run(&rig, &["log", "--level", "warning", "two", "words"])
            .status
            .success()
    );
    let mut piped = rig
        .robotjob(&["log", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    piped
        .stdin
        .take()
        .unwrap()
        .write_all(b"one\ntwo\n")
        .unwrap();
    assert!(piped.wait().unwrap().success());
    assert!(
        run(&rig, &["alert", "--level", "error", "title", "the text"])
            .status
            .success()
    );
    let stack = rig.folder.path().join("stack.txt");
    fs::write(&stack, "at line 1").unwrap();
    let stack = stack.to_str().unwrap();
    let error = [
        "error",
        "--kind",
        "ValueError",
        "--tag",
        "page=3",
        "--stack-file",
        stack,
        "it",
        "broke",
    ];
    assert!(run(&rig, &error).status.success());
    rig.finish();
    let bodies = rig.records();
    let log: Vec<(&str, u32)> = lines(&bodies, LogSource::Bot)
        .iter()
        .map(|line| (text(&line.text), line.severity))
        .collect();
    assert_eq!(log, [("two words", 4), ("one", 6), ("two", 6)]);
    let Body::Alert(alert) = &bodies[3] else {
        panic!("no alert")
    };
    assert_eq!(
        (alert.level(), text(&alert.title), text(&alert.message)),
        (AlertLevel::Error, "title", "the text")
    );
    let Body::Error(error) = &bodies[4] else {
        panic!("no error")
    };
    assert_eq!(
        (text(&error.kind), text(&error.message)),
        ("ValueError", "it broke")
    );
    assert_eq!(
        (text(&error.stack_trace), error.tags["page"].as_str()),
        ("at line 1", "3")
    );
}

#[test]
fn parameters_are_printed() {
    let mut rig = Rig::start();
    assert_eq!(text(&run(&rig, &["param", "month"]).stdout), "may\n");
    assert_eq!(text(&run(&rig, &["param", "count"]).stdout), "3\n");
    assert_eq!(
        text(&run(&rig, &["params"]).stdout),
        "{\"count\":3,\"month\":\"may\"}\n"
    );
    let unknown = run(&rig, &["param", "year"]);
    assert_eq!(unknown.status.code(), Some(66));
    assert!(text(&unknown.stderr).contains("PARAM_UNKNOWN"));
    rig.finish();
}

#[test]
fn artifacts_of_the_bot_and_of_the_collector_are_in_the_totals_also_after_a_kill() {
    let mut rig = Rig::start();
    let path = rig.folder.path().join("out.csv");
    fs::write(&path, "a,b\n").unwrap();
    assert!(
        run(&rig, &["artifact", path.to_str().unwrap()])
            .status
            .success()
    );
    rig.child.kill().unwrap();
    rig.start_another(&[]);
    let file = fs::File::open(&path).unwrap();
    rig.tell(
        &ToAttendant::Artifact {
            name: b"sub/out.csv".to_vec(),
        },
        &[file.as_fd()],
    );
    let taken = |name: &str| ArtifactTotal {
        name: name.to_owned(),
        sha256: sha256(b"a,b\n").parse().unwrap(),
        bytes: 4,
    };
    assert_eq!(
        rig.hear(),
        FromAttendant::ArtifactTaken {
            total: Ok(taken("sub/out.csv"))
        }
    );
    let totals = rig.finish();
    assert_eq!(totals.artifacts, [taken("out.csv"), taken("sub/out.csv")]);
    let blob = rig.spool().join("blobs").join(sha256(b"a,b\n"));
    assert_eq!(fs::read(blob).unwrap(), b"a,b\n");
    let bodies = rig.records();
    let names: Vec<&str> = bodies
        .iter()
        .filter_map(|body| {
            if let Body::Artifact(artifact) = body {
                Some(text(&artifact.name))
            } else {
                None
            }
        })
        .collect();
    assert_eq!(names, ["out.csv", "sub/out.csv"]);
}

#[test]
fn what_can_not_be_an_artifact_is_refused_to_both() {
    let mut rig = Rig::start();
    let large = rig.folder.path().join("large");
    fs::File::create(&large)
        .unwrap()
        .set_len((1 << 20) + 1)
        .unwrap();
    let refused = run(&rig, &["artifact", large.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(65));
    assert!(text(&refused.stderr).contains("ARTIFACT_TOO_LARGE"));
    assert_eq!(run(&rig, &["artifact", "/"]).status.code(), Some(66));
    let null = fs::File::open("/dev/null").unwrap();
    rig.tell(
        &ToAttendant::Artifact {
            name: b"null".to_vec(),
        },
        &[null.as_fd()],
    );
    let FromAttendant::ArtifactTaken {
        total: Err(refusal),
    } = rig.hear()
    else {
        panic!("taken")
    };
    assert_eq!(refusal.code, "ARTIFACT_NOT_A_FILE");
    let totals = rig.finish();
    assert!(totals.artifacts.is_empty());
    assert_eq!(fs::read_dir(rig.spool().join("blobs")).unwrap().count(), 0);
}

#[test]
fn a_screenshot_without_a_display_is_refused() {
    let mut rig = Rig::start();
    let refused = run(&rig, &["screenshot"]);
    assert_eq!(refused.status.code(), Some(75));
    assert!(text(&refused.stderr).contains("NO_SCREENSHOT"));
    rig.finish();
}

#[test]
fn beyond_the_output_limit_a_call_is_refused() {
    let mut rig = Rig::start_with(|begin| begin.log_bytes = 10);
    assert!(run(&rig, &["log", "short"]).status.success());
    assert!(text(&run(&rig, &["log", "too long now"]).stderr).contains("LOG_QUOTA_USED_UP"));
    assert!(text(&run(&rig, &["alert", "too long now"]).stderr).contains("LOG_QUOTA_USED_UP"));
    rig.finish();
}

#[test]
fn outside_a_job_robotjob_says_so() {
    let mut rig = Rig::start();
    let mut outside = rig.robotjob(&["params"]);
    let outcome = outside
        .env("ROBOT_SOCKET", rig.folder.path().join("absent"))
        .output()
        .unwrap();
    assert_eq!(outcome.status.code(), Some(69));
    assert!(text(&outcome.stderr).contains("inside a running job only"));
    rig.finish();
}
