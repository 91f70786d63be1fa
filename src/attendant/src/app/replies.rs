//! Answers that say that something is kept: given when it is in the lane, not before. Whoever
//! has one can rely on it, also when this attendant is killed the next moment.

use privsep::Refusal;
use privsep::attendant::FromAttendant;
use serde_json::Value;

use super::Attendant;
use crate::error::note;
use crate::session::SessionError;

/// One that waits for the next write.
#[derive(Debug)]
pub(super) enum Reply {
    /// To a call of the bot, over this connection.
    Bot(u64, Result<Value, Refusal>),
    /// To the session.
    Session(FromAttendant),
}

impl Attendant {
    /// Gives the answers for all that is in the lane now; while there is no room they wait.
    pub(super) fn reply(&mut self) -> Result<(), SessionError> {
        if self.blocked.is_some() {
            return Ok(());
        }
        self.write_artifacts_down();
        for reply in std::mem::take(&mut self.replies) {
            match reply {
                Reply::Session(message) => self.session.say(&message)?,
                Reply::Bot(connection, Ok(_)) if self.lost => {
                    let detail = "the host can't write the job's records any more; the job ends";
                    self.bot
                        .answer(connection, Err(Refusal::new("SPOOL_FAILED", detail)));
                }
                Reply::Bot(connection, outcome) => self.bot.answer(connection, outcome),
            }
        }
        Ok(())
    }

    /// After the record: an artifact too many in the lane harms nobody, one that is in the totals
    /// and not in the lane would be waited for.
    fn write_artifacts_down(&mut self) {
        if self.kept.artifacts.len() == self.artifacts.taken().len() {
            return;
        }
        self.artifacts.taken().clone_into(&mut self.kept.artifacts);
        // The totals are right all the same, unless this attendant dies too.
        if let Err(error) = self.kept.store(&self.spool) {
            note(&error);
        }
    }
}
