//! When a frame of the live view is due. Rules only: what is captured is the studio's business.

use std::time::Duration;

use wire::v1::ScreenPause;

use super::orders::{Standing, Watch};

/// After so long who lost something sees all of it again, if anything has changed.
const KEYFRAME_EVERY: Duration = Duration::from_secs(10);

/// Between two tries to capture a display that fails.
const RETRY: Duration = Duration::from_secs(2);

/// A frame that took long, because the bot's screen is large and full of noise, is followed by so
/// many times as long without one: no bot keeps a core of the host busy with its pictures.
const REST: u32 = 4;

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Until something is drawn or said.
    Nothing,
    /// Then, at the earliest.
    At(Duration),
    /// A frame that says that capture is paused.
    Pause(ScreenPause),
    /// A capture, and a frame of what has changed or of all.
    Frame { whole: bool },
}

/// One who looks on.
#[derive(Debug)]
pub(super) struct Live {
    watch: Watch,
    /// Of the frame that was sent last.
    pub(super) number: u64,
    /// The capture that it showed.
    pub(super) capture: u64,
    /// It is not passed on yet, and so many were before it.
    under_way: Option<u64>,
    whole_wanted: bool,
    whole_at: Duration,
    changed_since_whole: bool,
    not_before: Duration,
    /// When the screen has to be looked at though nothing is drawn.
    look_at: Option<Duration>,
    pause: Pause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    None,
    Begun,
    Told,
}

