//! One connection from inside to outside, and the bounds on their number.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::denials::{Denials, Denied};
use crate::gate::{Gate, Granted};
use crate::ledger::{Ledger, Peer};
use crate::names::Names;
use crate::{outside, relay};

/// Attempts to connect that are under way at once.
const HALF_OPEN: usize = 32;

/// What every part of the egress needs.
#[derive(Debug)]
pub(crate) struct Border {
    pub(crate) gate: Arc<Gate>,
    pub(crate) names: Names,
    pub(crate) ledger: Ledger,
    pub(crate) denials: Denials,
    connections: Arc<Semaphore>,
    half_open: Semaphore,
}

impl Border {
    pub(crate) fn new(gate: Arc<Gate>, denials: Denials) -> Self {
        let rules = gate.rules();
        let ledger = Ledger::new(&rules.profile);
        let most = usize::try_from(rules.connections).unwrap_or(usize::MAX);
        let connections = Arc::new(Semaphore::new(most.clamp(1, 1024)));
        Self {
            names: Names::new(Arc::clone(&gate)),
            gate,
            ledger,
            denials,
            connections,
            half_open: Semaphore::new(HALF_OPEN),
        }
    }

    /// Waits until another connection may go on: each listener holds one beyond the bound, the rest
    /// stay in the kernel's queue, which is short, and cost nothing here.
    pub(crate) async fn room(&self) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() {
            return permit;
        }
        let denied = Denied::new(
            "CONNECTION_LIMIT",
            "the job has as many connections as its profile allows; further ones wait",
        );
        self.denials.note("another connection", &denied, 1);
        match Arc::clone(&self.connections).acquire_owned().await {
            Ok(permit) => permit,
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// Tells that something was refused.
    pub(crate) fn deny(&self, asked: &str, denied: &Denied) {
        self.ledger.refused(1);
        self.denials.note(asked, denied, 1);
    }

    /// Connects to what was granted.
    pub(crate) async fn connect(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        let _turn = self.half_open.acquire().await;
        outside::connect(to).await
    }

    /// Relays between two connected ends, counted.
    pub(crate) async fn carry(
        &self,
        inside: TcpStream,
        outside: TcpStream,
        name: Granted,
        address: SocketAddr,
    ) {
        let peer = Peer { name, address };
        self.ledger.connected(&peer);
        relay::relay(inside, outside, &self.ledger, &peer).await;
    }
}
