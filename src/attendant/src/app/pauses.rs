//! Pauses of capture: begun and ended here, kept for an attendant after this one, and told in the
//! job's log.

use std::time::Duration;

use privsep::Refusal;
use serde_json::Value;
use sys::clock::boottime;
use wire::v1::{LogLine, LogSource, ScreenPause, record::Body};

use super::Attendant;
use super::turn::unix_nano;
use crate::explain;
use crate::privacy::DEFAULT_SECONDS;

impl Attendant {
    pub(super) fn pause_for_a_secret(&mut self) {
        self.privacy.secret_given(boottime());
        self.heed_privacy(boottime());
    }

    /// The bot's own call.
    pub(super) fn set_privacy(&mut self, on: bool, seconds: Option<u32>) -> Result<Value, Refusal> {
        if on {
            let seconds = seconds.unwrap_or(DEFAULT_SECONDS);
            self.privacy
                .ask(boottime() + Duration::from_secs(seconds.into()));
        } else {
            self.privacy.end();
        }
        self.heed_privacy(boottime());
        let until = self.privacy.asked_until();
        self.kept.private_until_ms = until.map(|at| u64::try_from(at.as_millis()).unwrap_or(0));
        match self.kept.store(&self.spool) {
            Ok(()) => Ok(Value::Null),
            Err(error) => Err(Refusal::new("SPOOL_FAILED", explain(&error))),
        }
    }

    /// Passes on to the display what holds now, and says so in the log when it is another thing.
    pub(super) fn heed_privacy(&mut self, now: Duration) {
        let pause = self.privacy.settle(now);
        if pause == self.paused {
            return;
        }
        self.shots.pause(pause);
        if let Some(vnc) = &mut self.vnc {
            vnc.pause(pause.is_some());
        }
        self.paused = pause;
        match pause {
            Some(ScreenPause::Secret) => {
                self.say_in_the_log("capture is paused: a secret was handed out");
            }
            Some(_) => self.say_in_the_log("capture is paused: the bot asked for privacy"),
            None => {
                let count = std::mem::take(&mut self.not_taken);
                self.say_in_the_log(&format!("capture goes on; {count} pictures were not taken"));
            }
        }
    }

    /// One line of ours. It counts as the bot's output, which may bring it about as often as it likes.
    pub(super) fn say_in_the_log(&mut self, text: &str) {
        const INFORMATIONAL: u32 = 6;
        if !self.quota.take_if_it_fits(text.len() as u64 + 1) {
            return;
        }
        let line = LogLine {
            source: LogSource::Agent.into(),
            severity: INFORMATIONAL,
            text: text.as_bytes().to_vec().into(),
            terminated: true,
            continued: false,
            redactions: 0,
        };
        self.lane.push(unix_nano(), Body::Log(line));
    }
}
