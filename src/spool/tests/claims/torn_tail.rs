//! A power failure leaves some first part of what was not synced.

use std::fs::{self, File};
use std::io::Write;

use spool::{Next, RecoverError, SegmentError, Seq};

use crate::kit::{Lane, append, range, read_all};

const HEADER_BYTES: usize = 96;
const FRAMES: [(u32, &[u8]); 4] = [
    (1, b"one"),
    (2, b"two and three"),
    (1, b""),
    (3, b"the last"),
];

/// The file of a small lane, and where its frames end.
fn whole() -> (Vec<u8>, Vec<usize>) {
    let lane = Lane::in_memory();
    let mut writer = lane.create();
    let mut ends = vec![HEADER_BYTES];
    for (records, payload) in FRAMES {
        append(&mut writer, records, &[b"> ", payload].concat());
        ends.push(fs::metadata(lane.newest()).unwrap().len() as usize);
    }
    (fs::read(lane.newest()).unwrap(), ends)
}

fn lane_with(name: &std::ffi::OsStr, contents: &[u8]) -> Lane {
    let lane = Lane::in_memory();
    fs::write(lane.dir.path().join(name), contents).unwrap();
    lane
}

fn name_of_first() -> std::ffi::OsString {
    let lane = Lane::in_memory();
    drop(lane.create());
    lane.newest().file_name().unwrap().to_owned()
}

fn next_seq_after(frames: usize) -> u64 {
    1 + FRAMES[..frames]
        .iter()
        .map(|(records, _)| u64::from(*records))
        .sum::<u64>()
}

fn goes_on_after(contents: &[u8], frames: usize, what: &str) {
    let lane = lane_with(&name_of_first(), contents);
    let mut live = lane.reader();
    let before = read_all(&mut live);
    assert_eq!(
        (before.0.len(), before.2),
        (frames, Next::Waiting),
        "{what}"
    );

    let (mut writer, found) = lane.recover();
    assert_eq!(found.next_seq.get(), next_seq_after(frames), "{what}");
    assert_eq!(found.corruption, None, "{what}");
    assert_eq!(
        fs::read(lane.newest()).unwrap(),
        contents,
        "{what}: left as it is"
    );
    let next = found.next_seq.get();
    assert_eq!(
        append(&mut writer, 1, b"after"),
        range(next, next),
        "{what}"
    );
    writer.finish().unwrap();

    let after = read_all(&mut live);
    assert_eq!(after.0, [(range(next, next), b"after".to_vec())], "{what}");
    let (read, lost, end) = read_all(&mut lane.reader());
    assert_eq!((read.len(), lost), (frames + 1, vec![]), "{what}");
    assert_eq!(end, Next::Ended(Seq::new(next)), "{what}");
}

#[test]
fn cut_at_any_byte_all_whole_frames_are_kept_and_the_numbers_go_on() {
    let (contents, ends) = whole();
    for cut in HEADER_BYTES..=contents.len() {
        let frames = ends.iter().filter(|end| **end <= cut).count() - 1;
        goes_on_after(&contents[..cut], frames, &format!("cut at {cut}"));
    }
}

#[test]
fn a_tail_of_zeros_or_garbage_is_a_torn_tail() {
    let (contents, ends) = whole();
    for cut in [ends[0], ends[1], ends[2] + 10, ends[4]] {
        let frames = ends.iter().filter(|end| **end <= cut).count() - 1;
        for tail in [vec![0; 5000], vec![0xb5; 5000], b"\xb5fr1".repeat(50)] {
            let torn = [&contents[..cut], &tail].concat();
            goes_on_after(
                &torn,
                frames,
                &format!("cut at {cut}, then {:?}", &tail[..4]),
            );
        }
    }
}

#[test]
fn without_a_whole_header_no_number_is_guessed() {
    let (contents, _) = whole();
    for cut in 0..HEADER_BYTES {
        let lane = lane_with(&name_of_first(), &contents[..cut]);
        let recovered = spool::Writer::recover(&lane.dir, crate::kit::key(), crate::kit::small());
        let header = |error: &SegmentError| matches!(error, SegmentError::Header { .. });
        assert!(matches!(recovered, Err(RecoverError::Segment(error)) if header(&error)));
    }
}

#[test]
fn a_segment_that_was_begun_but_not_named_is_no_obstacle() {
    let lane = Lane::in_memory();
    let mut writer = lane.create();
    append(&mut writer, 1, b"x");
    drop(writer);
    let mut left = File::create(lane.dir.path().join("segment.new")).unwrap();
    left.write_all(b"half a header").unwrap();
    let (mut writer, _) = lane.recover();
    append(&mut writer, 1, b"y");
    assert_eq!(read_all(&mut lane.reader()).0.len(), 2);
    assert!(!lane.dir.path().join("segment.new").exists());
}

#[test]
fn a_frame_that_only_half_arrived_is_waited_for() {
    let (contents, ends) = whole();
    let lane = lane_with(&name_of_first(), &contents[..ends[1] + 20]);
    let mut reader = lane.reader();
    assert_eq!(read_all(&mut reader).0.len(), 1);
    for upto in [ends[1] + 50, ends[2] - 1] {
        fs::write(lane.newest(), &contents[..upto]).unwrap();
        assert_eq!(reader.read().unwrap(), Next::Waiting);
    }
    fs::write(lane.newest(), &contents).unwrap();
    assert_eq!(read_all(&mut reader).0.len(), 3);
}
