//! One attempt's output on its way from the attendant to the orchestrator.
//!
//! The attendant writes the spool and rings; the link reads and delivers. What is here joins the
//! two: it listens to the bell, opens the lane, and says when nothing more will come. `view` is the live
//! view's part of the bell.

mod bell;
mod view;

use std::path::PathBuf;
use std::sync::Arc;

use order::AttemptRef;
use tokio::sync::{Notify, mpsc, watch};
use tracing::{error, warn};

use crate::exchange::View;
use crate::spool::{Lane, Lanes};
use bell::{Bell, Wishes};
use view::Wish;

/// Secrets that may be asked for before one is answered; an attendant that asks for more waits.
const WANTED: usize = 16;

/// Where one attempt's output lies.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// Whose.
    pub(crate) attempt: AttemptRef,
    /// Its spool.
    pub(crate) folder: PathBuf,
    /// Its attendant's socket.
    pub(crate) socket: PathBuf,
}

/// A handle on the task that listens.
pub(crate) struct Output {
    places: Places,
    lanes: Lanes,
    opened: watch::Receiver<Vec<Lane>>,
    screenshots: mpsc::Sender<()>,
    views: mpsc::Sender<Wish>,
    nudge: Arc<Notify>,
    listening: tokio::task::JoinHandle<()>,
    /// The lane that only the result named.
    named: Option<Lane>,
}

/// What was delivered in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// All that the result promises.
    Whole,
    /// The files end before the promised record.
    Short {
        /// The last record that was there.
        last: u64,
    },
    /// The lane can't be opened at all.
    Unreadable,
    /// The orchestrator names no position for it.
    Refused,
}

impl Output {
    /// Begins to listen. Names of wanted secrets come through the second part.
    pub(crate) fn start(places: Places, lanes: Lanes) -> (Self, mpsc::Receiver<String>) {
        let (wanted, asked) = mpsc::channel(WANTED);
        let (screenshots, pictures) = mpsc::channel(1);
        let (views, wished) = mpsc::channel(1);
        let (found, opened) = watch::channel(Vec::new());
        let nudge = Arc::new(Notify::new());
        let bell = Bell::new(
            places.clone(),
            lanes.clone(),
            wanted,
            Wishes {
                pictures,
                views: wished,
            },
            found,
            Arc::clone(&nudge),
        );
        let listening = tokio::spawn(bell.listen());
        (
            Self {
                places,
                lanes,
                opened,
                screenshots,
                views,
                nudge,
                listening,
                named: None,
            },
            asked,
        )
    }

    /// A step of the job was done: its attendant may be there now.
    pub(crate) fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Asks for a picture. False when one is asked for already or nobody listens.
    pub(crate) fn screenshot(&self) -> bool {
        self.screenshots.try_send(()).is_ok()
    }

    /// Begins a live view in place of the one before. None while one is about to begin, and when the
    /// attendant has lied.
    pub(crate) fn watch(&self, most_per_second: u32) -> Option<View> {
        let (frames, shown) = mpsc::channel(1);
        let wish = Wish {
            most_per_second,
            frames,
        };
        self.views.try_send(wish).ok()?;
        Some(View {
            attempt: self.places.attempt,
            frames: shown,
        })
    }

    /// The job is over: delivers what is left, up to the record that the result names.
    pub(crate) async fn finish(&mut self, epoch: Option<[u8; 16]>, last_seq: u64) -> Delivered {
        self.listening.abort();
        let mut lanes = self.opened.borrow().clone();
        let mut outcome = Delivered::Whole;
        if let Some(epoch) = epoch.filter(|epoch| lanes.iter().all(|lane| lane.epoch() != *epoch)) {
            match Lane::of_attempt(self.places.attempt, self.places.folder.clone(), epoch).await {
                Ok(lane) => {
                    self.lanes.join(lane.clone());
                    self.named = Some(lane.clone());
                    lanes.push(lane);
                }
                Err(reason) if last_seq > 0 => {
                    error!(attempt = %self.places.attempt, %reason, "the output of a job can't be opened");
                    outcome = Delivered::Unreadable;
                }
                // Nothing was promised, nothing is missing.
                Err(_) => {}
            }
        }
        for lane in &lanes {
            lane.close();
        }
        for lane in lanes {
            let last = lane.wait_delivered().await;
            self.lanes.leave(lane.epoch());
            match last {
                None => outcome = Delivered::Refused,
                Some(last) if epoch == Some(lane.epoch()) && last < last_seq => {
                    outcome = Delivered::Short { last };
                }
                Some(_) => {}
            }
        }
        outcome
    }

    /// Removes what robotd may remove; the broker removes the rest.
    pub(crate) async fn clear(&self) {
        let folder = self.places.folder.clone();
        let cleared = tokio::task::spawn_blocking(move || clear(&folder)).await;
        if let Ok(Err(reason)) = cleared {
            warn!(attempt = %self.places.attempt, %reason, "the delivered spool can't be cleared; the broker removes it");
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.listening.abort();
        // Delivered, or wanted by nobody any more.
        for lane in self.opened.borrow().iter().chain(&self.named) {
            self.lanes.leave(lane.epoch());
        }
    }
}

fn clear(folder: &std::path::Path) -> Result<(), crate::spool::LaneError> {
    if !folder.is_dir() {
        return Ok(());
    }
    let dir = spool::LaneDir::open(folder)?;
    // The key first: what stays behind can't be read.
    spool::LaneKey::remove(&dir)?;
    for epoch in spool::survey(&dir)? {
        spool::discard(&dir, epoch.epoch)?;
    }
    Ok(())
}
