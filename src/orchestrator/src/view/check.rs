//! What an agent may show. A frame that breaks a rule ends the view: no agent of ours sends one.

use order::{Display, DisplayKind};
use prost::encoding::{WireType, decode_key, decode_varint};
use wire::v1;

use super::TILE;
use super::change::MAX_MASKED;
use super::picture::size;
use crate::refused::{Kind, Refused};

/// Largest frame of the contract: a whole picture of the largest screen, of noise.
const MAX_FRAME: usize = 64 << 20;
/// Largest piece of one.
pub(crate) const MAX_CHUNK: usize = 128 << 10;
/// Largest screen that an order can ask for, and that a bot can make of it.
const MAX_SIZE: (u32, u32) = (7680, 4320);
/// Tiles in a row or column of a picture: no WebP is larger.
const MAX_COLUMNS: u32 = 255;

/// Bytes that a frame of this display can have: four per pixel of its tiles, and what is around them.
/// Only Xvnc lets a bot make its screen larger.
pub(crate) fn most_bytes(display: Display) -> usize {
    let (width, height) = match display.kind {
        DisplayKind::Xvfb => (display.width, display.height),
        DisplayKind::Xvnc => MAX_SIZE,
    };
    let raw = u64::from(tiles_of(width, height)) * u64::from(TILE * TILE * 4);
    usize::try_from(raw + (256 << 10)).map_or(MAX_FRAME, |most| most.min(MAX_FRAME))
}

/// Tiles of a screen.
pub(super) fn tiles_of(width: u32, height: u32) -> u32 {
    width.div_ceil(TILE) * height.div_ceil(TILE)
}

/// Bytes of a frame around its picture: tiles and masked areas of the largest screen take far less.
const MOST_AROUND: u64 = 512 << 10;

/// Looks through an encoded frame before it is decoded: an empty area of two bytes becomes twenty in
/// memory, and a frame made of nothing else would be a gigabyte.
pub(crate) fn check_encoded(mut frame: &[u8]) -> Result<(), Refused> {
    const PICTURE: u32 = 7;
    let malformed = || Refused::invalid("SCREEN_MALFORMED", "no encoded frame");
    let mut around = 0_u64;
    while !frame.is_empty() {
        let (field, kind) = decode_key(&mut frame).map_err(|_| malformed())?;
        let length = match kind {
            WireType::LengthDelimited => decode_varint(&mut frame).map_err(|_| malformed())?,
            WireType::Varint => decode_varint(&mut frame)
                .map(|_| 0)
                .map_err(|_| malformed())?,
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::StartGroup | WireType::EndGroup => return Err(malformed()),
        };
        let size = usize::try_from(length).map_err(|_| malformed())?;
        frame = frame.get(size..).ok_or_else(malformed)?;
        if field != PICTURE {
            // What a field's own head takes counts too: empty ones are many.
            around += length + 2;
        }
        if around > MOST_AROUND {
            let text = "more is around the picture than the largest screen needs";
            return Err(Refused::invalid("SCREEN_MALFORMED", text));
        }
    }
    Ok(())
}

fn refuse(code: &str, text: String) -> Result<(), Refused> {
    Err(Refused::invalid(code, text))
}

/// Checks all that does not depend on the frames before.
pub(crate) fn check(frame: &v1::ScreenFrame) -> Result<(), Refused> {
    if frame.number == 0 || v1::ScreenPause::try_from(frame.pause).is_err() {
        let text = format!("number {}, pause {}", frame.number, frame.pause);
        return refuse("SCREEN_MALFORMED", text);
    }
    check_size(frame)?;
    check_masks(frame)?;
    if frame.pause() != v1::ScreenPause::Unspecified {
        return match frame.tiles.is_empty() && frame.picture.is_empty() {
            true => Ok(()),
            false => refuse("SCREEN_NOT_PAUSED", "a pause shows tiles".to_owned()),
        };
    }
    check_tiles(frame)?;
    check_picture(frame)
}

fn check_size(frame: &v1::ScreenFrame) -> Result<(), Refused> {
    let (width, height) = (frame.width, frame.height);
    let paused = frame.pause() != v1::ScreenPause::Unspecified;
    // A pause may come before anything was seen.
    let least = u32::from(!paused);
    let right = (least..=MAX_SIZE.0).contains(&width) && (least..=MAX_SIZE.1).contains(&height);
    match right {
        true => Ok(()),
        false => refuse(
            "SCREEN_SIZE_INVALID",
            format!("a screen of {width}x{height}"),
        ),
    }
}

fn check_masks(frame: &v1::ScreenFrame) -> Result<(), Refused> {
    let inside = |area: &v1::MaskedArea| {
        v1::MaskReason::try_from(area.reason).is_ok()
            && area
                .x
                .checked_add(area.width)
                .is_some_and(|end| end <= MAX_SIZE.0)
            && area
                .y
                .checked_add(area.height)
                .is_some_and(|end| end <= MAX_SIZE.1)
    };
    match frame.masked.len() <= MAX_MASKED && frame.masked.iter().all(inside) {
        true => Ok(()),
        false => refuse(
            "SCREEN_MASKS_INVALID",
            format!(
                "{} masked areas, or one that is nowhere",
                frame.masked.len()
            ),
        ),
    }
}

fn check_tiles(frame: &v1::ScreenFrame) -> Result<(), Refused> {
    let all = tiles_of(frame.width, frame.height);
    let growing = frame.tiles.is_sorted_by(|before, after| before < after);
    let inside = frame.tiles.last().is_none_or(|last| *last < all);
    let whole = !frame.keyframe || frame.tiles.len() == all as usize;
    match growing && inside && whole {
        true => Ok(()),
        false => refuse(
            "SCREEN_TILES_INVALID",
            format!(
                "{} tiles of {all} (keyframe: {}) that do not grow, do not exist or are not all",
                frame.tiles.len(),
                frame.keyframe
            ),
        ),
    }
}

fn check_picture(frame: &v1::ScreenFrame) -> Result<(), Refused> {
    if frame.tiles.is_empty() && frame.picture.is_empty() {
        return Ok(());
    }
    let tiles = u32::try_from(frame.tiles.len()).unwrap_or(u32::MAX);
    let columns = frame.columns;
    let fits = (1..=MAX_COLUMNS).contains(&columns)
        && (1..=MAX_COLUMNS).contains(&tiles.div_ceil(columns))
        && size(&frame.picture) == Some((columns * TILE, tiles.div_ceil(columns) * TILE));
    match fits {
        true => Ok(()),
        false => refuse(
            "SCREEN_PICTURE_INVALID",
            format!(
                "{} bytes are no lossless WebP of {tiles} tiles in {columns} columns",
                frame.picture.len()
            ),
        ),
    }
}

/// More bytes than a frame or a piece of one can have.
pub(crate) fn too_large(what: &str) -> Refused {
    Refused::new(Kind::Exhausted, "SCREEN_TOO_LARGE", what)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_frame_of_empty_areas_is_refused_before_it_is_decoded() {
        let area = v1::MaskedArea::default();
        let frame = |areas: usize, picture: usize| {
            let frame = v1::ScreenFrame {
                masked: vec![area; areas],
                picture: vec![7; picture].into(),
                ..v1::ScreenFrame::default()
            };
            check_encoded(&frame.encode_to_vec()).map_err(|refused| refused.code)
        };
        assert_eq!(frame(100, 4 << 20), Ok(()));
        assert_eq!(frame(1 << 20, 0), Err("SCREEN_MALFORMED".to_owned()));
        assert!(check_encoded(&[0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
    }
}
