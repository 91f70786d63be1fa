//! One attempt: what its task knows, and how it hears while it waits.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use order::{PhaseAt, Signed};
use privsep::Refusal;
use privsep::broker::Held;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Parts;
use super::entry::{Entry, Stage};
use crate::exchange::{
    Denial, Grant, HeldJob, LeaseAnswer, LeaseVerdict, Reject, StopMode, VerdictAction,
};
use crate::ids::AttemptRef;
use crate::license::Lease;
use crate::output::Output;

/// Messages that may wait for one job; all that its life brings is far less.
pub(super) const INBOX: usize = 256;

/// Secrets that are fetched at once.
const SECRETS_AT_ONCE: usize = 4;

/// What a job hears.
#[derive(Debug)]
pub(super) enum Input {
    /// The same offer came again.
    OfferedAgain,
    /// The signed order.
    Start(Signed),
    /// End it.
    Stop { mode: StopMode, reason: String },
    /// To its request for a license.
    Lease(LeaseAnswer),
    /// Its turn for a license.
    LeaseReady,
    /// Its license holds longer.
    Renewed(Grant),
    /// Its license does not.
    LeaseDenied(Denial),
    /// A session began.
    Online {
        verdict: Option<VerdictAction>,
        lease: Option<LeaseVerdict>,
    },
    /// The orchestrator refused a message of this job.
    Refused(Refusal),
    /// The broker is there: what it knows of this attempt.
    Synced(Option<Held>),
    /// A step of the privileged side.
    Phase(PhaseAt),
    /// Its session wants a secret.
    SecretWanted(String),
    /// The broker's result.
    Ended(Signed),
    /// A picture is wanted.
    Screenshot { command: String },
    /// Somebody looks on.
    Watch {
        command: String,
        most_per_second: u32,
    },
}

/// Why the story ends early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Before its start; the orchestrator is told why.
    Declined(Reject),
    /// Nobody can prove whether it started.
    Lost,
    /// The orchestrator wants to hear no more of it.
    Dropped,
    /// robotd stops; the next one goes on from the journal.
    Suspended,
}

/// What the broker set aside.
#[derive(Clone, Debug)]
pub(super) struct Reserved {
    pub(super) account: String,
    pub(super) challenge: [u8; 32],
    pub(super) package_cached: bool,
    pub(super) since: Instant,
}

/// A request for a license.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) request: String,
    /// When it was made, each time.
    pub(super) ticks: Vec<u64>,
}

pub(super) struct Attempt {
    pub(super) parts: Arc<Parts>,
    pub(super) entry: Entry,
    pub(super) inbox: mpsc::Receiver<Input>,
    /// Heard while the job waited for the disk.
    pub(super) later: VecDeque<Input>,
    /// Taken from the journal: its place has to be found first.
    pub(super) resumed: bool,
    pub(super) reserved: Option<Reserved>,
    pub(super) asked: Asked,
    pub(super) answer: Option<LeaseAnswer>,
    pub(super) turn: bool,
    pub(super) lease: Option<Lease>,
    pub(super) lease_lost_told: bool,
    pub(super) renewal: Option<Signed>,
    pub(super) order: Option<Signed>,
    pub(super) package_needed: Option<bool>,
    pub(super) stop: Option<StopMode>,
    pub(super) synced: bool,
    pub(super) online: bool,
    pub(super) alarm: Option<Instant>,
    pub(super) output: Option<Output>,
    pub(super) wanted: Option<mpsc::Receiver<String>>,
    pub(super) secrets: JoinSet<()>,
    pub(super) ending: Option<Ending>,
}

enum Next {
    Input(Input),
    Secret(String),
    Renewal,
    Alarm,
    SecretDone,
    Suspended,
}

impl Attempt {
    pub(super) fn new(
        parts: Arc<Parts>,
        entry: Entry,
        inbox: mpsc::Receiver<Input>,
        resumed: bool,
    ) -> Self {
        let lease = entry
            .lease
            .as_ref()
            .map(|saved| Lease::restored(saved, &parts.boot));
        let job = Self {
            parts,
            entry,
            inbox,
            later: VecDeque::new(),
            resumed,
            reserved: None,
            asked: Asked::default(),
            answer: None,
            turn: false,
            lease,
            lease_lost_told: false,
            renewal: None,
            order: None,
            package_needed: None,
            stop: None,
            synced: false,
            online: false,
            alarm: None,
            output: None,
            wanted: None,
            secrets: JoinSet::new(),
            ending: None,
        };
        job.show();
        job
    }

    pub(super) fn attempt(&self) -> AttemptRef {
        self.entry.attempt()
    }

    pub(super) fn past(&self, stage: Stage) -> bool {
        self.entry.stage >= stage
    }

    /// Writes this job's line on the board.
    pub(super) fn show(&self) {
        let takes_slot = self.entry.stage < Stage::Ended;
        self.parts.board.job(HeldJob {
            attempt: self.attempt(),
            phase: self.entry.phase(),
            takes_slot,
        });
        let lease = self
            .lease
            .as_ref()
            .filter(|_| self.entry.stage < Stage::Released);
        self.parts
            .board
            .lease(self.attempt(), lease.map(Lease::which));
    }

    /// Waits until `ready` has something, and hears everything meanwhile.
    pub(super) async fn until<T>(
        &mut self,
        mut ready: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, Ending> {
        loop {
            if let Some(ending) = self.ending.take() {
                return Err(ending);
            }
            if let Some(found) = ready(self) {
                return Ok(found);
            }
            let next = self.next().await;
            self.take(next).await?;
        }
    }

    /// Waits for something else, and hears everything meanwhile.
    pub(super) async fn attending<F: Future>(&mut self, other: F) -> Result<F::Output, Ending> {
        tokio::pin!(other);
        loop {
            if let Some(ending) = self.ending.take() {
                return Err(ending);
            }
            let next = tokio::select! {
                biased;
                output = &mut other => return Ok(output),
                next = self.next() => next,
            };
            self.take(next).await?;
        }
    }

    /// Cancel safe: nothing is taken unless it is returned.
    async fn next(&mut self) -> Next {
        if let Some(input) = self.later.pop_front() {
            return Next::Input(input);
        }
        let renewal = self.renewal_due();
        let (alarm, free) = (self.alarm, self.secrets.len() < SECRETS_AT_ONCE);
        tokio::select! {
            input = self.inbox.recv() => input.map_or(Next::Suspended, Next::Input),
            name = wanted(self.wanted.as_mut()), if free => Next::Secret(name),
            Some(_) = self.secrets.join_next() => Next::SecretDone,
            () = at(renewal) => Next::Renewal,
            () = at(alarm) => Next::Alarm,
        }
    }

    async fn take(&mut self, next: Next) -> Result<(), Ending> {
        match next {
            Next::Suspended => return Err(Ending::Suspended),
            Next::Input(input) => self.hear(input).await,
            Next::Secret(name) => self.fetch_secret(name),
            Next::SecretDone => {}
            Next::Renewal => self.renew().await,
            Next::Alarm => self.alarm = None,
        }
        Ok(())
    }
}

/// CLOCK_BOOTTIME, on which leases count.
pub(super) fn now_ns() -> u64 {
    u64::try_from(sys::clock::boottime().as_nanos()).unwrap_or(u64::MAX)
}

pub(super) async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

async fn wanted(names: Option<&mut mpsc::Receiver<String>>) -> String {
    match names {
        Some(names) => match names.recv().await {
            Some(name) => name,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}
