//! Messages with descriptors between the programs of one host: `SOCK_SEQPACKET` Unix sockets.
//!
//! A packet arrives whole or not at all, so that no framing code has to be trusted with a
//! hostile peer's length fields. A packet too long for the buffer or with more descriptors than
//! [`MAX_FDS`] is refused as a whole, and what came with it is closed.

mod listener;
mod peer;
mod receive;

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockopt,
    sendmsg, socket, socketpair, sockopt,
};

pub use listener::Listener;
pub use peer::PeerCredentials;
pub use receive::Received;

use crate::poll::{self, Watch};

/// Most descriptors in one packet. An order needs three (order, stdin, report); four leaves one.
pub const MAX_FDS: usize = 4;

/// A packet or connection that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket could be made.
    #[error("can't make a seqpacket socket")]
    Socket {
        /// The kernel's reason.
        source: Errno,
    },
    /// The path does not fit into a socket address (107 bytes).
    #[error("the socket path {} is longer than 107 bytes; choose a shorter one", path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// The name could not be taken.
    #[error("can't listen on {}", path.display())]
    Bind {
        /// The path.
        path: PathBuf,
        /// The kernel's reason.
        source: Errno,
    },
    /// Another live program listens there.
    #[error("another program listens on {}; stop it first", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something that is not a socket has that name.
    #[error("{} exists and is not a socket; remove it if it is not needed", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// A connection could not be accepted.
    #[error("can't accept a connection on {}", path.display())]
    Accept {
        /// The listener's path.
        path: PathBuf,
        /// The kernel's reason.
        source: Errno,
    },
    /// Nobody could be reached there.
    #[error("can't connect to {}; is its program running?", path.display())]
    Connect {
        /// The path.
        path: PathBuf,
        /// The kernel's reason.
        source: Errno,
    },
    /// A descriptor that was handed over is not a Unix seqpacket socket.
    #[error("descriptor {fd} is not a Unix seqpacket socket")]
    WrongType {
        /// Its number.
        fd: RawFd,
    },
    /// An empty packet would read as the end of the connection.
    #[error("an empty packet can't be sent: its receiver would take it for the end")]
    EmptyPacket,
    /// More descriptors than a packet may carry.
    #[error("{count} descriptors in one packet, at most {MAX_FDS} are allowed")]
    TooManyFds {
        /// How many were to be sent.
        count: usize,
    },
    /// The other end has closed the connection.
    #[error("the peer closed the connection")]
    Closed,
    /// Nothing to receive or no room to send now (the calls that do not block).
    #[error("the socket is not ready")]
    WouldBlock,
    /// Nothing came in time.
    #[error("the peer sent nothing within {timeout:?}")]
    TimedOut {
        /// How long was waited.
        timeout: Duration,
    },
    /// A packet could not be sent.
    #[error("can't send a packet of {len} bytes")]
    Send {
        /// Its length.
        len: usize,
        /// The kernel's reason.
        source: Errno,
    },
    /// A packet could not be received.
    #[error("can't receive a packet")]
    Receive {
        /// The kernel's reason.
        source: Errno,
    },
    /// The packet was longer than the buffer; its descriptors are closed.
    #[error("the peer sent a packet of more than {limit} bytes")]
    PacketTooLong {
        /// The size of the buffer.
        limit: usize,
    },
    /// The packet had more than [`MAX_FDS`] descriptors, or some could not be installed because
    /// this process has too many open; all are closed.
    #[error("the peer sent more than {MAX_FDS} descriptors, or this process has too many open")]
    FdsTruncated,
    /// Who the peer is could not be learnt.
    #[error("can't learn who the peer is")]
    Peer {
        /// The kernel's reason.
        source: Errno,
    },
    /// Waiting for the peer failed.
    #[error("can't wait for the peer")]
    Wait {
        /// What went wrong.
        #[from]
        source: poll::Error,
    },
}

/// One end of a connection.
#[derive(Debug)]
pub struct Seqpacket {
    fd: OwnedFd,
}

impl Seqpacket {
    /// Two connected ends.
    ///
    /// # Errors
    ///
    /// [`Error::Socket`].
    pub fn pair() -> Result<(Self, Self), Error> {
        socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .map(|(one, other)| (Self { fd: one }, Self { fd: other }))
        .map_err(|source| Error::Socket { source })
    }

    /// Connects to the [`Listener`] of that path.
    ///
    /// # Errors
    ///
    /// [`Error::PathTooLong`], [`Error::Socket`] and [`Error::Connect`].
    pub fn connect(path: &Path) -> Result<Self, Error> {
        let address = address_of(path)?;
        let fd = new_socket(SockFlag::SOCK_CLOEXEC)?;
        loop {
            match connect(fd.as_raw_fd(), &address) {
                Ok(()) => return Ok(Self { fd }),
                Err(Errno::EINTR) => {}
                Err(source) => {
                    return Err(Error::Connect {
                        path: path.to_owned(),
                        source,
                    });
                }
            }
        }
    }

