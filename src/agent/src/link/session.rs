//! One session: from hello to the loss of the stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use privsep::Refusal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tonic::transport::Channel;
use tracing::{debug, info, warn};
use wire::v1;
use wire::v1::connect_request::Body as Say;

use super::failure::Failure;
use super::identity::{CURRENT, Identity, RENEWED};
use super::open::{Stream, open};
use super::read;
use super::renewal::{self, Known, Roots};
use super::understand::{Meaning, Said, understand};
use super::views::Road;
use super::{Enrol, Parts, backoff, blobs, publish, say};
use crate::control::LinkState;
use crate::exchange::{Command, Mail, Standing, Urgent, View};
use crate::spool::Lane;

/// Lanes whose files are to be delivered, waiting for their task.
const FILES: usize = 64;

/// Messages whose attempt is remembered, for a refusal that names one.
const REMEMBERED: usize = 256;

/// For the orchestrator to take the goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// What the orchestrator may set, so that a mistake there can't make a host deaf or a nuisance.
const HEARTBEAT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(120));
const SILENCE: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(600));

/// How a session ended.
pub(super) enum End {
    /// robotd stops.
    Stopping,
    /// A new certificate is stored: the next session uses it.
    Renewed(Box<Identity>),
    /// The orchestrator trusts other roots from now on: the next session uses them.
    Rerooted(Roots),
    /// robotctl wants to enrol.
    Enrol(Enrol),
    /// Something failed. `welcomed`: it was a session before.
    Failed { failure: Failure, welcomed: bool },
}

/// What a session needs besides its identity.
pub(super) struct Ears<'a> {
    pub(super) parts: &'a Arc<Parts>,
    pub(super) urgent: &'a mut mpsc::Receiver<Mail>,
    pub(super) views: &'a mut mpsc::Receiver<View>,
    pub(super) enrols: &'a mut mpsc::Receiver<Enrol>,
    pub(super) bulk: &'a watch::Sender<Option<Channel>>,
    pub(super) stop: &'a mut watch::Receiver<bool>,
    /// Of the last session; this one's when it was welcomed.
    pub(super) epoch: &'a mut u64,
}

/// Runs one session. `fresh`: the identity was renewed and not used before.
pub(super) async fn run(ears: &mut Ears<'_>, identity: &Identity, fresh: bool) -> End {
    let failed = |failure| End::Failed {
        failure,
        welcomed: false,
    };
    // What was said without a session is said again after the welcome.
    while ears.urgent.try_recv().is_ok() {}
    // Begun anew too: the orchestrator asks again.
    while ears.views.try_recv().is_ok() {}
    let opening = tokio::select! {
        opened = open(ears.parts, identity, *ears.epoch) => opened,
        Some(wish) = ears.enrols.recv() => return End::Enrol(wish),
        () = told_to_stop(ears.stop) => return End::Stopping,
    };
    let (stream, welcome, bulk) = match opening {
        Ok(opened) => opened,
        Err(failure) => return failed(failure),
    };
    *ears.epoch = welcome.session_epoch;
    if fresh {
        adopt(ears.parts, identity).await;
    }
    let mut session = Session::begin(ears, identity, stream, &welcome, bulk).await;
    let end = session.serve(ears).await;
    ears.bulk.send_replace(None);
    end
}

/// The renewed certificate was accepted: the old one is forgotten.
async fn adopt(parts: &Parts, identity: &Identity) {
    let folder = parts.config.identity_dir();
    match identity.store(&folder, CURRENT) {
        Ok(()) => super::identity::remove(&folder, RENEWED),
        Err(reason) => warn!(%reason, "the renewed certificate stays beside the old one"),
    }
    let event = parts
        .audit
        .event(events::Code::AgentCertificateRenewed)
        .with("serial", identity.serial.as_str());
    parts.audit.report(event).await;
}

fn bounded(
    wire: Option<&prost_types::Duration>,
    default: Duration,
    (least, most): (Duration, Duration),
) -> Duration {
    read::length(wire).unwrap_or(default).clamp(least, most)
}

async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

enum Side {
    Published(Failure),
    Renewed(Box<Identity>),
    Rerooted(Roots),
}

struct Session {
    stream: Stream,
    bulk: Channel,
    epoch: u64,
    max_artifact: u64,
    heartbeat: Duration,
    silence: Duration,
    /// What runs beside the stream; ends with the session.
    sides: JoinSet<Side>,
    files: mpsc::Receiver<Lane>,
    uploads: JoinSet<()>,
    road: Road,
    views: JoinSet<()>,
    /// Messages that were not confirmed yet.
    unheard: VecDeque<(u64, oneshot::Sender<()>)>,
    attempts: Said,
    told: Option<Told>,
}

