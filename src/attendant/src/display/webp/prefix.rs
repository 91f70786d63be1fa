//! Prefix codes: short words for what comes often.

use super::bits::{Bits, Word};

/// Longest word. 15 would be allowed; with 12 each length is said in four bits.
const LONGEST: u8 = 12;

/// In which the lengths of the words for lengths are said.
const ORDER: [u8; 16] = [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12];

/// Words for the symbols of one colour.
pub(super) struct Code {
    words: Vec<Word>,
    /// The only symbol there is: its word has no bits.
    only: Option<usize>,
}

impl Code {
    /// For symbols that come so often; at least one does.
    pub(super) fn of(counts: &[u32]) -> Self {
        let mut used = (0..).zip(counts).filter(|(_, count)| **count > 0);
        match (used.next(), used.next()) {
            (Some((symbol, _)), None) => Self {
                words: vec![(0, 0); counts.len()],
                only: Some(symbol),
            },
            _ => Self {
                words: words(&lengths(counts)),
                only: None,
            },
        }
    }

    /// For one symbol below 256.
    pub(super) fn only(symbol: usize) -> Self {
        Self {
            words: Vec::new(),
            only: Some(symbol),
        }
    }

    pub(super) fn word(&self, symbol: usize) -> Word {
        self.words[symbol]
    }

    /// Of all symbols together.
    pub(super) fn bits(&self, counts: &[u32]) -> u64 {
        let lengths = self.words.iter().map(|(_, length)| u64::from(*length));
        lengths
            .zip(counts)
            .map(|(length, count)| length * u64::from(*count))
            .sum()
    }

    /// Says which words these are.
    pub(super) fn describe(&self, bits: &mut Bits) {
        if let Some(symbol) = self.only {
            // Simple, one symbol, of eight bits.
            bits.put((0b101, 3));
            bits.put((u32::try_from(symbol).unwrap_or(0), 8));
            return;
        }
        bits.put((0, 1));
        // Sixteen lengths follow, four bits each: the words for lengths are as long as each other.
        bits.put((ORDER.len() as u32 - 4, 4));
        ORDER.iter().for_each(|_| bits.put((4, 3)));
        // All symbols are described.
        bits.put((0, 1));
        let mut rest = self.words.as_slice();
        while let Some((_, length)) = rest.first() {
            let zeroes = rest.iter().take_while(|(_, length)| *length == 0).count();
            rest = &rest[describe_some(bits, *length, zeroes)..];
        }
    }
}

/// One length, or as many that are 0 as one word can say. How many symbols that were.
fn describe_some(bits: &mut Bits, length: u32, zeroes: usize) -> usize {
    match zeroes.min(138) {
        0..3 => {
            bits.put((reversed(length, 4), 4));
            1
        }
        // The words of 17 and 18 come last: 14 and 15.
        some @ 3..11 => {
            bits.put((reversed(14, 4), 4));
            bits.put((some as u32 - 3, 3));
            some
        }
        many => {
            bits.put((reversed(15, 4), 4));
            bits.put((many as u32 - 11, 7));
            many
        }
    }
}

/// Words are written from their highest bit on.
fn reversed(word: u32, length: u32) -> u32 {
    word.reverse_bits().checked_shr(32 - length).unwrap_or(0)
}

/// Shortest first, then by symbol: the lengths say all.
fn words(lengths: &[u8]) -> Vec<Word> {
    let mut words = vec![(0, 0); lengths.len()];
    let mut next = 0;
    for length in 1..=LONGEST {
        for (word, _) in words.iter_mut().zip(lengths).filter(|own| *own.1 == length) {
            *word = (reversed(next, length.into()), length.into());
            next += 1;
        }
        next <<= 1;
    }
    words
}

/// Huffman's; when a word becomes too long, what is rare is taken for less rare.
fn lengths(counts: &[u32]) -> Vec<u8> {
    let mut counts = counts.to_vec();
    loop {
        let lengths = huffman(&counts);
        if lengths.iter().all(|length| *length <= LONGEST) {
            return lengths;
        }
        counts
            .iter_mut()
            .for_each(|count| *count = count.div_ceil(2));
    }
}

/// How deep each symbol lies in the tree in which the two rarest are put together again and again.
fn huffman(counts: &[u32]) -> Vec<u8> {
    let mut leaves: Vec<usize> = (0..counts.len()).filter(|own| counts[*own] > 0).collect();
    leaves.sort_by_key(|own| counts[*own]);
    // Nodes: leaves in growing order, then pairs, which also come in growing order.
    let mut weights: Vec<u64> = leaves.iter().map(|own| counts[*own].into()).collect();
    let mut parents = vec![0; 2 * leaves.len()];
    let (mut leaf, mut pair) = (0, leaves.len());
    for node in leaves.len()..2 * leaves.len() - 1 {
        let mut weight = 0;
        for _ in 0..2 {
            let takes_leaf =
                leaf < leaves.len() && (pair >= node || weights[leaf] <= weights[pair]);
            let rarest = if takes_leaf { &mut leaf } else { &mut pair };
            parents[*rarest] = node;
            weight += weights[*rarest];
            *rarest += 1;
        }
        weights.push(weight);
    }
    let mut depths = vec![0_u8; weights.len()];
    for node in (0..weights.len() - 1).rev() {
        depths[node] = depths[parents[node]].saturating_add(1);
    }
    let mut lengths = vec![0; counts.len()];
    for (leaf, depth) in leaves.into_iter().zip(depths) {
        lengths[leaf] = depth;
    }
    lengths
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_are_no_longer_than_allowed_and_fill_the_code(
            counts in proptest::collection::vec(prop_oneof![Just(0), 0..9_u32, any::<u32>()], 2..280),
        ) {
            let used = counts.iter().filter(|count| **count > 0).count();
            prop_assume!(used > 1);
            let lengths = lengths(&counts);
            let filled: u32 = lengths
                .iter()
                .filter(|length| **length > 0)
                .map(|length| 1 << (LONGEST - length))
                .sum();
            prop_assert_eq!(filled, 1 << LONGEST);
            prop_assert_eq!(lengths.iter().filter(|length| **length > 0).count(), used);
        }
    }

    #[test]
    fn the_longest_tree_is_flattened() {
        let mut counts = vec![1_u32, 1];
        while counts.len() < 40 {
            counts.push(counts[counts.len() - 1] + counts[counts.len() - 2]);
        }
        assert!(huffman(&counts).iter().any(|length| *length > LONGEST));
        assert!(
            lengths(&counts)
                .iter()
                .all(|length| (1..=LONGEST).contains(length))
        );
    }
}
