//! When pictures are taken, and who waits for one.

use std::time::Duration;

use privsep::session::Screenshots;
use wire::v1::{ScreenPause, ScreenshotReason};

use crate::display::{Display, Place, Screen};

/// Pictures at an interval wait for room when so many bytes are not delivered yet: a robotd that
/// is away for a day must not find the disk full of pictures.
const MOST_WAITING: u64 = 256 << 20;

/// Why a picture is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shot {
    Start,
    Interval,
    /// The session waits for it.
    Failure,
    /// robotd asked.
    Request,
    /// The bot asked, over this connection.
    Bot(u64),
}

impl Shot {
    pub(crate) fn reason(self) -> ScreenshotReason {
        match self {
            Self::Start => ScreenshotReason::Start,
            Self::Interval => ScreenshotReason::Interval,
            Self::Failure => ScreenshotReason::Failure,
            Self::Request | Self::Bot(_) => ScreenshotReason::Request,
        }
    }
}

/// The display and its timetable.
pub(crate) struct Shots {
    when: Screenshots,
    display: Option<Display<Shot>>,
    connected: bool,
    next: Option<Duration>,
    /// The last picture at an interval is not taken yet: a slow display gets no second one.
    pending: bool,
    /// The last one failed, and that was said.
    failing: bool,
    /// So did the last frame for who looks on.
    unseen: bool,
    /// The last capture could not be looked through for windows, and that was said.
    blind: bool,
    /// Somebody looks on, and how often a second something new may come.
    watched: Option<u32>,
}

impl Shots {
    pub(crate) fn new(when: Screenshots) -> Self {
        Self {
            when,
            display: None,
            connected: false,
            next: None,
            pending: false,
            failing: false,
            unseen: false,
            blind: false,
            watched: None,
        }
    }

    pub(crate) fn open(&mut self, place: Place, pause: Option<ScreenPause>) -> std::io::Result<()> {
        let mut display = Display::open(place, self.when.format, self.when.masks.clone(), pause)?;
        if let Some(most_per_second) = self.watched {
            display.watch(most_per_second);
        }
        self.display = Some(display);
        Ok(())
    }

    pub(crate) fn display(&self) -> Option<&Display<Shot>> {
        self.display.as_ref()
    }

    /// The display answers. True when a picture of the start was asked for: a bot that ends at
    /// once would take the display along before it is taken, so the session waits for it.
    pub(crate) fn connected(&mut self) -> bool {
        self.connected = true;
        self.when.on_start && self.ask(Shot::Start)
    }

    /// The bot runs: from now on pictures are taken at the interval.
    pub(crate) fn running(&mut self, now: Duration) {
        self.next = self.interval().map(|interval| now + interval);
    }

    /// Asks for a picture; false when there is nothing to take one of.
    pub(crate) fn ask(&mut self, shot: Shot) -> bool {
        let asked = self.connected
            && self
                .display
                .as_ref()
                // After a failure the last one may be nowhere: then also the same again.
                .is_some_and(|display| display.ask(shot, shot == Shot::Interval && !self.failing));
        self.pending |= asked && shot == Shot::Interval;
        asked
    }

    /// One came back. True when it is the first of a row that failed: each one of a display
    /// that is gone would fill the journal.
    pub(crate) fn done(&mut self, shot: Shot, failed: bool) -> bool {
        self.pending &= shot != Shot::Interval;
        let first = failed && !self.failing;
        self.failing = failed;
        first
    }

    /// Somebody looks on, when the order allows that; also before there is a display.
    pub(crate) fn watch(&mut self, most_per_second: u32) {
        if !self.when.live_view {
            return;
        }
        self.watched = Some(most_per_second);
        if let Some(display) = &mut self.display {
            display.watch(most_per_second);
        }
    }

    pub(crate) fn shown(&self) {
        self.display.iter().for_each(Display::shown);
    }

    pub(crate) fn unwatch(&mut self) {
        if self.watched.take().is_some() {
            self.display.iter().for_each(Display::unwatch);
        }
    }

    pub(crate) fn is_for_now(&mut self, screen: &Screen) -> bool {
        self.unseen = false;
        let display = self.display.as_ref();
        display.is_some_and(|display| display.is_for_now(screen))
    }

    /// There was no frame. True when it is the first of a row.
    pub(crate) fn unseen(&mut self) -> bool {
        !std::mem::replace(&mut self.unseen, true)
    }

    /// Whether this capture is the first of a row that is masked as a whole.
    pub(crate) fn is_newly_blind(&mut self, blind: bool) -> bool {
        !std::mem::replace(&mut self.blind, blind) && blind
    }

    /// From now on nothing is captured, or it is again.
    pub(crate) fn pause(&self, pause: Option<ScreenPause>) {
        self.display.iter().for_each(|display| display.pause(pause));
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.next
    }

    /// Takes the picture that is due, if one is; `waiting` is what is not delivered yet.
    pub(crate) fn on_time(&mut self, now: Duration, waiting: impl FnOnce() -> u64) {
        let (Some(due), Some(interval)) = (self.next, self.interval()) else {
            return;
        };
        if due > now {
            return;
        }
        // Those that were missed stay missed.
        self.next = Some(now + interval);
        if !self.pending && waiting() < MOST_WAITING {
            self.ask(Shot::Interval);
        }
    }

    /// The bot is gone: no more, and what was seen is overwritten.
    pub(crate) fn stop(&mut self) {
        self.next = None;
        self.display = None;
    }

    fn interval(&self) -> Option<Duration> {
        // A display is 5 ms of work per picture; ten a second is more than anybody looks at.
        self.when
            .every_ms
            .map(|every| Duration::from_millis(every.max(100)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shots(every_ms: Option<u64>) -> Shots {
        Shots::new(Screenshots {
            on_start: true,
            on_failure: true,
            every_ms,
            ..Screenshots::default()
        })
    }

    #[test]
    fn the_interval_counts_from_the_bots_start_and_skips_what_was_missed() {
        let mut shots = shots(Some(1000));
        assert_eq!(shots.next_deadline(), None);
        shots.running(Duration::from_secs(5));
        assert_eq!(shots.next_deadline(), Some(Duration::from_secs(6)));
        shots.on_time(Duration::from_secs(9), || 0);
        assert_eq!(shots.next_deadline(), Some(Duration::from_secs(10)));
        shots.stop();
        assert_eq!(shots.next_deadline(), None);
    }

    #[test]
    fn only_the_first_failure_of_a_row_is_told() {
        let mut shots = shots(None);
        let told = [true, true, false, true].map(|failed| shots.done(Shot::Interval, failed));
        assert_eq!(told, [true, false, false, true]);
    }

    #[test]
    fn without_a_display_there_is_no_picture() {
        let mut shots = shots(None);
        shots.running(Duration::ZERO);
        assert_eq!(shots.next_deadline(), None);
        assert!(!shots.ask(Shot::Failure));
    }
}
