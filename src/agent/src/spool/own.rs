//! One of robotd's own lanes: JOB or AUDIT. A thread owns its writer.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use spool::{
    Batch, Durability, Epoch, LaneDir, LaneKey, Limits, Next, Reader, RecoverError, WriteError,
    Writer,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, warn};

use super::lane::{Lane, LaneKind};
use super::{LaneError, Lanes};

/// Records that may wait for the disk.
const WAITING: usize = 256;

const MIB: u64 = 1 << 20;

/// The lane can't be written now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("robotd's own lane can't be written: {0}")]
pub(crate) struct LaneLost(pub(crate) String);

enum Work {
    Append {
        batch: Vec<u8>,
        answer: oneshot::Sender<Result<([u8; 16], u64), LaneLost>>,
    },
    /// Numbers of this epoch can't be used any more.
    Renumber(Epoch),
}

/// A handle to append with.
#[derive(Clone)]
pub(crate) struct OwnLane {
    work: mpsc::Sender<Work>,
    current: watch::Receiver<Lane>,
    writable: Arc<AtomicBool>,
}

impl OwnLane {
    /// Opens or makes a lane and announces it, with whatever older epochs are still undelivered.
    /// Blocks on the disk.
    pub(crate) fn open(kind: LaneKind, folder: &Path, lanes: &Lanes) -> Result<Self, LaneError> {
        let mut scribe = Scribe::open(kind, folder.to_owned(), lanes.clone())?;
        scribe.announce_older()?;
        let (work, waiting) = mpsc::channel(WAITING);
        let current = scribe.current.subscribe();
        let renumber = work.downgrade();
        tokio::spawn(renumber_when_reverted(current.clone(), renumber));
        let writable = Arc::clone(&scribe.writable);
        std::thread::spawn(move || scribe.work(waiting));
        Ok(Self {
            work,
            current,
            writable,
        })
    }

    /// Appends a batch of one record, durably; its epoch and number.
    pub(crate) async fn append(&self, batch: Vec<u8>) -> Result<([u8; 16], u64), LaneLost> {
        let (answer, answered) = oneshot::channel();
        let gone = || LaneLost("its thread is gone".into());
        self.work
            .send(Work::Append { batch, answer })
            .await
            .map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Whether the last record could be kept.
    pub(crate) fn writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }

    /// Waits until a record is durable at the orchestrator. A record of an epoch that was given
    /// up was appended again to the next one, whose end as of now then counts.
    pub(crate) async fn wait_durable(&self, epoch: [u8; 16], seq: u64) {
        let mut current = self.current.clone();
        let lane = current.borrow_and_update().clone();
        if lane.epoch() != epoch {
            let last = lane
                .position()
                .await
                .map_or(0, |(_, next)| next.saturating_sub(1));
            return lane.wait_durable(last).await;
        }
        tokio::select! {
            () = lane.wait_durable(seq) => {}
            _ = current.changed() => Box::pin(self.wait_durable(epoch, seq)).await,
        }
    }
}

async fn renumber_when_reverted(mut current: watch::Receiver<Lane>, work: mpsc::WeakSender<Work>) {
    loop {
        let lane = current.borrow_and_update().clone();
        tokio::select! {
            () = lane.wait_reverted() => {
                let Some(work) = work.upgrade() else { return };
                if work.send(Work::Renumber(Epoch::from_bytes(lane.epoch()))).await.is_err() {
                    return;
                }
                if current.changed().await.is_err() {
                    return;
                }
            }
            changed = current.changed() => if changed.is_err() { return },
        }
    }
}

/// The thread's own.
struct Scribe {
    kind: LaneKind,
    dir: LaneDir,
    lanes: Lanes,
    /// None after a failure, until the next append opens it again.
    writer: Option<Writer>,
    current: watch::Sender<Lane>,
    writable: Arc<AtomicBool>,
    /// Where a finished epoch is waited for.
    runtime: Handle,
}

