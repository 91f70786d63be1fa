//! The whole screen as a file.

use std::io::Write;

use order::PictureFormat;
use png::{BitDepth, Compression, Encoder};
use wire::v1::MaskedArea;

use super::frame::{Buffer, Frame, TILE, resize};
use super::webp::{self, Rows};
use super::wire::DisplayError;

/// No picture of a real screen takes more.
pub(super) const MAX_BYTES: usize = 64 << 20;

/// A picture of the screen.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) format: PictureFormat,
    pub(crate) bytes: Vec<u8>,
    /// What is painted over in it.
    pub(crate) masked: Vec<MaskedArea>,
    /// All of it is: its windows could not be looked through.
    pub(crate) blind: bool,
}

/// Encodes the frame. PNG takes three bytes for each pixel, a band at a time; the buffer for them is
/// kept from one picture to the next.
pub(super) fn encode(
    frame: &Frame,
    format: PictureFormat,
    colours: &mut Buffer,
) -> Result<Vec<u8>, DisplayError> {
    match format {
        PictureFormat::Png => png(frame, colours),
        PictureFormat::Webp => webp::encode(&Whole(frame), MAX_BYTES),
    }
}

fn png(frame: &Frame, colours: &mut Buffer) -> Result<Vec<u8>, DisplayError> {
    let mut out = Bounded(Vec::new());
    let shape = frame.shape();
    let mut encoder = Encoder::new(&mut out, pixels(shape.width), pixels(shape.height));
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    let mut header = encoder.write_header().map_err(std::io::Error::other)?;
    let mut writer = header.stream_writer().map_err(std::io::Error::other)?;
    for band in shape.bands() {
        rows(frame, band.y..band.y + band.rows, colours);
        writer.write_all(colours)?;
    }
    writer.finish().map_err(std::io::Error::other)?;
    header.finish().map_err(std::io::Error::other)?;
    Ok(out.0)
}

fn rows(frame: &Frame, rows: std::ops::Range<usize>, colours: &mut Buffer) {
    let shape = frame.shape();
    resize(colours, 3 * shape.width * rows.len());
    for (colours, y) in colours.chunks_exact_mut(3 * shape.width).zip(rows) {
        shape.format.rgb(frame.row(y, 0..shape.width), colours);
    }
}

/// The whole screen.
struct Whole<'a>(&'a Frame);

impl Rows for Whole<'_> {
    fn width(&self) -> usize {
        self.0.shape().width
    }

    fn height(&self) -> usize {
        self.0.shape().height
    }

    fn row(&self, y: usize, pixels: &mut [u32]) {
        let shape = self.0.shape();
        shape.format.values(self.0.row(y, 0..shape.width), pixels);
    }
}

/// Tiles side by side, so many in a row.
struct Packed<'a> {
    frame: &'a Frame,
    tiles: &'a [u32],
    columns: usize,
}

impl Rows for Packed<'_> {
    fn width(&self) -> usize {
        TILE * self.columns
    }

    fn height(&self) -> usize {
        TILE * self.tiles.len().div_ceil(self.columns)
    }

    fn row(&self, y: usize, pixels: &mut [u32]) {
        let shape = self.frame.shape();
        pixels.fill(0);
        let first = y / TILE * self.columns;
        let tiles = &self.tiles[first..self.tiles.len().min(first + self.columns)];
        for (tile, pixels) in tiles.iter().zip(pixels.chunks_exact_mut(TILE)) {
            let tile = usize::try_from(*tile).unwrap_or(0);
            let x = tile % shape.columns() * TILE;
            let y = tile / shape.columns() * TILE + y % TILE;
            if y < shape.height {
                let right = shape.width.min(x + TILE);
                let row = self.frame.row(y, x..right);
                shape.format.values(row, &mut pixels[..right - x]);
            }
        }
    }
}

/// A picture of these tiles.
pub(super) fn tiles(frame: &Frame, tiles: &[u32], columns: usize) -> Result<Vec<u8>, DisplayError> {
    let packed = Packed {
        frame,
        tiles,
        columns,
    };
    webp::encode(&packed, MAX_BYTES)
}

/// Both edges of a screen come in 16 bits.
pub(super) fn pixels(edge: usize) -> u32 {
    u32::try_from(edge).unwrap_or(u32::MAX)
}

struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_BYTES {
            return Err(std::io::Error::other("the picture is larger than 64 MiB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
