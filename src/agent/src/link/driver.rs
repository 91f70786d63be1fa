//! The machine of `link`: which identity, when to try, what to say of it.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use events::Code;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tonic::transport::Channel;
use tracing::{debug, error, info, warn};

use super::backoff::{Backoff, dice};
use super::enrolment::{self, EnrolError};
use super::failure::Failure;
use super::identity::{CURRENT, Identity, RENEWED, remove};
use super::renewal::Roots;
use super::session::{self, Ears, End};
use super::{Enrol, Inlets, Parts, transfers};
use crate::control::LinkState;
use crate::exchange::{Mail, View};

/// Between two tries while the certificate or the identity is refused: an administrator may have
/// taken the refusal back, and nobody else can.
const REFUSED_PAUSE: Duration = Duration::from_secs(600);

/// The owner of the link.
pub(crate) struct Driver {
    parts: Arc<Parts>,
    urgent: mpsc::Receiver<Mail>,
    views: mpsc::Receiver<View>,
    enrols: mpsc::Receiver<Enrol>,
    bulk: watch::Sender<Option<Channel>>,
    stop: watch::Receiver<bool>,
    identity: Option<Identity>,
    /// Renewed and not used yet.
    renewed: Option<Identity>,
    backoff: Backoff,
    epoch: u64,
    /// The present outage was told.
    outage_told: bool,
    /// Why there is no identity.
    trouble: String,
}

impl Driver {
    /// Reads the stored identity. One that can't be used is no reason not to start: robotctl must
    /// be able to enrol this host again.
    pub(crate) fn new(parts: Arc<Parts>, inlets: Inlets, stop: watch::Receiver<bool>) -> Self {
        let folder = parts.config.identity_dir();
        let mut trouble = String::from("run `robotctl enroll --token FILE` as root");
        let identity = Identity::load(&folder, CURRENT).unwrap_or_else(|reason| {
            error!(%reason, "this host's identity can't be used");
            trouble = reason.to_string();
            None
        });
        let renewed = Identity::load(&folder, RENEWED).unwrap_or_else(|reason| {
            warn!(%reason, "a renewed certificate can't be used; the one before is");
            None
        });
        let bulk = watch::Sender::new(None);
        tokio::spawn(transfers::serve(inlets.transfers, bulk.subscribe()));
        let backoff = Backoff::new(parts.config.link.backoff_max());
        if let Some(identity) = &identity {
            parts.audit.enrolled_as(identity.agent);
        }
        Self {
            parts,
            urgent: inlets.urgent,
            views: inlets.views,
            enrols: inlets.enrols,
            bulk,
            stop,
            identity,
            renewed,
            backoff,
            epoch: 0,
            outage_told: true,
            trouble,
        }
    }

    /// Until robotd stops.
    pub(crate) async fn run(mut self) {
        while !*self.stop.borrow() {
            let fresh = self.renewed.is_some();
            let Some(identity) = self.renewed.take().or_else(|| self.identity.take()) else {
                self.show(LinkState::NotEnrolled, &self.trouble, None);
                self.rest(None).await;
                continue;
            };
            self.show(LinkState::Connecting, "", Some(&identity));
            let mut ears = Ears {
                parts: &self.parts,
                urgent: &mut self.urgent,
                views: &mut self.views,
                enrols: &mut self.enrols,
                bulk: &self.bulk,
                stop: &mut self.stop,
                epoch: &mut self.epoch,
            };
            let end = session::run(&mut ears, &identity, fresh).await;
            self.after(end, identity, fresh).await;
        }
    }

    async fn after(&mut self, end: End, identity: Identity, fresh: bool) {
        match end {
            End::Stopping => self.identity = Some(identity),
            End::Enrol(wish) => {
                self.identity = Some(identity);
                self.enrol(wish).await;
            }
            End::Renewed(new) => {
                info!("the certificate is renewed; the next session uses it");
                (self.identity, self.renewed) = (Some(identity), Some(*new));
            }
            End::Rerooted(roots) => self.identity = Some(self.rerooted(identity, roots)),
            End::Failed { failure, welcomed } if fresh && !welcomed && !failure.passes() => {
                error!(%failure, "the renewed certificate is refused; the one before is used");
                remove(&self.parts.config.identity_dir(), RENEWED);
            }
            End::Failed { failure, welcomed } => {
                self.keep(identity, fresh && !welcomed);
                self.failed(failure, welcomed).await;
            }
        }
    }

