//! One end of a seqpacket conversation on the async side: whole messages in, whole messages out.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use privsep::DecodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sys::fdpass::{self, Seqpacket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PacketError {
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] fdpass::Error),
    /// The reactor does not take it.
    #[error("can't wait for a socket: {0}")]
    Reactor(#[from] std::io::Error),
    /// What came is no message, or what should go is too large.
    #[error("{0}")]
    Codec(DecodeError),
}

struct Pollable(Seqpacket);

impl AsRawFd for Pollable {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A connected socket. Every method is cancel safe: a packet is taken whole or not at all.
pub(crate) struct PacketSocket {
    socket: AsyncFd<Pollable>,
}

impl PacketSocket {
    /// Connects to a listener on this host; that never waits.
    pub(crate) fn connect(path: &Path) -> Result<Self, PacketError> {
        Self::over(Seqpacket::connect(path)?)
    }

    /// Takes over a connected socket.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, which only `sys` may be; what it demands holds: `Pollable` owns its \
                  descriptor, keeps it open and names the same one for its whole life"
    )]
    fn over(socket: Seqpacket) -> Result<Self, PacketError> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        Ok(Self {
            socket: AsyncFd::with_interest(Pollable(socket), interest)?,
        })
    }

    /// Sends one message with descriptors and waits for room.
    pub(crate) async fn send<T: Serialize>(
        &self,
        message: &T,
        fds: &[OwnedFd],
    ) -> Result<(), PacketError> {
        let packet = privsep::encode(message).map_err(PacketError::Codec)?;
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        loop {
            let mut ready = self.socket.writable().await?;
            match ready.get_inner().0.try_send(&packet, &fds) {
                Err(fdpass::Error::WouldBlock) => ready.clear_ready(),
                outcome => return Ok(outcome?),
            }
        }
    }

    /// Receives one message; none at the end of the conversation.
    pub(crate) async fn recv<T: DeserializeOwned>(
        &self,
    ) -> Result<Option<(T, Vec<OwnedFd>)>, PacketError> {
        let mut buffer = vec![0; privsep::MAX_PACKET];
        loop {
            let mut ready = self.socket.readable().await?;
            let received = match ready.get_inner().0.try_recv(&mut buffer) {
                Err(fdpass::Error::WouldBlock) => {
                    ready.clear_ready();
                    continue;
                }
                outcome => outcome?,
            };
            let Some(received) = received else {
                return Ok(None);
            };
            let message = privsep::decode(&buffer[..received.len]).map_err(PacketError::Codec)?;
            return Ok(Some((message, received.fds)));
        }
    }
}
