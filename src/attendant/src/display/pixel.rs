//! How an X server's pixels lie in memory, and what colours they are.

use super::wire::DisplayError;

/// The layout of a picture as the server hands it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PixelFormat {
    /// Bytes of a pixel: 2 or 4.
    pub(super) bytes: usize,
    /// A row is filled up to so many bytes.
    pad: usize,
    big_endian: bool,
    red: Channel,
    green: Channel,
    blue: Channel,
}

/// The bits of a pixel that are one colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Channel {
    shift: u32,
    /// 1 to 8.
    bits: u32,
}

impl PixelFormat {
    /// Bits of a pixel and of a row's unit, and the masks of red, green and blue.
    pub(super) fn new(
        bits: u8,
        pad: u8,
        masks: [u32; 3],
        big_endian: bool,
    ) -> Result<Self, DisplayError> {
        if !matches!(bits, 16 | 32) || !matches!(pad, 8 | 16 | 32) {
            let what = format!("{bits} bits per pixel, rows in units of {pad}");
            return Err(DisplayError::Unsupported(what));
        }
        let [red, green, blue] = masks.map(|mask| Channel::of(mask, bits.into()));
        Ok(Self {
            bytes: usize::from(bits / 8),
            pad: usize::from(pad / 8),
            big_endian,
            red: red?,
            green: green?,
            blue: blue?,
        })
    }

    /// Bytes from one row to the next.
    pub(super) fn stride(&self, width: usize) -> usize {
        (width * self.bytes).next_multiple_of(self.pad)
    }

    /// The colours of these pixels, three bytes each; both are of the same number of pixels.
    pub(super) fn rgb(&self, pixels: &[u8], colours: &mut [u8]) {
        if self.is_bgrx() {
            // What every server on this machine's kind of processor has.
            rgb_of_bgrx(pixels, colours);
        } else {
            let colours = colours.as_chunks_mut::<3>().0.iter_mut();
            for (colour, value) in colours.zip(self.raw(pixels)) {
                *colour = self.colour(value);
            }
        }
    }

    /// The same as numbers, 0x00RRGGBB.
    pub(super) fn values(&self, pixels: &[u8], values: &mut [u32]) {
        if self.is_bgrx() {
            for (value, pixel) in values.iter_mut().zip(pixels.as_chunks::<4>().0) {
                *value = u32::from_le_bytes(*pixel) & 0xff_ffff;
            }
        } else {
            for (value, raw) in values.iter_mut().zip(self.raw(pixels)) {
                let [red, green, blue] = self.colour(raw);
                *value = u32::from_be_bytes([0, red, green, blue]);
            }
        }
    }

    /// Pixels as the server's numbers.
    fn raw<'a>(&'a self, pixels: &'a [u8]) -> impl Iterator<Item = u32> {
        pixels.chunks_exact(self.bytes).map(|pixel| {
            let add = |sum: u32, byte: &u8| sum << 8 | u32::from(*byte);
            match self.big_endian {
                true => pixel.iter().fold(0, add),
                false => pixel.iter().rev().fold(0, add),
            }
        })
    }

    fn is_bgrx(&self) -> bool {
        let byte = |shift| Channel { shift, bits: 8 };
        self.bytes == 4
            && !self.big_endian
            && (self.red, self.green, self.blue) == (byte(16), byte(8), byte(0))
    }

    fn colour(&self, value: u32) -> [u8; 3] {
        [self.red, self.green, self.blue].map(|channel| channel.of_pixel(value))
    }
}

