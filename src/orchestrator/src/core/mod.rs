//! The one owner of jobs, leases and sessions.
//!
//! A thread of its own, because it writes to the store: every decision is one
//! transaction, and nobody hears of a decision before it is durable. Others hold a
//! [`Desk`] and hand in work; the queue is bounded, so a slow disk slows callers
//! down and never piles up memory.

mod certify;
mod commit;
mod dispatch;
mod ending;
mod enrolment;
mod feeds;
pub(crate) mod job;
pub(crate) mod lease;
mod licensing;
mod offers;
mod order_keys;
mod reconcile;
mod secrets;
mod session;
mod show;
mod starting;
mod submit;
mod views;

use std::collections::{BTreeMap, HashMap};

use order::{AgentId, JobId};
use tokio::sync::{mpsc, oneshot, watch};

use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::config;
use crate::events::Event;
use crate::keys::Keyring;
use crate::refused::{Kind, Refused};
use crate::store::{Store, StoreError};
use crate::vault::Vault;

pub(crate) use commit::{Committed, LaneKey, Row};
pub(crate) use dispatch::Job;
pub(crate) use enrolment::{AgentShown, Enrolled};
pub(crate) use feeds::Line;
pub(crate) use session::{Body, Online, Sessions};
pub(crate) use show::stream;

type Work = Box<dyn FnOnce(&mut Core) + Send>;

/// What the core is made of.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) blobs: Blobs,
    pub(crate) vault: Vault,
    pub(crate) keys: Keyring,
    pub(crate) lease_ttl_ms: u64,
    pub(crate) data_dir: std::path::PathBuf,
}

/// The state and the rules.
pub(crate) struct Core {
    store: Store,
    blobs: Blobs,
    vault: Vault,
    keys: Keyring,
    data_dir: std::path::PathBuf,
    clock: Clock,
    leases: lease::Table,
    /// Jobs that have not ended.
    jobs: BTreeMap<JobId, Job>,
    online: HashMap<AgentId, Online>,
    /// Jobs that somebody looks on at.
    views: BTreeMap<JobId, views::View>,
    /// Numbers of watchers and of calls that were given.
    watchers: u64,
    sessions: Sessions,
    incarnation: u64,
    /// Weak: the thread ends when nobody else can hand in work any more.
    work: mpsc::WeakSender<Work>,
    changed: watch::Sender<u64>,
}

/// A way to hand work to the core.
#[derive(Clone)]
pub(crate) struct Desk {
    work: mpsc::Sender<Work>,
    changes: watch::Receiver<u64>,
}

fn stopped() -> Refused {
    Refused::new(
        Kind::Unavailable,
        "SERVER_STOPPING",
        "the server is stopping",
    )
}

impl Desk {
    /// Runs `work` on the core and gives its answer.
    pub(crate) async fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> R + Send + 'static,
    ) -> Result<R, Refused> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |core| drop(answer.send(work(core))));
        self.work.send(work).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())
    }

    /// The same from a thread that may block.
    pub(crate) fn ask_blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> R + Send + 'static,
    ) -> Result<R, Refused> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |core| drop(answer.send(work(core))));
        self.work.blocking_send(work).map_err(|_| stopped())?;
        answered.blocking_recv().map_err(|_| stopped())
    }

    /// Changes its value whenever anything that can be shown may have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

/// Starts the core's thread. It ends when every [`Desk`] is gone.
pub(crate) fn start(parts: Parts) -> Result<(Desk, Sessions), Refused> {
    let (work, mut queue) = mpsc::channel::<Work>(config::CORE_QUEUE);
    let (changed, changes) = watch::channel(0);
    let desk = Desk { work, changes };
    let sessions = Sessions::default();
    let mut core = Core::build(parts, desk.work.downgrade(), sessions.clone(), changed)?;
    std::thread::Builder::new()
        .name("core".to_owned())
        .spawn(move || {
            while let Some(work) = queue.blocking_recv() {
                work(&mut core);
                core.settle();
            }
        })
        .map_err(|error| Refused::unavailable("THREAD_FAILED", error.to_string()))?;
    Ok((desk, sessions))
}

impl Core {
    fn build(
        parts: Parts,
        work: mpsc::WeakSender<Work>,
        sessions: Sessions,
        changed: watch::Sender<u64>,
    ) -> Result<Self, Refused> {
        let incarnation = parts.store.next_incarnation()?;
        let leases = lease::Table::new(
            parts.lease_ttl_ms,
            millis(config::LEASE_GRACE),
            millis(config::TURN),
        );
        let mut core = Self {
            store: parts.store,
            blobs: parts.blobs,
            vault: parts.vault,
            keys: parts.keys,
            data_dir: parts.data_dir,
            clock: Clock,
            leases,
            jobs: BTreeMap::new(),
            online: HashMap::new(),
            views: BTreeMap::new(),
            watchers: 0,
            sessions,
            incarnation,
            work,
            changed,
        };
        core.load_leases()?;
        core.load_jobs()?;
        Ok(core)
    }

    /// What follows from whatever just happened: turns, offers, endings.
    fn settle(&mut self) {
        self.announce_turns();
        self.offer_queued();
        self.end_complete();
        self.settle_views();
        self.changed.send_modify(|version| *version += 1);
    }

    /// Called a few times a second: everything that happens by time alone.
    pub(crate) fn tick(&mut self) {
        self.close_silent_sessions();
        self.withdraw_unanswered();
        self.expire_leases();
        self.give_up_lost();
    }

    fn note(&self, event: Event) {
        // An event that can't be stored must not undo the decision that it is about.
        if let Err(error) = self.store.put_event(&event) {
            tracing::error!(code = event.code, %error, "a security event could not be stored");
        }
    }

    /// For threads that come back with an answer.
    fn desk(&self) -> Option<Desk> {
        let work = self.work.upgrade()?;
        let changes = self.changed.subscribe();
        Some(Desk { work, changes })
    }

    fn now(&self) -> u64 {
        self.clock.unix_ms()
    }

    /// Stores one event by itself.
    pub(crate) fn record(&mut self, event: Event) {
        tracing::info!(
            code = event.code,
            name = event.name,
            text = event.text,
            "security event"
        );
        self.note(event);
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }
}

/// A length in milliseconds.
pub(crate) fn millis(length: std::time::Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// Logs a failure of the store where nobody waits for the answer; the next tick tries again.
fn log_failure<T>(what: &'static str, outcome: Result<T, impl Into<Refused>>) -> Option<T> {
    outcome
        .map_err(|error| {
            let refused: Refused = error.into();
            tracing::error!(code = refused.code, text = refused.text, "{what}");
        })
        .ok()
}

/// What a transaction's closure gives.
type Stored = Result<(), StoreError>;
