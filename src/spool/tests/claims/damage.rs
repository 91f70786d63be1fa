//! Damage in front of good frames: reported, with the numbers, and never passed off as a record.

use std::fs;

use proptest::prelude::*;
use spool::{Next, Seq, SeqRange};

use crate::kit::{Lane, append, range, read_all};

const PAYLOAD: usize = 900;
/// Header, payload and tag.
const FRAME: usize = 44 + PAYLOAD + 16;

/// Twelve frames of ten records, four to a segment, finished.
fn finished_lane() -> (Lane, Vec<(SeqRange, Vec<u8>)>) {
    let lane = Lane::in_memory();
    let mut writer = lane.create();
    let mut frames = Vec::new();
    for number in 0..12u8 {
        let payload = vec![number; PAYLOAD];
        frames.push((append(&mut writer, 10, &payload), payload));
    }
    writer.finish().unwrap();
    (lane, frames)
}

fn damage(lane: &Lane, segment: usize, at: usize, bytes: &[u8]) {
    let path = &lane.segments()[segment];
    let mut contents = fs::read(path).unwrap();
    contents[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(path, contents).unwrap();
}

#[test]
fn a_damaged_payload_costs_its_own_frame_only() {
    let (lane, frames) = finished_lane();
    damage(&lane, 0, 96 + FRAME + 500, b"!");
    let (read, lost, end) = read_all(&mut lane.reader());
    assert_eq!(lost, [range(11, 20)]);
    assert_eq!(read.len(), frames.len() - 1);
    assert_eq!(end, Next::Ended(Seq::new(120)));
}

#[test]
fn a_damaged_length_costs_its_own_frame_only() {
    let (lane, frames) = finished_lane();
    damage(&lane, 0, 96 + FRAME + 4, b"\xff\xff\xff\xff");
    let (read, lost, _) = read_all(&mut lane.reader());
    assert_eq!((read.len(), lost), (frames.len() - 1, vec![range(11, 20)]));
}

#[test]
fn a_damaged_end_of_an_older_segment_is_lost_up_to_the_next_segment() {
    let (lane, frames) = finished_lane();
    let path = &lane.segments()[0];
    let len = fs::metadata(path).unwrap().len();
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(len - 1)
        .unwrap();
    let (read, lost, _) = read_all(&mut lane.reader());
    assert_eq!(lost, [range(31, 40)]);
    assert_eq!(read.len(), frames.len() - 1);
}

#[test]
fn a_damaged_header_costs_its_segment_and_a_missing_file_as_well() {
    let (lane, frames) = finished_lane();
    damage(&lane, 1, 50, b"!!");
    let (read, lost, _) = read_all(&mut lane.reader());
    assert_eq!((read.len(), lost), (frames.len() - 4, vec![range(41, 80)]));
    fs::remove_file(&lane.segments()[1]).unwrap();
    let (read, lost, _) = read_all(&mut lane.reader());
    assert_eq!((read.len(), lost), (frames.len() - 4, vec![range(41, 80)]));
}

#[test]
fn recovery_tells_damage_in_the_newest_segment_and_keeps_its_numbers_used() {
    let lane = Lane::in_memory();
    let mut writer = lane.create();
    for number in 0..4u8 {
        append(&mut writer, 10, &[number; PAYLOAD]);
    }
    drop(writer);
    damage(&lane, 0, 96 + 30, b"!");
    damage(&lane, 0, 96 + 2 * FRAME + 500, b"!");
    let (_, found) = lane.recover();
    let corruption = found.corruption.unwrap();
    assert_eq!((corruption.records, corruption.within), (20, range(1, 30)));
    assert_eq!((found.next_seq, found.torn_bytes), (Seq::new(41), 0));
    let (read, lost, _) = read_all(&mut lane.reader());
    assert_eq!((read.len(), lost), (2, vec![range(1, 10), range(21, 30)]));
}

#[test]
fn a_lost_range_is_reported_only_from_the_record_that_was_sought() {
    let (lane, _) = finished_lane();
    damage(&lane, 0, 96 + FRAME + 500, b"!");
    let mut reader = lane.reader();
    reader.seek(Seq::new(15)).unwrap();
    assert_eq!(reader.read().unwrap(), Next::Lost(range(15, 20)));
    reader.seek(Seq::new(21)).unwrap();
    assert!(
        matches!(reader.read().unwrap(), Next::Frame(frame) if frame.header.first_seq.get() == 21)
    );
}

#[test]
fn a_frame_that_is_repeated_in_a_later_place_is_not_taken_again() {
    let (lane, frames) = finished_lane();
    let first = fs::read(&lane.segments()[0]).unwrap();
    damage(&lane, 0, 96 + FRAME, &first[96..96 + FRAME]);
    let (read, lost, _) = read_all(&mut lane.reader());
    assert_eq!((read.len(), lost), (frames.len() - 1, vec![range(11, 20)]));
}

#[test]
fn a_frame_of_another_segment_or_place_is_not_taken() {
    let (lane, _) = finished_lane();
    let first = fs::read(&lane.segments()[0]).unwrap();
    // The second frame over the first, and the whole file under another's name.
    damage(&lane, 0, 96, &first[96 + FRAME..96 + 2 * FRAME]);
    let other = fs::read(&lane.segments()[2]).unwrap();
    fs::write(&lane.segments()[1], other).unwrap();
    let (_, lost, _) = read_all(&mut lane.reader());
    assert_eq!(lost, [range(1, 10), range(41, 80)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_is_damaged_the_rest_is_read_and_nothing_is_made_up(
        hits in proptest::collection::vec((0usize..3, 0.0f64..1.0, proptest::collection::vec(any::<u8>(), 1..40)), 1..6),
    ) {
        let (lane, frames) = finished_lane();
        for (segment, at, bytes) in hits {
            let len = fs::metadata(&lane.segments()[segment]).unwrap().len() as usize;
            let at = ((len - bytes.len()) as f64 * at) as usize;
            damage(&lane, segment, at, &bytes);
        }
        let mut reader = lane.reader();
        let mut next = Seq::FIRST;
        // A newest segment without a good header keeps the reader where it is.
        while let Ok(found) = reader.read() {
            match found {
                Next::Frame(frame) => {
                    let records = frame.header.records();
                    prop_assert_eq!(records.first, next);
                    prop_assert!(frames.contains(&(records, frame.payload)));
                    next = records.last.next();
                }
                Next::Lost(range) => {
                    prop_assert_eq!(range.first, next);
                    next = range.last.next();
                }
                Next::Waiting => break,
                Next::Ended(last) => {
                    prop_assert_eq!(last, Seq::new(120));
                    prop_assert_eq!(next, Seq::new(121));
                    break;
                }
            }
        }
    }
}
