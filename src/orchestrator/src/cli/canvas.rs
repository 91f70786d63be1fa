//! Whole pictures out of the tiles of a live view.

use std::io::Cursor;

use image_webp::{ColorType, WebPDecoder, WebPEncoder};
use serde_json::Value;

use super::arguments::Format;
use crate::refused::Refused;
use crate::view::TILE;

/// Bytes of a pixel: red, green, blue.
const PIXEL: usize = 3;

/// A screen as it is shown.
#[derive(Debug, Default)]
pub(super) struct Canvas {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

fn damaged(what: impl std::fmt::Display) -> Refused {
    Refused::unavailable("VIEW_DAMAGED", format!("a picture can't be used: {what}"))
}

/// A number of the facts.
fn number(facts: &Value, name: &str) -> Result<u32, Refused> {
    let number = facts[name].as_u64();
    number
        .and_then(|number| u32::try_from(number).ok())
        .ok_or_else(|| damaged(format!("it has no {name}")))
}

fn numbers(facts: &Value, name: &str) -> Result<Vec<u32>, Refused> {
    let list = facts[name].as_array().map(Vec::as_slice);
    let read = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    list.unwrap_or_default()
        .iter()
        .map(|value| read(value).ok_or_else(|| damaged(format!("odd {name}"))))
        .collect()
}

/// A decoded picture of tiles.
struct Tiles {
    columns: u32,
    width: usize,
    /// Bytes of a pixel: with or without alpha.
    pixel: usize,
    pixels: Vec<u8>,
}

impl Tiles {
    fn decode(webp: &[u8], columns: u32) -> Result<Self, Refused> {
        let mut decoder = WebPDecoder::new(Cursor::new(webp)).map_err(damaged)?;
        let (width, _) = decoder.dimensions();
        let bytes = decoder.output_buffer_size();
        if columns == 0 || Some(width) != columns.checked_mul(TILE) {
            return Err(damaged(format!("{width} pixels for {columns} columns")));
        }
        let mut pixels = vec![0; bytes.ok_or_else(|| damaged("it is too large"))?];
        decoder.read_image(&mut pixels).map_err(damaged)?;
        Ok(Self {
            columns,
            width: width as usize,
            pixel: if decoder.has_alpha() { 4 } else { PIXEL },
            pixels,
        })
    }

    /// One line of the tile in this place.
    fn line(&self, place: u32, line: u32, pixels: usize) -> Option<impl Iterator<Item = &[u8]>> {
        let x = (place % self.columns * TILE) as usize;
        let y = (place / self.columns) as usize * TILE as usize + line as usize;
        let begin = (y * self.width + x) * self.pixel;
        let line = self.pixels.get(begin..begin + pixels * self.pixel)?;
        Some(line.chunks(self.pixel).map(|pixel| &pixel[..PIXEL]))
    }
}

impl Canvas {
    /// Nothing was shown yet.
    pub(super) fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// Takes the size of a change; another size begins anew.
    pub(super) fn resize(&mut self, facts: &Value) -> Result<(), Refused> {
        let (width, height) = (number(facts, "width")?, number(facts, "height")?);
        if (width, height) != (self.width, self.height) {
            self.pixels = vec![0; width as usize * height as usize * PIXEL];
            (self.width, self.height) = (width, height);
        }
        Ok(())
    }

    /// Puts the tiles of one picture where they go.
    pub(super) fn put(&mut self, part: &Value, webp: &[u8]) -> Result<(), Refused> {
        let drawn = Tiles::decode(webp, number(part, "columns")?)?;
        let (tiles, places) = (numbers(part, "tiles")?, numbers(part, "places")?);
        for (tile, place) in tiles.into_iter().zip(places) {
            self.put_tile(tile, &drawn, place)
                .ok_or_else(|| damaged(format!("tile {tile} is not in it")))?;
        }
        Ok(())
    }

    fn put_tile(&mut self, tile: u32, drawn: &Tiles, place: u32) -> Option<()> {
        let row = self.width.div_ceil(TILE).max(1);
        let (left, top) = (tile % row * TILE, (tile / row).checked_mul(TILE)?);
        // What lies beyond the screen's edge is not there.
        let (wide, high) = (
            TILE.min(self.width.checked_sub(left)?) as usize,
            TILE.min(self.height.checked_sub(top)?),
        );
        for line in 0..high {
            let begin = ((top + line) as usize * self.width as usize + left as usize) * PIXEL;
            let target = self.pixels.get_mut(begin..begin + wide * PIXEL)?;
            let source = drawn.line(place, line, wide)?;
            for (to, from) in target.chunks_mut(PIXEL).zip(source) {
                to.copy_from_slice(from);
            }
        }
        Some(())
    }