    /// Takes over a connected socket, as inherited or received.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`] when it is anything else.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        let is_seqpacket = getsockopt(&fd, sockopt::SockType) == Ok(SockType::SeqPacket);
        if is_seqpacket && peer::domain(fd.as_fd()) == Ok(libc::AF_UNIX) {
            return Ok(Self { fd });
        }
        Err(Error::WrongType { fd: fd.as_raw_fd() })
    }

    /// Sends one packet and waits for room.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when nobody will read it, [`Error::EmptyPacket`], [`Error::TooManyFds`]
    /// and [`Error::Send`] (`EMSGSIZE` above the socket's send buffer, about 208 KiB).
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        self.send_with(bytes, fds, MsgFlags::empty())
    }

    /// Sends one packet if there is room for it now.
    ///
    /// # Errors
    ///
    /// As [`Seqpacket::send`], and [`Error::WouldBlock`].
    pub fn try_send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        self.send_with(bytes, fds, MsgFlags::MSG_DONTWAIT)
    }

    fn send_with(
        &self,
        bytes: &[u8],
        fds: &[BorrowedFd<'_>],
        flags: MsgFlags,
    ) -> Result<(), Error> {
        if bytes.is_empty() {
            return Err(Error::EmptyPacket);
        }
        if fds.len() > MAX_FDS {
            return Err(Error::TooManyFds { count: fds.len() });
        }
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() {
            &rights[..0]
        } else {
            &rights[..]
        };
        let parts = [IoSlice::new(bytes)];
        loop {
            // Without MSG_NOSIGNAL a peer that goes away would end this process.
            match sendmsg::<()>(
                self.fd.as_raw_fd(),
                &parts,
                control,
                flags | MsgFlags::MSG_NOSIGNAL,
                None,
            ) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => {
                    return Err(Error::Closed);
                }
                Err(Errno::EAGAIN) => return Err(Error::WouldBlock),
                Err(source) => {
                    return Err(Error::Send {
                        len: bytes.len(),
                        source,
                    });
                }
            }
        }
    }

    /// Receives one packet and waits for it; none when the peer has closed the connection.
    ///
    /// # Errors
    ///
    /// [`Error::PacketTooLong`], [`Error::FdsTruncated`] and [`Error::Receive`].
    pub fn recv(&self, buffer: &mut [u8]) -> Result<Option<Received>, Error> {
        receive::packet(self.fd.as_fd(), buffer, 0)
    }

    /// Receives one packet if there is one now.
    ///
    /// # Errors
    ///
    /// As [`Seqpacket::recv`], and [`Error::WouldBlock`].
    pub fn try_recv(&self, buffer: &mut [u8]) -> Result<Option<Received>, Error> {
        receive::packet(self.fd.as_fd(), buffer, libc::MSG_DONTWAIT)
    }

    /// Receives one packet, which must come within `timeout`.
    ///
    /// # Errors
    ///
    /// As [`Seqpacket::recv`], and [`Error::TimedOut`].
    pub fn recv_within(
        &self,
        buffer: &mut [u8],
        timeout: Duration,
    ) -> Result<Option<Received>, Error> {
        if poll::wait(&mut [Watch::readable(self)], Some(timeout))? == 0 {
            return Err(Error::TimedOut { timeout });
        }
        self.recv(buffer)
    }

    /// Who was at the other end when the connection was made. It does not change when the
    /// peer's process passes its end on.
    ///
    /// # Errors
    ///
    /// [`Error::Peer`].
    pub fn peer(&self) -> Result<PeerCredentials, Error> {
        peer::credentials(self.fd.as_fd())
    }

    /// The peer's process by descriptor, which a reused pid can't fake; none when the kernel
    /// can't say (before Linux 6.5, or when the peer is gone and reaped).
    ///
    /// # Errors
    ///
    /// [`Error::Peer`].
    pub fn peer_pidfd(&self) -> Result<Option<OwnedFd>, Error> {
        peer::pidfd(self.fd.as_fd())
    }

    /// The descriptor, to be inherited or passed.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for Seqpacket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn address_of(path: &Path) -> Result<UnixAddr, Error> {
    UnixAddr::new(path).map_err(|_| Error::PathTooLong {
        path: path.to_owned(),
    })
}

fn new_socket(flags: SockFlag) -> Result<OwnedFd, Error> {
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
        .map_err(|source| Error::Socket { source })
}

/// Owns a descriptor that a system call has just returned.
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: `OwnedFd::from_raw_fd` needs an open descriptor that nothing else owns. The
    // callers pass what accept4(2), recvmsg(2) or getsockopt(SO_PEERPIDFD) has just installed.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests;
