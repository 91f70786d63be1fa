//! The reading end of a lane.
//!
//! The writer may be at work in another process, and may be less trusted than the reader: whatever
//! lies in the directory, reading ends in a result, in bounded memory and in a time that is bounded
//! by what was written there.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::path::PathBuf;

use crate::dir::LaneDir;
use crate::dir_error::DirError;
use crate::epoch::Epoch;
use crate::frame::{Frame, Kind};
use crate::key::LaneKey;
use crate::name::SegmentName;
use crate::segment::{Segment, SegmentError};
use crate::seq::{Seq, SeqRange};
use crate::walk::{Found, Look, Walk, find_tail};

/// What went wrong with reading. The reader stays where it is and tries again when asked again.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Nothing of this epoch is in the directory.
    #[error("the lane {path} has no segment of the epoch {epoch}")]
    NoSuchEpoch {
        /// The lane's directory.
        path: PathBuf,
        /// The epoch that was asked for.
        epoch: Epoch,
    },
    /// A segment can't be read now, or never. [`Reader::abandon_segment`] goes on without it.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The directory.
    #[error(transparent)]
    Dir(#[from] DirError),
}

/// What comes next in a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A frame to send.
    Frame(Frame),
    /// Records that damage took, reported once: they need a gap in their place. The range is the
    /// writer's word, so it can be as large as numbers go.
    Lost(SeqRange),
    /// Nothing more for now.
    Waiting,
    /// Nothing more, ever: the lane was finished with this record, [`Seq::NONE`] without any.
    Ended(Seq),
}

/// What an acknowledgement removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// How many segments.
    pub segments: u64,
    /// Their size.
    pub bytes: u64,
}

/// A reader of one epoch of a lane directory.
///
/// Every call may block on the disk.
pub struct Reader {
    dir: LaneDir,
    key: LaneKey,
    epoch: Epoch,
    /// The segment being read.
    walk: Option<Walk>,
    /// Segments up to this number are done with.
    done: u64,
    /// Segments known to follow. Listed again only when there are none left: a directory with very
    /// many names must not be listed for each of them.
    ahead: VecDeque<SegmentName>,
    /// The record that comes next in the files.
    expected: Seq,
    /// Nothing before this record is reported.
    target: Seq,
    /// Number of the segment with the end mark, and the last record.
    end: Option<(u64, Seq)>,
    /// Whether reading stands behind the end mark.
    at_end: bool,
}

/// One step of reading: some steps give nothing to report.
enum Step {
    Report(Next),
    Again,
}

impl Reader {
    /// Opens an epoch at its first record that is still there.
    pub fn open(dir: &LaneDir, key: LaneKey, epoch: Epoch) -> Result<Self, ReadError> {
        let mut reader = Self {
            dir: dir.clone(),
            key,
            epoch,
            walk: None,
            done: 0,
            ahead: VecDeque::new(),
            expected: Seq::FIRST,
            target: Seq::FIRST,
            end: None,
            at_end: false,
        };
        let names = reader.segments_from(0)?;
        let oldest = names.first().ok_or_else(|| ReadError::NoSuchEpoch {
            path: dir.path().to_owned(),
            epoch,
        })?;
        reader.seek(oldest.first_seq)?;
        Ok(reader)
    }

    /// The epoch that is read.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Goes to the frame that holds record `seq`, which may begin with an earlier one. Records
    /// that were removed before are then reported as lost.
    pub fn seek(&mut self, seq: Seq) -> Result<(), ReadError> {
        let seq = seq.max(Seq::FIRST);
        let names = self.segments_from(0)?;
        // Of two that begin with the same record, the first has none at all.
        let before = names.iter().filter(|name| name.first_seq <= seq);
        let start = before.max_by_key(|name| (name.first_seq, Reverse(name.number)));
        self.walk = None;
        self.at_end = self.end.is_some() && names.is_empty();
        self.target = seq;
        self.expected = start.map_or(seq, |name| name.first_seq);
        self.done = start.map_or(0, |name| name.number.saturating_sub(1));
        self.ahead.clear();
        Ok(())
    }

    /// Reads on. After [`Next::Waiting`], ask again when the writer has appended.
    pub fn read(&mut self) -> Result<Next, ReadError> {
        loop {
            if let Step::Report(next) = self.step()? {
                return Ok(next);
            }
        }
    }

    /// Removes the segments whose records are all durable at the receiver. The one that is being
    /// written is never removed, the one with the end mark only when that mark was read.
    ///
    /// No sync follows: a segment that comes back after a power failure is sent and removed again.
    pub fn acknowledge(&mut self, durable_seq: Seq) -> Result<Removed, ReadError> {
        let names = self.segments_from(0)?;
        let mut removed = Removed::default();
        for (at, name) in names.iter().enumerate() {
            let last = match names.get(at + 1) {
                Some(next) => next.first_seq.before(),
                None => match self.end {
                    Some((number, last)) if number == name.number => last,
                    _ => break,
                },
            };
            if last > durable_seq {
                break;
            }
            let file = name.to_string();
            removed.bytes = removed.bytes.saturating_add(self.dir.size(&file)?);
            self.dir.unlink(&file)?;
            removed.segments += 1;
        }
        Ok(removed)
    }

