//! The conversation with the server: requests, replies and events. Requests may be sent ahead: their replies are then taken in their order.

use std::os::fd::BorrowedFd;

use super::setup::Screen;
use super::wire::{DisplayError, Wire};

/// Events that we did not ask for (the keyboard's map changed) and that may stand between us and
/// a reply. A server that sends more is up to something.
const MAX_EVENTS: usize = 10_000;

/// Requests are sent when so many bytes of them have come together.
const AHEAD: usize = 16 * 1024;

/// A request that will be replied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) struct Asked(u16);

/// A reply's 32 bytes, and what is behind them.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) head: [u8; 32],
    pub(super) rest: Vec<u8>,
}

impl Reply {
    pub(super) fn u16(&self, at: usize) -> u16 {
        u16_at(&self.head, at)
    }

    pub(super) fn u32(&self, at: usize) -> u32 {
        u32_at(&self.head, at)
    }
}

/// A client of one server.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) wire: Wire,
    screen: Screen,
    sent: u16,
    next_id: u32,
    /// Requests that are not sent yet.
    ahead: Vec<u8>,
    /// The event that says that something was drawn, and the request from which on it counts.
    damage: Option<(u8, Asked)>,
    damaged: bool,
}

impl Client {
    pub(super) fn new(wire: Wire, screen: Screen) -> Self {
        Self {
            wire,
            screen,
            sent: 0,
            next_id: screen.first_id,
            ahead: Vec::new(),
            damage: None,
            damaged: false,
        }
    }

    pub(super) fn screen(&self) -> Screen {
        self.screen
    }

    /// An id for something of ours.
    pub(super) fn new_id(&mut self) -> u32 {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        id
    }

    /// A request; it is sent with the next reply that is waited for.
    pub(super) fn post(&mut self, head: &[u8; 2], body: &[u8]) -> Result<Asked, DisplayError> {
        self.sent = self.sent.wrapping_add(1);
        self.ahead.extend_from_slice(&request(head, body));
        if self.ahead.len() >= AHEAD {
            self.send_ahead()?;
        }
        Ok(Asked(self.sent))
    }

    /// A request without a reply that a descriptor belongs to.
    pub(super) fn send_with(
        &mut self,
        head: &[u8; 2],
        body: &[u8],
        fd: BorrowedFd<'_>,
    ) -> Result<(), DisplayError> {
        self.send_ahead()?;
        self.sent = self.sent.wrapping_add(1);
        self.wire.write_with(&request(head, body), Some(fd))
    }

    pub(super) fn send_ahead(&mut self) -> Result<(), DisplayError> {
        self.wire.write(&self.ahead)?;
        self.ahead.clear();
        Ok(())
    }

    /// A reply with at most so many bytes behind its 32.
    pub(super) fn reply(&mut self, asked: Asked, most: usize) -> Result<Reply, DisplayError> {
        let head = self.head(asked)?;
        let length = 4 * u64::from(u32_at(&head, 4));
        if length > most as u64 {
            return Err(DisplayError::Protocol("a reply is longer than it may be"));
        }
        let mut rest = vec![0; usize::try_from(length).unwrap_or(0)];
        self.wire.read(&mut rest)?;
        Ok(Reply { head, rest })
    }

    /// The 32 bytes of a reply; what is behind them is to be read.
    pub(super) fn head(&mut self, asked: Asked) -> Result<[u8; 32], DisplayError> {
        self.send_ahead()?;
        for _ in 0..MAX_EVENTS {
            let mut packet = [0; 32];
            self.wire.read(&mut packet)?;
            match packet[0] {
                0 if u16_at(&packet, 2) == asked.0 => {
                    return Err(DisplayError::Request(packet[1]));
                }
                1 if u16_at(&packet, 2) == asked.0 => return Ok(packet),
                1 => return Err(DisplayError::Protocol("a reply to nothing that was asked")),
                _ => self.event(&packet)?,
            }
        }
        Err(ENDLESS)
    }

    /// Reads the events that are there now.
    pub(super) fn events(&mut self) -> Result<(), DisplayError> {
        for _ in 0..MAX_EVENTS {
            if !self.wire.has_something()? {
                return Ok(());
            }
            let mut packet = [0; 32];
            self.wire.read(&mut packet)?;
            if packet[0] == 1 {
                return Err(DisplayError::Protocol("a reply to nothing that was asked"));
            }
            self.event(&packet)?;
        }
        Err(ENDLESS)
    }

    /// An event, or the error of an earlier request that had no reply: what builds on that fails
    /// as well.
    fn event(&mut self, packet: &[u8; 32]) -> Result<(), DisplayError> {
        const GENERIC_EVENT: u8 = 35;
        let kind = packet[0] & 0x7f;
        if kind == GENERIC_EVENT {
            return Err(DisplayError::Protocol("an event of no kind"));
        }
        if let Some((event, Asked(since))) = self.damage {
            // Numbers wrap around.
            let age = u16_at(packet, 2).wrapping_sub(since);
            self.damaged |= kind == event && age <= u16::MAX / 2;
        }
        Ok(())
    }

    /// This event says that something was drawn; those before this request have been heeded.
    pub(super) fn heed(&mut self, event: u8, since: Asked) {
        (self.damage, self.damaged) = (Some((event, since)), false);
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.damaged
    }
}

const ENDLESS: DisplayError = DisplayError::Protocol("events without an end");

fn request(head: &[u8; 2], body: &[u8]) -> Vec<u8> {
    let words = u16::try_from(1 + body.len() / 4).unwrap_or(u16::MAX);
    [&head[..], &words.to_le_bytes(), body].concat()
}

fn u16_at(bytes: &[u8; 32], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8; 32], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
