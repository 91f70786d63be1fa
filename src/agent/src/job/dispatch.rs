//! The owner of the list of jobs: hears offers, the broker, robotctl, and gives each its task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use events::Code;
use order::AttemptRef;
use privsep::broker::{Held, HeldState, Request, Slot, SlotState};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use tracing::{debug, info, warn};

use super::Parts;
use super::admission::{Situation, admit};
use super::attempt::{Attempt, INBOX, Input};
use super::drain::was_drained;
use super::entry::Entry;
use super::look::{free_bytes, used_bytes};
use super::run::run_job;
use crate::exchange::{Command, LeaseVerdict, Offer, OfferAnswer, Reject, Urgent, Verdict};
use crate::privileged::BrokerEvent;

/// How often disk and spool are looked at while nothing happens.
const LOOK_AROUND: Duration = Duration::from_secs(15);

/// What robotctl asks.
pub(crate) enum Ask {
    /// Take no more offers.
    Drain { answer: oneshot::Sender<()> },
    /// Take them again.
    Resume { answer: oneshot::Sender<()> },
}

/// The owner's own.
pub(crate) struct Dispatch {
    pub(super) parts: Arc<Parts>,
    commands: mpsc::Receiver<Command>,
    broker: mpsc::Receiver<BrokerEvent>,
    asks: mpsc::Receiver<Ask>,
    jobs: BTreeMap<AttemptRef, mpsc::Sender<Input>>,
    tasks: JoinSet<AttemptRef>,
    slots: BTreeMap<String, SlotState>,
    broker_here: bool,
    pub(super) draining: bool,
    /// As the orchestrator said it last; a broker that comes back hears it again.
    key_set: Option<order::Signed>,
    /// When what runs is stopped, while draining.
    pub(super) stop_at: Option<Instant>,
    disk_free: u64,
    spool_used: u64,
}

impl Dispatch {
    pub(crate) fn new(
        parts: Arc<Parts>,
        commands: mpsc::Receiver<Command>,
        broker: mpsc::Receiver<BrokerEvent>,
        asks: mpsc::Receiver<Ask>,
    ) -> Self {
        let draining = was_drained(&parts.config.state_dir);
        Self {
            parts,
            commands,
            broker,
            asks,
            jobs: BTreeMap::new(),
            tasks: JoinSet::new(),
            slots: BTreeMap::new(),
            broker_here: false,
            draining,
            key_set: None,
            stop_at: None,
            disk_free: 0,
            spool_used: 0,
        }
    }

