//! Bits into bytes, the lowest first.

/// What is to be written: so many of the lowest bits.
pub(super) type Word = (u32, u32);

pub(super) struct Bits {
    bytes: Vec<u8>,
    waiting: u64,
    /// Fewer than 64.
    count: u32,
}

impl Bits {
    /// Behind so many bytes, with room for more.
    pub(super) fn after(head: usize, room: usize) -> Self {
        let mut bytes = Vec::with_capacity(head + room);
        bytes.resize(head, 0);
        Self {
            bytes,
            waiting: 0,
            count: 0,
        }
    }

    /// At most 32 bits.
    pub(super) fn put(&mut self, (bits, count): Word) {
        self.put_long(bits.into(), count);
    }

    /// At once, which is most of what an encoder does; of at most 16 bits each.
    pub(super) fn put_three(&mut self, [first, second, third]: [Word; 3]) {
        let second_at = first.1;
        let third_at = second_at + second.1;
        let bits =
            u64::from(first.0) | u64::from(second.0) << second_at | u64::from(third.0) << third_at;
        self.put_long(bits, third_at + third.1);
    }

    /// At most 48 bits.
    fn put_long(&mut self, bits: u64, count: u32) {
        if self.count + count >= 64 {
            self.write_whole_bytes();
        }
        self.waiting |= bits << self.count;
        self.count += count;
    }

    fn write_whole_bytes(&mut self) {
        let bytes = (self.count / 8) as usize;
        self.bytes
            .extend_from_slice(&self.waiting.to_le_bytes()[..bytes]);
        self.waiting >>= 8 * bytes;
        self.count %= 8;
    }

    /// Filled up with zeroes to a whole byte.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.write_whole_bytes();
        if self.count > 0 {
            self.bytes.push(self.waiting as u8);
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_out_in_their_order_however_they_are_cut() {
        let mut bits = Bits::after(1, 0);
        for _ in 0..40 {
            bits.put((0b101, 3));
            bits.put_three([(0x1ff, 9), (0, 16), (0x1234, 16)]);
        }
        let bytes = bits.finish();
        assert_eq!(bytes.len(), 1 + (40 * 44_usize).div_ceil(8));
        let bit = |at: usize| u32::from(bytes[1 + at / 8] >> (at % 8) & 1);
        for start in (0..40).map(|round| 44 * round) {
            let word = |from: usize, count: usize| {
                (0..count).fold(0, |sum, at| sum | bit(start + from + at) << at)
            };
            assert_eq!([word(0, 3), word(3, 9), word(12, 16)], [0b101, 0x1ff, 0]);
            assert_eq!(word(28, 16), 0x1234);
        }
    }
}
