//! Pictures and frames: asked for, brought by the display's thread, kept or passed on.

use std::os::fd::{AsFd as _, OwnedFd};

use order::PictureFormat;
use privsep::Refusal;
use privsep::attendant::FromAttendant;
use serde_json::json;
use sys::clock::boottime;
use wire::v1::{Screenshot, record::Body};

use super::Attendant;
use super::replies::Reply;
use super::turn::unix_nano;
use crate::display::{DisplayError, Picture, Place, Screen, Seen, Taken};
use crate::error::note;
use crate::explain;
use crate::session::SessionError;
use crate::shots::Shot;
use crate::vnc::Vnc;

/// The bot may show anything meanwhile.
const PAUSED: &str = "SCREENSHOT_PAUSED";

fn media_type(format: PictureFormat) -> &'static str {
    match format {
        PictureFormat::Png => "image/png",
        PictureFormat::Webp => "image/webp",
    }
}

impl Attendant {
    pub(super) fn open_display(&mut self, place: Place) -> Result<(), SessionError> {
        let pause = self.privacy.settle(boottime());
        match self.shots.open(place, pause) {
            Ok(()) => Ok(()),
            Err(error) => self.display_failed(&error.into()),
        }
    }

    /// A bot whose screen can't be looked at over VNC runs all the same.
    pub(super) fn open_vnc(&mut self, server: &OwnedFd, number: u32) {
        const ROOT: u32 = 0;
        let Some(looks) = &self.looks else { return };
        let listening = server
            .try_clone()
            .and_then(|server| Vnc::listen(looks.as_fd(), server, number, ROOT));
        match listening {
            Ok(mut vnc) => {
                vnc.pause(self.paused.is_some());
                self.vnc = Some(vnc);
            }
            Err(error) => crate::error::note(&error),
        }
    }

    /// Somebody came to look on over VNC.
    pub(super) fn let_look_on(&mut self) -> Result<(), SessionError> {
        match self.vnc.as_mut().is_some_and(Vnc::accept) {
            true => self.session.say(&FromAttendant::LookedOn { began: true }),
            false => Ok(()),
        }
    }

    /// Who looked on over VNC has left.
    pub(super) fn see_off(&mut self) -> Result<(), SessionError> {
        match self.vnc.as_mut().is_some_and(Vnc::has_left) {
            true => self.session.say(&FromAttendant::LookedOn { began: false }),
            false => Ok(()),
        }
    }

    fn display_failed(&self, error: &DisplayError) -> Result<(), SessionError> {
        self.session.say(&FromAttendant::DisplayFailed(Refusal::new(
            "DISPLAY_FAILED",
            explain(error),
        )))
    }

    pub(super) fn picture_the_failure(&mut self) -> Result<(), SessionError> {
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
                Seen::Screen(screen) => self.pass_on(screen),
                Seen::Unseen(error) => {
                    if self.shots.unseen() {
                        note(&error);
                    }
                }
            }
        }
        Ok(())
    }

    fn pass_on(&mut self, screen: Screen) {
        self.note_blindness(screen.blind);
        if self.shots.is_for_now(&screen) {
            self.doorbell.show(screen.memory);
        }
    }

    fn note_blindness(&mut self, blind: bool) {
        if self.shots.is_newly_blind(blind) {
            note(&Refusal::new(
                "SCREEN_MASKED_WHOLE",
                "the whole screen is masked: the bot has too many windows to look for the masked ones",
            ));
        }
    }

    fn taken(&mut self, shot: Shot, outcome: Taken) {
        let kept = match outcome {
            Taken::Picture(picture) => self.keep_picture(shot, &picture).map(Some),
            Taken::Same => Ok(None),
            Taken::Paused => Err(self.not_taken(shot)),
            Taken::Failed(error) => Err(Refusal::new("SCREENSHOT_FAILED", explain(&error))),
        };
        let failure = kept.as_ref().err().filter(|refusal| refusal.code != PAUSED);
        if self.shots.done(shot, failure.is_some())
            && let Some(refusal) = failure
        {
            note(refusal);
        }
        match shot {
            Shot::Failure => self
                .replies
                .push(Reply::Session(FromAttendant::FailureTaken)),
            Shot::Bot(connection) => {
                let answer = kept.map(|picture| {
                    picture.map_or(
                        json!({}),
                        |own| json!({ "seq": own.seq, "width": own.width, "height": own.height }),
                    )
                });
                self.replies.push(Reply::Bot(connection, answer));
            }
            Shot::Start => self
                .replies
                .push(Reply::Session(FromAttendant::DisplayConnected)),
            Shot::Interval | Shot::Request => {}
        }
    }

    /// Who looks for a picture finds in the log why there is none; those at an interval are counted.
    fn not_taken(&mut self, shot: Shot) -> Refusal {
        self.not_taken += 1;
        match shot {
            Shot::Failure => self.say_in_the_log("no picture of the failure: capture is paused"),
            Shot::Request => self.say_in_the_log("no picture on request: capture is paused"),
            Shot::Start | Shot::Interval | Shot::Bot(_) => {}
        }
        let detail = "capture is paused after a secret or by the bot; `privacy off` ends that";
        Refusal::new(PAUSED, detail)
    }

    fn keep_picture(&mut self, shot: Shot, picture: &Picture) -> Result<Screenshot, Refusal> {
        let failed = |error: &dyn std::error::Error| Refusal::new("SPOOL_FAILED", explain(error));
        self.note_blindness(picture.blind);
        let blob = self
            .blobs
            .keep(&picture.bytes)
            .map_err(|error| failed(&error))?;
        // The number is used up before the record exists: after a crash it does not come twice.
        self.kept.screenshots += 1;
        self.kept
            .store(&self.spool)
            .map_err(|error| failed(&error))?;
        let record = Screenshot {
            sha256: blob.sha256.0.to_vec().into(),
            size_bytes: blob.bytes,
            media_type: media_type(picture.format).to_owned(),
            seq: self.kept.screenshots,
            reason: shot.reason().into(),
            width: picture.width,
            height: picture.height,
            masked: picture.masked.clone(),
        };
        self.lane
            .push(unix_nano(), Body::Screenshot(record.clone()));
        Ok(record)
    }
}
