//! Writing, reading, acknowledging, going on.

use std::fs;
use std::os::unix::fs::MetadataExt;

use spool::{
    Batch, Codec, DirError, Durability, Epoch, LaneDir, Next, ReadError, Reader, RecoverError,
    Removed, SegmentError, Seq, WriteError, Writer, discard, survey,
};

use crate::kit::{EPOCH, Lane, append, frame, key, range, read_all, small};

const OTHER: Epoch = Epoch::from_bytes(*b"the second epoch");

#[test]
fn frames_come_back_as_they_were_appended_and_numbered() {
    let lane = Lane::new();
    let mut writer = lane.create();
    assert_eq!(append(&mut writer, 2, b"first two"), range(1, 2));
    let zipped = Batch {
        records: 3,
        codec: Codec::Zstd,
        raw_bytes: 999,
        payload: b"zipped",
    };
    assert_eq!(writer.append(zipped, Durability::Now).unwrap(), range(3, 5));
    assert_eq!(
        (writer.next_seq(), writer.durable_seq()),
        (Seq::new(6), Seq::new(5))
    );

    let mut reader = lane.reader();
    let first = frame(&mut reader);
    assert_eq!(
        (first.header.records(), first.payload.as_slice()),
        (range(1, 2), &b"first two"[..])
    );
    let second = frame(&mut reader);
    assert_eq!(second.header.codec, Codec::Zstd);
    assert_eq!(
        (second.header.raw_bytes, second.header.crc32c),
        (999, crc32c::crc32c(b"zipped"))
    );
    assert_eq!(
        (second.header.records(), second.payload.as_slice()),
        (range(3, 5), &b"zipped"[..])
    );
    assert_eq!(reader.read().unwrap(), Next::Waiting);
}

#[test]
fn later_is_not_durable_until_it_is_synced() {
    let lane = Lane::new();
    let mut writer = lane.create();
    append(&mut writer, 4, b"x");
    assert_eq!(writer.durable_seq(), Seq::NONE);
    writer.sync().unwrap();
    assert_eq!(writer.durable_seq(), Seq::new(4));
}

#[test]
fn a_reader_that_waited_goes_on_with_what_is_appended_also_in_a_new_segment() {
    let lane = Lane::new();
    let mut writer = lane.create();
    let mut reader = lane.reader();
    for number in 1..=20u8 {
        assert_eq!(reader.read().unwrap(), Next::Waiting);
        append(&mut writer, 1, &[number; 1000]);
        assert_eq!(frame(&mut reader).payload, [number; 1000]);
    }
    assert!(lane.segments().len() > 4);
    assert_eq!(writer.finish().unwrap(), Seq::new(20));
    assert_eq!(reader.read().unwrap(), Next::Ended(Seq::new(20)));
    assert_eq!(reader.read().unwrap(), Next::Ended(Seq::new(20)));
}

#[test]
fn what_a_bot_said_is_not_to_be_found_in_the_files() {
    let lane = Lane::new();
    append(&mut lane.create(), 1, b"open sesame");
    let stored = fs::read(lane.newest()).unwrap();
    assert!(!stored.windows(6).any(|part| part == b"sesame"));
    assert_eq!(fs::metadata(lane.newest()).unwrap().mode() & 0o7777, 0o640);
}

#[test]
fn seeking_finds_the_frame_with_the_record_in_any_segment() {
    let lane = Lane::new();
    let mut writer = lane.create();
    for number in 0..20u8 {
        append(&mut writer, 10, &[number; 1000]);
    }
    let mut reader = lane.reader();
    for seq in (1..=200u64).rev() {
        reader.seek(Seq::new(seq)).unwrap();
        let found = frame(&mut reader);
        assert_eq!(u64::from(found.payload[0]), (seq - 1) / 10, "record {seq}");
    }
    reader.seek(Seq::new(201)).unwrap();
    assert_eq!(reader.read().unwrap(), Next::Waiting);
    append(&mut writer, 1, b"now");
    assert_eq!(frame(&mut reader).header.records(), range(201, 201));
}

