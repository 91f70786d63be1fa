//! Listening to one attendant, through its death and robotd's.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use privsep::doorbell::{FromAttendant, ToAttendant};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::sleep;
use tracing::{debug, warn};

use super::Places;
use super::view::{self, Watched, Wish};
use crate::packet::{PacketError, PacketSocket};
use crate::spool::{Lane, Lanes};

/// Between two tries to reach an attendant that is not there; doubles. A step of the job is a
/// reason to try at once.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Rings in one conversation for output that can't be opened. The first ones may come before the
/// lane is there; who goes on has nothing to say, and is heard again after the longest pause.
const MAX_FALSE: u32 = 8;

/// Numberings of one attempt. An attendant that is started again begins at most one; more is no
/// attendant of ours.
const MAX_EPOCHS: usize = 8;

/// What comes to a bell from the job's side.
pub(super) struct Wishes {
    /// One picture each.
    pub(super) pictures: mpsc::Receiver<()>,
    /// A live view each; the last one counts.
    pub(super) views: mpsc::Receiver<Wish>,
}

pub(super) struct Bell {
    places: Places,
    lanes: Lanes,
    wanted: mpsc::Sender<String>,
    wishes: Wishes,
    watched: Option<Watched>,
    opened: watch::Sender<Vec<Lane>>,
    nudge: Arc<Notify>,
}

impl Bell {
    pub(super) fn new(
        places: Places,
        lanes: Lanes,
        wanted: mpsc::Sender<String>,
        wishes: Wishes,
        opened: watch::Sender<Vec<Lane>>,
        nudge: Arc<Notify>,
    ) -> Self {
        Self {
            places,
            lanes,
            wanted,
            wishes,
            watched: None,
            opened,
            nudge,
        }
    }

    /// Until the task is ended from outside.
    pub(super) async fn listen(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match PacketSocket::connect(&self.places.socket) {
                Ok(socket) => {
                    match self.attend(&socket, &mut pause).await {
                        Ok(()) => {
                            debug!(attempt = %self.places.attempt, "the attendant closed its bell")
                        }
                        Err(Deaf::Lost(reason)) => {
                            warn!(attempt = %self.places.attempt, %reason, "the attendant's bell is lost; its spool is read on")
                        }
                        Err(Deaf::Lies) => {
                            pause = LONGEST_PAUSE;
                            warn!(attempt = %self.places.attempt, "the attendant rings for output that is not there; it is not heard for a while, its spool is read on")
                        }
                    }
                    // What it wrote last may not have been rung for.
                    self.opened.borrow().iter().for_each(Lane::ring);
                }
                Err(reason) => debug!(attempt = %self.places.attempt, %reason, "no attendant yet"),
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = self.nudge.notified() => pause = FIRST_PAUSE,
            }
        }
    }

    async fn attend(&mut self, socket: &PacketSocket, pause: &mut Duration) -> Result<(), Deaf> {
        let mut lies = 0;
        socket.send(&ToAttendant::Subscribe, &[]).await?;
        if let Some(watched) = &mut self.watched {
            watched.another_attendant();
            socket.send(&watched.ask(), &[]).await?;
        }
        loop {
            tokio::select! {
                picture = self.wishes.pictures.recv() => match picture {
                    Some(()) => socket.send(&ToAttendant::Screenshot, &[]).await?,
                    None => return Ok(()),
                },
                Some(wish) = self.wishes.views.recv() => self.watch(socket, wish).await?,
                said = view::turn(&mut self.watched) => {
                    for word in said {
                        socket.send(&word, &[]).await?;
                    }
                }
                message = socket.recv::<FromAttendant>() => match message? {
                    Some((FromAttendant::Screen, fds)) => self.show(socket, fds).await?,
                    Some((message, _)) => match self.take(message).await {
                        true => *pause = FIRST_PAUSE,
                        false => lies += 1,
                    },
                    None => return Ok(()),
                },
            }
            if lies == MAX_FALSE {
                return Err(Deaf::Lies);
            }
            // A bell that never stops must not keep robotd from everything else.
            tokio::task::yield_now().await;
        }
    }

    async fn watch(&mut self, socket: &PacketSocket, wish: Wish) -> Result<(), Deaf> {
        let watched = Watched::new(wish);
        for word in watched.replace(self.watched.as_ref()) {
            socket.send(&word, &[]).await?;
        }
        self.watched = Some(watched);
        Ok(())
    }

    /// An attendant that lies is not watched any more, however often it is wished for.
    async fn show(&mut self, socket: &PacketSocket, fds: Vec<OwnedFd>) -> Result<(), Deaf> {
        // Nobody looks on any more: the frame had left before that was heard.
        let Some(watched) = &mut self.watched else {
            return Ok(());
        };
        if let Err(lie) = watched.show(fds.into_iter().next()) {
            warn!(attempt = %self.places.attempt, %lie, "the attendant breaks the contract of the live view; nobody may look on at this job any more");
            self.watched = None;
            self.wishes.views.close();
            socket.send(&ToAttendant::Unwatch, &[]).await?;
        }
        Ok(())
    }

    /// False when there was nothing behind it.
    async fn take(&mut self, message: FromAttendant) -> bool {
        match message {
            FromAttendant::Written {
                epoch,
                last_seq,
                ended: _,
            } => self.rung(epoch, last_seq).await,
            FromAttendant::Screen => true,
            FromAttendant::SecretWanted { name } => {
                // Full: the attendant waits until the ones before are answered. Closed: the job is over.
                let _ = self.wanted.send(name).await;
                true
            }
        }
    }

    async fn rung(&mut self, epoch: [u8; 16], last_seq: u64) -> bool {
        let known = self
            .opened
            .borrow()
            .iter()
            .find(|lane| lane.epoch() == epoch)
            .cloned();
        if let Some(lane) = known {
            lane.ring();
            return true;
        }
        if self.opened.borrow().len() >= MAX_EPOCHS {
            debug!(attempt = %self.places.attempt, "an attendant begins more numberings than it can have; ignored");
            return false;
        }
        match Lane::of_attempt(self.places.attempt, self.places.folder.clone(), epoch).await {
            Ok(lane) => {
                self.lanes.join(lane.clone());
                self.opened.send_modify(|lanes| lanes.push(lane));
                true
            }
            Err(reason) => {
                debug!(attempt = %self.places.attempt, %reason, "no output yet");
                // Said before the first record, it is true. The job's end tries last.
                last_seq == 0
            }
        }
    }
}

/// Why an attendant is not heard any more.
#[derive(Debug)]
enum Deaf {
    Lost(PacketError),
    Lies,
}

impl From<PacketError> for Deaf {
    fn from(error: PacketError) -> Self {
        Self::Lost(error)
    }
}
