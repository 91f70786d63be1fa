//! The display's thread: stills as they are asked for, frames as they are due, and one place
//! where it sleeps.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use sys::clock::boottime;
use sys::poll::{Event, Watch, wait};

use super::live::{Due, Live};
use super::orders::{Orders, Standing};
use super::studio::{Still, Studio, look_again};
use super::wire::DisplayError;
use super::{Asked, Screen, Seen, Taken};

pub(super) struct Thread<Tag> {
    pub(super) studio: Studio,
    pub(super) requests: Receiver<Asked<Tag>>,
    pub(super) answers: SyncSender<Seen<Tag>>,
    pub(super) orders: Arc<Orders>,
    /// Rung when there is an answer.
    pub(super) wake: Arc<Event>,
    pub(super) live: Option<Live>,
}

/// Nobody listens any more.
struct Over;

impl<Tag> Thread<Tag> {
    /// Until the other side is gone.
    pub(super) fn run(mut self) {
        let connected = self.studio.connect().map(drop);
        if self.answer(Seen::Connected(connected)).is_ok() {
            while self.turn().is_ok() {}
        }
    }

    fn turn(&mut self) -> Result<(), Over> {
        // Before the state is read: what changes afterwards rings again.
        let _ = self.orders.bell().take();
        let standing = self.orders.standing();
        if standing.closed {
            return Err(Over);
        }
        self.obey(&standing);
        if let Ok(asked) = self.requests.try_recv() {
            let taken = self.still(&asked).unwrap_or_else(Taken::Failed);
            return self.answer(Seen::Taken(asked.tag, taken));
        }
        let now = boottime();
        let due = self.live.as_ref().map_or(Due::Nothing, |live| {
            let drawn = self.studio.may_differ_from(live.capture);
            live.due(now, drawn, standing.pause)
        });
        match due {
            Due::Nothing => self.sleep(None),
            Due::At(at) => self.sleep(Some(at.saturating_sub(now))),
            Due::Pause(reason) => self.pause(reason, &standing),
            Due::Frame { whole } => self.frame(whole, &standing),
        }
    }

    fn answer(&self, seen: Seen<Tag>) -> Result<(), Over> {
        self.answers.send(seen).map_err(|_| Over)?;
        self.wake.raise().map_err(|_| Over)
    }

    /// Begins or ends to look.
    fn obey(&mut self, standing: &Standing) {
        match (standing.watch, &mut self.live) {
            (Some(watch), Some(live)) if live.id() == watch.id => live.obey(standing, watch),
            (Some(watch), live) => *live = Some(Live::begin(watch, boottime())),
            (None, Some(_)) => {
                self.live = None;
                self.studio.listen_no_more();
            }
            (None, None) => {}
        }
    }

    fn still(&mut self, asked: &Asked<Tag>) -> Result<Taken, DisplayError> {
        let before = self.orders.standing();
        if before.pause.is_some() {
            return Ok(Taken::Paused);
        }
        let veiled = self.studio.capture(self.live.is_some())?;
        // What came to be seen only after the pause was said may be in this capture.
        if self.orders.standing().pauses != before.pauses {
            return Ok(Taken::Paused);
        }
        Ok(match self.studio.still(veiled, asked.if_new)? {
            Still::Picture(picture) => Taken::Picture(picture),
            Still::Same => Taken::Same,
        })
    }

    fn frame(&mut self, whole: bool, standing: &Standing) -> Result<(), Over> {
        match self.try_frame(whole, standing) {
            Ok(Some(screen)) => self.answer(Seen::Screen(screen)),
            Ok(None) => Ok(()),
            Err(error) => {
                if let Some(live) = &mut self.live {
                    live.failed(boottime());
                }
                self.answer(Seen::Unseen(error))
            }
        }
    }

    fn try_frame(
        &mut self,
        whole: bool,
        standing: &Standing,
    ) -> Result<Option<Screen>, DisplayError> {
        let Some(live) = &mut self.live else {
            return Ok(None);
        };
        let begun = boottime();
        let veiled = self.studio.capture(true)?;
        // As for stills.
        if self.orders.standing().pauses != standing.pauses {
            return Ok(None);
        }
        let (again, blind) = (look_again(&veiled, begun), veiled.blind);
        let whole = whole || self.studio.is_new_since(live.capture);
        let memory = self.studio.screen(live, veiled, whole)?;
        live.captured(begun, boottime(), again);
        Ok(memory.map(|memory| {
            live.sent(begun, self.studio.number(), whole, standing.shown);
            let watch = live.id();
            Screen {
                watch,
                memory,
                blind,
            }
        }))
    }

    fn pause(&mut self, reason: wire::v1::ScreenPause, standing: &Standing) -> Result<(), Over> {
        let Some(live) = &mut self.live else {
            return Ok(());
        };
        let seen = match self.studio.pause(live, reason) {
            Ok(memory) => {
                live.sent_pause(standing.shown);
                Seen::Screen(Screen {
                    watch: live.id(),
                    memory,
                    blind: false,
                })
            }
            Err(error) => {
                live.tells_no_pause();
                Seen::Unseen(error)
            }
        };
        self.answer(seen)
    }

    /// Until it is rung, something is drawn, or the time is over.
    fn sleep(&mut self, most: Option<Duration>) -> Result<(), Over> {
        let mut watches = vec![Watch::readable(self.orders.bell())];
        // While something was drawn already, the server has nothing to say that matters.
        let listens = self.live.is_some();
        let told = self.studio.told();
        if let Some(told) = told.filter(|_| listens) {
            watches.push(Watch::readable(told));
        }
        wait(&mut watches, most).map_err(|_| Over)?;
        let told = watches.get(1).is_some_and(Watch::is_ready);
        if told && let Err(error) = self.studio.hear() {
            if let Some(live) = &mut self.live {
                live.failed(boottime());
            }
            return self.answer(Seen::Unseen(error));
        }
        Ok(())
    }
}
