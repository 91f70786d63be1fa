//! Lossless WebP (VP8L, RFC 9649) of what screens show: text and flat colours.
//!
//! Of all that the format can do: green is subtracted from red and blue, each pixel is predicted by
//! the one above, what is left is coded in runs with one prefix code per colour. The picture is
//! gone through row by row and no copy of it is made, which a general encoder needs; only what is
//! hard to compress is gone through twice.

mod bits;
mod prefix;
mod tokens;

use super::wire::DisplayError;
use bits::Bits;
use prefix::Code;
use tokens::{Kept, Token, each};

/// The format has 14 bits for each edge.
pub(super) const LONGEST_EDGE: usize = 1 << 14;

/// Before the first bit of the picture.
const HEAD: usize = 20;

/// Tokens are kept from counting them to writing them while there is but one for so many pixels.
const TOKENS: usize = 4;

/// Where the pixels of a picture come from.
pub(super) trait Rows {
    fn width(&self) -> usize;
    fn height(&self) -> usize;
    /// Pixels 0x00RRGGBB of one row, as many as it is wide.
    fn row(&self, y: usize, pixels: &mut [u32]);
}

/// How often each symbol is there.
struct Counts {
    /// Green, and the lengths of runs.
    green: [u32; 256 + 24],
    red: [u32; 256],
    blue: [u32; 256],
    /// Bits of runs that are in no code.
    more: u64,
}

impl Counts {
    fn none() -> Self {
        Self {
            green: [0; 256 + 24],
            red: [0; 256],
            blue: [0; 256],
            more: 0,
        }
    }

    fn add(&mut self, token: Token) {
        match token {
            Token::Pixel([blue, green, red]) => {
                self.green[usize::from(green)] += 1;
                self.red[usize::from(red)] += 1;
                self.blue[usize::from(blue)] += 1;
            }
            Token::Repeat(run) => {
                self.green[run.symbol] += 1;
                self.more += u64::from(run.extra_bits);
            }
        }
    }
}

/// The file, unless it has more than so many bytes.
pub(super) fn encode(rows: &impl Rows, most: usize) -> Result<Vec<u8>, DisplayError> {
    let (width, height) = (rows.width(), rows.height());
    if !(1..=LONGEST_EDGE).contains(&width) || !(1..=LONGEST_EDGE).contains(&height) {
        let what = format!("WebP has no room for {width}x{height} pixels");
        return Err(DisplayError::Unsupported(what));
    }
    let (mut counts, mut kept) = (Counts::none(), Kept::of(width * height / TOKENS));
    each(rows, |token| {
        counts.add(token);
        kept.add(token);
    });
    let [green, red, blue] = [&counts.green[..], &counts.red, &counts.blue].map(Code::of);
    let coded = green.bits(&counts.green) + red.bits(&counts.red) + blue.bits(&counts.blue);
    // Codes themselves are a few hundred bytes.
    let bytes = usize::try_from((coded + counts.more) / 8).unwrap_or(usize::MAX);
    if bytes > most {
        let what = format!("a picture has {bytes} bytes, more than are kept");
        return Err(DisplayError::Unsupported(what));
    }
    let mut bits = Bits::after(HEAD, bytes + 1024);
    begin(&mut bits, width, height);
    for code in [&green, &red, &blue, &Code::only(0), &Code::only(LEFT)] {
        code.describe(&mut bits);
    }
    let write = |token| match token {
        Token::Pixel(colours) => {
            let [b, g, r] = colours.map(usize::from);
            bits.put_three([green.word(g), red.word(r), blue.word(b)]);
        }
        Token::Repeat(run) => {
            bits.put(green.word(run.symbol));
            bits.put((run.extra, run.extra_bits));
        }
    };
    match kept.all() {
        Some(tokens) => tokens.for_each(write),
        None => each(rows, write),
    }
    Ok(file(bits.finish()))
}

/// The distance of a run's source: the pixel before.
const LEFT: usize = 1;

/// Size and transforms.
fn begin(bits: &mut Bits, width: usize, height: usize) {
    const NOTHING_MORE: (u32, u32) = (0, 1);
    const TRANSFORM: (u32, u32) = (1, 1);
    const SUBTRACT_GREEN: (u32, u32) = (2, 2);
    const PREDICTOR: (u32, u32) = (0, 2);
    const LARGEST_BLOCKS: (u32, u32) = (7, 3);
    const ABOVE: usize = 2;
    bits.put((0x2f, 8));
    for edge in [width, height] {
        bits.put((u32::try_from(edge - 1).unwrap_or(0), 14));
    }
    // No alpha, version 0.
    bits.put((0, 4));
    for part in [
        TRANSFORM,
        SUBTRACT_GREEN,
        TRANSFORM,
        PREDICTOR,
        LARGEST_BLOCKS,
    ] {
        bits.put(part);
    }
    // One predictor for all blocks, written as a picture of one colour: no cache, five codes.
    bits.put(NOTHING_MORE);
    for symbol in [ABOVE, 0, 0, 0, 0] {
        Code::only(symbol).describe(bits);
    }
    // No third transform, no cache, one set of codes for the whole picture.
    (0..3).for_each(|_| bits.put(NOTHING_MORE));
}

/// Puts the container's head in its place.
fn file(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes();
    let picture = length(bytes.len() - HEAD);
    if !bytes.len().is_multiple_of(2) {
        bytes.push(0);
    }
    let all = length(bytes.len() - 8);
    let head = [&b"RIFF"[..], &all, b"WEBPVP8L", &picture].concat();
    bytes[..HEAD].copy_from_slice(&head);
    bytes
}

#[cfg(test)]
mod tests;
