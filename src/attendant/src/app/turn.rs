//! The loop: what is ready, what is due, and what is to be written then.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use privsep::Refusal;
use privsep::attendant::FromAttendant;
use privsep::doorbell::ToAttendant;
use sys::clock::boottime;
use wire::v1::record::Body;

use super::wait::Source;
use super::{Attendant, Next};
use crate::error::{StartError, note};
use crate::explain;
use crate::output::{LaneError, Progress};
use crate::secrets::unavailable;
use crate::session::SessionError;
use crate::shots::Shot;

/// Longest time that something written is not synced. A crash of the attendant loses nothing by
/// it, only the power's end does.
const SYNC_WITHIN: Duration = Duration::from_millis(200);

/// A line without an end is written as it is when nothing has come for so long.
const CUT_AFTER: Duration = Duration::from_millis(250);

/// Between two looks whether there is room again.
const RETRY: Duration = Duration::from_millis(500);

/// Nanoseconds since 1970, for people.
pub(super) fn unix_nano() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

impl Attendant {
    /// Until the session says that it is over.
    pub(super) fn turns(&mut self) -> Result<(), StartError> {
        loop {
            for source in self.wait()? {
                if self.attend(source)? == Next::Leave {
                    return Ok(());
                }
            }
            self.by_the_clock()?;
            self.answer_calls();
            self.copy_artifact();
            self.write()?;
            self.reply()?;
            self.end_if_all_is_read()?;
            if !self.doorbell.watches() {
                self.shots.unwatch();
            }
            self.doorbell.flush(
                self.lane.epoch(),
                self.lane.last_seq(),
                self.lane.is_ended(),
            );
        }
    }

    fn attend(&mut self, source: Source) -> Result<Next, StartError> {
        match source {
            Source::Session => return Ok(self.listen_to_the_session()?),
            Source::Stdout | Source::Stderr => self.read(source),
            Source::Doorbell => self.doorbell.accept(),
            Source::Robotd => self.listen_to_robotd(),
            // What is to be said is said at the end of the turn.
            Source::RobotdHasRoom => {}
            Source::Display => self.look_at_the_display()?,
            Source::Viewer => self.let_look_on()?,
            Source::ViewerLeft => self.see_off()?,
            Source::Bot(interest) => self.bot.attend(interest),
        }
        Ok(Next::GoOn)
    }

    /// One read of one stream.
    pub(super) fn read(&mut self, source: Source) {
        self.heard = boottime();
        let stream = if source == Source::Stdout {
            &mut self.stdout
        } else {
            &mut self.stderr
        };
        let mut records = Vec::new();
        if let Err(error) = stream.read(&self.needles, &mut self.quota, &mut records) {
            note(&error);
            stream.abandon(&mut records);
        }
        self.push_all(records);
        let unfinished = self.stdout.has_unfinished() || self.stderr.has_unfinished();
        self.cut_at = unfinished.then(|| boottime() + CUT_AFTER);
    }

    pub(super) fn push_all(&mut self, records: Vec<Body>) {
        if !records.is_empty() {
            let now = unix_nano();
            records
                .into_iter()
                .for_each(|record| self.lane.push(now, record));
        }
    }

    fn listen_to_robotd(&mut self) {
        match self.doorbell.receive() {
            Some(ToAttendant::Subscribe) => {
                for name in self.secrets.wanted() {
                    self.doorbell.want(&name);
                }
            }
            // Without a display, or with too many asked for, there is none; nobody waits for it.
            Some(ToAttendant::Screenshot) => {
                self.shots.ask(Shot::Request);
            }
            Some(ToAttendant::Watch { most_per_second }) => self.shots.watch(most_per_second),
            Some(ToAttendant::Shown) => self.shots.shown(),
            // As when the connection ends, which is looked at each turn.
            Some(ToAttendant::Unwatch) | None => {}
        }
    }

    fn by_the_clock(&mut self) -> Result<(), StartError> {
        let now = boottime();
        let due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        if due(self.sync_at) {
            self.sync_at = None;
            if let Err(error) = self.lane.sync() {
                self.lose(&error)?;
            }
        }
        if due(self.cut_at) {
            self.cut_lines();
        }
        self.heed_privacy(now);
        let blobs = &self.blobs;
        self.shots
            .on_time(now, || blobs.waiting().unwrap_or(u64::MAX));
        for connection in self.secrets.overdue(now) {
            self.bot.answer(connection, Err(unavailable()));
        }
        Ok(())
    }

    fn cut_lines(&mut self) {
        self.cut_at = None;
        let mut records = Vec::new();
        self.stdout.cut(&mut self.quota, &mut records);
        self.stderr.cut(&mut self.quota, &mut records);
        self.push_all(records);
    }

    /// Writes what waits, unless there was no room a moment ago.
    pub(super) fn write(&mut self) -> Result<(), StartError> {
        let now = boottime();
        if self.lost || self.blocked.is_some_and(|until| until > now) {
            return Ok(());
        }
        let before = self.lane.last_seq();
        match self.lane.write() {
            Ok(Progress::Written) => self.blocked = None,
            Ok(Progress::Blocked) => self.blocked = Some(now + RETRY),
            Err(error) => self.lose(&error)?,
        }
        if self.lane.last_seq() != before {
            self.doorbell.ring();
        }
        if self.lane.is_unsynced() && self.sync_at.is_none() {
            self.sync_at = Some(now + SYNC_WITHIN);
        }
        Ok(())
    }

    /// Nothing can be written any more: the session ends the job.
    pub(super) fn lose(&mut self, error: &LaneError) -> Result<(), SessionError> {
        note(error);
        if self.lost {
            return Ok(());
        }
        self.lane.doubt();
        (self.lost, self.blocked, self.sync_at, self.cut_at) = (true, None, None, None);
        self.session.say(&FromAttendant::SpoolLost(Refusal::new(
            "SPOOL_FAILED",
            explain(error),
        )))
    }

    /// On the way out, without the session's order: what is in memory goes to the lane, if it can.
    pub(super) fn save(&mut self) {
        if self.lost || self.lane.is_ended() {
            return;
        }
        self.cut_lines();
        let saved = self.lane.write().and_then(|_| self.lane.sync());
        if let Err(error) = saved {
            note(&error);
        }
    }
}
