//! The end of the lane.

use std::time::Duration;

use privsep::attendant::{FromAttendant, Totals};
use sys::clock::boottime;
use sys::poll::{Watch, wait};

use super::Attendant;
use super::turn::unix_nano;
use super::wait::Source;
use crate::error::StartError;
use crate::output::Stream;

/// How long a full spool holds up the end. What is not written by then becomes a gap.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most reads of one pipe after that: the writers are gone, and a pipe holds 1 MiB at most.
const MOST_READS: usize = 64;

impl Attendant {
    /// The session says that all processes are gone.
    pub(super) fn begin_the_end(&mut self) {
        self.shots.stop();
        self.give_up_at = Some(boottime() + PATIENCE);
    }

    /// Ends the lane when all that is left is read and written.
    pub(super) fn end_if_all_is_read(&mut self) -> Result<(), StartError> {
        let Some(give_up_at) = self.give_up_at else {
            return Ok(());
        };
        if boottime() >= give_up_at || self.lost {
            return self.end();
        }
        let all_is_read = !has_something(&self.stdout)? && !has_something(&self.stderr)?;
        if all_is_read
            && !self.artifacts.is_busy()
            && self.blocked.is_none()
            && !self.secrets.is_blind()
        {
            return self.end();
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), StartError> {
        self.give_up_at = None;
        if !self.lost && !self.lane.is_ended() {
            self.read_the_rest()?;
            if let Err(error) = self.write_the_rest() {
                self.lose(&error)?;
            }
        }
        self.reply()?;
        self.doorbell.ring();
        let totals = Totals {
            log: self.lane.log_totals(),
            artifacts: self.artifacts.taken().to_vec(),
            screenshots: self.kept.screenshots,
            last_seq: self.lane.last_seq(),
        };
        Ok(self.session.say(&FromAttendant::Finished(totals))?)
    }

    fn read_the_rest(&mut self) -> Result<(), StartError> {
        for _ in 0..MOST_READS {
            for source in [Source::Stdout, Source::Stderr] {
                let stream = if source == Source::Stdout {
                    &self.stdout
                } else {
                    &self.stderr
                };
                if !self.secrets.is_blind() && has_something(stream)? {
                    self.read(source);
                }
            }
        }
        let blind = self.secrets.is_blind();
        let mut records = Vec::new();
        for stream in [&mut self.stdout, &mut self.stderr] {
            if blind || has_something(stream)? {
                stream.abandon(&mut records);
            }
            stream.end(&self.needles, &mut self.quota, &mut records);
        }
        self.cut_at = None;
        self.push_all(records);
        Ok(())
    }

    fn write_the_rest(&mut self) -> Result<(), crate::output::LaneError> {
        self.lane.write()?;
        self.lane.give_up_waiting(unix_nano())?;
        self.lane.finish()?;
        (self.blocked, self.sync_at) = (None, None);
        Ok(())
    }
}

/// Whether a read would bring something now; its end counts too.
fn has_something(stream: &Stream) -> Result<bool, sys::poll::Error> {
    let Some(pipe) = stream.pipe() else {
        return Ok(false);
    };
    Ok(wait(&mut [Watch::readable(pipe)], Some(Duration::ZERO))? > 0)
}
