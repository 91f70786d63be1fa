//! A lane with a size.

use spool::{Batch, Durability, Limits, Seq, WriteError, Writer};

use crate::kit::{EPOCH, Lane, key, read_all};

fn fill(writer: &mut Writer, payload: &[u8]) -> u64 {
    loop {
        match writer.append(Batch::plain(1, payload), Durability::Later) {
            Ok(_) => {}
            Err(WriteError::Full { bytes, .. }) => return bytes,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_full_lane_refuses_without_a_trace_and_takes_more_after_an_acknowledgement() {
    let lane = Lane::new();
    let limits = Limits::new(4096, 32 * 1024, 4096).unwrap();
    let mut writer = Writer::create(&lane.dir, key(), EPOCH, limits).unwrap();
    let bytes = fill(&mut writer, &[0; 500]);
    assert!((24 * 1024..=28 * 1024).contains(&bytes), "{bytes}");
    let full_at = writer.next_seq();
    assert_eq!(fill(&mut writer, &[0; 500]), bytes);
    assert_eq!(writer.next_seq(), full_at);

    let mut reader = lane.reader();
    assert_eq!(read_all(&mut reader).0.len() as u64, full_at.get() - 1);
    reader.acknowledge(Seq::new(10)).unwrap();
    let taken = writer
        .append(Batch::plain(1, &[0; 500]), Durability::Later)
        .unwrap();
    assert_eq!(taken.first, full_at);
    assert!(writer.bytes_on_disk().unwrap() < bytes);
}

#[test]
fn the_reserve_takes_the_gap_and_the_end_of_a_full_lane() {
    let lane = Lane::new();
    let limits = Limits::new(4096, 32 * 1024, 4096).unwrap();
    let mut writer = Writer::create(&lane.dir, key(), EPOCH, limits).unwrap();
    fill(&mut writer, &[0; 500]);
    fill(&mut writer, &[0; 1]);
    let gap = writer
        .append_reserved(Batch::plain(1, b"gap"), Durability::Now)
        .unwrap();
    assert_eq!(writer.finish().unwrap(), gap.last);
    assert!(writer.bytes_on_disk().unwrap() <= 32 * 1024);
    assert_eq!(read_all(&mut lane.reader()).2, spool::Next::Ended(gap.last));
}

#[test]
fn the_reserve_is_not_endless() {
    let lane = Lane::new();
    let limits = Limits::new(4096, 32 * 1024, 4096).unwrap();
    let mut writer = Writer::create(&lane.dir, key(), EPOCH, limits).unwrap();
    let full = loop {
        let appended = writer.append_reserved(Batch::plain(1, &[0; 500]), Durability::Later);
        if let Err(error) = appended {
            break error;
        }
    };
    assert!(matches!(full, WriteError::Full { .. }), "{full}");
    assert!(writer.bytes_on_disk().unwrap() <= 32 * 1024);
}

#[test]
fn a_segment_that_alone_fills_the_lane_ends_so_that_it_can_be_acknowledged() {
    let lane = Lane::new();
    let limits = Limits::new(8192, 20_480, 4096).unwrap();
    let mut writer = Writer::create(&lane.dir, key(), EPOCH, limits).unwrap();
    let large = Batch::plain(1, &[0; 12_000]);
    writer.append(large, Durability::Later).unwrap();
    let refused = writer.append(large, Durability::Later);
    assert!(matches!(refused, Err(WriteError::Full { .. })));
    assert_eq!(lane.reader().acknowledge(Seq::new(1)).unwrap().segments, 1);
    writer.append(large, Durability::Later).unwrap();
}

#[test]
fn a_frame_that_never_fits_is_not_called_a_full_lane() {
    let lane = Lane::new();
    let limits = Limits::new(4096, 16_384, 4096).unwrap();
    let mut writer = Writer::create(&lane.dir, key(), EPOCH, limits).unwrap();
    let refused = writer.append(Batch::plain(1, &[0; 12_288]), Durability::Later);
    assert!(matches!(refused, Err(WriteError::LargerThanLane { .. })));
}