    /// The number that the next record will get, as far as the files show; the place of reading
    /// stays. This is what a receiver's durable number is compared with: see
    /// [`crate::Found::next_seq`].
    pub fn next_seq(&self) -> Result<Seq, ReadError> {
        if let Some((_, last)) = self.end {
            return Ok(last.next());
        }
        let names = self.segments_from(0)?;
        let Some(newest) = names.last() else {
            return Ok(self.expected);
        };
        let (_, tail) = find_tail(Segment::open(&self.dir, *newest, &self.key)?)?;
        Ok(tail.next_seq)
    }

    /// Gives up what is left of a segment that can't be read, when there is a later one; its
    /// records are then reported as lost. Returns whether there was.
    pub fn abandon_segment(&mut self) -> Result<bool, ReadError> {
        let names = self.segments_from(self.done)?;
        let [left, _, ..] = names.as_slice() else {
            return Ok(false);
        };
        self.leave(left.number);
        Ok(true)
    }

    fn step(&mut self) -> Result<Step, ReadError> {
        if let Some((_, last)) = self.end.filter(|_| self.at_end) {
            return Ok(Step::Report(Next::Ended(last)));
        }
        let Some(walk) = &self.walk else {
            return self.enter();
        };
        match walk.look(self.expected)? {
            Look::Found(found) => Ok(self.take(found)),
            Look::Partial => self.stopped(false),
            Look::Bad => self.stopped(true),
        }
    }

    /// Opens the next segment.
    fn enter(&mut self) -> Result<Step, ReadError> {
        let Some(name) = self.following()? else {
            return Ok(Step::Report(Next::Waiting));
        };
        if let Some(lost) = SeqRange::until(self.expected, name.first_seq) {
            return Ok(self.lose(lost));
        }
        match Segment::open(&self.dir, name, &self.key) {
            Ok(segment) => {
                self.walk = Some(Walk::new(segment));
                // What is being read is not done with, yet no longer ahead.
                self.ahead.pop_front();
            }
            Err(error) if error.is_lost() => self.skip(name, error)?,
            Err(error) => return Err(error.into()),
        }
        Ok(Step::Again)
    }

    /// Passes by a segment that no later try will read. What it held shows by where the next one
    /// begins, so there must be one.
    fn skip(&mut self, name: SegmentName, error: SegmentError) -> Result<(), ReadError> {
        if self.ahead.len() < 2 {
            self.ahead = self.segments_from(name.number.saturating_sub(1))?.into();
        }
        if self.ahead.len() < 2 {
            return Err(error.into());
        }
        self.leave(name.number);
        Ok(())
    }

    /// There is no good frame at this place: the end for now, the end of the segment, or damage.
    fn stopped(&mut self, bad: bool) -> Result<Step, ReadError> {
        let Some(number) = self.walk.as_ref().map(|walk| walk.segment.name.number) else {
            return Ok(Step::Again);
        };
        let closed = self.following()?.is_some();
        let Some(walk) = &mut self.walk else {
            return Ok(Step::Again);
        };
        let beyond = if bad || closed {
            walk.search(self.expected)?
        } else {
            None
        };
        // The writer may have been at this very place: between the first look and the search, or
        // replacing a frame that the disk had no room for. Now that something lies behind it, it
        // will not change any more.
        if let Look::Found(found) = walk.look(self.expected)? {
            return Ok(self.take(found));
        }
        match beyond {
            Some(offset) => walk.jump(offset),
            None if closed => self.leave(number),
            None => return Ok(Step::Report(Next::Waiting)),
        }
        Ok(Step::Again)
    }

    /// The segment after the one being read, or after those that are done with.
    fn following(&mut self) -> Result<Option<SegmentName>, DirError> {
        if self.ahead.is_empty() {
            let behind = self
                .walk
                .as_ref()
                .map_or(self.done, |walk| walk.segment.name.number);
            self.ahead = self.segments_from(behind)?.into();
        }
        Ok(self.ahead.front().copied())
    }

    fn take(&mut self, found: Found) -> Step {
        let header = found.header;
        if let Some(lost) = SeqRange::until(self.expected, header.frame.first_seq) {
            return self.lose(lost);
        }
        self.expected = header.next_seq();
        let number = self.walk.as_mut().map(|walk| {
            walk.pass(&header);
            walk.segment.name.number
        });
        if header.kind == Kind::End {
            self.end = number.map(|number| (number, header.frame.first_seq.before()));
            self.at_end = true;
            return Step::Again;
        }
        if self.expected <= self.target {
            return Step::Again;
        }
        Step::Report(Next::Frame(Frame {
            header: header.frame,
            payload: found.payload,
        }))
    }

    fn lose(&mut self, lost: SeqRange) -> Step {
        self.expected = lost.last.next();
        match SeqRange::until(lost.first.max(self.target), self.expected) {
            Some(wanted) => Step::Report(Next::Lost(wanted)),
            None => Step::Again,
        }
    }

    fn leave(&mut self, number: u64) {
        self.walk = None;
        self.done = number;
        let done = |name: &SegmentName| name.number <= number;
        while self.ahead.front().is_some_and(done) {
            self.ahead.pop_front();
        }
    }

    /// The segments of this epoch with a number above `after`.
    fn segments_from(&self, after: u64) -> Result<Vec<SegmentName>, DirError> {
        let mut names = self.dir.segments()?;
        names.retain(|name| name.epoch == self.epoch && name.number > after);
        Ok(names)
    }
}