#[test]
fn acknowledging_removes_whole_segments_and_never_the_one_being_written() {
    let lane = Lane::new();
    let mut writer = lane.create();
    for _ in 0..9 {
        append(&mut writer, 1, &[0; 1000]);
    }
    assert_eq!(lane.segments().len(), 3, "three frames in each");
    let mut reader = lane.reader();
    assert_eq!(reader.acknowledge(Seq::new(2)).unwrap(), Removed::default());
    let removed = reader.acknowledge(Seq::new(3)).unwrap();
    assert_eq!((removed.segments, lane.segments().len()), (1, 2));
    assert_eq!(reader.acknowledge(Seq::new(1000)).unwrap().segments, 1);
    assert_eq!(lane.segments().len(), 1);

    writer.finish().unwrap();
    assert_eq!(
        reader.acknowledge(Seq::new(9)).unwrap().segments,
        0,
        "its end was not read yet"
    );
    reader.seek(Seq::new(10)).unwrap();
    assert_eq!(reader.read().unwrap(), Next::Ended(Seq::new(9)));
    assert_eq!(reader.acknowledge(Seq::new(8)).unwrap().segments, 0);
    assert_eq!(reader.acknowledge(Seq::new(9)).unwrap().segments, 1);
    assert!(lane.segments().is_empty());
    assert_eq!(reader.read().unwrap(), Next::Ended(Seq::new(9)));
}

#[test]
fn a_reader_that_is_sent_back_before_what_was_removed_reports_it_as_lost() {
    let lane = Lane::new();
    let mut writer = lane.create();
    for _ in 0..6 {
        append(&mut writer, 1, &[0; 1000]);
    }
    let mut reader = lane.reader();
    reader.acknowledge(Seq::new(3)).unwrap();
    reader.seek(Seq::new(2)).unwrap();
    assert_eq!(reader.read().unwrap(), Next::Lost(range(2, 3)));
    assert_eq!(frame(&mut reader).header.records(), range(4, 4));
}

#[test]
fn recovery_goes_on_with_the_numbers_in_a_new_segment() {
    let lane = Lane::new();
    let mut writer = lane.create();
    for _ in 0..4 {
        append(&mut writer, 2, &[1; 1000]);
    }
    drop(writer);
    lane.reader().acknowledge(Seq::new(6)).unwrap();
    let before = lane.segments();
    let (mut writer, found) = lane.recover();
    assert_eq!(
        (found.epoch, found.next_seq, found.acked_floor),
        (EPOCH, Seq::new(9), Seq::new(6))
    );
    assert_eq!(
        (found.torn_bytes, found.corruption, found.finished),
        (0, None, false)
    );
    assert_eq!(writer.durable_seq(), Seq::new(8));
    assert_eq!(
        lane.segments(),
        before,
        "starting without writing leaves nothing behind"
    );
    append(&mut writer, 1, b"after");
    assert_eq!(lane.segments().len(), before.len() + 1);
    let (frames, lost, _) = read_all(&mut lane.reader());
    assert_eq!((frames.len(), lost.len()), (2, 0));
    assert_eq!(frames[1], (range(9, 9), b"after".to_vec()));
}

#[test]
fn a_finished_lane_stays_finished() {
    let lane = Lane::new();
    let mut writer = lane.create();
    append(&mut writer, 7, b"x");
    assert_eq!(writer.finish().unwrap(), Seq::new(7));
    assert_eq!(writer.finish().unwrap(), Seq::new(7));
    drop(writer);
    let (mut writer, found) = lane.recover();
    assert!(found.finished);
    assert_eq!(
        (found.next_seq, writer.finish().unwrap()),
        (Seq::new(8), Seq::new(7))
    );
    let refused = writer.append(Batch::plain(1, b"x"), Durability::Now);
    assert!(matches!(refused, Err(WriteError::Finished { .. })));
}

#[test]
fn an_empty_lane_can_be_finished_after_a_recovery() {
    let lane = Lane::new();
    drop(lane.create());
    let (mut writer, _) = lane.recover();
    assert_eq!(writer.finish().unwrap(), Seq::NONE);
    let mut reader = lane.reader();
    assert_eq!(reader.read().unwrap(), Next::Ended(Seq::NONE));
    reader.acknowledge(Seq::NONE).unwrap();
    assert!(lane.segments().is_empty());
}

#[test]
fn a_lane_has_one_writer() {
    let lane = Lane::new();
    let first = lane.create();
    let second = Writer::recover(&lane.dir, key(), small());
    assert!(matches!(
        second,
        Err(RecoverError::Dir(DirError::Busy { .. }))
    ));
    drop(first);
    lane.recover();
}

