//! The conversation with robotd-session.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use privsep::egress::{FromEgress, ToEgress};
use privsep::{DecodeError, MAX_PACKET, decode, encode};
use sys::fdpass::{Error, Received, Seqpacket};

/// The session broke the contract, or is gone.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The socket.
    #[error("the conversation with robotd-session failed")]
    Socket(#[from] Error),
    /// It ended without a word: robotd-session was killed.
    #[error("robotd-session is gone")]
    Gone,
    /// Another version?
    #[error("robotd-session said what is no message")]
    Decode(#[from] DecodeError),
    /// A message that is not for now, or without what belongs to it.
    #[error("robotd-session sent a message out of order")]
    Order,
}

/// Our end.
#[derive(Debug)]
pub(crate) struct Session {
    socket: Seqpacket,
}

impl Session {
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, SessionError> {
        let socket = Seqpacket::from_fd(fd)?;
        Ok(Self { socket })
    }

    /// The next message, waited for.
    pub(crate) fn wait(&self) -> Result<(ToEgress, Vec<OwnedFd>), SessionError> {
        self.take(Seqpacket::recv)?.ok_or(SessionError::Gone)
    }

    /// The next message, if there is one now.
    pub(crate) fn next(&self) -> Result<Option<ToEgress>, SessionError> {
        match self.take(Seqpacket::try_recv) {
            Ok(Some((message, _))) => Ok(Some(message)),
            Ok(None) => Err(SessionError::Gone),
            Err(SessionError::Socket(Error::WouldBlock)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn take(
        &self,
        receive: impl FnOnce(&Seqpacket, &mut [u8]) -> Result<Option<Received>, Error>,
    ) -> Result<Option<(ToEgress, Vec<OwnedFd>)>, SessionError> {
        let mut buffer = vec![0; MAX_PACKET];
        let Some(received) = receive(&self.socket, &mut buffer)? else {
            return Ok(None);
        };
        Ok(Some((decode(&buffer[..received.len])?, received.fds)))
    }

    /// Says something. The session reads; if it did not, there would be nobody to go on for.
    pub(crate) fn say(&self, message: &FromEgress) -> Result<(), SessionError> {
        Ok(self.socket.send(&encode(message)?, &[])?)
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
