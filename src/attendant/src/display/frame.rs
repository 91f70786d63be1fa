//! The screen as it was captured last, and which of its tiles changed when.
//!
//! It is compared and stored by tiles, after the masks: what is masked is in no memory of ours
//! but the one that the server writes. One buffer serves stills and live view, each of which
//! remembers the capture that it has shown.

use zeroize::Zeroizing;

use super::pixel::PixelFormat;

/// Edge of a tile, in pixels.
pub(super) const TILE: usize = 64;

/// A rectangle of the screen, inside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rect {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// Pixels or colours, overwritten when they are given up.
pub(super) type Buffer = Zeroizing<Vec<u8>>;

/// Makes it so long. One that grew in place would leave a copy behind.
pub(super) fn resize(buffer: &mut Buffer, bytes: usize) {
    if buffer.capacity() < bytes {
        *buffer = Buffer::new(vec![0; bytes]);
    } else {
        buffer.resize(bytes, 0);
    }
}

/// What the pixels are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) format: PixelFormat,
}

impl Shape {
    pub(super) fn stride(&self) -> usize {
        self.format.stride(self.width)
    }

    /// Tiles in a row.
    pub(super) fn columns(&self) -> usize {
        self.width.div_ceil(TILE)
    }

    /// All that lies in tiles of the same row, from the top.
    pub(super) fn bands(&self) -> impl Iterator<Item = Band> + use<> {
        let height = self.height;
        (0..height).step_by(TILE).map(move |y| Band {
            y,
            rows: TILE.min(height - y),
        })
    }
}

/// Whole rows of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Band {
    pub(super) y: usize,
    pub(super) rows: usize,
}

impl Band {
    pub(super) fn bytes(&self, shape: &Shape) -> std::ops::Range<usize> {
        let stride = shape.stride();
        stride * self.y..stride * (self.y + self.rows)
    }

    /// Paints what of these rectangles lies in the band's pixels black.
    pub(super) fn paint(&self, shape: &Shape, pixels: &mut [u8], veiled: &[Rect]) {
        let (stride, bytes) = (shape.stride(), shape.format.bytes);
        for rect in veiled {
            let from = rect.y.max(self.y);
            let to = (rect.y + rect.height).min(self.y + self.rows);
            for row in from..to {
                let start = stride * (row - self.y) + bytes * rect.x;
                pixels[start..start + bytes * rect.width].fill(0);
            }
        }
    }
}

/// The last capture.
#[derive(Debug)]
pub(super) struct Frame {
    shape: Shape,
    pixels: Buffer,
    /// Number of the capture in which each tile changed last.
    changed: Vec<u64>,
    /// Of the last capture; the first is 1.
    number: u64,
    /// Of the first capture of this shape.
    first: u64,
}

impl Frame {
    /// Of nothing yet: the next capture changes all of it. Numbers go on from a frame before it.
    pub(super) fn new(shape: Shape, number: u64) -> Self {
        let tiles = shape.columns() * shape.height.div_ceil(TILE);
        Self {
            shape,
            pixels: Buffer::new(vec![0; shape.stride() * shape.height]),
            changed: vec![number + 1; tiles],
            number,
            first: number + 1,
        }
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whether this capture was of another frame, which had another shape.
    pub(super) fn is_new_since(&self, number: u64) -> bool {
        number < self.first
    }

    /// A capture begins.
    pub(super) fn begin(&mut self) {
        self.number += 1;
    }

    /// Takes over what of this band has changed.
    pub(super) fn update(&mut self, band: Band, pixels: &[u8]) {
        let range = band.bytes(&self.shape);
        let stored = &mut self.pixels[range];
        // Most bands of most screens: one look instead of one for each row of each tile.
        if stored == pixels {
            return;
        }
        let (stride, columns) = (self.shape.stride(), self.shape.columns());
        let tile_bytes = TILE * self.shape.format.bytes;
        let row_bytes = self.shape.width * self.shape.format.bytes;
        let first = band.y / TILE * columns;
        for (column, changed) in self.changed[first..first + columns].iter_mut().enumerate() {
            let from = column * tile_bytes;
            let row =
                |row: usize| stride * row + from..stride * row + row_bytes.min(from + tile_bytes);
            if (0..band.rows).any(|at| stored[row(at)] != pixels[row(at)]) {
                (0..band.rows).for_each(|at| stored[row(at)].copy_from_slice(&pixels[row(at)]));
                *changed = self.number;
            }
        }
    }

    /// Tiles that changed after this capture, in growing order.
    pub(super) fn changed_since(&self, number: u64) -> Vec<u32> {
        let tiles = (0..).zip(&self.changed);
        let changed = tiles.filter(|(_, changed)| **changed > number);
        changed.map(|(tile, _)| tile).collect()
    }

    pub(super) fn has_changed_since(&self, number: u64) -> bool {
        self.changed.iter().any(|changed| *changed > number)
    }

    /// The pixels of one row in these columns.
    pub(super) fn row(&self, y: usize, x: std::ops::Range<usize>) -> &[u8] {
        let (start, bytes) = (self.shape.stride() * y, self.shape.format.bytes);
        &self.pixels[start + bytes * x.start..start + bytes * x.end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(width: usize, height: usize) -> Shape {
        let masks = [0xf800, 0x07e0, 0x001f];
        Shape {
            width,
            height,
            format: PixelFormat::new(16, 32, masks, false).unwrap(),
        }
    }

    fn capture(frame: &mut Frame, pixels: &[u8]) {
        frame.begin();
        for band in frame.shape().bands() {
            frame.update(band, &pixels[band.bytes(&frame.shape())]);
        }
    }

    #[test]
    fn only_tiles_with_another_pixel_change() {
        let shape = shape(131, 70);
        let mut frame = Frame::new(shape, 0);
        let mut pixels = vec![0; shape.stride() * 70];
        capture(&mut frame, &pixels);
        assert_eq!(frame.changed_since(0), [0, 1, 2, 3, 4, 5]);
        capture(&mut frame, &pixels);
        assert!(!frame.has_changed_since(1));
        // The last pixel of the screen, and the filling of a row that nobody sees.
        pixels[shape.stride() * 69 + 2 * 130] = 1;
        pixels[shape.stride() - 1] = 1;
        capture(&mut frame, &pixels);
        assert_eq!(frame.changed_since(2), [5]);
        assert_eq!(frame.row(69, 130..131), [1, 0]);
        pixels[2 * 64] = 1;
        capture(&mut frame, &pixels);
        assert_eq!(
            (frame.changed_since(3), frame.changed_since(2)),
            (vec![1], vec![1, 5])
        );
    }

    #[test]
    fn a_rectangle_over_several_bands_is_painted_whole_and_alone() {
        let shape = shape(100, 150);
        let veiled = [Rect {
            x: 10,
            y: 60,
            width: 5,
            height: 80,
        }];
        let mut painted = 0;
        for band in shape.bands() {
            let mut pixels = vec![0xff; band.bytes(&shape).len()];
            band.paint(&shape, &mut pixels, &veiled);
            painted += pixels.iter().filter(|byte| **byte == 0).count();
        }
        assert_eq!(painted, 2 * 5 * 80);
    }

    #[test]
    fn bands_cover_the_screen_once() {
        for height in [1, 64, 65, 4320] {
            let mut next = 0;
            for band in shape(1, height).bands() {
                assert!(band.y == next && band.y % TILE == 0 && band.rows > 0);
                next += band.rows;
            }
            assert_eq!(next, height);
        }
    }
}
