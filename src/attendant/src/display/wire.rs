//! Bytes to and from an X server that belongs to the bot: every wait has an end, every length a
//! bound that we chose. (A general client believes the server's lengths, up to 16 GiB a reply.)

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};
use sys::clock::boottime;
use sys::poll::{Watch, wait};

/// What went wrong with the display.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DisplayError {
    /// Its socket.
    #[error("the display's socket X{number} can't be connected to")]
    Connect {
        /// Display number.
        number: u32,
        /// The cause.
        source: io::Error,
    },
    /// There is something else.
    #[error("X{0} is not a socket: the bot put something else there")]
    NotASocket(u32),
    /// Reading or writing.
    #[error("can't talk to the display")]
    Io(#[from] io::Error),
    /// It took too long.
    #[error("the display did not answer in time")]
    TimedOut,
    /// Connection closed.
    #[error("the display closed the connection")]
    Closed,
    /// Not allowed in.
    #[error("the display refused the connection: {0}")]
    Refused(String),
    /// Not what the protocol says, or more than we take.
    #[error("the display answered what the protocol does not allow: {0}")]
    Protocol(&'static str),
    /// A request failed.
    #[error("the display refused a request with error {0}")]
    Request(u8),
    /// Larger or of another kind than can be pictured.
    #[error("the screen can't be pictured: {0}")]
    Unsupported(String),
}

impl From<Errno> for DisplayError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// A connection with a deadline.
#[derive(Debug)]
pub(super) struct Wire {
    socket: OwnedFd,
    deadline: Duration,
}

impl Wire {
    /// `socket` must not block.
    pub(super) fn new(socket: OwnedFd, deadline: Duration) -> Self {
        Self { socket, deadline }
    }

    /// All that is done until the next call has to be done by then (boot clock).
    pub(super) fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), DisplayError> {
        self.write_with(bytes, None)
    }

    /// The descriptor goes with the first byte.
    pub(super) fn write_with(
        &self,
        mut bytes: &[u8],
        mut fd: Option<BorrowedFd<'_>>,
    ) -> Result<(), DisplayError> {
        while !bytes.is_empty() {
            self.wait_for(Watch::writable(&self.socket))?;
            match self.send(bytes, fd) {
                Ok(count) => {
                    bytes = &bytes[count..];
                    fd = None;
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(DisplayError::Closed),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn send(&self, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<usize, Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = fd.map(|fd| [fd]);
        if let Some(fds) = &fds {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        sendmsg(
            self.socket.as_fd(),
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        )
    }

    pub(super) fn read(&self, mut buffer: &mut [u8]) -> Result<(), DisplayError> {
        while !buffer.is_empty() {
            self.wait_for(Watch::readable(&self.socket))?;
            match recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Err(DisplayError::Closed),
                Ok((_, count)) => buffer = &mut buffer[count..],
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Err(DisplayError::Closed),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Whether a read would bring something now.
    pub(super) fn has_something(&self) -> Result<bool, DisplayError> {
        let ready = wait(&mut [Watch::readable(&self.socket)], Some(Duration::ZERO));
        Ok(ready.map_err(io::Error::other)? > 0)
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    fn wait_for(&self, watch: Watch<'_>) -> Result<(), DisplayError> {
        let left = self.deadline.saturating_sub(boottime());
        // A server that always has something to say is not waited for either.
        if left.is_zero() {
            return Err(DisplayError::TimedOut);
        }
        match wait(&mut [watch], Some(left)) {
            Ok(0) => Err(DisplayError::TimedOut),
            Ok(_) => Ok(()),
            Err(error) => Err(DisplayError::Io(io::Error::other(error))),
        }
    }
}
