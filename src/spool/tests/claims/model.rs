//! A lane against a plain list of frames, through crashes of the process and of the power.

use std::fs::{self, File};
use std::path::PathBuf;

use proptest::prelude::*;
use spool::{Batch, Durability, Next, Reader, Seq, SeqRange, Writer};

use crate::kit::{Lane, read_all};

#[derive(Clone, Debug)]
enum Step {
    Append {
        records: u32,
        bytes: usize,
        durability: bool,
    },
    Sync,
    Read {
        frames: usize,
    },
    Seek {
        at: f64,
    },
    Acknowledge {
        part: f64,
    },
    /// The process ends.
    Kill,
    /// The power fails: of what was not synced, this part is on the disk.
    PowerCut {
        part: f64,
        zeros: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1u32..5, 1usize..1500, prop::bool::weighted(0.2)).prop_map(
            |(records, bytes, durability)| Step::Append { records, bytes, durability }),
        2 => Just(Step::Sync),
        4 => (1usize..6).prop_map(|frames| Step::Read { frames }),
        1 => (0.0..1.0).prop_map(|at| Step::Seek { at }),
        2 => (0.0..1.0).prop_map(|part| Step::Acknowledge { part }),
        1 => Just(Step::Kill),
        2 => (0.0..=1.0, 0usize..100).prop_map(|(part, zeros)| Step::PowerCut { part, zeros }),
    ];
    proptest::collection::vec(step, 1..60)
}

struct Model {
    lane: Lane,
    writer: Option<Writer>,
    reader: Reader,
    /// Every frame that was appended and not lost with the power.
    frames: Vec<(SeqRange, Vec<u8>)>,
    /// What the reader gives next.
    sought: Seq,
    /// What the receiver holds durable: it never goes back.
    durable: Seq,
    /// The newest segment, and how long it was at its last sync.
    synced: (PathBuf, u64),
    fill: u8,
}

impl Model {
    fn new() -> Self {
        let lane = Lane::in_memory();
        let writer = Some(lane.create());
        let reader = lane.reader();
        let synced = (lane.newest(), 96);
        Self {
            lane,
            writer,
            reader,
            frames: Vec::new(),
            sought: Seq::FIRST,
            durable: Seq::NONE,
            synced,
            fill: 0,
        }
    }

    fn writer(&mut self) -> &mut Writer {
        self.writer.as_mut().unwrap()
    }

    fn next_seq(&self) -> Seq {
        self.frames
            .last()
            .map_or(Seq::FIRST, |(records, _)| records.last.next())
    }

    fn note_synced(&mut self) {
        let newest = self.lane.newest();
        let len = fs::metadata(&newest).unwrap().len();
        self.synced = (newest, len);
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Append {
                records,
                bytes,
                durability,
            } => self.append(records, bytes, durability),
            Step::Sync => {
                self.writer().sync().unwrap();
                self.note_synced();
                assert_eq!(self.writer().durable_seq().next(), self.next_seq());
            }
            Step::Read { frames } => self.read(frames),
            Step::Seek { at } => {
                let target = 1 + ((self.next_seq().get() as f64) * at) as u64;
                self.sought = Seq::new(target).max(self.floor());
                self.reader.seek(self.sought).unwrap();
            }
            Step::Acknowledge { part } => {
                let durable = ((self.sought.get() - 1) as f64 * part) as u64;
                self.durable = self.durable.max(Seq::new(durable));
                self.reader.acknowledge(Seq::new(durable)).unwrap();
                let floor = self.floor();
                assert!(floor <= self.durable.next(), "{floor} was not acknowledged");
            }
            Step::Kill => {
                let next = self.next_seq();
                self.writer = None;
                assert_eq!(self.recover(), next, "the end of the process costs nothing");
            }
            Step::PowerCut { part, zeros } => self.cut_power(part, zeros),
        }
    }

    fn append(&mut self, records: u32, bytes: usize, durable: bool) {
        self.fill = self.fill.wrapping_add(1);
        let payload = vec![self.fill; bytes];
        let durability = if durable {
            Durability::Now
        } else {
            Durability::Later
        };
        let next = self.next_seq();
        let range = self
            .writer()
            .append(Batch::plain(records, &payload), durability)
            .unwrap();
        assert_eq!((range.first, range.count()), (next, u64::from(records)));
        self.frames.push((range, payload));
        if durable {
            self.note_synced();
        } else if self.lane.newest() != self.synced.0 {
            // A new segment: the one before is synced, of this one the header.
            self.synced = (self.lane.newest(), 96);
        }
    }

    fn read(&mut self, frames: usize) {
        for _ in 0..frames {
            let sought = self.sought;
            let wanted = self
                .frames
                .iter()
                .find(|(records, _)| records.last >= sought);
            match (self.reader.read().unwrap(), wanted) {
                (Next::Frame(frame), Some((records, payload))) => {
                    assert_eq!(
                        (frame.header.records(), &frame.payload),
                        (*records, payload)
                    );
                    self.sought = records.last.next();
                }
                (Next::Waiting, None) => return,
                (got, wanted) => panic!("read {got:?} instead of {wanted:?}"),
            }
        }
    }

    fn floor(&self) -> Seq {
        spool::survey(&self.lane.dir).unwrap()[0].first_seq
    }

    fn recover(&mut self) -> Seq {
        let (writer, found) = self.lane.recover();
        assert_eq!(found.corruption, None);
        assert_eq!(found.acked_floor.next(), self.floor());
        assert_eq!(
            (writer.next_seq(), writer.durable_seq()),
            (found.next_seq, found.next_seq.before())
        );
        assert_eq!(self.reader.next_seq().unwrap(), found.next_seq);
        self.writer = Some(writer);
        self.note_synced();
        found.next_seq
    }

    fn cut_power(&mut self, part: f64, zeros: usize) {
        let durable = self.writer().durable_seq();
        self.writer = None;
        let (path, synced) = &self.synced;
        assert_eq!(*path, self.lane.newest());
        let file = File::options().write(true).open(path).unwrap();
        let len = file.metadata().unwrap().len();
        let left = synced + ((len - synced) as f64 * part) as u64;
        file.set_len(left).unwrap();
        if left < len {
            file.set_len(left + zeros as u64).unwrap();
        }
        let next = self.recover();
        assert!(
            durable < next && next <= self.next_seq(),
            "{durable} was durable, next is {next}"
        );
        self.frames.retain(|(records, _)| records.first < next);
        assert_eq!(self.next_seq(), next, "whole frames");
        // A power failure takes the reader too.
        self.reader = self.lane.reader();
        self.sought = self.floor();
    }

    fn finish(mut self) {
        let last = self.next_seq().before();
        assert_eq!(self.writer().finish().unwrap(), last);
        let floor = self.floor();
        self.frames.retain(|(records, _)| records.first >= floor);
        let (read, lost, end) = read_all(&mut self.lane.reader());
        assert_eq!(
            (read, lost, end),
            (self.frames.clone(), vec![], Next::Ended(last))
        );
        let mut reader = self.lane.reader();
        read_all(&mut reader);
        reader.acknowledge(last).unwrap();
        assert!(self.lane.segments().is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn a_lane_is_the_list_of_its_frames_through_every_crash(steps in steps()) {
        let mut model = Model::new();
        for step in &steps {
            model.apply(step);
        }
        model.finish();
    }
}
