//! One of the bot's two streams, from its pipe to lines.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use wire::v1::{Gap, GapReason, LogLine, LogSource, record::Body};

use super::lines::{Collecting, Line, MAX_PIECE, Splitter};
use super::quota::Quota;
use crate::mask::{MaskStream, Needles};

/// Most that is in memory only at any moment: what one read brings and the line that it goes on
/// with. A lost attendant loses no more, but for what may be the beginning of a secret.
pub(crate) const MOST_IN_MEMORY: usize = 64 * 1024;

/// A line this long is written although its end has not come, so that the next read has room.
const LONG_LINE: usize = MOST_IN_MEMORY / 2;

const _: () = assert!(LONG_LINE <= MAX_PIECE);

/// A stream, as long as its pipe is open.
#[derive(Debug)]
pub(crate) struct Stream {
    source: LogSource,
    severity: u32,
    pipe: Option<OwnedFd>,
    mask: MaskStream,
    splitter: Splitter,
    lost_lines: u64,
    lost_bytes: u64,
}

impl Stream {
    pub(crate) fn stdout(pipe: OwnedFd) -> Self {
        Self::new(LogSource::Stdout, 6, pipe)
    }

    pub(crate) fn stderr(pipe: OwnedFd) -> Self {
        Self::new(LogSource::Stderr, 4, pipe)
    }

    fn new(source: LogSource, severity: u32, pipe: OwnedFd) -> Self {
        let (mask, splitter) = (MaskStream::new(), Splitter::default());
        Self {
            source,
            severity,
            pipe: Some(pipe),
            mask,
            splitter,
            lost_lines: 0,
            lost_bytes: 0,
        }
    }

    /// Its pipe, unless it came to its end.
    pub(crate) fn pipe(&self) -> Option<&OwnedFd> {
        self.pipe.as_ref()
    }

    /// Some of a line waits for its end.
    pub(crate) fn has_unfinished(&self) -> bool {
        self.splitter.len() > 0
    }

    /// Reads once from the pipe, which must be readable.
    pub(crate) fn read(
        &mut self,
        needles: &Needles,
        quota: &mut Quota,
        out: &mut Vec<Body>,
    ) -> io::Result<()> {
        let Some(pipe) = &self.pipe else {
            return Ok(());
        };
        let mut buffer = vec![0; MOST_IN_MEMORY - self.splitter.len()];
        let count = loop {
            match rustix::io::read(pipe, &mut buffer) {
                Err(Errno::INTR) => {}
                outcome => break outcome?,
            }
        };
        if count == 0 {
            self.end(needles, quota, out);
            return Ok(());
        }
        let mut lines = Vec::new();
        let mut collecting = Collecting {
            splitter: &mut self.splitter,
            lines: &mut lines,
        };
        self.mask.feed(needles, &buffer[..count], &mut collecting);
        zeroize::Zeroize::zeroize(&mut buffer[..count]);
        if self.splitter.len() >= LONG_LINE {
            self.splitter.cut(&mut lines);
        }
        self.keep(lines, quota, out);
        Ok(())
    }

    /// Gives out what there is of an unfinished line: a prompt waits for no newline.
    pub(crate) fn cut(&mut self, quota: &mut Quota, out: &mut Vec<Body>) {
        let mut lines = Vec::new();
        self.splitter.cut(&mut lines);
        self.keep(lines, quota, out);
    }

    /// No more is read: gives out all that is left, and what was not kept as a gap.
    pub(crate) fn end(&mut self, needles: &Needles, quota: &mut Quota, out: &mut Vec<Body>) {
        if self.pipe.take().is_none() {
            return;
        }
        let mut lines = Vec::new();
        self.mask.end(
            needles,
            &mut Collecting {
                splitter: &mut self.splitter,
                lines: &mut lines,
            },
        );
        self.splitter.cut(&mut lines);
        self.keep(lines, quota, out);
        if self.lost_bytes > 0 {
            out.push(Body::Gap(Gap {
                records: self.lost_lines,
                bytes: self.lost_bytes,
                unknown: false,
                reason: GapReason::Quota.into(),
                source: self.source.into(),
            }));
        }
    }

    fn keep(&mut self, lines: Vec<Line>, quota: &mut Quota, out: &mut Vec<Body>) {
        for line in lines {
            if quota.take(line.bytes()) {
                out.push(Body::Log(self.record(line)));
            } else {
                self.lost_lines += 1;
                self.lost_bytes += line.bytes();
            }
        }
    }

    fn record(&self, line: Line) -> LogLine {
        record(self.source, self.severity, line)
    }

    /// What is in the pipe can't be masked and is not read: a gap says so.
    pub(crate) fn abandon(&mut self, out: &mut Vec<Body>) {
        if self.pipe.take().is_some() {
            out.push(lost(self.source, MOST_IN_MEMORY as u64));
        }
    }
}

/// What the bot says by its own call.
pub(crate) fn log_lines(needles: &Needles, severity: u32, text: &[u8]) -> Vec<LogLine> {
    let lines = super::lines::of_text(needles, text);
    lines
        .into_iter()
        .map(|line| record(LogSource::Bot, severity, line))
        .collect()
}

fn record(source: LogSource, severity: u32, line: Line) -> LogLine {
    LogLine {
        source: source.into(),
        severity,
        text: line.text.into(),
        terminated: line.terminated,
        continued: line.continued,
        redactions: line.redactions,
    }
}

/// Nobody knows how much, but it is no more than this.
pub(super) fn lost(source: LogSource, bytes: u64) -> Body {
    Body::Gap(Gap {
        records: 0,
        bytes,
        unknown: true,
        reason: GapReason::WriterLost.into(),
        source: source.into(),
    })
}
