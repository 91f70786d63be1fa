//! What of a job has to be on disk before it goes on, and how it waits for a disk that is full.

use std::time::Duration;

use order::{Phase, PhaseAt};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, warn};

use super::attempt::{Attempt, Input, at};
use super::entry::{Place, Stage};
use crate::encode;
use crate::exchange::{JobRecord, Record};

/// Before a record or a journal entry that the disk did not take is tried again.
const DISK_PAUSE: Duration = Duration::from_secs(5);

/// Messages that are kept while the job waits for the disk; after that its inbox fills.
const MAX_LATER: usize = 4096;

impl Attempt {
    /// Reaches a stage: durable when this returns. A disk that does not take it holds the job up
    /// and is tried again; going on without it could run a job twice.
    pub(super) async fn reach(&mut self, stage: Stage) {
        self.entry.stage = stage;
        while let Err(reason) = self.try_keep().await {
            error!(attempt = %self.attempt(), %reason, "a job waits for the disk");
            self.wait_for_disk().await;
        }
        self.show();
        debug!(attempt = %self.attempt(), ?stage, "stage reached");
    }

    /// Keeps a license's new end. Not kept, a robotd that restarts counts with the end before it,
    /// which is safe; so this never waits.
    pub(super) async fn keep_lease(&mut self) {
        if let Err(reason) = self.try_keep().await {
            warn!(attempt = %self.attempt(), %reason, "the journal has an older end of the license than the orchestrator");
        }
        self.show();
    }

    async fn try_keep(&mut self) -> Result<(), super::JournalError> {
        let lease = self.lease.as_ref();
        self.entry.lease = lease.map(|lease| lease.saved(&self.parts.boot));
        self.parts.journal.keep(&self.entry).await
    }

    /// Puts a step into the JOB lane, once.
    pub(super) async fn record(&mut self, at: PhaseAt) {
        // REPORTED carries the result and is written by its own verb.
        if at.phase == Phase::Reported || self.entry.recorded.contains(&at.phase) {
            return;
        }
        self.append(JobRecord::step(self.attempt(), at)).await;
        self.entry.recorded.insert(at.phase);
        self.reach(self.entry.stage).await;
    }

    pub(super) async fn record_now(&mut self, phase: Phase) {
        self.record(PhaseAt {
            phase,
            at_unix_ms: sys::clock::unix_ms(),
        })
        .await;
    }

    pub(super) async fn append(&mut self, record: JobRecord) -> Place {
        let batch = encode::batch(&Record::Job(record));
        loop {
            match self.parts.steps.append(batch.clone()).await {
                Ok((epoch, seq)) => return Place { epoch, seq },
                Err(reason) => {
                    error!(attempt = %self.attempt(), %reason, "a step of a job waits for the disk");
                    self.wait_for_disk().await;
                }
            }
        }
    }

    /// A while. The license is kept meanwhile, or the broker would end a job that only waits;
    /// everything else is heard later, in its order.
    async fn wait_for_disk(&mut self) {
        let until = Instant::now() + DISK_PAUSE;
        loop {
            let renewal = self.renewal_due().filter(|_| !self.lease_over());
            let room = self.later.len() < MAX_LATER;
            let input = tokio::select! {
                () = sleep_until(until) => return,
                () = at(renewal) => None,
                input = self.inbox.recv(), if room => match input {
                    Some(input) => Some(input),
                    // robotd stops: the next one goes on from what is on disk.
                    None => return sleep_until(until).await,
                },
            };
            match input {
                None => self.renew().await,
                Some(Input::Renewed(grant)) => self.extend(&grant).await,
                Some(other) => self.later.push_back(other),
            }
        }
    }
}
