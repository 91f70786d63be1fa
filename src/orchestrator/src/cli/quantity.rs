//! Times, sizes and pairs as people write them.

use std::time::Duration;

use order::{Display, DisplayKind};

use super::arguments::Size;
use crate::clock::Clock;
use crate::core::millis;

fn split(text: &str) -> Result<(u64, &str), String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number = number
        .parse()
        .map_err(|_| format!("{text:?} does not begin with a number"))?;
    Ok((number, unit))
}

/// `500ms`, `2s`, `10m`, `1h`, `7d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("{text:?} needs a unit: ms, s, m, h or d")),
    };
    let length = number
        .checked_mul(factor)
        .ok_or_else(|| format!("{text:?} is too long"))?;
    Ok(Duration::from_millis(length))
}

/// `4096`, `64K`, `512M`, `2G`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let shift = match unit {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        _ => return Err(format!("{text:?} needs a unit: K, M or G")),
    };
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("{text:?} is too large"))
}

/// `1280x800`, `xvnc:1280x800`, `1280x800x16` or `none`.
pub(super) fn display(text: &str) -> Result<Size, String> {
    if text == "none" {
        return Ok(Size(None));
    }
    let (kind, size) = match text.split_once(':') {
        Some(("xvnc", size)) => (DisplayKind::Xvnc, Some(size)),
        Some(("xvfb", size)) => (DisplayKind::Xvfb, Some(size)),
        Some(_) => (DisplayKind::Xvfb, None),
        None => (DisplayKind::Xvfb, Some(text)),
    };
    let numbers: Option<Vec<u32>> =
        size.and_then(|size| size.split('x').map(|part| part.parse().ok()).collect());
    let (width, height, depth) = match numbers.as_deref() {
        Some([width, height]) => (*width, *height, 24),
        Some([width, height, depth]) => (*width, *height, *depth),
        _ => {
            return Err(format!(
                "{text:?} is not [xvfb:|xvnc:]WIDTHxHEIGHT[xDEPTH] or none"
            ));
        }
    };
    Ok(Size(Some(Display {
        kind,
        width,
        height,
        depth,
    })))
}

/// `K=V`; the first `=` divides.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not K=V"))?;
    match name.is_empty() {
        true => Err(format!("{text:?} has no name before =")),
        false => Ok((name.to_owned(), value.to_owned())),
    }
}

/// A point in time: RFC 3339, milliseconds since 1970, or an age.
pub(super) fn since(text: &str) -> Result<u64, String> {
    if let Ok(unix_ms) = text.parse::<u64>() {
        return Ok(unix_ms);
    }
    if let Ok(age) = duration(text) {
        return Ok(Clock.unix_ms().saturating_sub(millis(age)));
    }
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|_| format!("{text:?} is no RFC 3339 time, no number and no age"))?;
    Ok(u64::try_from(time.as_millisecond()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_people_write_them() {
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert!(duration("10").is_err());
        assert!(duration("99999999999999999d").is_err());
        assert_eq!(bytes("512M"), Ok(512 << 20));
        assert!(bytes("M").is_err());
        assert_eq!(display("none"), Ok(Size(None)));
        let size = |kind, depth| {
            Ok(Size(Some(Display {
                kind,
                width: 1280,
                height: 800,
                depth,
            })))
        };
        assert_eq!(display("1280x800"), size(DisplayKind::Xvfb, 24));
        assert_eq!(display("xvnc:1280x800x16"), size(DisplayKind::Xvnc, 16));
        for wrong in ["1280*800", "1280", "xorg:1x1", "1x2x3x4", "axb"] {
            assert!(display(wrong).is_err(), "{wrong}");
        }
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("=x").is_err());
        assert_eq!(since("1700000000000"), Ok(1_700_000_000_000));
        assert_eq!(since("2026-11-21T00:00:00Z"), Ok(1_795_219_200_000));
    }
}
