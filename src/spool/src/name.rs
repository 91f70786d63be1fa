//! The file name of a segment: number, first record and epoch in hexadecimal, so that a listing
//! sorted by name is in the order of writing and of records, and no file has to be opened to know
//! where a record lies.

use std::fmt;

use crate::epoch::Epoch;
use crate::seq::Seq;

const SUFFIX: &str = ".seg";

/// The number comes first: it grows over all epochs of a directory, records start over in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentName {
    pub(crate) number: u64,
    pub(crate) first_seq: Seq,
    pub(crate) epoch: Epoch,
}

impl SegmentName {
    /// None for every name that a writer would not have made itself.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(SUFFIX)?;
        let mut parts = stem.split('-');
        let parsed = Self {
            number: hex(parts.next()?, 16)?.try_into().ok()?,
            first_seq: Seq::new(hex(parts.next()?, 16)?.try_into().ok()?),
            epoch: Epoch::from_bytes(hex(parts.next()?, 32)?.to_be_bytes()),
        };
        let usual = parsed.number < u64::MAX
            && (Seq::FIRST..=Seq::MAX).contains(&parsed.first_seq)
            && parts.next().is_none();
        usual.then_some(parsed)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:016x}-{:016x}-{}{SUFFIX}",
            self.number,
            self.first_seq.get(),
            self.epoch
        )
    }
}

fn hex(digits: &str, len: usize) -> Option<u128> {
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (digits.len() == len && digits.bytes().all(lower)).then_some(())?;
    u128::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64, first_seq: u64) -> SegmentName {
        SegmentName {
            number,
            first_seq: Seq::new(first_seq),
            epoch: Epoch::from_bytes(*b"\x00\xffabcdefghijklmn"),
        }
    }

    #[test]
    fn a_name_reads_back_as_what_it_was_made_from() {
        for made in [
            name(1, 1),
            name(u64::MAX - 1, Seq::MAX.get()),
            name(0xabc, 77),
        ] {
            assert_eq!(SegmentName::parse(&made.to_string()), Some(made));
        }
    }

    #[test]
    fn names_sort_as_they_were_written() {
        assert!(name(9, 900).to_string() < name(10, 1).to_string());
        assert!(name(9, 9).to_string() < name(10, 10).to_string());
    }

    #[test]
    fn foreign_names_are_no_segments() {
        let good = name(1, 1).to_string();
        let zero = good.replacen("-0000000000000001", "-0000000000000000", 1);
        let far = good.replacen("-0000000000000001", "-8000000000000000", 1);
        let upper = good.replace("00ff", "00FF");
        let sign = good.replacen("0000000000000001", "+000000000000001", 1);
        let more = good.replace(".seg", "-00.seg");
        for foreign in [
            "",
            ".seg",
            "--.seg",
            "lane.key",
            "segment.new",
            &good[1..],
            &zero,
            &far,
            &upper,
            &sign,
            &more,
        ] {
            assert_eq!(SegmentName::parse(foreign), None, "{foreign}");
        }
    }
}
