//! A file system without room, and a disk that fails, in a mount namespace of the test's own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use spool::{Batch, Durability, Next, Seq, WriteError};

use crate::kit::{Lane, append, read_all};

/// Runs `claim` with a small tmpfs that nobody else sees and that is gone with the thread.
fn on_small_disk(size: &'static str, claim: fn(&Path)) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can mount a small file system");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let at = place.path().to_owned();
    let run = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(
            Some("tmpfs"),
            &at,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(size),
        )
        .unwrap();
        claim(&at);
    });
    run.join().unwrap();
}

fn fill_disk(writer: &mut spool::Writer) -> WriteError {
    loop {
        let appended = writer.append(Batch::plain(1, &[7; 2900]), Durability::Later);
        if let Err(error) = appended {
            return error;
        }
    }
}

#[test]
fn a_full_disk_leaves_no_torn_frame_and_the_lane_goes_on_when_there_is_room() {
    on_small_disk("size=128k", |at| {
        let ballast = at.join("ballast");
        fs::write(&ballast, vec![0; 64 * 1024]).unwrap();
        let place = at.join("lane");
        fs::create_dir(&place).unwrap();
        let lane = Lane::at(&place);
        let limits = spool::Limits::new(1 << 20, 1 << 22, 4096).unwrap();
        let mut writer =
            spool::Writer::create(&lane.dir, crate::kit::key(), crate::kit::EPOCH, limits).unwrap();
        append(&mut writer, 1, b"x");
        for _ in 0..3 {
            let before = writer.next_seq();
            let full = fill_disk(&mut writer);
            assert!(matches!(full, WriteError::NoSpace { .. }), "{full}");
            assert!(writer.next_seq() >= before);
        }
        let full_at = writer.next_seq();
        let length = 96 + (1 + 60) + (full_at.get() - 2) * (2900 + 60);
        assert_eq!(
            fs::metadata(lane.newest()).unwrap().len(),
            length,
            "cut after the last frame"
        );
        let mut reader = lane.reader();
        assert_eq!(read_all(&mut reader).0.len() as u64, full_at.get() - 1);

        fs::remove_file(ballast).unwrap();
        assert_eq!(append(&mut writer, 1, &[8; 2900]).first, full_at);
        let counter = fs::read(lane.newest()).unwrap()[length as usize + 24];
        let uses = full_at.get() + 3;
        assert_eq!(
            u64::from(counter),
            uses,
            "the three that failed have used a nonce each"
        );
        assert_eq!(writer.finish().unwrap(), full_at);
        assert_eq!(read_all(&mut reader).0.len(), 1);
        let (read, lost, end) = read_all(&mut lane.reader());
        assert_eq!((read.len() as u64, lost.len()), (full_at.get(), 0));
        assert_eq!(end, Next::Ended(full_at));
    });
}

#[test]
fn a_disk_too_full_for_a_new_segment_keeps_the_old_one_going() {
    on_small_disk("size=128k", |at| {
        let place = at.join("lane");
        fs::create_dir(&place).unwrap();
        let lane = Lane::at(&place);
        let mut writer = lane.create();
        let full = fill_disk(&mut writer);
        assert!(matches!(full, WriteError::NoSpace { .. }), "{full}");
        let full_at = writer.next_seq();
        assert!(!place.join("segment.new").exists());
        let segments = lane.segments().len();
        let mut reader = lane.reader();
        read_all(&mut reader);
        reader.acknowledge(Seq::new(full_at.get() - 2)).unwrap();
        assert!(lane.segments().len() < segments);
        assert_eq!(append(&mut writer, 1, &[8; 2900]).first, full_at);
        assert_eq!(read_all(&mut reader).0.len(), 1);
    });
}

/// A disk of 32 MiB of which only the first 2 MiB that are written can be kept. It goes with the
/// namespace, its loop device with it.
fn failing_disk(at: &Path) -> Option<std::path::PathBuf> {
    let (image, place) = (at.join("image"), at.join("disk"));
    fs::create_dir(&place).unwrap();
    fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
    let options = [
        "-q",
        "-O",
        "^has_journal",
        "-E",
        "nodiscard,lazy_itable_init=1",
    ];
    let made = Command::new("mkfs.ext4").args(options).arg(&image).status();
    if !made.is_ok_and(|status| status.success()) {
        return None;
    }
    let mounted = Command::new("mount")
        .args(["-o", "loop"])
        .args([&image, &place])
        .status();
    mounted
        .is_ok_and(|status| status.success())
        .then_some(place)
}

#[test]
fn a_disk_that_fails_at_the_sync_ends_the_writer_though_every_write_went_well() {
    on_small_disk("size=2m", |at| {
        let Some(place) = failing_disk(at) else {
            eprintln!("skipped: no loop device or mkfs.ext4 to make a failing disk of");
            return;
        };
        let lane = Lane::at(&place);
        let limits = spool::Limits::default();
        let mut writer =
            spool::Writer::create(&lane.dir, crate::kit::key(), crate::kit::EPOCH, limits).unwrap();
        let payload = vec![7; 1 << 20];
        writer
            .append(Batch::plain(1, b"kept"), Durability::Now)
            .unwrap();
        for _ in 0..5 {
            append(&mut writer, 1, &payload);
        }
        let failed = writer.sync();
        assert!(matches!(failed, Err(WriteError::Sync { .. })), "{failed:?}");
        assert!(matches!(writer.sync(), Err(WriteError::Poisoned { .. })));
        assert_eq!(writer.durable_seq(), Seq::new(1));
    });
}
