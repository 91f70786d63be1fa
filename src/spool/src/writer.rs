//! The writing end of a lane.

mod put;
mod room;

use std::fs::File;
use std::path::PathBuf;

use crate::active::Active;
use crate::batch::Batch;
use crate::dir::LaneDir;
use crate::epoch::Epoch;
use crate::frame::{self, Codec, FrameHeader, Kind};
use crate::key::LaneKey;
use crate::limits::{Limits, Room};
use crate::seal::TAG_BYTES;
use crate::seq::{Seq, SeqRange};
use crate::write_error::WriteError;

/// When a record must be on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Before the append returns.
    Now,
    /// At the next [`Writer::sync`]. It survives the end of the process, not that of the power.
    Later,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Finished,
    Poisoned,
}

/// The one writer of a lane directory.
///
/// Every call may block on the disk.
pub struct Writer {
    dir: LaneDir,
    key: LaneKey,
    limits: Limits,
    epoch: Epoch,
    /// Held as long as the writer lives.
    _lock: File,
    state: State,
    /// None until the first append after a recovery.
    active: Option<Active>,
    last_number: u64,
    next_seq: Seq,
    durable_seq: Seq,
    /// What the segments held when last counted, and what was appended since. A reader may have
    /// removed some, so it is never too low.
    used: u64,
}

impl Writer {
    /// Begins a new epoch, with its first segment, in a directory that may hold older ones. Those
    /// stay until they are acknowledged or discarded, and count as bytes of the lane.
    pub fn create(
        dir: &LaneDir,
        key: LaneKey,
        epoch: Epoch,
        limits: Limits,
    ) -> Result<Self, WriteError> {
        let lock = dir.lock()?;
        let names = dir.segments()?;
        if names.iter().any(|name| name.epoch == epoch) {
            return Err(WriteError::EpochExists {
                path: dir.path().to_owned(),
                epoch,
            });
        }
        let last_number = names.last().map_or(0, |name| name.number);
        let mut writer = Self::resume(
            dir.clone(),
            key,
            limits,
            lock,
            Position {
                epoch,
                last_number,
                next_seq: Seq::FIRST,
                state: State::Open,
            },
        );
        writer.count()?;
        writer.begin_segment()?;
        Ok(writer)
    }

    pub(crate) fn resume(
        dir: LaneDir,
        key: LaneKey,
        limits: Limits,
        lock: File,
        position: Position,
    ) -> Self {
        Self {
            dir,
            key,
            limits,
            epoch: position.epoch,
            _lock: lock,
            state: position.state,
            active: None,
            last_number: position.last_number,
            next_seq: position.next_seq,
            durable_seq: position.next_seq.before(),
            used: 0,
        }
    }

    /// Appends a batch as one frame and numbers its records. After an error that is none of
    /// [`WriteError::Write`] and [`WriteError::Sync`] no number was used.
    pub fn append(
        &mut self,
        batch: Batch<'_>,
        durability: Durability,
    ) -> Result<SeqRange, WriteError> {
        self.append_in(Room::Ordinary, batch, durability)
    }

    /// As [`Writer::append`], and may use the reserve: for gaps and for the last events.
    pub fn append_reserved(
        &mut self,
        batch: Batch<'_>,
        durability: Durability,
    ) -> Result<SeqRange, WriteError> {
        self.append_in(Room::Reserved, batch, durability)
    }

    /// Makes everything appended so far durable.
    pub fn sync(&mut self) -> Result<(), WriteError> {
        if self.state == State::Poisoned {
            return Err(self.poisoned());
        }
        let Some(active) = self
            .active
            .as_ref()
            .filter(|_| self.durable_seq.next() < self.next_seq)
        else {
            return Ok(());
        };
        if let Err(source) = active.sync() {
            return Err(self.sync_failed(source));
        }
        self.durable_seq = self.next_seq.before();
        Ok(())
    }

    /// Marks the lane as complete, durably, and returns its last record. Doing it again is fine.
    pub fn finish(&mut self) -> Result<Seq, WriteError> {
        match self.state {
            State::Finished => return Ok(self.next_seq.before()),
            State::Poisoned => return Err(self.poisoned()),
            State::Open => {}
        }
        let end = FrameHeader {
            first_seq: self.next_seq,
            record_count: 0,
            codec: Codec::Plain,
            raw_bytes: 0,
            crc32c: crc32c::crc32c(&[]),
        };
        self.make_room(0, Room::Reserved)?;
        self.write(Kind::End, end, &[])?;
        if let Some(Err(source)) = self.active.as_ref().map(Active::sync) {
            return Err(self.sync_failed(source));
        }
        self.durable_seq = self.next_seq.before();
        self.state = State::Finished;
        Ok(self.durable_seq)
    }

    /// The epoch that is being written.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The number that the next record gets.
    pub fn next_seq(&self) -> Seq {
        self.next_seq
    }

    /// The last record that is known to be on disk, [`Seq::NONE`] before the first.
    pub fn durable_seq(&self) -> Seq {
        self.durable_seq
    }