impl Scribe {
    fn open(kind: LaneKind, folder: PathBuf, lanes: Lanes) -> Result<Self, LaneError> {
        make_folder(&folder)?;
        let dir = LaneDir::open(&folder)?;
        if let Err(reason) = LaneKey::load(&dir) {
            renew_key(&folder, &dir, &reason)?;
        }
        // The folder may have been moved aside.
        let dir = LaneDir::open(&folder)?;
        let writer = open_writer(&dir)?;
        let lane = Lane::over(kind, None, &dir, LaneKey::load(&dir)?, writer.epoch())?;
        lanes.join(lane.clone());
        let current = watch::Sender::new(lane);
        Ok(Self {
            kind,
            dir,
            lanes,
            writer: Some(writer),
            current,
            writable: Arc::new(AtomicBool::new(true)),
            runtime: Handle::current(),
        })
    }

    /// Epochs before the current one that were not delivered yet.
    fn announce_older(&mut self) -> Result<(), LaneError> {
        let current = self.current.borrow().epoch();
        for older in spool::survey(&self.dir)?
            .into_iter()
            .filter(|found| found.epoch.as_bytes() != &current)
        {
            let lane = Lane::over(
                self.kind,
                None,
                &self.dir,
                LaneKey::load(&self.dir)?,
                older.epoch,
            )?;
            self.lanes.join(lane.clone());
            self.retire(lane);
        }
        Ok(())
    }

    /// Nothing more is written to this epoch: when it is delivered, it goes.
    fn retire(&self, lane: Lane) {
        lane.close();
        let (dir, lanes) = (self.dir.clone(), self.lanes.clone());
        self.runtime.spawn(async move {
            lane.wait_delivered().await;
            lanes.leave(lane.epoch());
            let epoch = Epoch::from_bytes(lane.epoch());
            let discarded = tokio::task::spawn_blocking(move || spool::discard(&dir, epoch)).await;
            if let Ok(Err(reason)) = discarded {
                warn!(%epoch, %reason, "a delivered epoch can't be removed");
            }
        });
    }

    fn work(mut self, mut waiting: mpsc::Receiver<Work>) {
        while let Some(work) = waiting.blocking_recv() {
            match work {
                Work::Append { batch, answer } => {
                    let outcome = self.append(&batch).map_err(|reason| {
                        error!(lane = %self.dir.path().display(), %reason, "a record can't be kept");
                        LaneLost(reason.to_string())
                    });
                    self.writable.store(outcome.is_ok(), Ordering::Relaxed);
                    // Whoever asked may be gone; the record is kept all the same.
                    let _ = answer.send(outcome);
                }
                Work::Renumber(epoch) => {
                    if let Err(reason) = self.renumber(epoch) {
                        error!(lane = %self.dir.path().display(), %reason, "a new epoch can't be begun");
                    }
                }
            }
        }
    }

    fn append(&mut self, batch: &[u8]) -> Result<([u8; 16], u64), LaneError> {
        match self.try_append(batch) {
            // After a failed write or sync the kernel has forgotten what it lost: begin anew from
            // what is on disk. Once; a second failure is told.
            Err(LaneError::Write(
                WriteError::Write { .. } | WriteError::Sync { .. } | WriteError::Poisoned { .. },
            )) => {
                self.writer = None;
                self.try_append(batch)
            }
            outcome => outcome,
        }
    }

    fn try_append(&mut self, batch: &[u8]) -> Result<([u8; 16], u64), LaneError> {
        let writer = match self.writer.take() {
            Some(writer) => self.writer.insert(writer),
            None => {
                let writer = open_writer(&self.dir)?;
                self.follow(writer.epoch())?;
                self.writer.insert(writer)
            }
        };
        let batch = Batch::plain(1, batch);
        let range = match writer.append(batch, Durability::Now) {
            // Steps and results are what the reserve is for.
            Err(WriteError::Full { .. }) => writer.append_reserved(batch, Durability::Now)?,
            outcome => outcome?,
        };
        self.current.borrow().ring();
        Ok((*writer.epoch().as_bytes(), range.last.get()))
    }

