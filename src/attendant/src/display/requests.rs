//! The requests of a capture.

use std::os::fd::AsFd;

use super::client::{Client, u32_at};
use super::frame::{Band, Shape};
use super::wire::DisplayError;

const GET_GEOMETRY: u8 = 14;
const GRAB_SERVER: u8 = 36;
const UNGRAB_SERVER: u8 = 37;
const GET_IMAGE: u8 = 73;
const QUERY_EXTENSION: u8 = 98;
const SHM_QUERY_VERSION: u8 = 0;
const SHM_DETACH: u8 = 2;
const SHM_GET_IMAGE: u8 = 4;
const SHM_ATTACH_FD: u8 = 6;
const Z_PIXMAP: u8 = 2;

const WRONG_SIZE: DisplayError =
    DisplayError::Protocol("a picture has another size than was asked for");

/// An extension that the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extension {
    pub(super) opcode: u8,
    pub(super) first_event: u8,
}

impl Client {
    /// Width and height of the root window now.
    pub(super) fn size(&mut self) -> Result<(u16, u16), DisplayError> {
        let asked = self.post(&[GET_GEOMETRY, 0], &self.screen().root.to_le_bytes())?;
        let reply = self.reply(asked, 0)?;
        if reply.head[1] != self.screen().depth {
            return Err(DisplayError::Protocol(
                "the root window's depth has changed",
            ));
        }
        Ok((reply.u16(16), reply.u16(18)))
    }

    /// Nobody else's requests are looked at until [`Client::ungrab`]: the picture shows what the
    /// questions before it were answered about.
    pub(super) fn grab(&mut self) -> Result<(), DisplayError> {
        self.post(&[GRAB_SERVER, 0], &[]).map(drop)
    }

    pub(super) fn ungrab(&mut self) -> Result<(), DisplayError> {
        let _ = self.post(&[UNGRAB_SERVER, 0], &[])?;
        self.send_ahead()
    }

    pub(super) fn extension(&mut self, name: &str) -> Result<Option<Extension>, DisplayError> {
        let length = u16::try_from(name.len()).unwrap_or(0).to_le_bytes();
        let mut body = [&length[..], &[0, 0], name.as_bytes()].concat();
        body.resize(body.len().next_multiple_of(4), 0);
        let asked = self.post(&[QUERY_EXTENSION, 0], &body)?;
        let reply = self.reply(asked, 0)?;
        let [present, opcode, first_event] = [8, 9, 10].map(|at| reply.head[at]);
        Ok((present != 0).then_some(Extension {
            opcode,
            first_event,
        }))
    }

    /// The opcode of MIT-SHM, if the server has it in a version that takes descriptors.
    pub(super) fn shared_memory(&mut self) -> Result<Option<u8>, DisplayError> {
        let Some(Extension { opcode, .. }) = self.extension("MIT-SHM")? else {
            return Ok(None);
        };
        let asked = self.post(&[opcode, SHM_QUERY_VERSION], &[])?;
        let version = self.reply(asked, 0)?;
        Ok(((version.u16(8), version.u16(10)) >= (1, 2)).then_some(opcode))
    }

    /// Lets the server write into this memory.
    pub(super) fn attach(
        &mut self,
        opcode: u8,
        segment: u32,
        memory: &impl AsFd,
    ) -> Result<(), DisplayError> {
        let body = [&segment.to_le_bytes()[..], &[0; 4]].concat();
        self.send_with(&[opcode, SHM_ATTACH_FD], &body, memory.as_fd())
    }

    pub(super) fn detach(&mut self, opcode: u8, segment: u32) -> Result<(), DisplayError> {
        self.post(&[opcode, SHM_DETACH], &segment.to_le_bytes())
            .map(drop)
    }

    /// The whole screen into the memory.
    pub(super) fn picture_into(
        &mut self,
        opcode: u8,
        segment: u32,
        shape: &Shape,
    ) -> Result<(), DisplayError> {
        let whole = Band {
            y: 0,
            rows: shape.height,
        };
        let mut body = self.screen().root.to_le_bytes().to_vec();
        body.extend_from_slice(&placed(shape, whole));
        body.extend_from_slice(&u32::MAX.to_le_bytes());
        body.extend_from_slice(&[Z_PIXMAP, 0, 0, 0]);
        body.extend_from_slice(&segment.to_le_bytes());
        body.extend_from_slice(&0_u32.to_le_bytes());
        let asked = self.post(&[opcode, SHM_GET_IMAGE], &body)?;
        let reply = self.reply(asked, 0)?;
        let bytes = whole.bytes(shape).len();
        if reply.head[1] == self.screen().depth && reply.u32(12) as usize == bytes {
            Ok(())
        } else {
            Err(WRONG_SIZE)
        }
    }

    /// A band over the socket.
    pub(super) fn picture(
        &mut self,
        shape: &Shape,
        band: Band,
        pixels: &mut [u8],
    ) -> Result<(), DisplayError> {
        let mut body = self.screen().root.to_le_bytes().to_vec();
        body.extend_from_slice(&placed(shape, band));
        body.extend_from_slice(&u32::MAX.to_le_bytes());
        let asked = self.post(&[GET_IMAGE, Z_PIXMAP], &body)?;
        let head = self.head(asked)?;
        // The reply's end is rounded up to four bytes.
        let sent = 4 * u64::from(u32_at(&head, 4));
        if head[1] != self.screen().depth || sent != pixels.len().next_multiple_of(4) as u64 {
            return Err(WRONG_SIZE);
        }
        self.wire.read(pixels)?;
        let left = pixels.len().next_multiple_of(4) - pixels.len();
        self.wire.read(&mut [0; 4][..left])
    }
}

/// The screen's size came in 16 bits each.
fn placed(shape: &Shape, band: Band) -> Vec<u8> {
    [0, band.y, shape.width, band.rows]
        .iter()
        .flat_map(|number| u16::try_from(*number).unwrap_or(0).to_le_bytes())
        .collect()
}
