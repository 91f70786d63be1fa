//! Captures, and what is made of them: stills and frames of the live view.

use std::os::fd::OwnedFd;
use std::time::Duration;

use order::{Masks, PictureFormat};
use privsep::doorbell::MAX_SCREEN;
use prost::Message;
use sys::clock::{boottime, unix_ms};
use wire::v1::{ScreenFrame, ScreenPause};

use super::camera::Camera;
use super::client::Client;
use super::connect::reach;
use super::frame::{Buffer, Frame, TILE};
use super::live::Live;
use super::setup::set_up;
use super::still::{self, Picture, pixels};
use super::veil::{LINGER, Veil, Veiled};
use super::webp::LONGEST_EDGE;
use super::wire::{DisplayError, Wire};
use super::{PATIENCE, Place};

/// Most tiles side by side.
const MOST_COLUMNS: usize = LONGEST_EDGE / TILE;

/// All that belongs to one display.
pub(super) struct Studio {
    place: Place,
    format: PictureFormat,
    veil: Veil,
    camera: Option<Camera>,
    frame: Option<Frame>,
    colours: Buffer,
    /// The last still and its capture.
    still: Option<(u64, Vec<u8>)>,
}

/// What became of a still.
pub(super) enum Still {
    Picture(Picture),
    /// It is as the one before.
    Same,
}

impl Studio {
    pub(super) fn new(place: Place, format: PictureFormat, masks: Masks) -> Self {
        Self {
            place,
            format,
            veil: Veil::new(masks),
            camera: None,
            frame: None,
            colours: Buffer::default(),
            still: None,
        }
    }

    pub(super) fn connect(&mut self) -> Result<&mut Camera, DisplayError> {
        let deadline = boottime() + PATIENCE;
        let camera = match self.camera.take() {
            Some(camera) => camera,
            None => {
                let socket = reach(&self.place.folder, self.place.number, deadline)?;
                let wire = Wire::new(socket, deadline);
                let screen = set_up(&wire, &self.place.cookie)?;
                Camera::new(Client::new(wire, screen))?
            }
        };
        let camera = self.camera.insert(camera);
        camera.set_deadline(deadline);
        Ok(camera)
    }

    /// Nobody has to be told of changes any more.
    pub(super) fn listen_no_more(&mut self) {
        let Some(camera) = &mut self.camera else {
            return;
        };
        camera.set_deadline(boottime() + PATIENCE);
        if camera.listen_no_more().is_err() {
            self.disconnect();
        }
    }

    /// After a failure the connection may be in the middle of a reply: the next capture takes a
    /// new one.
    fn disconnect(&mut self) {
        self.camera = None;
    }

    /// Whether something is to be seen, or may be, that this capture did not show.
    pub(super) fn may_differ_from(&self, capture: u64) -> bool {
        let camera = self.camera.as_ref();
        let frame = self.frame.as_ref();
        camera.is_none_or(Camera::may_have_changed)
            || frame.is_none_or(|frame| frame.has_changed_since(capture))
    }

    /// Readable when the server tells something, if it is to tell that something was drawn.
    pub(super) fn told(&self) -> Option<&OwnedFd> {
        let camera = self.camera.as_ref()?;
        (!camera.may_have_changed()).then(|| camera.socket())
    }

    /// Takes what it tells.
    pub(super) fn hear(&mut self) -> Result<(), DisplayError> {
        let Some(camera) = &mut self.camera else {
            return Ok(());
        };
        camera.set_deadline(boottime() + PATIENCE);
        let heard = camera.hear();
        if heard.is_err() {
            self.disconnect();
        }
        heard
    }

    /// Brings the frame up to date. With `listens` the camera is told of changes from now on.
    pub(super) fn capture(&mut self, listens: bool) -> Result<Veiled, DisplayError> {
        let outcome = self.try_capture(listens);
        if outcome.is_err() {
            self.disconnect();
        }
        outcome
    }