    /// Everything that is not delivered goes into a new epoch, under new numbers.
    fn renumber(&mut self, old: Epoch) -> Result<(), LaneError> {
        if self.current.borrow().epoch() != *old.as_bytes() {
            return Ok(());
        }
        self.writer = None;
        let mut reader = Reader::open(&self.dir, LaneKey::load(&self.dir)?, old)?;
        let mut writer = new_epoch(&self.dir)?;
        loop {
            match reader.read()? {
                Next::Frame(frame) => {
                    let batch = Batch {
                        records: frame.header.record_count,
                        codec: frame.header.codec,
                        raw_bytes: frame.header.raw_bytes,
                        payload: &frame.payload,
                    };
                    writer.append_reserved(batch, Durability::Later)?;
                }
                // Their numbers have no meaning in the new epoch.
                Next::Lost(_) => {}
                Next::Waiting | Next::Ended(_) => break,
            }
        }
        writer.sync()?;
        let epoch = writer.epoch();
        self.writer = Some(writer);
        // Nothing of the old one is delivered any more.
        self.lanes.leave(*old.as_bytes());
        spool::discard(&self.dir, old)?;
        let lane = Lane::over(self.kind, None, &self.dir, LaneKey::load(&self.dir)?, epoch)?;
        self.lanes.join(lane.clone());
        self.current.send_replace(lane);
        warn!(lane = %self.dir.path().display(), %old, new = %epoch, "the orchestrator holds later records than this host: numbering began anew, nothing is dropped");
        Ok(())
    }

    /// The lane that is written from now on, when it is another one.
    fn follow(&mut self, epoch: Epoch) -> Result<(), LaneError> {
        if self.current.borrow().epoch() == *epoch.as_bytes() {
            return Ok(());
        }
        let lane = Lane::over(self.kind, None, &self.dir, LaneKey::load(&self.dir)?, epoch)?;
        self.lanes.join(lane.clone());
        let old = self.current.send_replace(lane);
        self.retire(old);
        Ok(())
    }
}

/// 256 MiB hold a million records; 8 MiB of it are for when everything else is full.
fn limits() -> Limits {
    Limits::new(4 * MIB, 256 * MIB, 8 * MIB).unwrap_or_default()
}

fn open_writer(dir: &LaneDir) -> Result<Writer, LaneError> {
    match Writer::recover(dir, LaneKey::load(dir)?, limits()) {
        Ok((writer, found)) if !found.finished => Ok(writer),
        Ok((writer, _)) => {
            drop(writer);
            new_epoch(dir)
        }
        Err(RecoverError::Nothing { .. }) => new_epoch(dir),
        Err(RecoverError::Dir(error)) => Err(error.into()),
        Err(reason) => {
            warn!(lane = %dir.path().display(), %reason, "a lane can't be continued; a new epoch begins and what can be read is delivered");
            new_epoch(dir)
        }
    }
}

fn new_epoch(dir: &LaneDir) -> Result<Writer, LaneError> {
    let epoch = Epoch::random().map_err(LaneError::Random)?;
    Ok(Writer::create(dir, LaneKey::load(dir)?, epoch, limits())?)
}

fn make_folder(folder: &Path) -> Result<(), LaneError> {
    let made = fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(folder);
    made.map_err(|source| LaneError::Make {
        path: folder.to_owned(),
        source,
    })
}

/// A lane without a usable key can't be read any more: it is moved aside for a person to look at.
fn renew_key(folder: &Path, dir: &LaneDir, reason: &spool::KeyError) -> Result<(), LaneError> {
    if spool::survey(dir)?.is_empty() {
        remove_unusable_key(dir)?;
        return Ok(LaneKey::generate()?.store(dir)?);
    }
    let aside = folder.with_extension(format!("unreadable-{}", sys::clock::unix_ms()));
    error!(lane = %folder.display(), aside = %aside.display(), %reason, "a lane's key is lost; the lane is moved aside and a new one begins");
    fs::rename(folder, &aside).map_err(|source| LaneError::Make {
        path: aside,
        source,
    })?;
    make_folder(folder)?;
    Ok(LaneKey::generate()?.store(&LaneDir::open(folder)?)?)
}

fn remove_unusable_key(dir: &LaneDir) -> Result<(), LaneError> {
    match fs::remove_file(dir.path().join("lane.key")) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(LaneError::Make {
            path: dir.path().to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}
