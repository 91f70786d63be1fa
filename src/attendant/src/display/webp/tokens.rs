//! A picture as what is not predicted of it: pixels and runs of the same.

use zeroize::Zeroizing;

use super::Rows;

/// Longest run that the format can say.
const LONGEST: usize = 4096;

/// Pixels that are looked at together.
const STRETCH: usize = 16;

/// One thing to be coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Blue, green and red of what is left of a pixel.
    Pixel([u8; 3]),
    /// The last pixel comes so often again.
    Repeat(Run),
}

/// A run's length: a symbol and the bits that it leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    length: u16,
    pub(super) symbol: usize,
    pub(super) extra: u32,
    pub(super) extra_bits: u32,
}

impl Run {
    /// 1 to 4096.
    fn of(length: usize) -> Self {
        const FIRST: usize = 256;
        let rest = length - 1;
        let length = u16::try_from(length).unwrap_or(0);
        if rest < 4 {
            return Self {
                length,
                symbol: FIRST + rest,
                extra: 0,
                extra_bits: 0,
            };
        }
        // Two symbols for each power of two: the bit below the highest says which.
        let highest = rest.ilog2();
        let extra_bits = highest - 1;
        let half = rest >> extra_bits & 1;
        Self {
            length,
            symbol: FIRST + 2 * highest as usize + half,
            extra: rest as u32 & ((1 << extra_bits) - 1),
            extra_bits,
        }
    }

    fn length(self) -> u32 {
        self.length.into()
    }
}

/// Tokens of a picture, if they are few.
pub(super) struct Kept {
    tokens: Zeroizing<Vec<u32>>,
    most: usize,
    complete: bool,
}

/// What a run is kept as: this and its length. A pixel has nothing in its highest byte.
const RUN: u32 = 1 << 31;

impl Kept {
    /// At most so many.
    pub(super) fn of(most: usize) -> Self {
        Self {
            tokens: Zeroizing::new(Vec::with_capacity(most)),
            most,
            complete: true,
        }
    }

    pub(super) fn add(&mut self, token: Token) {
        if self.tokens.len() == self.most {
            self.complete = false;
            return;
        }
        self.tokens.push(match token {
            Token::Pixel([blue, green, red]) => u32::from_le_bytes([blue, green, red, 0]),
            Token::Repeat(run) => RUN | run.length(),
        });
    }

    /// All of them; none when there were too many.
    pub(super) fn all(&self) -> Option<impl Iterator<Item = Token>> {
        let token = |kept: &u32| {
            if *kept >= RUN {
                Token::Repeat(Run::of((*kept - RUN) as usize))
            } else {
                let [blue, green, red, _] = kept.to_le_bytes();
                Token::Pixel([blue, green, red])
            }
        };
        self.complete.then(|| self.tokens.iter().map(token))
    }
}

/// All tokens of a picture in their order.
pub(super) fn each(rows: &impl Rows, mut take: impl FnMut(Token)) {
    let width = rows.width();
    let mut row = Zeroizing::new(vec![0; width]);
    let mut above = Zeroizing::new(vec![0; width]);
    let mut left = Zeroizing::new([0; STRETCH]);
    // Unlike any, so the first is never taken for a repetition.
    let (mut last, mut run) = (u32::MAX, 0);
    for y in 0..rows.height() {
        rows.row(y, &mut row);
        if y == 0 {
            // Nothing is above: the pixel to the left predicts, and black the first of all.
            above[1..].copy_from_slice(&row[..width - 1]);
        }
        for (own, above) in row.chunks(STRETCH).zip(above.chunks(STRETCH)) {
            // Between letters and lines, which is most of a screen.
            if last == 0 && own == above {
                run += own.len();
                continue;
            }
            let left = &mut left[..own.len()];
            for ((left, own), above) in left.iter_mut().zip(own).zip(above) {
                *left = what_is_left(*own, *above);
            }
            for left in left {
                if *left == last {
                    run += 1;
                    continue;
                }
                repeat(run, &mut take);
                let [blue, green, red, _] = left.to_le_bytes();
                take(Token::Pixel([blue, green, red]));
                (last, run) = (*left, 0);
            }
        }
        std::mem::swap(&mut row, &mut above);
    }
    repeat(run, &mut take);
}

fn repeat(run: usize, take: &mut impl FnMut(Token)) {
    if run == 0 {
        return;
    }
    for _ in 0..run / LONGEST {
        take(Token::Repeat(Run::of(LONGEST)));
    }
    if !run.is_multiple_of(LONGEST) {
        take(Token::Repeat(Run::of(run % LONGEST)));
    }
}

/// The difference of each colour, and of red and blue without that of green. The highest byte stays 0.
fn what_is_left(own: u32, predicted: u32) -> u32 {
    let difference = minus(own, predicted);
    let green = difference >> 8 & 0xff;
    minus(difference, green | green << 16)
}

/// Byte by byte, without borrowing from the next: the highest bits are put in afterwards.
fn minus(one: u32, other: u32) -> u32 {
    const HIGHEST: u32 = 0x8080_8080;
    ((one | HIGHEST) - (other & !HIGHEST)) ^ ((one ^ !other) & HIGHEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_subtracted_one_by_one() {
        for one in [0, 1, 0x7f, 0x80, 0xff_u32] {
            for other in [0, 1, 0x7f, 0x80, 0xff_u32] {
                let byte = one.wrapping_sub(other) & 0xff;
                assert_eq!(minus(one << 8 | 5, other << 8 | 3), byte << 8 | 2);
                assert_eq!(
                    minus(0x05_0005 | one << 8, other << 8),
                    0x05_0005 | byte << 8
                );
            }
        }
        // Green grows by 3, red and blue by 1 and 5.
        assert_eq!(what_is_left(0x11_1315, 0x10_1010), 0xfe_0302);
    }

    #[test]
    fn the_length_of_a_run_is_what_symbol_and_bits_say() {
        for length in 1..=LONGEST {
            let run = Run::of(length);
            let symbol = u32::try_from(run.symbol - 256).unwrap();
            // As RFC 9649, 5.2.2 reads it.
            let read = if symbol < 4 {
                symbol + 1
            } else {
                let extra_bits = (symbol - 2) >> 1;
                assert_eq!(extra_bits, run.extra_bits);
                ((2 + (symbol & 1)) << extra_bits) + run.extra + 1
            };
            assert_eq!(read as usize, length);
        }
    }
}
