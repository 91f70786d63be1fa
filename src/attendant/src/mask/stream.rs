//! Masking a stream as it comes.

use zeroize::Zeroize;

use super::needles::Needles;

/// What stands for a secret, whatever its length.
pub(crate) const MASK: &[u8] = b"***";

/// Where the masked stream goes.
pub(crate) trait Masked {
    /// Bytes as the bot wrote them.
    fn text(&mut self, bytes: &[u8]);
    /// Here was a secret.
    fn mask(&mut self);
}

/// One stream of bytes in which secrets are masked, however it is cut.
///
/// Held back is only what may be the beginning of a secret, and until it is one, is not, or the
/// stream ends: released after a pause, the two halves of a slow write would show it.
#[derive(Debug, Default)]
pub(crate) struct MaskStream {
    held: Vec<u8>,
    /// So many of the held bytes belong to a mask that was given out already; they are kept
    /// because another secret may begin inside them.
    masked: usize,
}

impl MaskStream {
    /// Before the first byte.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// The next bytes of the stream.
    pub(crate) fn feed(&mut self, needles: &Needles, bytes: &[u8], out: &mut impl Masked) {
        self.held.extend_from_slice(bytes);
        let settled = needles.unfinished(&self.held);
        self.give_out(needles, settled, out);
    }

    /// The stream is over: what was held back is text.
    pub(crate) fn end(&mut self, needles: &Needles, out: &mut impl Masked) {
        self.give_out(needles, self.held.len(), out);
    }

    /// Gives out everything that begins before `settled`. A secret that begins there or behind
    /// it may turn out to be part of another one, so it waits.
    fn give_out(&mut self, needles: &Needles, settled: usize, out: &mut impl Masked) {
        let mut given = self.masked;
        for found in needles.find(&self.held) {
            if found.start >= settled {
                break;
            }
            if found.start >= given {
                out.text(&self.held[given..found.start]);
                out.mask();
            }
            // One that begins inside the mask before it goes on with that mask.
            given = given.max(found.end);
        }
        if given < settled {
            out.text(&self.held[given..settled]);
            given = settled;
        }
        self.masked = given - settled;
        self.forget(settled);
    }

    fn forget(&mut self, count: usize) {
        let kept = self.held.len() - count;
        self.held.copy_within(count.., 0);
        self.held[kept..].zeroize();
        self.held.truncate(kept);
    }
}

impl Drop for MaskStream {
    fn drop(&mut self) {
        self.held.zeroize();
    }
}

/// A whole text with its secrets masked, and how many there were.
pub(crate) fn mask(needles: &Needles, text: &[u8]) -> (Vec<u8>, u32) {
    let mut out = Whole::default();
    let mut stream = MaskStream::new();
    stream.feed(needles, text, &mut out);
    stream.end(needles, &mut out);
    (out.text, out.masks)
}

#[derive(Default)]
struct Whole {
    text: Vec<u8>,
    masks: u32,
}

impl Masked for Whole {
    fn text(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
    }

    fn mask(&mut self) {
        self.text.extend_from_slice(MASK);
        self.masks = self.masks.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::forms::forms;
    use super::*;

    fn needles(secrets: &[&[u8]]) -> Needles {
        let mut needles = Needles::new();
        for secret in secrets {
            needles.add(secret).unwrap();
        }
        needles
    }

    fn in_pieces(needles: &Needles, pieces: &[&[u8]]) -> (Vec<u8>, u32) {
        let mut out = Whole::default();
        let mut stream = MaskStream::new();
        for piece in pieces {
            stream.feed(needles, piece, &mut out);
        }
        stream.end(needles, &mut out);
        (out.text, out.masks)
    }

    #[test]
    fn every_form_of_a_secret_split_at_every_offset_is_masked() {
        for secret in [
            &b"hunter2 & \"friends\"/\xc3\xa9"[..],
            b"line one is long\nline two as well\n",
            b"\xff\xfe\x00\x01binary",
        ] {
            let needles = needles(&[secret]);
            for form in forms(secret).unwrap() {
                let text = [b"<", form.bytes(), b">"].concat();
                for at in 0..=text.len() {
                    let (masked, masks) = in_pieces(&needles, &[&text[..at], &text[at..]]);
                    assert_eq!(
                        (masked.as_slice(), masks),
                        (&b"<***>"[..], 1),
                        "split at {at}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_secret_in_single_bytes_is_masked() {
        let needles = needles(&[b"hunter2-long"]);
        let pieces: Vec<&[u8]> = b"say hunter2-long now".chunks(1).collect();
        assert_eq!(in_pieces(&needles, &pieces).0, b"say *** now");
    }

    #[test]
    fn what_only_began_like_a_secret_comes_out_whole() {
        let needles = needles(&[b"hunter2-long"]);
        assert_eq!(in_pieces(&needles, &[b"hunter", b"2-lo"]).0, b"hunter2-lo");
        assert_eq!(
            in_pieces(&needles, &[b"hunter", b"2-lo", b"st"]).0,
            b"hunter2-lost"
        );
    }

    #[test]
    fn a_secret_that_begins_inside_another_goes_on_with_its_mask() {
        let needles = needles(&[b"abcd", b"cdefgh"]);
        for at in 0..=8 {
            let text = b"abcdefgh";
            assert_eq!(
                in_pieces(&needles, &[&text[..at], &text[at..]]),
                (b"***".to_vec(), 1),
                "{at}"
            );
        }
    }

    #[test]
    fn an_endless_repetition_is_held_back_only_in_part() {
        let needles = needles(&[b"aaaa"]);
        let mut out = Whole::default();
        let mut stream = MaskStream::new();
        for _ in 0..1000 {
            stream.feed(&needles, b"aaaaaaa", &mut out);
            assert!(stream.held() < 4);
        }
        stream.end(&needles, &mut out);
        assert_eq!((out.text.as_slice(), out.masks), (MASK, 1));
    }

    #[test]
    fn a_secret_added_later_is_masked_from_then_on() {
        let mut needles = needles(&[b"first-one"]);
        let (mut out, mut stream) = (Whole::default(), MaskStream::new());
        stream.feed(&needles, b"second-one first", &mut out);
        needles.add(b"second-one").unwrap();
        stream.feed(&needles, b"-one second", &mut out);
        stream.feed(&needles, b"-one", &mut out);
        stream.end(&needles, &mut out);
        assert_eq!(out.text, b"second-one *** ***");
    }

    proptest! {
        #[test]
        fn text_without_secrets_is_unchanged(pieces in proptest::collection::vec(proptest::collection::vec(0u8..128, 0..40), 0..12)) {
            // No form of this secret is made of ASCII alone, but for hex, base64 and escapes.
            let needles = needles(&[b"\xf0\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9"]);
            let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(in_pieces(&needles, &slices), (pieces.concat(), 0));
        }

        #[test]
        fn how_a_stream_is_cut_changes_nothing(
            text in "[abc]{0,60}",
            first in "[abc]{4,7}",
            second in "[abc]{4,9}",
            cuts in proptest::collection::vec(0usize..60, 0..8),
        ) {
            let needles = needles(&[first.as_bytes(), second.as_bytes()]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            let (masked, masks) = in_pieces(&needles, &pieces);
            prop_assert_eq!((masked.clone(), masks), mask(&needles, text.as_bytes()));
            let shown = String::from_utf8(masked).unwrap();
            prop_assert!(!shown.contains(&first) && !shown.contains(&second));
        }
    }
}