    /// The whole picture as a file.
    pub(super) fn file(&self, format: Format) -> Result<Vec<u8>, Refused> {
        let mut file = Vec::new();
        match format {
            Format::Png => self.png(&mut file).map_err(damaged)?,
            Format::Webp => WebPEncoder::new(&mut file)
                .encode(&self.pixels, self.width, self.height, ColorType::Rgb8)
                .map_err(damaged)?,
        }
        Ok(file)
    }

    fn png(&self, file: &mut Vec<u8>) -> Result<(), png::EncodingError> {
        let mut encoder = png::Encoder::new(file, self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        encoder.write_header()?.write_image_data(&self.pixels)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A picture of tiles, each of one colour.
    fn tiles(colours: &[[u8; 3]], columns: u32) -> Vec<u8> {
        let rows = u32::try_from(colours.len()).unwrap().div_ceil(columns);
        let (width, height) = (columns * TILE, rows * TILE);
        let mut pixels = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let place = (y / TILE * columns + x / TILE) as usize;
                pixels.extend(colours.get(place).unwrap_or(&[0; 3]));
            }
        }
        let mut file = Vec::new();
        WebPEncoder::new(&mut file)
            .encode(&pixels, width, height, ColorType::Rgb8)
            .unwrap();
        file
    }

    fn pixel(canvas: &Canvas, x: u32, y: u32) -> [u8; 3] {
        let at = (y * canvas.width + x) as usize * PIXEL;
        canvas.pixels[at..at + PIXEL].try_into().unwrap()
    }

    const COLOURS: [[u8; 3]; 6] = [
        [1, 0, 0],
        [0, 2, 0],
        [0, 0, 3],
        [4, 4, 0],
        [0, 5, 5],
        [6, 0, 6],
    ];

    /// A screen of 3x2 tiles that ends within the last ones.
    fn drawn() -> Canvas {
        let mut canvas = Canvas::default();
        canvas
            .resize(&json!({"width": 150, "height": 100}))
            .unwrap();
        let part = json!({"columns": 4, "tiles": [0, 1, 2, 3, 4, 5], "places": [0, 1, 2, 3, 4, 5]});
        canvas.put(&part, &tiles(&COLOURS, 4)).unwrap();
        canvas
    }

    #[test]
    fn tiles_go_where_they_belong_and_end_at_the_screens_edge() {
        let mut canvas = drawn();
        assert_eq!(canvas.pixels.len(), 150 * 100 * PIXEL);
        for (colour, x, y) in [
            (0, 0, 0),
            (1, 64, 63),
            (2, 149, 0),
            (3, 0, 64),
            (5, 149, 99),
        ] {
            assert_eq!(pixel(&canvas, x, y), COLOURS[colour], "{x},{y}");
        }
        let part = json!({"columns": 1, "tiles": [4], "places": [1]});
        canvas.put(&part, &tiles(&[[9; 3], [8; 3]], 1)).unwrap();
        assert_eq!(pixel(&canvas, 100, 80), [8; 3]);
        assert_eq!(pixel(&canvas, 63, 80), COLOURS[3], "its neighbour stays");
    }

    #[test]
    fn both_formats_show_the_same_pixels() {
        let canvas = drawn();
        let webp = canvas.file(Format::Webp).unwrap();
        let mut decoder = WebPDecoder::new(Cursor::new(webp)).unwrap();
        let mut pixels = vec![0; decoder.output_buffer_size().unwrap()];
        decoder.read_image(&mut pixels).unwrap();
        assert_eq!(pixels, canvas.pixels);
        let png = canvas.file(Format::Png).unwrap();
        let mut reader = png::Decoder::new(Cursor::new(png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, canvas.pixels);
    }

    #[test]
    fn what_is_not_in_the_picture_or_on_the_screen_is_refused() {
        let mut canvas = drawn();
        let picture = tiles(&COLOURS, 4);
        for (columns, tile, place) in [
            (4, 6, 0),
            (4, u32::MAX, 0),
            (4, 0, 8),
            (4, 0, u32::MAX),
            (3, 0, 0),
            (u32::MAX, 0, 0),
            (0, 0, 0),
        ] {
            let part = json!({"columns": columns, "tiles": [tile], "places": [place]});
            let refused = canvas.put(&part, &picture).unwrap_err();
            assert_eq!(refused.code, "VIEW_DAMAGED", "{part}");
        }
        let part = json!({"columns": 4, "tiles": [0], "places": [0]});
        assert!(canvas.put(&part, b"no picture").is_err());
    }
}