    /// Bytes of all segments in the directory, counted now.
    pub fn bytes_on_disk(&mut self) -> Result<u64, WriteError> {
        self.count()?;
        Ok(self.used)
    }

    fn append_in(
        &mut self,
        room: Room,
        batch: Batch<'_>,
        durability: Durability,
    ) -> Result<SeqRange, WriteError> {
        match self.state {
            State::Open => {}
            State::Finished => return Err(WriteError::Finished { path: self.path() }),
            State::Poisoned => return Err(self.poisoned()),
        }
        let header = batch.header(self.next_seq)?;
        let next_seq = self
            .next_seq
            .advance(header.record_count)
            .ok_or_else(|| WriteError::NumbersUsedUp { path: self.path() })?;
        self.make_room(batch.payload.len(), room)?;
        self.write(Kind::Records, header, batch.payload)?;
        self.next_seq = next_seq;
        if durability == Durability::Now {
            self.sync()?;
        }
        Ok(header.records())
    }

    fn poisoned(&self) -> WriteError {
        WriteError::Poisoned { path: self.path() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}

fn frame_bytes(payload: usize) -> u64 {
    (frame::HEADER_BYTES + payload + TAG_BYTES) as u64
}

/// Where a writer goes on.
pub(crate) struct Position {
    pub(crate) epoch: Epoch,
    pub(crate) last_number: u64,
    pub(crate) next_seq: Seq,
    pub(crate) state: State,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> (tempfile::TempDir, Writer) {
        let place = tempfile::tempdir().unwrap();
        let dir = LaneDir::open(place.path()).unwrap();
        let epoch = Epoch::random().unwrap();
        let key = LaneKey::generate().unwrap();
        let writer = Writer::create(&dir, key, epoch, Limits::default()).unwrap();
        (place, writer)
    }

    /// A pipe takes bytes but can't be synced: the kernel itself gives the error.
    fn file_that_cannot_sync() -> File {
        let (_, end) = std::io::pipe().unwrap();
        File::from(std::os::fd::OwnedFd::from(end))
    }

    fn is_poisoned<T>(result: Result<T, WriteError>) -> bool {
        matches!(result, Err(WriteError::Poisoned { .. }))
    }

    #[test]
    fn after_a_failed_sync_nothing_is_accepted_even_when_the_disk_is_well_again() {
        let (_place, mut writer) = lane();
        writer
            .append(Batch::plain(2, b"synced"), Durability::Now)
            .unwrap();
        writer
            .append(Batch::plain(3, b"not synced"), Durability::Later)
            .unwrap();
        let active = writer.active.as_mut().unwrap();
        active.replace_file(file_that_cannot_sync());

        let failed = writer.sync();
        assert!(
            matches!(&failed, Err(WriteError::Sync { first_unsynced, .. }) if first_unsynced.get() == 3),
            "{failed:?}"
        );
        assert_eq!(writer.durable_seq(), Seq::new(2));
        assert!(is_poisoned(writer.sync()), "the second sync would lie");
        assert!(is_poisoned(
            writer.append(Batch::plain(1, b"x"), Durability::Later)
        ));
        assert!(is_poisoned(
            writer.append_reserved(Batch::plain(1, b"x"), Durability::Now)
        ));
        assert!(is_poisoned(writer.finish()));
        assert_eq!(writer.durable_seq(), Seq::new(2));
    }

    #[test]
    fn a_failed_sync_of_the_end_mark_does_not_finish_the_lane() {
        let (_place, mut writer) = lane();
        let file = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .unwrap();
        // It takes any write, and can't be synced either.
        writer.active.as_mut().unwrap().replace_file(file);
        assert!(matches!(writer.finish(), Err(WriteError::Sync { .. })));
        assert!(is_poisoned(writer.finish()));
    }

    #[test]
    fn a_write_that_fails_for_another_reason_than_space_ends_the_writer() {
        let (_place, mut writer) = lane();
        let path = writer.active.as_ref().unwrap().path.clone();
        writer
            .active
            .as_mut()
            .unwrap()
            .replace_file(File::open(path).unwrap());
        let failed = writer.append(Batch::plain(1, b"x"), Durability::Later);
        assert!(
            matches!(failed, Err(WriteError::Write { .. })),
            "{failed:?}"
        );
        assert!(is_poisoned(
            writer.append(Batch::plain(1, b"x"), Durability::Later)
        ));
    }

    #[test]
    fn numbers_end_where_the_receiver_could_not_store_them() {
        let (_place, mut writer) = lane();
        writer.next_seq = Seq::new(Seq::MAX.get() - 3);
        writer
            .append(Batch::plain(3, b"x"), Durability::Later)
            .unwrap();
        let last = writer.append(Batch::plain(1, b"x"), Durability::Later);
        assert!(
            matches!(last, Err(WriteError::NumbersUsedUp { .. })),
            "{last:?}"
        );
    }
}