#[test]
fn a_new_epoch_begins_beside_the_old_one_which_stays_readable() {
    let lane = Lane::new();
    append(&mut lane.create(), 5, b"old");
    let again = Writer::create(&lane.dir, key(), EPOCH, small());
    assert!(matches!(again, Err(WriteError::EpochExists { .. })));
    let mut writer = Writer::create(&lane.dir, key(), OTHER, small()).unwrap();
    assert_eq!(append(&mut writer, 1, b"new"), range(1, 1));

    let epochs = survey(&lane.dir).unwrap();
    let listed: Vec<_> = epochs
        .iter()
        .map(|e| (e.epoch, e.first_seq, e.segments))
        .collect();
    assert_eq!(listed, [(EPOCH, Seq::FIRST, 1), (OTHER, Seq::FIRST, 1)]);
    assert_eq!(frame(&mut lane.reader()).payload, b"old");
    let mut reader = Reader::open(&lane.dir, key(), OTHER).unwrap();
    assert_eq!(frame(&mut reader).payload, b"new");

    assert!(matches!(
        discard(&lane.dir, OTHER),
        Err(DirError::Busy { .. })
    ));
    assert_eq!(discard(&lane.dir, EPOCH).unwrap(), 1);
    let gone = Reader::open(&lane.dir, key(), EPOCH);
    assert!(matches!(gone, Err(ReadError::NoSuchEpoch { .. })));
    drop(writer);
    assert_eq!(lane.recover().1.epoch, OTHER);
    assert_eq!(discard(&lane.dir, OTHER).unwrap(), 1);
    assert!(survey(&lane.dir).unwrap().is_empty());
}

#[test]
fn a_reader_tells_the_next_number_without_moving() {
    let lane = Lane::new();
    let mut writer = lane.create();
    let mut reader = lane.reader();
    assert_eq!(reader.next_seq().unwrap(), Seq::FIRST);
    for _ in 0..10 {
        append(&mut writer, 3, &[0; 900]);
    }
    assert_eq!(reader.next_seq().unwrap(), Seq::new(31));
    assert_eq!(frame(&mut reader).header.records(), range(1, 3));
}

#[test]
fn the_wrong_key_is_told_from_damage_and_uses_no_number_twice() {
    let lane = Lane::new();
    let mut writer = lane.create();
    append(&mut writer, 1, b"x");
    drop(writer);
    let other = || spool::LaneKey::from_bytes(&[1; 32]);
    let recovered = Writer::recover(&lane.dir, other(), small());
    let wrong = |error: &SegmentError| matches!(error, SegmentError::WrongKey { .. });
    assert!(matches!(recovered, Err(RecoverError::Segment(error)) if wrong(&error)));
    let mut reader = Reader::open(&lane.dir, other(), EPOCH).unwrap();
    for _ in 0..2 {
        assert!(matches!(reader.read(), Err(ReadError::Segment(error)) if wrong(&error)));
    }
}

#[test]
fn a_segment_that_cannot_be_read_is_given_up_only_on_demand_and_when_another_follows() {
    let lane = Lane::new();
    append(&mut lane.create(), 5, b"x");
    append(&mut lane.recover().0, 1, b"y");
    let other = spool::LaneKey::from_bytes(&[1; 32]);
    let mut reader = Reader::open(&lane.dir, other, EPOCH).unwrap();
    assert!(reader.read().is_err());
    assert!(reader.abandon_segment().unwrap());
    assert_eq!(reader.read().unwrap(), Next::Lost(range(1, 5)));
    assert!(reader.read().is_err());
    assert!(!reader.abandon_segment().unwrap());
}

#[test]
fn the_same_batch_is_never_sealed_to_the_same_bytes() {
    let (one, two) = (Lane::new(), Lane::new());
    for lane in [&one, &two] {
        append(&mut lane.create(), 1, &[0; 64]);
    }
    let tail = |lane: &Lane| fs::read(lane.newest()).unwrap().split_off(96 + 44);
    assert_ne!(
        tail(&one),
        tail(&two),
        "a machine that was set back repeats all but the salt"
    );
}

#[test]
fn a_directory_may_be_handed_over_as_a_path_only_descriptor() {
    let lane = Lane::new();
    use std::os::unix::fs::OpenOptionsExt;
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY;
    let opened = fs::File::options()
        .read(true)
        .custom_flags(flags.bits())
        .open(lane.dir.path());
    let dir = LaneDir::from_fd(&opened.unwrap().into(), lane.dir.path()).unwrap();
    append(
        &mut Writer::create(&dir, key(), EPOCH, small()).unwrap(),
        1,
        b"x",
    );
    assert_eq!(lane.segments().len(), 1);
}

#[test]
fn a_lane_directory_that_is_a_link_is_refused() {
    let lane = Lane::new();
    let link = lane.dir.path().join("link");
    std::os::unix::fs::symlink(lane.dir.path(), &link).unwrap();
    assert!(matches!(
        LaneDir::open(&link),
        Err(DirError::OpenDir { .. })
    ));
}
