//! The one task that owns the connection to the broker.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use order::{MAX_RESULT, Signed};
use privsep::broker::{Answer, Call, Notice, Reply, Request};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::{BrokerEvent, BrokerKeys, CallError, Outgoing};
use crate::packet::{PacketError, PacketSocket};

/// Between two tries to connect; doubles. A restart of the broker takes well under a second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Packet(#[from] PacketError),
    #[error("it closed the connection")]
    Closed,
    #[error("it speaks version {0} of the contract, this robotd version {ours}; restart both after an upgrade", ours = privsep::VERSION)]
    Version(u32),
    #[error("it broke the contract: {0}")]
    Contract(String),
    #[error("it tells more than robotd can take")]
    Overrun,
}

enum Ended {
    /// Nobody asks any more.
    Unused,
    Lost(Lost),
}

pub(super) struct Connection {
    path: PathBuf,
    calls: mpsc::Receiver<Outgoing>,
    events: mpsc::Sender<BrokerEvent>,
    keys: watch::Sender<Option<Arc<BrokerKeys>>>,
    next_number: u32,
}

impl Connection {
    pub(super) fn new(
        path: PathBuf,
        calls: mpsc::Receiver<Outgoing>,
        events: mpsc::Sender<BrokerEvent>,
        keys: watch::Sender<Option<Arc<BrokerKeys>>>,
    ) -> Self {
        Self {
            path,
            calls,
            events,
            keys,
            next_number: 1,
        }
    }

