//! The few requests that a picture needs.

use std::os::fd::{AsFd, OwnedFd};

use super::setup::Screen;
use super::wire::{DisplayError, Wire};

const QUERY_EXTENSION: u8 = 98;
const GET_GEOMETRY: u8 = 14;
const GET_IMAGE: u8 = 73;
const SHM_QUERY_VERSION: u8 = 0;
const SHM_DETACH: u8 = 2;
const SHM_GET_IMAGE: u8 = 4;
const SHM_ATTACH_FD: u8 = 6;
const Z_PIXMAP: u8 = 2;

/// Events that we did not ask for (the keyboard's map changed) and that may stand between us and
/// a reply. A server that sends more is up to something.
const MAX_EVENTS: usize = 10_000;

/// Where on the screen, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) y: u16,
    pub(super) width: u16,
    pub(super) height: u16,
}

impl Area {
    pub(super) fn bytes(self) -> usize {
        4 * usize::from(self.width) * usize::from(self.height)
    }
}

/// A client of one server.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) wire: Wire,
    screen: Screen,
    sent: u16,
}

impl Client {
    pub(super) fn new(wire: Wire, screen: Screen) -> Self {
        Self {
            wire,
            screen,
            sent: 0,
        }
    }

    pub(super) fn screen(&self) -> Screen {
        self.screen
    }

    /// Width and height of the root window now.
    pub(super) fn size(&mut self) -> Result<(u16, u16), DisplayError> {
        let reply = self.ask(&[GET_GEOMETRY, 0], &self.screen.root.to_le_bytes())?;
        if reply[1] != self.screen.depth {
            return Err(DisplayError::Protocol(
                "the root window's depth has changed",
            ));
        }
        Ok((u16_at(&reply, 16), u16_at(&reply, 18)))
    }

    /// The opcode of MIT-SHM, if the server has it in a version that takes descriptors.
    pub(super) fn shared_memory(&mut self) -> Result<Option<u8>, DisplayError> {
        const NAME: &[u8; 8] = b"MIT-SHM\0";
        let reply = self.ask(&[QUERY_EXTENSION, 0], &[&[7, 0, 0, 0], &NAME[..]].concat())?;
        let (present, opcode) = (reply[8], reply[9]);
        if present == 0 {
            return Ok(None);
        }
        let version = self.ask(&[opcode, SHM_QUERY_VERSION], &[])?;
        Ok(((u16_at(&version, 8), u16_at(&version, 10)) >= (1, 2)).then_some(opcode))
    }

    /// Lets the server write into this memory.
    pub(super) fn attach(
        &mut self,
        opcode: u8,
        segment: u32,
        memory: &OwnedFd,
    ) -> Result<(), DisplayError> {
        let body = [&segment.to_le_bytes()[..], &[0; 4]].concat();
        let request = request(&[opcode, SHM_ATTACH_FD], &body);
        self.sent = self.sent.wrapping_add(1);
        self.wire.write_with(&request, Some(memory.as_fd()))
    }

    pub(super) fn detach(&mut self, opcode: u8, segment: u32) -> Result<(), DisplayError> {
        let request = request(&[opcode, SHM_DETACH], &segment.to_le_bytes());
        self.sent = self.sent.wrapping_add(1);
        self.wire.write(&request)
    }

    /// The area into the memory.
    pub(super) fn picture_into(
        &mut self,
        opcode: u8,
        segment: u32,
        area: Area,
    ) -> Result<(), DisplayError> {
        let mut body = self.screen.root.to_le_bytes().to_vec();
        body.extend_from_slice(&placed(area));
        body.extend_from_slice(&u32::MAX.to_le_bytes());
        body.extend_from_slice(&[Z_PIXMAP, 0, 0, 0]);
        body.extend_from_slice(&segment.to_le_bytes());
        body.extend_from_slice(&0_u32.to_le_bytes());
        let reply = self.ask(&[opcode, SHM_GET_IMAGE], &body)?;
        if reply[1] == self.screen.depth && u32_at(&reply, 12) as usize == area.bytes() {
            Ok(())
        } else {
            Err(DisplayError::Protocol(
                "a picture has another size than was asked for",
            ))
        }
    }

    /// The area over the socket.
    pub(super) fn picture(&mut self, area: Area, pixels: &mut [u8]) -> Result<(), DisplayError> {
        let mut body = self.screen.root.to_le_bytes().to_vec();
        body.extend_from_slice(&placed(area));
        body.extend_from_slice(&u32::MAX.to_le_bytes());
        self.send(&[GET_IMAGE, Z_PIXMAP], &body)?;
        let reply = self.reply()?;
        if reply[1] != self.screen.depth || 4 * u64::from(u32_at(&reply, 4)) != pixels.len() as u64
        {
            return Err(DisplayError::Protocol(
                "a picture has another size than was asked for",
            ));
        }
        self.wire.read(pixels)
    }

    /// A request whose reply has nothing behind its 32 bytes.
    fn ask(&mut self, head: &[u8; 2], body: &[u8]) -> Result<[u8; 32], DisplayError> {
        self.send(head, body)?;
        let reply = self.reply()?;
        if u32_at(&reply, 4) == 0 {
            Ok(reply)
        } else {
            Err(DisplayError::Protocol("a reply is longer than it may be"))
        }
    }

    fn send(&mut self, head: &[u8; 2], body: &[u8]) -> Result<(), DisplayError> {
        self.sent = self.sent.wrapping_add(1);
        self.wire.write(&request(head, body))
    }

    fn reply(&mut self) -> Result<[u8; 32], DisplayError> {
        const GENERIC_EVENT: u8 = 35;
        for _ in 0..MAX_EVENTS {
            let mut packet = [0; 32];
            self.wire.read(&mut packet)?;
            match packet[0] {
                0 if u16_at(&packet, 2) == self.sent => {
                    return Err(DisplayError::Request(packet[1]));
                }
                1 if u16_at(&packet, 2) == self.sent => return Ok(packet),
                1 => return Err(DisplayError::Protocol("a reply to nothing that was asked")),
                kind if kind & 0x7f == GENERIC_EVENT => {
                    return Err(DisplayError::Protocol("an event of no kind"));
                }
                // An event, or the error of an earlier request that had no reply: what builds on it
                // fails as well.
                _ => {}
            }
        }
        Err(DisplayError::Protocol("events without an end"))
    }
}

fn request(head: &[u8; 2], body: &[u8]) -> Vec<u8> {
    let words = u16::try_from(1 + body.len() / 4).unwrap_or(u16::MAX);
    [&head[..], &words.to_le_bytes(), body].concat()
}

fn placed(area: Area) -> Vec<u8> {
    [0, area.y, area.width, area.height]
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

fn u16_at(bytes: &[u8; 32], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8; 32], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
