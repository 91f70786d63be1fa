//! One lane as the link delivers it and as a job waits for it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use spool::{Epoch, Frame, LaneDir, LaneKey, Next, Reader, Seq, SeqRange};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tracing::{debug, warn};

use super::LaneError;
use crate::ids::{AttemptRef, Sha256Hex};

/// What a lane holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaneKind {
    /// Security events.
    Audit,
    /// Steps and results of jobs.
    Job,
    /// One attempt's output.
    Log,
}

/// How far the writer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tail {
    /// Counts up with every ring, so that a waiting reader wakes.
    rings: u64,
    /// Nobody writes it any more.
    closed: bool,
}

/// How far delivery is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// Durable at the orchestrator.
    durable: u64,
    /// The end was read, and this was the last record.
    last: Option<u64>,
    /// Every blob of an ended lane is at the orchestrator.
    blobs_done: bool,
    /// The orchestrator does not take this lane.
    refused: bool,
}

struct Shared {
    kind: LaneKind,
    epoch: Epoch,
    attempt: Option<AttemptRef>,
    folder: PathBuf,
    reader: Arc<Mutex<Reader>>,
    tail: watch::Sender<Tail>,
    progress: watch::Sender<Progress>,
    /// The orchestrator holds numbers that this host never gave or lost again.
    reverted: watch::Sender<bool>,
    /// Files that are settled and can't be removed. At most as many as names are looked at.
    stuck: std::sync::Mutex<BTreeSet<Sha256Hex>>,
    /// A loss of records was told.
    loss_told: AtomicBool,
}

/// A lane. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Lane(Arc<Shared>);

impl Lane {
    /// Opens one epoch of a lane's folder for reading. Blocks on the disk.
    pub(super) fn over(
        kind: LaneKind,
        attempt: Option<AttemptRef>,
        dir: &LaneDir,
        key: LaneKey,
        epoch: Epoch,
    ) -> Result<Self, LaneError> {
        let reader = Reader::open(dir, key, epoch)?;
        Ok(Self(Arc::new(Shared {
            kind,
            epoch,
            attempt,
            folder: dir.path().to_owned(),
            reader: Arc::new(Mutex::new(reader)),
            tail: watch::Sender::default(),
            progress: watch::Sender::default(),
            reverted: watch::Sender::default(),
            stuck: std::sync::Mutex::default(),
            loss_told: AtomicBool::new(false),
        })))
    }

    /// Opens the lane of an attempt, which its attendant writes.
    pub(crate) async fn of_attempt(
        attempt: AttemptRef,
        folder: PathBuf,
        epoch: [u8; 16],
    ) -> Result<Self, LaneError> {
        let job = move || {
            let dir = LaneDir::open(&folder)?;
            let key = LaneKey::load(&dir)?;
            Self::over(
                LaneKind::Log,
                Some(attempt),
                &dir,
                key,
                Epoch::from_bytes(epoch),
            )
        };
        tokio::task::spawn_blocking(job)
            .await
            .map_err(|_| LaneError::Thread)?
    }

    /// What it holds.
    pub(crate) fn kind(&self) -> LaneKind {
        self.0.kind
    }

    /// Its numbering.
    pub(crate) fn epoch(&self) -> [u8; 16] {
        *self.0.epoch.as_bytes()
    }

    /// Whose it is.
    pub(crate) fn attempt(&self) -> Option<AttemptRef> {
        self.0.attempt
    }

    /// Its folder.
    pub(super) fn folder(&self) -> &PathBuf {
        &self.0.folder
    }

    /// Something was written.
    pub(crate) fn ring(&self) {
        self.0
            .tail
            .send_modify(|tail| tail.rings = tail.rings.wrapping_add(1));
    }

    /// Nothing will be written any more.
    pub(crate) fn close(&self) {
        self.0.tail.send_modify(|tail| tail.closed = true);
    }