    fn try_capture(&mut self, listens: bool) -> Result<Veiled, DisplayError> {
        self.connect()?;
        let Some(camera) = &mut self.camera else {
            return Err(DisplayError::Closed);
        };
        if listens {
            camera.listen()?;
        }
        camera.capture(&mut self.frame, &mut self.veil, boottime())
    }

    /// A picture of the frame; with `if_new` only when it is not as the one before.
    pub(super) fn still(&mut self, veiled: Veiled, if_new: bool) -> Result<Still, DisplayError> {
        let Some(frame) = &self.frame else {
            return Err(DisplayError::Closed);
        };
        let number = frame.number();
        let before = self.still.take();
        if if_new
            && before
                .as_ref()
                .is_some_and(|own| !frame.has_changed_since(own.0))
        {
            self.still = before;
            return Ok(Still::Same);
        }
        let bytes = still::encode(frame, self.format, &mut self.colours)?;
        // Tiles that changed and changed back are seen here.
        let same = before.is_some_and(|(_, before)| before == bytes);
        self.still = Some((number, bytes.clone()));
        if if_new && same {
            return Ok(Still::Same);
        }
        let shape = frame.shape();
        Ok(Still::Picture(Picture {
            width: pixels(shape.width),
            height: pixels(shape.height),
            format: self.format,
            bytes,
            masked: veiled.masked,
            blind: veiled.blind,
        }))
    }

    /// A frame for who looks on, in a sealed memory file: all tiles or those that changed since
    /// the last; none when there are none.
    pub(super) fn screen(
        &mut self,
        live: &Live,
        veiled: Veiled,
        whole: bool,
    ) -> Result<Option<OwnedFd>, DisplayError> {
        let Some(frame) = &self.frame else {
            return Err(DisplayError::Closed);
        };
        let shape = frame.shape();
        let tiles = frame.changed_since(if whole { 0 } else { live.capture });
        if tiles.is_empty() {
            return Ok(None);
        }
        let columns = tiles.len().min(shape.columns()).min(MOST_COLUMNS);
        let picture = still::tiles(frame, &tiles, columns)?;
        let screen = ScreenFrame {
            number: live.number + 1,
            time_unix_nano: unix_nano(),
            width: pixels(shape.width),
            height: pixels(shape.height),
            keyframe: whole,
            tiles,
            picture: picture.into(),
            columns: pixels(columns),
            masked: veiled.masked,
            pause: ScreenPause::Unspecified.into(),
        };
        sealed(&screen).map(Some)
    }

    /// The frame that says that there are none for now.
    pub(super) fn pause(&self, live: &Live, reason: ScreenPause) -> Result<OwnedFd, DisplayError> {
        let shape = self.frame.as_ref().map(Frame::shape);
        sealed(&ScreenFrame {
            number: live.number + 1,
            time_unix_nano: unix_nano(),
            width: shape.map_or(0, |shape| pixels(shape.width)),
            height: shape.map_or(0, |shape| pixels(shape.height)),
            pause: reason.into(),
            ..ScreenFrame::default()
        })
    }

    /// Of the capture that the frame holds.
    pub(super) fn number(&self) -> u64 {
        self.frame.as_ref().map_or(0, Frame::number)
    }

    /// Whether this capture can't be added to: it had another size, or was none at all.
    pub(super) fn is_new_since(&self, capture: u64) -> bool {
        self.frame
            .as_ref()
            .is_none_or(|frame| frame.is_new_since(capture))
    }
}

fn unix_nano() -> u64 {
    unix_ms().saturating_mul(1_000_000)
}

/// When the screen will look different without anything being drawn.
pub(super) fn look_again(veiled: &Veiled, now: Duration) -> Option<Duration> {
    veiled.lingers.then_some(now + LINGER)
}

fn sealed(screen: &ScreenFrame) -> Result<OwnedFd, DisplayError> {
    let bytes = screen.encode_to_vec();
    if bytes.len() > MAX_SCREEN {
        let what = format!("a frame has {} bytes, more than may be sent", bytes.len());
        return Err(DisplayError::Unsupported(what));
    }
    sys::memfd::sealed(c"screen", &bytes).map_err(|error| std::io::Error::other(error).into())
}