/// What the last heartbeat said that is worth one of its own when it changes.
type Told = (
    crate::exchange::Readiness,
    u32,
    u32,
    Vec<crate::exchange::Blocker>,
);

fn told(standing: &Standing) -> Told {
    (
        standing.readiness,
        standing.slots,
        standing.free_slots,
        standing.blockers.iter().copied().collect(),
    )
}

impl Session {
    async fn begin(
        ears: &mut Ears<'_>,
        identity: &Identity,
        stream: Stream,
        welcome: &v1::Welcome,
        bulk: Channel,
    ) -> Self {
        let parts = Arc::clone(ears.parts);
        let (begun, files) = mpsc::channel(FILES);
        let limits = welcome.limits.as_ref();
        // Zero is what an orchestrator says that does not say.
        let max_frame = limits
            .map(|limits| limits.max_frame_bytes)
            .filter(|bytes| *bytes > 0)
            .unwrap_or(u32::MAX);
        let mut sides = JoinSet::new();
        let (publishing, channel, epoch) =
            (Arc::clone(&parts), bulk.clone(), welcome.session_epoch);
        sides.spawn(async move {
            Side::Published(publish::publish(publishing, channel, epoch, max_frame, begun).await)
        });
        let known = Known {
            agent: identity.agent,
            link_url: identity.link_url.clone(),
            bundle_serial: identity.bundle_serial,
            renew_at: identity.renew_at(backoff::dice()),
        };
        let (channel, renewing) = (bulk.clone(), Arc::clone(&parts));
        sides.spawn(async move {
            Side::Renewed(Box::new(renewal::renew(&renewing, channel, known).await))
        });
        let heartbeat = bounded(
            welcome.heartbeat_interval.as_ref(),
            Duration::from_secs(10),
            HEARTBEAT,
        );
        let silence = bounded(
            welcome.silence_limit.as_ref(),
            Duration::from_secs(30),
            SILENCE,
        )
        .max(heartbeat * 2);
        let (channel, serial) = (bulk.clone(), identity.bundle_serial);
        sides.spawn(async move { Side::Rerooted(renewal::next_roots(channel, serial).await) });
        info!(epoch, "the link is open");
        parts
            .audit
            .report(parts.audit.event(events::Code::AgentLinkOpened))
            .await;
        parts.status.send_modify(|status| {
            (status.state, status.session_epoch) = (LinkState::Online, epoch);
            status.reason.clear();
        });
        let online = Command::Online {
            jobs: welcome
                .jobs
                .iter()
                .filter_map(|wire| read::verdict(wire).ok())
                .collect(),
            leases: welcome
                .leases
                .iter()
                .filter_map(|wire| read::lease_verdict(wire).ok())
                .collect(),
        };
        let epoch = welcome.session_epoch;
        let road = Road::new(bulk.clone(), epoch, parts.traffic.clone());
        ears.bulk.send_replace(Some(bulk.clone()));
        // The jobs' owner ends after the link.
        let _ = parts.commands.send(online).await;
        Self {
            stream,
            bulk,
            epoch,
            max_artifact: limits.map_or(u64::MAX, |limits| limits.max_artifact_bytes),
            heartbeat,
            silence,
            sides,
            files,
            uploads: JoinSet::new(),
            road,
            views: JoinSet::new(),
            unheard: VecDeque::new(),
            attempts: VecDeque::new(),
            told: None,
        }
    }

    async fn serve(&mut self, ears: &mut Ears<'_>) -> End {
        match self.talk(ears).await {
            Ok(end) => end,
            Err(failure) => End::Failed {
                failure,
                welcomed: true,
            },
        }
    }