    /// Whether it will not be written any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.tail.borrow().closed
    }

    /// Waits for the closing.
    pub(crate) async fn wait_closed(&self) {
        let _ = self.0.tail.subscribe().wait_for(|tail| tail.closed).await;
    }

    /// Waits for the next ring or the closing; true when it is closed.
    pub(crate) async fn rung(&self, seen: &mut Option<u64>) -> bool {
        let mut tail = self.0.tail.subscribe();
        // The sender lives as long as `self`.
        let now = tail
            .wait_for(|tail| tail.closed || Some(tail.rings) != *seen)
            .await
            .map(|tail| *tail);
        now.is_ok_and(|tail| {
            *seen = Some(tail.rings);
            tail.closed
        })
    }

    /// First record that is not known durable, and the number that the next one gets.
    pub(crate) async fn position(&self) -> Result<(u64, u64), LaneError> {
        let mut reader = self.reader().await;
        let next = reader.next_seq().await?;
        Ok((self.0.progress.borrow().durable.saturating_add(1), next))
    }

    /// The only reader; waits until the one before it is done.
    pub(crate) async fn reader(&self) -> LaneReader {
        LaneReader {
            guard: Some(Arc::clone(&self.0.reader).lock_owned().await),
            lane: self.clone(),
            tail: self.0.tail.subscribe(),
            passed: self.0.progress.borrow().durable,
            trouble_told: false,
        }
    }

    /// Everything up to this record is durable at the orchestrator.
    pub(crate) fn delivered_up_to(&self, durable: u64) {
        self.0
            .progress
            .send_modify(|progress| progress.durable = progress.durable.max(durable));
    }

    /// What follows this record can't be delivered.
    pub(crate) fn give_up_after(&self, last: u64) {
        self.0
            .progress
            .send_modify(|progress| progress.last = Some(last));
    }

    /// All blobs of the ended lane are at the orchestrator.
    pub(crate) fn blobs_delivered(&self) {
        self.0
            .progress
            .send_modify(|progress| progress.blobs_done = true);
    }

    /// Waits until a record is durable.
    pub(crate) async fn wait_durable(&self, seq: u64) {
        let mut progress = self.0.progress.subscribe();
        let _ = progress.wait_for(|progress| progress.durable >= seq).await;
    }

    /// The orchestrator names no position for it: nothing of it can be delivered.
    pub(crate) fn refuse(&self) {
        self.0
            .progress
            .send_modify(|progress| progress.refused = true);
    }

    /// Waits until the closed lane is delivered with all its blobs; the last record, none when the
    /// orchestrator does not take it.
    pub(crate) async fn wait_delivered(&self) -> Option<u64> {
        let mut progress = self.0.progress.subscribe();
        let done = |progress: &Progress| {
            let delivered = progress.last.is_some_and(|last| progress.durable >= last);
            progress.refused || (progress.blobs_done && delivered)
        };
        let progress = progress.wait_for(done).await.ok()?;
        progress.last.filter(|_| !progress.refused)
    }

    /// True the first time: a loss is told once per lane, not per session.
    pub(crate) fn first_loss(&self) -> bool {
        !self.0.loss_told.swap(true, Ordering::Relaxed)
    }

    /// A settled file that stays where it is.
    pub(super) fn stuck(&self, sha256: Sha256Hex) {
        let mut stuck = self.0.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        stuck.insert(sha256);
    }

    /// Whether a file is settled.
    pub(super) fn is_stuck(&self, sha256: &Sha256Hex) -> bool {
        let stuck = self.0.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        stuck.contains(sha256)
    }

    /// The orchestrator has numbers of this epoch that were not given yet: they can't be used.
    pub(crate) fn revert(&self) {
        self.0.reverted.send_replace(true);
    }

    /// Waits for [`Self::revert`].
    pub(super) async fn wait_reverted(&self) {
        let mut reverted = self.0.reverted.subscribe();
        let _ = reverted.wait_for(|reverted| *reverted).await;
    }
}

/// What comes next in a lane.
pub(crate) enum Piece {
    /// To be sent as it is.
    Frame(Frame),
    /// Numbers whose records damage took.
    Lost(SeqRange),
    /// Nothing follows this record.
    Ended(u64),
}

