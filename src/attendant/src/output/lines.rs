//! Cutting a stream into lines without changing a byte of it.

use crate::mask::{MASK, MaskStream, Masked, Needles};

/// A line is written in pieces of at most this size.
pub(super) const MAX_PIECE: usize = 64 * 1024;

/// A line, or a piece of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// Without the newline.
    pub(super) text: Vec<u8>,
    /// The stream has a newline behind it.
    pub(super) terminated: bool,
    /// It goes on with the line of the piece before.
    pub(super) continued: bool,
    /// Secrets that were masked in it.
    pub(super) redactions: u32,
}

impl Line {
    /// Bytes of the stream that it stands for.
    pub(super) fn bytes(&self) -> u64 {
        self.text.len() as u64 + u64::from(self.terminated)
    }
}

/// The line that is not complete yet.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    begun: Line,
}

impl Splitter {
    /// Bytes that no line was given out for.
    pub(super) fn len(&self) -> usize {
        self.begun.text.len()
    }

    /// Gives out what there is of an unfinished line, if anything.
    pub(super) fn cut(&mut self, out: &mut Vec<Line>) {
        if !self.begun.text.is_empty() {
            self.give_out(false, out);
        }
    }

    fn give_out(&mut self, terminated: bool, out: &mut Vec<Line>) {
        let next = Line {
            continued: !terminated,
            ..Line::default()
        };
        let line = std::mem::replace(&mut self.begun, next);
        out.push(Line { terminated, ..line });
    }

    fn append(&mut self, mut text: &[u8], out: &mut Vec<Line>) {
        while self.len() + text.len() > MAX_PIECE {
            let (now, later) = text.split_at(MAX_PIECE - self.len());
            self.begun.text.extend_from_slice(now);
            self.cut(out);
            text = later;
        }
        self.begun.text.extend_from_slice(text);
    }
}

/// Takes a masked stream and collects its lines.
pub(super) struct Collecting<'a> {
    pub(super) splitter: &'a mut Splitter,
    pub(super) lines: &'a mut Vec<Line>,
}

impl Masked for Collecting<'_> {
    fn text(&mut self, bytes: &[u8]) {
        let mut parts = bytes.split(|byte| *byte == b'\n');
        let last = parts.next_back().unwrap_or_default();
        for part in parts {
            self.splitter.append(part, self.lines);
            self.splitter.give_out(true, self.lines);
        }
        self.splitter.append(last, self.lines);
    }

    fn mask(&mut self) {
        if self.splitter.len() + MASK.len() > MAX_PIECE {
            self.splitter.cut(self.lines);
        }
        self.splitter.begun.text.extend_from_slice(MASK);
        self.splitter.begun.redactions += 1;
    }
}

/// The masked lines of a text that comes as a whole; its last line has an end, written or not.
pub(super) fn of_text(needles: &Needles, text: &[u8]) -> Vec<Line> {
    let (mut splitter, mut lines, mut mask) = (Splitter::default(), Vec::new(), MaskStream::new());
    let mut collecting = Collecting {
        splitter: &mut splitter,
        lines: &mut lines,
    };
    mask.feed(needles, text, &mut collecting);
    mask.end(needles, &mut collecting);
    if splitter.begun.continued || splitter.len() > 0 || lines.is_empty() {
        splitter.give_out(true, &mut lines);
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<Line> {
        let (mut splitter, mut lines) = (Splitter::default(), Vec::new());
        for piece in pieces {
            Collecting {
                splitter: &mut splitter,
                lines: &mut lines,
            }
            .text(piece);
        }
        splitter.cut(&mut lines);
        lines
    }

    fn joined(lines: &[Line]) -> Vec<u8> {
        let with_end =
            |line: &Line| [&line.text[..], if line.terminated { b"\n" } else { b"" }].concat();
        lines.iter().flat_map(with_end).collect()
    }

    fn line(text: &[u8], terminated: bool, continued: bool) -> Line {
        Line {
            text: text.to_vec(),
            terminated,
            continued,
            redactions: 0,
        }
    }

    #[test]
    fn carriage_returns_empty_lines_and_a_missing_last_newline_stay() {
        let lines = split(&[b"one\r\n\ntw", b"o\nthr\xffee"]);
        assert_eq!(
            lines,
            [
                line(b"one\r", true, false),
                line(b"", true, false),
                line(b"two", true, false),
                line(b"thr\xffee", false, false)
            ]
        );
    }

    #[test]
    fn a_long_line_comes_in_pieces_that_say_so() {
        let long = vec![b'x'; MAX_PIECE + 10];
        let lines = split(&[&long, b"\nnext\n"]);
        let kinds: Vec<_> = lines
            .iter()
            .map(|line| (line.text.len(), line.terminated, line.continued))
            .collect();
        assert_eq!(
            kinds,
            [
                (MAX_PIECE, false, false),
                (10, true, true),
                (4, true, false)
            ]
        );
    }

    #[test]
    fn a_line_that_just_fits_is_one_piece() {
        let long = vec![b'x'; MAX_PIECE];
        assert_eq!(split(&[&long, b"\n"]).len(), 1);
    }

    #[test]
    fn a_line_that_was_cut_goes_on_with_nothing_but_its_end() {
        let (mut splitter, mut lines) = (Splitter::default(), Vec::new());
        Collecting {
            splitter: &mut splitter,
            lines: &mut lines,
        }
        .text(b"prompt: ");
        splitter.cut(&mut lines);
        Collecting {
            splitter: &mut splitter,
            lines: &mut lines,
        }
        .text(b"\n");
        assert_eq!(
            lines,
            [line(b"prompt: ", false, false), line(b"", true, true)]
        );
    }

    #[test]
    fn each_line_of_a_text_has_an_end() {
        let needles = Needles::new();
        for (text, count) in [
            ("one", 1),
            ("one\n", 1),
            ("one\ntwo", 2),
            ("", 1),
            ("\n", 1),
        ] {
            let lines = of_text(&needles, text.as_bytes());
            assert_eq!(lines.len(), count, "{text:?}");
            assert!(lines.iter().all(|line| line.terminated));
        }
        let long = vec![b'x'; MAX_PIECE + 1];
        assert_eq!(of_text(&needles, &long).len(), 2);
    }

    proptest! {
        #[test]
        fn the_lines_give_back_the_stream_byte_for_byte(pieces in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200), 0..20)) {
            let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let lines = split(&slices);
            prop_assert_eq!(joined(&lines), pieces.concat());
            prop_assert_eq!(lines.iter().map(Line::bytes).sum::<u64>(), pieces.concat().len() as u64);
            prop_assert!(lines.iter().all(|line| !line.text.contains(&b'\n')));
        }
    }
}
