//! Pictures of the bot's screen, and its live view.
//!
//! The X server belongs to the bot, so it may hang, lie or be a program of the bot's. It is
//! talked to from a thread of its own, which waits for nothing longer than [`PATIENCE`] and
//! believes no length: whatever it does, the bot's output goes on.
//!
//! ```text
//!   orders, requests ─► thread ─► live: what is due
//!                         │
//!                       studio ─► camera (client, memory, damage) ─► veil (windows) ─► frame
//!                         └─────► still: PNG and WebP
//! ```

mod connect;
mod pixel;
mod setup;
mod wire;

mod client;
mod damage;
mod memory;
mod requests;
mod wanted;
mod windows;

mod camera;
mod frame;
mod veil;

mod live;
mod orders;
mod still;
mod studio;
mod thread;
mod webp;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use ::wire::v1::ScreenPause;
use order::{Masks, PictureFormat};
use sys::poll::Event;

pub(crate) use connect::reach_vnc;
pub(crate) use still::Picture;
pub(crate) use wire::DisplayError;

use orders::{Orders, Watch};
use studio::Studio;
use thread::Thread;

/// For one picture, or for one connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pictures that may be asked for at a time: one of each reason.
const MAX_ASKED: usize = 8;

/// Answers that may wait: all pictures, the connection, and two of the live view.
const MAX_ANSWERS: usize = MAX_ASKED + 3;

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
    Taken(Tag, Taken),
    /// A frame of the live view.
    Screen(Screen),
    /// There is none.
    Unseen(DisplayError),
}

/// What became of a picture.
#[derive(Debug)]
pub(crate) enum Taken {
    Picture(Picture),
    /// It would be as the one before, and only a new one was wanted.
    Same,
    /// Nothing is captured now.
    Paused,
    Failed(DisplayError),
}

/// A frame for who looks on.
#[derive(Debug)]
pub(crate) struct Screen {
    /// Whose it is.
    pub(crate) watch: u64,
    /// Sealed, as the doorbell's contract has it.
    pub(crate) memory: OwnedFd,
    /// All of it is painted over: its windows could not be looked through.
    pub(crate) blind: bool,
}

/// A picture that is asked for.
struct Asked<Tag> {
    tag: Tag,
    if_new: bool,
}

/// The display, from the other side of its thread. The thread ends when this is dropped.
pub(crate) struct Display<Tag> {
    asked: SyncSender<Asked<Tag>>,
    seen: Receiver<Seen<Tag>>,
    orders: Arc<Orders>,
    wake: Arc<Event>,
    watches: u64,
}

impl<Tag: Send + 'static> Display<Tag> {
    /// Begins to connect.
    pub(crate) fn open(
        place: Place,
        format: PictureFormat,
        masks: Masks,
        pause: Option<ScreenPause>,
    ) -> std::io::Result<Self> {
        let orders = Arc::new(Orders::new().map_err(std::io::Error::other)?);
        orders.change(|standing| standing.set_pause(pause));
        let wake = Arc::new(Event::new().map_err(std::io::Error::other)?);
        let (asked, requests) = sync_channel(MAX_ASKED);
        let (answers, seen) = sync_channel(MAX_ANSWERS);
        let thread = Thread {
            studio: Studio::new(place, format, masks),
            requests,
            answers,
            orders: Arc::clone(&orders),
            wake: Arc::clone(&wake),
            live: None,
        };
        std::thread::Builder::new()
            .name("display".to_owned())
            .spawn(move || thread.run())?;
        Ok(Self {
            asked,
            seen,
            orders,
            wake,
            watches: 0,
        })
    }

    /// Readable when something was seen.
    pub(crate) fn wake(&self) -> &Event {
        &self.wake
    }

    /// Asks for a picture, or only for one that is not as the last; false when so many are asked
    /// for already that this one is too much.
    pub(crate) fn ask(&self, tag: Tag, if_new: bool) -> bool {
        let asked = self.asked.try_send(Asked { tag, if_new }).is_ok();
        self.orders.ring();
        asked
    }

    /// Somebody looks on, or asks for a whole frame again.
    pub(crate) fn watch(&mut self, most_per_second: u32) {
        self.orders.change(|standing| {
            let watch = standing.watch.get_or_insert_with(|| {
                self.watches += 1;
                Watch {
                    id: self.watches,
                    asked: 0,
                    most_per_second,
                }
            });
            watch.asked += 1;
            watch.most_per_second = most_per_second;
        });
    }

    /// The last frame is passed on.
    pub(crate) fn shown(&self) {
        self.orders.change(|standing| standing.shown += 1);
    }

    /// Nobody looks on.
    pub(crate) fn unwatch(&self) {
        if self.orders.standing().watch.is_some() {
            self.orders.change(|standing| standing.watch = None);
        }
    }

    /// Whether a frame is for who looks on now.
    pub(crate) fn is_for_now(&self, screen: &Screen) -> bool {
        let watch = self.orders.standing().watch;
        watch.is_some_and(|watch| watch.id == screen.watch)
    }

    /// From now on nothing is captured, or it is again. What was captured before may still come.
    pub(crate) fn pause(&self, pause: Option<ScreenPause>) {
        if self.orders.standing().pause != pause {
            self.orders.change(|standing| standing.set_pause(pause));
        }
    }

    /// The next that was seen.
    pub(crate) fn next(&self) -> Option<Seen<Tag>> {
        // A bell that can't be silenced rings again; nothing is missed.
        let _ = self.wake.take();
        self.seen.try_recv().ok()
    }
}

impl<Tag> Drop for Display<Tag> {
    fn drop(&mut self) {
        self.orders.change(|standing| standing.closed = true);
    }
}
