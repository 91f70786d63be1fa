//! What the session says, and what it waits for.

use std::os::fd::OwnedFd;

use order::ArtifactTotal;
use privsep::Refusal;
use privsep::attendant::{FromAttendant, ToAttendant};
use serde_json::{Value, json};
use sys::clock::boottime;
use sys::memfd::{self, read_sealed};
use wire::v1::record::Body;
use zeroize::Zeroizing;

use super::replies::Reply;
use super::turn::unix_nano;
use super::{Attendant, Next};
use crate::artifacts::{Giver, Taken};
use crate::display::Place;
use crate::explain;
use crate::mask::{MAX_SECRET, NotMaskable, mask};
use crate::session::{SessionError, Told};

impl Attendant {
    pub(super) fn listen_to_the_session(&mut self) -> Result<Next, SessionError> {
        while let Some(told) = self.session.next()? {
            if self.told(told)? == Next::Leave {
                return Ok(Next::Leave);
            }
        }
        Ok(Next::GoOn)
    }

    fn told(&mut self, (message, mut descriptors): Told) -> Result<Next, SessionError> {
        // As many as belong to the message: the conversation has checked it.
        let descriptor = descriptors.pop();
        match (message, descriptor) {
            (ToAttendant::BotSocket, Some(socket)) => {
                self.bot.listen(socket).map_err(|_| SessionError::Order)?
            }
            (
                ToAttendant::Display {
                    number,
                    cookie,
                    vnc,
                },
                Some(folder),
            ) => {
                if vnc {
                    self.open_vnc(&folder, number);
                }
                self.open_display(Place {
                    folder,
                    number,
                    cookie,
                })?;
            }
            (ToAttendant::Running, None) => self.shots.running(boottime()),
            (ToAttendant::FailureScreenshot, None) => self.picture_the_failure()?,
            (ToAttendant::Artifact { name }, Some(file)) => self.collect(&name, file)?,
            (ToAttendant::Secret { name }, Some(value)) => self.hand_out(&name, &value),
            (ToAttendant::SecretRefused { name, refusal }, None) => {
                self.refuse_secret(&name, &refusal)
            }
            (ToAttendant::LastHeard, None) => self.say_last_heard()?,
            (ToAttendant::Finish, None) => self.begin_the_end(),
            (ToAttendant::Leave, None) => return Ok(Next::Leave),
            _ => return Err(SessionError::Order),
        }
        Ok(Next::GoOn)
    }

    /// A bot that waits for something of ours is not idle: for room in the spool, for a secret.
    fn say_last_heard(&mut self) -> Result<(), SessionError> {
        let waits = self.is_closed_to_the_bot()
            || !self.secrets.wanted().is_empty()
            || self.secrets.is_blind()
            || self.artifacts.is_busy();
        let heard = if waits { boottime() } else { self.heard };
        self.session.say(&FromAttendant::LastHeard {
            boottime_ns: u64::try_from(heard.as_nanos()).unwrap_or(u64::MAX),
        })
    }

    fn collect(&mut self, name: &[u8], file: OwnedFd) -> Result<(), SessionError> {
        let (name, _) = mask(&self.needles, name);
        match self.artifacts.offer(Giver::Session, name, file) {
            Ok(()) => Ok(()),
            Err(refusal) => self.session.say(&FromAttendant::ArtifactTaken {
                total: Err(refusal),
            }),
        }
    }

    /// Copies some of an artifact; tells its giver when it is done.
    pub(super) fn copy_artifact(&mut self) {
        let Some(Taken { from, outcome }) = self.artifacts.step(&mut self.blobs) else {
            return;
        };
        let outcome = outcome.map(|artifact| {
            if let Some(record) = artifact.record {
                self.lane.push(unix_nano(), Body::Artifact(record));
            }
            artifact.total
        });
        self.replies.push(match from {
            Giver::Session => Reply::Session(FromAttendant::ArtifactTaken { total: outcome }),
            Giver::Bot(connection) => {
                Reply::Bot(connection, outcome.map(|total| described(&total)))
            }
        });
    }

    fn hand_out(&mut self, name: &str, value: &OwnedFd) {
        match self.register(value) {
            Ok(value) => {
                self.secrets.masked(name);
                let waiting = self.secrets.arrived(name);
                if !waiting.is_empty() {
                    // Before the bot has it and can show it.
                    self.pause_for_a_secret();
                }
                for connection in waiting {
                    self.bot.answer_secret(connection, &value);
                }
            }
            Err(refusal) => self.refuse_secret(name, &refusal),
        }
    }

    /// Reads a secret and masks it from now on: before anybody gets it.
    fn register(&mut self, value: &OwnedFd) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        use std::os::fd::AsFd;

        let value =
            Zeroizing::new(read_sealed(value.as_fd(), MAX_SECRET).map_err(
                |error| match error {
                    memfd::Error::TooLong { .. } => not_maskable(NotMaskable::TooLarge),
                    other => Refusal::new("SECRET_UNREADABLE", explain(&other)),
                },
            )?);
        self.needles.add(&value).map_err(not_maskable)?;
        Ok(value)
    }

    fn refuse_secret(&mut self, name: &str, refusal: &Refusal) {
        for connection in self.secrets.arrived(name) {
            self.bot.answer(connection, Err(refusal.clone()));
        }
    }
}

fn described(total: &ArtifactTotal) -> Value {
    json!({ "name": total.name, "sha256": total.sha256.to_string(), "bytes": total.bytes })
}

fn not_maskable(error: NotMaskable) -> Refusal {
    Refusal::new(
        error.code(),
        format!("the secret can't be masked in the log: {error}"),
    )
}
