//! Every part, in the order in which it is built.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use privsep::attendant::{Begin, FromAttendant};
use spool::LaneDir;
use sys::clock::boottime;

use super::Attendant;
use crate::artifacts::Artifacts;
use crate::blobs::Blobs;
use crate::bot::Bot;
use crate::doorbell::Doorbell;
use crate::error::StartError;
use crate::kept::Kept;
use crate::mask::Needles;
use crate::output::{Lane, LaneError, Quota, Stream, most_lost};
use crate::privacy::Privacy;
use crate::secrets::Secrets;
use crate::session::{Session, SessionError};
use crate::shots::Shots;
use crate::vnc;

impl Attendant {
    /// Builds it and says so.
    pub(super) fn begin(
        session: Session,
        begin: Begin,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Self, StartError> {
        let [spool, sockets, stdout, stderr] =
            <[OwnedFd; 4]>::try_from(descriptors).map_err(|_| SessionError::Order)?;
        let params = serde_json::from_str(&begin.params_json).map_err(|_| StartError::Params)?;
        let mut screenshots = begin.screenshots.clone();
        // The first attendant took it.
        screenshots.on_start &= !begin.restarted;
        let lane = lane(&spool, &begin)?;
        let blobs = Blobs::open(&spool)?;
        let kept = Kept::load(&spool)?;
        let privacy = privacy(&begin, &kept, boottime());
        let looks = vnc::is_allowed(&begin.screenshots)
            .then(|| sockets.try_clone())
            .transpose();
        let looks = looks.map_err(StartError::Sockets)?;
        let doorbell = Doorbell::listen(sockets, begin.robotd_uid).map_err(StartError::Doorbell)?;
        session.say(&FromAttendant::Ready {
            epoch: lane.epoch(),
        })?;
        Ok(Self {
            session,
            spool,
            lane,
            lost: false,
            blocked: None,
            sync_at: None,
            stdout: Stream::stdout(stdout),
            stderr: Stream::stderr(stderr),
            heard: boottime(),
            cut_at: None,
            needles: Needles::new(),
            quota: Quota::new(begin.log_bytes),
            secrets: Secrets::new(begin.secrets, begin.given),
            params,
            bot: Bot::new(begin.bot_uid),
            artifacts: Artifacts::new(begin.artifact_bytes, kept.artifacts.clone()),
            blobs,
            kept,
            privacy,
            paused: None,
            not_taken: 0,
            shots: Shots::new(screenshots),
            doorbell,
            looks,
            vnc: None,
            replies: Vec::new(),
            give_up_at: None,
        })
    }
}

/// What the bot knows it may be showing, and what it wanted to hide it may not have put away.
fn privacy(begin: &Begin, kept: &Kept, now: Duration) -> Privacy {
    let mut privacy = Privacy::new(begin.screenshots.secret_pause_ms);
    if !begin.given.is_empty() {
        privacy.secret_given(now);
    }
    if let Some(until) = kept.private_until_ms {
        privacy.ask(Duration::from_millis(until));
    }
    privacy
}

fn lane(spool: &OwnedFd, begin: &Begin) -> Result<Lane, LaneError> {
    let dir = LaneDir::from_fd(spool, Path::new(&begin.attempt.to_string()))?;
    if begin.restarted {
        Lane::recover(
            &dir,
            begin.log_bytes,
            most_lost(!begin.given.is_empty()),
            super::turn::unix_nano(),
        )
    } else {
        Lane::create(&dir, begin.log_bytes)
    }
}
