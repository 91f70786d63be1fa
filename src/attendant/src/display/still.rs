//! The whole screen as a file.

use std::io::Write;

use image_webp::{ColorType, EncodingError, WebPEncoder};
use order::PictureFormat;
use png::{BitDepth, Compression, Encoder};
use wire::v1::MaskedArea;

use super::frame::{Buffer, Frame, TILE, resize};
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

/// Encodes the frame. The colours' buffer is kept from one picture to the next, so that it is not
/// allocated anew each time.
pub(super) fn encode(
    frame: &Frame,
    format: PictureFormat,
    colours: &mut Buffer,
) -> Result<Vec<u8>, DisplayError> {
    match format {
        PictureFormat::Png => png(frame, colours),
        PictureFormat::Webp => {
            let shape = frame.shape();
            whole(frame, colours);
            webp(colours, shape.width, shape.height)
        }
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

fn whole(frame: &Frame, colours: &mut Buffer) {
    rows(frame, 0..frame.shape().height, colours);
}

fn rows(frame: &Frame, rows: std::ops::Range<usize>, colours: &mut Buffer) {
    let shape = frame.shape();
    resize(colours, 3 * shape.width * rows.len());
    for (colours, y) in colours.chunks_exact_mut(3 * shape.width).zip(rows) {
        shape.format.rgb(frame.row(y, 0..shape.width), colours);
    }
}

/// Three bytes each of so many pixels.
pub(super) fn webp(colours: &[u8], width: usize, height: usize) -> Result<Vec<u8>, DisplayError> {
    let mut out = Bounded(Vec::new());
    WebPEncoder::new(&mut out)
        .encode(colours, pixels(width), pixels(height), ColorType::Rgb8)
        .map_err(|error| match error {
            EncodingError::IoError(error) => DisplayError::Io(error),
            // WebP has 14 bits for each edge.
            other => DisplayError::Unsupported(other.to_string()),
        })?;
    Ok(out.0)
}

/// Tiles side by side, so many in a row.
pub(super) fn tiles(
    frame: &Frame,
    tiles: &[u32],
    columns: usize,
    colours: &mut Buffer,
) -> Result<Vec<u8>, DisplayError> {
    let (shape, stride) = (frame.shape(), 3 * TILE * columns);
    let height = TILE * tiles.len().div_ceil(columns);
    colours.clear();
    resize(colours, stride * height);
    for (place, tile) in tiles.iter().enumerate() {
        let tile = usize::try_from(*tile).unwrap_or(0);
        let (x, y) = (tile % shape.columns() * TILE, tile / shape.columns() * TILE);
        let right = shape.width.min(x + TILE);
        let corner = stride * TILE * (place / columns) + 3 * TILE * (place % columns);
        for row in y..shape.height.min(y + TILE) {
            let start = corner + stride * (row - y);
            let colours = &mut colours[start..start + 3 * (right - x)];
            shape.format.rgb(frame.row(row, x..right), colours);
        }
    }
    webp(colours, TILE * columns, height)
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
