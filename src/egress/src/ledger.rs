//! What went over, and to whom.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use order::{NetworkUse, PeerUse};
use privsep::egress::MAX_PEERS;
use tokio::sync::Notify;

/// Peers that are told apart while the job runs; a bot that goes on to more is counted in the sums.
const KEPT: usize = 1024;

/// One peer: the name that the bot asked for, if any, and where that led.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    pub(crate) name: Arc<str>,
    pub(crate) address: SocketAddr,
}

#[derive(Debug, Default)]
struct Book {
    sums: NetworkUse,
    peers: HashMap<Peer, PeerUse>,
}

/// The counts of one job.
#[derive(Debug)]
pub(crate) struct Ledger {
    book: Mutex<Book>,
    /// Something was written into it.
    pub(crate) changed: Notify,
}

/// Which way bytes went, as the bot sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Sent,
    Received,
}

impl Ledger {
    pub(crate) fn new(profile: &str) -> Self {
        let mut book = Book::default();
        book.sums.profile = profile.to_owned();
        Self {
            book: Mutex::new(book),
            changed: Notify::new(),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Counts are whole at every line: whoever panicked while counting broke none of them.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn connected(&self, peer: &Peer) {
        let mut book = self.book();
        book.sums.connections += 1;
        if book.peers.len() >= KEPT && !book.peers.contains_key(peer) {
            book.sums.more_peers += 1;
        } else {
            let entry = book.peers.entry(peer.clone()).or_insert_with(|| PeerUse {
                name: peer.name.to_string(),
                address: peer.address.ip().to_string(),
                port: peer.address.port(),
                ..PeerUse::default()
            });
            entry.connections += 1;
        }
        drop(book);
        self.changed.notify_one();
    }

    pub(crate) fn moved(&self, peer: &Peer, way: Way, bytes: usize) {
        let bytes = bytes as u64;
        let mut book = self.book();
        let book = &mut *book;
        let entry = book.peers.get_mut(peer);
        match way {
            Way::Sent => {
                book.sums.bytes_sent += bytes;
                entry
                    .into_iter()
                    .for_each(|entry| entry.bytes_sent += bytes);
            }
            Way::Received => {
                book.sums.bytes_received += bytes;
                entry
                    .into_iter()
                    .for_each(|entry| entry.bytes_received += bytes);
            }
        }
    }

    /// A connection ended.
    pub(crate) fn ended(&self) {
        self.changed.notify_one();
    }

    pub(crate) fn refused(&self, count: u64) {
        self.book().sums.refused += count;
        self.changed.notify_one();
    }

    /// All of it, short enough for a report.
    pub(crate) fn so_far(&self) -> NetworkUse {
        let book = self.book();
        let mut peers: Vec<PeerUse> = book.peers.values().cloned().collect();
        let bytes = |peer: &PeerUse| peer.bytes_sent.saturating_add(peer.bytes_received);
        peers.sort_by(|a, b| {
            (bytes(b), b.connections, &a.name, &a.address, a.port).cmp(&(
                bytes(a),
                a.connections,
                &b.name,
                &b.address,
                b.port,
            ))
        });
        let more = peers.len().saturating_sub(MAX_PEERS);
        peers.truncate(MAX_PEERS);
        let mut sums = book.sums.clone();
        sums.more_peers += more as u64;
        sums.peers = peers;
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u16) -> Peer {
        Peer {
            name: format!("host{number}.example").into(),
            address: ([10, 0, 0, 1], number).into(),
        }
    }

    #[test]
    fn the_busiest_peers_are_listed_and_the_rest_is_in_the_sums() {
        let ledger = Ledger::new("erp");
        for number in 1..=2_000 {
            ledger.connected(&peer(number));
            ledger.moved(&peer(number), Way::Sent, usize::from(number % 1_000));
            ledger.moved(&peer(number), Way::Received, 1);
        }
        let used = ledger.so_far();
        assert_eq!(used.connections, 2_000);
        assert_eq!(used.bytes_received, 2_000);
        assert_eq!(used.bytes_sent, 999 * 1_000);
        assert_eq!(used.peers.len(), MAX_PEERS);
        assert_eq!(used.more_peers, 2_000 - MAX_PEERS as u64);
        assert_eq!((used.peers[0].port, used.peers[0].bytes_sent), (999, 999));
        assert!(privsep::encode(&used).unwrap().len() < 6_000);
    }
}
