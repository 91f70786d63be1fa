//! The attendant: one thread, one loop.
//!
//! `begin` builds all parts. Each turn waits for something (`wait`), does what it is about
//! (`told` by the session, `calls` of the bot, output, `pictures`), and then writes what has come to be
//! written, and `replies` says so. `finish` ends the lane.

mod begin;
mod calls;
mod finish;
mod pauses;
mod pictures;
mod replies;
mod told;
mod turn;
mod wait;

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Duration;

use privsep::attendant::ToAttendant;
use serde_json::{Map, Value};
use wire::v1::ScreenPause;

use crate::artifacts::Artifacts;
use crate::blobs::Blobs;
use crate::bot::Bot;
use crate::doorbell::Doorbell;
use crate::error::{StartError, note};
use crate::harden::harden;
use crate::kept::Kept;
use crate::mask::Needles;
use crate::output::{Lane, Quota, Stream};
use crate::privacy::Privacy;
use crate::secrets::Secrets;
use crate::session::{Session, SessionError};
use crate::shots::Shots;
use crate::vnc::Vnc;

use replies::Reply;

/// One attempt's attendant.
pub(crate) struct Attendant {
    session: Session,
    spool: OwnedFd,
    lane: Lane,
    /// The lane can't be written any more; the session knows.
    lost: bool,
    /// There is no room; when to try again.
    blocked: Option<Duration>,
    /// When what was written is synced.
    sync_at: Option<Duration>,
    stdout: Stream,
    stderr: Stream,
    /// When the bot printed or called last.
    heard: Duration,
    /// When an unfinished line is written as it is.
    cut_at: Option<Duration>,
    needles: Needles,
    quota: Quota,
    secrets: Secrets,
    params: Map<String, Value>,
    bot: Bot,
    artifacts: Artifacts,
    blobs: Blobs,
    kept: Kept,
    shots: Shots,
    privacy: Privacy,
    /// Why nothing is captured, as the display was told last, and the pictures that there are not.
    paused: Option<ScreenPause>,
    not_taken: u32,
    doorbell: Doorbell,
    /// Directory for the socket of who looks on over VNC; none when nobody may.
    looks: Option<OwnedFd>,
    vnc: Option<Vnc>,
    replies: Vec<Reply>,
    /// The lane is to be ended as soon as all is read and written, by then at the latest.
    give_up_at: Option<Duration>,
}

/// Whether there is a next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    Leave,
}

/// The whole program.
#[must_use]
pub fn run() -> ExitCode {
    match attend() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn attend() -> Result<(), StartError> {
    let session = Session::new(harden()?)?;
    let (begin, descriptors) = match session.wait()? {
        (ToAttendant::Begin(begin), descriptors) => (begin, descriptors),
        (ToAttendant::Leave, _) => return Ok(()),
        _ => return Err(SessionError::Order.into()),
    };
    let mut attendant = Attendant::begin(session, begin, descriptors)?;
    let outcome = attendant.turns();
    // Whatever ended it: what it has is written as far as it can be.
    attendant.save();
    outcome
}
