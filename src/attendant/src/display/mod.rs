//! Pictures of the bot's screen.
//!
//! The X server belongs to the bot, so it may hang, lie or be a program of the bot's. It is
//! talked to from a thread of its own, which waits for nothing longer than [`PATIENCE`] and
//! believes no length: whatever it does, the bot's output goes on.

mod client;
mod connect;
mod picture;
mod setup;
mod wire;

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use sys::clock::boottime;
use sys::poll::Event;

pub(crate) use picture::Picture;
pub(crate) use wire::DisplayError;

use client::Client;
use connect::reach;
use picture::Camera;
use setup::set_up;
use wire::Wire;

/// For one picture, or for one connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pictures that may be asked for at a time: one of each reason.
const MAX_ASKED: usize = 8;

/// Where the display is and how to be let in.
#[derive(Debug)]
pub(crate) struct Place {
    /// Directory of the display's socket.
    pub(crate) folder: OwnedFd,
    /// Its number.
    pub(crate) number: u32,
    /// MIT-MAGIC-COOKIE-1.
    pub(crate) cookie: [u8; 16],
}

/// What the display's thread brings.
#[derive(Debug)]
pub(crate) enum Seen<Tag> {
    /// First of all: whether it could be connected to.
    Connected(Result<(), DisplayError>),
    /// A picture that was asked for.
    Taken(Tag, Result<Picture, DisplayError>),
}

/// The display, from the other side of its thread.
#[derive(Debug)]
pub(crate) struct Display<Tag> {
    asked: SyncSender<Tag>,
    seen: Receiver<Seen<Tag>>,
    wake: std::sync::Arc<Event>,
}

impl<Tag: Send + 'static> Display<Tag> {
    /// Begins to connect.
    pub(crate) fn open(place: Place) -> std::io::Result<Self> {
        let wake = std::sync::Arc::new(Event::new().map_err(std::io::Error::other)?);
        let (asked, requests) = sync_channel(MAX_ASKED);
        let (answers, seen) = sync_channel(MAX_ASKED + 1);
        let bell = std::sync::Arc::clone(&wake);
        std::thread::Builder::new()
            .name("display".to_owned())
            .spawn(move || serve(&place, &requests, &answers, &bell))?;
        Ok(Self { asked, seen, wake })
    }

    /// Readable when something was seen.
    pub(crate) fn wake(&self) -> &Event {
        &self.wake
    }

    /// Asks for a picture; false when so many are asked for already that this one is too much.
    pub(crate) fn ask(&self, tag: Tag) -> bool {
        self.asked.try_send(tag).is_ok()
    }

    /// The next that was seen.
    pub(crate) fn next(&self) -> Option<Seen<Tag>> {
        // A bell that can't be silenced rings again; nothing is missed.
        let _ = self.wake.take();
        self.seen.try_recv().ok()
    }
}

/// The thread: ends when nobody asks any more.
fn serve<Tag>(
    place: &Place,
    requests: &Receiver<Tag>,
    answers: &SyncSender<Seen<Tag>>,
    bell: &Event,
) {
    let answer = |seen| answers.send(seen).is_ok() && bell.raise().is_ok();
    let (mut camera, outcome) = match connect_to(place) {
        Ok(camera) => (Some(camera), Ok(())),
        Err(error) => (None, Err(error)),
    };
    if !answer(Seen::Connected(outcome)) {
        return;
    }
    while let Ok(tag) = requests.recv() {
        let picture = take(place, &mut camera);
        if !answer(Seen::Taken(tag, picture)) {
            return;
        }
    }
}

/// After a failure the connection may be in the middle of a reply: the next picture takes a new one.
fn take(place: &Place, camera: &mut Option<Camera>) -> Result<Picture, DisplayError> {
    let mut connected = match camera.take() {
        Some(connected) => connected,
        None => connect_to(place)?,
    };
    let picture = connected.take(boottime() + PATIENCE)?;
    *camera = Some(connected);
    Ok(picture)
}

fn connect_to(place: &Place) -> Result<Camera, DisplayError> {
    let deadline = boottime() + PATIENCE;
    let wire = Wire::new(reach(&place.folder, place.number, deadline)?, deadline);
    let screen = set_up(&wire, &place.cookie)?;
    Camera::new(Client::new(wire, screen))
}
