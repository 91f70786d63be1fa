//! Finding all forms of all secrets in bytes.

use std::fmt;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::forms::{Form, NotMaskable, forms};

/// All forms of the secrets that were handed out so far.
#[derive(Default)]
pub(crate) struct Needles {
    /// Sorted, so that what begins with some bytes stands together.
    sorted: Vec<Form>,
    automaton: Option<AhoCorasick>,
    longest: usize,
    /// Whether some form begins with this byte: nearly all bytes of a log answer no here.
    begins: Vec<bool>,
}

impl Needles {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a secret. From then on it is masked, so this comes before it is handed out.
    ///
    /// # Errors
    ///
    /// When it could not be kept out of the log; it must not be handed out then.
    pub(crate) fn add(&mut self, secret: &[u8]) -> Result<(), NotMaskable> {
        let mut all = forms(secret)?;
        all.extend(self.sorted.iter().cloned());
        let automaton = AhoCorasick::builder()
            // Of forms that overlap or contain each other every one has to be seen: the longest
            // match of another kind would leave the tail of a longer secret in the open.
            .match_kind(MatchKind::Standard)
            // Its size follows the forms' bytes; a DFA's would be 256 times that.
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(all.iter().map(Form::bytes))
            .map_err(|_| NotMaskable::TooLarge)?;
        self.longest = all.iter().map(|form| form.bytes().len()).max().unwrap_or(0);
        self.begins = vec![false; 256];
        for form in &all {
            self.begins[usize::from(form.bytes()[0])] = true;
        }
        self.automaton = Some(automaton);
        self.sorted = all.into_iter().collect();
        Ok(())
    }

    /// Where forms stand, those that overlap as one range, in order.
    pub(super) fn find(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let Some(automaton) = &self.automaton else {
            return Vec::new();
        };
        let mut found: Vec<Range<usize>> = automaton
            .find_overlapping_iter(bytes)
            .map(|hit| hit.range())
            .collect();
        found.sort_unstable_by_key(|range| (range.start, range.end));
        let mut merged: Vec<Range<usize>> = Vec::new();
        for range in found {
            match merged.last_mut() {
                Some(last) if range.start < last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        merged
    }

    /// Where the longest end of `bytes` begins that may become a form with what comes next;
    /// their length when nothing may.
    pub(super) fn unfinished(&self, bytes: &[u8]) -> usize {
        let earliest = bytes.len().saturating_sub(self.longest.saturating_sub(1));
        (earliest..bytes.len())
            .find(|at| self.begins[usize::from(bytes[*at])] && self.may_become(&bytes[*at..]))
            .unwrap_or(bytes.len())
    }

    /// Whether some form begins with these bytes and goes on.
    fn may_become(&self, beginning: &[u8]) -> bool {
        let first = self.sorted.partition_point(|form| form.bytes() < beginning);
        let goes_on = |form: &Form| {
            form.bytes().len() > beginning.len() && form.bytes().starts_with(beginning)
        };
        // Each form is there once, so only the first can be just these bytes and hide a longer one.
        self.sorted[first..].iter().take(2).any(goes_on)
    }
}

impl fmt::Debug for Needles {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Needles")
            .field("forms", &self.sorted.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_secrets_are_one_range_to_the_end_of_the_longer() {
        let mut needles = Needles::new();
        needles.add(b"s3cr3t").unwrap();
        needles.add(b"s3cr3t-value-LONG").unwrap();
        let found = |text: &[u8]| -> Vec<(usize, usize)> {
            needles
                .find(text)
                .iter()
                .map(|range| (range.start, range.end))
                .collect()
        };
        assert_eq!(found(b"x s3cr3t-value-LONG y"), [(2, 19)]);
        assert_eq!(found(b"x s3cr3t-value y"), [(2, 8)]);
    }

    #[test]
    fn only_what_may_become_a_secret_is_unfinished() {
        let mut needles = Needles::new();
        needles.add(b"hunter22").unwrap();
        assert_eq!(needles.unfinished(b"say hunter2"), 4);
        assert_eq!(needles.unfinished(b"say hunter22"), 12);
        assert_eq!(needles.unfinished(b"say hunter3"), 11);
        assert_eq!(needles.unfinished(b""), 0);
        assert_eq!(Needles::new().unfinished(b"hunter2"), 7);
    }
}
