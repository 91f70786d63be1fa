//! A lane in a place of its own.

use std::fs;
use std::path::{Path, PathBuf};

use spool::{
    Batch, Durability, Epoch, Frame, LaneDir, LaneKey, Limits, Next, Reader, Seq, SeqRange, Writer,
};

pub(crate) const KEY: [u8; 32] = *b"the same key for all test lanes.";
pub(crate) const EPOCH: Epoch = Epoch::from_bytes(*b"the first epoch ");

pub(crate) fn key() -> LaneKey {
    LaneKey::from_bytes(&KEY)
}

/// 4 KiB segments.
pub(crate) fn small() -> Limits {
    Limits::new(4096, 1 << 20, 4096).unwrap()
}

pub(crate) struct Lane {
    _place: Option<tempfile::TempDir>,
    pub(crate) dir: LaneDir,
}

impl Lane {
    pub(crate) fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let dir = LaneDir::open(place.path()).unwrap();
        Self {
            _place: Some(place),
            dir,
        }
    }

    /// For claims that make very many files or syncs.
    pub(crate) fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        let dir = LaneDir::open(place.path()).unwrap();
        Self {
            _place: Some(place),
            dir,
        }
    }

    pub(crate) fn at(path: &Path) -> Self {
        Self {
            _place: None,
            dir: LaneDir::open(path).unwrap(),
        }
    }

    pub(crate) fn create(&self) -> Writer {
        Writer::create(&self.dir, key(), EPOCH, small()).unwrap()
    }

    pub(crate) fn recover(&self) -> (Writer, spool::Found) {
        Writer::recover(&self.dir, key(), small()).unwrap()
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader::open(&self.dir, key(), EPOCH).unwrap()
    }

    /// Segment files by age.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|suffix| suffix == "seg"));
        paths.sort();
        paths
    }

    pub(crate) fn newest(&self) -> PathBuf {
        self.segments().pop().unwrap()
    }
}

pub(crate) fn append(writer: &mut Writer, records: u32, payload: &[u8]) -> SeqRange {
    writer
        .append(Batch::plain(records, payload), Durability::Later)
        .unwrap()
}

pub(crate) fn range(first: u64, last: u64) -> SeqRange {
    SeqRange {
        first: Seq::new(first),
        last: Seq::new(last),
    }
}

pub(crate) fn frame(reader: &mut Reader) -> Frame {
    match reader.read().unwrap() {
        Next::Frame(frame) => frame,
        other => panic!("a frame was expected, not {other:?}"),
    }
}

/// A frame's records and payload.
pub(crate) type Sent = (SeqRange, Vec<u8>);

/// What there is to read up to the end, or the end for now.
pub(crate) fn read_all(reader: &mut Reader) -> (Vec<Sent>, Vec<SeqRange>, Next) {
    let (mut frames, mut lost) = (Vec::new(), Vec::new());
    loop {
        match reader.read().unwrap() {
            Next::Frame(frame) => frames.push((frame.header.records(), frame.payload)),
            Next::Lost(range) => lost.push(range),
            end => return (frames, lost, end),
        }
    }
}