    fn rerooted(&self, mut identity: Identity, new: Roots) -> Identity {
        let serial = new.serial;
        let taken = identity
            .take_roots(new.serial, new.roots)
            .and_then(|changed| {
                if changed {
                    identity.store(&self.parts.config.identity_dir(), CURRENT)
                } else {
                    Ok(())
                }
            });
        match taken {
            Ok(()) => info!(serial, "the orchestrator's root certificates have changed"),
            Err(reason) => error!(serial, %reason, "new root certificates are not taken"),
        }
        identity
    }

    fn keep(&mut self, identity: Identity, still_fresh: bool) {
        if still_fresh {
            self.renewed = Some(identity);
        } else {
            self.identity = Some(identity);
        }
    }

    async fn failed(&mut self, failure: Failure, welcomed: bool) {
        if welcomed {
            self.backoff.progress();
            self.outage_told = false;
        }
        let refused = !failure.passes();
        self.tell(&failure, refused).await;
        let identity = self.renewed.as_ref().or(self.identity.as_ref());
        let state = if refused {
            LinkState::Refused
        } else {
            LinkState::Connecting
        };
        self.show(state, &failure.to_string(), identity);
        let pause = match failure {
            Failure::Later(delay) => delay.max(self.backoff.next(dice())),
            // Two of one identity that connect in turn would go on for ever.
            Failure::Superseded(_) => self.parts.config.link.backoff_max(),
            _ if refused => REFUSED_PAUSE,
            _ => self.backoff.next(dice()),
        };
        self.rest(Some(pause)).await;
    }

    /// Once per outage, and once when a refusal begins.
    async fn tell(&mut self, failure: &Failure, refused: bool) {
        let was_refused = self.parts.status.borrow().state == LinkState::Refused;
        if refused && !was_refused {
            error!(%failure, "the link is refused; it is tried again every ten minutes");
            let code = Code::AgentCertificateRefused;
            self.parts
                .audit
                .report(
                    self.parts
                        .audit
                        .event(code)
                        .with("reason", failure.to_string()),
                )
                .await;
        } else if !refused && !self.outage_told {
            warn!(%failure, "the link is lost; jobs go on and their output waits");
            let code = Code::AgentLinkLost;
            self.parts
                .audit
                .report(
                    self.parts
                        .audit
                        .event(code)
                        .with("reason", failure.to_string()),
                )
                .await;
        } else {
            debug!(%failure, "the link can't be opened");
        }
        self.outage_told = true;
    }

    /// Waits, for ever without a pause; robotctl and stopping are heard meanwhile.
    async fn rest(&mut self, pause: Option<Duration>) {
        let until = pause.map(|pause| Instant::now() + pause);
        let wish = loop {
            tokio::select! {
                () = sleep_or_never(until) => return,
                _ = self.stop.wait_for(|stop| *stop) => return,
                // Dropped: nobody hears it now, and that is what its sender learns.
                Some(_) = self.urgent.recv() => {}
                Some(_) = self.views.recv() => {}
                wish = self.enrols.recv() => break wish,
            }
        };
        if let Some(wish) = wish {
            self.enrol(wish).await;
        }
    }

    async fn enrol(&mut self, wish: Enrol) {
        let outcome = tokio::select! {
            outcome = enrolment::enrol(&self.parts, &wish) => outcome,
            _ = self.stop.wait_for(|stop| *stop) => Err(EnrolError::Stopping),
        };
        let answer = match outcome {
            Ok(identity) => {
                info!(agent = %identity.agent, "this host is enrolled");
                self.parts.audit.enrolled_as(identity.agent);
                let event = self
                    .parts
                    .audit
                    .event(Code::AgentEnrolled)
                    .with("agent", identity.agent.to_string());
                self.parts.audit.report(event).await;
                let agent = identity.agent;
                self.show(LinkState::Connecting, "", Some(&identity));
                (self.identity, self.renewed, self.epoch) = (Some(identity), None, 0);
                self.backoff.progress();
                Ok(agent)
            }
            Err(reason) => {
                error!(code = reason.code(), %reason, "this host could not be enrolled");
                let event = self
                    .parts
                    .audit
                    .event(Code::AgentEnrolmentRefused)
                    .with("reason", format!("{}: {reason}", reason.code()));
                self.parts.audit.report(event).await;
                Err(reason)
            }
        };
        // robotctl may have given up.
        let _ = wish.answer.send(answer);
    }

    fn show(&self, state: LinkState, reason: &str, identity: Option<&Identity>) {
        self.parts.status.send_modify(|status| {
            (status.state, status.reason, status.session_epoch) = (state, reason.to_owned(), 0);
            if let Some(identity) = identity {
                status.agent_id = Some(identity.agent.to_string());
                status.url = Some(identity.link_url.clone());
                let until = identity
                    .until()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                status.certificate_until_unix_ms = u64::try_from(until.as_millis()).ok();
            }
        });
    }
}

async fn sleep_or_never(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
