//! The one place where the attendant sleeps.

use std::time::Duration;

use sys::clock::boottime;
use sys::poll::{Error, Watch, wait};

use super::Attendant;
use crate::bot::Interest;
use crate::output::Stream;

/// Something that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Session,
    Stdout,
    Stderr,
    Doorbell,
    Robotd,
    RobotdHasRoom,
    Display,
    Viewer,
    ViewerLeft,
    Bot(Interest),
}

impl Attendant {
    /// Waits until something is ready or a time has come.
    pub(super) fn wait(&self) -> Result<Vec<Source>, Error> {
        let (sources, mut watches): (Vec<Source>, Vec<Watch<'_>>) =
            self.watched().into_iter().unzip();
        wait(&mut watches, self.patience())?;
        let ready = sources
            .into_iter()
            .zip(&watches)
            .filter(|(_, watch)| watch.is_ready());
        Ok(ready.map(|(source, _)| source).collect())
    }

    fn watched(&self) -> Vec<(Source, Watch<'_>)> {
        let mut watched = vec![
            (Source::Session, Watch::readable(&self.session)),
            (Source::Doorbell, Watch::readable(self.doorbell.listener())),
        ];
        if let Some(robotd) = self.doorbell.peer() {
            watched.push((Source::Robotd, Watch::readable(robotd)));
            if self.doorbell.wants_to_write() {
                watched.push((Source::RobotdHasRoom, Watch::writable(robotd)));
            }
        }
        if let Some(display) = self.shots.display() {
            watched.push((Source::Display, Watch::readable(display.wake())));
        }
        if let Some(vnc) = &self.vnc {
            watched.push((Source::Viewer, Watch::readable(vnc.listener())));
            watched.push((Source::ViewerLeft, Watch::readable(vnc.wake())));
        }
        for (source, stream) in [
            (Source::Stdout, &self.stdout),
            (Source::Stderr, &self.stderr),
        ] {
            if self.reads(stream) {
                watched.extend(stream.pipe().map(|pipe| (source, Watch::readable(pipe))));
            }
        }
        for (interest, socket) in self.bot.interests(self.is_closed_to_the_bot()) {
            let watch = match interest {
                Interest::Write(_) => Watch::writable(socket),
                Interest::Accept | Interest::Read(_) => Watch::readable(socket),
            };
            watched.push((Source::Bot(interest), watch));
        }
        watched
    }

    /// Output is read only while there is room for it and all that the bot knows can be masked.
    /// Else it stays in the pipe, and the bot waits.
    pub(super) fn reads(&self, stream: &Stream) -> bool {
        stream.pipe().is_some() && !self.is_closed_to_the_bot() && !self.secrets.is_blind()
    }

    pub(super) fn is_closed_to_the_bot(&self) -> bool {
        self.blocked.is_some() || self.lost
    }

    /// Until the next thing that is done by the clock.
    fn patience(&self) -> Option<Duration> {
        let called = !self.is_closed_to_the_bot() && self.bot.has_call();
        if called || self.artifacts.is_busy() {
            return Some(Duration::ZERO);
        }
        let times = [
            self.blocked,
            self.sync_at,
            self.cut_at,
            self.shots.next_deadline(),
            self.secrets.next_deadline(),
            self.privacy.next_deadline(),
            self.give_up_at,
        ];
        let now = boottime();
        times
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.saturating_sub(now))
    }
}
