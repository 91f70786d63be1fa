//! Writer and reader at the same time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use spool::{Batch, Durability, Limits, Next, Seq, WriteError, Writer};

use crate::kit::{EPOCH, Lane, key};

#[test]
fn reading_and_removing_beside_a_writer_gives_every_record_once_in_order() {
    const FRAMES: u64 = 3000;
    let lane = Lane::new();
    // Small enough to be full again and again.
    let limits = Limits::new(4096, 64 * 1024, 4096).unwrap();
    let mut writer = Writer::create(&lane.dir, key(), EPOCH, limits).unwrap();
    let times_full = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..FRAMES {
                let payload = number.to_le_bytes().repeat(1 + (number % 90) as usize);
                while let Err(error) = writer.append(Batch::plain(1, &payload), Durability::Later) {
                    assert!(matches!(error, WriteError::Full { .. }), "{error}");
                    times_full.fetch_add(1, Ordering::Relaxed);
                    thread::yield_now();
                }
            }
            writer.finish().unwrap();
        });
        let mut reader = lane.reader();
        let (mut read, mut reliefs) = (0, 0);
        loop {
            match reader.read().unwrap() {
                Next::Frame(frame) => {
                    assert_eq!(frame.header.first_seq, Seq::new(read + 1));
                    assert_eq!(frame.payload[..8], read.to_le_bytes());
                    read += 1;
                }
                Next::Waiting => {
                    // Only a full lane is relieved, so that it is full again and again.
                    if times_full.swap(0, Ordering::Relaxed) > 0 {
                        reader.acknowledge(Seq::new(read)).unwrap();
                        reliefs += 1;
                    }
                    thread::yield_now();
                }
                Next::Ended(last) => {
                    assert_eq!(last, Seq::new(FRAMES));
                    break;
                }
                Next::Lost(range) => panic!("lost {range}"),
            }
        }
        assert_eq!(read, FRAMES);
        assert!(reliefs > 5, "{reliefs}");
        reader.acknowledge(Seq::new(read)).unwrap();
    });
    assert!(lane.segments().is_empty());
}