    async fn talk(&mut self, ears: &mut Ears<'_>) -> Result<End, Failure> {
        let parts = Arc::clone(ears.parts);
        let mut standing = parts.standing.clone();
        let mut beat = interval(self.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut dead = Instant::now() + self.silence;
        loop {
            tokio::select! {
                answer = self.stream.answers.message() => {
                    let answer = answer.map_err(|status| Failure::of_status(&status))?;
                    let answer = answer.ok_or_else(|| Failure::Network("the orchestrator closed the session".into()))?;
                    dead = Instant::now() + self.silence;
                    self.hear(&parts, answer).await?;
                }
                () = sleep_until(dead) => return Err(Failure::Network(format!("no word for {:?}", self.silence))),
                _ = beat.tick() => self.beat(&parts).await?,
                changed = standing.changed() => {
                    let now = told(&standing.borrow_and_update());
                    if changed.is_ok() && self.told.as_ref() != Some(&now) {
                        self.beat(&parts).await?;
                    }
                }
                Some(mail) = ears.urgent.recv() => self.post(&parts, mail).await?,
                Some(side) = self.sides.join_next() => match side {
                    Ok(Side::Published(failure)) => return Err(failure),
                    Ok(Side::Renewed(identity)) => return Ok(End::Renewed(identity)),
                    Ok(Side::Rerooted(roots)) => return Ok(End::Rerooted(roots)),
                    Err(_) => return Err(Failure::Network("a part of the session ended".into())),
                },
                Some(lane) = self.files.recv() => self.upload(&parts, lane),
                Some(_) = self.uploads.join_next() => {}
                Some(view) = ears.views.recv() => drop(self.views.spawn(self.road.clone().deliver(view))),
                Some(_) = self.views.join_next() => {}
                Some(wish) = ears.enrols.recv() => return Ok(End::Enrol(wish)),
                () = told_to_stop(ears.stop) => {
                    self.goodbye().await;
                    return Ok(End::Stopping);
                }
            }
        }
    }

    fn upload(&mut self, parts: &Arc<Parts>, lane: Lane) {
        self.uploads.spawn(blobs::deliver(
            Arc::clone(parts),
            lane,
            self.bulk.clone(),
            self.epoch,
            self.max_artifact,
        ));
    }

    async fn beat(&mut self, parts: &Parts) -> Result<(), Failure> {
        self.told = Some(told(&parts.standing.borrow()));
        let ticks = u64::try_from(sys::clock::boottime().as_nanos()).unwrap_or(u64::MAX);
        self.stream
            .say(Say::Heartbeat(say::heartbeat(parts, ticks, &[])))
            .await?;
        Ok(())
    }

    async fn post(&mut self, parts: &Parts, mail: Mail) -> Result<(), Failure> {
        let attempt = match &mail.body {
            Urgent::OfferReply { attempt, .. } | Urgent::LeaseRequest { attempt, .. } => {
                Some(*attempt)
            }
            _ => None,
        };
        let seq = self.stream.say(say::urgent(parts, &mail.body)).await?;
        if let Some(attempt) = attempt {
            self.attempts.push_back((seq, attempt));
            if self.attempts.len() > REMEMBERED {
                self.attempts.pop_front();
            }
        }
        if !mail.heard.is_closed() {
            self.unheard.push_back((seq, mail.heard));
            // Its answer confirms what was said before it; the next regular one may be far.
            self.beat(parts).await?;
        }
        Ok(())
    }

    async fn hear(&mut self, parts: &Parts, answer: v1::ConnectResponse) -> Result<(), Failure> {
        while self
            .unheard
            .front()
            .is_some_and(|(seq, _)| *seq <= answer.acked_seq)
        {
            if let Some((_, heard)) = self.unheard.pop_front() {
                // A job that does not wait any more does not mind.
                let _ = heard.send(());
            }
        }
        let Some(body) = answer.body else {
            return Ok(());
        };
        match understand(body, &self.attempts) {
            Ok(Meaning::Command(command)) => drop(parts.commands.send(command).await),
            Ok(Meaning::Nothing) => {}
            Ok(Meaning::Refuse { command, code }) => {
                let refused = Some(Refusal::new(code, "robotd can't carry this out"));
                let body = say::urgent(parts, &Urgent::CommandResult { command, refused });
                self.stream.say(body).await?;
            }
            Ok(Meaning::Revoked(failure)) => return Err(failure),
            // One bad message does not end the stream.
            Err(reason) => warn!(%reason, "a message of the orchestrator is ignored"),
        }
        Ok(())
    }

    async fn goodbye(&mut self) {
        let goodbye = v1::Goodbye {
            reason: "robotd stops".into(),
            for_restart: true,
        };
        if self.stream.say(Say::Goodbye(goodbye)).await.is_err() {
            return;
        }
        // The stream's end tells that it was taken; without it, two seconds are enough.
        let (closed, _) = mpsc::channel(1);
        self.stream.out = closed;
        let taken = timeout(GOODBYE, async {
            while let Ok(Some(_)) = self.stream.answers.message().await {}
        })
        .await;
        debug!(taken = taken.is_ok(), "said goodbye");
    }
}
