//! Bytes both ways, until both ends are done.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::ledger::{Ledger, Peer, Way};
use crate::outside;

/// Of each direction of each connection.
const BUFFER: usize = 32 * 1024;

/// A connection of which one direction is at its end goes on this long without a byte in the other.
/// One that is open both ways may be silent for ever: a database waits for its bot.
const HALF_CLOSED: Duration = Duration::from_secs(15 * 60);

/// Relays until both directions have ended, or one has failed; then the other end is told so.
pub(crate) async fn relay(
    mut inside: TcpStream,
    mut outside: TcpStream,
    ledger: &Ledger,
    peer: &Peer,
) {
    let (ended, _) = watch::channel(false);
    let outcome = {
        let (from_bot, to_bot) = inside.split();
        let (from_peer, to_peer) = outside.split();
        let sent = one_way(from_bot, to_peer, &ended, |bytes| {
            ledger.moved(peer, Way::Sent, bytes)
        });
        let received = one_way(from_peer, to_bot, &ended, |bytes| {
            ledger.moved(peer, Way::Received, bytes);
        });
        tokio::try_join!(sent, received)
    };
    if outcome.is_err() {
        // A reset stays a reset.
        outside::reset(inside);
        outside::reset(outside);
    }
    ledger.ended();
}

async fn one_way(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    ended: &watch::Sender<bool>,
    mut moved: impl FnMut(usize),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = read(&mut from, &mut buffer, ended).await?;
        if read == 0 {
            to.shutdown().await?;
            ended.send_replace(true);
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
        moved(read);
    }
}

/// One read; when the other direction has ended, it has to come in time.
async fn read(
    from: &mut ReadHalf<'_>,
    buffer: &mut [u8],
    ended: &watch::Sender<bool>,
) -> io::Result<usize> {
    let mut other = ended.subscribe();
    tokio::select! {
        read = from.read(buffer) => return read,
        // The sender outlives both directions, so this ends only when it is true. A read that is
        // dropped here has taken nothing.
        _ = other.wait_for(|ended| *ended) => {}
    }
    timeout(HALF_CLOSED, from.read(buffer))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
