//! Secrets: handed out to who may have them, and nowhere to be read.

use std::fs;
use std::io::{PipeWriter, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Child;

use privsep::Refusal;
use privsep::attendant::ToAttendant;
use wire::v1::LogSource;

use crate::lane::{lines, stream};
use crate::rig::{Rig, Robotd};

const SECRET: &[u8] = b"hunter2&\"friends\"";

fn rig() -> Rig {
    Rig::start_with(|begin| begin.secrets = vec!["erp".to_owned(), "pin".to_owned()])
}

fn hand_out(rig: &Rig, name: &str, value: &[u8]) {
    let memory = sys::memfd::sealed(c"secret", value).unwrap();
    rig.tell(
        &ToAttendant::Secret {
            name: name.to_owned(),
        },
        &[memory.as_fd()],
    );
}

/// The bot asks, robotd is told, the session brings it.
fn credential(rig: &Rig, robotd: &Robotd, name: &str, value: &[u8]) -> Child {
    let asking = rig.robotjob(&["credential", name]).spawn().unwrap();
    assert_eq!(robotd.wait_for_a_wish(), name);
    hand_out(rig, name, value);
    asking
}

fn wait_until_read(rig: &Rig) {
    while rustix::io::ioctl_fionread(rig.pipe()).unwrap() > 0 {
        std::thread::yield_now();
    }
}

fn write_in_two(rig: &Rig, stdout: &mut PipeWriter, text: &[u8], at: usize) {
    stdout.write_all(&text[..at]).unwrap();
    wait_until_read(rig);
    stdout.write_all(&text[at..]).unwrap();
    wait_until_read(rig);
}

fn is_nowhere_in(folder: &Path, secret: &[u8]) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            is_nowhere_in(&path, secret);
        } else if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            assert!(
                !bytes.windows(secret.len()).any(|window| window == secret),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn a_secret_is_handed_out_and_masked_however_it_is_printed() {
    let mut rig = rig();
    let robotd = rig.robotd();
    let answer = credential(&rig, &robotd, "erp", SECRET)
        .wait_with_output()
        .unwrap();
    assert_eq!(answer.stdout, SECRET);
    let mut stdout = rig.stdout.take().unwrap();
    let json = serde_json::to_string(std::str::from_utf8(SECRET).unwrap()).unwrap();
    let forms = [
        SECRET,
        &json.as_bytes()[1..json.len() - 1],
        b"aHVudGVyMiYiZnJpZW5kcyI",
    ];
    let mut count = 0;
    for form in forms {
        let text = [b"<", form, b">\n"].concat();
        for at in 0..text.len() {
            write_in_two(&rig, &mut stdout, &text, at);
            count += 1;
        }
    }
    let said = rig
        .robotjob(&[
            "log",
            &format!("I know {}", String::from_utf8_lossy(SECRET)),
        ])
        .output()
        .unwrap();
    assert!(said.status.success());
    drop(stdout);
    let totals = rig.finish();
    let bodies = rig.records();
    assert_eq!(stream(&bodies, LogSource::Stdout), b"<***>\n".repeat(count));
    let masked: u32 = lines(&bodies, LogSource::Stdout)
        .iter()
        .map(|line| line.redactions)
        .sum();
    assert_eq!(
        (masked as usize, totals.log.stdout.lines),
        (count, count as u64)
    );
    let of_bot = lines(&bodies, LogSource::Bot);
    assert_eq!(
        (of_bot[0].text.as_ref(), of_bot[0].redactions),
        (&b"I know ***"[..], 1)
    );
    is_nowhere_in(&rig.spool(), SECRET);
}

#[test]
fn what_the_job_was_not_given_is_refused_without_asking_anybody() {
    let mut rig = rig();
    let refused = rig.robotjob(&["credential", "root"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(77));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("SECRET_NOT_GRANTED"));
    assert!(refused.stdout.is_empty());
    rig.finish();
}

#[test]
fn a_secret_that_can_not_be_masked_is_not_handed_out() {
    let mut rig = rig();
    let robotd = rig.robotd();
    let refused = credential(&rig, &robotd, "pin", b"123\n")
        .wait_with_output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(77));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("SECRET_TOO_SHORT_TO_MASK"));
    assert!(refused.stdout.is_empty());
    rig.finish();
}

#[test]
fn a_refusal_from_further_away_comes_through_with_its_code() {
    let mut rig = rig();
    let robotd = rig.robotd();
    let asking = rig.robotjob(&["credential", "erp"]).spawn().unwrap();
    assert_eq!(robotd.wait_for_a_wish(), "erp");
    let refusal = Refusal::new(
        "SECRET_NOT_SET",
        "the orchestrator has no secret of this name",
    );
    rig.tell(
        &ToAttendant::SecretRefused {
            name: "erp".to_owned(),
            refusal,
        },
        &[],
    );
    let refused = asking.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("SECRET_NOT_SET"));
    rig.finish();
}

#[test]
fn a_robotd_that_connects_later_is_told_what_is_wanted() {
    let mut rig = rig();
    let first = rig.robotd();
    let asking = rig.robotjob(&["credential", "erp"]).spawn().unwrap();
    assert_eq!(first.wait_for_a_wish(), "erp");
    drop(first);
    let second = rig.robotd();
    assert_eq!(second.wait_for_a_wish(), "erp");
    hand_out(&rig, "erp", SECRET);
    assert_eq!(asking.wait_with_output().unwrap().stdout, SECRET);
    rig.finish();
}

#[test]
fn a_new_attendant_reads_no_output_until_it_can_mask_what_the_bot_knows() {
    let mut rig = rig();
    let robotd = rig.robotd();
    credential(&rig, &robotd, "erp", SECRET).wait().unwrap();
    rig.child.kill().unwrap();
    let mut stdout = rig.stdout.take().unwrap();
    stdout.write_all(&[b"<", SECRET, b">\n"].concat()).unwrap();
    rig.start_another(&["erp"]);
    // It answers, so it would have read by now.
    assert!(rig.robotjob(&["params"]).output().unwrap().status.success());
    assert!(rustix::io::ioctl_fionread(rig.pipe()).unwrap() > 0);
    hand_out(&rig, "erp", SECRET);
    drop(stdout);
    rig.finish();
    assert_eq!(stream(&rig.records(), LogSource::Stdout), b"<***>\n");
}