/// Four pixels at a time, which make three words: byte by byte this was a fifth of a PNG's time.
fn rgb_of_bgrx(pixels: &[u8], colours: &mut [u8]) {
    let (fours, rest) = pixels.as_chunks::<16>();
    let (words, rest_of_colours) = colours.split_at_mut(12 * fours.len());
    for (words, four) in words.as_chunks_mut::<12>().0.iter_mut().zip(fours) {
        let own = |at: usize| {
            let pixel = [four[at], four[at + 1], four[at + 2], four[at + 3]];
            u32::from_be_bytes(pixel) >> 8
        };
        let [one, two, three, four] = [own(0), own(4), own(8), own(12)];
        words[..4].copy_from_slice(&(one | two << 24).to_le_bytes());
        words[4..8].copy_from_slice(&(two >> 8 | three << 16).to_le_bytes());
        words[8..].copy_from_slice(&(three >> 16 | four << 8).to_le_bytes());
    }
    let rest_of_colours = rest_of_colours.as_chunks_mut::<3>().0.iter_mut();
    for (colour, pixel) in rest_of_colours.zip(rest.as_chunks::<4>().0) {
        *colour = [pixel[2], pixel[1], pixel[0]];
    }
}

impl Channel {
    /// The one run of bits in this mask. What is none is not guessed at.
    fn of(mask: u32, pixel_bits: u32) -> Result<Self, DisplayError> {
        let (shift, bits) = (mask.trailing_zeros(), mask.count_ones());
        let inside = (1..=8).contains(&bits) && shift + bits <= pixel_bits;
        if inside && mask >> shift == (1 << bits) - 1 {
            Ok(Self { shift, bits })
        } else {
            let what = format!("a colour has the mask {mask:#x}");
            Err(DisplayError::Unsupported(what))
        }
    }

    /// Stretched to eight bits, so that the brightest is 255.
    fn of_pixel(self, value: u32) -> u8 {
        let most = (1_u32 << self.bits) - 1;
        let own = (value >> self.shift) & most;
        // At most 255, as `own` is at most `most`.
        ((own * 255 + most / 2) / most) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUE: [u32; 3] = [0xff_0000, 0xff00, 0xff];

    fn colours(format: PixelFormat, pixels: &[u8]) -> Vec<u8> {
        let mut colours = vec![0; 3 * pixels.len() / format.bytes];
        format.rgb(pixels, &mut colours);
        let mut values = vec![0; pixels.len() / format.bytes];
        format.values(pixels, &mut values);
        let same = values
            .iter()
            .flat_map(|value| value.to_be_bytes()[1..].to_vec());
        assert!(same.eq(colours.iter().copied()));
        colours
    }

    #[test]
    fn colours_come_out_in_the_order_of_a_picture() {
        let little = PixelFormat::new(32, 32, TRUE, false).unwrap();
        let pixels: Vec<u8> = (0..4 * 11).collect();
        let expected = pixels.chunks(4).flat_map(|own| [own[2], own[1], own[0]]);
        assert!(colours(little, &pixels).into_iter().eq(expected));
        let big = PixelFormat::new(32, 32, TRUE, true).unwrap();
        assert_eq!(colours(big, &[0, 3, 2, 1]), [3, 2, 1]);
        let swapped = PixelFormat::new(32, 32, [0xff, 0xff00, 0xff_0000], false).unwrap();
        assert_eq!(colours(swapped, &[3, 2, 1, 0]), [3, 2, 1]);
    }

    #[test]
    fn sixteen_bits_are_stretched_from_black_to_white() {
        let format = PixelFormat::new(16, 32, [0xf800, 0x07e0, 0x001f], false).unwrap();
        assert_eq!(
            colours(format, &[0, 0, 0xff, 0xff]),
            [0, 0, 0, 255, 255, 255]
        );
        assert_eq!(colours(format, &0xf800_u16.to_le_bytes()), [255, 0, 0]);
        assert_eq!(colours(format, &0x0010_u16.to_le_bytes()), [0, 0, 132]);
        assert_eq!((format.stride(3), format.stride(4)), (8, 8));
    }

    #[test]
    fn a_mask_that_is_no_run_of_bits_is_not_guessed_at() {
        for mask in [0, 0x5, 0x1ff, 0x1_0000, u32::MAX] {
            assert!(PixelFormat::new(16, 32, [0xf800, mask, 0x1f], false).is_err());
        }
        assert!(PixelFormat::new(8, 32, [0xe0, 0x1c, 0x3], false).is_err());
        assert!(PixelFormat::new(32, 0, TRUE, false).is_err());
    }
}
