//! The writer's account has been taken over: what can it do to the reader?

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::PathBuf;

use nix::sys::stat::Mode;
use proptest::prelude::*;
use spool::{DirError, Next, ReadError, SegmentError, Seq};

use crate::kit::{Lane, append, range, read_all};

/// A lane whose newest segment can be replaced by something else.
fn lane_with_two_segments() -> (Lane, PathBuf) {
    let lane = Lane::in_memory();
    append(&mut lane.create(), 1, b"good");
    let (mut writer, _) = lane.recover();
    append(&mut writer, 1, b"bad");
    let newest = lane.newest();
    (lane, newest)
}

fn refused(lane: &Lane) -> DirError {
    let mut reader = lane.reader();
    assert!(matches!(reader.read(), Ok(Next::Frame(_))));
    match reader.read() {
        Err(ReadError::Segment(SegmentError::Dir(error))) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_link_is_not_followed() {
    let (lane, newest) = lane_with_two_segments();
    let elsewhere = lane.dir.path().join("elsewhere");
    fs::rename(&newest, &elsewhere).unwrap();
    symlink(&elsewhere, &newest).unwrap();
    assert!(matches!(refused(&lane), DirError::Open { .. }));
}

#[test]
fn a_pipe_does_not_block() {
    let (lane, newest) = lane_with_two_segments();
    fs::remove_file(&newest).unwrap();
    nix::unistd::mkfifo(&newest, Mode::S_IRWXU).unwrap();
    assert!(matches!(refused(&lane), DirError::NotRegular { .. }));
}

#[test]
fn a_second_name_of_a_file_is_refused() {
    let (lane, newest) = lane_with_two_segments();
    fs::hard_link(&newest, lane.dir.path().join("second name")).unwrap();
    assert!(matches!(refused(&lane), DirError::Linked { links: 2, .. }));
}

#[test]
fn a_directory_and_a_socket_are_refused() {
    let (lane, newest) = lane_with_two_segments();
    fs::remove_file(&newest).unwrap();
    fs::create_dir(&newest).unwrap();
    assert!(matches!(refused(&lane), DirError::NotRegular { .. }));
    fs::remove_dir(&newest).unwrap();
    let socket = lane.dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    fs::rename(&socket, &newest).unwrap();
    assert!(matches!(refused(&lane), DirError::Open { .. }));
}

#[test]
fn what_is_refused_is_passed_by_when_a_later_segment_follows() {
    let (lane, newest) = lane_with_two_segments();
    let (mut writer, _) = lane.recover();
    append(&mut writer, 1, b"later");
    fs::remove_file(&newest).unwrap();
    symlink("/etc/passwd", &newest).unwrap();
    let (read, lost, _) = read_all(&mut lane.reader());
    assert_eq!((read.len(), lost), (2, vec![range(2, 2)]));
    let removed = lane.reader().acknowledge(Seq::new(2)).unwrap();
    assert_eq!(removed.segments, 2, "the link itself");
    assert!(fs::metadata("/etc/passwd").is_ok());
}

#[test]
fn a_file_of_eight_exabytes_of_nothing_is_given_up_quickly() {
    let (lane, newest) = lane_with_two_segments();
    let file = File::options().write(true).open(&newest).unwrap();
    // As long as this file system can make it.
    let longest = (30..63).rev().find(|bits| file.set_len(1 << bits).is_ok());
    assert!(longest.is_some());
    let mut reader = lane.reader();
    let (read, _, end) = read_all(&mut reader);
    assert_eq!((read.len(), end), (2, Next::Waiting));
    assert_eq!(reader.next_seq().unwrap(), Seq::new(3));
}

#[test]
fn a_file_full_of_things_that_look_like_frames_is_given_up() {
    let (lane, newest) = lane_with_two_segments();
    let mut header = fs::read(&newest).unwrap()[96..96 + 44].to_vec();
    // A whole header that asks for 4 MiB each time: opening them all would take days.
    header[4..8].copy_from_slice(&(4u32 << 20).to_le_bytes());
    header[32..36].copy_from_slice(&((4u32 << 20) - 16).to_le_bytes());
    header[16..24].copy_from_slice(&1000u64.to_le_bytes());
    header[24..32].copy_from_slice(&1000u64.to_le_bytes());
    let checksum = crc32c::crc32c(&header[..40]);
    header[40..].copy_from_slice(&checksum.to_le_bytes());
    let file = File::options().write(true).open(&newest).unwrap();
    file.write_all_at(&header.repeat(12 * 1024 * 1024 / 44), 96)
        .unwrap();
    let (read, lost, end) = read_all(&mut lane.reader());
    assert_eq!((read.len(), lost.len(), end), (1, 0, Next::Waiting));
}

#[test]
fn very_many_names_are_refused_and_many_are_not() {
    let (lane, newest) = lane_with_two_segments();
    let name = newest.file_name().unwrap().to_str().unwrap().to_owned();
    for number in 3..2000u64 {
        let other = name.replacen("0000000000000002", &format!("{number:016x}"), 1);
        File::create(lane.dir.path().join(other)).unwrap();
    }
    let mut reader = lane.reader();
    assert!(matches!(reader.read(), Ok(Next::Frame(_))));
    assert!(matches!(reader.read(), Ok(Next::Frame(_))));
    let stopped = reader.read();
    assert!(
        matches!(
            &stopped,
            Err(ReadError::Segment(SegmentError::Header { .. }))
        ),
        "{stopped:?}"
    );

    for number in 0..64_000 {
        File::create(lane.dir.path().join(number.to_string())).unwrap();
    }
    assert!(matches!(lane.dir_error(), DirError::TooManyEntries { .. }));
}

#[test]
fn segments_whose_numbers_overlap_do_not_repeat_records() {
    let (lane, _) = lane_with_two_segments();
    let first = lane.segments()[0].clone();
    let (mut writer, _) = lane.recover();
    append(&mut writer, 1, b"three");
    drop(writer);
    // The first segment again, as if it were the last.
    let name = first.file_name().unwrap().to_str().unwrap();
    let again = name.replacen("0000000000000001", "0000000000000009", 1);
    fs::copy(&first, lane.dir.path().join(again)).unwrap();
    let mut reader = lane.reader();
    for expected in 1..=3 {
        assert_eq!(
            crate::kit::frame(&mut reader).header.records(),
            range(expected, expected)
        );
    }
    assert!(reader.read().is_err());
}

impl Lane {
    fn dir_error(&self) -> DirError {
        spool::survey(&self.dir).unwrap_err()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn any_bytes_behind_a_header_end_in_a_result(
        parts in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                Just(b"\xb5fr1".to_vec()),
                Just(vec![0; 100]),
                Just(vec![0xff; 100]),
            ],
            0..30,
        ),
        header_hit in proptest::option::of((0usize..96, any::<u8>())),
    ) {
        let (lane, newest) = lane_with_two_segments();
        let mut contents = fs::read(&newest).unwrap();
        contents.truncate(96);
        if let Some((at, byte)) = header_hit {
            contents[at] = byte;
        }
        contents.extend(parts.concat());
        fs::write(&newest, contents).unwrap();
        let mut reader = lane.reader();
        prop_assert!(matches!(reader.read(), Ok(Next::Frame(_))));
        prop_assert!(matches!(reader.read(), Ok(Next::Waiting) | Err(_)));
        let _ = reader.next_seq();
        let _ = spool::Writer::recover(&lane.dir, crate::kit::key(), crate::kit::small());
    }
}