/// The reading end, held by one session's sender.
pub(crate) struct LaneReader {
    /// Absent only while a thread works with it.
    guard: Option<OwnedMutexGuard<Reader>>,
    lane: Lane,
    tail: watch::Receiver<Tail>,
    /// The last record that was read.
    passed: u64,
    /// Every ring of a hostile attendant leads to the same segment.
    trouble_told: bool,
}

impl LaneReader {
    /// The next piece, none for now: then [`Self::wait`] and ask again. Not cancel safe: a piece
    /// that was read and not returned needs a [`Self::seek`].
    pub(crate) async fn read(&mut self) -> Result<Option<Piece>, LaneError> {
        loop {
            // Seen before reading: a ring in between wakes the wait.
            let tail = *self.tail.borrow_and_update();
            match self.work(Reader::read).await? {
                Ok(Next::Frame(frame)) => {
                    let count = u64::from(frame.header.record_count);
                    let before = frame.header.first_seq.get().saturating_sub(1);
                    self.passed = before.saturating_add(count);
                    return Ok(Some(Piece::Frame(frame)));
                }
                Ok(Next::Lost(range)) => {
                    self.passed = range.last.get();
                    return Ok(Some(Piece::Lost(range)));
                }
                Ok(Next::Ended(last)) => return Ok(Some(self.ended(last.get()))),
                Ok(Next::Waiting) if tail.closed => {
                    let last = self.next_seq().await?.saturating_sub(1);
                    return Ok(Some(self.ended(last)));
                }
                Ok(Next::Waiting) => return Ok(None),
                Err(reason) => {
                    self.tell_trouble(&reason);
                    if self
                        .work(Reader::abandon_segment)
                        .await?
                        .is_ok_and(|later| later)
                    {
                        continue;
                    }
                    let passed = self.passed;
                    return Ok(tail.closed.then(|| self.ended(passed)));
                }
            }
        }
    }

    /// Waits for the writer. Cancel safe.
    pub(crate) async fn wait(&mut self) {
        // The sender lives as long as the lane that this reader holds.
        let _ = self.tail.changed().await;
    }

    fn tell_trouble(&mut self, reason: &spool::ReadError) {
        let lane = self.lane.0.folder.display();
        if std::mem::replace(&mut self.trouble_told, true) {
            return debug!(%lane, %reason, "a segment can't be read, as before");
        }
        warn!(%lane, %reason, "a segment can't be read; its records become a gap if later ones are there");
    }

    fn ended(&self, last: u64) -> Piece {
        self.lane.give_up_after(last);
        Piece::Ended(last)
    }

    /// Goes to a record.
    pub(crate) async fn seek(&mut self, seq: u64) -> Result<(), LaneError> {
        self.passed = seq.saturating_sub(1);
        Ok(self
            .work(move |reader| reader.seek(Seq::new(seq)))
            .await??)
    }

    /// Removes segments that are durable at the orchestrator.
    pub(crate) async fn acknowledge(&mut self, durable: u64) -> Result<(), LaneError> {
        self.work(move |reader| reader.acknowledge(Seq::new(durable)))
            .await??;
        Ok(())
    }

    async fn next_seq(&mut self) -> Result<u64, LaneError> {
        Ok(self.work(|reader| reader.next_seq()).await??.get())
    }

    /// Runs one blocking call. When the future is dropped meanwhile, the thread keeps the guard
    /// until the call ends, so two never read at once.
    async fn work<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&mut Reader) -> T + Send + 'static,
    ) -> Result<T, LaneError> {
        let mut guard = match self.guard.take() {
            Some(guard) => guard,
            None => Arc::clone(&self.lane.0.reader).lock_owned().await,
        };
        let job = move || {
            let outcome = call(&mut guard);
            (guard, outcome)
        };
        let (guard, outcome) = tokio::task::spawn_blocking(job)
            .await
            .map_err(|_| LaneError::Thread)?;
        self.guard = Some(guard);
        Ok(outcome)
    }
}
