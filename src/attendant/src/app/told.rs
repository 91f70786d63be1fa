//! What the session says, and what it waits for.

use std::os::fd::OwnedFd;

use order::ArtifactTotal;
use privsep::Refusal;
use privsep::attendant::{FromAttendant, ToAttendant};
use serde_json::{Value, json};
use sys::clock::boottime;
use sys::memfd::{self, read_sealed};
use wire::v1::{Screenshot, record::Body};
use zeroize::Zeroizing;

use super::replies::Reply;
use super::turn::unix_nano;
use super::{Attendant, Next};
use crate::artifacts::{Giver, Taken};
use crate::display::{DisplayError, Picture, Place, Seen};
use crate::explain;
use crate::mask::{MAX_SECRET, NotMaskable, mask};
use crate::session::{SessionError, Told};
use crate::shots::Shot;

/// PNG, whatever the display.
const MEDIA_TYPE: &str = "image/png";

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
                    vnc: _,
                },
                Some(folder),
            ) => {
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
            (ToAttendant::Finish, None) => self.begin_the_end(),
            (ToAttendant::Leave, None) => return Ok(Next::Leave),
            _ => return Err(SessionError::Order),
        }
        Ok(Next::GoOn)
    }

    fn open_display(&mut self, place: Place) -> Result<(), SessionError> {
        match self.shots.open(place) {
            Ok(()) => Ok(()),
            Err(error) => self.display_failed(&error.into()),
        }
    }

    fn display_failed(&self, error: &DisplayError) -> Result<(), SessionError> {
        self.session.say(&FromAttendant::DisplayFailed(Refusal::new(
            "DISPLAY_FAILED",
            explain(error),
        )))
    }

    fn picture_the_failure(&mut self) -> Result<(), SessionError> {
        if self.shots.ask(Shot::Failure) {
            Ok(())
        } else {
            self.session.say(&FromAttendant::FailureTaken)
        }
    }

    /// What the display's thread has brought.
    pub(super) fn look_at_the_display(&mut self) -> Result<(), SessionError> {
        while let Some(seen) = self.shots.display().and_then(crate::display::Display::next) {
            match seen {
                Seen::Connected(Ok(())) => {
                    if !self.shots.connected() {
                        self.session.say(&FromAttendant::DisplayConnected)?;
                    }
                }
                Seen::Connected(Err(error)) => self.display_failed(&error)?,
                Seen::Taken(shot, outcome) => self.taken(shot, outcome),
            }
        }
        Ok(())
    }

    fn taken(&mut self, shot: Shot, outcome: Result<Picture, DisplayError>) {
        let failed = |error: DisplayError| Refusal::new("SCREENSHOT_FAILED", explain(&error));
        let kept = outcome
            .map_err(failed)
            .and_then(|picture| self.keep_picture(shot, &picture));
        if self.shots.done(shot, kept.is_err())
            && let Err(refusal) = &kept
        {
            crate::error::note(refusal);
        }
        match shot {
            Shot::Failure => self
                .replies
                .push(Reply::Session(FromAttendant::FailureTaken)),
            Shot::Bot(connection) => {
                let answer = kept.map(|picture| {
                    json!({ "seq": picture.seq, "width": picture.width, "height": picture.height })
                });
                self.replies.push(Reply::Bot(connection, answer));
            }
            Shot::Start => self
                .replies
                .push(Reply::Session(FromAttendant::DisplayConnected)),
            Shot::Interval | Shot::Request => {}
        }
    }

    fn keep_picture(&mut self, shot: Shot, picture: &Picture) -> Result<Screenshot, Refusal> {
        let failed = |error: &dyn std::error::Error| Refusal::new("SPOOL_FAILED", explain(error));
        let blob = self
            .blobs
            .keep(&picture.png)
            .map_err(|error| failed(&error))?;
        // The number is used up before the record exists: after a crash it does not come twice.
        self.kept.screenshots += 1;
        self.kept
            .store(&self.spool)
            .map_err(|error| failed(&error))?;
        let record = Screenshot {
            sha256: blob.sha256.0.to_vec().into(),
            size_bytes: blob.bytes,
            media_type: MEDIA_TYPE.to_owned(),
            seq: self.kept.screenshots,
            reason: shot.reason().into(),
            width: picture.width,
            height: picture.height,
            masked: Vec::new(),
        };
        self.lane
            .push(unix_nano(), Body::Screenshot(record.clone()));
        Ok(record)
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
                for connection in self.secrets.arrived(name) {
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
