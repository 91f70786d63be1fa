//! What is written is read by somebody else's decoder.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;

struct Picture {
    width: usize,
    pixels: Vec<u32>,
}

impl Rows for Picture {
    fn width(&self) -> usize {
        self.width
    }

    fn height(&self) -> usize {
        self.pixels.len() / self.width
    }

    fn row(&self, y: usize, pixels: &mut [u32]) {
        pixels.copy_from_slice(&self.pixels[self.width * y..self.width * (y + 1)]);
    }
}

fn round_trip(picture: &Picture) {
    let bytes = encode(picture, usize::MAX).unwrap();
    let mut decoder = image_webp::WebPDecoder::new(Cursor::new(&bytes)).unwrap();
    let size = (picture.width() as u32, picture.height() as u32);
    assert_eq!((decoder.dimensions(), decoder.has_alpha()), (size, false));
    let mut colours = vec![0; decoder.output_buffer_size().unwrap()];
    decoder.read_image(&mut colours).unwrap();
    let expected = picture.pixels.iter().flat_map(|own| {
        let [_, red, green, blue] = own.to_be_bytes();
        [red, green, blue]
    });
    assert!(colours.into_iter().eq(expected), "{size:?}");
}

/// Nothing in it can be predicted.
fn noise(pixels: usize) -> Vec<u32> {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as u32
    };
    (0..pixels).map(|_| next()).collect()
}

#[test]
fn pictures_of_one_colour_and_of_one_row_or_column_are_read_back() {
    for (width, height) in [(1, 1), (1, 9000), (9000, 1), (100, 100), (64, 64)] {
        for colour in [0, 0xff_ffff, 0x12_3456] {
            let pixels = vec![colour; width * height];
            round_trip(&Picture { width, pixels });
        }
    }
}

#[test]
fn a_picture_of_all_colours_is_read_back() {
    let pixels = noise(512 * 512);
    round_trip(&Picture { width: 512, pixels });
}

#[test]
fn what_is_too_large_is_refused_before_it_is_made() {
    let pixels = noise(64 * 64);
    let picture = Picture { width: 64, pixels };
    assert!(encode(&picture, 4 * 64 * 64).is_ok());
    assert!(encode(&picture, 2 * 64 * 64).is_err());
    let wide = Picture {
        width: LONGEST_EDGE + 1,
        pixels: vec![0; LONGEST_EDGE + 1],
    };
    assert!(encode(&wide, usize::MAX).is_err());
}

proptest! {
    #[test]
    fn whatever_is_in_it_is_read_back(
        width in 1..80_usize,
        height in 1..80_usize,
        palette in proptest::collection::vec(0..0x100_0000_u32, 1..9),
        choices in proptest::collection::vec((any::<prop::sample::Index>(), 1..200_usize), 1..99),
    ) {
        let colours = choices.iter().flat_map(|(index, run)| {
            std::iter::repeat_n(*index.get(&palette), *run)
        });
        let pixels = colours.cycle().take(width * height).collect();
        round_trip(&Picture { width, pixels });
    }
}
