//! Numbers of records.

use std::fmt;

/// The number of a record in its epoch. The first one is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(u64);

impl Seq {
    /// Before the first record: what is durable of an epoch nobody has acknowledged yet.
    pub const NONE: Self = Self(0);
    /// The first record.
    pub const FIRST: Self = Self(1);
    /// What a signed 64-bit column of the receiver's database can still hold.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// A number as it came from the wire.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The number before this one, [`Seq::NONE`] for the first.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The number `records` further on, or none past [`Seq::MAX`].
    pub(crate) fn advance(self, records: u32) -> Option<Self> {
        let number = self.0.checked_add(u64::from(records))?;
        (number <= Self::MAX.0).then_some(Self(number))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Neighbouring records, both ends included: never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeqRange {
    /// The first record of the range.
    pub first: Seq,
    /// The last record of the range, not below `first`.
    pub last: Seq,
}

impl SeqRange {
    /// The records from `first` up to the one before `end`, or none when there are none.
    pub(crate) fn until(first: Seq, end: Seq) -> Option<Self> {
        (first < end).then(|| Self {
            first,
            last: end.before(),
        })
    }

    /// How many records.
    pub const fn count(self) -> u64 {
        self.last.0 - self.first.0 + 1
    }
}

impl fmt::Display for SeqRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.first, self.last)
    }
}
