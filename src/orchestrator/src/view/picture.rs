//! A picture as an agent encoded it: looked at from outside, never decoded here.

use prost::bytes::Bytes;

/// A lossless WebP of tiles.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) webp: Bytes,
    /// Tiles in a row.
    pub(crate) columns: u32,
}

/// Width and height that a simple lossless WebP has: one VP8L chunk that fills the file. What a
/// browser or a decoder would make of anything else is not its sender's to choose.
pub(super) fn size(webp: &[u8]) -> Option<(u32, u32)> {
    let number = |at: usize| {
        let bytes = webp.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let named = webp.get(0..4)? == b"RIFF" && webp.get(8..16)? == b"WEBPVP8L";
    let (riff, chunk) = (number(4)? as usize, number(16)? as usize);
    // A chunk of odd length is followed by one byte more.
    let filled =
        riff.checked_add(8)? == webp.len() && chunk.checked_add(20 + chunk % 2)? == webp.len();
    if !named || !filled || *webp.get(20)? != 0x2f {
        return None;
    }
    let bits = number(21)?;
    // 14 bits each, less one; then alpha and a version that is zero.
    (bits >> 29 == 0).then_some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The outside of a picture of this size; inside is nothing.
    pub(crate) fn outside(width: u32, height: u32) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WEBPVP8L".to_vec();
        file.extend(8_u32.to_le_bytes());
        file.push(0x2f);
        file.extend(((width - 1) | (height - 1) << 14).to_le_bytes());
        file.extend([0; 3]);
        let length = u32::try_from(file.len() - 8).unwrap();
        file[4..8].copy_from_slice(&length.to_le_bytes());
        file
    }

    #[test]
    fn a_picture_has_the_size_that_its_head_says() {
        assert_eq!(size(&outside(1280, 832)), Some((1280, 832)));
        assert_eq!(size(&outside(1, 16_384)), Some((1, 16_384)));
    }

    #[test]
    fn what_is_no_plain_lossless_webp_has_no_size() {
        let good = outside(64, 64);
        for length in 0..good.len() {
            assert_eq!(size(&good[..length]), None, "{length}");
        }
        assert_eq!(size(&[good.as_slice(), b"more"].concat()), None);
        for at in [0, 8, 12, 15, 20] {
            let mut other = good.clone();
            other[at] ^= 1;
            assert_eq!(size(&other), None, "{at}");
        }
        assert_eq!(size(b"\x89PNG\r\n\x1a\n"), None);
    }
}