    /// Connects, serves, connects again.
    pub(super) async fn keep(mut self) {
        let mut pause = FIRST_PAUSE;
        let mut told = false;
        loop {
            match self.open().await {
                Ok(socket) => {
                    info!("the broker is there");
                    (pause, told) = (FIRST_PAUSE, false);
                    match self.serve(&socket).await {
                        Ended::Unused => return,
                        Ended::Lost(reason) => {
                            warn!(%reason, "the broker is lost; jobs go on, robotd connects again")
                        }
                    }
                    if self.events.send(BrokerEvent::Gone).await.is_err() {
                        return;
                    }
                }
                // One line per outage.
                Err(reason) if !told => {
                    warn!(socket = %self.path.display(), %reason, "the broker can't be reached; trying again");
                    told = true;
                }
                Err(reason) => debug!(%reason, "the broker can't be reached"),
            }
            if self.refuse_calls_for(pause).await {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Connects, says hello, and learns what the broker holds.
    async fn open(&mut self) -> Result<PacketSocket, Lost> {
        let socket = PacketSocket::connect(&self.path)?;
        let mut early = Vec::new();
        let hello = Request::Hello {
            version: privsep::VERSION,
        };
        let Reply::Welcome {
            version,
            result_key,
            secret_key,
            slots,
            abilities,
            missing,
        } = self.ask(&socket, hello, &mut early).await?
        else {
            return Err(Lost::Contract("no Welcome to Hello".into()));
        };
        if version != privsep::VERSION {
            return Err(Lost::Version(version));
        }
        let Reply::Held(held) = self.ask(&socket, Request::Sync, &mut early).await? else {
            return Err(Lost::Contract("no Held to Sync".into()));
        };
        self.keys.send_replace(Some(Arc::new(BrokerKeys {
            result_key,
            secret_key,
        })));
        self.pass_on(BrokerEvent::Synced { held, slots })?;
        self.pass_on(BrokerEvent::Abilities {
            found: abilities.unwrap_or_default(),
            missing,
        })?;
        // What came before the answer to Sync is in that answer, or about slots and security.
        for event in early {
            self.pass_on(event)?;
        }
        Ok(socket)
    }

    async fn ask(
        &mut self,
        socket: &PacketSocket,
        request: Request,
        early: &mut Vec<BrokerEvent>,
    ) -> Result<Reply, Lost> {
        let call = self.number(request);
        socket.send(&call, &[]).await?;
        loop {
            let (answer, fds) = socket.recv::<Answer>().await?.ok_or(Lost::Closed)?;
            match answer {
                Answer::Reply {
                    number,
                    reply: Reply::Refused(refusal),
                } if number == call.number => {
                    return Err(Lost::Contract(refusal.to_string()));
                }
                Answer::Reply { number, reply } if number == call.number => return Ok(reply),
                Answer::Reply { number, .. } => {
                    return Err(Lost::Contract(format!("an answer to no call ({number})")));
                }
                Answer::Notice(notice) => early.push(read(notice, &fds)?),
            }
        }
    }

    fn number(&mut self, request: Request) -> Call {
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        Call { number, request }
    }

    async fn serve(&mut self, socket: &PacketSocket) -> Ended {
        let mut open = HashMap::new();
        loop {
            let outcome = tokio::select! {
                outgoing = self.calls.recv() => match outgoing {
                    None => return Ended::Unused,
                    Some(outgoing) => self.forward(socket, outgoing, &mut open).await,
                },
                received = socket.recv::<Answer>() => match received {
                    Ok(Some((answer, fds))) => self.take(answer, &fds, &mut open),
                    Ok(None) => Err(Lost::Closed),
                    Err(error) => Err(error.into()),
                },
            };
            if let Err(reason) = outcome {
                // Dropping `open` answers each call with Gone.
                return Ended::Lost(reason);
            }
        }
    }

    async fn forward(
        &mut self,
        socket: &PacketSocket,
        outgoing: Outgoing,
        open: &mut HashMap<u32, oneshot::Sender<Result<Reply, CallError>>>,
    ) -> Result<(), Lost> {
        let call = self.number(outgoing.request);
        open.insert(call.number, outgoing.answer);
        Ok(socket.send(&call, &outgoing.fds).await?)
    }

    fn take(
        &mut self,
        answer: Answer,
        fds: &[OwnedFd],
        open: &mut HashMap<u32, oneshot::Sender<Result<Reply, CallError>>>,
    ) -> Result<(), Lost> {
        match answer {
            Answer::Reply { number, reply } => {
                let waiting = open.remove(&number);
                let waiting = waiting
                    .ok_or_else(|| Lost::Contract(format!("an answer to no call ({number})")))?;
                // Whoever asked may have given up; the next Sync tells what became of it.
                let _ = waiting.send(Ok(reply));
                Ok(())
            }
            Answer::Notice(notice) => self.pass_on(read(notice, fds)?),
        }
    }

    /// Never waits: a job that waits for an answer must get it while others are busy.
    fn pass_on(&self, event: BrokerEvent) -> Result<(), Lost> {
        self.events.try_send(event).map_err(|_| Lost::Overrun)
    }

    /// Without a broker every call is answered at once. True when nobody asks any more.
    async fn refuse_calls_for(&mut self, pause: Duration) -> bool {
        let over = sleep(pause);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return false,
                outgoing = self.calls.recv() => match outgoing {
                    None => return true,
                    Some(outgoing) => drop(outgoing.answer.send(Err(CallError::Gone))),
                },
            }
        }
    }
}

fn read(notice: Notice, fds: &[OwnedFd]) -> Result<BrokerEvent, Lost> {
    Ok(match notice {
        Notice::Phase { attempt, at } => BrokerEvent::Phase { attempt, at },
        Notice::SecretWanted { attempt, name } => BrokerEvent::SecretWanted { attempt, name },
        Notice::Slot(slot) => BrokerEvent::Slot(slot),
        Notice::Abilities { abilities, missing } => BrokerEvent::Abilities {
            found: abilities,
            missing,
        },
        Notice::Event {
            code,
            attempt,
            body,
        } => BrokerEvent::Security {
            code,
            attempt,
            body,
        },
        Notice::Ended {
            attempt,
            key_id,
            signature,
        } => {
            let memory = fds
                .first()
                .ok_or_else(|| Lost::Contract("a result without its body".into()))?;
            let body = sys::memfd::read_sealed(memory.as_fd(), MAX_RESULT)
                .map_err(|error| Lost::Contract(format!("a result that can't be read: {error}")))?;
            BrokerEvent::Ended {
                attempt,
                result: Signed {
                    body,
                    key_id,
                    signature,
                },
            }
        }
    })
}
