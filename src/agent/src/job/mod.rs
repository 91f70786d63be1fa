//! Jobs on this host: from the offer to the moment when nothing of them is left to do.
//!
//! ```text
//!              ┌────────────── declined ◄─ refusal, stop ─┐
//!              ▼                                          │
//!  offered ─► accepted ─► leased ─► start-intent ─► started ─► ended ─► released ─► reported ─► forgotten
//!              slot        license   ▲ durable         │        signed   license    result in
//!              reserved    held      │ before the      │        result   returned   the JOB lane
//!                                    │ broker is asked └─► lost: whether it started is unknown
//! ```
//!
//! `dispatch` owns the list and hears offers, the broker and robotctl; each attempt has one task
//! (`attempt`), whose straight story is `run`; its verbs are in `steps`, what it does with messages in
//! `hear`, how it keeps its license in `keeper`, what it puts on disk first in `durable`. Pure rules stand in
//! `admission` and `reconcile`.

mod admission;
mod attempt;
mod board;
mod dispatch;
mod drain;
mod durable;
mod entry;
mod hear;
mod journal;
mod keeper;
mod look;
mod reconcile;
mod run;
mod steps;

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::audit::Audit;
use crate::config::Config;
use crate::exchange::{Transfer, Urgent, UrgentLine, View};
use crate::privileged::Broker;
use crate::spool::{Lanes, OwnLane};

pub(crate) use board::Board;
pub(crate) use dispatch::{Ask, Dispatch};
pub(crate) use entry::Entry;
pub(crate) use journal::{Journal, JournalError};

/// What every job works with.
pub(crate) struct Parts {
    /// Places and limits.
    pub(crate) config: Arc<Config>,
    /// The boot in which ticks count.
    pub(crate) boot: String,
    /// Who starts and ends bots.
    pub(crate) broker: Broker,
    /// What survives robotd.
    pub(crate) journal: Journal,
    /// Steps and results.
    pub(crate) steps: OwnLane,
    /// Security events.
    pub(crate) audit: Audit,
    /// To the orchestrator, now.
    pub(crate) urgent: UrgentLine,
    /// Over the bulk connection.
    pub(crate) transfers: mpsc::Sender<Transfer>,
    /// Live views, over the bulk connection.
    pub(crate) views: mpsc::Sender<View>,
    /// Lanes to deliver.
    pub(crate) lanes: Lanes,
    /// What robotd says of itself.
    pub(crate) board: Board,
}

impl Parts {
    /// Answers a command of the orchestrator.
    fn answer(&self, command: String, refused: Option<privsep::Refusal>) {
        drop(self.urgent.say(Urgent::CommandResult { command, refused }));
    }
}
