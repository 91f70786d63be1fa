//! A connection that captures the screen into a frame.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::client::Client;
use super::damage::Damage;
use super::frame::{Band, Buffer, Frame, Shape, resize};
use super::memory::Memory;
use super::veil::{Veil, Veiled};
use super::wire::DisplayError;

/// The largest screen of an order, of any shape; a server that says more wants our memory.
const LARGEST: (u16, u16) = (7680, 4320);

/// A connection and how it captures.
#[derive(Debug)]
pub(super) struct Camera {
    client: Client,
    /// Opcode of MIT-SHM, where it works.
    shared: Option<u8>,
    memory: Option<Memory>,
    damage: Option<Damage>,
    /// One row of tiles as the server says it is, before it is painted over.
    band: Buffer,
}

impl Camera {
    pub(super) fn new(mut client: Client) -> Result<Self, DisplayError> {
        let shared = client.shared_memory()?;
        Ok(Self {
            client,
            shared,
            memory: None,
            damage: None,
            band: Buffer::default(),
        })
    }

    /// Brings the frame up to date; it becomes a new one when the screen has another size.
    pub(super) fn capture(
        &mut self,
        frame: &mut Option<Frame>,
        veil: &mut Veil,
        now: Duration,
    ) -> Result<Veiled, DisplayError> {
        if veil.looks_for_windows() {
            self.client.grab()?;
        }
        let shape = self.shape()?;
        let frame = match frame {
            Some(frame) if frame.shape() == shape => frame,
            other => {
                let number = other.take().map_or(0, |old| old.number());
                other.insert(Frame::new(shape, number))
            }
        };
        let veiled = veil.draw(&mut self.client, &shape, now)?;
        if let Some(damage) = &self.damage {
            damage.subtract(&mut self.client)?;
        }
        let shared = self.fill_shared(&shape)?;
        if shared && veil.looks_for_windows() {
            self.client.ungrab()?;
        }
        frame.begin();
        for band in shape.bands() {
            self.read(&shape, band, shared)?;
            band.paint(&shape, &mut self.band, &veiled.rects);
            frame.update(band, &self.band);
        }
        if !shared && veil.looks_for_windows() {
            self.client.ungrab()?;
        }
        Ok(veiled)
    }

    fn shape(&mut self) -> Result<Shape, DisplayError> {
        let (width, height) = self.client.size()?;
        let (widest, highest) = LARGEST;
        if width == 0 || height == 0 || width > widest || height > highest {
            return Err(DisplayError::Unsupported(format!(
                "it says that it has {width}x{height} pixels"
            )));
        }
        Ok(Shape {
            width: width.into(),
            height: height.into(),
            format: self.client.screen().format,
        })
    }

    /// Has the server write the screen into shared memory; false where it has to be read.
    fn fill_shared(&mut self, shape: &Shape) -> Result<bool, DisplayError> {
        let Some(opcode) = self.shared else {
            return Ok(false);
        };
        match self.write_shared(opcode, shape) {
            Ok(()) => Ok(true),
            // It says that it has it and can't: over the socket from now on.
            Err(DisplayError::Request(_)) => {
                self.shared = None;
                self.memory = None;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn write_shared(&mut self, opcode: u8, shape: &Shape) -> Result<(), DisplayError> {
        let memory = match self.memory.take() {
            Some(memory) if memory.fits(shape) => memory,
            other => {
                if let Some(old) = other {
                    old.detach(&mut self.client)?;
                }
                Memory::attach(&mut self.client, opcode, shape)?
            }
        };
        let filled = memory.fill(&mut self.client, shape);
        self.memory = Some(memory);
        filled
    }

    fn read(&mut self, shape: &Shape, band: Band, shared: bool) -> Result<(), DisplayError> {
        resize(&mut self.band, band.bytes(shape).len());
        match &self.memory {
            Some(memory) if shared => {
                memory.read(shape, band, &mut self.band);
                Ok(())
            }
            _ => self.client.picture(shape, band, &mut self.band),
        }
    }

    /// All that is done until the next call has to be done by then (boot clock).
    pub(super) fn set_deadline(&mut self, deadline: Duration) {
        self.client.wire.set_deadline(deadline);
    }

    /// Is told from now on when something is drawn, if the server can tell.
    pub(super) fn listen(&mut self) -> Result<(), DisplayError> {
        if self.damage.is_none() {
            self.damage = Damage::begin(&mut self.client)?;
        }
        Ok(())
    }

    pub(super) fn listen_no_more(&mut self) -> Result<(), DisplayError> {
        match self.damage.take() {
            Some(damage) => damage.end(&mut self.client),
            None => Ok(()),
        }
    }

    /// Whether something was drawn since the last capture, as far as one can know.
    pub(super) fn may_have_changed(&self) -> bool {
        self.damage.is_none() || self.client.is_damaged()
    }

    /// Readable when the server has something to tell.
    pub(super) fn socket(&self) -> &OwnedFd {
        self.client.wire.socket()
    }

    /// Takes what it tells.
    pub(super) fn hear(&mut self) -> Result<(), DisplayError> {
        self.client.events()
    }
}