    /// Takes up what the journal holds, then hears until `stop` says so. Jobs that run then are
    /// taken up by the next robotd.
    pub(crate) async fn run(mut self, entries: Vec<Entry>, stop: impl Future<Output = ()>) {
        for entry in entries {
            info!(attempt = %entry.attempt(), stage = ?entry.stage, "a job of the journal is taken up");
            self.take_up(entry, true);
        }
        let mut look_around = interval(LOOK_AROUND);
        tokio::pin!(stop);
        loop {
            self.publish();
            tokio::select! {
                () = &mut stop => break,
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => break,
                },
                event = self.broker.recv() => match event {
                    Some(event) => self.hear(event).await,
                    None => break,
                },
                Some(ask) = self.asks.recv() => self.answer(ask).await,
                Some(ended) = self.tasks.join_next() => self.ended(ended),
                _ = look_around.tick() => self.look().await,
                () = at(self.stop_at) => self.stop_all().await,
            }
        }
        // Their inboxes close; each ends where it waits, with its journal as it stands.
        self.jobs.clear();
        while self.tasks.join_next().await.is_some() {}
    }

    fn take_up(&mut self, entry: Entry, resumed: bool) {
        let (inbox, heard) = mpsc::channel(INBOX);
        let attempt = entry.attempt();
        let job = Attempt::new(Arc::clone(&self.parts), entry, heard, resumed);
        self.jobs.insert(attempt, inbox);
        self.tasks.spawn(async move {
            run_job(job).await;
            attempt
        });
    }

    fn ended(&mut self, ended: Result<AttemptRef, tokio::task::JoinError>) {
        if let Ok(attempt) = ended {
            self.jobs.remove(&attempt);
        }
    }

    async fn tell(&self, attempt: AttemptRef, input: Input) -> bool {
        match self.jobs.get(&attempt) {
            // A job's inbox has room for all that its life brings; if it had not, it would be
            // waited for: jobs never wait for this task.
            Some(inbox) => inbox.send(input).await.is_ok(),
            None => false,
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Offer(offer) => self.consider(offer).await,
            Command::Start { attempt, order } => {
                if !self.tell(attempt, Input::Start(order)).await {
                    warn!(%attempt, "a start for a job that is not here");
                }
            }
            Command::Stop {
                attempt,
                mode,
                reason,
            } => {
                if !self.tell(attempt, Input::Stop { mode, reason }).await {
                    debug!(%attempt, "a stop for a job that is not here");
                }
            }
            Command::Lease(answer) => {
                // The request's id is known to the job alone; the others ignore it.
                for inbox in self.jobs.values() {
                    let _ = inbox.send(Input::Lease(answer.clone())).await;
                }
            }
            Command::LeaseReady { job } => {
                self.tell_job(|attempt| attempt.job == job, || Input::LeaseReady)
                    .await
            }
            Command::Renewed { grants, denials } => self.renewed(grants, denials).await,
            Command::Screenshot { command, attempt } => {
                let id = command.clone();
                self.pass_command(attempt, id, Input::Screenshot { command })
                    .await
            }
            Command::Watch {
                command,
                attempt,
                most_per_second,
            } => {
                let id = command.clone();
                let input = Input::Watch {
                    command,
                    most_per_second,
                };
                self.pass_command(attempt, id, input).await
            }
            Command::KeySet(signed) => {
                self.key_set = Some(signed);
                self.pass_on_key_set().await;
            }
            Command::Drain { resume: true, .. } => self.resume("the orchestrator").await,
            Command::Drain {
                resume: false,
                finish_within,
            } => self.drain("the orchestrator", finish_within).await,
            Command::Online { jobs, leases } => self.come_online(&jobs, &leases).await,
            Command::Refused { attempt, refusal } => match attempt {
                Some(attempt) => _ = self.tell(attempt, Input::Refused(refusal)).await,
                None => {
                    warn!(code = %refusal.code, detail = %refusal.detail, "the orchestrator refused a message")
                }
            },
        }
    }

    /// A command that is answered by the job, or here when there is none.
    async fn pass_command(&self, attempt: AttemptRef, command: String, input: Input) {
        if !self.tell(attempt, input).await {
            let detail = format!("attempt {attempt} is not here");
            let refusal = privsep::Refusal::new("JOB_UNKNOWN", detail);
            self.parts.answer(command, Some(refusal));
        }
    }

    pub(super) async fn tell_job(
        &self,
        which: impl Fn(&AttemptRef) -> bool,
        input: impl Fn() -> Input,
    ) {
        for (_, inbox) in self.jobs.iter().filter(|(attempt, _)| which(attempt)) {
            let _ = inbox.send(input()).await;
        }
    }

    async fn renewed(
        &self,
        grants: Vec<crate::exchange::Grant>,
        denials: Vec<crate::exchange::Denial>,
    ) {
        for grant in grants {
            self.tell_job(
                |attempt| attempt.job == grant.job,
                || Input::Renewed(grant.clone()),
            )
            .await;
        }
        let held = self.parts.board.watch().borrow().leases.clone();
        for denial in denials {
            let whose = held
                .iter()
                .find(|held| Some(held.lease.lease) == denial.lease)
                .map(|held| held.job);
            if let Some(job) = whose {
                self.tell_job(
                    |attempt| attempt.job == job,
                    || Input::LeaseDenied(denial.clone()),
                )
                .await;
            }
        }
    }

    async fn come_online(&self, verdicts: &[Verdict], leases: &[LeaseVerdict]) {
        let held = self.parts.board.watch().borrow().leases.clone();
        for (attempt, inbox) in &self.jobs {
            let verdict = verdicts
                .iter()
                .find(|verdict| verdict.attempt == *attempt)
                .map(|verdict| verdict.action);
            let own = held
                .iter()
                .find(|held| held.job == attempt.job)
                .map(|held| held.lease.lease);
            let lease = own
                .and_then(|own| leases.iter().find(|verdict| verdict.lease == own))
                .cloned();
            let _ = inbox.send(Input::Online { verdict, lease }).await;
        }
    }

    async fn consider(&mut self, offer: Offer) {
        let attempt = offer.attempt;
        if self.tell(attempt, Input::OfferedAgain).await {
            return;
        }
        self.look().await;
        let mut now = self.situation();
        now.ended_before = self.parts.journal.has_ended(attempt);
        match admit(&offer, &now) {
            Ok(()) => self.take_up(Entry::offered(offer), false),
            Err(reject) => self.refuse(attempt, reject).await,
        }
    }

    async fn refuse(&self, attempt: AttemptRef, reject: Reject) {
        info!(%attempt, reason = ?reject.reason, detail = %reject.detail, "an offered job is refused");
        let code = if reject.code.is_empty() {
            format!("{:?}", reject.reason)
        } else {
            reject.code.clone()
        };
        let event = self.parts.audit.event(Code::OfferRefused);
        let event = event
            .with("reason_code", code)
            .with("reason", reject.detail.as_str());
        drop(self.parts.urgent.say(Urgent::OfferReply {
            attempt,
            answer: OfferAnswer::Reject(reject),
        }));
        self.parts.audit.report_for(attempt, event).await;
    }

    async fn hear(&mut self, event: BrokerEvent) {
        match event {
            BrokerEvent::Synced { held, slots } => self.synced(held, slots).await,
            BrokerEvent::Gone => self.broker_here = false,
            // Of a job that is not here, the next sync tells.
            BrokerEvent::Phase { attempt, at } => _ = self.tell(attempt, Input::Phase(at)).await,
            BrokerEvent::SecretWanted { attempt, name } => {
                _ = self.tell(attempt, Input::SecretWanted(name)).await;
            }
            BrokerEvent::Ended { attempt, result } => {
                _ = self.tell(attempt, Input::Ended(result)).await;
            }
            BrokerEvent::Abilities { found, missing } => self.parts.board.host(&found, missing),
            BrokerEvent::Slot(Slot { account, state }) => drop(self.slots.insert(account, state)),
            BrokerEvent::Security {
                code,
                attempt,
                body,
            } => self.parts.audit.forward(code, attempt, body).await,
        }
    }

    async fn synced(&mut self, held: Vec<Held>, slots: Vec<Slot>) {
        self.broker_here = true;
        self.slots = slots
            .into_iter()
            .map(|slot| (slot.account, slot.state))
            .collect();
        for held in &held {
            if !self.jobs.contains_key(&held.attempt) {
                self.adopt(held).await;
            }
        }
        self.pass_on_key_set().await;
        for (attempt, inbox) in &self.jobs {
            let known = held.iter().find(|held| held.attempt == *attempt).cloned();
            let _ = inbox.send(Input::Synced(known)).await;
        }
    }

    /// What the broker makes of it is its own matter, and its own event.
    async fn pass_on_key_set(&self) {
        let Some(signed) = self.key_set.clone() else {
            return;
        };
        let request = Request::KeySet { signed };
        if let Err(reason) = self.parts.broker.tell(request, vec![]).await {
            warn!(%reason, "the order keys did not reach the broker");
        }
    }

    /// An attempt that the broker has and the journal has not.
    async fn adopt(&mut self, held: &Held) {
        let attempt = held.attempt;
        if held.state == HeldState::Reserved {
            let cancelled = self
                .parts
                .broker
                .tell(Request::Cancel { attempt }, vec![])
                .await;
            return debug!(%attempt, ?cancelled, "a reservation of nobody is given back");
        }
        warn!(%attempt, "the broker has a job that the journal has not; it is followed to its end");
        self.take_up(Entry::unknown(attempt), true);
    }

    async fn answer(&mut self, ask: Ask) {
        let answer = match ask {
            Ask::Drain { answer } => {
                self.drain("robotctl", None).await;
                answer
            }
            Ask::Resume { answer } => {
                self.resume("robotctl").await;
                answer
            }
        };
        self.publish();
        // robotctl may have given up.
        let _ = answer.send(());
    }

    async fn look(&mut self) {
        let (state, spool) = (
            self.parts.config.state_dir.clone(),
            self.parts.config.spool_dir(),
        );
        let looked =
            tokio::task::spawn_blocking(move || (free_bytes(&state), used_bytes(&spool))).await;
        (self.disk_free, self.spool_used) = looked.unwrap_or_default();
    }

    fn publish(&self) {
        self.parts.board.situation(&self.situation());
    }

    fn situation(&self) -> Situation {
        let admission = self.parts.config.admission;
        let clean = self
            .slots
            .values()
            .filter(|state| !matches!(state, SlotState::Quarantined(_)))
            .count();
        Situation {
            broker_here: self.broker_here,
            draining: self.draining,
            ended_before: false,
            lanes_writable: self.parts.steps.writable(),
            jobs: self.parts.board.taken_slots(),
            max_jobs: admission.max_jobs.unwrap_or(u32::MAX),
            clean_slots: u32::try_from(clean).unwrap_or(u32::MAX),
            disk_free: self.disk_free,
            disk_reserve: admission.min_free_mib << 20,
            spool_used: self.spool_used,
            spool_limit: admission.spool_mib << 20,
        }
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
