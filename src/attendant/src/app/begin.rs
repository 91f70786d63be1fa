//! Every part, in the order in which it is built.

use std::os::fd::OwnedFd;
use std::path::Path;

use privsep::attendant::{Begin, FromAttendant};
use spool::LaneDir;

use super::Attendant;
use crate::artifacts::Artifacts;
use crate::blobs::Blobs;
use crate::bot::Bot;
use crate::doorbell::Doorbell;
use crate::error::StartError;
use crate::kept::Kept;
use crate::mask::Needles;
use crate::output::{Lane, LaneError, Quota, Stream, most_lost};
use crate::secrets::Secrets;
use crate::session::{Session, SessionError};
use crate::shots::Shots;

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
            cut_at: None,
            needles: Needles::new(),
            quota: Quota::new(begin.log_bytes),
            secrets: Secrets::new(begin.secrets, begin.given),
            params,
            bot: Bot::new(begin.bot_uid),
            artifacts: Artifacts::new(begin.artifact_bytes, kept.artifacts.clone()),
            blobs,
            kept,
            shots: Shots::new(screenshots),
            doorbell,
            replies: Vec::new(),
            give_up_at: None,
        })
    }
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
