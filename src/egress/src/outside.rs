//! Connecting outside.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A peer that does not answer a SYN within this is not there.
const CONNECT: Duration = Duration::from_secs(20);

/// Connections live as long as both sides want; what keeps a slot after its peer has vanished is
/// found out by asking: seconds until the first question, between questions, and their number.
const KEEPALIVE: (u32, u32, u32) = (60, 15, 8);
/// Milliseconds that sent bytes may stay unacknowledged.
const UNACKNOWLEDGED: u32 = 180_000;

/// Connects.
pub(crate) async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT, TcpStream::connect(to))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    settle(&stream);
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What makes vanished peers be noticed. A kernel that refuses one of these changes nothing else.
pub(crate) fn settle(stream: &impl AsFd) {
    let (idle, interval, count) = KEEPALIVE;
    let _ = setsockopt(stream, sockopt::KeepAlive, &true);
    let _ = setsockopt(stream, sockopt::TcpKeepIdle, &idle);
    let _ = setsockopt(stream, sockopt::TcpKeepInterval, &interval);
    let _ = setsockopt(stream, sockopt::TcpKeepCount, &count);
    let _ = setsockopt(stream, sockopt::TcpUserTimeout, &UNACKNOWLEDGED);
}

/// Ends a connection as one that was refused: the other end sees a reset, not an orderly end.
pub(crate) fn reset(stream: TcpStream) {
    let at_once = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let _ = setsockopt(&stream, sockopt::Linger, &at_once);
    drop(stream);
}
