//! What a screenshot shows, by its colours.

use std::path::Path;

/// Red, green, blue.
pub type Colour = [u8; 3];

/// A decoded picture.
pub struct Picture {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    pixels: Vec<Colour>,
}

/// Where a colour is in a picture.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    /// Part of the whole picture that has this very colour.
    pub share: f64,
    /// Part of the smallest rectangle around all of it that has it: 1 is a rectangle without a hole.
    pub solid: f64,
}

impl Picture {
    /// Reads a PNG file.
    ///
    /// # Panics
    /// When it is none, or is not in colour with 8 bits each.
    pub fn read(path: &Path) -> Self {
        let file = std::io::BufReader::new(std::fs::File::open(path).expect("a picture"));
        let mut reader = png::Decoder::new(file).read_info().expect("a PNG file");
        let mut bytes = vec![
            0;
            reader
                .output_buffer_size()
                .expect("a size that fits memory")
        ];
        let info = reader.next_frame(&mut bytes).expect("a whole PNG file");
        assert_eq!(info.bit_depth, png::BitDepth::Eight);
        let samples = info.color_type.samples();
        assert!(samples >= 3, "{:?} is no colour", info.color_type);
        let pixels = bytes[..info.buffer_size()].chunks_exact(samples);
        Self {
            width: info.width as usize,
            height: info.height as usize,
            pixels: pixels.map(|own| [own[0], own[1], own[2]]).collect(),
        }
    }

    /// Where this very colour is.
    pub fn area(&self, colour: Colour) -> Area {
        let (mut count, mut left, mut right, mut top, mut bottom) =
            (0, self.width, 0, self.height, 0);
        let own = self
            .pixels
            .iter()
            .enumerate()
            .filter(|(_, own)| **own == colour);
        for (x, y) in own.map(|(at, _)| (at % self.width, at / self.width)) {
            count += 1;
            (left, right) = (left.min(x), right.max(x + 1));
            (top, bottom) = (top.min(y), bottom.max(y + 1));
        }
        let part = |of: usize| {
            if of == 0 {
                0.0
            } else {
                f64::from(count) / of as f64
            }
        };
        Area {
            share: part(self.pixels.len()),
            solid: part(right.saturating_sub(left) * bottom.saturating_sub(top)),
        }
    }
}
