//! The beginning of an X connection: who we are, and what the screen is like.

use super::pixel::PixelFormat;
use super::wire::{DisplayError, Wire};

/// What is needed of a screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Screen {
    pub(super) root: u32,
    pub(super) depth: u8,
    /// First id that this client may give to something.
    pub(super) first_id: u32,
    pub(super) format: PixelFormat,
}

const COOKIE_NAME: &[u8] = b"MIT-MAGIC-COOKIE-1";

/// Says who we are and reads what the server says of itself.
pub(super) fn set_up(wire: &Wire, cookie: &[u8; 16]) -> Result<Screen, DisplayError> {
    wire.write(&greeting(cookie))?;
    let mut head = [0; 8];
    wire.read(&mut head)?;
    // At most 256 KiB: the length has 16 bits.
    let mut body = vec![0; 4 * usize::from(u16::from_le_bytes([head[6], head[7]]))];
    wire.read(&mut body)?;
    match head[0] {
        1 => screen(&body),
        _ => Err(DisplayError::Refused(reason(
            &body[..body.len().min(usize::from(head[1]))],
        ))),
    }
}

fn greeting(cookie: &[u8; 16]) -> Vec<u8> {
    let mut bytes = vec![b'l', 0, 11, 0, 0, 0];
    bytes.extend_from_slice(&18_u16.to_le_bytes());
    bytes.extend_from_slice(&16_u16.to_le_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(COOKIE_NAME);
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(cookie);
    bytes
}

/// The server is the bot's: what it says is not trusted with a terminal.
fn reason(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars()
        .filter(|char| !char.is_control())
        .take(200)
        .collect()
}

/// A place in the server's words.
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], DisplayError> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(DisplayError::Protocol("the setup is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn screen(body: &[u8]) -> Result<Screen, DisplayError> {
    let mut words = Words(body);
    let fixed = words.take(32)?;
    let (first_id, big_endian) = (u32_at(fixed, 4), fixed[22] != 0);
    let (screens, formats) = (fixed[20], usize::from(fixed[21]));
    words.take(u16_at(fixed, 16).next_multiple_of(4))?;
    let formats = words.take(8 * formats)?;
    if screens == 0 {
        return Err(DisplayError::Protocol("there is no screen"));
    }
    let screen = words.take(40)?;
    let (root, depth, root_visual) = (u32_at(screen, 0), screen[38], u32_at(screen, 32));
    let layout = formats
        .chunks_exact(8)
        .find(|format| format[0] == depth)
        .ok_or(DisplayError::Protocol("the screen's depth has no format"))?;
    let (bits, pad) = (layout[1], layout[2]);
    let masks = masks(&mut words, usize::from(screen[39]), root_visual)?;
    Ok(Screen {
        root,
        depth,
        first_id,
        format: PixelFormat::new(bits, pad, masks, big_endian)?,
    })
}

fn masks(words: &mut Words<'_>, depths: usize, root_visual: u32) -> Result<[u32; 3], DisplayError> {
    for _ in 0..depths {
        let visuals = u16_at(words.take(8)?, 2);
        for visual in words.take(24 * visuals)?.chunks_exact(24) {
            if u32_at(visual, 0) == root_visual {
                return Ok([8, 12, 16].map(|at| u32_at(visual, at)));
            }
        }
    }
    Err(DisplayError::Protocol(
        "the root window's visual is missing",
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_the_server_says_of_itself_never_panics(body in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = screen(&body);
        }
    }
}
