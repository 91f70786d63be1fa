//! The bot's output: complete, in order, bounded.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::Stdio;

use privsep::attendant::{FromAttendant, ToAttendant};
use sys::fdpass::Seqpacket;
use wire::v1::{GapReason, LogSource, record::Body};

use crate::lane::{gaps, lines, records, sha256, stream};
use crate::rig::{Rig, attendant, is_root};

#[test]
fn two_hundred_thousand_lines_arrive_byte_for_byte() {
    let mut rig = Rig::start();
    let mut robotd = rig.robotd();
    let mut text = Vec::new();
    for number in 0..200_000 {
        write!(text, "line {number} \u{e9} ").unwrap();
        text.extend_from_slice(&[0xff, 0xfe, 0x00, (number % 251) as u8 | 0x80, b'\r', b'\n']);
    }
    text.extend_from_slice(b"no newline at the end \xc3");
    let errors = b"one\n\ntwo".repeat(1000);
    let (mut stdout, mut stderr) = (rig.stdout.take().unwrap(), rig.stderr.take().unwrap());
    let (written, other) = (text.clone(), errors.clone());
    let bot = std::thread::spawn(move || {
        stderr.write_all(&other).unwrap();
        stdout.write_all(&written).unwrap();
    });
    bot.join().unwrap();
    let totals = rig.finish();
    let (bodies, ended) = records(&rig.spool(), rig.epoch);
    assert!(ended);
    assert!(stream(&bodies, LogSource::Stdout) == text);
    assert!(stream(&bodies, LogSource::Stderr) == errors);
    assert_eq!(totals.log.stdout.sha256, sha256(&text));
    assert_eq!(
        (totals.log.stdout.lines, totals.log.stdout.bytes),
        (200_001, text.len() as u64)
    );
    assert_eq!(totals.log.stderr.sha256, sha256(&errors));
    assert_eq!(totals.last_seq, bodies.len() as u64);
    assert!(gaps(&bodies).is_empty());
    assert!(
        lines(&bodies, LogSource::Stdout)
            .iter()
            .all(|line| line.severity == 6)
    );
    assert!(
        lines(&bodies, LogSource::Stderr)
            .iter()
            .all(|line| line.severity == 4)
    );
    robotd.wait_for(totals.last_seq);
}

#[test]
fn a_line_is_there_at_once_and_a_prompt_without_an_end_soon() {
    let mut rig = Rig::start();
    let mut robotd = rig.robotd();
    let mut stdout = rig.stdout.take().unwrap();
    stdout.write_all(b"hello\n").unwrap();
    robotd.wait_for(1);
    stdout.write_all(b"password: ").unwrap();
    robotd.wait_for(2);
    stdout.write_all(b"\n").unwrap();
    robotd.wait_for(3);
    drop(stdout);
    assert_eq!(
        rig.finish().log.stdout.sha256,
        sha256(b"hello\npassword: \n")
    );
    assert_eq!(
        stream(&rig.records(), LogSource::Stdout),
        b"hello\npassword: \n"
    );
}

#[test]
fn a_line_longer_than_a_piece_is_put_together_again() {
    let mut rig = Rig::start();
    let text = [vec![b'x'; 300_000], b"\nshort\n".to_vec()].concat();
    rig.stdout.take().unwrap().write_all(&text).unwrap();
    let totals = rig.finish();
    assert_eq!(
        (totals.log.stdout.lines, totals.log.stdout.sha256),
        (2, sha256(&text))
    );
    assert!(stream(&rig.records(), LogSource::Stdout) == text);
}

#[test]
fn after_a_kill_the_next_attendant_goes_on_and_a_gap_per_stream_says_so() {
    let mut rig = Rig::start();
    let mut robotd = rig.robotd();
    let mut stdout = rig.stdout.take().unwrap();
    stdout.write_all(b"before\n").unwrap();
    robotd.wait_for(1);
    rig.child.kill().unwrap();
    stdout.write_all(b"while nobody reads\n").unwrap();
    let epoch = rig.epoch;
    rig.start_another(&[]);
    assert_eq!(rig.epoch, epoch);
    stdout.write_all(b"after\n").unwrap();
    drop(stdout);
    let totals = rig.finish();
    let (bodies, ended) = records(&rig.spool(), rig.epoch);
    assert!(ended);
    assert_eq!(
        stream(&bodies, LogSource::Stdout),
        b"before\nwhile nobody reads\nafter\n"
    );
    let gaps = gaps(&bodies);
    let sources: Vec<LogSource> = gaps.iter().map(|gap| gap.source()).collect();
    assert_eq!(sources, [LogSource::Stdout, LogSource::Stderr]);
    assert!(
        gaps.iter()
            .all(|gap| gap.unknown && gap.bytes == 65_536 && gap.reason() == GapReason::WriterLost)
    );
    assert_eq!(
        totals.log.stdout.sha256, "",
        "nobody knows what the first one delivered"
    );
    assert_eq!(totals.last_seq, bodies.len() as u64);
}

#[test]
fn what_goes_beyond_the_limit_is_read_counted_and_not_kept() {
    let mut rig = Rig::start_with(|begin| begin.log_bytes = 1000);
    let text = b"0123456789\n".repeat(100_000);
    rig.stdout.take().unwrap().write_all(&text).unwrap();
    let totals = rig.finish();
    let bodies = rig.records();
    let kept = stream(&bodies, LogSource::Stdout);
    assert_eq!(kept.len(), 990);
    assert_eq!(
        (totals.log.stdout.lines, totals.log.stdout.sha256),
        (90, sha256(&kept))
    );
    let gaps = gaps(&bodies);
    assert_eq!(gaps.len(), 1);
    assert_eq!(
        (gaps[0].records, gaps[0].bytes),
        (100_000 - 90, text.len() as u64 - 990)
    );
    assert_eq!(
        (gaps[0].reason(), gaps[0].unknown),
        (GapReason::Quota, false)
    );
}