impl Live {
    pub(super) fn begin(watch: Watch, now: Duration) -> Self {
        Self {
            watch,
            number: 0,
            capture: 0,
            under_way: None,
            whole_wanted: true,
            whole_at: now,
            changed_since_whole: false,
            not_before: now,
            look_at: None,
            pause: Pause::None,
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.watch.id
    }

    /// Takes note of what stands for the same watch now.
    pub(super) fn obey(&mut self, standing: &Standing, watch: Watch) {
        let anew = watch.asked != self.watch.asked;
        self.whole_wanted |= anew;
        self.watch = watch;
        if self.under_way.is_some_and(|before| standing.shown > before) {
            self.under_way = None;
        }
        match (standing.pause, self.pause) {
            (Some(_), Pause::None) => self.pause = Pause::Begun,
            // Who asks anew has not heard of it.
            (Some(_), Pause::Told) if anew => self.pause = Pause::Begun,
            (None, Pause::Begun | Pause::Told) => {
                self.pause = Pause::None;
                self.whole_wanted = true;
            }
            _ => {}
        }
    }

    /// `drawn`: something may have changed since the last frame.
    pub(super) fn due(&self, now: Duration, drawn: bool, pause: Option<ScreenPause>) -> Due {
        if self.under_way.is_some() {
            return Due::Nothing;
        }
        if let Some(reason) = pause {
            return match self.pause {
                Pause::Told => Due::Nothing,
                Pause::None | Pause::Begun => Due::Pause(reason),
            };
        }
        let whole_at = (self.changed_since_whole).then_some(self.whole_at + KEYFRAME_EVERY);
        let whole = self.whole_wanted || whole_at.is_some_and(|at| at <= now);
        let looks = self.look_at.is_some_and(|at| at <= now);
        if !(whole || looks || drawn) {
            let next = [whole_at, self.look_at].into_iter().flatten().min();
            return next.map_or(Due::Nothing, |at| Due::At(at.max(self.not_before)));
        }
        if now < self.not_before {
            return Due::At(self.not_before);
        }
        Due::Frame { whole }
    }

    /// A capture was begun then and ended now. `look_at` is when it has to be done again at the
    /// latest.
    pub(super) fn captured(&mut self, begun: Duration, now: Duration, look_at: Option<Duration>) {
        let every = Duration::from_secs(1) / self.watch.most_per_second.clamp(1, 10);
        let took = now.saturating_sub(begun);
        self.not_before = (begun + every).max(now + REST * took);
        self.look_at = look_at;
    }

    /// It could not be captured.
    pub(super) fn failed(&mut self, now: Duration) {
        self.not_before = now + RETRY;
    }

    /// A frame of this capture goes out now.
    pub(super) fn sent(&mut self, now: Duration, capture: u64, whole: bool, shown: u64) {
        self.number += 1;
        self.under_way = Some(shown);
        self.capture = capture;
        self.changed_since_whole = !whole;
        if whole {
            (self.whole_wanted, self.whole_at) = (false, now);
        }
    }

    /// The frame that says that capture is paused can't be made. There are no others either.
    pub(super) fn tells_no_pause(&mut self) {
        self.pause = Pause::Told;
    }

    /// The frame that says that capture is paused goes out.
    pub(super) fn sent_pause(&mut self, shown: u64) {
        self.number += 1;
        self.under_way = Some(shown);
        self.pause = Pause::Told;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const WATCH: Watch = Watch {
        id: 1,
        asked: 1,
        most_per_second: 1,
    };

    fn standing(shown: u64, pause: Option<ScreenPause>) -> Standing {
        Standing {
            watch: Some(WATCH),
            shown,
            pause,
            pauses: 0,
            closed: false,
        }
    }

    /// As after a first whole frame that was passed on.
    fn live() -> Live {
        let mut live = Live::begin(WATCH, seconds(0));
        assert_eq!(
            live.due(seconds(0), false, None),
            Due::Frame { whole: true }
        );
        live.captured(seconds(0), seconds(0), None);
        live.sent(seconds(0), 1, true, 0);
        live.obey(&standing(1, None), WATCH);
        live
    }

    #[test]
    fn nothing_is_due_while_nothing_is_drawn() {
        let mut live = live();
        assert_eq!(live.due(seconds(99), false, None), Due::Nothing);
        assert_eq!(
            live.due(seconds(99), true, None),
            Due::Frame { whole: false }
        );
        live.sent(seconds(99), 2, false, 1);
        live.obey(&standing(2, None), WATCH);
        assert_eq!(
            live.due(seconds(99), false, None),
            Due::Frame { whole: true }
        );
        live.sent(seconds(99), 3, true, 2);
        live.obey(&standing(3, None), WATCH);
        assert_eq!(live.due(seconds(999), false, None), Due::Nothing);
    }

    #[test]
    fn the_next_frame_waits_until_the_last_is_passed_on() {
        let mut live = live();
        live.sent(seconds(1), 2, false, 1);
        assert_eq!(live.due(seconds(2), true, None), Due::Nothing);
        live.obey(&standing(1, None), WATCH);
        assert_eq!(live.due(seconds(2), true, None), Due::Nothing);
        live.obey(&standing(2, None), WATCH);
        assert_eq!(
            live.due(seconds(2), true, None),
            Due::Frame { whole: false }
        );
    }

    #[test]
    fn no_more_frames_come_than_are_wanted_or_than_there_is_time_for() {
        let mut live = live();
        live.captured(seconds(5), seconds(5), None);
        assert_eq!(live.due(seconds(5), true, None), Due::At(seconds(6)));
        live.captured(seconds(10), seconds(12), None);
        assert_eq!(live.due(seconds(13), true, None), Due::At(seconds(20)));
        live.failed(seconds(30));
        assert_eq!(live.due(seconds(30), true, None), Due::At(seconds(32)));
    }

    #[test]
    fn a_whole_frame_comes_when_asked_for_and_some_time_after_a_change() {
        let mut live = live();
        let again = Watch { asked: 2, ..WATCH };
        live.obey(&standing(1, None), again);
        assert_eq!(
            live.due(seconds(3), false, None),
            Due::Frame { whole: true }
        );
        live.sent(seconds(3), 2, true, 1);
        live.obey(&standing(2, None), again);
        live.sent(seconds(4), 3, false, 2);
        live.obey(&standing(3, None), again);
        assert_eq!(live.due(seconds(5), false, None), Due::At(seconds(13)));
        assert_eq!(
            live.due(seconds(13), false, None),
            Due::Frame { whole: true }
        );
    }

    #[test]
    fn a_pause_is_told_once_and_ends_with_a_whole_frame() {
        let mut live = live();
        let secret = Some(ScreenPause::Secret);
        live.obey(&standing(1, secret), WATCH);
        assert_eq!(
            live.due(seconds(1), true, secret),
            Due::Pause(ScreenPause::Secret)
        );
        live.sent_pause(1);
        live.obey(&standing(2, secret), WATCH);
        assert_eq!(live.due(seconds(9), true, secret), Due::Nothing);
        live.obey(&standing(2, None), WATCH);
        assert_eq!(
            live.due(seconds(9), false, None),
            Due::Frame { whole: true }
        );
    }

    #[test]
    fn the_screen_is_looked_at_again_when_a_mask_lingers() {
        let mut live = live();
        live.captured(seconds(1), seconds(1), Some(seconds(3)));
        assert_eq!(live.due(seconds(2), false, None), Due::At(seconds(3)));
        assert_eq!(
            live.due(seconds(3), false, None),
            Due::Frame { whole: false }
        );
    }
}
