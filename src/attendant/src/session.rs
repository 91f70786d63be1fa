//! The conversation with robotd-session.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use privsep::attendant::{FromAttendant, ToAttendant};
use privsep::{DecodeError, MAX_PACKET, decode, encode};
use sys::fdpass::{Error, Seqpacket};

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
    /// A message without what belongs to it.
    #[error("robotd-session sent {got} descriptors with a message that has {wanted}")]
    Descriptors {
        /// How many came.
        got: usize,
        /// How many belong to it.
        wanted: usize,
    },
    /// A message that is not for now.
    #[error("robotd-session sent a message out of order")]
    Order,
}

/// A message with exactly the descriptors that belong to it.
pub(crate) type Told = (ToAttendant, Vec<OwnedFd>);

/// Our end.
#[derive(Debug)]
pub(crate) struct Session {
    socket: Seqpacket,
}

impl Session {
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, SessionError> {
        Ok(Self {
            socket: Seqpacket::from_fd(fd)?,
        })
    }

    /// The next message, waited for.
    pub(crate) fn wait(&self) -> Result<Told, SessionError> {
        self.take(Seqpacket::recv)?.ok_or(SessionError::Gone)
    }

    /// The next message, if there is one now.
    pub(crate) fn next(&self) -> Result<Option<Told>, SessionError> {
        match self.take(Seqpacket::try_recv) {
            Ok(None) => Err(SessionError::Gone),
            Err(SessionError::Socket(Error::WouldBlock)) => Ok(None),
            other => other,
        }
    }

    fn take(
        &self,
        receive: impl FnOnce(&Seqpacket, &mut [u8]) -> Result<Option<sys::fdpass::Received>, Error>,
    ) -> Result<Option<Told>, SessionError> {
        let mut buffer = [0; MAX_PACKET];
        let Some(received) = receive(&self.socket, &mut buffer)? else {
            return Ok(None);
        };
        let message = decode(&buffer[..received.len])?;
        let (got, wanted) = (received.fds.len(), descriptors(&message));
        if got != wanted {
            return Err(SessionError::Descriptors { got, wanted });
        }
        Ok(Some((message, received.fds)))
    }

    /// Says something. The session reads; if it did not, there would be nobody to go on for.
    pub(crate) fn say(&self, message: &FromAttendant) -> Result<(), SessionError> {
        Ok(self.socket.send(&encode(message)?, &[])?)
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// How many descriptors belong to a message.
fn descriptors(message: &ToAttendant) -> usize {
    match message {
        ToAttendant::Begin(_) => 4,
        ToAttendant::BotSocket
        | ToAttendant::Display { .. }
        | ToAttendant::Artifact { .. }
        | ToAttendant::Secret { .. } => 1,
        ToAttendant::Running
        | ToAttendant::FailureScreenshot
        | ToAttendant::SecretRefused { .. }
        | ToAttendant::LastHeard
        | ToAttendant::Finish
        | ToAttendant::Leave => 0,
    }
}