#[test]
fn a_session_that_vanishes_leaves_a_lane_with_all_that_was_said() {
    let mut rig = Rig::start();
    let mut stdout = rig.stdout.take().unwrap();
    let mut robotd = rig.robotd();
    stdout.write_all(b"line\n").unwrap();
    robotd.wait_for(1);
    rig.session = Seqpacket::pair().unwrap().0;
    assert_eq!(rig.child.wait().unwrap().code(), Some(76));
    let (bodies, ended) = records(&rig.spool(), rig.epoch);
    assert!(!ended);
    assert_eq!(stream(&bodies, LogSource::Stdout), b"line\n");
}

#[test]
fn a_message_with_the_wrong_descriptors_or_out_of_order_ends_the_attendant() {
    let mut rig = Rig::start();
    let file = fs::File::open("/dev/null").unwrap();
    rig.tell(&ToAttendant::Running, &[file.as_fd()]);
    assert_eq!(rig.child.wait().unwrap().code(), Some(76));
    let mut rig = Rig::start();
    rig.session.send(&[0xff; 20], &[]).unwrap();
    assert_eq!(rig.child.wait().unwrap().code(), Some(76));
}

#[test]
fn it_does_not_run_as_root() {
    if !is_root() {
        println!("only root can try to start it as root");
        return;
    }
    let (_ours, theirs) = Seqpacket::pair().unwrap();
    let program = env!("CARGO_BIN_EXE_robotd-attendant").as_ref();
    let outcome = attendant(program, theirs.into_fd())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(outcome.status.code(), Some(77));
    assert!(String::from_utf8_lossy(&outcome.stderr).contains("never runs as root"));
}

#[test]
fn without_room_the_bot_waits_and_nothing_is_lost() {
    if !is_root() {
        println!("only root can mount a small file system");
        return;
    }
    let small = SmallDisk::mount();
    let filler = small.folder.path().join("spool/filler");
    let mut rig = Rig::start_in(small.folder, |_| {});
    // Dropped before the rig, whose folder could not be removed otherwise.
    let _unmount = small.unmount;
    let _ = fs::write(&filler, vec![0; 4 << 20]);
    // Does not compress, so that it needs room.
    let text: Vec<u8> = (0..40_000_u32)
        .flat_map(|number| format!("{}\n", sha256(&number.to_le_bytes())).into_bytes())
        .collect();
    let mut stdout = rig.stdout.take().unwrap();
    let written = text[..1 << 20].to_vec();
    let bot = std::thread::spawn(move || stdout.write_all(&written).unwrap());
    // It has read less than it was offered, and the pipe is full: the bot waits.
    while rustix::io::ioctl_fionread(rig.pipe()).unwrap() < 65_536 {
        std::thread::yield_now();
    }
    assert!(!bot.is_finished());
    fs::remove_file(&filler).unwrap();
    bot.join().unwrap();
    let totals = rig.finish();
    assert_eq!(totals.log.stdout.sha256, sha256(&text[..1 << 20]));
    let bodies = rig.records();
    assert!(stream(&bodies, LogSource::Stdout) == text[..1 << 20]);
    assert!(gaps(&bodies).is_empty());
}

/// A file system of 3 MiB under `spool`.
struct SmallDisk {
    folder: tempfile::TempDir,
    unmount: Unmount,
}

struct Unmount(std::path::PathBuf);

impl SmallDisk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        fs::create_dir(&path).unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=3m", "none"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(mounted.success());
        Self {
            folder,
            unmount: Unmount(path),
        }
    }
}

impl Drop for Unmount {
    fn drop(&mut self) {
        // Lazily: what still holds it open ends with the test.
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}

#[test]
fn records_of_a_bot_that_says_nothing_are_none() {
    let mut rig = Rig::start();
    let totals = rig.finish();
    assert_eq!((totals.last_seq, totals.log.stdout.lines), (0, 0));
    assert_eq!(totals.log.stdout.sha256, sha256(b""));
    assert_eq!(rig.records(), Vec::<Body>::new());
}

#[test]
fn a_failure_picture_without_a_display_is_answered_at_once() {
    let mut rig = Rig::start();
    rig.tell(&ToAttendant::FailureScreenshot, &[]);
    assert_eq!(rig.hear(), FromAttendant::FailureTaken);
    rig.finish();
}

#[test]
fn a_stop_of_the_whole_unit_does_not_end_it_before_the_session_does() {
    let mut rig = Rig::start();
    let mut robotd = rig.robotd();
    let pid = rustix::process::Pid::from_child(&rig.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    rig.stdout
        .as_mut()
        .unwrap()
        .write_all(b"still here\n")
        .unwrap();
    robotd.wait_for(1);
    assert_eq!(rig.finish().log.stdout.lines, 1);
}

#[test]
fn nobody_of_the_same_user_can_look_into_it() {
    let mut rig = Rig::start();
    let status = fs::read_to_string(format!("/proc/{}/status", rig.child.id())).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"));
    if is_root() {
        // Not dumpable: its /proc entries belong to root, not to its user.
        let owner = std::os::unix::fs::MetadataExt::uid(
            &fs::metadata(format!("/proc/{}/mem", rig.child.id())).unwrap(),
        );
        assert_eq!(owner, 0);
    }
    rig.finish();
}
